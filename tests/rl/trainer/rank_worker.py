"""The ranks of ``test_trainer_ranks``: rank 0 takes two updates and writes down what it saw, the other one follows.

    python rank_worker.py JOBS OUT

as rank 0, which starts rank 1. JOBS is JSON: a list of options for ``make_trainer``; ``everything`` among them stands
for the objective of that name, and ``kinds`` for a last update with answers in words beside.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rl.learn import TokenTrainer
from rl.process.ranks import OtherRanks, take_place
from rl.trainer.team import Team, meet
from tests.rl.trainer.trainer_case import everything, make_answers, make_batch, make_trainer, weights


class Partner(OtherRanks):
    """Rank 1, started with this program."""

    _program = ()


def lead(trainer: TokenTrainer, folder: Path, *, slow: bool, kinds: bool) -> dict[str, Any]:
    batch = make_batch(trainer, size=7)  # odd: the ranks' shares differ in length
    metrics = [trainer.update(batch) for _ in range(2)]
    folder.mkdir()
    trainer.save(folder)
    if kinds:
        both = trainer.update(batch, answer=replace(make_answers(trainer), weight=0.5))
        trainer.team.over()
        return {"both": both, "weights": weights(trainer)}
    found = {"old_logprobs_BT": batch.old_logprobs_BT, "metrics": metrics, "third": trainer.update(batch)}
    found["weights"] = weights(trainer)
    if slow:
        found["slow"] = trainer.forward(batch, copy="ema").logprobs_BT
    trainer.load(folder)
    found["resumed_third"] = trainer.update(batch)
    trainer.team.over()
    return found


def main(jobs: str, out: Path) -> None:
    place, _ = take_place(os.environ)
    partner = Partner(2, sys.argv) if place.first else None
    place = partner.place if partner else place
    team, results = Team(place, meet(place, partner)), []
    for number, options in enumerate(json.loads(jobs)):
        if options.pop("everything", False):
            options["objective"], options["copies"] = everything()
        kinds = options.pop("kinds", False)
        trainer = make_trainer(**options, team=team)
        if place.first:
            results.append(lead(trainer, out.with_name(f"state-{number}"), slow="copies" in options, kinds=kinds))
        else:
            team.follow(trainer.duties())
    if partner:
        torch.save(results, out)
        partner.wait()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
