"""Names to components: built in, installed, or the user's own."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from rl import registry
from rl.types import UserError


def test_built_in() -> None:
    from rl.data.prompts import jsonl

    assert registry.resolve("prompts", "jsonl") is jsonl
    assert registry.names("kls") == ["k1", "k2", "k3"]


def test_every_built_in_is_where_the_table_says() -> None:
    """The source is read, not imported: this holds on a machine without vLLM or PaddleOCR."""
    root = Path(registry.__file__).parent.parent
    for kind, table in registry.BUILT_IN.items():
        for name, target in table.items():
            module, _, attribute = target.partition(":")
            base = root.joinpath(*module.split("."))
            source = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"
            assert source.is_file(), (kind, name, target)
            text = source.read_text()
            assert f"def {attribute}(" in text or f"class {attribute}" in text, (kind, name, target)


def test_unknown_name() -> None:
    with pytest.raises(UserError) as caught:
        registry.resolve("losses", "dpao")
    assert str(caught.value) == (
        "there is no 'dpao' among the losses, did you mean 'dapo'? "
        "(known: grpo, dapo, gspo, cispo, sapo, reinforce; your own: module:attr)"
    )
    with pytest.raises(UserError, match="is not of the form module:attr"):
        registry.locate("losses", "my:own:loss")


@pytest.mark.parametrize(
    ("use", "way"),
    [
        ("hpsv3", "HPSv3 is a regression head on Qwen2-VL-7B, no chat model that vlm_judge could ask: "),
        ("HPS_v3", "HPSv3 is a regression head on Qwen2-VL-7B, no chat model that vlm_judge could ask: "),
        ("unified-reward", "it is a configuration of vlm_judge, `extends: configs/rewards/unified_reward.yaml`"),
        ("geneval2", "vlm_judge asks its questions, `extends: configs/rewards/geneval2_judge.yaml`"),
    ],
)
def test_a_reward_that_people_look_for_elsewhere(use: str, way: str) -> None:
    with pytest.raises(UserError) as caught:
        registry.locate("rewards", use)
    assert str(caught.value).startswith(f"there is no {use!r} among the rewards; {way}")
    if "`extends: " in way:
        assert (registry.SHIPPED.parents[1] / way.split("`extends: ")[1].rstrip("`")).is_file()


def test_own_module_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    Path("own_reward_for_test.py").write_text("def bright(samples): return [1.0 for _ in samples]\n")
    assert registry.resolve("rewards", "own_reward_for_test:bright")([1, 2]) == [1.0, 1.0]
    with pytest.raises(UserError, match="has no 'brigth', did you mean 'bright'?"):
        registry.resolve("rewards", "own_reward_for_test:brigth")
    with pytest.raises(UserError, match="there is no module 'nowhere_at_all' for 'nowhere_at_all:x'"):
        registry.locate("rewards", "nowhere_at_all:x")


def test_a_missing_dependency_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needy_for_test.py").write_text("import not_installed_anywhere\n")
    with pytest.raises(UserError, match="needs the module 'not_installed_anywhere', which is not installed"):
        registry.resolve("rewards", "needy_for_test:x")


def test_entry_points_come_after_the_built_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(group: str) -> list[Any]:
        pairs = (
            [("pretty", "rl.data.prompts:text"), ("ocr", "rl.data.prompts:text")] if group == "easel_rl.rewards" else []
        )
        return [EntryPoint(name, value, group) for name, value in pairs]

    monkeypatch.setattr(registry, "entry_points", fake)
    assert registry.names("rewards") == [*registry.BUILT_IN["rewards"], "pretty"]
    assert registry.locate("rewards", "pretty") == "rl.data.prompts:text"
    assert registry.locate("rewards", "ocr") == "rewards.library.ocr.reward:Ocr"


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, rl.config.load, rl.registry, rl.types, rl.data.stream, rl.dry_run, rl.launch, rl.start\n"
        "print(sorted({'torch', 'vllm', 'deepspeed', 'ray', 'paddle', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_prompt_file_in_the_place_of_its_reader() -> None:
    with pytest.raises(UserError) as caught:
        registry.locate("prompts", "mine/p.jsonl")
    assert str(caught.value) == (
        "'mine/p.jsonl' is a file, not one of the prompts: write {use: jsonl, options: {path: mine/p.jsonl}}"
    )
