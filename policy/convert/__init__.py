"""Checkpoints of other formats into policy folders and back: ``python -m policy.convert``.

Tensors are copied as bytes, some megabytes at a time: nothing is rounded, and memory does not grow with the model.
"""
