"""What one field alone can't tell: rules across the sections of a run.

No component is known here by its name: what a rule asks of one, it declares itself (``rl.config.declared``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from rl.config.checks.mixed import check_shares, shares_note
from rl.config.checks.supervised import check_supervised, without_effect
from rl.config.declared import Declarations, declared_or_nothing
from rl.config.decoder_rules import check_decoder, decoder_notes
from rl.config.option_rules import check_options
from rl.config.origins import COMMAND_LINE, Origins
from rl.config.schedule_rules import check_schedule, in_phase, keyed, phases
from rl.config.schema import Config, SyncConfig
from rl.config.section import Optimisation
from rl.config.sections.cluster_rules import check_loop, ranks_key, ranks_of
from rl.config.sections.groups import GroupsConfig
from rl.config.sections.guards import GuardsConfig
from rl.config.values import Part
from rl.registry import did_you_mean, names

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_MOST_SAMPLES = 10**7  # of 64 x 64 pixels: 120 GB
_TERMS = ("policy", "kl", "anchor", "entropy")  # of every loss; all but the first have keys of their own
_IDLE: Mapping[Part, tuple[str, Sequence[str]]] = {
    "ar": (
        "the language model",
        (
            *(f"train.{key}" for key in Optimisation.model_fields if key not in ("micro_batch", "dtype")),
            "train.lora",
            *("advantage", "loss", "aggregation", "kl", "kl_reference", "entropy", "anchor", "terms", "correction"),
            *(f"sync.{key}" for key in SyncConfig.model_fields),
            *(f"groups.{key}" for key in GroupsConfig.model_fields),
            *(
                f"guards.{key}"
                for key in ("entropy_drop", "max_kl", "max_mismatch", "max_mismatch_age", "max_zero_std")
            ),
        ),
    ),
    "decoder": (
        "the decoder",
        (
            "eval.parts",
            *(f"guards.{key}" for key in ("min_unlike_renders", "min_decoder_share", "reference_rise")),
            *(f"guards.{key}" for key in ("x0_rise", "grid_rise")),
        ),
    ),
}
"""What has no effect where a network does not learn; in two of ``train``, it is what the frozen one computes with."""


def check(config: Config) -> Iterator[tuple[str, str]]:
    """(key, message) of every broken rule; nothing for a sound run."""
    if config.supervised:
        yield from _names(config)
        yield from check_options(config)
        yield from check_guards(config.guards)
        yield from check_supervised(config, config.supervised)
        return
    yield from _rewards(config)
    yield from _terms(config)
    yield from _slow_copies(config)
    if config.checkpoint.experience is True and "decoder" in config.trainers:
        yield (
            "checkpoint.experience",
            "a decoder learns from latents and hidden states, gigabytes in each step of a large model, which are not "
            "kept; take decoder out of trainers, or leave this at auto and have steps sampled anew after a resume",
        )
    if config.checkpoint.experience is True and config.groups.flat == "resample":
        yield (
            "checkpoint.experience",
            "with groups.flat 'resample' a step is made of rounds, in which the reference policy is asked, and the "
            "log does not know them, so that a repeated update would not be the same to the last bit; write groups: "
            "skip, or leave this at auto",
        )
    yield from check_options(config)
    yield from check_schedule(config)
    yield from check_groups(config)
    yield from check_shares(config)
    yield from check_guards(config.guards)
    yield from check_loop(config)
    yield from keyed(config, "decoder", check_decoder(in_phase(config, "decoder")))
    if config.train.steps > 0:
        if "ar" in config.trainers:
            yield from keyed(config, "ar", _sampling(in_phase(config, "ar")))
            yield from keyed(config, "ar", _training(in_phase(config, "ar")))
        for phase in phases(config):
            yield from keyed(config, phase.parts[0], _step(phase.config))
    elif config.data.eval is None or not config.eval.due(0, 0):
        missing = "data.eval is null" if config.data.eval is None else "eval.at_start and eval.at_end are off"
        yield "train.steps", f"is 0 and {missing}, so there is nothing to do; give it steps or something to evaluate"


def notes(config: Config) -> Iterator[str]:
    """What is not as it is written, one line each."""
    train = config.train
    for one in config.learning:
        yield from _warmup(one, config.steps_of(one, train.steps))
    if config.supervised:
        return
    group_size = in_phase(config, "ar").rollout.group_size
    samples = config.data.prompts_per_step * group_size // train.updates_per_rollout
    if "ar" in config.trainers and train.steps > 0 and (left := -samples % ranks_of(config)):
        yield (
            f"{ranks_key(config)}: {samples} samples of an update don't divide by {ranks_of(config)} ranks, so {left} "
            f"more {'is' if left == 1 else 'are'} computed each time that count{'s' * (left == 1)} nothing"
        )
    if "ar" in config.trainers and train.ema is not None and config.eval.policy == "live":
        yield "train.ema: the slow copy is kept and not used, because eval.policy is live; write ema there"
    if "ar" in config.trainers and train.offload_reference and _reference_moves(config):
        yield (
            "train.offload_reference: moves the fixed reference policy alone, if a term asks it; the copy that "
            f"kl_reference {config.kl_reference.use!r} carries along stays where the training is"
        )
    if config.data.shares:
        yield shares_note(config.data.shares, config.data.prompts_per_step)
    yield from decoder_notes(in_phase(config, "decoder"))
    if late := [step for step in config.tracking.profile if step > train.steps]:
        yield f"tracking.profile: the run has {train.steps} steps, so there is no step {late[0]} to trace"


def idle(config: Config, origins: Origins, file: str) -> Iterator[str]:
    """One sentence about what was written in ``file`` itself, or typed, for a network that does not learn. What it
    inherits may have been meant for others."""
    if config.train.steps == 0:
        return
    if config.supervised:
        if own := _own(without_effect(), origins, file):
            yield f"{', '.join(own)}: without effect, for a run with supervised: learns from examples"
        return
    for part, (network, keys) in _IDLE.items():
        if own := _own(keys, origins, file) if part not in config.trainers else []:
            yield (
                f"{', '.join(own)}: without effect, for trainers is [{', '.join(config.trainers)}], and {network} "
                "stays as it is"
            )


def check_groups(config: Config) -> Iterator[tuple[str, str]]:
    """Of a run that leaves groups out, samples again or shares its samples out."""
    groups, size = config.groups, config.rollout.group_size
    if config.train.steps == 0:
        return
    if groups.flat != "keep":
        yield from _without_signal(config)
    if groups.flat == "resample" or groups.sizes is not None:
        key = "groups.flat" if groups.flat == "resample" else "groups.sizes"
        yield from _language_model_alone(config, key)
    if groups.sizes is None:
        return
    least = declared_or_nothing("advantages", config.advantage.use).least_group
    if size % groups.unit:
        yield "groups.unit", f"is {groups.unit}, which does not divide rollout.group_size {size}; write one that does"
    elif size == groups.unit:
        yield (
            "groups.unit",
            f"is rollout.group_size itself ({size}), so every prompt would get one unit; write a smaller divisor of it",
        )
    elif groups.unit < least:
        yield (
            "groups.unit",
            f"is {groups.unit}, and advantage {config.advantage.use!r} compares at least {least} samples of a prompt",
        )


def _without_signal(config: Config) -> Iterator[tuple[str, str]]:
    if "ar" not in config.trainers:
        yield (
            "groups.flat",
            f"is {config.groups.flat}, which is about the groups of the language model, and trainers is "
            f"[{', '.join(config.trainers)}]; leave it at keep",
        )
    elif config.rollout.group_size == 1:
        yield (
            "groups.flat",
            f"is {config.groups.flat}, and with rollout.group_size 1 all rewards of a group are equal, so nothing "
            "would be left; leave it at keep",
        )


def _language_model_alone(config: Config, key: str) -> Iterator[tuple[str, str]]:
    if "decoder" in config.trainers:
        yield (
            key,
            "chooses samples for the language model, and the decoder learns from the same pictures; write trainers: "
            "[ar], or leave it out",
        )
    if key == "groups.flat" and config.rollout.sleep == 2:
        yield (
            "rollout.sleep",
            "level 2 drops the engine's weights after the first round of a step, and groups.flat: resample samples "
            "several; set it to 1",
        )


def check_guards(guards: GuardsConfig) -> Iterator[tuple[str, str]]:
    """An action of a guard that there is not would never be taken."""
    own = ("action", "actions", "lr_factor", "render_fidelity_share")
    known = [key for key in GuardsConfig.model_fields if key not in own]
    for name in guards.actions:
        if name not in known:
            yield f"guards.actions.{name}", f"is no guard{did_you_mean(name, known)} (known: {', '.join(known)})"
        elif getattr(guards, name) is None:
            yield f"guards.actions.{name}", f"can't be taken, for guards.{name} is null; give it a threshold"


def _own(keys: Sequence[str], origins: Origins, file: str) -> list[str]:
    """Those written in ``file`` itself, or typed."""
    places = {key: origins.of(key) for key in keys}
    return [f"{key} ({place})" for key, place in places.items() if place and place.source in (file, COMMAND_LINE)]


def _warmup(one: Optimisation, steps: int) -> Iterator[str]:
    key, updates, warmup = f"{one.section}.warmup_steps", one.updates_in(steps), one.warmup_in(steps)
    if steps > 0 and warmup < one.warmup_steps:
        yield (
            f"{key}: {one.warmup_steps} is clipped to {warmup}, because the run has only {updates} optimiser "
            f"step{'s' * (updates != 1)} and the cosine needs one"
        )
    elif 0 < updates < one.warmup_steps:
        yield f"{key}: the run ends inside its warm-up, after {updates} of {one.warmup_steps} optimiser steps"


def _rewards(config: Config) -> Iterator[tuple[str, str]]:
    if not config.rewards:
        example = names("rewards")[0]
        yield "rewards", f"a run needs at least one reward, for example rewards.{example}={example}"
        return
    yield from _names(config)
    for name, reward in config.rewards.items():
        if reward.role == "train" and reward.weight == 0:
            yield f"rewards.{name}.weight", "weight 0 trains nothing; to log the reward only, write role: monitor"
    if config.train.steps > 0 and all(reward.role == "monitor" for reward in config.rewards.values()):
        yield "rewards", "every reward has role: monitor, so there is nothing to learn from; give one role: train"
    elif config.train.steps > 0:
        yield from _parts(config)


def _names(config: Config) -> Iterator[tuple[str, str]]:
    for name in config.rewards:
        if not _NAME.fullmatch(name):
            yield f"rewards.{name}", "a reward's name may hold letters, digits, '_' and '-' only"


def _parts(config: Config) -> Iterator[tuple[str, str]]:
    for name, reward in config.rewards.items():
        if reward.role == "train" and reward.part != "both" and reward.part not in config.trainers:
            yield (
                f"rewards.{name}.part",
                f"is {reward.part}, which is not trained (trainers: [{', '.join(config.trainers)}]); write both, or "
                f"train it with trainers: [{', '.join(sorted({*config.trainers, reward.part}))}]",
            )
    for part in config.trainers:
        if not any(reward.teaches(part) for reward in config.rewards.values()):
            yield (
                "trainers",
                f"no reward with role: train is left for {part}, so it would learn nothing; give one of them "
                f"part: {part} or both, or take {part} out",
            )


def _terms(config: Config) -> Iterator[tuple[str, str]]:
    for name in config.terms:
        if not _NAME.fullmatch(name):
            yield f"terms.{name}", "a term's name may hold letters, digits, '_' and '-' only"
        if name in _TERMS:
            yield f"terms.{name}", f"{name!r} is the name of a term that every loss may have; give yours another"


def _slow_copies(config: Config) -> Iterator[tuple[str, str]]:
    """Of the language model: a reference that moves, and what is evaluated."""
    train, learns = config.train, "ar" in config.trainers
    moves = learns and _reference_moves(config)
    if moves and config.kl is None:
        yield (
            "kl_reference",
            f"is {config.kl_reference.use!r}, and kl is null, so nothing is compared with it; write kl: k3, or "
            "kl_reference: fixed",
        )
    if config.eval.policy == "ema" and not learns:
        yield "eval.policy", "is ema, and the language model stays as it is, so it has no slow copy; write live"
    elif config.eval.policy == "ema" and train.ema is None:
        yield "eval.policy", "is ema, and train.ema is null, so there is no such copy; give train.ema, for example 0.99"
    if learns and train.zero_stage == 3 and (kept := [*["kl_reference"] * moves, *["train.ema"] * bool(train.ema)]):
        yield (
            "train.zero_stage",
            f"3 cuts the weights up, and a slow copy of them ({', '.join(kept)}) needs the whole; use stage 2",
        )


def _reference_moves(config: Config) -> bool:
    return not declared_or_nothing("kl_references", config.kl_reference.use).fixed


def _sampling(config: Config) -> Iterator[tuple[str, str]]:
    # A truncated sampler draws from p / kept mass while the trainer's log-probs are of p: the ratio is biased
    # (0.90 at top_p 0.8), and in bf16 some sampled tokens even lie outside the trainer's support.
    rollout = config.rollout
    why = (
        "the trainer's log-probs are those of the whole distribution, so truncated sampling biases the ratio "
        "(only an evaluation, train.steps=0, may truncate)"
    )
    if rollout.top_p != 1:
        yield "rollout.top_p", f"must be 1 while training, got {rollout.top_p}: {why}"
    if rollout.top_k != 0:
        yield "rollout.top_k", f"must be 0 (off) while training, got {rollout.top_k}: {why}"
    advantage = declared_or_nothing("advantages", config.advantage.use)
    if rollout.group_size < advantage.least_group:
        yield (
            "rollout.group_size",
            f"advantage {config.advantage.use!r} compares the samples of a group, so it needs at least "
            f"{advantage.least_group}, got {rollout.group_size}",
        )
    combination = declared_or_nothing("combinations", config.combine.use)
    if advantage.from_zero and combination.centred is True:
        yield (
            "advantage.use",
            f"{config.advantage.use} needs rewards of 0 or more, and the totals of combine: {config.combine.use} have "
            f"a mean of 0; write combine: {_first('combinations', lambda declared: declared.centred is False)}",
        )
    if advantage.across_prompts and combination.centred is False:
        centred = _first("combinations", lambda declared: declared.centred is True)
        within = _first("advantages", lambda declared: not declared.across_prompts)
        yield (
            "advantage.use",
            f"{config.advantage.use} compares a sample with other prompts' samples, so with combine: "
            f"{config.combine.use} easy prompts would be rewarded; write combine: {centred}, or advantage: {within}",
        )


def _step(config: Config) -> Iterator[tuple[str, str]]:
    """Whatever learns in it."""
    samples = config.data.prompts_per_step * config.rollout.group_size
    if samples * config.render.renders > _MOST_SAMPLES:
        yield (
            "rollout.group_size",
            f"a step would hold {samples * config.render.renders:,} pictures (data.prompts_per_step "
            f"{config.data.prompts_per_step} x rollout.group_size {config.rollout.group_size} x render.renders "
            f"{config.render.renders}), more than {_MOST_SAMPLES:,}; lower one of them",
        )
    if config.rollout.sleep and config.rollout.engine == "torch":
        yield "rollout.sleep", "the engine torch keeps its memory; set it to 0, or use rollout.engine: vllm"


def _training(config: Config) -> Iterator[tuple[str, str]]:
    """Of the language model."""
    train = config.train
    samples = config.data.prompts_per_step * config.rollout.group_size
    if samples % train.updates_per_rollout:
        yield (
            "train.updates_per_rollout",
            f"{train.updates_per_rollout} does not divide the {samples} samples of a step "
            f"(data.prompts_per_step {config.data.prompts_per_step} x rollout.group_size {config.rollout.group_size})",
        )
    if ranks_of(config) > samples // train.updates_per_rollout:
        yield (
            ranks_key(config),
            f"{ranks_of(config)} ranks can't share the {samples // train.updates_per_rollout} samples of an update "
            f"(data.prompts_per_step {config.data.prompts_per_step} x rollout.group_size {config.rollout.group_size} / "
            f"train.updates_per_rollout {train.updates_per_rollout}); lower {ranks_key(config)}, "
            "or give a step more samples",
        )
    if config.policy.compile and train.zero_stage == 3:
        yield (
            "policy.compile",
            "sharded weights (train.zero_stage: 3) are not compiled; use stage 2 or compile: off",
        )
    if config.rollout.sleep == 2 and not config.sync.enabled:
        yield (
            "rollout.sleep",
            "level 2 drops the engine's weights, and sync.enabled: false sends none; set it to 1",
        )
    if train.offload_optimizer and train.zero_stage == 0:
        yield "train.offload_optimizer", "it is ZeRO that moves the states, and train.zero_stage is 0; set it to 1"
    if train.offload_reference and train.lora:
        yield (
            "train.offload_reference",
            "with train.lora the reference is the trained policy without its adapters, so there is no copy to move; "
            "leave it null",
        )
    if train.updates_per_rollout > 1 and declared_or_nothing("losses", config.loss.use).on_policy:
        other = _first("losses", lambda declared: not declared.on_policy)
        yield (
            "train.updates_per_rollout",
            f"loss {config.loss.use!r} has no ratio, so it must be 1, got {train.updates_per_rollout}; "
            f"or use loss: {other}",
        )


def _first(kind: str, suits: Callable[[Declarations], bool]) -> str:
    """The first component of a kind that could be named instead."""
    return next(name for name in names(kind) if suits(declared_or_nothing(kind, name)))
