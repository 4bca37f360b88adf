"""What a run would do, worked out without torch: the resolved configuration, counts and a memory estimate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path

from policy.ar.size import ArSize
from policy.folder import read_policy_config, resolve_folder
from rl.config.load import dump
from rl.config.schedule_rules import Phase, phases
from rl.config.schema import Config
from rl.config.section import Optimisation
from rl.config.sections.cluster_rules import ranks_of
from rl.config.sections.decoder import DecoderConfig
from rl.config.sections.supervised import SupervisedConfig
from rl.data.prompt_list import overlap
from rl.preflight.adapters import learning_numbers, trained_parameters
from rl.preflight.memory.available import WORKER, worker_count
from rl.preflight.memory.estimate import Items, MemoryEstimate
from rl.preflight.memory.planning import decoder_plan, drawn_of, memory_of, pictures_of, samples_of, update_samples
from rl.preflight.memory.sizes import PolicySize
from rl.preflight.room import SHARED_MEMORY, check_shared_memory, checkpoint_bytes
from rl.preflight.supervised import supervised_parameters, supervised_rows
from rl.process.host import has_gpu
from rl.types import Prompt


def describe(config: Config, train_prompts: Sequence[Prompt], eval_prompts: Sequence[Prompt]) -> str:
    """The text of ``--dry-run``. Raises UserError if the policy folder is missing, incomplete or inconsistent."""
    folder = resolve_folder(config.policy.path)
    layout, _ = read_policy_config(folder)
    if config.supervised:
        return _supervised(config, config.supervised, folder, train_prompts, eval_prompts)
    parameters = ArSize.read(folder / "ar").parameters
    trained = trained_parameters(config.train, folder / "ar") if "ar" in config.trainers else 0
    plan, decoder = decoder_plan(config, PolicySize.read(folder)), config.trained_decoder
    pairs = plan.rows if plan else 0
    rows = [*_work(config, len(train_prompts), layout.tokens_per_image, pairs)]
    rows += _evaluations(config, train_prompts, eval_prompts)
    rows += [("trained", f"{trained:,} parameters in adapters")] if trained and config.train.lora else []
    learning = learning_numbers(config, folder)
    rows += [("decoder", _decoder(decoder, pairs, learning - trained))] if decoder else []
    rows += _memory(config, memory_of(config, [*train_prompts, *eval_prompts]), parameters)
    return _written(config, rows, learning)


def _supervised(
    config: Config,
    options: SupervisedConfig,
    folder: Path,
    asked: Sequence[Prompt],
    eval_prompts: Sequence[Prompt],
) -> str:
    """``asked``: some of the examples' prompts."""
    learning = supervised_parameters(config, options, folder)
    rows = supervised_rows(config, options, learning) + _evaluations(config, None, eval_prompts)
    if options.estimated:
        memory = memory_of(config, [*asked, *eval_prompts], held_out=len(eval_prompts))
        rows += _memory(config, memory, ArSize.read(folder / "ar").parameters)
    else:
        rows += [("memory", "not estimated where an autoencoder or an understanding branch learns")]
    return _written(config, rows, learning)


def _written(config: Config, found: Sequence[tuple[str, str]], learning: int) -> str:
    rows = [*found, ("run folder", str(config.run.folder))]
    rows += [("disk", f"{_size(checkpoint_bytes(learning))} a checkpoint")]
    rows += [(check.name, f"{check.found}; {check.fix}") for check in [check_shared_memory(SHARED_MEMORY)] if check.fix]
    width = max(len(name) for name, _ in rows)
    return dump(config) + "\n" + "\n".join(f"# {name:<{width}}  {value}" for name, value in rows)


def evaluation_steps(config: Config) -> list[int]:
    """Steps after which the run evaluates; 0 is before the first."""
    if config.data.eval is None:
        return []
    steps, every = config.train.steps, config.eval.every
    between = range(every, steps, every) if every else ()
    return sorted({*between, *(step for step in (0, steps) if config.eval.due(step, steps))})


def _memory(config: Config, memory: MemoryEstimate, parameters: int) -> list[tuple[str, str]]:
    """What lies there all the time, item by item, and what each phase adds to it."""
    workers, each = worker_count(config), " on the first rank" if ranks_of(config) > 1 else ""
    taught = config.supervised.has("ar") if config.supervised else "ar" in config.trainers
    frozen = "" if taught else ", which stays as it is"
    measured = " where measured, on CPUs" if has_gpu() else ""
    return [
        ("parameters", f"{parameters:,} in the language model{frozen}"),
        ("memory", f"{_size(memory.peak)} at most{each}, in '{memory.largest}' (estimate, within 15 %{measured})"),
        *((f"  {name}", _size(taken)) for name, taken in memory.held.items()),
        *((f"  + in {name}", _phase(items)) for name, items in memory.phases.items()),
        ("reward processes", f"{workers}, each about {_size(WORKER)} and its model besides"),
    ]


def _phase(items: Items) -> str:
    return f"{_size(sum(items.values()))}: " + ", ".join(f"{name} {_size(taken)}" for name, taken in items.items())


def _work(config: Config, prompts: int, tokens: int, pairs: int) -> list[tuple[str, str]]:
    """``pairs``: of a picture and a timestep, that the decoder learns from in a step."""
    steps, per_step, turns = config.train.steps, config.data.prompts_per_step, phases(config)
    every = config.checkpoint.every
    checkpoints = 1 + (max(steps - 1, 0) // every if every else 0)  # the last, also without any step
    return [
        ("steps", _steps(config, turns)),
        ("ranks", _ranks(config, pairs)),
        *(_warm_up(one, config.steps_of(one, steps)) for one in config.learning),
        ("training prompts", f"{prompts:,}, seen {steps * per_step / prompts:.1f} times each"),
        ("prompts", _each_step(turns, lambda turn: turn.data.prompts_per_step)),
        *_groups(config),
        ("samples", _each_step(turns, samples_of)),
        ("image tokens", f"{_each_step(turns, lambda turn: drawn_of(turn) * tokens)} ({tokens} a sample)"),
        ("pictures", _each_step(turns, pictures_of)),
        ("checkpoints", f"{checkpoints:,} written, {min(checkpoints, config.checkpoint.keep)} kept"),
    ]


def _groups(config: Config) -> list[tuple[str, str]]:
    """What is chosen as a run goes on."""
    groups, curriculum, per_step = config.groups, config.data.curriculum, config.data.prompts_per_step
    rows = [("curriculum", f"{curriculum.use}, tasks by their success so far")] if curriculum else []
    if groups.flat == "skip":
        rows += [("groups", "those without signal take no part in an update")]
    if most := groups.most_prompts(per_step):
        rows += [("groups", f"further prompts until {per_step:,} have a signal, at most {most:,} sampled in a step")]
    if groups.sizes:
        least, whole = groups.unit, per_step * config.rollout.group_size
        rows += [("group sizes", f"{groups.sizes.use}: {least} or more, a multiple of {least}, {whole:,} in all")]
    return rows


def _steps(config: Config, turns: Sequence[Phase]) -> str:
    steps, updates = f"{config.train.steps:,}", config.train.updates_per_rollout
    passes = ceil(update_samples(config) / config.train.micro_batch) * updates
    learnt = f" with {updates} update{_s(updates)} in {passes} micro-batch{_s(passes, 'es')} each"
    if len(turns) == 1:
        return steps + (learnt if "ar" in config.trainers else "")
    ar, decoder = (f"{turn.steps_from(0):,}" for turn in turns)
    return f"{steps}: {ar} of the language model{learnt}, {decoder} of the decoder"


def _each_step(turns: Sequence[Phase], count: Callable[[Config], int]) -> str:
    """``16 a step, 960 in all``, and whose step where they differ; a range where groups may be sampled again."""
    each, first = [count(turn.config) for turn in turns], turns[0].config
    whole = sum(one * turn.steps_from(0) for one, turn in zip(each, turns, strict=True))
    if most := first.groups.most_prompts(per_step := first.data.prompts_per_step):
        return f"{each[0]:,} to {each[0] * most // per_step:,} a step, {whole:,} to {whole * most // per_step:,} in all"
    if len(set(each)) == 1:
        return f"{each[0]:,} a step, {whole:,} in all"
    return f"{each[0]:,} a step of the language model, {each[1]:,} of the decoder, {whole:,} in all"


def _decoder(decoder: DecoderConfig, pairs: int, trained: int) -> str:
    updates = decoder.updates_per_rollout
    return (
        f"{trained:,} parameters learn from {pairs:,} pairs of a picture and a timestep a step, in {updates} "
        f"update{_s(updates)}"
    )


def _warm_up(one: Optimisation, steps: int) -> tuple[str, str]:
    """``steps``: in which that network learns."""
    name = "warm-up" if one.section == "train" else f"{one.section}'s warm-up"
    return name, f"{one.warmup_in(steps):,} of {one.updates_in(steps):,} updates"


def _ranks(config: Config, pairs: int) -> str:
    """What each has of an update of the first network that learns."""
    first, ranks = config.learning[0], ranks_of(config)
    if ranks == 1:
        return "1"
    if "ar" in config.trainers:
        share, unit = update_samples(config), "sample"
    else:
        share, unit = ceil(pairs / first.updates_per_rollout / ranks), "pair"
    sharded = f"ZeRO stage {first.zero_stage}" if first.zero_stage else "each with the whole of the weights' states"
    return f"{ranks}, {share:,} {unit}{_s(share)} of an update each; {sharded}"


def _evaluations(config: Config, train: Sequence[Prompt] | None, held_out: Sequence[Prompt]) -> list[tuple[str, str]]:
    """``train``: ``None`` where not all of it is known."""
    steps = evaluation_steps(config)
    if not steps:
        return [("evaluations", "none")]
    pictures = len(held_out) * config.eval.samples_per_prompt
    shared = "" if train is None else f", of which {overlap(train, held_out):,} are also training prompts"
    when = f"{len(steps)}, after step{_s(len(steps))} {', '.join(map(str, steps[:4]))}" + (
        f" ... {steps[-1]}" if len(steps) > 4 else ""
    )
    return [
        ("evaluations", when),
        ("held-out prompts", f"{len(held_out):,}{shared}"),
        ("evaluation pictures", f"{pictures:,} each, {pictures * len(steps):,} in all"),
    ]


def _size(count: int) -> str:
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.2f} MB"


def _s(count: int, ending: str = "s") -> str:
    return "" if count == 1 else ending
