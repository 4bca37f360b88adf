"""The memory that the published recipes' headers name is what the estimate says of the published shapes."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from policy.convert import to_policy
from policy.convert.tensor_file import StoredTensor, write_tensor_file
from rl.config.load import load
from rl.preflight.memory.estimate import MemoryEstimate
from rl.preflight.memory.planning import memory_of
from rl.preflight.prompts import check_data
from tests.policy.convert.test_published_model import sparse_checkpoint

FOLDER = Path(__file__).parents[2] / "examples" / "blip3o_next"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its policy folder, with holes in place of the weights."""
    folder = tmp_path_factory.mktemp("published")
    enough = shutil.disk_usage(folder)._replace(free=10**12)

    def write(file: Path, tensors: Mapping[str, StoredTensor]) -> None:
        write_tensor_file(file, tensors)
        os.truncate(file, file.stat().st_size + sum(one.size for one in tensors.values()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_policy, "write_tensor_file", write)
        patch.setattr(StoredTensor, "blocks", lambda _: iter([b""]))
        patch.setattr("shutil.disk_usage", lambda _: enough)
        to_policy.to_policy(sparse_checkpoint(folder / "sft", head=True), folder / "policy", tell=lambda _: None)
    yield folder / "policy"
    shutil.rmtree(folder)


def expected(policy: Path, name: str, *settings: str) -> MemoryEstimate:
    config = load(FOLDER / f"{name}.yaml", [f"policy.path={policy}", *settings])
    train_prompts, eval_prompts = check_data(config)
    return memory_of(config, [*train_prompts, *eval_prompts], "cuda")


def header(name: str) -> str:
    """Its comment on one line."""
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def without_sampler(found: MemoryEstimate) -> int:
    """Of a rank that does not sample."""
    sampler = sum(taken for name, taken in found.held.items() if name.startswith("sampler's"))
    return max(found.of(phase) for phase in found.phases if phase != "sample") - sampler


@pytest.mark.parametrize("name", ["geneval", "ocr"])
def test_the_recipes_of_eight_gpus_name_what_is_estimated(name: str, published: Path) -> None:
    found = expected(published, name)
    first, others = (f"{taken / 1e9:.0f} GB" for taken in (found.peak, without_sampler(found)))
    assert f"{first} on the first GPU and {others} on the others" in header(name)
    assert found.largest == "update"


def test_the_recipe_with_adapters_names_what_is_estimated(published: Path) -> None:
    found = expected(published, "lora", "train.micro_batch=4")
    assert f"{found.peak / 1e9:.0f} GB with train.micro_batch=4, most of it in painting" in header("lora")
    assert found.largest == "paint"


def test_the_page_names_what_update_and_painting_add(published: Path) -> None:
    added = {phase: sum(items.values()) / 1e9 for phase, items in expected(published, "geneval").phases.items()}
    page = re.sub(r"\s+", " ", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert f"the update of four samples at a time ({added['update']:.0f} GB beside all that stays)" in page
    assert f"painting eight pictures at a time is near it ({added['paint']:.0f} GB)" in page
