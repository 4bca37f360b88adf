"""The kinds of value that a configuration holds: what is accepted for each, and its bounds.

The upper bounds stand beyond all that is sensible: they catch a slipped key before it becomes an endless loop, a full
memory or an infinite loss.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from rl.config.paths import expanded, expanded_options
from rl.process.host import multiplies_bfloat16

MOST = 10**9
"""Of anything that is counted."""
AUTO = 0
"""What stands for ``auto`` in a ``MicroBatch``."""
_LARGEST = 1e6  # of other numbers; seconds: eleven days
_DTYPES = {"enum": ["float32", "bfloat16", "auto"], "type": "string"}
_WORDS = {"on": True, "yes": True, "off": False, "no": False}


def _bool_words(value: object) -> object:
    """YAML 1.2 reads ``off`` as a string; where a boolean is meant, it is one."""
    return _WORDS.get(value.lower(), value) if isinstance(value, str) else value


def _whole(value: object) -> object:
    """YAML 1.2 reads ``1e2`` as a float; where a whole number is meant, it is 100."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] >= bounds[1]:
        raise ValueError(f"must be [low, high] with low below high, got {list(bounds)}")
    return bounds


def _dtype(value: object) -> object:
    """``auto``: bfloat16 where this machine multiplies it."""
    return ("bfloat16" if multiplies_bfloat16() else "float32") if value == "auto" else value


def _micro_batch(value: object) -> object:
    """``auto`` until the start of a run has found the number."""
    if value == "auto":
        return AUTO
    zero = value in (0, "0") and not isinstance(value, bool)
    if zero or (isinstance(value, str) and not value.strip().lstrip("+-").isdigit()):
        raise PydanticCustomError("micro_batch", "must be a whole number from 1, or auto")
    return value


def _in_order(trainers: tuple[str, ...]) -> tuple[str, ...]:
    """The language model first, whose hidden states the decoder reads."""
    if not trainers or len(set(trainers)) < len(trainers):
        raise ValueError(f"must name at least one network, each once, got {list(trainers)}")
    return tuple(sorted(trainers))


WHOLE = BeforeValidator(_whole)
AS_TUPLE = BeforeValidator(_as_tuple)

Bool = Annotated[bool, BeforeValidator(_bool_words)]
BoolOrAuto = Annotated[bool | Literal["auto"], BeforeValidator(_bool_words)]
Dtype = Annotated[Literal["float32", "bfloat16"], BeforeValidator(_dtype), WithJsonSchema(_DTYPES)]
"""A run keeps what ``auto`` has become on the machine where it began."""
Role = Literal["train", "monitor"]
Part = Literal["ar", "decoder"]
"""A network that learns: the language model, or the diffusion decoder."""
Trainers = Annotated[tuple[Part, ...], AS_TUPLE, AfterValidator(_in_order)]

Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
Positive = Annotated[float, Field(gt=0, le=_LARGEST)]
NotNegative = Annotated[float, Field(ge=0, le=_LARGEST)]
LearningRate = Annotated[float, Field(ge=0, le=100)]

MicroBatch = Annotated[
    int,
    Field(ge=0, le=MOST),
    WHOLE,
    BeforeValidator(_micro_batch),
    PlainSerializer(lambda count: count or "auto"),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST}, {"enum": ["auto"], "type": "string"}]}
    ),
]
"""A run keeps what ``auto`` has become on the machine where it began."""
Count = Annotated[int, Field(ge=0, le=MOST), WHOLE]
AtLeastOne = Annotated[int, Field(ge=1, le=MOST), WHOLE]
UpToThree = Annotated[int, Field(ge=0, le=3), WHOLE]
Steps = Annotated[int, Field(ge=0, le=10**7), WHOLE]
Seed = Annotated[int, Field(ge=0, lt=2**63), WHOLE]

Range = Annotated[tuple[Number, Number], AS_TUPLE, AfterValidator(_rising)]
Names = Annotated[tuple[str, ...], AS_TUPLE]
PathText = Annotated[str, AfterValidator(expanded), Field(json_schema_extra={"format": "path"})]
"""A path, relative to the current folder; ``~`` and variables are expanded."""
Options = Annotated[dict[str, object], AfterValidator(expanded_options)]
"""Keyword arguments; those that read like paths are expanded as paths are."""
