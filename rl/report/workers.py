"""What a page says of a cluster's workers: how busy they were, what waited for them, three steps drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rl.report.chart import Chart, line_chart
from rl.report.gantt import Gantt, gantt
from rl.run_folder.usage import UsageRow, read_usage
from rl.tracking.contract import WORKER_NAMES

_DRAWN = 3  # steps


@dataclass(frozen=True)
class ShownWorkers:
    """``shares``: (role, how many, part of the time in which they had something to do)."""

    shares: Sequence[tuple[str, int, float]]
    facts: str
    charts: Sequence[Chart]
    steps: Sequence[int]
    """Those that ``gantt`` shows, counted from 1."""
    gantt: Gantt


def shown_workers(run_folder: Path) -> ShownWorkers | None:
    """``None`` for a run without a cluster. Raises: UserError."""
    rows = read_usage(run_folder)
    if not rows:
        return None
    drawn = _middle(rows)
    counts = {role: rows[-1].workers.get(role, 1) for role in rows[-1].shares}
    shares = [(WORKER_NAMES[role], count, _share(rows, role)) for role, count in counts.items()]
    calls = [call for row in drawn for call in row.calls]
    around = [call for row in rows if row not in drawn for call in row.calls]
    return ShownWorkers(
        shares,
        _facts(rows),
        [chart for chart in _charts(rows) if chart.curves],
        [row.step + 1 for row in drawn],
        gantt(calls, first_step=1, around=around),
    )


def _share(rows: Sequence[UsageRow], role: str) -> float:
    """Of all the time."""
    whole = sum(row.seconds for row in rows)
    return sum(row.shares.get(role, 0.0) * row.seconds for row in rows) / max(whole, 1e-9)


def _middle(rows: Sequence[UsageRow]) -> Sequence[UsageRow]:
    """Three steps in a row of one session, as near to the middle of the run as there are; else the last step."""
    runs = [rows[at : at + _DRAWN] for at in range(len(rows) - _DRAWN + 1)]
    whole = [steps for steps in runs if steps[-1].step - steps[0].step == _DRAWN - 1 and _one_session(steps)]
    middle = (rows[0].step + rows[-1].step) / 2
    return min(whole, key=lambda steps: abs(steps[1].step - middle), default=rows[-1:])


def _one_session(rows: Sequence[UsageRow]) -> bool:
    """Counts begin anew with each start of a run."""
    leases = [row.counts.get("leases", 0) for row in rows]
    return leases == sorted(leases)


def _facts(rows: Sequence[UsageRow]) -> str:
    ages = sorted({row.staleness for row in rows})
    lags = [row.publish_lag for row in rows if row.publish_lag is not None]
    told = [f"staleness {ages[0]}" if len(ages) == 1 else f"staleness {ages[0]} to {ages[-1]}"]
    told += [f"publish lag {sum(lags) / len(lags):.2g} s on average, {max(lags):.2g} s at most"] if lags else []
    restarts, second = _events(rows, "deaths"), _events(rows, "second leases")
    told.append(f"{restarts} worker{'' if restarts == 1 else 's'} restarted")
    told += [f"{second} calls given to a second worker"] if second else []
    return ", ".join(told)


def _events(rows: Sequence[UsageRow], name: str) -> int:
    """Over all sessions."""
    found, before = 0, 0
    for row in rows:
        now = row.counts.get(name, 0)
        found, before = found + (now - before if now >= before else now), now
    return found


def _charts(rows: Sequence[UsageRow]) -> Sequence[Chart]:
    def lines(of: Sequence[Mapping[str, float]], names: Mapping[str, str]) -> dict[str, list[tuple[float, float]]]:
        return {
            told: [(row.step + 1.0, found[name]) for row, found in zip(rows, of, strict=True) if name in found]
            for name, told in names.items()
        }

    queues = {"sample": "to sample", "paint": "to paint", "score": "to score"}
    restarts = {"": [(row.step + 1.0, float(row.counts.get("deaths", 0))) for row in rows]}
    lags = [{} if row.publish_lag is None else {"lag": row.publish_lag} for row in rows]
    return (
        line_chart("Share of the time in which workers were busy", lines([row.shares for row in rows], WORKER_NAMES)),
        line_chart("Groups that wait or are at work", lines([row.queued for row in rows], queues)),
        line_chart("Staleness (steps)", {"": [(row.step + 1.0, float(row.staleness)) for row in rows]}),
        line_chart("Publish lag (seconds)", lines(lags, {"lag": "lag"})),
        line_chart("Workers restarted since the start or a resume", restarts if _events(rows, "deaths") else {}),
    )
