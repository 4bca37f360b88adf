"""The ``picodet`` detector: PP-PicoDet (arXiv 2111.00902), or another detector exported by PaddleDetection.

Card. Boxes over the classes in the export's ``infer_cfg.yml``, no masks; non-maximum suppression is part of the model.
It runs on the paddlepaddle that ``ocr`` needs anyway, on the CPU. Blind to everything outside its classes and to small
objects; like YOLOX's its scores are not Mask2Former's, so set the reward's thresholds by hand. Licence: Apache-2.0.
Get it: the inference models of PaddleDetection's PicoDet page; ``folder`` names the one with ``model.pdmodel``,
``model.pdiparams`` and ``infer_cfg.yml``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from rewards.library.geneval.boxes import clipped
from rewards.library.geneval.classes import geneval_name
from rewards.library.geneval.contract import Detection
from rewards.requires import Requires
from rl.types import UserError

if TYPE_CHECKING:
    from paddle import inference

_FILES = ("model.pdmodel", "model.pdiparams", "infer_cfg.yml")


class PicoDet:
    """Closed-set detector on paddlepaddle. ``min_score``: detections at or below it are not reported; keep it under
    the thresholds of the reward. ``threads``: ``None`` is OMP_NUM_THREADS, or all cores."""

    requires = Requires(
        packages=("paddlepaddle", "opencv-contrib-python"),
        optional=True,
        note="the model folder is yours to name: geneval.options.detector_options.folder",
    )

    def __init__(self, folder: str, min_score: float = 0.05, threads: int | None = None) -> None:
        for name in _FILES:
            if not (Path(folder) / name).is_file():
                raise UserError(f"option `folder`: {folder} has no {name}; name a PaddleDetection inference model")
        names, self._side, self._mean_3, self._std_3 = _read(Path(folder) / "infer_cfg.yml")
        self._names = [geneval_name(name) for name in names]
        self.classes = frozenset(self._names)
        self._min_score = min_score
        self._predictor = _predictor(Path(folder), threads or int(os.environ.get("OMP_NUM_THREADS", "0")))

    def detect(self, pictures: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """N (H, W, 3) pictures of any sizes in; per picture its objects, best first."""
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: NDArray[np.uint8]) -> list[Detection]:
        height, width = picture.shape[:2]
        found = []
        for label, score, *corners in self._run(self._prepare(picture), height, width):
            box = clipped(tuple(corners), height, width) if score > self._min_score else None
            if box is not None:
                found.append(Detection(self._names[int(label)], float(score), box))
        return sorted(found, key=lambda detection: -detection.score)

    def _prepare(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(1, 3, S, S): squashed to the model's square, normalised."""
        square = cv2.resize(picture, (self._side, self._side), interpolation=cv2.INTER_CUBIC)
        pixels = (square.astype(np.float32) / 255 - self._mean_3) / self._std_3
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)

    def _run(self, pixels: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
        """(N, 6): class, score, x0, y0, x1, y1 in the picture's pixels."""
        scale = np.array([[self._side / height, self._side / width]], np.float32)
        given = {"image": pixels, "scale_factor": scale, "im_shape": np.full((1, 2), self._side, np.float32)}
        for name in self._predictor.get_input_names():
            self._predictor.get_input_handle(name).copy_from_cpu(given[name])
        self._predictor.run()
        found: NDArray[np.float32] = self._predictor.get_output_handle(
            self._predictor.get_output_names()[0]
        ).copy_to_cpu()
        return found if found.ndim == 2 and found.shape[1] == 6 else np.empty((0, 6), np.float32)  # none: (1, 1) of -1


def _read(file: Path) -> tuple[list[str], int, NDArray[np.float32], NDArray[np.float32]]:
    """Class names, side in pixels, mean and standard deviation of the colours. Raises ``UserError``."""
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
        steps = {step["type"]: step for step in settings["Preprocess"]}
        high, wide = steps["Resize"]["target_size"]
        mean, std = (np.array(steps["NormalizeImage"][key], np.float32) for key in ("mean", "std"))
        names = list(map(str, settings["label_list"]))
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"option `folder`: {file} is not PaddleDetection's ({type(error).__name__}: {error})"
        ) from error
    if high != wide or steps["Resize"].get("keep_ratio"):
        raise UserError(f"option `folder`: {file} wants {wide} x {high} or letterboxed pictures; only squares are read")
    return names, int(high), mean, std


def _predictor(folder: Path, threads: int) -> inference.Predictor:
    from paddle import inference

    config = inference.Config(str(folder / _FILES[0]), str(folder / _FILES[1]))
    config.disable_gpu()
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(threads or os.cpu_count() or 1)
    config.enable_memory_optim()
    try:
        return inference.create_predictor(config)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"option `folder`: {folder} cannot be loaded by paddlepaddle ({error})") from error
