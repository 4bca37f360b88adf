"""``python -m policy.edit``: a picture changed as an instruction says."""
