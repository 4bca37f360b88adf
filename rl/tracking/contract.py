"""What a run tells the person who watches it, and the names that have a place of their own there.

Those are ``reward/<name>``, ``score``, ``kl``, ``entropy``, ``mismatch``, ``zero_std_fraction``, ``failed_fraction``,
``loss``, ``grad_norm``, ``lr``, ``guard/<name>``, ``learns/<network>``, ``groups/kept`` and ``groups/sampled``, and
``images`` (pictures of this step, for images per second). Everything else is logged but not shown. Steps are numbered
from 0 here and shown counted from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rl.run_folder.records import Alarm
from rl.run_folder.usage import TRAINER, TRAINER_RESTARTS, UsageRow

REWARD_PREFIX, FAILED_PREFIX, LEARNS_PREFIX, GUARD_PREFIX = "reward/", "failed/", "learns/", "guard/"
SAMPLED, KEPT = "groups/sampled", "groups/kept"
"""Of a step that leaves groups without signal out: all of them, and those that are learnt from."""
NUMERICS, AGE = "mismatch_numerics", "mismatch_age"
"""Of a step that older weights have sampled: what sampler and painter, with the same weights, differ by, and what the
weights that learn differ by beyond that. ``mismatch`` is both together."""
ZERO_STD, ANSWER = "zero_std_fraction", "answer"
"""Share of groups without signal; what stands before the figures of answers where a step holds pictures too."""
WORKERS_PREFIX = "cluster/"
WORKER_NAMES = {"sample": "samplers", "paint": "painters", TRAINER: "trainer"}
_QUEUES = {"sample": "to sample", "paint": "to paint", "score": "to score"}
STAGES = {  # of a step, as people say them
    "read": "reading examples",
    "encode": "encoding pictures",
    "sample": "sampling",
    "forward": "computing log-probs",
    "paint": "painting",
    "guards": "looking at the pictures",
    "score": "scoring",
    "update": "updating",
    "decoder": "training the decoder",
    "sync": "sending weights to the sampler",
    "evaluate": "evaluating",
    "save": "saving a checkpoint",
}
HEALTH = ("kl", "entropy", "mismatch", ZERO_STD, "failed_fraction", "loss", "grad_norm", "lr")


def who_learnt(metrics: Mapping[str, float]) -> str | None:
    """``decoder learnt``, in a step in which another network did not."""
    told = {name: value for name, value in metrics.items() if name.startswith(LEARNS_PREFIX)}
    learnt = [name.removeprefix(LEARNS_PREFIX) for name, value in told.items() if value]
    return f"{' and '.join(learnt)} learnt" if len(learnt) < len(told) else None


def groups_kept(metrics: Mapping[str, float]) -> str | None:
    """``32 of 61 groups``, where those without signal are left out."""
    if SAMPLED not in metrics or KEPT not in metrics:
        return None
    return f"{metrics[KEPT]:.0f} of {metrics[SAMPLED]:.0f} groups"


def worker_numbers(row: UsageRow) -> dict[str, float]:
    """``cluster/...``, for trackers and consoles."""
    found = {f"busy/{role}": share for role, share in row.shares.items()}
    found |= {f"queue/{stage}": float(count) for stage, count in row.queued.items()}
    found["staleness"] = float(row.staleness)
    if row.publish_lag is not None:
        found["publish_lag"] = row.publish_lag
    found["restarts"] = float(row.counts.get("deaths", 0))
    if again := row.counts.get(TRAINER_RESTARTS, 0):
        found["trainer_restarts"] = float(again)
    found["second_leases"] = float(row.counts.get("second leases", 0))
    return {WORKERS_PREFIX + name: value for name, value in found.items()}


def workers_told(numbers: Mapping[str, float]) -> list[str]:
    """``samplers 31%, painters 88%, trainer 52% busy``, ``0 to sample, 12 to paint, 3 to score``, ..."""
    of = {name.removeprefix(WORKERS_PREFIX): value for name, value in numbers.items()}
    shares = [f"{told} {of[name]:.0%}" for role, told in WORKER_NAMES.items() if (name := f"busy/{role}") in of]
    queues = [f"{of[name]:.0f} {told}" for stage, told in _QUEUES.items() if (name := f"queue/{stage}") in of]
    facts = [f"{', '.join(shares)} busy"] if shares else []
    facts += [", ".join(queues)] if queues else []
    facts += [f"staleness {of['staleness']:.0f}"] if "staleness" in of else []
    facts += [f"publish lag {of['publish_lag']:.1f} s"] if "publish_lag" in of else []
    facts += [f"{of['restarts']:.0f} restarted"] if of.get("restarts") else []
    facts += [f"trainer restarted {of['trainer_restarts']:.0f} times"] if "trainer_restarts" in of else []
    return facts


class Console:
    """Shows nothing at all, not even alarms: those are in metrics.jsonl."""

    def step(
        self, step: int, metrics: Mapping[str, float], seconds: Mapping[str, float], alarms: Sequence[Alarm]
    ) -> None:
        """After each step."""

    def workers(self, numbers: Mapping[str, float]) -> None:
        """Before a step's numbers, of a run on a cluster: ``cluster/...``."""

    def message(self, text: str) -> None:
        """A sentence that stays visible."""

    def starting(self, what: str) -> None:
        """Before the first step: what is loaded or started now."""

    def stage(self, name: str) -> None:
        """What a step does now: ``painting``."""

    def advance(self, done: int, total: int, unit: str) -> None:
        """How far the stage is: 64 of 256 ``pictures``. Comes up to thousands of times a stage."""

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        """How far something long of many stages is, from 0 to ``total``."""

    def close(self) -> None:
        """At the end of the run."""
