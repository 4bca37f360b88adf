"""Signals that end a run in order: Ctrl-C, SIGTERM, a scheduler's warning SIGUSR1, SIGHUP of a terminal that is gone.

Only the standard library is imported here: the handlers stand before anything else is loaded.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Self

INTERRUPTED, FAILED = 130, 3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_PATIENCE_S = 5.0


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end what is inside as Ctrl-C does: for commands that wait for processes of their own."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupt:
    """While entered, a signal ends the process at once, with exit code 130, until ``finish_steps`` is called: then the
    first one only sets ``asked``, and the loop ends after its step.

    Ending means what ``closing`` holds, the newest first, and then no more Python: an exception raised in the middle of
    an import or of a library's callback would come out as somebody's traceback, or not at all.
    """

    def __init__(self) -> None:
        self.asked = False
        self.closing: list[Callable[[], object]] = []
        self.words = "interrupted before the first step; the same command starts again"
        """What is said when a signal ends the process."""
        self.because: Callable[[], str | None] = lambda: None
        """Asked by SIGTERM: the sentence of a failure that somebody has answered with it, if there is one."""
        self._tell: Callable[[str], None] | None = None
        self._before: dict[int, signal.Handlers | Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def finish_steps(self, tell: Callable[[str], None], words: str) -> None:
        """From now on there are steps to finish; ``tell`` shows a sentence, ``words`` are those of a second signal."""
        self.words, self._tell = words, tell
        self.install()

    def install(self) -> None:
        """Again where a library that was started meanwhile may have put its own handlers in."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python allows handlers in the main thread only; whoever calls from another one has its own
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup
            before = signal.signal(number, self._handle)
            self._before.setdefault(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM and (failure := self.because()):
            self.end(failure, FAILED)
        if self._tell is None or self.asked:
            self._end()
        self.asked = True
        sentence = "interrupted: finishing this step and saving a checkpoint; once more to stop at once"
        # in a thread of its own: the main one may be in the middle of printing, and output is not reentrant
        threading.Thread(target=self._tell, args=(sentence,), daemon=True).start()

    def _end(self) -> None:
        self.end(self.words, INTERRUPTED)

    def end(self, words: str | None, code: int) -> None:
        """Ends the process at once, from any thread, whatever the main one is doing; ``words`` are its last."""
        closer = threading.Thread(target=self._close, args=(words,), daemon=True)  # it may wait for the main thread
        closer.start()
        closer.join(_PATIENCE_S)
        if words and closer.is_alive():  # what it closes answers no more, a lost machine for example
            print(words, file=sys.stderr, flush=True)
        os._exit(code)

    def _close(self, words: str | None) -> None:
        for close in reversed(self.closing):
            with suppress(Exception):  # the process ends anyway, and the rest is to be closed as well
                close()
        if words:
            print(words, file=sys.stderr, flush=True)
        with suppress(OSError, ValueError):
            sys.stdout.flush()
