"""``python -m rewards.check my_rewards:bright --option target=0.9``: everything that is wrong with a reward plug-in.

It is loaded and called as a run would do it, on small pictures made here (and prompts of yours with ``--prompts``).
Exit code 0: fit for a run, warnings included; 1: not fit; 2: it could not be tried.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from rewards.check.rules import Finding, findings
from rewards.command_line import parse_options
from rl.config.schema import RewardComponent
from rl.data.prompts import prompt_file
from rl.data.stream import require_applicable
from rl.process.command import command
from rl.process.parser import CommandParser

_SIGNS = {"ok": "[green]ok     [/]", "warning": "[yellow]warning[/]", "error": "[red]error  [/]"}


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m rewards.check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("reward", help="a built-in name, an installed plug-in, or module:attr")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="as in the YAML's options")
    parser.add_argument("--prompts", help="a prompt file (JSON lines), if the reward needs metadata")
    parser.add_argument("--no-processes", action="store_true", help="leave out the trial in a worker process")
    given = parser.parse_args(arguments)
    prompts = prompt_file(given.prompts) if given.prompts else None
    if prompts:
        require_applicable(prompts, {given.reward: RewardComponent(use=given.reward)})
    options = parse_options(given.option)
    found = findings(given.reward, options, prompts=prompts, processes=not given.no_processes)
    errors = [show(finding) for finding in found].count("error")
    print(f"{given.reward}: {verdict(errors)}")
    return 1 if errors else 0


def verdict(errors: int) -> str:
    return f"not fit for a run, {errors} error{'s' * (errors > 1)}" if errors else "fit for a run"


def show(finding: Finding) -> str:
    """Prints it; returns its level."""
    sentence = escape(finding.sentence)  # it may quote a reward, and its brackets are no colours
    Console(width=120).print(f"{_SIGNS[finding.level]} {finding.subject:<12} {sentence}", soft_wrap=True)
    return finding.level


if __name__ == "__main__":
    sys.exit(main())
