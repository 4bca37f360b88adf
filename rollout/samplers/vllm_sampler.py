"""Image tokens from vLLM, in this process: batched, prefix-shared, one seed per sample, processed log-probs.

The engine runs inside the caller's process so that weights go in without a copy through the network. It is made not
to disturb its host: random states, the thread count and an existing process group are left as they were.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from policy.ar.forward import parameter_shapes
from policy.ar.size import ArSize
from policy.layout import TokenLayout
from policy.prompt import Condition
from policy.trainable import WeightStream
from rl.types import Span, UserError
from rollout.proof import LiveSum, sums_of
from rollout.samplers.base import CheckedSampler, Encode, Sampled
from rollout.samplers.checks import Sampling, check_tokens, not_finite
from rollout.samplers.contract import EngineError
from rollout.samplers.nap import Nap
from rollout.weights import check_weights

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams

    from rollout.samplers.vllm_model import ImageQwen3ForCausalLM

T = TypeVar("T")

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine lives in this process
    "VLLM_PLUGINS": "",  # no stray plug-ins
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


class VllmSampler(CheckedSampler):
    """``rollout.samplers.contract.Sampler`` on vLLM, CPU or CUDA.

    ``folder`` is a policy folder (its ``ar/`` is a plain Qwen3 checkpoint) and ``encode`` turns a prompt's text into
    ids that end with <im_start> <S0>. Options: ``max_num_seqs`` sequences sampled at once, ``kv_cache_mb`` (default:
    room for that many full sequences), ``enforce_eager`` (default: on CPU only), ``engine_options`` passed to vLLM as
    they are; ``sleeps``, whether it will be asked to; ``features``, whether prompts may hold pictures as vectors, for
    which vLLM does without a CUDA graph of the embeddings. Raises: UserError where vLLM cannot run.
    """

    def __init__(
        self,
        folder: str | Path,
        layout: TokenLayout,
        *,
        encode: Encode,
        seed: int = 0,
        dtype: str = "float32",
        max_prompt_tokens: int = 256,
        max_num_seqs: int = 256,
        kv_cache_mb: int | None = None,
        enforce_eager: bool | None = None,
        sleeps: bool = False,
        features: bool = False,
        engine_options: dict[str, object] | None = None,
    ) -> None:
        ar_folder = Path(folder) / "ar"
        super().__init__(folder, layout, encode, max_prompt_tokens)
        self._failure = ""
        _refuse_process_group()
        self._shapes = parameter_shapes(ar_folder)
        length = self.max_prompt_tokens + layout.tokens_per_image + 1
        on_cpu = not torch.cuda.is_available()
        cache_mb = ArSize.read(ar_folder).cache_mb(max_num_seqs * length, getattr(torch, dtype).itemsize)
        options: dict[str, object] = {
            "model": str(ar_folder),
            "skip_tokenizer_init": True,
            "dtype": dtype,
            "seed": seed,
            "enforce_eager": on_cpu if enforce_eager is None else enforce_eager,
            "logprobs_mode": "processed_logprobs",
            "enable_prefix_caching": True,
            "max_model_len": length,
            "max_num_seqs": max_num_seqs,
            "max_num_batched_tokens": max(4096, length),
            "kv_cache_memory_bytes": (kv_cache_mb or cache_mb) << 20,
            "block_size": 32 if on_cpu else 16,  # the CPU default of 128 means short prompts never share a prefix
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
            **({"enable_chunked_prefill": False} if on_cpu else {}),  # it crashes with seeds on the CPU
            **({"enable_sleep_mode": True} if sleeps and not on_cpu else {}),
            **({"enable_prompt_embeds": True} if features else {}),
            **(engine_options or {}),
        }
        self._llm: LLM | None = _start(options, layout, on_cpu)
        self._nap = Nap(self._llm)
        self._check_parameters()
        self._on_model(lambda model: setattr(model, "count", self._count))

    def _sample(
        self,
        rows: Sequence[Condition],
        group_size: int,
        seeds: Sequence[int],
        how: Sampling,
        span: Span,
        hidden: bool,
    ) -> Sampled:
        from vllm import SamplingParams

        del hidden  # vLLM keeps them to itself
        # One request per sample, because seeds are arbitrary; a group shares its prompt through the prefix cache.
        params = [
            SamplingParams(
                seed=int(seed),
                **how._asdict(),
                min_tokens=span.length or 0,
                max_tokens=span.most,
                stop_token_ids=None if span.end is None else [span.end],
                ignore_eos=True,
                detokenize=False,
                logprobs=0,
                flat_logprobs=True,
            )
            for seed in seeds
        ]
        outputs = self._generate([row for row in rows for _ in range(group_size)], params, span)
        drawn = [output.outputs[0] for output in outputs]
        fill = -1 if span.end is None else span.end  # a picture is never short
        tokens_BT = np.full((len(drawn), span.most), fill, np.int64)
        logprobs_BT = np.zeros((len(drawn), span.most), np.float32)
        for row, one in enumerate(drawn):
            tokens_BT[row, : len(one.token_ids)] = one.token_ids
            logprobs_BT[row, : len(one.token_ids)] = one.logprobs.logprobs
        return check_tokens(tokens_BT, span, len(seeds)), logprobs_BT, None

    def _logprobs(
        self, rows: Sequence[Condition], tokens_BT: NDArray[np.int64], temperature: float, span: Span
    ) -> NDArray[np.float32]:
        """From one prefill of each row, not T steps, through the span's rows alone."""
        self._on_model(lambda model: setattr(model, "span", span))
        return np.stack(
            [self._scored(row, tokens, temperature) for row, tokens in zip(rows, tokens_BT.tolist(), strict=True)]
        )

    @torch.inference_mode()
    def _scored(self, row: Condition, tokens: list[int], temperature: float) -> NDArray[np.float32]:
        """(T,) log-probs of one row; all of its states are computed anew, whatever the prefix cache holds."""
        from vllm import SamplingParams

        # One token is the least that vLLM can be asked for, and nobody reads it.
        params = SamplingParams(max_tokens=1, seed=0, skip_reading_prefix_cache=True, detokenize=False)
        self._on_model(lambda model: model.keep_states())
        self._run([Condition((*row.ids, *tokens[:-1]), row.features)], [params])
        found = self._on_model(lambda model: model.take_logprobs(tokens, len(row.ids), temperature))
        self._refuse_bad_positions()
        if found is None:
            raise EngineError(
                f"vLLM did not compute a sequence of {len(row.ids) + len(tokens) - 1} tokens in one forward: leave "
                "max_num_batched_tokens out of rollout.options.engine_options, or make it larger than that."
            )
        return found.cpu().numpy()

    def load_weights(self, part: str, weights: WeightStream, version: int) -> None:
        """New weights into the running engine, whose cache comes back when it is asked. Raises: SyncError naming the
        parameter, before the engine is touched."""
        due = check_weights(weights, self._shapes, again=self._has_all())
        self._nap.make_room()
        try:
            self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": due.tensors()})
        except BaseException as error:
            self._failure = f"loading weights of version {version} failed half-way ({error})"
            raise
        self._nap.weights_came()
        self._had_all = True
        self.versions[part] = version

    def live_sums(self, part: str) -> Sequence[LiveSum] | None:
        """Of every parameter; ``None`` on a CPU, where vLLM keeps its matrices in an order of its own."""
        if not torch.cuda.is_available():
            return None
        return self._on_model(lambda model: sums_of(model.live_parameters()))

    def _has_all(self) -> bool:
        return self._had_all and not self._nap.forgotten

    def sleep(self, level: int) -> None:
        self._nap.begin(level)

    def close(self) -> None:
        """Ends the engine and frees its memory; a process group is left alone, since the trainer may be using it."""
        if self._llm is None:
            return
        from vllm.distributed import parallel_state

        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        parallel_state.destroy_model_parallel()
        if parallel_state._WORLD is not None:
            parallel_state._WORLD.destroy()
            parallel_state._WORLD = None
        gc.unfreeze()  # vLLM froze everything that was alive when it started
        gc.collect()

    @property
    def _engine(self) -> LLM:
        if self._llm is None:
            raise EngineError("this sampling engine was closed; start a new one.")
        if self._failure:
            raise EngineError(f"this sampling engine cannot be used any more: {self._failure}; start a new one.")
        return self._llm

    def _generate(self, rows: Sequence[Condition], params: Sequence[SamplingParams], span: Span) -> list[RequestOutput]:
        """Outputs in the order of ``rows``. Raises: EngineError if logits were NaN or infinite."""
        self._on_model(lambda model: setattr(model, "span", span))
        outputs = self._run(rows, params)
        self._refuse_bad_positions()
        return outputs

    def _run(self, rows: Sequence[Condition], params: Sequence[SamplingParams]) -> list[RequestOutput]:
        """An engine interrupted in a step would hang: it is not used again."""
        engine = self._engine
        self._nap.end()
        try:
            with torch.random.fork_rng(devices=[]):  # vLLM's sampler draws from the global generator on every step
                outputs = engine.generate([_asked(row) for row in rows], params, use_tqdm=False)
        except BaseException as error:
            self._failure = f"it was interrupted while sampling ({type(error).__name__}: {error})"
            raise
        return outputs

    def _refuse_bad_positions(self) -> None:
        bad_positions = self._on_model(lambda model: model.take_bad_positions())
        if bad_positions:
            raise not_finite(self.version, bad_positions)

    def _on_model(self, function: Callable[[ImageQwen3ForCausalLM], T]) -> T:
        found: list[T] = self._engine.apply_model(function)
        return found[0]

    def _check_parameters(self) -> None:
        """The engine's own parameters are exactly those an update brings. Raises: UserError naming one."""
        engine = self._on_model(lambda model: model.checkpoint_names())
        for name in sorted(engine ^ set(self._shapes)):
            raise UserError(f"vLLM and transformers disagree about parameter '{name}'; use a plain Qwen3 checkpoint.")


def _asked(row: Condition) -> dict[str, object]:
    """A prompt as vLLM takes it; of a mixed one it reads the vectors only where no token id stands."""
    asked: dict[str, object] = {"prompt_token_ids": list(row.ids)}
    if row.features is None:
        return asked
    start, vectors_ND = row.features.start, row.features.vectors_ND.detach().cpu()
    stop = start + len(vectors_ND)
    whole_LD = functional.pad(vectors_ND, (0, 0, start, len(row.ids) - stop))
    is_id = [not start <= place < stop for place in range(len(row.ids))]
    return {**asked, "prompt_embeds": whole_LD, "prompt_is_token_ids": is_id}


def _check_semaphores() -> None:
    """Raises: UserError where the machine gives none: vLLM makes a lock between processes even for one."""
    try:
        multiprocessing.get_context("fork").Lock()
    except OSError as error:
        raise UserError(
            f"rollout.engine: vllm needs shared memory that can be written, and /dev/shm cannot ({error.strerror}): "
            "mount it (mount -t tmpfs tmpfs /dev/shm; docker run --shm-size=1g), or use engine: torch."
        ) from error


def _start(options: dict[str, object], layout: TokenLayout, on_cpu: bool) -> LLM:
    _check_semaphores()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with _undisturbed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vllm import LLM
        from vllm.v1.sample import sampler

        from rollout.samplers import vllm_model

        vllm_model.register()
        if on_cpu:  # the first batch would wait 15 s for torch.compile to make these few additions
            sampler.batched_count_greater_than = lambda x, values: (x >= values).sum(-1)
        overrides = {
            "architectures": [vllm_model.ARCHITECTURE],
            "image_start_id": layout.image_start_id,
            "num_image_tokens": layout.num_image_tokens,
        }
        return LLM(hf_overrides=overrides, **options)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """The host keeps its random states, thread count and collector; not collecting saves seconds of start-up."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    set_num_threads, collecting = torch.set_num_threads, gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        torch.set_num_threads = set_num_threads  # vLLM replaces it by a function that does nothing
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _refuse_process_group() -> None:
    dist = torch.distributed
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise UserError(
            f"rollout.engine: vllm cannot share a process with one of {dist.get_world_size()} trainer ranks; "
            "use engine: torch, or run the sampler in its own process."
        )
