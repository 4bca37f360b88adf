"""PaddleOCR, imported: with a folder for its caches, on the device that is asked for."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from types import ModuleType

from rl.types import UserError

_CACHE_VARIABLE = "PADDLE_PDX_CACHE_HOME"


def cache_folder() -> Path:
    """PaddleX's own cache, or one in the temporary folder where the home folder can't be written; it is there.

    The environment variable that PaddleX reads when it is imported is set to it. Raises ``UserError`` if there is none.
    """
    given = os.environ.get(_CACHE_VARIABLE)
    private = Path(tempfile.gettempdir(), f"paddlex-{os.getuid()}")
    for folder in [Path(given).absolute()] if given else [_home() / ".paddlex", private]:
        if _usable(folder, private=folder is private):
            os.environ[_CACHE_VARIABLE] = str(folder)
            return folder
    where = f"{_CACHE_VARIABLE}={given}" if given else f"below HOME={_home()} or in {tempfile.gettempdir()}"
    raise UserError(
        f"ocr: PaddleOCR can't write its cache {where}; set {_CACHE_VARIABLE} to a folder that it can write"
    )


def _home() -> Path:
    """As the libraries find it; it need not exist. Without HOME and a name in the user database it stays ``~``."""
    return Path(os.path.expanduser("~"))


def _usable(folder: Path, *, private: bool = False) -> bool:
    """Whether files can be made there, the folder as well; a ``private`` one in a shared place must be one's own."""
    if not folder.is_absolute():
        return False
    try:
        folder.mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return not private or folder.stat().st_uid == os.getuid()
    except OSError:
        return False


def import_paddleocr(cache: Path, *, downloads: bool) -> ModuleType:
    """PaddleOCR. Unless it ``downloads`` models it works without a network, and is lighter.

    Paddle makes a folder below the home folder when it is imported; where that can't be, ``cache`` stands in for it.
    """
    if not downloads:
        os.environ["PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK"] = "True"  # read at import
    try:
        with _at_home(cache), nullcontext() if downloads else _without_modelscope():
            import_module("paddle")
            return import_module("paddleocr")
    except ImportError as error:
        raise UserError(f"ocr: PaddleOCR cannot be imported ({error}); `pip install paddleocr paddlepaddle`") from error


@contextmanager
def _at_home(cache: Path) -> Iterator[None]:
    home = os.environ.get("HOME")
    if not _usable(_home() / ".cache" / "paddle" / "dataset"):
        os.environ["HOME"] = str(cache)
    try:
        yield
    finally:
        os.environ.pop("HOME", None)
        os.environ |= {} if home is None else {"HOME": home}


@contextmanager
def _without_modelscope() -> Iterator[None]:
    """PaddleX imports ``modelscope`` to download models, and that imports torch; an empty module in its place
    saves 4 of 5 CPU-seconds and 270 of 460 MiB per worker."""
    if "modelscope" in sys.modules:
        yield
        return
    sys.modules["modelscope"] = ModuleType("modelscope")
    try:
        yield
    finally:
        del sys.modules["modelscope"]


def engine_options(device: str) -> dict[str, object]:
    """What PaddleOCR's constructors take. ``device``: ``auto`` is a GPU if paddlepaddle sees one.

    Raises ``UserError`` for another name, and for a GPU that paddlepaddle does not see.
    """
    wanted = re.fullmatch(r"(?:gpu|cuda)(:\d+)?", device)
    if not wanted and device not in ("auto", "cpu"):
        raise UserError(f"ocr.options.device is {device!r}: it must be 'auto', 'cpu', 'gpu' or 'gpu:0'")
    seen = 0 if device == "cpu" else _gpus()
    if wanted and int((wanted[1] or ":0")[1:]) >= seen:
        raise UserError(
            f"ocr.options.device is {device!r}, and paddlepaddle sees {seen} GPUs here; install paddlepaddle-gpu and "
            f"give the reward its share (`gpus`), or use 'cpu'"
        )
    if seen:
        return {"device": f"gpu{wanted[1] or ':0'}" if wanted else "gpu:0"}
    return {"device": "cpu", "enable_mkldnn": True, "cpu_threads": _threads()}


def _gpus() -> int:
    cuda = import_module("paddle").device
    return int(cuda.cuda.device_count()) if cuda.is_compiled_with_cuda() else 0


def _threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1
