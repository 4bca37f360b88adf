"""That a folder which is being written grows, told to whoever watches over the one who writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread


@contextmanager
def counted_while_growing(folder: Path, did: Callable[[], object], look_s: float = 1.0) -> Iterator[None]:
    """Inside, ``did`` is called whenever an unfinished folder (``.tmp-...``) in ``folder`` has more bytes than at the
    last look: a library that writes gigabytes in one call says nothing meanwhile, and a disk that hangs lets none grow.
    """
    over = Event()

    def look() -> None:
        before = _unfinished_bytes(folder)
        while not over.wait(look_s):
            now = _unfinished_bytes(folder)
            if now > before:
                did()
            before = now

    looking = Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


def _unfinished_bytes(folder: Path) -> int:
    total = 0
    with suppress(FileNotFoundError):  # renamed meanwhile
        total = sum(path.stat().st_size for path in folder.glob(".tmp-*/**/*") if path.is_file())
    return total
