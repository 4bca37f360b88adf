"""What the image tokenizer takes where pictures are read back (``guards.render_fidelity_share``): its weights from the
first step on, its activations while it reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from policy.convert.tensor_file import StoredTensor, read_tensor_file
from policy.json_file import JsonObject, read_json

_LAYERS = "vision_tower.encoder.encoder.layers."
_TOWER = ("vision_tower.encoder.embeddings.", _LAYERS)
_IN_FLOAT = tuple(
    f"vision_tower.{name}." for name in ("encode_task_layer", "bottleneck.in_linear", "bottleneck.regularizer")
)
_TA_TOK_BATCH = 16  # pictures at a time, where its config.json says nothing else


@dataclass(frozen=True)
class ImageTokenizerSize:
    """``at_once`` pictures, each with ``each`` bytes of activations, and ``distances`` bytes to the codes beside them:
    of one picture, or of all. ``at_once`` 0: all that are asked about.
    """

    weights: int
    each: int = 0
    distances: int = 0
    at_once: int = 0

    @classmethod
    def read(cls, part: Path, tokens: int, pixels: int) -> ImageTokenizerSize:
        """``tokens`` and ``pixels`` of one picture. Of one that is not ours the weights alone are known."""
        config = read_json(part / "config.json")
        stored = {
            name: tensor
            for file in part.glob("*.safetensors")
            for name, tensor in read_tensor_file(file).tensors.items()
        }
        distances = tokens * int(config["codes"]) * 4
        if config.get("kind") == "ta_tok":
            return _ta_tok(config, stored, distances)
        weights = sum(_floats(one) for one in stored.values())
        if config.get("kind") == "patch_vq":
            return cls(weights, each=2 * pixels * 3 * 4 + distances)
        return cls(weights)

    def activations(self, pictures: int) -> int:
        """While ``pictures`` are read."""
        return min(pictures, self.at_once or pictures) * self.each + (self.distances if pictures else 0)


def _ta_tok(config: JsonObject, stored: dict[str, StoredTensor], distances: int) -> ImageTokenizerSize:
    """The tower computes in the type of its file, at each position at most the input of a layer, its norm, and the wide
    half of the feed-forward before and after its activation; what comes behind it is in float32.
    """
    vision = config["vision"]
    last = f"{_LAYERS}{vision['num_hidden_layers'] - 1}."  # features are taken before it
    tower = [one for name, one in stored.items() if name.startswith(_TOWER) and not name.startswith(last)]
    tower_bytes, tower_numbers = sum(one.size for one in tower), sum(_floats(one) for one in tower) // 4
    width = tower_bytes // max(tower_numbers, 1)  # of one number
    side = int(config.get("picture", vision["image_size"]))
    positions, hidden = (side // vision["patch_size"]) ** 2, int(vision["hidden_size"])
    layer = positions * max(6 * hidden, 2 * hidden + 2 * int(vision["intermediate_size"])) * width
    return ImageTokenizerSize(
        weights=tower_bytes + sum(_floats(one) for name, one in stored.items() if name.startswith(_IN_FLOAT)),
        each=side * side * 3 * 4 + layer + positions * hidden * 4,
        distances=distances,
        at_once=int(config.get("batch", _TA_TOK_BATCH)),
    )


def _floats(tensor: StoredTensor) -> int:
    """Bytes of its numbers in float32."""
    return prod(tensor.shape) * 4
