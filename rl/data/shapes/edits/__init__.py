"""Pictures of the shapes world to be changed: ten operations, each with exact rules of what it asks for."""
