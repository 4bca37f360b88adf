"""The policy folder: one layout from laptop to cluster, checked part by part before anything is loaded.

``ar/`` (plain Qwen3 checkpoint) - ``connector/`` - ``transformer/`` - ``vae/`` - ``scheduler/`` - ``tokenizer/`` -
``image_tokenizer/`` - ``policy.json`` (token layout, prompt template, what the decoder is conditioned on).
"""

from __future__ import annotations

import shlex
from pathlib import Path

from policy.conditions import ATTENDED, CHANNELS, check_fits, read_condition, read_ways
from policy.convert.blip3o_next import is_blip3o_next
from policy.convert.hub import is_hub_name, near_folder, policy_of_hub
from policy.json_file import read_json
from policy.layout import TokenLayout
from policy.parts import CONFIG_FILE, PARTS, REFERENCE_PART
from rl.registry import locate
from rl.types import UserError

EMBEDDED = {"shapes": Path(__file__).parent / "shapes" / "weights"}
HYBRID = "hybrid"
"""The kind of image tokenizer that has features too."""
CODES, FEATURES = "codes", "features"
"""How a picture in a prompt is read."""
_INLINE = "inline"  # the prompt encoder that needs a template for edits
_LATENTS = 32  # channels, where a configuration of diffusers says nothing
OF_A_RUN, RUN_FILE = "policy", "config.yaml"  # what a run folder holds


def resolve_folder(path: str | Path) -> Path:
    """An embedded model's name, a policy folder, the folder of a run that has ended, or a name on the hub -> the
    policy folder; a name on the hub is fetched and converted once.

    Raises: UserError if there is none.
    """
    folder = EMBEDDED.get(str(path), Path(path))
    if not folder.is_dir() and is_hub_name(str(path)):
        return policy_of_hub(str(path), "policy.path")
    if not folder.is_dir():
        there = near_folder(str(path))
        near = f", did you mean '{there}'?" if there else ";"
        raise UserError(
            f"policy.path: there is no policy folder at '{path}'{near} give a folder or one of {sorted(EMBEDDED)}."
        )
    if (folder / CONFIG_FILE).is_file() or not (folder / RUN_FILE).is_file():
        return folder
    if not (folder / OF_A_RUN / CONFIG_FILE).is_file():
        raise UserError(
            f"policy.path: {folder} is the folder of a run that has not written its policy yet; let it end "
            f"(python -m rl.launch {shlex.quote(str(folder / RUN_FILE))} --resume), or give a policy folder."
        )
    return folder / OF_A_RUN


def read_policy_config(folder: Path) -> tuple[TokenLayout, str]:
    """(token layout, prompt template) of a complete and consistent folder. Raises: UserError naming the part."""
    where = str(folder / CONFIG_FILE)
    if (folder / CONFIG_FILE).is_file():  # first: a decoder that reads something else has other parts
        read_condition(read_json(folder / CONFIG_FILE), where)
    _check_complete(folder)
    config = read_json(folder / CONFIG_FILE)
    for key in ("layout", "prompt_template"):
        if key not in config:
            raise UserError(f"{where}: key '{key}' is missing; a policy needs 'layout' and 'prompt_template'.")
    layout = TokenLayout.from_dict(config["layout"], where)
    check_fits(read_ways(config, where), read_json(folder / "transformer" / "config.json"), where)
    problems = layout.problems() + _mismatches(folder, layout)
    if problems:
        raise UserError(f"{where}: {'; '.join(problems)}; use parts of the same model.")
    if "{prompt}" not in config["prompt_template"]:
        raise UserError(f"{where}: prompt_template has no {{prompt}}; say where the prompt goes.")
    return layout, config["prompt_template"]


def read_prompt_encoder(folder: Path) -> str:
    """The ``prompt_encoders`` component of a complete folder. Raises: UserError naming the file and the part."""
    _check_complete(folder)
    use = str(read_json(folder / CONFIG_FILE).get("prompt_encoder", "template"))
    try:
        locate("prompt_encoders", use)
    except UserError as error:
        raise UserError(f"{folder / CONFIG_FILE}: prompt_encoder: {error}") from error
    return use


def read_task_templates(folder: Path) -> dict[str, str]:
    """Task -> template of a complete folder; none for a policy that reads text alone. Raises: UserError."""
    where, config = folder / CONFIG_FILE, read_json(folder / CONFIG_FILE)
    templates = config.get("task_templates", {})
    if not isinstance(templates, dict) or set(templates) - {"edit", "answer"}:
        raise UserError(f"{where}: task_templates is {templates!r}; it may hold templates for edit and answer.")
    reads = config.get("prompt_encoder", "template") != "template"
    if templates and not reads:
        raise UserError(f"{where}: task_templates are for prompts with pictures; write prompt_encoder: {_INLINE}.")
    if config.get("prompt_encoder") == _INLINE and "edit" not in templates:
        raise UserError(f"{where}: prompt_encoder {_INLINE} needs task_templates with a template for edit; add it.")
    for task, template in templates.items():
        before, found, after = str(template).partition("{picture}")
        if not found or "{prompt}" not in (before if task == "edit" else before + after):
            order = "and, behind it," if task == "edit" else "and"
            raise UserError(
                f"{where}: task_templates.{task} must hold {{prompt}} {order} {{picture}}; say where they go."
            )
    return dict(templates)


def read_reads(folder: Path, instead: str | None = None) -> dict[str, str]:
    """Task -> how a complete folder's policy reads its pictures; ``instead``: how questions do, whatever it says.

    Raises: UserError if they are to be read as features and there is no branch for that.
    """
    where, config = folder / CONFIG_FILE, read_json(folder / CONFIG_FILE)
    reads = config.get("reads", {})
    if not isinstance(reads, dict) or set(reads) - {"answer"} or set(reads.values()) - {CODES, FEATURES}:
        raise UserError(f'{where}: reads is {reads!r}; write {{"answer": "{CODES}"}} or {{"answer": "{FEATURES}"}}.')
    if instead is not None and instead != reads.get("answer", CODES):
        reads = {"answer": instead}
    tokenizer = read_json(folder / "image_tokenizer" / "config.json")
    if reads.get("answer") == FEATURES and tokenizer.get("kind") != HYBRID:
        raise no_understanding(str(folder), str(tokenizer.get("kind")))
    return dict(reads)


def no_understanding(policy: str, kind: str) -> UserError:
    """What is said where a policy can't read pictures as features."""
    return UserError(
        f"{policy}: this policy has no understanding branch (its image_tokenizer is of kind {kind}, not {HYBRID}), so "
        f"questions can't read a picture's features; let them read codes (policy.reads: {CODES}), or choose a policy "
        f"that has one."
    )


def _check_complete(folder: Path) -> None:
    if not (folder / CONFIG_FILE).is_file() and is_blip3o_next(folder):
        raise UserError(
            f"{folder} is a BLIP3o-NEXT checkpoint, no policy folder yet; convert it: "
            f"python -m policy.convert blip3o-next {shlex.quote(str(folder))} OUT"
        )
    missing = [] if (folder / CONFIG_FILE).is_file() else [CONFIG_FILE]
    for part, files in PARTS.items():
        missing += [f"{part}/{file}" for file in files if not _present(folder / part, file)]
    if not missing and ATTENDED in read_ways(read_json(folder / CONFIG_FILE), str(folder / CONFIG_FILE)):
        missing = [
            f"{REFERENCE_PART}/{file}" for file in PARTS["connector"] if not _present(folder / REFERENCE_PART, file)
        ]
    if missing:
        raise UserError(
            f"{folder}: the policy folder lacks {', '.join(missing)}; "
            "copy the missing part from the model it belongs to."
        )


def _present(part: Path, file: str) -> bool:
    sharded = file.endswith(".safetensors") and (part / f"{file}.index.json").is_file()
    return (part / file).is_file() or sharded


def _mismatches(folder: Path, layout: TokenLayout) -> list[str]:
    ar, connector, transformer, vae, image_tokenizer = (
        read_json(folder / part / "config.json")
        for part in ("ar", "connector", "transformer", "vae", "image_tokenizer")
    )
    twice = CHANNELS in read_ways(read_json(folder / CONFIG_FILE), str(folder / CONFIG_FILE))
    reference = folder / REFERENCE_PART / "config.json"
    sees = read_json(reference) if reference.is_file() else {}
    pairs = [
        *(
            (f"{key} of {REFERENCE_PART}", sees[key], f"{other} of {part}", content.get(other, _LATENTS))
            for key, part, other, content in (
                ("latent_channels", "vae", "latent_channels", vae),
                ("caption_channels", "connector", "caption_channels", connector),
            )
            if key in sees
        ),
        ("vocab_size of ar", ar.get("vocab_size"), "vocab_size of the layout", layout.vocab_size),
        ("hidden_size of connector", connector.get("hidden_size"), "hidden_size of ar", ar.get("hidden_size")),
        (
            "caption_channels of transformer",
            transformer.get("caption_channels"),
            "caption_channels of connector",
            connector.get("caption_channels"),
        ),
        (
            "in_channels of transformer",
            transformer.get("in_channels", _LATENTS),
            "twice the latent_channels of vae" if twice else "latent_channels of vae",
            vae.get("latent_channels", _LATENTS) * (2 if twice else 1),
        ),
        ("codes of image_tokenizer", image_tokenizer.get("codes"), "num_image_tokens", layout.num_image_tokens),
        *(
            [("reads of image_tokenizer", image_tokenizer.get("reads"), "hidden_size of ar", ar.get("hidden_size"))]
            if image_tokenizer.get("kind") == HYBRID
            else []
        ),
    ]
    return [f"{a} is {x} but {b} is {y}" for a, x, b, y in pairs if x != y]
