"""Samplers that share the trainer's GPU: who works when, with workers and a trainer of a few lines."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from policy.prompt import Condition
from policy.trainable import WeightStream
from rl.cluster.ahead import Ahead
from rl.cluster.jobs import Sampled, SampleJob
from rl.cluster.packed import PackedRollout
from rl.cluster.publisher import WeightPublisher
from rl.config.load import load
from rl.data.stream import PromptStream
from rl.types import Experience, Prompt, Rollout
from tests.rl.run_case import ROOT

SHARING = ("loop=ahead", "cluster.painters=0", "rollout.engine=vllm", "rollout.sleep=2")


class RecordingCrew:
    role, size = "sample", 1
    ready: Any = None
    lost: Any = None

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def names(self) -> list[str]:
        return ["sampler-0"]

    def submit(self, name: str, version: int, job: SampleJob, *, returns: int = 1) -> list[Any]:
        self.said.append(f"sample {len(job.prompts)} prompts with {version}")
        future: Future[Any] = Future()
        future.set_result(Sampled(version, None, 0.1, PackedRollout.of(sampled(job))))
        return [SimpleNamespace(future=lambda: future)]

    def answered(self, name: str) -> None: ...

    def worked(self) -> float:
        return 0.0

    def hold(self, version: int, part: str) -> list[float]:
        self.said.append(f"wake with {version}")
        return [0.0]


def sampled(job: SampleJob) -> Rollout:
    rows = len(job.seeds)
    return Rollout(
        prompts=tuple(job.prompts),
        group_size=job.group_size,
        prompt_ids=tuple(condition.ids for condition in job.conditions),
        tokens_BT=np.zeros((rows, 2), np.int64),
        logprobs_BT=np.zeros((rows, 2), np.float32),
        seeds=tuple(job.seeds),
        temperature=1.0,
        version=0,
    )


def test_samplers_sleep_while_the_trainer_paints_learns_and_evaluates(tmp_path: Path) -> None:
    said: list[str] = []
    crew: Any = RecordingCrew(said)
    config = load(
        ROOT / "examples/geneval.yaml",
        [
            *SHARING,
            "cluster.sample_groups=1",
            "data.prompts_per_step=2",
            "rollout.group_size=2",
            f"run.folder={tmp_path}",
        ],
    )

    def painted_and_scored(step: int, rollout: Rollout, seed: int, timer: object) -> Experience:
        said.append(f"paint step {step}")
        assert (rollout.batch_size, seed) == (4, config.run.seed)
        none: Any = None
        return Experience(step, rollout, none, none, None, None, 0, {}, {})

    turn: Any = SimpleNamespace(
        tell=None,
        sees_references=False,
        nap=lambda step: said.append("sleep"),
        painted_and_scored=painted_and_scored,
    )
    store: Any = SimpleNamespace(publish=lambda *_, **__: None, prune=lambda oldest: None)
    tracker: Any = SimpleNamespace(message=lambda text: None, workers=lambda numbers: None)
    publisher = WeightPublisher(store, {"sample": crew}, staleness=0)
    publisher.push("ar", WeightStream.of([]), 0, {})
    stream = PromptStream([Prompt("a", "x"), Prompt("b", "y")], 2, 0)
    ahead = Ahead(config, turn, stream, lambda _: Condition((1, 2)), {"sample": crew}, publisher, tracker)
    for experience in ahead.collect(0, 2):
        said.append("learn")
        publisher.push("ar", WeightStream.of([]), experience.step + 1, {})
        said.append("evaluate")
    step = ["sleep", "paint step {0}", "learn", "wake with {1}", "evaluate"]
    expected = ["wake with 0"]
    for number in (0, 1):
        expected += [f"sample 1 prompts with {number}"] * 2 + [one.format(number, number + 1) for one in step]
    assert said == expected
