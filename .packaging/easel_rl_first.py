"""Imported by ``easel-rl.pth`` when ``python -m ...`` starts in an environment that has easel-rl.

``python -m`` looks into the current folder first. A user's own rl.py, rewards.py, policy.py or rollout.py there, or a
folder of that name, would be taken for our package. So for our own commands, ours are looked up now, while the current
folder is not on the path yet. Everything else that starts in this environment is left alone.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path

OURS = ("rl", "rewards", "policy", "rollout")


class FirstOfAll:
    """Finds our packages before anything on the path is looked at."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in OURS:
            return None
        folder = self.home / name
        return spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])


def put_ours_first(module: str) -> None:
    """Before ``python -m module`` runs. Ends the process with one sentence if PYTHONPATH leads to another ``rl``."""
    if module.partition(".")[0] not in OURS or Path("rl", "launch.py").is_file():  # in a checkout, that one is meant
        return
    spec = find_spec("rl")
    if spec is None or spec.origin is None:
        return
    if Path(spec.origin).with_name("launch.py").is_file():
        sys.meta_path.insert(0, FirstOfAll(Path(spec.origin).parents[1]))
        return
    sys.stderr.write(
        f"error: {spec.origin} has the name of a package of easel-rl, so `python -m {module}` cannot start: "
        "rename it, or take its folder out of PYTHONPATH.\n"
    )
    os._exit(2)  # a SystemExit here would be reported as a broken Python


if sys.argv[:1] == ["-m"]:  # at this moment it stands for the module's name, and what follows is the module's
    put_ours_first(sys.orig_argv[len(sys.orig_argv) - len(sys.argv)].removeprefix("-m"))
