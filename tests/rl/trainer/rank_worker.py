"""One rank of ``test_trainer_ranks``: two updates, then the metrics and the weights into a file.

    python rank_worker.py JOBS OUT

with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set. JOBS is JSON: a list of options for ``make_trainer``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from tests.rl.trainer.trainer_case import make_batch, make_trainer, weights


def main(jobs: str, out: Path) -> None:
    rank = os.environ["RANK"]
    results = []
    for number, options in enumerate(json.loads(jobs)):
        trainer = make_trainer(**options)
        batch = make_batch(trainer, size=7)  # odd: the ranks' slices differ in length
        metrics = [trainer.update(batch) for _ in range(2)]
        trainer.save(out.with_name(f"state-{number}"))
        third = trainer.update(batch)
        resumed = make_trainer(**options)
        resumed.load(out.with_name(f"state-{number}"))
        results.append(
            {
                "old_logprobs_BT": batch.old_logprobs_BT,
                "metrics": metrics,
                "third": third,
                "resumed_third": resumed.update(batch),
                "weights": weights(trainer),
            }
        )
    torch.save(results, out.with_name(f"{out.name}-{rank}"))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
