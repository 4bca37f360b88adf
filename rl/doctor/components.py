"""What components need on this machine, in their own words: every registered one that declares ``requires``.

Declarations are read from the source (``rewards.requires``), so nothing is imported and none is known here by name.
"""

from __future__ import annotations

from rewards.library.models.downloads import absent
from rewards.requires import declared_requires
from rl.preflight.requirements import Check, check_required
from rl.registry import BUILT_IN, names
from rl.types import UserError

_NOTHING = "declares no packages and no weights"


def check_components() -> list[Check]:
    """Of each kind, all components if any of them requires something: built in, or of an installed plug-in."""
    found = {kind: [check for name in names(kind) for check in check_component(kind, name)] for kind in BUILT_IN}
    return [check for checks in found.values() if any(check.found != _NOTHING for check in checks) for check in checks]


def check_component(kind: str, name: str) -> list[Check]:
    part = kind.replace("_", " ")
    try:
        required = declared_requires(kind, name)
    except UserError as error:
        return [Check(part, name, "missing", str(error), "repair it, or uninstall the package that it comes with")]
    if not required:
        return [Check(part, name, "ok", _NOTHING)]
    return [check_required(part, f"{name} ({one.part})" if one.part else name, one) for one in required]


def lacks_weights(kind: str, name: str) -> bool:
    """Whether weights are not here that it can't do without."""
    needed = [one for one in declared_requires(kind, name) if not one.optional]
    return any(absent(one.weights, one.tokenizers) for one in needed)
