"""A checkpoint into a policy folder, ``python -m policy.convert blip3o-next SOURCE OUT``, and back.

``python -m policy.convert --back POLICY --like SOURCE OUT`` writes what was trained in the form of SOURCE, which the
original code loads. SOURCE is a folder or a name on the Hugging Face hub, ``owner/name`` or ``owner/name@revision``.
Exit codes: 0 done, 2 a mistake.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from policy.convert.hub import fetched, is_hub_name
from policy.convert.out_folder import require_new
from rl.process.command import command
from rl.process.parser import CommandParser
from rl.registry import did_you_mean
from rl.types import UserError

FORMATS = ("blip3o-next",)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        return _back(given.back, given.like, given.words) if given.back else _forth(given.words, given.parts)
    except PermissionError as error:
        raise UserError(f"{error.filename}: this user may not read or write it.") from error


def _forth(words: Sequence[str], parts: Path | None) -> int:
    if len(words) != 3:
        raise UserError("give three words: python -m policy.convert blip3o-next SOURCE OUT")
    form, source, out = words
    if form not in FORMATS:
        raise UserError(f"there is no format {form!r}{did_you_mean(form, FORMATS)} (known: {', '.join(FORMATS)})")
    if parts is not None and not parts.is_dir():
        raise UserError(f"--parts {parts}: there is no such folder; name the one with transformer/config.json in it.")
    require_new(Path(out))  # reading SOURCE takes a while, fetching it longer
    folder = _source(source, "SOURCE")
    from policy.convert.to_policy import to_policy  # torch

    to_policy(folder, Path(out), parts, tell=print)
    print(f"{out}: a policy folder; train it by policy.path={out}")
    return 0


def _back(policy: Path, like: str | None, words: Sequence[str]) -> int:
    if like is None or len(words) != 1:
        raise UserError("give both folders: python -m policy.convert --back POLICY --like SOURCE OUT")
    require_new(Path(words[0]))
    folder = _source(like, "--like")
    from policy.convert.back import to_checkpoint  # torch

    to_checkpoint(policy, folder, Path(words[0]), tell=print)
    print(f"{words[0]}: a checkpoint in the form of {like}")
    return 0


def _source(name: str, at: str) -> Path:
    if Path(name).is_dir():
        return Path(name)
    if is_hub_name(name):
        return fetched(name, at=at)
    raise UserError(f"{at}: there is no folder {name!r}, nor is it owner/name on the Hugging Face hub.")


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m policy.convert", description="A checkpoint into a policy folder, and back.")
    add = parser.add_argument
    add("words", nargs="+", metavar="WORD", help="blip3o-next SOURCE OUT; with --back: OUT")
    add("--parts", type=Path, metavar="FOLDER", help="with PART/config.json of other sizes than the published model's")
    add("--back", type=Path, metavar="POLICY", help="write this policy folder in the form of the checkpoint --like")
    add("--like", metavar="SOURCE", help="the checkpoint that POLICY was converted from")
    return parser


if __name__ == "__main__":
    sys.exit(main())
