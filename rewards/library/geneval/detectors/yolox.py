"""The ``yolox`` detector: YOLOX (arXiv 2107.08430) from an ONNX file, for machines without a GPU.

Card. Boxes over COCO's 80 classes, no masks; score = objectness times class probability. The file is any export of
the official ones with raw heads (one input (1, 3, S, S), BGR 0..255; one output (1, cells, 85)). Blind to everything
outside the 80 classes; the small ones miss small objects, and few scores pass the official counting threshold of .9,
so set the reward's thresholds by hand. Licence of the official weights: Apache-2.0.
Get it: the ONNX files of the YOLOX releases (``yolox_nano.onnx`` to ``yolox_x.onnx``) and ``file: PATH``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from rewards.library.geneval.boxes import clipped, suppress
from rewards.library.geneval.classes import GENEVAL_CLASSES
from rewards.library.geneval.contract import Detection
from rewards.requires import Requires
from rl.types import UserError

_STRIDES = (8, 16, 32)
_GROUND = 114  # grey beside the picture
_WANTED_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class Yolox:
    """Closed-set detector on onnxruntime.

    ``file``: the ONNX file. ``max_overlap``: above this IoU the worse of two boxes of a class is dropped, which YOLOX
    needs. ``min_score``: detections at or below it are not reported; keep it under the thresholds of the reward.
    ``threads``: of onnxruntime; ``None`` is OMP_NUM_THREADS, or all cores.
    """

    classes = frozenset(GENEVAL_CLASSES)
    requires = Requires(
        packages=("onnxruntime",),
        optional=True,
        note="the ONNX file is yours to name: geneval.options.detector_options.file",
    )

    def __init__(
        self, file: str, min_score: float = 0.05, max_overlap: float = 0.45, threads: int | None = None
    ) -> None:
        if not Path(file).is_file():
            raise UserError(
                f"option `file`: there is no file {file!r}; download an ONNX file of the YOLOX releases, "
                f"such as yolox_s.onnx, and name it there"
            )
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0")) if threads is None else threads
        providers = [name for name in _WANTED_PROVIDERS if name in onnxruntime.get_available_providers()]
        try:
            self._session = onnxruntime.InferenceSession(file, settings, providers=providers)
        except Exception as error:  # onnxruntime's own classes have no other base
            raise UserError(f"option `file`: {file} is not an ONNX model: {str(error).splitlines()[0]}") from error
        self._input, self._side = _layout(self._session, file)
        self._cells, self._stride = _grid(self._side)
        self._min_score, self._max_overlap = min_score, max_overlap

    def detect(self, pictures: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """N (H, W, 3) pictures of any sizes in; per picture its objects, best first."""
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: NDArray[np.uint8]) -> list[Detection]:
        height, width = picture.shape[:2]
        pixels, scale = letterbox(picture, self._side)
        raw_N85 = self._session.run(None, {self._input: pixels})[0][0]
        scores_N80 = raw_N85[:, 4:5] * raw_N85[:, 5:]
        label_N, best_N = scores_N80.argmax(1), scores_N80.max(1)
        centre_N2 = (raw_N85[:, :2] + self._cells) * self._stride / scale
        half_N2 = np.exp(raw_N85[:, 2:4]) * self._stride / scale / 2
        found = []
        for i in np.flatnonzero(best_N > self._min_score):
            box = clipped((*(centre_N2[i] - half_N2[i]), *(centre_N2[i] + half_N2[i])), height, width)
            if box is not None:
                found.append(Detection(GENEVAL_CLASSES[label_N[i]], float(best_N[i]), box))
        return suppress(found, self._max_overlap)


def letterbox(picture: NDArray[np.uint8], side: int) -> tuple[NDArray[np.float32], float]:
    """(1, 3, side, side) BGR 0..255, the picture scaled into the top left corner of a grey square; and the scale."""
    height, width = picture.shape[:2]
    scale = min(side / height, side / width)
    size = (max(1, int(height * scale)), max(1, int(width * scale)))
    # Plain bilinear, as YOLOX was trained: with a smoothing filter the scores fall.
    pixels_1CHW = torch.from_numpy(np.ascontiguousarray(picture[..., ::-1])).permute(2, 0, 1)[None].float()
    canvas = np.full((1, 3, side, side), _GROUND, np.float32)
    canvas[..., : size[0], : size[1]] = interpolate(pixels_1CHW, size=size, mode="bilinear", align_corners=False)
    return canvas, scale


def _grid(side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, 2) cell columns and rows, and (N, 1) strides, in the order of the output: stride by stride, row by row."""
    cells, strides = [], []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: side // stride, : side // stride]
        cells.append(np.stack([columns, rows], axis=-1).reshape(-1, 2))
        strides.append(np.full((rows.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _layout(session: onnxruntime.InferenceSession, file: str) -> tuple[str, int]:
    """The input's name and its side in pixels. Raises ``UserError`` if it is not a YOLOX export over 80 classes."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    match [list(i.shape) for i in inputs], [list(o.shape) for o in outputs]:
        case [[1, 3, int(side), other]], [[1, cells, 85]] if (
            side == other and side % 32 == 0 and cells == sum((side // stride) ** 2 for stride in _STRIDES)
        ):
            return inputs[0].name, side
    raise UserError(
        f"option `file`: {file} maps {[i.shape for i in inputs]} to {[o.shape for o in outputs]}; a YOLOX export over "
        f"80 classes maps [1, 3, S, S] to [1, (S/8)^2 + (S/16)^2 + (S/32)^2, 85]"
    )
