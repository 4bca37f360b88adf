"""What ``--policy`` may name: a policy folder, a run's policy, an embedded one, or a diffusers pipeline's folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from policy.convert.hub import near_folder
from policy.folder import EMBEDDED
from policy.parts import CONFIG_FILE as POLICY_FILE
from rl.evaluate.arguments import NamedPolicy
from rl.registry import did_you_mean
from rl.run_folder.claim import CONFIG_FILE as RUN_FILE
from rl.types import UserError

PIPELINE_FILE = "model_index.json"
POLICY_OF_A_RUN = "policy"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LOOKED_AT = 2**20  # bytes at either end of a file: training moves every weight


@dataclass(frozen=True)
class Candidate:
    """One that is measured. ``kind``: ours, which writes tokens first, or a pipeline of diffusers.

    ``run``: the folder of the run that it comes from.
    """

    name: str
    folder: Path
    kind: Literal["policy", "pipeline"]
    options: dict[str, object]
    run: Path | None = None

    def about(self) -> dict[str, object]:
        """What it is, with a fingerprint of its files: pictures of another one are never taken for its own."""
        return {"kind": self.kind, "options": self.options, "files": _fingerprint(self.folder)}


def find_candidates(given: Sequence[NamedPolicy]) -> list[Candidate]:
    """Each with a name of its own. Raises UserError, one sentence, on the first that is neither."""
    found: list[Candidate] = []
    for policy in given:
        candidate = _find(policy)
        if candidate.name in {other.name for other in found}:
            raise UserError(
                f"--policy: two policies are called {candidate.name!r}; name one otherwise: --policy "
                f"other={policy.path}"
            )
        found.append(candidate)
    return found


def _find(given: NamedPolicy) -> Candidate:
    folder = EMBEDDED.get(given.path, Path(given.path))
    if not folder.is_dir():
        raise UserError(_no_folder(given.path))
    name = _name(given)
    if (folder / RUN_FILE).is_file() and not (folder / POLICY_FILE).is_file():
        folder = folder / POLICY_OF_A_RUN
        if not folder.is_dir():
            raise UserError(
                f"--policy {given.path}: this run has written no policy yet; let it end (python -m rl.launch "
                f"{Path(given.path) / RUN_FILE} --resume), then evaluate it"
            )
    if (folder / POLICY_FILE).is_file():
        if given.options:
            raise UserError(
                f"--pipeline-option {next(iter(given.options))}: {given.path!r} is no diffusers pipeline; its options "
                f"are those of the configuration, for example render.steps=3"
            )
        run = folder.resolve().parent
        return Candidate(name, folder, "policy", {}, run if (run / RUN_FILE).is_file() else None)
    if (folder / PIPELINE_FILE).is_file():
        return Candidate(name, folder, "pipeline", given.options)
    raise UserError(
        f"--policy {given.path}: this folder is neither a policy (no {POLICY_FILE}), nor a run (no {RUN_FILE}), nor a "
        f"diffusers pipeline (no {PIPELINE_FILE})"
    )


def _no_folder(path: str) -> str:
    near = did_you_mean(path, EMBEDDED)
    if not near and (there := near_folder(path)):
        return f"--policy: there is no folder {path!r}, did you mean '{there}'?"
    hub = f"; one of a hub is fetched first: hf download {path} --local-dir {Path(path).name}"
    return (
        f"--policy: there is no folder {path!r}{near}; give a run folder, a policy folder, the folder of a diffusers "
        f"text-to-image pipeline, or one of {', '.join(EMBEDDED)}"
        + (hub if re.fullmatch(r"[\w.-]+/[\w.-]+", path) else "")
    )


def _name(given: NamedPolicy) -> str:
    """The one that was given, or what tells the folder from others: ``runs/geneval/policy`` is ``geneval``."""
    if given.name is not None:
        if not _NAME.fullmatch(given.name):
            raise UserError(
                f"--policy {given.name}={given.path}: a name may hold letters, digits, '.', '_' and '-' only"
            )
        return given.name
    path = Path(given.path).resolve()
    told = path.parent.name if path.name == POLICY_OF_A_RUN else path.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", told).strip("-.") or "policy"


def _fingerprint(folder: Path) -> str:
    found = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors", ".bin")):
        size = file.stat().st_size
        with file.open("rb") as content:
            found.update(f"{file.relative_to(folder)} {size}".encode() + content.read(_LOOKED_AT))
            content.seek(max(0, size - _LOOKED_AT))
            found.update(content.read(_LOOKED_AT))
    return found.hexdigest()[:16]
