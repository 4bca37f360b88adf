"""Every component that a configuration can name, in one lazy table.

``use: grpo`` is looked up in three places, the first that knows it wins: the built-in table below
(name -> "module:attr"), the entry points of installed packages (group ``easel_rl.<kind>``), and the
name itself if it reads ``module:attr``, importable from the current folder, or shipped with the package
(``examples.custom_reward.bright:bright``). Nothing is imported before :func:`resolve` is called, so a configuration is
checked without torch.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Collection
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from rl import OWN_PACKAGES
from rl.types import UserError

SHIPPED = Path(__file__).with_name("shipped")
"""``configs/`` and ``examples/``, in a checkout and in an installed package."""

BUILT_IN: dict[str, dict[str, str]] = {
    "prompts": {
        "shapes": "rl.data.shapes.prompts:prompts",
        "jsonl": "rl.data.prompts:jsonl",
        "text": "rl.data.prompts:text",
        "hf": "rl.data.hugging_face:hf",
        "geneval": "rl.data.presets.geneval:geneval",
        "words": "rl.data.presets.words:words",
        "gedit_bench": "rl.data.presets.editing:gedit_bench",
        "imgedit_bench": "rl.data.presets.editing:imgedit_bench",
        "mixture": "rl.data.mixture:mixture",
    },
    "curricula": {
        "learnability": "rl.data.drawing.curricula:learnability",
        "failure": "rl.data.drawing.curricula:failure",
        "signal": "rl.data.drawing.curricula:signal",
    },
    "group_sizes": {
        "knapsack": "rl.data.drawing.group_sizes:knapsack",
        "neyman": "rl.data.drawing.group_sizes:neyman",
    },
    "examples": {
        "shapes": "rl.data.shapes.examples:examples",
        "shapes_mixed": "rl.data.shapes.mixed:mixed",
        "jsonl": "rl.data.examples.files:jsonl",
        "tar": "rl.data.examples.files:tar",
        "hf": "rl.data.examples.tables:hf",
    },
    "samplers": {
        "vllm": "rollout.samplers.vllm_sampler:VllmSampler",
        "torch": "rollout.samplers.torch_sampler:TorchSampler",
    },
    "prompt_encoders": {"template": "policy.prompt:TemplateEncoder", "inline": "policy.pictures.inline:InlineEncoder"},
    "image_tokenizers": {
        "patch_vq": "policy.tokenizers.patch:PatchTokenizer",
        "ta_tok": "policy.tokenizers.ta_tok:TaTok",
        "hybrid": "policy.tokenizers.hybrid:HybridTokenizer",
    },
    "decoder_samplers": {
        "euler": "policy.trajectory:euler",
        "sde": "policy.flow.samplers:sde",
        "cps": "policy.flow.samplers:cps",
    },
    "rewards": {
        "geneval": "rewards.library.geneval.reward:GenEval",
        "ocr": "rewards.library.ocr.reward:Ocr",
        "aesthetic": "rewards.library.aesthetic:Aesthetic",
        "clip_score": "rewards.library.clip_score:ClipScore",
        "pickscore": "rewards.library.pickscore:PickScore",
        "hpsv2": "rewards.library.hpsv2:HpsV2",
        "image_reward": "rewards.library.image_reward:ImageReward",
        "vlm_judge": "rewards.library.vlm_judge.reward:VlmJudge",
        "details": "rewards.library.details.reward:Details",
        "edit": "rewards.library.edit.reward:Edit",
        "answer": "rewards.library.answer.reward:AnswerMatch",
        "quality": "rewards.library.quality:Quality",
        "similarity": "rewards.library.similarity:Similarity",
        "remote": "rewards.remote.client:Remote",
        "trl": "rewards.library.trl:TrlReward",
    },
    "combinations": {
        "mean": "rewards.combine:mean",
        "sum": "rewards.combine:sum_",
        "product": "rewards.combine:product",
        "gdpo": "rewards.combine:gdpo",
    },
    "detectors": {
        "shapes": "rewards.library.geneval.detectors.shapes:ShapesDetector",
        "mask2former": "rewards.library.geneval.detectors.mask2former:Mask2Former",
        "grounding_dino": "rewards.library.geneval.detectors.grounding_dino:GroundingDino",
        "owlv2": "rewards.library.geneval.detectors.owlv2:Owlv2",
        "yolox": "rewards.library.geneval.detectors.yolox:Yolox",
        "picodet": "rewards.library.geneval.detectors.picodet:PicoDet",
    },
    "color_classifiers": {
        "clip": "rewards.library.geneval.clip_colors:ClipColors",
        "pixels": "rewards.library.geneval.pixel_colors:PixelColors",
    },
    "advantages": {
        "grpo": "rl.algorithm.advantages:grpo",
        "dr_grpo": "rl.algorithm.advantages:dr_grpo",
        "rloo": "rl.algorithm.advantages:rloo",
        "max_rl": "rl.algorithm.advantages:max_rl",
        "batch_norm": "rl.algorithm.advantages:batch_norm",
    },
    "losses": {
        "grpo": "rl.algorithm.losses:grpo",
        "dapo": "rl.algorithm.losses:dapo",
        "gspo": "rl.algorithm.losses:gspo",
        "cispo": "rl.algorithm.losses:cispo",
        "sapo": "rl.algorithm.losses:sapo",
        "reinforce": "rl.algorithm.losses:reinforce",
    },
    "aggregations": {
        "token_mean": "rl.algorithm.losses:token_mean",
        "sequence_mean": "rl.algorithm.losses:sequence_mean",
        "constant": "rl.algorithm.losses:constant",
    },
    "kls": {"k1": "rl.algorithm.kl:k1", "k2": "rl.algorithm.kl:k2", "k3": "rl.algorithm.kl:k3"},
    "kl_references": {
        "fixed": "rl.algorithm.reference:fixed",
        "refreshed": "rl.algorithm.reference:refreshed",
        "ema": "rl.algorithm.reference:ema",
    },
    "entropies": {"bonus": "rl.algorithm.entropy:bonus", "target": "rl.algorithm.entropy:target"},
    "terms": {},
    "anchors": {"condition": "rl.algorithm.anchor:condition"},
    "decoder_losses": {
        "nft": "rl.algorithm.flow.nft:nft",
        "awm": "rl.algorithm.flow.nft:awm",
        "flow_grpo": "rl.algorithm.flow.flow_grpo:flow_grpo",
    },
    "corrections": {
        "token_tis": "rl.algorithm.correction:token_tis",
        "sequence_tis": "rl.algorithm.correction:sequence_tis",
        "token_mis": "rl.algorithm.correction:token_mis",
        "sequence_mis": "rl.algorithm.correction:sequence_mis",
    },
}

_ELSEWHERE = {
    "hpsv3": "HPSv3 is a regression head on Qwen2-VL-7B, no chat model that vlm_judge could ask: call its own package "
    "in a function of yours, `use: module:attr` with `python:` of its environment, or take hpsv2",
    "unifiedreward": "it is a configuration of vlm_judge, `extends: configs/rewards/unified_reward.yaml`",
    "geneval2": "vlm_judge asks its questions, `extends: configs/rewards/geneval2_judge.yaml`",
}
"""Rewards that people look for -> the way there. By the beginning, without case, `-` and `_`."""

_MODULE_ATTR = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def names(kind: str) -> list[str]:
    """All names known for a kind, built-in ones first. Raises KeyError on an unknown kind."""
    built_in = list(BUILT_IN[kind])
    return built_in + sorted(set(_entry_points(kind)) - set(built_in))


def is_module_attr(text: str) -> bool:
    """Whether it has the form ``module:attr``."""
    return _MODULE_ATTR.fullmatch(text) is not None


def top_package(target: str) -> str:
    """Of ``module:attr``, the first part of the module's name."""
    return target.partition(":")[0].partition(".")[0]


def locate(kind: str, use: str) -> str:
    """The ``"module:attr"`` that ``use`` stands for, without importing it.

    Raises UserError on an unknown name (with the nearest known ones) and on a module that can't be found.
    """
    if target := BUILT_IN[kind].get(use):
        return target
    if target := _entry_points(kind).get(use):
        return target
    if ":" not in use:
        if kind == "rewards" and (hint := _hint(use)):
            raise UserError(f"there is no {use!r} among the {kind}; {hint}")
        if kind == "prompts" and Path(use).suffix:
            raise UserError(
                f"{use!r} is a file, not one of the prompts: write {{use: jsonl, options: {{path: {use}}}}}"
            )
        raise UserError(
            f"there is no {use!r} among the {kind}{did_you_mean(use, names(kind))} "
            f"(known: {', '.join(names(kind))}; your own: module:attr)"
        )
    if not is_module_attr(use):
        raise UserError(f"{use!r} is not of the form module:attr, for example my_rewards:bright")
    if use.partition(":")[0].endswith(".py"):
        raise UserError(f"{use!r} names a file; write the module, without the ending: {use.replace('.py:', ':')}")
    top = top_package(use)
    _make_importable()
    _check_not_in_the_way(use)
    if top not in sys.modules and importlib.util.find_spec(top) is None:
        raise UserError(
            f"there is no module {top!r} for {use!r}: it is neither in the current folder {os.getcwd()} nor installed"
        )
    return use


def resolve(kind: str, use: str) -> Any:
    """Import and return the component: a function or a class.

    Raises UserError if the name is unknown, a module that it imports is not installed, or the attribute is missing.
    """
    module_name, _, attribute = locate(kind, use).partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{kind} component {use!r} ({module_name}) needs the module {error.name!r}, which is not installed"
        ) from error
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise UserError(f"module {module_name!r} has no {attribute!r}{did_you_mean(attribute, public)} ({kind}: {use})")
    return getattr(module, attribute)


def source_file(module: str) -> Path | None:
    """The file of a module. Only the top package is looked up: ``find_spec("a.b")`` would import ``a``."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module without a spec, such as __main__
        return None
    if spec is None or (rest and not spec.submodule_search_locations):
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        base = Path(folder, *rest)
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def did_you_mean(wrong: str, known: Collection[str]) -> str:
    """``", did you mean 'steps'?"`` or an empty string."""
    near = nearest(wrong, known)
    return f", did you mean {near!r}?" if near else ""


def nearest(wrong: str, known: Collection[str], *, alike: float = 0.6) -> str | None:
    """The known name that is most like it, if one is."""
    return next(iter(difflib.get_close_matches(wrong, known, n=1, cutoff=alike)), None)


def _hint(use: str) -> str:
    plain = re.sub("[-_ ]", "", use).casefold()
    return next((hint for name, hint in _ELSEWHERE.items() if plain.startswith(name)), "")


def _entry_points(kind: str) -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=f"easel_rl.{kind}")}


def _make_importable() -> None:
    # ``python -m`` has the current folder on the path already, scripts do not. Last: it shadows nothing.
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    if str(SHIPPED) not in sys.path:
        sys.path.append(str(SHIPPED))


def _check_not_in_the_way(use: str) -> None:
    """Raises UserError if a file in the current folder has the name of another module, which Python finds instead."""
    module, top = use.partition(":")[0], top_package(use)
    here = next((path for path in (Path(f"{top}.py"), Path(top, "__init__.py")) if path.is_file()), None)
    found = source_file(top)
    if here is None or found is None or found.samefile(here) or (module != top and source_file(module)):
        return
    owner = "a package of easel-rl" if top in OWN_PACKAGES else f"another module ({found})"
    raise UserError(
        f"./{here} has the name of {owner}, so {use!r} does not lead to it: "
        f"rename it, for example my_{top}.py, and write my_{use}"
    )
