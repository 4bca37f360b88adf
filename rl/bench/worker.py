"""The process of one variant: ``python -m rl.bench.worker FD``. It loads its side and takes a step when told."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from rewards.base import describe_exception
from rl.bench.contract import Answer, Assignment, Broken, Request
from rl.config.load import load
from rl.process.host import allow_open_files
from rl.process.loading import loading
from rl.process.ranks import take_place
from rl.types import UserError


@dataclass
class WorkerSeat:
    """The worker's end of the socket to the command."""

    connection: Connection

    def requests(self) -> Iterator[Request]:
        with suppress(EOFError):  # the command has hung up
            while True:
                yield self.connection.recv()

    def tell(self, answer: Answer) -> None:
        self.connection.send(answer)


def main(fd: int) -> None:
    line = WorkerSeat(Connection(fd))
    assignment: Assignment = line.connection.recv()
    with suppress(BrokenPipeError):  # nobody is there to be told
        try:
            _serve(assignment, line)
        except UserError as error:
            line.tell(Broken(str(error)))
        except Exception as error:  # libraries may raise anything: it becomes one line of the table
            line.tell(Broken(describe_exception(error)))
            raise


def _serve(assignment: Assignment, line: WorkerSeat) -> None:
    allow_open_files()
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(assignment.config, encoding="utf-8")
        config = load(path)
        with loading():
            if assignment.side == "ours":
                from rl.bench.ours import take_steps
            else:
                from rl.bench.trl_grpo import take_steps
        take_steps(config, assignment, Path(folder) / "run", line)


if __name__ == "__main__":
    import os

    take_place(os.environ)
    main(int(sys.argv[1]))
