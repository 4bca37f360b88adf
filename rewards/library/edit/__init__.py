"""The ``edit`` reward: what was asked for is there, and what was there is kept."""
