"""A run whose own process holds no weights: others paint from tokens, and others learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NoReturn, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rewards.pool.submission import Submission
from rl.collect import Collect, Noise
from rl.learn import Learner, TrainedPart
from rl.run_folder.experience import ExperienceLog
from rl.tracking.guards.pictures import Fidelity
from rl.tracking.stopwatch import Stopwatch
from rl.types import Forward, Renders, Rollout, Sample, Sequences
from rollout.render import render_seeds


class PaintsTokens(Protocol):
    """Painters that make the hidden states where they paint."""

    def paint(
        self, rollout: Rollout, noise: Noise | None, *, steps: int | None = None, renders: int | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Of whole groups, in order. ``noise``: of pictures that are shown; ``None``: as step 0 paints. ``steps``,
        ``renders``: others than those of ``render``."""


class TrainedElsewhere(Protocol):
    """The second half of a step in other processes."""

    @property
    def parts(self) -> Mapping[str, TrainedPart]: ...

    @property
    def painters(self) -> PaintsTokens: ...

    def repeats(self, learner: Learner, log: ExperienceLog, tell: Callable[[str], None]) -> None:
        """With what steps can be learnt again, if those who have learnt them are lost; ``tell``: hears of that."""

    def export(self, run_folder: Path) -> None:
        """The trained policy, as :func:`rl.loop.export_trained` writes it."""


@dataclass
class PaintedElsewhere(Collect):
    """A turn whose tokens are painted by others: hidden states are made there, and none comes here."""

    painters: PaintsTokens = field(kw_only=True)

    @classmethod
    def of(cls, act: Collect, painters: PaintsTokens) -> Self:
        """The guard of render fidelity is theirs as well."""
        told = {one.name: getattr(act, one.name) for one in fields(act)}
        return cls(**{**told, "fidelity": Fidelity(act.fidelity.tokenizer, 0.0)}, painters=painters)

    def paint(
        self,
        hidden_BSD: Tensor,
        rollout: Rollout,
        noise: Noise,
        name: str,
        *,
        learnt_from: bool = True,
        steps: int | None = None,
        renders: int | None = None,
    ) -> tuple[Renders, list[Submission]]:
        """``hidden_BSD`` has no say: painters make it from the tokens."""
        count = renders or self.render.renders
        seeds = render_seeds(rollout, seed_mode=noise.shared_by, renders=count, run_seed=noise.seed, step=noise.step)
        pictures: list[NDArray[np.uint8]] = []
        submissions: list[Submission] = []
        shown = None if learnt_from else noise
        for part in self.painters.paint(rollout, shown, steps=steps, renders=renders):
            samples = []
            for index, picture in enumerate(part, len(pictures)):
                prompt = rollout.prompt_of(index // count)
                samples.append(Sample(f"{name}-{index}", prompt.id, prompt, picture))
            pictures.extend(part)
            self.progress(len(pictures), len(seeds), "pictures")
            submissions.append(self.rewards.submit(samples))
        return Renders(np.stack(pictures), seeds, count), submissions

    def read(self, rollout: Rollout, timer: Stopwatch) -> tuple[Tensor, Forward | None]:
        return torch.empty(0), None


def read_elsewhere(rows: Sequences) -> NoReturn:
    """The forward of a process without a model."""
    raise NotImplementedError("tokens are read where they are painted and where they are learnt from")
