"""open_clip without torchvision.

open_clip imports torchvision for its picture transforms and for one layer class. No CPU build of torchvision is
published, and the CUDA build beside CPU torch stops ``import transformers`` (operator ``torchvision::nms`` does not
exist), so the CPU set has none. Here placeholders stand in for the few names while open_clip is imported and are taken
away again. The models are complete; only open_clip's own ``preprocess`` functions are not usable: a reward resizes and
normalises its pictures itself. Where torchvision is installed nothing is replaced.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_TRANSFORMS = (
    "CenterCrop", "ColorJitter", "Compose", "Grayscale", "InterpolationMode", "Normalize", "RandomResizedCrop",
    "Resize", "ToTensor",
)  # fmt: skip
_NAMES: dict[str, tuple[str, ...]] = {
    "torchvision": (),
    "torchvision.transforms": _TRANSFORMS,
    "torchvision.transforms.functional": (),
    "torchvision.ops": (),
    "torchvision.ops.misc": ("FrozenBatchNorm2d",),
}


class TorchvisionMissing:
    """Stands for a torchvision class; using one is an error, importing it is not."""

    BILINEAR = BICUBIC = NEAREST = None  # members of InterpolationMode, read as default arguments

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        raise ImportError(
            "this part of open_clip needs torchvision, which is not installed beside CPU torch: "
            "prepare pictures without open_clip's own transforms."
        )


def import_open_clip() -> ModuleType:
    """The ``open_clip`` module. Raises: ImportError if open-clip-torch itself is not installed."""
    if "open_clip" in sys.modules or find_spec("torchvision"):
        return importlib.import_module("open_clip")
    # transformers remembers its first answer: ask before the placeholders could be taken for the real thing.
    importlib.import_module("transformers.utils.import_utils").is_torchvision_available()
    with _placeholders():
        return importlib.import_module("open_clip")


@contextmanager
def _placeholders() -> Iterator[None]:
    for path, names in _NAMES.items():
        module = ModuleType(path)
        module.__spec__ = ModuleSpec(path, loader=None, is_package=True)
        module.__path__ = []
        for name in names:
            setattr(module, name, type(name, (TorchvisionMissing,), {}))
        sys.modules[path] = module
        parent, _, leaf = path.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)
    try:
        yield
    finally:
        for path in _NAMES:
            del sys.modules[path]
