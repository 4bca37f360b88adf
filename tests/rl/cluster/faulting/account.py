"""What came of a run with faults: an account that knows nothing of the scheduler's own, and seconds to recovery."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import median

from rl.cluster.ahead import Ahead
from rl.scheduler.events import Action, Answered, Assign, DropWeights, Event, Learn, Published
from rl.scheduler.scheduler import Scheduler
from rl.scheduler.work import GroupKey
from rl.simulate.audit import Audit
from tests.rl.cluster.faulting.book import Address, Fault, Struck


class Account:
    """Hears what a scheduler is told and what it orders."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.audit = Audit(scheduler.plan)
        self.answered: dict[tuple[str, GroupKey], float] = {}
        """When a result of a group in a stage was first there."""
        self._plain = scheduler.on
        scheduler.on = self.on  # type: ignore[method-assign]

    def on(self, event: Event) -> list[Action]:
        if isinstance(event, Answered) and event.version == event.lease.version:
            for key in event.lease.keys:
                self.answered.setdefault((event.lease.stage, key), event.at)
        elif isinstance(event, Published):
            self.audit.published(event.order, event.at)
        actions = self._plain(event)
        for action in actions:
            match action:
                case Assign(lease):
                    self.audit.assigned(lease)
                case Learn():
                    self.audit.ordered(action)
                case DropWeights(version):
                    self.audit.dropped(version)
        return actions

    def recovery(self, struck: Iterable[Struck], keys: Mapping[Address, GroupKey]) -> dict[Fault, list[float]]:
        """Seconds from each fault to the result of its group, by kind."""
        found: dict[Fault, list[float]] = defaultdict(list)
        for one in struck:
            at = self.answered[one.address[0], keys[one.address]]
            found[one.fault].append(max(0.0, at - one.at))
        return found


class AccountedAhead(Ahead):
    """A run's own collector, with an account."""

    account: Account

    def _scheduler(self, first: int, last: int) -> Scheduler:
        scheduler = super()._scheduler(first, last)
        self.account = Account(scheduler)
        return scheduler


def table(recovery: Mapping[Fault, list[float]]) -> str:
    rows = []
    for fault, seconds in sorted(recovery.items()):
        ends = (median(seconds), max(seconds))
        shown = ("-", "-") if fault is Fault.TWICE else tuple(f"{one:.2f}" for one in ends)  # nothing to recover from
        rows.append(f"{fault.value:42} {len(seconds):5} {shown[0]:>10} {shown[1]:>10}")
    return "\n".join([f"{'fault':42} {'times':>5} {'median, s':>10} {'worst, s':>10}", *rows])
