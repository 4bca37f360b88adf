"""The first half of a supervised step: rows of a data set in place of samples."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from policy.pictures.view import square_view
from rl.data.examples.contract import Example, ExampleStream
from rl.data.prompt_list import name_of
from rl.process.disk import disk_errors
from rl.run_folder.records import write_atomically
from rl.supervised.batch import PictureBatch
from rl.supervised.reconstruct import ReconstructionBatch, ReconstructionRows
from rl.supervised.rows import RowMaker
from rl.tracking.stopwatch import Stopwatch
from rl.types import Prompt, ShownPictures, UserError

BAD_FILE = "bad_examples.jsonl"
_TOLD = 5  # by a message of their own
_BLANK = 255  # in place of the picture of a row that is text alone: it counts nowhere
_FEW = 3  # bad rows so far that stop no run


@dataclass(frozen=True)
class Lesson:
    """One step's worth of examples.

    Example: step 3 of 32 rows: ``batch.tokens_BT`` (32, 16), ``pictures`` (32, 64, 64, 3).
    """

    step: int
    batch: PictureBatch | ReconstructionBatch
    prompts: Sequence[Prompt]
    pictures: NDArray[np.uint8]
    metrics: Mapping[str, float]
    seconds: Mapping[str, float]

    def shown(self, count: int) -> ShownPictures:
        return ShownPictures(self.pictures[:count], [one.text for one in self.prompts[:count]])


@dataclass
class Dataset:
    """A :class:`rl.collectors.Collector` of lessons. A row whose picture can't be read, or whose prompt is too long, is
    left out of the step, counted, and named in ``RUN/bad_examples.jsonl``; too many of them stop the run."""

    stream: ExampleStream
    make: RowMaker | ReconstructionRows
    folder: Path
    max_bad: float
    micro_batch: int
    """Of all ranks together."""
    tell: Callable[[str], None] = print
    stage: Callable[[str], None] | None = None
    _seen: int = field(default=0, init=False)
    _bad: int = field(default=0, init=False)

    def collect(self, first: int, last: int) -> Iterator[Lesson]:
        self._forget(first)
        for step in range(first, last):
            yield self(step)

    def __call__(self, step: int, *, rehearsal: bool = False) -> Lesson:
        """``rehearsal``: it is asked for once more, and nothing is noted yet.

        Raises: UserError if too many rows so far could not be used."""
        timer = Stopwatch(tell=self.stage)
        with timer("read"):
            given = self.stream.at(step)
            read = [(example, self._pixels(example)) for example in given]
        good = [(example, found) for example, found in read if not isinstance(found, str)]
        bad = [(example, found) for example, found in read if isinstance(found, str)]
        if not rehearsal:
            self._note(step, bad)
            self._check(len(given), len(bad))
        if not good:
            raise UserError(
                f"supervised.examples: none of the {len(given)} rows of step {step + 1} can be used, first "
                f"{name_of(bad[0][0].prompt)}: {bad[0][1]}"
            )
        examples, pixels_BHW3 = [example for example, _ in good], np.stack([pixels for _, pixels in good])
        with timer("encode"):
            batch = self.make(examples, pixels_BHW3, step)
        metrics = {"images": float(sum(one.picture is not None for one in examples)), "bad_rows": float(len(bad))}
        if isinstance(batch, PictureBatch):
            metrics["padding"] = self._padding(batch)
        return Lesson(step, batch, [one.prompt for one in examples], pixels_BHW3, metrics, timer.seconds)

    def _pixels(self, example: Example) -> NDArray[np.uint8] | str:
        """Or why the row can't be used."""
        try:
            for given in example.prompt.pictures:
                _ = given.pixels  # or whoever encodes them would find what is wrong with one
            if problem := self.make.problem(example):
                return problem
            if example.picture is None:
                return np.full((self.make.side, self.make.side, 3), _BLANK, np.uint8)
            return square_view(example.picture.pixels, self.make.side)
        except UserError as error:
            return str(error).partition("; ")[0]

    def _note(self, step: int, bad: Sequence[tuple[Example, str]]) -> None:
        path = self.folder / BAD_FILE
        for example, why in bad:
            self._bad += 1
            if self._bad <= _TOLD:
                more = f"; further ones are named in {path} alone" if self._bad == _TOLD else ""
                self.tell(f"note: {name_of(example.prompt)} is left out: {why}{more}")
            told = {"step": step, "id": example.prompt.id, "source": example.prompt.source, "why": why}
            with disk_errors(path, "noting a bad example"), path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(told) + "\n")

    def _forget(self, first: int) -> None:
        """What was noted of steps that are done anew."""
        path = self.folder / BAD_FILE
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] < first]
            write_atomically(path, "".join(kept))

    def _check(self, given: int, bad: int) -> None:
        self._seen += given
        if bad and self._bad > max(_FEW, self.max_bad * self._seen):
            raise UserError(
                f"supervised.examples: {self._bad} of the {self._seen} rows so far can't be used, "
                f"which is more than supervised.max_bad_rows {self.max_bad:g} allows; they are named in "
                f"{self.folder / BAD_FILE}"
            )

    def _padding(self, batch: PictureBatch) -> float:
        """Share of pads among the ids that the language model reads."""
        read, padded = 0, 0
        for start in range(0, len(batch), self.micro_batch):
            prompts = {tuple(ids) for ids in batch.prompt_ids[start : start + self.micro_batch]}
            longest = max(map(len, prompts))
            rows = min(self.micro_batch, len(batch) - start)
            read += sum(map(len, prompts)) + rows * batch.tokens_BT.shape[1]
            padded += sum(longest - len(ids) for ids in prompts)
        return padded / (read + padded)
