"""Workers that answer at once, and the figures of a small bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rl.bench.contract import FloorMeasured, StageFloor, StepTaken, VariantFailed
from rl.bench.results import Figures, VariantOutcome


@dataclass
class FakeWorker:
    """Takes the given seconds for its steps, warm-up included, and notes in ``heard`` what it was asked."""

    name: str
    heard: list[str]
    seconds: Sequence[float] = (1.0,)
    fails_at: str = ""
    """``ready``, ``step 2``, ``floor``."""
    _taken: int = field(default=0)

    def wait_ready(self) -> None:
        self._hear("ready")

    def step(self) -> StepTaken:
        self._taken += 1
        self._hear("step", f"step {self._taken}")
        seconds = self.seconds[min(self._taken, len(self.seconds)) - 1]
        return StepTaken(seconds, {"paint": seconds / 2}, 0.5, 0.0)

    def floor(self) -> FloorMeasured:
        self._hear("floor")
        return FloorMeasured([StageFloor("paint", 10.0, 0.1)], {"attention": 0.2, "copies": 0.3})

    def peak_mb(self) -> float:
        return 1024.0

    def close(self) -> None:
        self.heard.append(f"{self.name} closed")

    def _hear(self, what: str, exactly: str = "") -> None:
        self.heard.append(f"{self.name} {what}")
        if self.fails_at and self.fails_at in (what, exactly):
            raise VariantFailed(f"no {what} today")


def figures() -> Figures:
    """TRL takes 2 s, ours 1.6 s and at best 0.5 s; vLLM could not be measured."""
    return Figures(
        run="examples/geneval.yaml: 2 prompts x 4 = 8 pictures a step, median of 3 steps in turn",
        pictures=8,
        machine="Some CPU, 2 cores, torch 2.13.0, trl 1.16.0; bf16 instructions: none",
        outcomes=[
            outcome(
                "ours",
                "ours, equal settings",
                [1.5, 1.6, 1.9],
                floor=[StageFloor("paint", 10.0, 0.5, {"attention": 0.1, "rewards": 0.4})],
            ),
            VariantOutcome(
                "trl", "TRL, own generate", "fp32", [StepTaken(s, {}, 0.5) for s in (2.0, 1.8, 2.2)], 2048.0
            ),
            VariantOutcome("trl-vllm", "TRL, vLLM", "fp32", failure="it says no"),
            outcome("ours-best", "ours, best settings", [0.5, 0.5, 0.6]),
        ],
    )


def outcome(name: str, title: str, seconds: Sequence[float], floor: Sequence[StageFloor] = ()) -> VariantOutcome:
    steps = [StepTaken(s, {"paint": s / 2}, 0.6, 1e-7) for s in seconds]
    kinds = {"attention": 0.4, "copies and gathers": 1.2} if floor else {}
    return VariantOutcome(name, title, "fp32", steps, 1024.0, list(floor), kinds)
