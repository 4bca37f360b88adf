"""What would be uploaded: the files of a policy with its card, under a name on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import filter_repo_objects, validate_repo_id

from policy.folder import read_policy_config
from policy.parts import CONFIG_FILE as POLICY_FILE
from rl.card.card import CARD_FILE, POLICY_FOLDER, write_card
from rl.run_folder.claim import CONFIG_FILE as RUN_FILE
from rl.types import UserError

LEFT_OUT = (".*", "*/.*", "*.tmp")
"""Patterns of what is nobody's: hidden files, and what a killed program left half written."""


@dataclass(frozen=True)
class PushPlan:
    """``files``: path inside ``folder`` and bytes."""

    folder: Path
    repository: str
    files: Sequence[tuple[str, int]]

    @property
    def card(self) -> str:
        return (self.folder / CARD_FILE).read_text(encoding="utf-8")

    @property
    def size(self) -> int:
        return sum(size for _, size in self.files)


def make_plan(source: Path, repository: str, *, new_card: bool = False) -> PushPlan:
    """Of a run folder, whose card is written if it has none (``new_card``: anyway), or a policy folder with a card.

    Raises UserError, one sentence, if there is no such policy, it is incomplete, or the name is none.
    """
    check_name(repository)
    folder = _policy_of(source)
    read_policy_config(folder)
    if new_card or not (folder / CARD_FILE).is_file():
        if folder == source:
            raise UserError(
                f"{source} has no card to go with it: push its run folder, or write {source / CARD_FILE} (model card)"
            )
        write_card(source)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    kept = filter_repo_objects(names, ignore_patterns=list(LEFT_OUT))
    return PushPlan(folder, repository, [(name, (folder / name).stat().st_size) for name in kept])


def check_name(repository: str) -> None:
    """Raises UserError if it is not ``owner/name``."""
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"{repository!r} is no name on the hub: write owner/name ({error})") from error
    if "/" not in repository:
        raise UserError(f"{repository!r} names no owner: write owner/name, for example my-account/{repository}")


def _policy_of(source: Path) -> Path:
    if not source.is_dir():
        raise UserError(f"there is no folder {str(source)!r}: give the folder of a run, such as runs/geneval")
    if (source / POLICY_FILE).is_file():
        return source
    if (source / POLICY_FOLDER / POLICY_FILE).is_file():
        return source / POLICY_FOLDER
    if (source / RUN_FILE).is_file():
        raise UserError(
            f"{source} has written no policy yet; let the run end (python -m rl.launch {source / RUN_FILE} --resume), "
            f"then push it"
        )
    raise UserError(f"{source} is neither a run folder (no {RUN_FILE}) nor a policy (no {POLICY_FILE})")
