"""``python -m policy.ask``: a question about a picture."""
