"""Command lines: wrong arguments are told as other mistakes are. Imports the standard library only."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from rl.process.output import shown

MISTAKE = 2


class CommandParser(argparse.ArgumentParser):
    """Tells wrong arguments as other mistakes are told."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("the following arguments are required"):
            message = message.removesuffix(", key=value")  # argparse counts overrides, of which there may be none
        self.print_usage(sys.stderr)
        self.exit(MISTAKE, shown(f"error: {message}\n"))
