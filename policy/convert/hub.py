"""Checkpoints on the Hugging Face hub, ``owner/name`` or ``owner/name@revision``: fetched once, converted once."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from policy.convert.out_folder import require_room
from policy.parts import CONFIG_FILE
from rl.process.output import shown
from rl.registry import nearest
from rl.types import UserError

_NAME = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?")
_NOT_READ = ["*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.gguf"]


def tell(text: str) -> None:
    """Where a run or command has nothing of its own on the screen yet."""
    print(shown(text), file=sys.stderr, flush=True)


def is_hub_name(name: str) -> bool:
    """``runs/geneval`` is none where there is a folder ``runs``."""
    return bool(_NAME.fullmatch(name)) and not Path(name.partition("/")[0]).exists()


def near_folder(missing: str) -> Path | None:
    """``runs/geneval`` for ``runs/geneva``: the folder that is there under nearly that name."""
    there = Path()
    for part in Path(missing).parts:
        known = [part] if (there / part).is_dir() else [one.name for one in there.glob("*") if one.is_dir()]
        near = nearest(part, known, alike=0.75)
        if near is None:
            return None
        there = there / near
    return there


def fetched(name: str, *, at: str) -> Path:
    """The folder of its files in the hub's cache; downloads what is not there.

    Raises: UserError that begins with ``at`` if that is not possible, or the disk is too small.
    """
    from huggingface_hub import snapshot_download

    found = _NAME.fullmatch(name)
    repository, revision = (found[1], found[2]) if found else (name, None)
    try:
        _announce(name, repository, revision)
        return Path(snapshot_download(repository, revision=revision, ignore_patterns=_NOT_READ))
    except (OSError, ValueError) as error:
        raise _out_of_reach(name, error, revision, at) from error


def _announce(name: str, repository: str, revision: str | None) -> None:
    """What will be downloaded and where to, if there is room for it; nothing where nobody can be asked."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import DryRunError

    with suppress(DryRunError):
        files = snapshot_download(repository, revision=revision, ignore_patterns=_NOT_READ, dry_run=True)
        if size := sum(file.file_size or 0 for file in files if file.will_download):
            require_room(Path(constants.HF_HUB_CACHE), size)
            tell(f"{name}: {size / 1e9:.2f} GB from the Hugging Face hub, into {constants.HF_HUB_CACHE}")


@cache
def policy_of_hub(name: str, at: str) -> Path:
    """The policy folder of a name on the hub: a policy that lies there, or a checkpoint, converted into a cache.

    Raises: UserError as ``fetched``, and if it can't be converted.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import WeakFileLock

    out = Path(constants.HF_HOME) / "easel-rl" / name.replace("/", "--")
    if (out / CONFIG_FILE).is_file():
        return out
    source = fetched(name, at=at)
    if (source / CONFIG_FILE).is_file():
        return source
    out.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(out.with_name(f".{out.name}.lock")):  # several ranks and runs may ask at once
        if not (out / CONFIG_FILE).is_file():
            from policy.convert.to_policy import to_policy  # torch

            tell(f"{name}: converting into {out}")
            to_policy(source, out, tell=tell)
    return out


def _out_of_reach(name: str, error: Exception, revision: str | None, at: str) -> UserError:
    from rl.process.hub import offline, said

    there = near_folder(name)
    near = f" (did you mean '{there}'?)" if there else ""
    if told := said(error, revision):
        return UserError(f"{at}: {name!r} is no folder here{near}, and {told}, or give a folder.")
    why = "HF_HUB_OFFLINE is set" if offline(error) else "the hub is not reached"
    command = f"hf download {name.partition('@')[0]}" + (f" --revision {revision}" if revision else "")
    return UserError(
        f"{at}: {name!r} is no folder here{near}, and the Hugging Face hub can't be asked for it now ({why}); with a "
        f"network type `{command}`, or give a folder."
    )
