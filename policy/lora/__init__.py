"""Low-rank adapters: which layers take them, and what they add."""
