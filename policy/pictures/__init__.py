"""A picture that comes with a prompt: how it is seen, and how language model and decoder read it."""
