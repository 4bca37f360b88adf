"""A policy folder -> one whose decoder sees the pictures that are to be changed, and has yet to learn what to do with
it: ``python -m policy.convert --references POLICY OUT``."""

from __future__ import annotations

from pathlib import Path

from policy.base import Policy
from policy.conditions import WAYS, check_fits
from policy.convert.out_folder import new_folder
from policy.folder import resolve_folder
from policy.json_file import read_json
from policy.pictures.untrained import with_references
from rl.registry import did_you_mean
from rl.types import UserError


def to_seeing_policy(policy: str, out: Path, ways: str) -> None:
    """``ways``: names with commas between them. Raises: UserError if there is no such way, or it sees them already."""
    names = [one.strip() for one in ways.split(",")]
    for name in names:
        if name not in WAYS:
            raise UserError(f"--ways: there is no {name!r}{did_you_mean(name, WAYS)} (known: {', '.join(WAYS)})")
    folder = resolve_folder(policy)
    check_fits(names, read_json(folder / "transformer" / "config.json"), "--ways")
    stored = read_json(folder / "ar" / "config.json")
    given = Policy.load(folder, str(stored.get("dtype") or stored.get("torch_dtype") or "float32"))
    if given.decoder.reference is not None:
        seen = ", ".join(given.decoder.reference.ways)
        raise UserError(f"--references: the decoder of {policy} sees references already ({seen}); train it as it is.")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    with new_folder(out, size) as unfinished:
        with_references(given, names).save(unfinished)
