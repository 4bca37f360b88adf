"""``python -m rl.bench [CONFIG] [key=value ...]``: the whole step beside TRL's GRPOTrainer and beside its floor.

Each variant trains the same policy with the same prompts, group size, reward and painter in a process of its own; they
take their steps in turn while nothing else runs, without the anchor, which TRL lacks. Ratios are to TRL with its own
generate. The floor of a stage is its products (attention's among them) as fast as this machine does them alone, the
bytes of weights and optimizer over the memory bandwidth, and the rewards' CPU time over all cores.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rewards.command_line import positive_int
from rl.bench.contract import MOST_STEPS
from rl.bench.processes import BenchProcess
from rl.bench.results import FIGURES, Figures, describe_machine, read, write
from rl.bench.rounds import WARM_UP, Tell, measure
from rl.bench.tables import report
from rl.bench.variants import BASE, CONFIG, VARIANTS, Variant, assignment, chosen, configured, words
from rl.config import shipped
from rl.config.schema import Config
from rl.preflight.machine import check_machine
from rl.preflight.memory.planning import settled
from rl.preflight.prompts import check_data
from rl.process.command import command
from rl.process.interrupt import ended_by_signals
from rl.process.output import shown
from rl.process.parser import CommandParser
from rl.types import UserError

STEPS = 20


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, 1 if a variant of ours failed or nothing was measured, 2 for a mistake, 130 after Ctrl-C."""
    found = _parser().parse_intermixed_args(arguments)
    _require_sense(found)
    if found.source is not None:
        figures = read(found.source)
    else:
        config, overrides = _split(found.given)
        if note := shipped.note(Path(config)):
            print(shown(note), file=sys.stderr)
        with ended_by_signals():
            figures = bench(config, overrides, chosen(found.variants), found.steps, _tell)
        for path in (found.json, FIGURES if found.record else None):
            if path is not None:
                write(figures, path)
    print(shown(report(figures, markdown=found.markdown)), end="")
    ours = [one for one in figures.outcomes if VARIANTS[one.name].side == "ours"]
    return 0 if all(one.measured for one in ours) and any(one.measured for one in figures.outcomes) else 1


def bench(config: str, overrides: Sequence[str], variants: Sequence[Variant], steps: int, tell: Tell) -> Figures:
    """Raises: UserError for what can be known before a process is started."""
    _require_trl(variants)
    configs = {one.name: configured(one, config, overrides) for one in variants}
    for name, one in configs.items():
        train_prompts, eval_prompts = check_data(one)
        check_machine(one)
        configs[name] = settled(one, [*train_prompts, *eval_prompts])
    outcomes = measure(variants, lambda one: BenchProcess(assignment(one, configs[one.name])), steps, tell)
    outcomes = [replace(one, settings=words(configs[one.name], VARIANTS[one.name].side)) for one in outcomes]
    any_config = next(iter(configs.values()))
    return Figures(_run(config, overrides, any_config, steps), _pictures(any_config), describe_machine(), outcomes)


def _run(path: str, overrides: Sequence[str], config: Config, steps: int) -> str:
    typed = " ".join([path, *overrides])
    sizes = (
        f"{config.data.prompts_per_step} prompts x {config.rollout.group_size} = {_pictures(config)} pictures a step"
    )
    return f"{typed}: {sizes}, median of {steps} steps in turn"


def _pictures(config: Config) -> int:
    return config.data.prompts_per_step * config.rollout.group_size


def _split(given: Sequence[str]) -> tuple[str, list[str]]:
    """The configuration, if one is named, and the overrides."""
    if given and "=" not in given[0]:
        return given[0], list(given[1:])
    return CONFIG, list(given)


def _require_sense(found: argparse.Namespace) -> None:
    """Raises: UserError."""
    if found.record and found.variants is not None:
        raise UserError("--record keeps the figures of all variants: leave --variants out")
    if found.steps + WARM_UP >= MOST_STEPS:
        raise UserError(
            f"--steps is {found.steps}: a worker takes at most {MOST_STEPS}, {WARM_UP} to warm up among them"
        )


def _require_trl(variants: Sequence[Variant]) -> None:
    needing = [one.name for one in variants if one.side == "trl"]
    if needing and importlib.util.find_spec("trl") is None:
        ours = ",".join(one.name for one in VARIANTS.values() if one.side == "ours")
        raise UserError(
            f"--variants: {needing[0]} needs TRL, which is not installed: type `pip install 'trl==1.16.*'`, or measure "
            f"without it: --variants {ours}"
        )


def _tell(line: str) -> None:
    print(shown(line), file=sys.stderr, flush=True)


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m rl.bench", description=(__doc__ or "").partition("\n")[2])
    parser.add_argument("given", nargs="*", metavar="CONFIG key=value", help=f"what is trained ({CONFIG})")
    parser.add_argument("--steps", type=positive_int, default=STEPS, help=f"measured steps of each variant ({STEPS})")
    parser.add_argument("--variants", metavar="A,B", help=f"some of {', '.join(VARIANTS)} (all; ratios are to {BASE})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    parser.add_argument("--markdown", action="store_true", help="the tables in Markdown")
    parser.add_argument(
        "--record", action="store_true", help="keep the figures for the README and the regression guard"
    )
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="print such a file and measure nothing"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
