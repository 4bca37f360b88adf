"""A run folder -> the card of its policy, ``policy/README.md``: what it is, what was measured, how it was trained."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from policy.folder import EMBEDDED
from rl.card.front_matter import base_licence, front_matter, hub_name
from rl.card.public import public
from rl.config.yaml12 import to_yaml
from rl.evaluation.results import Evaluation, grid_path
from rl.evaluation.tables import estimate, rows, signed
from rl.report.page import RecordedRun, read_run
from rl.run_folder.claim import CONFIG_FILE
from rl.run_folder.records import Alarm, Row, disk_errors, write_atomically
from rl.types import UserError

CARD_FILE = "README.md"
POLICY_FOLDER = "policy"
_ALARMS = 10  # shown; the same guard may go off at every step


def write_card(run_folder: Path) -> Path:
    """Writes the card and its pictures into the run's policy folder. Raises UserError if there is no such run."""
    run, policy = read_run(run_folder), run_folder / POLICY_FOLDER
    if not policy.is_dir():
        raise UserError(f"{run_folder} has no {POLICY_FOLDER}/ yet: the run has not come to its end")
    pictures = list(_copied_pictures(run, policy))
    write_atomically(policy / CARD_FILE, card(run, pictures))
    return policy / CARD_FILE


def card(run: RecordedRun, pictures: Sequence[tuple[str, str]] = ()) -> str:
    """The card's text; ``pictures``: title and file. Raises UserError if the run's configuration is missing."""
    config = _configuration(run)
    before, after = (run.evaluations[0], run.evaluations[-1]) if run.evaluations else (None, None)
    compared = rows(before, after) if before and after and before.step != after.step else []
    base, name = _base(config), run.folder.resolve().name
    licence = base_licence(base)
    shown = to_yaml(public({"extends": None, **config})).strip()  # complete: no defaults of components come on top
    rewards: Mapping[str, Mapping[str, Any]] = config.get("rewards", {})
    return _template().render(
        front_matter=front_matter(name, licence, hub_name(base), _choice(config, "data.eval"), after).strip(),
        name=name,
        steps=run.metrics[-1].step + 1 if run.metrics else 0,
        version=run.sessions[-1]["versions"].get("easel-rl", "") if run.sessions else "",
        base=_base_in_words(config, base),
        rows=compared,
        after=after,
        pictures=pictures,
        rewards={name: {**reward, "options": _flow(public(reward["options"]))} for name, reward in rewards.items()},
        choice=partial(_choice, config),
        pictures_made=sum(int(row.metrics.get("images") or 0) for row in run.metrics),
        session=run.sessions[-1] if run.sessions else None,
        config=shown,
        fence="`" * max(3, 1 + _longest_ticks(shown)),
        trained_on=_trained_on(rewards, after),
        seed=_at(config, "run.seed"),
        failures=_failures(run.metrics),
        alarms=_alarms(run.metrics),
        licence=licence,
    )


def cell(value: object) -> str:
    """Anybody's words in one cell of a Markdown table, as they are."""
    text = str(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")
    return " ".join(text.split())


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown: ``cell`` stands where users' words do
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": cell, "estimate": estimate, "signed": signed}
    return environment.get_template("card.jinja")


def _configuration(run: RecordedRun) -> dict[str, Any]:
    found = yaml.safe_load(run.config) if run.config else None
    if not isinstance(found, dict):
        raise UserError(
            f"{run.folder / CONFIG_FILE} is missing or no configuration: there is nothing to make a card of"
        )
    return {key: value for key, value in found.items() if key != "extends"}


def _copied_pictures(run: RecordedRun, policy: Path) -> Iterator[tuple[str, str]]:
    chosen = dict.fromkeys(one.step for one in (run.evaluations[:1] + run.evaluations[-1:]))
    for step in chosen:
        source = grid_path(run.folder, step)
        if source.is_file():
            file = f"after-{step}-steps.png" if step else "before.png"
            with disk_errors(policy / file, "copying a picture for the card"):
                shutil.copyfile(source, policy / file)
            yield (f"after {step} steps" if step else "before"), file


def _base(config: Mapping[str, Any]) -> Path:
    path = str(_at(config, "policy.path"))
    return EMBEDDED.get(path, Path(path))


def _base_in_words(config: Mapping[str, Any], base: Path) -> str:
    path = str(_at(config, "policy.path"))
    if path in EMBEDDED:
        return f"the embedded model `{path}`"
    name = hub_name(base)
    return f"[{name}](https://huggingface.co/{name})" if name else f"the policy `{base.name}`"


def _choice(config: Mapping[str, Any], key: str) -> str:
    """The name of a component, ``none`` for null."""
    found = _at(config, key)
    return str(found["use"]) if isinstance(found, dict) else str(found or "none")


def _at(config: Mapping[str, Any], key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _flow(options: object) -> str:
    return yaml.safe_dump(options, default_flow_style=True, allow_unicode=True, width=10**6).strip() if options else ""


def _longest_ticks(text: str) -> int:
    return max((len(part) - len(part.lstrip("`")) for part in text.splitlines()), default=0)


def _trained_on(rewards: Mapping[str, Mapping[str, Any]], after: Evaluation | None) -> bool:
    shown = after.results if after else {}
    return any(reward.get("role") == "train" and name in shown for name, reward in rewards.items())


def _failures(metrics: Sequence[Row]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in metrics:
        for name, value in row.metrics.items():
            if name.startswith("failed/"):
                reward = name.removeprefix("failed/")
                found[reward] = found.get(reward, 0) + int(value or 0)
    return found


def _alarms(metrics: Sequence[Row]) -> list[Alarm]:
    return [alarm for row in metrics for alarm in row.alarms][:_ALARMS]
