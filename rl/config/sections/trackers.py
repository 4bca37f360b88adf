"""The trackers of a run as people write them: a list, one name, or a name with true or false."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator

TrackerName = Literal["tensorboard", "wandb", "trackio", "mlflow", "swanlab"]
_SWITCH = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}


def _listed(value: object) -> object:
    """One name is a list of one, none is none, and a name that comes twice counts once."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)):
        return tuple(one for place, one in enumerate(value) if one not in value[:place])
    return value


Trackers = Annotated[tuple[TrackerName, ...], BeforeValidator(_listed)]


def switched(given: object, default: tuple[str, ...]) -> object:
    """``{"wandb": true}`` adds one to ``to``, ``{"tensorboard": false}`` leaves one out; the keys go."""
    if not isinstance(given, dict):
        return given
    rest, to = dict(given), _listed(given.get("to", default))
    for name in get_args(TrackerName):
        value = rest.get(name)
        wanted = _SWITCH.get(value.lower()) if isinstance(value, str) else value
        if isinstance(wanted, bool) and isinstance(to, tuple):
            del rest[name]
            to = (*(one for one in to if one != name), *([name] if wanted else []))
            rest["to"] = to
    return rest
