"""The story of a rank other than the first: meet, build the same parts, do its share of what rank 0 asks for, end.

It reads no configuration and no prompts, writes no file and shows nothing: rank 0 sends what it needs to know.
"""

from __future__ import annotations

import logging
import signal

import torch
from transformers.utils.logging import disable_progress_bar

from rl.build import load_policy, shared_painter, start_trainers
from rl.config.schema import Config
from rl.process.interrupt import SIGNALS, Interrupt
from rl.process.ranks import Place
from rl.ranks.lead import cannot_go_on
from rl.trainer.team import CONFIG, Team, meet, wait_for, watched
from rl.types import RunFailure, UserError


def follow(place: Place, interrupt: Interrupt) -> int:
    """Returns the exit code; it is rank 0 that tells how the run went."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # rank 0 hears them and decides
    logging.disable(logging.WARNING)  # it warns of the same
    disable_progress_bar()
    store = meet(place)
    watch = watched(place, lambda sentence: interrupt.end(sentence and cannot_go_on(sentence), 3))
    try:
        if config := wait_for(store, CONFIG):
            _take_part(Team(place, store, watch), Config.model_validate_json(config))
    except (UserError, RuntimeError, MemoryError) as error:
        if watch.explains():
            watch.wait()
            return 0
        watch.report(str(error) if isinstance(error, (UserError, RunFailure)) else f"{type(error).__name__}: {error}")
        raise
    finally:
        watch.stop()
    return 0


def _take_part(team: Team, config: Config) -> None:
    torch.manual_seed(config.run.seed)
    policy = load_policy(config)
    trainers = start_trainers(config, policy, team)
    team.follow(trainers.duties() | shared_painter(config, policy, team, trainers).duties())
