"""What stands on the command line of ``python -m rl.evaluate``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rewards.command_line import NamedReward, add_reward_arguments, parse_option, positive_int
from rl.process.parser import CommandParser
from rl.types import UserError


@dataclass
class NamedPolicy:
    """One ``--policy`` with the ``--pipeline-option``s that follow it; no name: one is made of the path."""

    path: str
    name: str | None = None
    options: dict[str, object] = field(default_factory=dict)


@dataclass
class NamedPrompts:
    """``--prompts`` with the ``--prompt-option``s that follow it."""

    source: str
    options: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluateArguments:
    """The command line, typed."""

    policies: Sequence[NamedPolicy]
    prompts: NamedPrompts | None
    rewards: Sequence[NamedReward]
    workers: int
    config: str | None
    samples: int | None
    seed: int | None
    out: Path | None
    overrides: Sequence[str]


def read_arguments(given: Sequence[str] | None) -> EvaluateArguments:
    """Ends the program with code 2 and a sentence if they cannot be read."""
    found = _parser().parse_intermixed_args(given)
    return EvaluateArguments(
        policies=found.policies,
        prompts=found.prompts,
        rewards=found.rewards or (),
        workers=found.workers,
        config=found.config,
        samples=found.samples,
        seed=found.seed,
        out=found.out,
        overrides=found.overrides,
    )


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m rl.evaluate",
        description="Measure policies by the same rules: same prompts, same seeds, same rewards.",
    )
    add = parser.add_argument
    add("overrides", nargs="*", metavar="key=value", help="of the configuration: render.steps=3, rollout.engine=torch")
    add(
        "--policy",
        dest="policies",
        action=_Policy,
        required=True,
        metavar="[NAME=]POLICY",
        help="shapes, a policy folder, a run folder, or the folder of a diffusers text-to-image pipeline; repeatable: "
        "the first is what the others are compared with",
    )
    add(
        "--pipeline-option",
        dest="policies",
        action=_PipelineOption,
        metavar="KEY=VALUE",
        help="of the pipeline before it: steps=20, guidance=4.5, dtype=bfloat16, height=512, width=512, batch_size=4",
    )
    add(
        "--prompts",
        action=_Prompts,
        metavar="FILE|NAME",
        help="a .jsonl or .txt file, or a prompt source by its name (default: the held-out prompts of the "
        "configuration)",
    )
    add(
        "--prompt-option",
        dest="prompts",
        action=_PromptOption,
        metavar="KEY=VALUE",
        help="an option of --prompts: split=heldout",
    )
    add_reward_arguments(parser, required=False)
    add("--config", metavar="CONFIG", help="a run's YAML: its rewards, rollout and render hold (default: of the run)")
    add("--samples", type=positive_int, metavar="N", help="pictures per prompt (default: eval.samples_per_prompt)")
    add("--seed", type=int, metavar="N", help="of sampling and noise, the same for every policy (default: eval.seed)")
    add("--out", type=Path, metavar="DIR", help="results and pictures; the same command goes on with what is there")
    return parser


class _Policy(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        text = str(values)
        name, equals, path = text.partition("=")
        named = bool(equals) and not Path(text).exists()  # a folder may have "=" in its name
        if named and not (name and path):
            parser.error(f"--policy {text}: must read POLICY or NAME=POLICY, for example shapes or base=shapes")
        policy = NamedPolicy(path, name) if named else NamedPolicy(text)
        namespace.policies = [*(namespace.policies or []), policy]


class _PipelineOption(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        if not namespace.policies:
            parser.error(f"--pipeline-option {values}: must come after the --policy that it belongs to")
        _add(namespace.policies[-1].options, str(values), "--pipeline-option", parser.error)


class _Prompts(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        if namespace.prompts is not None:
            parser.error(f"--prompts {values}: is given twice; put all prompts into one file")
        namespace.prompts = NamedPrompts(str(values))


class _PromptOption(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        if namespace.prompts is None:
            parser.error(f"--prompt-option {values}: must come after --prompts")
        _add(namespace.prompts.options, str(values), "--prompt-option", parser.error)


def _add(options: dict[str, object], text: str, flag: str, fail: Callable[[str], object]) -> None:
    try:
        key, value = parse_option(text, flag)
    except UserError as error:
        fail(str(error))
        return
    if key in options:
        fail(f"{flag} {text}: {key} is given twice")
    options[key] = value
