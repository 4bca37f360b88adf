"""The story of an evaluation: each policy paints the same prompts from the same seeds, the same rewards score it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rewards.pool.alongside import start_rewards
from rewards.pool.pool import RewardPool
from rl.config.schema import Config
from rl.evaluate.candidates import Candidate
from rl.evaluate.diffusion import load_pipeline, painted_by
from rl.evaluate.sampled import sampled
from rl.evaluate.store import PictureStore
from rl.evaluation.evaluate import Pipeline, evaluate
from rl.evaluation.progress import picture_progress
from rl.evaluation.results import Evaluation
from rl.types import Prompt, Score

_AT_ONCE = {"policy": 128, "pipeline": 16}
"""Pictures between two tellings of progress, and lost where it is interrupted. Of a policy as many as in a run: the
last bit of a picture may depend on how many are painted at once."""


def measure(
    config: Config, prompts: Sequence[Prompt], candidates: Sequence[Candidate], out: Path, tell: Callable[[str], None]
) -> dict[str, Evaluation]:
    """By name. What lies in ``out`` already is not made again, and nothing is started for it.

    Raises UserError on a policy, prompt or reward that cannot be used, RunFailure if an engine breaks.
    """
    samples = config.eval.samples_per_prompt
    with ExitStack() as closing:
        stores = {
            one.name: closing.enter_context(PictureStore(out / one.name, prompts, samples, config.rewards))
            for one in candidates
        }
        total = len(prompts) * samples
        done = {name: store.done() for name, store in stores.items()}
        rewards = None
        if any(count < total for count in done.values()):
            tell(f"starting the rewards: {', '.join(config.rewards)}")
            rewards = closing.enter_context(start_rewards(config))
        found = {}
        for one in candidates:
            if done[one.name]:
                tell(f"{one.name}: {done[one.name]} of {total} pictures are there already")
            unfinished = rewards if done[one.name] < total else None
            with _pipeline(one, config, prompts, unfinished) as pipeline:
                kept = stores[one.name].around(pipeline, rewards.versions if rewards else {})
                found[one.name] = _evaluated(one, kept, config, prompts, out)
        return found


@contextmanager
def _pipeline(
    one: Candidate, config: Config, prompts: Sequence[Prompt], rewards: RewardPool | None
) -> Iterator[Pipeline]:
    """Without rewards everything is there, and nothing is loaded."""
    if rewards is None:
        yield _never
    elif one.kind == "pipeline":
        yield painted_by(load_pipeline(one.folder, one.options), rewards)
    else:
        with sampled(config, one.folder, prompts, rewards) as pipeline:
            yield pipeline


def _evaluated(one: Candidate, pipeline: Pipeline, config: Config, prompts: Sequence[Prompt], out: Path) -> Evaluation:
    samples = config.eval.samples_per_prompt
    with picture_progress(one.name, len(prompts) * samples) as advance:

        def told(
            batch: Sequence[Prompt], count: int, seeds: Sequence[int]
        ) -> tuple[NDArray[np.uint8], Mapping[str, Sequence[Score]]]:
            found = pipeline(batch, count, seeds)
            advance(len(seeds))
            return found

        return evaluate(0, prompts, told, out / one.name, config.eval, max(1, _AT_ONCE[one.kind] // samples))


def _never(
    batch: Sequence[Prompt], count: int, seeds: Sequence[int]
) -> tuple[NDArray[np.uint8], Mapping[str, Sequence[Score]]]:
    raise RuntimeError("every picture was there, and now one is missing")
