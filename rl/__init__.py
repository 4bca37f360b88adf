"""The story of a run, and what comes before it.

Whichever of the four packages is imported first, ``rl`` comes next. It makes sure that all four are this
installation's, and that what they need is there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

OWN_PACKAGES = ("rl", "rewards", "policy", "rollout")
_HOME = Path(__file__).resolve().parents[1]
_NEEDED = ("numpy", "pydantic", "yaml", "rich", "PIL")


def __getattr__(name: str) -> str:
    """``rl.__version__``, looked up when it is asked for: that costs more than the rest of this file."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("easel-rl")
    except PackageNotFoundError:  # a checkout on PYTHONPATH
        return "0+unknown"


def _check_environment() -> None:
    """Outside the environment a command would end in a traceback about one of many packages.

    Only commands need them all: a reward may have an environment of its own that holds less.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if not missing:
        return
    cure = "activate the environment that easel-rl is installed in"
    if (_HOME / "Makefile").is_file():
        cure = f"type `source {_HOME}/.venv/bin/activate`" if (_HOME / ".venv").is_dir() else "type `make setup` first"
    sys.stderr.write(f"error: {', '.join(missing)} not installed for {sys.executable}: {cure}.\n")
    raise SystemExit(2)


def _import_siblings() -> None:
    """A user's own rewards.py, policy.py or rollout.py may come first on the path; ours are taken from beside us."""
    for name in OWN_PACKAGES[1:]:
        file = _HOME / name / "__init__.py"
        if (loaded := sys.modules.get(name)) is not None:
            found = Path(loaded.__file__ or "?").resolve()
            if found != file:
                raise ImportError(f"{found} has the name of a package of easel-rl: rename it, for example my_{name}.py")
            continue
        spec = spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)])
        if spec is None or spec.loader is None:
            raise ImportError(f"{file} cannot be imported: install easel-rl again")
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Threads that wait by spinning slow a second run on the same machine tenfold; two thousand turns cost a lone run
    nothing. Read when torch is imported, so every command does this first, and what it starts inherits it; what the
    user has set stands.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("GOMP_SPINCOUNT", "2000")


if sys.argv[:1] == ["-m"]:  # a command on its way to its module, which may import torch
    _check_environment()
    share_cores(os.environ)
_import_siblings()
