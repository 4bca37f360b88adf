"""Reference pictures for rewards of photographs: a cat and an astronaut, which come with scikit-image.

Wrong weights, or labels off by one, are known to score every picture alike; two photographs tell in a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import as_file, files

import numpy as np
from PIL import Image

from rewards.golden import Golden
from rl.data.pictures import Picture
from rl.types import Prompt, Sample

_PROMPT = "a photo of a cat"
_CAT = {"tag": "single_object", "include": [{"class": "cat", "count": 1}]}


def detected_cat() -> list[Golden]:
    """For detectors: both photographs asked for a cat, by GenEval's rules."""
    return [Golden(_photograph("chelsea", _CAT), at_least=1.0), Golden(_photograph("astronaut", _CAT), at_most=0.99)]


def likelier_cat() -> list[Golden]:
    """For rewards that compare picture and prompt: the cat must score above the astronaut."""
    return [Golden(_photograph("astronaut")), Golden(_photograph("chelsea"), above_previous=True)]


def two_photographs() -> list[Golden]:
    """For rewards of the picture alone: they may not score alike."""
    return [Golden(_photograph("astronaut")), Golden(_photograph("chelsea"))]


def itself_and_another() -> list[Golden]:
    """For rewards that compare with a reference, wherever they look for it: a photograph with itself, above another."""
    cat = _photograph("chelsea")
    prompt = replace(cat.prompt, metadata={"reference": cat.picture}, pictures=(Picture(cat.picture),))
    same, other = replace(cat, prompt=prompt), replace(_photograph("astronaut"), prompt=prompt)
    return [Golden(other), Golden(same, at_least=0.99, above_previous=True)]


def _photograph(name: str, metadata: Mapping[str, object] | None = None) -> Sample:
    with as_file(files("skimage.data") / f"{name}.png") as file, Image.open(file) as image:
        return Sample(name, "golden", Prompt("golden", _PROMPT, metadata or {}), np.asarray(image.convert("RGB")))
