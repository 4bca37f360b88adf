"""The console command ``easel COMMAND ...``: the same as ``python -m MODULE ...`` under a name that is easy to type."""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence

from rl import registry, share_cores

COMMANDS = {
    "launch": ("rl.launch", "train: CONFIG [key=value ...] [--dry-run] [--resume]"),
    "sweep": ("rl.sweep", "arms x seeds of one run: which is better, how sure"),
    "report": ("rl.report", "a run folder as one page, or several side by side"),
    "evaluate": ("rl.evaluate", "score policies on held-out prompts, with intervals"),
    "variance": ("rl.variance", "what tokens and what the decoder decide in a reward"),
    "simulate": ("rl.simulate", "how fast a configuration would be on many workers"),
    "push": ("rl.push", "put a run's policy on a model hub, with its card"),
    "paint": ("policy.paint", "a picture of a prompt"),
    "edit": ("policy.edit", "a picture changed as an instruction says"),
    "ask": ("policy.ask", "a question about a picture, answered in words"),
    "references": ("policy.references", "eyes for a decoder that is to learn to edit"),
    "understanding": ("policy.understanding", "a branch to read pictures with, for a policy of a TA-Tok"),
    "convert": ("policy.convert", "a BLIP3o-NEXT checkpoint into a policy folder, and back"),
    "doctor": ("rl.doctor", "what this machine has and what is missing"),
    "keys": ("rl.keys", "every key of a configuration, explained"),
    "check": ("rewards.check", "what is wrong with a reward of your own"),
    "check-loss": ("rl.check", "what is wrong with a loss or an advantage of your own"),
    "score": ("rewards.score", "score pictures in a folder"),
    "serve": ("rewards.serve", "rewards over HTTP"),
    "geneval": ("rewards.geneval", "GenEval's official layout: prompts out, scores in"),
    "memory": ("rl.memory", "what the dry run expects of memory beside what a run takes"),
    "bench": ("rl.bench", "the whole step beside TRL's and beside its floor"),
    "bench-reward": ("rewards.bench", "how fast a reward is"),
    "bench-rollout": ("rollout.bench", "how fast a policy is sampled"),
    "pretrain": ("policy.shapes.pretrain", "make the embedded model again"),
}
"""Name -> the module that ``python -m`` runs, and what it does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The list of commands, or one of them. Exit code 2: there is no such command; else the command's own."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if given[0] in ("-V", "--version"):
        from rl import __version__

        print(f"easel-rl {__version__}")
        return 0
    name, *rest = given
    module = available().get(name)
    if module is None:
        near = registry.did_you_mean(name, available())
        print(f"error: there is no command {name!r}{near or ';'} `easel` alone lists them all.", file=sys.stderr)
        return 2
    share_cores(os.environ)
    sys.argv = [name, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)  # it leaves by sys.exit with its own code
    return 0


def available() -> dict[str, str]:
    """Name -> module, of the commands that are there."""
    return {name: module for name, (module, _) in COMMANDS.items() if importlib.util.find_spec(module)}


def overview() -> str:
    names = available()
    width = max(map(len, names))
    lines = [f"  {name:<{width}}  {COMMANDS[name][1]}" for name in names]
    return "\n".join(["usage: easel COMMAND ...   (easel COMMAND --help explains one)", "", *lines])
