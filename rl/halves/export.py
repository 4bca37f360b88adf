"""What a run has trained, as others can load it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from policy.export import export, export_adapter
from policy.trainable import WeightStream
from rl.learn import Part


def export_parts(
    base: str, policy_folder: Path, trained: Mapping[str, WeightStream], parts: Mapping[str, Part], run_folder: Path
) -> None:
    """``policy/``, a whole policy, and beside it ``adapter/``, ``adapter-decoder/`` where a run has trained one.
    ``base``: the policy as the run's configuration names it, ``policy_folder``: where it lies."""
    export(policy_folder, trained, run_folder / "policy")
    adapters = {name: one for part in parts.values() for name, one in part.adapters().items()}
    for name, adapter in adapters.items():
        folder, of = ("adapter", "ar") if name == "ar" else (f"adapter-{name}", "transformer")
        export_adapter(base, adapter, run_folder / folder, of)
