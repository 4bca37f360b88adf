"""What a long-lived process imports once and keeps."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Around imports and the start of engines: what they make stays until the process ends.

    The garbage collector would search all of it again and again, find nothing, and do so once more at the end (with
    torch, transformers and diffusers 2 s in all). Inside it rests; what is there afterwards it leaves alone.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
