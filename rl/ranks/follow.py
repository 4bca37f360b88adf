"""The story of a rank other than the first: meet, build the same parts, do its share of what rank 0 asks for, end.

It reads no configuration and no prompts and shows nothing: rank 0 sends what it needs to know, and tells what ended it.
"""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from functools import partial
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from rl.build import load_policy, shared_painter, start_trainers
from rl.config.schema import Config
from rl.process.interrupt import FAILED, SIGNALS, Interrupt
from rl.process.ranks import Place
from rl.ranks.lead import cannot_go_on
from rl.run_folder.checkpoint import way_on
from rl.trainer.team import CONFIG, Team, meet, wait_for, watched
from rl.types import RunFailure, UserError

_FAILURES = (
    UserError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def follow(place: Place, interrupt: Interrupt) -> int:
    """Returns the exit code; it is rank 0 that tells how the run went."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # rank 0 hears them and decides
    logging.disable(logging.WARNING)  # it warns of the same
    disable_progress_bar()
    store = meet(place)
    watch = watched(place, lambda sentence: interrupt.end(sentence and cannot_go_on(sentence), FAILED))
    folder: Path | None = None
    try:
        if told := wait_for(store, CONFIG):
            config = Config.model_validate_json(told)
            folder = Path(str(config.run.folder))
            watch.way_on = partial(way_on, folder)
            _take_part(Team(place, store, watch), config)
    except _FAILURES as error:
        if not watch.explains():
            watch.report(_last_words(error, folder, place))
        watch.wait()
        return FAILED if watch.found else 0
    finally:
        watch.stop()
    return 0


def _last_words(error: Exception, folder: Path | None, place: Place) -> str:
    """One sentence. Where nobody has foreseen it, the way to it is kept in the run's folder."""
    if isinstance(error, (UserError, RunFailure)):
        return str(error)
    words, lines = f"{type(error).__name__}: {error}".splitlines()[0], traceback.format_exc()
    if folder is None or not folder.is_dir():  # on a machine of its own
        sys.stderr.write(lines)
        return words
    file = folder / f"rank-{place.rank}.txt"
    file.write_text(lines, encoding="utf-8")
    return f"{words} (the traceback is in {file})"


def _take_part(team: Team, config: Config) -> None:
    torch.manual_seed(config.run.seed)
    policy = load_policy(config)
    trainers = start_trainers(config, policy, team)
    team.follow(trainers.duties() | shared_painter(config, policy, team, trainers).duties())
