"""Pictures of the shapes world to be changed: ten operations, and three below the codebook, each with exact rules of
what it asks for."""
