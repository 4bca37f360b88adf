"""Prompts that scores have a say in: tasks by their success, further ones within a step, and group sizes."""
