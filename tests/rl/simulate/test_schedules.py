"""Small runs with faults of every kind: nothing is lost or doubled, and an account that would notice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rl.scheduler.events import Learn
from rl.scheduler.ledger import Ledger
from rl.scheduler.work import GroupKey, Lease, WorkPlan
from rl.simulate import __main__ as command
from rl.simulate.audit import Audit
from rl.simulate.costs import H100, read_costs
from rl.simulate.faults import Fate
from rl.simulate.schedules import Tally, try_schedules
from rl.simulate.workload import Workload

CONFIG = Path(__file__).parents[3] / "examples" / "geneval.yaml"
WORK = Workload(8, 4, 1, 30, read_costs(H100))


@pytest.fixture(scope="module")
def tally() -> Tally:
    return try_schedules(WORK, 300, seed=0)


def test_nothing_is_lost_or_doubled_whatever_happens(tally: Tally) -> None:
    assert (tally.schedules, tally.lost, tally.doubled, tally.wrong) == (300, 0, 0, 0)
    assert tally.finished + len(tally.stops) == 300
    assert tally.finished > 280
    known = ("the trainer was lost 5 times", "have failed; the first: ")
    assert all(any(words in stop for words in known) for stop in tally.stops)


def test_every_fault_strikes_and_what_it_struck_is_made_all_the_same(tally: Tally) -> None:
    assert set(tally.struck) == set(Fate) - {Fate.FINE}
    assert set(tally.recovery) == set(Fate) - {Fate.FINE, Fate.REPEATED}  # nothing has to be made again for that one
    assert all(min(seconds) >= 0 for seconds in tally.recovery.values())
    assert max(tally.recovery[Fate.SILENCE]) > 600  # its deadline


def test_schedules_repeat_themselves() -> None:
    assert try_schedules(WORK, 5, seed=3).as_json() == try_schedules(WORK, 5, seed=3).as_json()
    assert try_schedules(WORK, 5, seed=3).as_json() != try_schedules(WORK, 5, seed=4).as_json()


def test_a_scheduler_that_forgets_a_group_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    close = Ledger.close
    monkeypatch.setattr(Ledger, "close", lambda ledger, step: (close(ledger, step)[0][1:], {}))
    tally = try_schedules(WORK, 10, seed=0)
    assert tally.lost > 0
    assert not tally.holds


def test_work_with_weights_that_are_not_there_is_found_out() -> None:
    audit, lease = Audit(WorkPlan(6, 6, staleness=1)), Lease(1, "sample", "a", (GroupKey(2, 0),), 1, since=0.0)
    audit.assigned(lease)
    assert audit.wrong == 1  # not published yet
    audit.published(Learn(1, 0, 0, ()), 1.0)
    audit.assigned(lease)
    assert audit.wrong == 1
    audit.dropped(1)
    audit.assigned(lease)
    assert audit.wrong == 2


def test_what_the_account_counts() -> None:
    audit, keys = Audit(WorkPlan(3, 2)), (GroupKey(0, 0), GroupKey(0, 1))
    audit.ordered(Learn(1, 0, 0, keys))
    assert (audit.lost, audit.doubled, audit.wrong) == (0, 0, 0)
    audit.ordered(Learn(2, 0, 0, keys))  # again, and no replay
    assert audit.doubled == 1
    audit.ordered(Learn(3, 1, 0, (GroupKey(1, 0), GroupKey(1, 0))))  # one twice, one not at all, of other weights
    assert (audit.lost, audit.doubled, audit.wrong) == (1, 2, 1)
    audit.ended()
    assert audit.lost == 1 + 2  # the third step


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(CONFIG), "--schedules", "40", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "40 schedules with " in said
    assert " faults: 0 groups lost, 0 doubled, 0 made with other weights than the plan says." in said
    assert "worker never answers" in said
    record = json.loads((tmp_path / "schedules.json").read_text())
    assert (record["schedules"], record["lost"], record["doubled"]) == (40, 0, 0)
    assert record["faults"]["worker dies"]["times"] > 0


def test_a_loss_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "try_schedules", lambda work, schedules, seed: Tally(schedules, schedules, lost=1))
    assert command.main([str(CONFIG), "--schedules", "1", "--out", str(tmp_path)]) == 3


def test_schedules_or_workers(capsys: pytest.CaptureFixture[str]) -> None:
    for given, told in (
        (["--schedules", "5", "--workers", "8"], "argument --workers: not allowed with argument --schedules"),
        (["--schedules", "0"], "'0' is not a whole number from 1 to 1000000"),
    ):
        with pytest.raises(SystemExit) as caught:
            command.main([str(CONFIG), *given])
        assert caught.value.code == 2
        assert told in capsys.readouterr().err


@pytest.mark.slow
def test_ten_thousand_other_schedules() -> None:
    tally = try_schedules(WORK, 10_000, seed=1)
    assert (tally.schedules, tally.lost, tally.doubled, tally.wrong) == (10_000, 0, 0, 0)
    assert tally.struck.total() > 100_000
