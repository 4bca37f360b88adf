"""Prompts of steps that are drawn while earlier ones are still learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from rl.data.drawing.draws import PromptDraws
from rl.data.drawing.group_sizes import SharedOut
from rl.data.drawing.tasks import GroupOutcome, TaskSums, taken_in
from rl.types import Prompt


@dataclass(frozen=True)
class _DrawnStep:
    prompts: Sequence[Prompt]
    places: dict[str, int]
    shares: Mapping[str, float]


class DrawnAhead:
    """Step k by what the steps before k - ``staleness`` have shown, as its weights are those that learnt from them: so
    what is drawn does not depend on who is how fast. May be asked from several threads.
    """

    def __init__(self, draws: PromptDraws, per_step: int, staleness: int, sizes: SharedOut | None = None) -> None:
        """``sizes``: of groups, by what is known then as well."""
        self._draws, self._per_step, self._staleness, self._sizes = draws, per_step, staleness, sizes
        self._ended, self._open, self._lock = 0, dict[int, _DrawnStep](), Lock()

    def begin(self, step: int) -> None:
        """The draws are as the step before has left them."""
        with self._lock:
            self._ended = step
            self._open.clear()

    def at(self, step: int) -> list[Prompt]:
        """Of a step that has not ended; those before it are drawn first."""
        with self._lock:
            for number in range(max(self._open, default=self._ended - 1) + 1, step + 1):
                self._open[number] = self._drawn(number)
            return list(self._open[step].prompts)

    def end(self, step: int, outcomes: Sequence[GroupOutcome]) -> Mapping[str, float]:
        """The oldest step is scored. Returns what probability each task had in it."""
        with self._lock:
            drawn, state = self._open.pop(step), self._draws.state
            kept = [*state.get("earlier", []), state["tasks"]]
            self._draws.state = {
                "places": drawn.places,
                "tasks": taken_in(state["tasks"], outcomes),
                "earlier": kept[len(kept) - self._staleness :] if len(kept) > self._staleness else kept,
            }
            self._ended = step + 1
        return drawn.shares

    def _drawn(self, step: int) -> _DrawnStep:
        before, tasks = self._open.get(step - 1), self._known(step - self._staleness)
        places = before.places if before else self._draws.state["places"]
        prompts, state = self._draws.drawn_from({"places": places, "tasks": tasks}, step, self._per_step)
        if self._sizes is not None:
            prompts = self._sizes.repeated(prompts, lambda prompt: self._draws.success(prompt, tasks))
        return _DrawnStep(prompts, state["places"], self._draws.shares(tasks))

    def _known(self, steps: int) -> dict[str, TaskSums]:
        """What was known after so many steps."""
        if steps <= 0:
            return {}
        if steps > self._ended:
            raise AssertionError(f"drawn by {steps} steps, of which {self._ended} have ended")
        state = self._draws.state
        return [*state.get("earlier", []), state["tasks"]][steps - self._ended - 1]
