"""The experience log: what each step has learnt from, so that the update can be repeated exactly without sampling.

``RUN/experience/step-000004.npz`` is written before step 4 is learnt and appears by one rename. With a checkpoint of
before it, and the files of all steps between, a resumed run repeats the updates bit for bit; it needs no sampler, no
painter and no reward for them, nor the weights that sampled. Some 4 MB for 512 pictures of 729 tokens: token ids,
log-probs, scores and seeds; no pictures and no hidden states, so it is for runs that train the language model alone.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rl.process.disk import disk_errors
from rl.scheduler.work import WorkPlan
from rl.types import Experience, PictureFeatures, Prompt, Renders, Rollout, Scores, Span, UserError

if TYPE_CHECKING:
    from rl.run_folder.random_state import RngState

EXPERIENCE_FOLDER = "experience"
FILES = "step-*.npz"
_FORMAT = 1
_ANSWERS = "answers."
_Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class LoggedStep:
    """``rng``, ``memory``: the random numbers of when it had been collected, and what its collector remembered then."""

    experience: Experience
    rng: RngState
    memory: Any = None


class StoresFeatures(Protocol):
    """Pictures of prompts as JSON and back: ``policy.pictures.stored``."""

    def written(self, features: Sequence[PictureFeatures | None] | None, /) -> Any: ...

    def read(self, stored: Any, /) -> tuple[PictureFeatures | None, ...] | None: ...


class ExperienceLog:
    """Of one run folder. ``prompts``: those that the run learns from; the log knows them by their ids."""

    def __init__(self, run_folder: Path, prompts: Sequence[Prompt], features: StoresFeatures | None = None) -> None:
        """``features``: for prompts that hold pictures as vectors."""
        self.folder, self._features = run_folder / EXPERIENCE_FOLDER, features
        self._prompts = {prompt.id: prompt for prompt in prompts}

    def write(self, experience: Experience, rng: RngState, memory: object = None) -> None:
        """``memory``: JSON. Raises: UserError if the disk is full; the step is then not learnt."""
        path = self._file(experience.step)
        with disk_errors(path, f"logging the experience of step {experience.step}"):
            self.folder.mkdir(exist_ok=True)
            neighbour = path.with_name(f".{path.name}.tmp")
            try:
                with neighbour.open("wb") as file:
                    answers = _answers(experience.answers, rng, self._features)
                    np.savez(file, **_arrays(experience, rng, memory, self._features), **answers)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(neighbour, path)
            finally:
                neighbour.unlink(missing_ok=True)

    def read(self, step: int) -> LoggedStep:
        """Without pictures; a learner asks the trainer for what the trainer's own views were.

        Raises: UserError if it is damaged, or of other prompts.
        """
        path = self._file(step)
        try:
            with np.load(path, allow_pickle=False) as found:
                arrays = {name: found[name] for name in found.files}
            about = json.loads(arrays["about"].tobytes())
            if (about["format"], about["step"]) != (_FORMAT, step):
                raise ValueError(f"it is of step {about['step']}, format {about['format']}")
            answers = {name.removeprefix(_ANSWERS): one for name, one in arrays.items() if name.startswith(_ANSWERS)}
            about_answers = json.loads(answers["about"].tobytes()) if answers else {}
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path}: the experience of step {step} is damaged ({error}); remove this file and those of later "
                "steps to sample these steps anew."
            ) from error
        found = self._experience(path, about, arrays)
        if answers:
            found = replace(found, answers=self._experience(path, about_answers, answers))
        return LoggedStep(found, about["rng"], about["memory"])

    def upto(self, first: int) -> int:
        """The end of the unbroken row of logged steps that begins with ``first``, which is ``first`` if it is empty."""
        while self._file(first).is_file():
            first += 1
        return first

    def prune(self, oldest: int) -> None:
        """Removes the steps before ``oldest``, the oldest checkpoint that is kept: nobody will go on from there."""
        for path in self.folder.glob(FILES):
            if int(path.stem.removeprefix("step-")) < oldest:
                path.unlink()

    def discard(self) -> None:
        """Removes all of it: steps that are done without it would leave a gap behind which it is of another run."""
        for path in self.folder.glob(FILES):
            path.unlink()

    def _file(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}.npz"

    def _experience(self, path: Path, about: Mapping[str, Any], arrays: _Arrays) -> Experience:
        if unknown := [name for name in about["prompts"] if name not in self._prompts]:
            raise UserError(
                f"{path}: data.train has no prompt {unknown[0]!r}, which step {about['step']} has learnt from; "
                "put the prompts back as they were, or remove the folder to sample these steps anew."
            )
        rollout = Rollout(
            prompts=tuple(self._prompts[name] for name in about["prompts"]),
            group_size=about["group_size"],
            prompt_ids=tuple(tuple(ids) for ids in about["prompt_ids"]),
            tokens_BT=arrays["codes_BT"].astype(np.int64) + about["first_token"],
            logprobs_BT=arrays["logprobs_BT"],
            seeds=tuple(about["seeds"]),
            temperature=about["temperature"],
            version=about["version"],
            mask_BT=arrays.get("mask_BT"),
            span=None if about["span"] is None else Span(**about["span"]),
            features=self._features.read(about.get("features")) if self._features else None,
        )
        nothing = Renders(np.zeros((0, 0, 0, 3), np.uint8), (), 1)
        scores = Scores({}, arrays["total_B"], arrays["valid_B"], arrays["score_B"])
        return Experience(about["step"], rollout, nothing, scores, None, None, rollout.version, about["metrics"], {})


def _answers(answers: Experience | None, rng: RngState, features: StoresFeatures | None) -> dict[str, Any]:
    if answers is None:
        return {}
    return {f"{_ANSWERS}{name}": one for name, one in _arrays(answers, rng, None, features).items()}


def _arrays(experience: Experience, rng: RngState, memory: object, features: StoresFeatures | None) -> dict[str, Any]:
    if experience.rollout.features and features is None:
        raise ValueError("a log of prompts that hold pictures as vectors must be told how to write them")
    rollout, scores = experience.rollout, experience.scores
    first = int(rollout.tokens_BT.min())
    codes_BT = rollout.tokens_BT - first
    about = {
        "format": _FORMAT,
        "step": experience.step,
        "version": rollout.version,
        "prompts": [prompt.id for prompt in rollout.prompts],
        "group_size": rollout.group_size,
        "prompt_ids": rollout.prompt_ids,
        "features": features and features.written(rollout.features),
        "seeds": rollout.seeds,
        "temperature": rollout.temperature,
        "span": None if rollout.span is None else asdict(rollout.span),
        "first_token": first,
        "metrics": {name: float(value) for name, value in experience.metrics.items()},
        "rng": rng,
        "memory": memory,
    }
    return {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "codes_BT": codes_BT.astype(np.min_scalar_type(int(codes_BT.max(initial=0)))),
        "logprobs_BT": rollout.logprobs_BT,
        "total_B": scores.total_B,
        "valid_B": scores.valid_B,
        "score_B": scores.score_B,
        **({} if rollout.mask_BT is None else {"mask_BT": rollout.mask_BT}),
    }


def goes_on_exactly(folder: Path, step: int, *, steps: int, staleness: int) -> bool:
    """Whether a run of so many ``steps`` can go on from the checkpoint of ``step``: what was begun with weights that
    are older is to be in the experience log."""
    needed = WorkPlan(steps, 1, staleness).log_needed(step)
    return needed <= step or ExperienceLog(folder, ()).upto(step) >= needed
