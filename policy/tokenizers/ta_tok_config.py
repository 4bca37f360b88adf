"""What ``image_tokenizer/config.json`` says of a TA-Tok, checked key by key."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from transformers import SiglipVisionConfig
from transformers.activations import ACT2FN

from policy.json_file import JsonObject
from policy.layout import TokenLayout
from rl.registry import did_you_mean
from rl.types import UserError

_SCALES = (1, 2, 3)
_OF_VISION = set("hidden_size intermediate_size num_hidden_layers num_attention_heads image_size patch_size".split())
"""Must be written: what SigLIP would put in their place is another tower, and not every difference shows in a shape."""


@dataclass(frozen=True)
class TaTokConfig:
    """Example (BLIP3o-NEXT): 65,536 codes, 384 px, 27 layers, patches of 14 px -> 27 x 27 tokens at scale 1."""

    codes: int
    vision: JsonObject
    """Fields of transformers' ``SiglipVisionConfig``, of the whole tower."""
    picture: int
    """Side in px that every picture is squeezed to. Where the file does not say: ``vision.image_size``."""
    scale: int = 1
    """Neighbours, s x s, that are averaged into one token."""
    batch: int = 16
    """Pictures that go through the tower at once."""
    temperature: float = 0.03
    """Of the softmax over cosines, where codes are sampled."""

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of tokens."""
        side = self.patches // self.scale
        return side, side

    @property
    def patches(self) -> int:
        """Along one side."""
        return int(self.picture // self.vision["patch_size"])

    def tower(self) -> SiglipVisionConfig:
        """Without what no code needs: the last layer and the pooling head."""
        layers = self.vision["num_hidden_layers"] - 1
        return SiglipVisionConfig(**{**self.vision, "num_hidden_layers": layers, "vision_use_head": False})

    def to_json(self) -> dict[str, object]:
        return {"kind": "ta_tok", **asdict(self), "vision": dict(self.vision)}

    @classmethod
    def from_json(cls, content: JsonObject, where: Path, layout: TokenLayout) -> TaTokConfig:
        """Raises: UserError naming ``where``, the key and what to write."""
        known = [field.name for field in fields(cls)]
        _check_keys(where, "", content, known=["kind", *known], needed={"codes", "vision"})
        if not isinstance(content["vision"], dict):
            raise UserError(f"{where}: vision must hold the fields of a SiglipVisionConfig; copy them from the model.")
        for key, value in content.items():
            if key not in ("kind", "vision", "temperature"):
                _check_whole(where, key, value)
        _check_vision(where, content["vision"])
        given = {key: content[key] for key in known if key in content}
        config = cls(**{"picture": content["vision"]["image_size"], **given})
        _check_picture(where, config)
        if not isinstance(config.temperature, int | float) or config.temperature <= 0:
            raise UserError(f"{where}: temperature is {config.temperature!r}; write a number above 0.")
        if config.scale not in _SCALES:
            raise UserError(f"{where}: scale is {config.scale}; write 1, 2 or 3, as many as there are scale tokens.")
        if config.grid != layout.grid:
            rows, columns = config.grid
            raise UserError(
                f"{where}: {config.picture} px in patches of {config.vision['patch_size']} at scale {config.scale} are "
                f"{rows}x{columns} tokens, but the layout's grid is {layout.grid[0]}x{layout.grid[1]}; "
                "change scale here, or grid and tokens_per_image in policy.json."
            )
        return config


def _check_vision(where: Path, vision: JsonObject) -> None:
    known = [*SiglipVisionConfig().to_dict(), "vision_use_head", "torch_dtype"]
    _check_keys(where, "vision.", vision, known=known, needed=_OF_VISION)
    for key in sorted(_OF_VISION):
        _check_whole(where, f"vision.{key}", vision[key])
    try:
        activation: str = SiglipVisionConfig(**vision).hidden_act
    except StrictDataclassError as error:
        raise UserError(f"{where}: vision: {' '.join(str(error).split())}; copy it from the model.") from None
    if activation not in ACT2FN:
        raise UserError(f"{where}: vision.hidden_act {activation!r} is unknown{did_you_mean(activation, ACT2FN)}.")
    width, heads = vision["hidden_size"], vision["num_attention_heads"]
    if width % heads:
        raise UserError(f"{where}: vision.hidden_size {width} is no multiple of num_attention_heads {heads}.")
    if vision["num_hidden_layers"] < 2:
        raise UserError(f"{where}: vision.num_hidden_layers is 1; write 2 or more, codes come from the last but one.")


def _check_picture(where: Path, config: TaTokConfig) -> None:
    trained = config.vision["image_size"] // config.vision["patch_size"]
    if config.patches != trained:
        raise UserError(
            f"{where}: picture {config.picture} makes {config.patches} patches a side, but vision.image_size "
            f"{config.vision['image_size']} has positions for {trained}; write picture: {config.vision['image_size']}."
        )


def _check_keys(where: Path, at: str, content: JsonObject, *, known: list[str], needed: set[str]) -> None:
    for key in content:
        if key not in known:
            raise UserError(f"{where}: there is no key {at}{key}{did_you_mean(key, known)}; take it out or rename it.")
    if missing := sorted(needed - set(content)):
        names = ", ".join(at + key for key in missing)
        raise UserError(f"{where}: {names} {'is' if len(missing) == 1 else 'are'} missing; copy it from the model.")


def _check_whole(where: Path, key: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{where}: {key} is {value!r}; write a whole number above 0.")
