"""A decoder that learns to see the picture that is to be changed."""
