"""Questions about pictures of the shapes world, with their answers."""
