"""What ``image_tokenizer/config.json`` says of a hybrid tokenizer, checked key by key."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from transformers import SiglipVisionConfig

from policy.folder import HYBRID
from policy.json_file import JsonObject
from policy.layout import TokenLayout
from rl.registry import did_you_mean
from rl.types import UserError

QuantiserKind = Literal["fsq", "simvq", "vq"]


@dataclass(frozen=True)
class HybridConfig:
    """Example (a tiny one): 64 px in patches of 8, merged 2 x 2 -> 4 x 4 tokens of 4 x 96 numbers, 128 codes of 16."""

    codes: int
    vision: JsonObject
    """Fields of transformers' ``SiglipVisionConfig``, of the whole tower; features come from its last layer but one."""
    hidden: int
    """Width inside the adapter to codes."""
    reads: int
    """Hidden size of the language model that the adapter for reading leads to."""
    quantiser: QuantiserKind = "simvq"
    width: int = 0
    """Of a code; of ``fsq`` it is the number of levels."""
    levels: tuple[int, ...] = ()
    """Of ``fsq``: how many values each number of a code has."""
    merge: int = 1
    """Neighbours, k x k, of which the features are put side by side into one token."""
    batch: int = 16
    """Pictures that go through the tower at once."""

    @property
    def side(self) -> int:
        """Tokens along one side."""
        return int(self.vision["image_size"] // self.vision["patch_size"] // self.merge)

    @property
    def merged(self) -> int:
        """Numbers of a token's features."""
        return int(self.vision["hidden_size"]) * self.merge**2

    def tower(self) -> SiglipVisionConfig:
        """Without the last layer and the pooling head, which nobody reads."""
        layers = self.vision["num_hidden_layers"] - 1
        return SiglipVisionConfig(**{**self.vision, "num_hidden_layers": layers, "vision_use_head": False})

    def to_json(self) -> dict[str, object]:
        return {"kind": HYBRID, **asdict(self), "vision": dict(self.vision), "levels": list(self.levels)}

    @classmethod
    def from_json(cls, content: JsonObject, where: Path, layout: TokenLayout) -> HybridConfig:
        """Raises: UserError naming ``where``, the key and what to write."""
        known = [field.name for field in fields(cls)]
        for key in content:
            if key not in ("kind", *known):
                raise UserError(f"{where}: there is no key {key}{did_you_mean(key, known)}; take it out or rename it.")
        if missing := [key for key in ("codes", "vision", "hidden", "reads") if key not in content]:
            raise UserError(f"{where}: {', '.join(missing)} missing; copy the file from the model.")
        given = {key: content[key] for key in known if key in content}
        config = cls(**{**given, "levels": tuple(given.get("levels", ()))})
        if problem := config._problem(layout):
            raise UserError(f"{where}: {problem}.")
        return config

    def _problem(self, layout: TokenLayout) -> str | None:
        if self.quantiser not in get_args(QuantiserKind):
            return f"quantiser is {self.quantiser!r}; write one of {', '.join(get_args(QuantiserKind))}"
        if self.quantiser == "fsq" and math.prod(self.levels) != self.codes:
            spelled = " x ".join(map(str, self.levels)) or "none"
            return f"levels {spelled} are {math.prod(self.levels)} codes, and codes is {self.codes}; make them the same"
        if self.quantiser != "fsq" and self.width < 1:
            return f"width is {self.width}; write how many numbers a code of {self.quantiser} has"
        if self.codes != layout.num_image_tokens:
            return (
                f"codes is {self.codes}, but the layout has num_image_tokens {layout.num_image_tokens}; use the "
                f"tokenizer that the policy was trained with"
            )
        if (self.side, self.side) != layout.grid:
            rows, columns = layout.grid
            return (
                f"{self.vision['image_size']} px in patches of {self.vision['patch_size']} merged {self.merge} x "
                f"{self.merge} are {self.side}x{self.side} tokens, but the layout's grid is {rows}x{columns}; change "
                f"merge here, or grid and tokens_per_image in policy.json"
            )
        return None
