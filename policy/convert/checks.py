"""Whether every tensor of a checkpoint has its place in the models that its parts are built as."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from policy.conditions import ATTENDED
from policy.convert.blip3o_next import Blip3oNext
from policy.convert.keys import HEAD, PREFIXES
from policy.convert.model_shapes import (
    Shapes,
    connector_shapes,
    image_tokenizer_shapes,
    language_model_shapes,
    transformer_shapes,
    vae_shapes,
)
from policy.json_file import JsonObject
from policy.parts import REFERENCE_PART
from rl.types import UserError

_OTHER_SIZES = "give the configurations of this model's parts: --parts FOLDER, with {part}/config.json in it"


def check_shapes(source: Blip3oNext) -> None:
    """Raises: UserError naming the first tensor that is missing, too many or of another shape."""
    for part, expected, origin, fix in _expectations(source):
        found = _shapes(source, part)
        reshaped = {name for name in found.keys() & expected.keys() if found[name] != expected[name]}
        for what, names in (
            ("{key} is missing, which {origin} asks for", expected.keys() - found.keys()),
            ("{key} is not known to {origin}", found.keys() - expected.keys()),
            ("{key} has shape {found}, and {origin} makes it {expected}", reshaped),
        ):
            if names:
                name, more = min(names), f" (and {len(names) - 1} more)" if len(names) > 1 else ""
                shapes = {"found": list(found.get(name, ())), "expected": list(expected.get(name, ()))}
                told = what.format(key=PREFIXES[part] + name, origin=origin, **shapes)
                raise UserError(f"{source.folder}: {told}{more}; {fix}.")


def _expectations(source: Blip3oNext) -> Iterator[tuple[str, Shapes, str, str]]:
    """(part, shapes, who says so, fix)."""
    config = source.language_model_config
    origin = str(source.folder / "config.json")
    shapes = dict(_built(origin, lambda: language_model_shapes(config)))
    if source.tied and HEAD not in source.parts["ar"]:
        del shapes[HEAD]
    yield "ar", shapes, "config.json", "use files of one model"
    tokenizer = _shapes(source, "image_tokenizer")
    builders: Mapping[str, tuple[str, Callable[[JsonObject], Shapes]]] = {
        "connector": ("transformer", lambda one: connector_shapes(config["hidden_size"], one["caption_channels"])),
        "transformer": ("transformer", transformer_shapes),
        "vae": ("vae", vae_shapes),
        "image_tokenizer": ("image_tokenizer", lambda one: image_tokenizer_shapes(one, tokenizer)),
    }
    if ATTENDED in source.reference:
        channels = int(source.configs["vae"].content["latent_channels"])
        builders = {
            **builders,
            REFERENCE_PART: ("transformer", lambda one: connector_shapes(channels, one["caption_channels"])),
        }
    for part, (configured, shapes_of) in builders.items():
        one = source.configs[configured]
        fix = _OTHER_SIZES.format(part=configured) if one.preset else "use files of one model"
        yield part, _built(one.origin, partial(shapes_of, one.content)), one.origin, fix


def _built(origin: str, shapes: Callable[[], Shapes]) -> Shapes:
    """Raises: UserError with what the model's class says to a configuration that it can't be built from."""
    try:
        return shapes()
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{origin}: no model can be built from it ({reason}); correct it.") from error


def _shapes(source: Blip3oNext, part: str) -> Shapes:
    return {name: tensor.shape for name, tensor in source.parts[part].items()}
