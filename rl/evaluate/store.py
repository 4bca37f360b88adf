"""One policy's pictures and scores on disk, written batch by batch, so that an evaluation goes on where it stopped.

``NAME/pictures/00000/metadata.jsonl`` and ``samples/0000.png`` are GenEval's official layout, for scoring by other
programs; ``NAME/scores-REWARD.jsonl`` holds a line per picture, as ``python -m rewards.score`` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rewards.score.layout import PictureFile
from rewards.score.result_file import ResultFile
from rewards.score.score_rows import ScoreRows
from rl.config.schema import RewardComponent
from rl.data.pictures import read_file
from rl.evaluation.evaluate import Pipeline
from rl.run_folder.records import disk_errors
from rl.types import Prompt, Score

PICTURES_FOLDER = "pictures"


class PictureStore:
    """Use it as a context manager: while it is open nobody else can write there."""

    def __init__(
        self, folder: Path, prompts: Sequence[Prompt], samples: int, rewards: Mapping[str, RewardComponent]
    ) -> None:
        """Raises UserError if the folder holds scores of other rewards, or another process writes to it."""
        self._folder = folder / PICTURES_FOLDER
        self._files = {
            prompt.id: [self._file(index, prompt, sample) for sample in range(samples)]
            for index, prompt in enumerate(prompts)
        }
        with ExitStack() as opening:
            self._results = {
                name: opening.enter_context(
                    ResultFile(folder / f"scores-{name}.jsonl", ScoreRows(reward.use, reward.options))
                )
                for name, reward in rewards.items()
            }
            self._closing = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def done(self) -> int:
        """Pictures that have all their scores. Raises UserError if one is not what was scored."""
        files = list(chain(*self._files.values()))
        missing = [{file.name for file in results.missing(files)} for results in self._results.values()]
        return len(files) - len(set().union(*missing))

    def around(self, pipeline: Pipeline, versions: Mapping[str, str | None]) -> Pipeline:
        """The same pipeline; what it made before is read, what it makes is written. ``versions``: of the rewards."""

        def kept(
            prompts: Sequence[Prompt], samples: int, seeds: Sequence[int]
        ) -> tuple[NDArray[np.uint8], Mapping[str, Sequence[Score]]]:
            files = list(chain(*(self._files[prompt.id] for prompt in prompts)))
            if self._missing(files):
                pictures, scores = pipeline(prompts, samples, seeds)
                self._write(files, pictures, scores, versions)
            return self._read(files)

        return kept

    def _missing(self, files: Sequence[PictureFile]) -> bool:
        return any(file.name not in results.rows for results in self._results.values() for file in files)

    def _read(self, files: Sequence[PictureFile]) -> tuple[NDArray[np.uint8], dict[str, list[Score]]]:
        pictures = np.stack([read_file(file.path) for file in files])
        return pictures, {name: [_score(row) for row in found.of(files)] for name, found in self._results.items()}

    def _write(
        self,
        files: Sequence[PictureFile],
        pictures: NDArray[np.uint8],
        scores: Mapping[str, Sequence[Score]],
        versions: Mapping[str, str | None],
    ) -> None:
        """Pictures first: a score is never there without its picture."""
        with disk_errors(self._folder, "saving pictures"):
            for file, picture in zip(files, pictures, strict=True):
                file.path.parent.mkdir(parents=True, exist_ok=True)
                metadata = {**file.prompt.metadata, "prompt": file.prompt.text}
                line = json.dumps(metadata, ensure_ascii=False, default=str)
                (file.path.parent.parent / "metadata.jsonl").write_text(line + "\n", encoding="utf-8")
                Image.fromarray(picture).save(file.path)
        names = {file.name for file in files}
        for name, results in self._results.items():
            results.remove(names)  # of a batch that was broken off between two rewards
            results.append(files, scores[name], versions.get(name) or "unknown")

    def _file(self, index: int, prompt: Prompt, sample: int) -> PictureFile:
        name = f"{index:05d}/samples/{sample:04d}.png"
        return PictureFile(self._folder / name, name, prompt)


def first_picture(folder: Path, index: int) -> NDArray[np.uint8]:
    """Of prompt ``index``, out of a policy's folder."""
    return read_file(folder / PICTURES_FOLDER / f"{index:05d}/samples/0000.png")


def _score(row: Mapping[str, Any]) -> Score:
    return Score(row["value"], row["failure"], row["details"], row["passed"])
