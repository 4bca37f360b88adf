"""The command line -> the configuration that everything is measured by, and the prompts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from rewards.command_line import named_components
from rl import registry
from rl.config.load import load
from rl.config.schema import Config
from rl.data.prompts import load_prompts
from rl.data.stream import needs_of, require_metadata
from rl.evaluate.arguments import EvaluateArguments, NamedPrompts
from rl.run_folder.claim import CONFIG_FILE
from rl.types import Prompt, UserError

_TEXT_FILES = (".txt",)


def read_config(given: EvaluateArguments) -> tuple[Config, str | None]:
    """The configuration, and the file that it started from.

    ``--config``, or the first run folder among the policies, or the defaults; on top of it what the other arguments
    name, then the overrides. Raises UserError.
    """
    file = given.config or _config_of_a_run(given)
    if file is None and given.prompts is None:
        names = ", ".join(registry.names("prompts"))
        raise UserError(f"--prompts is missing: give a file, one of {names}, or --config with a run's held-out prompts")
    if file is None and not given.rewards:
        raise UserError("--reward is missing: give one, for example --reward geneval, or --config with a run's rewards")
    try:
        return load(file, [*_overrides(given), *given.overrides]), file
    except UserError as error:
        if "data.eval is null" not in str(error):  # what a run without steps is told, in an evaluation's words
            raise
        raise UserError(f"{file} has no data.eval, so there is nothing to evaluate on: add --prompts") from error


def read_prompts(config: Config) -> list[Prompt]:
    """Every prompt has what its reward needs, and text alone. Raises UserError."""
    assert config.data.eval is not None
    prompts = load_prompts(config.data.eval, "--prompts")
    if needs := needs_of(config.rewards):
        require_metadata(prompts, needs)
    return prompts


def measured_by(config: Config) -> dict[str, object]:
    """What decides a score: two results with the same of these can be compared, and one goes on where it was."""
    sections = config.model_dump(mode="json")
    return {
        "policy.dtype": config.policy.dtype,
        "train.dtype": config.train.dtype,
        "rollout": sections["rollout"],
        "render": sections["render"],
        "rewards": sections["rewards"],
        "eval.seed": config.eval.seed,
        "eval.samples_per_prompt": config.eval.samples_per_prompt,
    }


def prompt_component(given: NamedPrompts) -> dict[str, object]:
    """A file by its ending, or a ``prompts`` component by its name. Raises UserError if it is neither."""
    source = given.source
    if source in registry.names("prompts") or registry.is_module_attr(source):
        return {"use": source, "options": given.options}
    if Path(source).is_file():
        reader = "text" if Path(source).suffix in _TEXT_FILES else "jsonl"
        return {"use": reader, "options": {"path": source, **given.options}}
    if Path(source).suffix or os.sep in source:
        raise UserError(f"--prompts: there is no file {source!r}{_near_files(Path(source))}")
    near = registry.did_you_mean(source, registry.names("prompts"))
    names = ", ".join(registry.names("prompts"))
    raise UserError(f"--prompts: {source!r} is neither a file nor one of the prompts{near} (known: {names})")


def _near_files(missing: Path) -> str:
    return registry.did_you_mean(missing.name, [path.name for path in missing.parent.glob("*")])


def _config_of_a_run(given: EvaluateArguments) -> str | None:
    files = [Path(policy.path) / CONFIG_FILE for policy in given.policies]
    return next((str(file) for file in files if file.is_file()), None)


def _overrides(given: EvaluateArguments) -> Iterator[str]:
    yield "train.steps=0"  # an evaluation may truncate sampling, and trains nothing
    if given.prompts:
        yield _override("data.eval", None)  # or options of another source would stay
        yield _override("data.eval", prompt_component(given.prompts))
    if given.rewards:
        yield _override("rewards", None)
        components = named_components(given.rewards, given.workers)
        dumped = {name: one.model_dump(mode="json", exclude_unset=True) for name, one in components.items()}
        yield _override("rewards", dumped)
    if given.samples is not None:
        yield _override("eval.samples_per_prompt", given.samples)
    if given.seed is not None:
        yield _override("eval.seed", given.seed)


def _override(key: str, value: Mapping[str, object] | int | None) -> str:
    return f"{key}={json.dumps(value, ensure_ascii=False)}"
