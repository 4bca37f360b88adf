"""A configuration -> the numbers that decide about memory, and the micro-batches that were left to us."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from math import ceil

from policy.folder import resolve_folder
from rl.config.declared import declarations
from rl.config.schedule_rules import in_phase, phases
from rl.config.schema import Config, TrainConfig
from rl.config.sections.cluster_rules import ranks_of
from rl.config.values import AUTO
from rl.preflight.adapters import trained_decoder_parameters, trained_parameters
from rl.preflight.memory.available import WORKER, available, worker_count
from rl.preflight.memory.decoder import DecoderPlan
from rl.preflight.memory.estimate import MemoryEstimate, estimate
from rl.preflight.memory.plan import Device, Plan
from rl.preflight.memory.sizes import PolicySize
from rl.preflight.memory.supervised import EVALUATED, estimate_taught, rows_on_a_rank, taught_plan
from rl.preflight.room import BYTES, optimiser_bytes
from rl.process.host import has_gpu
from rl.types import Prompt, UserError

_CHARACTERS, _AROUND = 4, 8  # of one token of text; tokens of the template and what begins a picture
_SEQUENCES = 256  # both engines' own default of max_num_seqs
_FORWARD = TrainConfig().micro_batch
_KEEP = 0.9  # of what is free: estimates are off by up to 15 %, mostly upwards


def plan_of(config: Config, size: PolicySize, prompts: Sequence[Prompt], device: Device | None = None) -> Plan:
    """``prompts``: all that are sampled from; the longest decides. ``device``: where the run computes."""
    device = device or ("cuda" if has_gpu() else "cpu")
    engine, options, train = config.rollout.engine, config.rollout.options, config.train
    if engine == "auto":
        engine = "vllm" if device == "cuda" and importlib.util.find_spec("vllm") else "torch"
    turns, learns = [phase.config for phase in phases(config)], "ar" in config.trainers
    samples, pictures = max(map(samples_of, turns)), max(map(pictures_of, turns))
    sequences = _whole(options.get("max_num_seqs"), _SEQUENCES)
    length = _AROUND + max((len(prompt.text) for prompt in prompts), default=0) // _CHARACTERS
    sampler = BYTES[config.policy.dtype]
    return Plan(
        device=device,
        engine="vllm" if engine == "vllm" else "torch",
        train_bytes=BYTES[train.dtype],
        optimizer_bytes=optimiser_bytes(train),
        sampler_bytes=sampler,
        decoder_bytes=BYTES[config.decoder_dtype],
        samples=samples,
        running=min(samples, sequences),
        group_size=max(turn.rollout.group_size for turn in turns),
        renders=ceil(pictures / samples),
        prompt_tokens=length,
        micro_batch=min(train.micro_batch, update_samples(config)),
        paint_micro_batch=min(config.render.micro_batch, pictures),
        logprob_chunk=train.logprob_chunk,
        zero_stage=train.zero_stage if learns else 0,
        has_reference=needs_reference(config),
        copies=_copies(config),
        read_back=ceil(config.guards.render_fidelity_share * samples),
        adapters=trained_parameters(train, resolve_folder(config.policy.path) / "ar") if train.lora else 0,
        checkpointing=train.gradient_checkpointing,
        offload_optimizer=train.offload_optimizer is not None,
        offload_reference=train.offload_reference is not None,
        offload_decoder=config.render.offload,
        sleeps=config.rollout.sleep > 0,
        ranks=ranks_of(config),
        ar_learns=learns,
        decoder=decoder_plan(config, size),
        cache_bytes=_whole(
            options.get("kv_cache_mb"), size.ar.cache_mb(sequences * (length + size.tokens + 1), sampler)
        )
        << 20,
    )


def states_kept(config: Config) -> int:
    """Latents that are kept of each picture that a decoder learns from: the last, and its way through a window."""
    steps = _window(config)
    return 2 + 2 * steps if steps else 1


def _window(config: Config) -> int:
    """Stochastic steps that the decoder learns from."""
    trained = config.trained_decoder
    if trained is None or not declarations("decoder_losses", trained.loss.use).window:
        return 0
    return _whole(config.render.sampler.options.get("window", 2), 2)


def decoder_plan(config: Config, size: PolicySize) -> DecoderPlan | None:
    """``None`` where the decoder stays as it is."""
    trained = config.trained_decoder
    if trained is None:
        return None
    each = _window(config) or trained.timesteps
    pictures = pictures_of(in_phase(config, "decoder"))
    rows = pictures * each
    return DecoderPlan(
        number_bytes=BYTES[trained.dtype],
        optimizer_bytes=optimiser_bytes(trained),
        trained=trained_decoder_parameters(trained, resolve_folder(config.policy.path)),
        pictures=pictures,
        rows=rows,
        states=states_kept(config),
        positions=size.tokens + 1,
        micro_batch=min(trained.micro_batch, ceil(rows / trained.updates_per_rollout / ranks_of(config))),
        copies=(trained.old != "live") + (trained.ema is not None) + config.paints_with_base,
        reference_copy=trained.reference > 0 and trained.lora is None and trained.offload_reference is None,
        checkpointing=trained.gradient_checkpointing,
        zero_stage=trained.zero_stage,
        ranks=ranks_of(config),
    )


def samples_of(config: Config) -> int:
    """Of a step; ``config``: as it stands there."""
    return config.data.prompts_per_step * config.rollout.group_size


def drawn_of(config: Config) -> int:
    """The same, without answers in words."""
    return config.data.drawn_per_step * config.rollout.group_size


def pictures_of(config: Config) -> int:
    """The same: all renders of each sample that is painted."""
    return drawn_of(config) * config.render.renders


def memory_of(
    config: Config, prompts: Sequence[Prompt], device: Device | None = None, held_out: int = 0
) -> MemoryEstimate:
    """``held_out``: how many of the prompts are, which decides where nothing else is sampled.

    Raises: UserError if there is no such policy.
    """
    folder = resolve_folder(config.policy.path)
    size = PolicySize.read(folder)
    plan = plan_of(config, size, prompts, device)
    if config.supervised is None:
        return estimate(plan, size)
    return estimate_taught(taught_plan(config, config.supervised, folder, size, plan, held_out), size)


def needs_reference(config: Config) -> bool:
    """Whether a term of the loss asks the frozen reference policy."""
    terms = (declarations("terms", term.use) for term in config.terms.values())
    asked = config.anchor or any(term.reference for term in terms) or (config.kl and not _reference_moves(config))
    return "ar" in config.trainers and bool(asked)


def _copies(config: Config) -> int:
    """Slow ones of what the language model trains."""
    learns = "ar" in config.trainers
    return learns * (_reference_moves(config) + (config.train.ema is not None))


def _reference_moves(config: Config) -> bool:
    return config.kl is not None and not declarations("kl_references", config.kl_reference.use).fixed


def update_samples(config: Config) -> int:
    """Samples of one update on one rank, the most that a micro-batch can hold."""
    if config.supervised:
        return rows_on_a_rank(config, config.supervised)
    samples, train = samples_of(in_phase(config, "ar")), config.train
    return ceil(ceil(samples / train.updates_per_rollout) / ranks_of(config))


def settled(config: Config, prompts: Sequence[Prompt], device: Device | None = None) -> Config:
    """``train.micro_batch`` and ``render.micro_batch``: where one is ``auto``, the largest that fits into the memory
    that is free now. Raises: UserError if not even one sample does.
    """
    train, render, trained = config.train, config.render, config.trained_decoder
    if AUTO not in (train.micro_batch, render.micro_batch, trained.micro_batch if trained else 1):
        return config
    device = device or ("cuda" if has_gpu() else "cpu")
    room = int(available(device) * _KEEP)
    if device == "cpu":  # where ranks share it with each other and with the rewards
        room = (room - WORKER * worker_count(config)) // ranks_of(config)
    most = EVALUATED if config.supervised else max(pictures_of(phase.config) for phase in phases(config))

    def fits(section: str, *asked: str) -> Callable[[int], bool]:
        def fitting(count: int) -> bool:
            memory = memory_of(_with(config, section, count), prompts, device, held_out=EVALUATED)
            return all(memory.of(phase) <= room for phase in asked)

        return fitting

    if train.micro_batch == AUTO:
        learns = "ar" in config.trainers  # a frozen one has no backward that could fill the memory
        found = _largest(update_samples(config), fits("train", "update"), "train", room) if learns else _FORWARD
        config = _with(config, "train", found)
    if render.micro_batch == AUTO:
        painted = ("paint", "encode") if config.supervised else ("paint",)
        config = _with(config, "render", _largest(most, fits("render", *painted), "render", room))
    if trained and trained.micro_batch == AUTO:
        rows = ceil(most * trained.timesteps / train.ranks)
        config = _with(config, "decoder", _largest(rows, fits("decoder", "decoder"), "decoder", room))
    return config


def found_by(asked: Config, settled: Config) -> list[str]:
    """What ``auto`` has become."""
    pairs = {
        "train": (asked.train.micro_batch, settled.train.micro_batch),
        "render": (asked.render.micro_batch, settled.render.micro_batch),
    }
    if asked.decoder and settled.decoder:
        pairs["decoder"] = (asked.decoder.micro_batch, settled.decoder.micro_batch)
    return [
        f"{section}.micro_batch: auto is {now} here, by the estimate of --dry-run"
        for section, (before, now) in pairs.items()
        if before == AUTO
    ]


def _with(config: Config, section: str, count: int) -> Config:
    part = getattr(config, section).model_copy(update={"micro_batch": count})
    return config.model_copy(update={section: part})


def _largest(most: int, fits: Callable[[int], bool], section: str, room: int) -> int:
    """By bisection: more never takes less."""
    if not fits(1):
        raise UserError(
            f"{section}.micro_batch: auto finds that not even 1 sample at a time fits into the {room / 1e9:.1f} GB of "
            "memory that this machine has free for a run (--dry-run with a number shows what takes it): take a smaller "
            "policy, bfloat16, or kl=null and anchor=null, which saves the reference"
        )
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _whole(given: object, default: int) -> int:
    return given if isinstance(given, int) and not isinstance(given, bool) else default
