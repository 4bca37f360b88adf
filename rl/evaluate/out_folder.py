"""The folder of an evaluation belongs to one: same prompts, same rules, and under each name the same policy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rl.evaluate.candidates import Candidate
from rl.run_folder.records import disk_errors, read_json, write_atomically
from rl.types import Prompt, UserError

SETTINGS_FILE, ABOUT_FILE = "settings.json", "about.json"


def claim_out(
    out: Path, measured_by: Mapping[str, object], prompts: Sequence[Prompt], candidates: Sequence[Candidate]
) -> None:
    """Creates it, or makes sure that what it holds can be gone on with. Raises UserError naming what differs."""
    settings = {**measured_by, "prompts": _prompts_hash(prompts)}
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder")
    if (out / SETTINGS_FILE).is_file():
        _check_same(out, settings, read_json(out / SETTINGS_FILE))
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out {out} holds something else (no {SETTINGS_FILE}); name a new folder")
    for one in candidates:
        about = out / one.name / ABOUT_FILE
        if about.is_file() and read_json(about) != one.about():
            raise UserError(
                f"--out {out}: {one.name!r} was another policy, or its files or options have changed since; name "
                f"another folder, or give this policy another name: --policy {one.name}-2={one.folder}"
            )
    try:
        with disk_errors(out, "starting an evaluation"):
            for one in candidates:
                (out / one.name).mkdir(parents=True, exist_ok=True)
                write_atomically(out / one.name / ABOUT_FILE, json.dumps(one.about(), indent=1) + "\n")
            write_atomically(out / SETTINGS_FILE, json.dumps(settings, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror}); name another folder") from error


def _check_same(out: Path, now: Mapping[str, object], before: Mapping[str, object]) -> None:
    now = json.loads(json.dumps(now))
    changed = [key for key in sorted(now.keys() | before.keys()) if now.get(key) != before.get(key)]
    if changed:
        shown = "; ".join(f"{key} was {before.get(key)!r}, now {now.get(key)!r}" for key in changed[:3])
        raise UserError(
            f"--out {out} holds an evaluation by other rules ({shown}); use the same ones, or name another folder"
        )


def _prompts_hash(prompts: Sequence[Prompt]) -> str:
    content = [[one.id, one.text, dict(one.metadata)] for one in prompts]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
