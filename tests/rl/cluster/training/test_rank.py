"""A rank in one process: what it loads, and that it is seen to get on whatever it does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from threading import Event

import pytest

from policy.folder import read_policy_config
from rl.cluster.training import growth
from rl.cluster.training import rank as rank_module
from rl.cluster.training.growth import counted_while_growing
from rl.cluster.training.messages import TrainerStart
from rl.cluster.training.rank import Beat, TrainerRank
from rl.process.ranks import Place
from tests.rl.cluster.training.lessons import a_config, lesson
from tests.rl.run_case import ROOT, environment


@pytest.fixture
def bare_policy(tiny_policy: Path, tmp_path: Path) -> Path:
    """A policy of which nobody can load what a trainer on Ray does not need."""
    folder = tmp_path / "bare"
    shutil.copytree(tiny_policy, folder)
    for part in ("transformer", "vae", "tokenizer", "image_tokenizer"):
        for file in (folder / part).iterdir():
            if file.suffix == ".safetensors" or part == "tokenizer":
                file.write_text("nothing to load")
    return folder


@pytest.fixture
def beat() -> Beat:
    return Beat()


@pytest.fixture
def rank(bare_policy: Path, beat: Beat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainerRank]:
    monkeypatch.chdir(tmp_path)
    start = TrainerStart(a_config(bare_policy, tmp_path / "run"), str(tmp_path), f"test-{tmp_path.name}", 1 << 26)
    found = TrainerRank(start, Place(), beat)
    yield found
    found.discard()


def test_a_rank_loads_no_decoder_and_no_tokenizer(rank: TrainerRank, bare_policy: Path) -> None:
    """Not even the code of one: its anchor looks through the connector alone."""
    learnt = rank.learn(lesson(read_policy_config(bare_policy)[0], 0))
    assert learnt.version == 1 and "anchor" in learnt.metrics
    asked = "import sys, rl.cluster.training.rank; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], cwd=ROOT, env=environment(), check=False).returncode == 0


def test_publication_and_export_are_seen_to_get_on_tensor_by_tensor(
    rank: TrainerRank, beat: Beat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_module, "counted_while_growing", lambda *_: nullcontext())  # by the clock, not by tensors
    before = beat.alone
    rank.publish(0, {})
    published = beat.alone - before
    assert published > 10
    (tmp_path / "run").mkdir()
    rank.export("bare", str(tmp_path / "run"))
    assert beat.alone - before == 2 * published
    assert (tmp_path / "run" / "policy" / "ar" / "model.safetensors").is_file()


def test_a_folder_that_is_written_in_one_call_counts_while_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = iter([0, 10, 10, 30])
    looks: list[int] = []
    enough = Event()

    def size(folder: Path) -> int:
        looks.append(next(sizes, 30))
        if len(looks) == 6:
            enough.set()
        return looks[-1]

    monkeypatch.setattr(growth, "_unfinished_bytes", size)
    counted: list[int] = []
    with counted_while_growing(tmp_path, lambda: counted.append(looks[-1]), look_s=0.01):
        assert enough.wait(30)
    assert counted == [10, 30]


def test_only_what_is_unfinished_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("grows all the time")
    assert growth._unfinished_bytes(tmp_path) == 0
    (tmp_path / ".tmp-policy" / "ar").mkdir(parents=True)
    (tmp_path / ".tmp-policy" / "ar" / "model.safetensors").write_text("1234")
    assert growth._unfinished_bytes(tmp_path) == 4
