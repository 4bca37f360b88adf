"""The prompts of a run, looked over before anything heavy is loaded: whatever a later step would stumble over."""

from __future__ import annotations

from collections.abc import Sequence

from policy.conditions import BESIDE_NOISE, read_ways
from policy.folder import read_prompt_encoder, read_reads, resolve_folder
from policy.json_file import read_json
from policy.parts import CONFIG_FILE
from policy.prompt_length import require_room_in_template
from rl.config.declared import declarations
from rl.config.schema import Config
from rl.config.sections.supervised import SupervisedConfig
from rl.data.drawing.draws import require_tasks
from rl.data.examples.load import example_stream, load_examples
from rl.data.picture_check import require_sound_pictures
from rl.data.prompt_list import PromptList, overlap
from rl.data.prompts import load_prompts
from rl.data.stream import (
    needs_of,
    require_applicable,
    require_judged_answers,
    require_metadata,
    require_sound_metadata,
    require_text_alone,
)
from rl.data.task_stream import prompt_stream
from rl.data.tasks import is_question, require_no_more, require_one_kind, require_pictures
from rl.types import Prompt, UserError

_APART = (
    "{key}: is 3, and the decoder of {policy!r} sees references beside its noise, so that pictures with and without "
    "one are computed apart, which sharded weights do not allow; {fix}"
)
_LOOKED_AT, _ASKED = 64, 8  # examples of a supervised run


def check_data(config: Config) -> tuple[PromptList, PromptList]:
    """(training prompts, held-out prompts), fit for the run's step size, rewards and policy.

    Raises UserError on missing or empty files, bad lines, too few prompts, prompts that no reward can score, rewards
    that no prompt is for, prompts too long for the policy, broken pictures, and prompts with pictures for a policy
    that reads text alone.
    """
    if config.supervised:
        return _check_examples(config, config.supervised)
    train_prompts = load_prompts(config.data.train, "data.train")
    eval_prompts = load_prompts(config.data.eval, "data.eval") if config.data.eval else PromptList([])
    if config.data.shares is None:
        require_one_kind(train_prompts, "data.train")
    prompt_stream(config.data, train_prompts, config.run.seed)
    check_draws(config, train_prompts)
    if needs := needs_of(config.rewards):
        require_metadata(train_prompts, needs)
        require_metadata(eval_prompts, needs_of(config.rewards, ("train", "monitor")))
    require_sound_metadata([*train_prompts, *eval_prompts], config.rewards)
    require_judged_answers(train_prompts, config.rewards)
    idle = require_applicable(train_prompts, config.rewards)
    pictures = _check_policy_reads(config, [*train_prompts, *eval_prompts])
    return PromptList(train_prompts, [*train_prompts.notes, *idle, pictures]), eval_prompts


def check_draws(config: Config, prompts: Sequence[Prompt]) -> None:
    """Raises UserError where a curriculum has nothing to choose, or a step may want more prompts than there are."""
    if config.data.curriculum:
        require_tasks(prompts)
    groups, per_step = config.groups, config.data.prompts_per_step
    if (most := groups.most_prompts(per_step) or 0) > len(prompts):
        raise UserError(
            f"groups.budget is {groups.budget:g}, so a step may sample {most:,} different prompts "
            f"(data.prompts_per_step {per_step}), but data.train has only {len(prompts):,}; lower it to at most "
            f"{len(prompts) / per_step:.4g} or add prompts"
        )


def _check_examples(config: Config, options: SupervisedConfig) -> tuple[PromptList, PromptList]:
    """Some short prompts of the first examples, which the sampler is asked about, and the held-out ones."""
    examples = load_examples(options.examples)
    first = example_stream(examples, _LOOKED_AT, config.run.seed).at(0)
    eval_prompts = load_prompts(config.data.eval, "data.eval") if config.data.eval else PromptList([])
    if needs := needs_of(config.rewards, ("train", "monitor")):
        require_metadata(eval_prompts, needs)
    require_sound_metadata(eval_prompts, config.rewards)
    asked = sorted({one.prompt.id: one.prompt for one in first}.values(), key=lambda one: len(one.text))[:_ASKED]
    pictures = _check_policy_reads(config, [*asked, *eval_prompts])  # a row that is too long is left out in its turn
    _check_sharded(config, options)
    return PromptList(asked, [*examples.notes, pictures], examples.digest()), eval_prompts


def _check_sharded(config: Config, options: SupervisedConfig) -> None:
    """Raises UserError where ranks would not need the same of the decoder's weights at the same time."""
    where = resolve_folder(config.policy.path) / CONFIG_FILE
    if config.train.zero_stage == 3 and options.losses.flow and BESIDE_NOISE in read_ways(read_json(where), str(where)):
        raise UserError(_APART.format(key="train.zero_stage", policy=config.policy.path, fix="make it 2 or less"))


def notes_on(train_prompts: PromptList, eval_prompts: PromptList) -> list[str]:
    """What a user should know of these prompts, one sentence each."""
    shared = overlap(train_prompts, eval_prompts)
    both = [f"data.eval: {shared:,} of {len(eval_prompts):,} prompts are training prompts too"] if shared else []
    return [*train_prompts.notes, *eval_prompts.notes, *both]


def _check_policy_reads(config: Config, prompts: Sequence[Prompt]) -> str:
    """Length and pictures; a sentence if not all pictures were looked at. Raises UserError."""
    require_pictures(prompts)
    encoder = read_prompt_encoder(resolve_folder(config.policy.path))
    declared = declarations("prompt_encoders", encoder)
    if declared.in_template:  # the length in any other is known when the policy is loaded
        require_room_in_template(prompts, config.policy.path)
    if not any(prompt.pictures for prompt in prompts):
        return ""
    if not declared.pictures:
        require_text_alone(prompts, encoder, config.policy.path)
    for prompt in prompts if declared.in_template else ():
        require_no_more(prompt)
    require_a_reader(config)
    if any(map(is_question, prompts)):
        read_reads(resolve_folder(config.policy.path), config.policy.reads)
        _check_answers(config)
    else:
        _check_decoder_learns(config, prompts)
    return require_sound_pictures(prompts)


def require_a_reader(config: Config) -> None:
    """Prompts hold pictures: the run's own process turns them into tokens. Raises UserError."""
    if config.cluster.trainers:
        raise UserError(
            f"cluster.trainers: is {config.cluster.trainers}, so the run's own process has no model, and data holds "
            "pictures that it would have to read; leave cluster.trainers out"
        )


def _check_answers(config: Config) -> None:
    """Prompts hold questions: what a step of words alone can't be. Raises UserError."""
    for key, wrong, fix in (
        (
            "trainers",
            "decoder" in config.trainers,
            "nothing is painted that a decoder learns from; train ar alone",
        ),
        ("loop.use", config.loop.ahead, "only the serial loop answers them so far; set it to serial"),
    ):
        if wrong:
            raise UserError(f"{key}: data holds questions that are answered in words, and {fix}")


def _check_decoder_learns(config: Config, prompts: Sequence[Prompt]) -> None:
    """Prompts hold pictures, which a decoder that learns from them must see. Raises UserError."""
    where, trained = resolve_folder(config.policy.path) / CONFIG_FILE, config.trained_decoder
    if trained is None:
        return
    ways = read_ways(read_json(where), str(where))
    if not ways:
        raise UserError(
            f"trainers: the decoder of {config.policy.path!r} does not see the pictures that are to be changed "
            f"(reference in its policy.json); train ar alone, or start from what python -m policy.references "
            f"{config.policy.path} OUT writes, after a supervised run on edits"
        )
    if BESIDE_NOISE in ways and trained.zero_stage == 3 and not all(prompt.pictures for prompt in prompts):
        raise UserError(
            _APART.format(
                key="decoder.zero_stage",
                policy=config.policy.path,
                fix="make it 2 or less, or data.train of edits alone",
            )
        )
