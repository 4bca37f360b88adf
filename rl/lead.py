"""What rank 0 does for the others: it tells them the configuration, and that the run is over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from rl.config.schema import Config
from rl.process.interrupt import Interrupt
from rl.process.ranks import OtherRanks, Place
from rl.trainer.team import CONFIG, Team, meet, watched
from rl.types import RunFailure


@contextmanager
def leading(config: Config, place: Place, others: OtherRanks | None, interrupt: Interrupt) -> Iterator[Team]:
    """The ranks of a run, together; leaving sends the others home. One alone is a team as well.

    Raises: RunFailure naming the rank that is gone, where that is why something inside failed.
    """
    if place.world == 1:
        yield Team(place)
        return
    store = meet(place, others)
    watch = watched(place, store, lambda sentence: interrupt.end(f"error: the run cannot go on: {sentence}", 3), others)
    interrupt.closing.append(watch.over)
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
