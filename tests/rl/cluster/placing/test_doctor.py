"""``python -m rl.doctor --cluster CONFIG``: what the cluster offers and whether the run fits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from rl.cluster import places
from rl.doctor import cluster
from rl.doctor.__main__ import main
from tests.rl.cluster.placing.test_places import FakeRay, config
from tests.rl.run_case import ROOT


def test_what_it_offers_beside_what_the_run_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(CPU=8.0)
    nodes = [{"Alive": True}, {"Alive": False}, {"Alive": True}]
    monkeypatch.setattr(places, "ray", ray)
    told = SimpleNamespace(cluster_resources=ray.cluster_resources, nodes=lambda: nodes, __version__="2.60.0")
    monkeypatch.setattr(cluster, "ray", told)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = {check.name: check.found for check in cluster.describe(config("cluster.painters=3"))}
    assert found == {
        "machines": "2, Ray 2.60.0",
        "workers": "1 x sampler, 3 x painter, 2 threads each",
        "CPUs": "4 of 8",
        "GPUs": "0 of 0",
        "room for pictures": "1.0 GB, half of it for the steps under way",
    }


def test_without_a_file_it_says_what_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cluster"]) == 2
    assert capsys.readouterr().err.strip() == (
        "error: --cluster: needs the file of a run, whose workers it counts; write, for example, --cluster "
        "examples/geneval.yaml"
    )


def test_a_run_that_does_not_fit_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (run := tmp_path / "run.yaml").write_text(
        f"extends: [{ROOT}/examples/geneval.yaml]\nloop: {{use: ahead, staleness: 2}}\n"
    )
    ray = FakeRay(CPU=1.0)
    ray.connected = True
    monkeypatch.setattr(places, "ray", ray)
    [check] = cluster.cluster_checks(str(run))
    assert check.status == "missing"
    assert "need 2 CPUs and the cluster has 1" in check.fix
