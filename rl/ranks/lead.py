"""What rank 0 does for the others: it tells them the configuration, and that the run is over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rl.config.schema import Config
from rl.process.interrupt import FAILED, Interrupt
from rl.process.ranks import OtherRanks, Place, tell_torchrun
from rl.run_folder.checkpoint import way_on
from rl.trainer.team import CONFIG, Team, meet, watched
from rl.types import RunFailure

_TORCHRUN_S = 2.0  # in which the watch finds what torchrun has found


def cannot_go_on(sentence: str) -> str:
    """The last words of a process that is not in the middle of its main thread."""
    return f"error: the run cannot go on: {sentence}"


@contextmanager
def leading(config: Config, place: Place, others: OtherRanks | None, interrupt: Interrupt) -> Iterator[Team]:
    """The ranks of a run, together; leaving sends the others home. One alone is a team as well.

    Raises: RunFailure naming the rank that is gone, where that is why something inside failed.
    """
    if place.world == 1:
        yield Team(place)
        return

    def end(sentence: str | None) -> None:
        tell_torchrun(place, sentence or "")
        interrupt.end(sentence and cannot_go_on(sentence), FAILED)

    def lost_rank() -> str | None:
        return cannot_go_on(watch.found) if watch.explains(_TORCHRUN_S) and watch.found else None

    store = meet(place, others)
    watch = watched(place, end, others)
    watch.way_on = partial(way_on, Path(str(config.run.folder)))
    interrupt.closing.append(watch.over)
    if place.by_torchrun:  # which ends all ranks as soon as one is gone
        interrupt.because = lost_rank
    try:
        store.set(CONFIG, json.dumps(config.model_dump(mode="json")))
        team = Team(place, store, watch)
        yield team
        team.over()
    except RuntimeError as error:
        if not isinstance(error, RunFailure) and watch.explains() and watch.found:
            raise RunFailure(watch.found) from error
        raise
    finally:
        watch.over()
        watch.stop()
        if others:
            others.wait()
