"""What all commands share: how a mistake is told, and how they end.

Exit codes: 2 for a user's mistake (``error:`` and a sentence on stderr), 130 after Ctrl-C, 141 when the reader of the
output went away. Commands with more to say than that, say it themselves.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from rl.process.interrupt import INTERRUPTED
from rl.process.output import prepare_output, shown
from rl.process.parser import MISTAKE
from rl.types import UserError

NO_READER = 141
Given = ParamSpec("Given")


def command(main: Callable[Given, int]) -> Callable[Given, int]:
    """For the ``main`` of a command: what is raised becomes a sentence and an exit code."""

    @wraps(main)
    def told(*args: Given.args, **kwargs: Given.kwargs) -> int:
        prepare_output()
        try:
            code = main(*args, **kwargs)
            sys.stdout.flush()
        except UserError as error:
            print(shown(f"error: {error}"), file=sys.stderr)
            return MISTAKE
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:
            # or the interpreter would try once more to write what is left, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return NO_READER
        return code

    return told
