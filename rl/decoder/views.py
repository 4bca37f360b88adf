"""The networks of a run told apart at its evaluations: base and now, the slow copy, and twice the steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from policy.decoder import Decoder
from rl.collect import Collect
from rl.config.schema import Config
from rl.decoder.part import FlowTrainer
from rl.evaluation.evaluate import grid_prompts, outcomes_of
from rl.evaluation.parts import PartsEvaluation, PartView, load_parts, only, save_parts
from rl.evaluation.results import Evaluation, Outcome
from rl.trainer.copies import EMA, Lending, kept
from rl.types import Prompt, Rollout
from rollout.seeds import sample_seed

_PICTURES_AT_ONCE = 128
_WRITTEN = tuple[Rollout, Tensor]


@dataclass
class PartViews:
    """Paints what the language models of then and now have written with the decoders of then and now."""

    act: Collect
    prompts: Sequence[Prompt]
    samples_per_prompt: int
    seed: int
    joint: bool
    """The language model learns as well."""
    weights: Mapping[str, Lending]
    """The decoder's weights other than those of now: around painting with them."""
    _base: list[_WRITTEN] = field(default_factory=list)
    _of_base: Evaluation | None = None
    """What the base writes and paints, once it had to be painted."""

    def remember(self) -> None:
        """Before any weights but the base's are in the sampler: what it writes is kept, on the CPU."""
        if self.joint:
            self._base = [(rollout, hidden_BSD.cpu()) for rollout, hidden_BSD in self._written()]

    def look(self, main: Evaluation, folder: Path) -> PartsEvaluation:
        """Beside ``main``, the evaluation of now, whose verdicts on these prompts are taken over; writes
        ``parts-<step>.json``."""
        steps, at_start = self.act.render.steps, main.step == 0
        ar: Literal["base", "now"] = "base" if at_start or not self.joint else "now"
        decoder: Literal["base", "now"] = "base" if at_start else "now"
        views = {} if at_start else _of_the_base(folder)
        views[PartView(ar, decoder, steps)] = only(main, {prompt.id for prompt in self.prompts})
        now = list(self._written())
        views[PartView(ar, decoder, 2 * steps)] = self._seen(main.step, now, steps=2 * steps)
        if not at_start:
            if EMA in self.weights:
                views[PartView(ar, "ema", steps)] = self._seen(main.step, now, EMA)
            if self.joint:
                views[PartView("base", "now", steps)] = self._seen(main.step, self._base)
                if "base" in self.weights:
                    views[PartView("now", "base", steps)] = self._seen(main.step, now, "base")
            if PartView("base", "base", steps) not in views and "base" in self.weights:
                if self._of_base is None:
                    self._of_base = self._seen(0, self._base if self.joint else now, "base")
                views[PartView("base", "base", steps)] = self._of_base
        found = PartsEvaluation(main.step, views)
        save_parts(found, folder)
        return found

    def _written(self) -> Iterator[_WRITTEN]:
        size = max(1, _PICTURES_AT_ONCE // self.samples_per_prompt)
        for start in range(0, len(self.prompts), size):
            batch = self.prompts[start : start + size]
            seeds = [
                sample_seed(self.seed, 0, prompt.id, index)
                for prompt in batch
                for index in range(self.samples_per_prompt)
            ]
            yield self.act.written(batch, self.samples_per_prompt, seeds)

    def _seen(
        self, step: int, written: Sequence[_WRITTEN], decoder: str | None = None, *, steps: int | None = None
    ) -> Evaluation:
        outcomes: list[Outcome] = []
        for rollout, hidden_BSD in written:
            with self.weights[decoder]() if decoder else nullcontext():
                name = f"parts{step}-{rollout.prompts[0].id}"
                _, by_reward = self.act.shown(name, rollout, hidden_BSD, self.seed, steps)
            for place, seed in enumerate(rollout.seeds):
                scores = {reward: found[place] for reward, found in by_reward.items()}
                outcomes += outcomes_of(rollout.prompt_of(place), seed, scores)
        return Evaluation(step, tuple(outcomes))


def other_weights(config: Config, decoder: Decoder, trainer: FlowTrainer) -> dict[str, Lending]:
    """What a run looks at beside the weights of now, on every rank; before the trainer loads anything but the base."""
    weights: dict[str, Lending] = {}
    if config.data.eval is None or not config.eval.parts:
        return weights
    if config.paints_with_base:
        learning = {name: one for name, one in decoder.named_parameters() if one.requires_grad}
        weights["base"] = kept(learning)
    if config.trained_decoder and config.trained_decoder.ema is not None:
        weights[EMA] = partial(trainer.lent, EMA)
    return weights


def start_views(config: Config, act: Collect, weights: Mapping[str, Lending], prompts: Sequence[Prompt]) -> PartViews:
    options = config.eval
    shown = grid_prompts(prompts, min(options.parts, len(prompts)))
    return PartViews(act, shown, options.samples_per_prompt, options.seed, "ar" in config.trainers, weights)


def _of_the_base(folder: Path) -> dict[PartView, Evaluation]:
    """As they were found before the first step, if that was looked at."""
    path = folder / "parts-0.json"
    if not path.is_file():
        return {}
    return {view: found for view, found in load_parts(path).views.items() if view.of_the_base}
