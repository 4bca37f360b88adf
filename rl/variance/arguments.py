"""What stands on the command line of ``python -m rl.variance``, and the configuration that it leads to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rewards.command_line import positive_float, positive_int
from rl.config.load import load
from rl.config.option_rules import wrong_values
from rl.config.schema import Config
from rl.data.prompts import load_prompts
from rl.data.stream import PromptStream, needs_of, require_metadata
from rl.preflight.memory.planning import settled
from rl.process.parser import CommandParser
from rl.run_folder.claim import CONFIG_FILE
from rl.types import Prompt, UserError

Design = Literal["crossed", "nested"]
_STEPS = (1, 2, 3, 8)


@dataclass(frozen=True)
class VarianceArguments:
    """The command line, typed; None: the configuration says it."""

    run: Path
    renders: int
    steps: tuple[int, ...] | None
    prompts: int
    group: int | None
    design: Design
    sequence_cost: float | None
    out: Path | None
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class VariancePlan:
    """What is measured: ``prompts``, ``group`` token sequences of each, ``renders`` pictures of each of those, at every
    number of ``steps``, the largest of which counts as exact."""

    config: Config
    prompts: Sequence[Prompt]
    group: int
    renders: int
    steps: tuple[int, ...]
    design: Design
    sequence_cost: float | None
    """In pictures; None: what is measured."""

    @property
    def spoken(self) -> int:
        """The number of steps that the sentences are about: that of the configuration where it is measured."""
        return self.config.render.steps if self.config.render.steps in self.steps else self.steps[-1]

    @property
    def pictures(self) -> int:
        return len(self.prompts) * self.group * self.renders * len(self.steps)


def read_arguments(given: Sequence[str] | None) -> VarianceArguments:
    """Ends the program with code 2 and a sentence if they cannot be read."""
    parser = CommandParser(
        prog="python -m rl.variance",
        description="Where a reward's variance comes from: tokens (for the language model to learn), the decoder's "
        "noise and the interaction of both (for the decoder).",
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN|CONFIG", help="a run's folder (its trained policy is measured) or a YAML file")
    add("overrides", nargs="*", metavar="key=value", help="of the configuration: policy.path=shapes, run.seed=1")
    add("--renders", type=positive_int, default=8, metavar="K", help="pictures of each token sequence (default 8)")
    add(
        "--steps",
        metavar="N,N,...",
        help="numbers of decoder steps (default 1,2,3,8 and render.steps, those that fit the sampler)",
    )
    add("--prompts", type=positive_int, default=32, metavar="P", help="training prompts (default 32, or all)")
    add("--group", type=positive_int, metavar="G", help="token sequences per prompt (default rollout.group_size, or 2)")
    add(
        "--design",
        choices=("crossed", "nested"),
        default="crossed",
        help="crossed: the same noise for every token sequence of a prompt, which tells noise and interaction apart; "
        "nested: each picture its own",
    )
    add(
        "--sequence-cost",
        type=positive_float,
        metavar="N",
        help="what a token sequence costs, its update included, in pictures painted and scored (default: as measured, "
        "without the update)",
    )
    add("--out", type=Path, metavar="DIR", help="for variance.json and variance.svg (default: RUN/variance)")
    found = parser.parse_intermixed_args(given)
    return VarianceArguments(
        found.run,
        found.renders,
        None if found.steps is None else _steps(found.steps),
        found.prompts,
        found.group,
        found.design,
        found.sequence_cost,
        found.out,
        tuple(found.overrides),
    )


def make_plan(given: VarianceArguments) -> VariancePlan:
    """Raises UserError on what cannot be measured, before anything heavy is imported."""
    config = read_config(given)
    key, group = _group(given, config)
    for flag, value, why in (
        ("--renders", given.renders, "without several pictures of a token sequence, noise cannot be told from tokens"),
        (key, group, "without several token sequences of a prompt, there is nothing to compare"),
    ):
        if value < 2:
            raise UserError(f"{flag} is {value}; it must be at least 2: {why}")
    prompts = load_prompts(config.data.train, "data.train")
    if needs := needs_of(config.rewards):
        require_metadata(prompts, needs)
    count = min(given.prompts, len(prompts))
    chosen = PromptStream(prompts, count, config.run.seed).at(0)
    steps = _fitting(given, config)
    config = settled(config, chosen)
    return VariancePlan(config, chosen, group, given.renders, steps, given.design, given.sequence_cost)


def _group(given: VarianceArguments, config: Config) -> tuple[str, int]:
    """(who says it, how many): a decoder that learns alone needs one token sequence a prompt, and this needs two."""
    if given.group is not None:
        return "--group", given.group
    key, own = "rollout.group_size", config.rollout.group_size
    typed = any(override.partition("=")[0].strip() == key for override in given.overrides)
    return key, own if typed else max(2, own)


def _fitting(given: VarianceArguments, config: Config) -> tuple[int, ...]:
    """Numbers of steps that the window of the decoder's sampler fits into, if it has one."""
    fitting = []
    for steps in given.steps or sorted({*_STEPS, config.render.steps}):
        wrong = wrong_values("decoder_samplers", config.render.sampler, steps)
        if given.steps and wrong:
            option, message = next(iter(wrong.items()))
            raise UserError(
                f"--steps {steps}: render.sampler.options.{option} {message.partition(';')[0]}; leave {steps} out, or "
                "make the window smaller"
            )
        if not wrong:
            fitting.append(steps)
    return tuple(fitting)


def read_config(given: VarianceArguments) -> Config:
    """Of a run's folder: its configuration with the policy that it has trained."""
    file = given.run / CONFIG_FILE
    if file.is_file():
        return load(file, [f"policy.path={json.dumps(str(given.run))}", *given.overrides])
    if given.run.is_dir():
        raise UserError(f"{given.run} is no run folder (no {CONFIG_FILE}); give a run's folder or a YAML file")
    return load(given.run, given.overrides)


def out_folder(given: VarianceArguments) -> Path:
    if given.out is not None:
        return given.out
    return given.run / "variance" if given.run.is_dir() else Path("runs", f"{given.run.stem}-variance")


def _steps(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"--steps {text!r}: must be whole numbers from 1 with commas between them, such as 1,2,3,8")
    return tuple(sorted({int(part) for part in parts}))
