"""Sampling engines, painting, and new weights into whoever follows them."""

import rl as _rl  # noqa: F401 - checks the environment, and that all four packages are ours
