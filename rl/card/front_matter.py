"""The head of a model card, which the hub reads: licence, base, tags, results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData, metadata_load

from policy.convert.hub import is_hub_name
from rl.evaluation.results import OVERALL, Evaluation

LIBRARY = "easel-rl"
TASK = "text-to-image"
_HUB_CACHE = re.compile(r"models--([^/]+)--([^/]+)/snapshots/[^/]+/?")
_OF_A_LICENCE = ("license", "license_name", "license_link")


def base_licence(base: Path) -> dict[str, str]:
    """What the base's own card says; a policy that was trained from it is under the same."""
    card = base / "README.md"
    found = metadata_load(card) if card.is_file() else None
    return {key: str(found[key]) for key in _OF_A_LICENCE if found and found.get(key)}


def hub_name(base: Path) -> str | None:
    """``owner/name`` of such a name itself, or of a folder in the hub's cache; no other place tells it."""
    if is_hub_name(str(base)):
        return str(base).partition("@")[0]
    found = _HUB_CACHE.search(base.resolve().as_posix() + "/") or _HUB_CACHE.search(f"{base.as_posix()}/")
    return f"{found[1]}/{found[2]}" if found else None


def front_matter(
    name: str, licence: Mapping[str, str], base: str | None, dataset: str, after: Evaluation | None
) -> str:
    """YAML without its dashes."""
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=dataset,
            dataset_name=f"held-out prompts: {dataset}",
            metric_type=reward,
            metric_name=f"{reward}, {OVERALL}",
            metric_value=round(estimate.mean, 4),
        )
        for reward, tasks in (after.results.items() if after else ())
        if (estimate := tasks[OVERALL].estimate) is not None
    ]
    data = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=TASK,
        base_model=base,
        tags=[TASK, "reinforcement-learning", "rlhf", "autoregressive", "diffusion"],
        model_name=name if results else None,
        eval_results=results or None,
        license=licence.get("license"),
        license_name=licence.get("license_name"),
        license_link=licence.get("license_link"),
    )
    yaml: str = data.to_yaml()
    return yaml
