"""The policy: a language model that writes image tokens and a diffusion decoder that paints its hidden states."""

import rl as _rl  # noqa: F401 - checks the environment, and that all four packages are ours
