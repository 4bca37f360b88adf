"""Weights that many processes work with: immutable, versioned, checksummed sets, once per machine."""
