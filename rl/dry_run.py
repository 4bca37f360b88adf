"""What a run would do, worked out without torch: the resolved configuration, counts and a memory estimate."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from policy.ar.size import ArSize
from policy.folder import read_policy_config, resolve_folder
from rl.config.load import dump
from rl.config.schema import Config
from rl.config.section import Optimisation
from rl.data.prompt_list import overlap
from rl.preflight.adapters import learning_numbers, trained_parameters
from rl.preflight.memory.available import WORKER, worker_count
from rl.preflight.memory.estimate import Items, MemoryEstimate
from rl.preflight.memory.planning import decoder_plan, memory_of
from rl.preflight.memory.sizes import PolicySize
from rl.preflight.room import SHARED_MEMORY, check_shared_memory, checkpoint_bytes
from rl.types import Prompt


def describe(config: Config, train_prompts: Sequence[Prompt], eval_prompts: Sequence[Prompt]) -> str:
    """The text of ``--dry-run``. Raises UserError if the policy folder is missing, incomplete or inconsistent."""
    folder = resolve_folder(config.policy.path)
    layout, _ = read_policy_config(folder)
    parameters = ArSize.read(folder / "ar").parameters
    trained = trained_parameters(config.train, folder / "ar") if "ar" in config.trainers else 0
    rows = [*_work(config, len(train_prompts), layout.tokens_per_image)]
    rows += _evaluations(config, train_prompts, eval_prompts)
    rows += [("trained", f"{trained:,} parameters in adapters")] if trained and config.train.lora else []
    learning = learning_numbers(config, folder)
    rows += [("decoder", _decoder(config, learning - trained))] if config.trained_decoder else []
    rows += _memory(config, memory_of(config, [*train_prompts, *eval_prompts]), parameters)
    rows += [("run folder", str(config.run.folder))]
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
    workers, each = worker_count(config), " on the first rank" if config.train.ranks > 1 else ""
    return [
        ("parameters", f"{parameters:,} in the language model"),
        ("memory", f"{_size(memory.peak)} at most{each}, in '{memory.largest}' (estimate, within 15 %)"),
        *((f"  {name}", _size(taken)) for name, taken in memory.held.items()),
        *((f"  + in {name}", _phase(items)) for name, items in memory.phases.items()),
        ("reward processes", f"{workers}, each about {_size(WORKER)} and its model besides"),
    ]


def _phase(items: Items) -> str:
    return f"{_size(sum(items.values()))}: " + ", ".join(f"{name} {_size(taken)}" for name, taken in items.items())


def _work(config: Config, prompts: int, tokens: int) -> list[tuple[str, str]]:
    steps, per_step = config.train.steps, config.data.prompts_per_step
    samples, renders = per_step * config.rollout.group_size, config.render.renders
    updates = config.train.updates_per_rollout
    share = ceil(samples / updates / config.train.ranks)  # of each rank, in every update
    passes = ceil(share / config.train.micro_batch) * updates
    learnt = f" with {updates} update{_s(updates)} in {passes} micro-batch{_s(passes, 'es')} each"
    every = config.checkpoint.every
    checkpoints = 1 + (max(steps - 1, 0) // every if every else 0)  # the last, also without any step
    return [
        ("steps", f"{steps:,}{learnt if 'ar' in config.trainers else ''}"),
        ("ranks", _ranks(config, share)),
        *(_warm_up(one, config.steps_of(one, steps)) for one in config.learning),
        ("training prompts", f"{prompts:,}, seen {steps * per_step / prompts:.1f} times each"),
        ("prompts", f"{per_step:,} a step, {steps * per_step:,} in all"),
        ("samples", f"{samples:,} a step, {steps * samples:,} in all"),
        ("image tokens", f"{samples * tokens:,} a step, {steps * samples * tokens:,} in all ({tokens} a sample)"),
        ("pictures", f"{samples * renders:,} a step, {steps * samples * renders:,} in all"),
        ("checkpoints", f"{checkpoints:,} written, {min(checkpoints, config.checkpoint.keep)} kept"),
    ]


def _decoder(config: Config, trained: int) -> str:
    plan = decoder_plan(config, PolicySize.read(resolve_folder(config.policy.path)))
    decoder = config.trained_decoder
    assert plan is not None and decoder is not None
    updates = decoder.updates_per_rollout
    return (
        f"{trained:,} parameters learn from {plan.rows:,} pairs of a picture and a timestep a step, in {updates} "
        f"update{_s(updates)}"
    )


def _warm_up(one: Optimisation, steps: int) -> tuple[str, str]:
    """``steps``: in which that network learns."""
    name = "warm-up" if one.section == "train" else f"{one.section}'s warm-up"
    return name, f"{one.warmup_in(steps):,} of {one.updates_in(steps):,} updates"


def _ranks(config: Config, share: int) -> str:
    train = config.train
    if train.ranks == 1:
        return "1"
    sharded = f"ZeRO stage {train.zero_stage}" if train.zero_stage else "each with the whole of the weights' states"
    return f"{train.ranks}, {share:,} sample{_s(share)} of an update each; {sharded}"


def _evaluations(config: Config, train: Sequence[Prompt], held_out: Sequence[Prompt]) -> list[tuple[str, str]]:
    steps = evaluation_steps(config)
    if not steps:
        return [("evaluations", "none")]
    pictures = len(held_out) * config.eval.samples_per_prompt
    when = f"{len(steps)}, after step{_s(len(steps))} {', '.join(map(str, steps[:4]))}" + (
        f" ... {steps[-1]}" if len(steps) > 4 else ""
    )
    return [
        ("evaluations", when),
        ("held-out prompts", f"{len(held_out):,}, of which {overlap(train, held_out):,} are also training prompts"),
        ("evaluation pictures", f"{pictures:,} each, {pictures * len(steps):,} in all"),
    ]


def _size(count: int) -> str:
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.2f} MB"


def _s(count: int, ending: str = "s") -> str:
    return "" if count == 1 else ending
