"""A policy that draws learns to see."""
