"""DeepSpeed around a module: process group, engine configuration, gathered weights.

One engine for a laptop CPU and a GPU cluster. Several ranks have met already (:mod:`rl.trainer.team`); one process
alone forms a group of its own, with no port and no environment.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rl.config.section import Optimisation
from rl.types import UserError

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


def pick_device() -> torch.device:
    """This rank's accelerator, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def start_engine(
    module: nn.Module, config: Optimisation, device: torch.device, *, used_directly: Sequence[Tensor] = ()
) -> DeepSpeedEngine:
    """A DeepSpeed engine with AdamW (Loshchilov & Hutter, arXiv 1711.05101), in evaluation mode: no dropout, so the
    ratio of the first on-policy update is exactly 1. ``used_directly``: parameters read outside their own layers.

    Raises: UserError if bfloat16 is asked for without ZeRO, which would leave no fp32 master weights.
    """
    if config.dtype == "bfloat16" and config.zero_stage == 0:
        raise UserError(
            f"{config.section}.zero_stage is 0 with {config.section}.dtype bfloat16, which keeps no fp32 master "
            f"weights and loses small updates: set {config.section}.zero_stage to 1 (the same memory on one process) "
            f"or {config.section}.dtype to float32."
        )
    deepspeed = _import_deepspeed(device)
    _form_process_group(device)
    os.environ.setdefault("LOCAL_RANK", str(device.index or 0))  # DeepSpeed reads it, here and inside ZeRO-3
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=config.lr,
        betas=(config.betas[0], config.betas[1]),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=device.type == "cuda" or config.offload_optimizer == "cpu",  # one pass over the states, in C++
    )
    with contextlib.redirect_stdout(io.StringIO()):  # memory figures, printed whatever the log level
        engine = deepspeed.initialize(
            model=module,
            optimizer=optimizer,
            model_parameters=parameters,
            config=engine_config(config),
            dist_init_required=False,
        )[0]
    if config.zero_stage == 3:
        for parameter in used_directly:  # ZeRO-3 gathers a layer's own; these it has to be told of
            deepspeed.zero.register_external_parameter(module, parameter)
    engine.eval()
    return engine


def engine_config(config: Optimisation) -> dict[str, Any]:
    """DeepSpeed's own settings. Accumulation is driven by the trainer, so its batch sizes here are nominal."""
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # Without ZeRO the trainer clips: DeepSpeed would then not report the norm.
        "gradient_clipping": config.grad_clip if config.zero_stage else 0.0,
        "zero_optimization": {"stage": config.zero_stage, "overlap_comm": False},
        "zero_force_ds_cpu_optimizer": False,  # torch's own needs no compiler
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
    }
    if config.offload_optimizer == "cpu":
        settings["zero_optimization"] |= {
            "offload_optimizer": {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        }
    if config.dtype == "bfloat16":
        settings["bf16"] = {"enabled": True}
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    return settings


@contextlib.contextmanager
def gathered(value: Tensor) -> Iterator[None]:
    """The parameter is whole inside; a collective call where it is sharded (ZeRO-3), nothing elsewhere."""
    if not hasattr(value, "ds_id"):
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters([value]):
        yield


def _import_deepspeed(device: torch.device) -> ModuleType:
    # Both before the import: without them DeepSpeed probes for accelerators and talks about it.
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    deepspeed.utils.logger.setLevel(logging.ERROR)
    # DeepSpeed's own calls, several per micro-batch under ZeRO-3.
    warnings.filterwarnings("ignore", r"`torch\.distributed\..*` is deprecated", FutureWarning)
    # The shared-memory all-reduce is compiled at first use; gloo is fast enough and always there.
    __compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _form_process_group(device: torch.device) -> None:
    if dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend(), store=dist.HashStore(), rank=0, world_size=1)
    atexit.register(leave_process_group)


def backend() -> str:
    """Of the process group."""
    return "nccl" if torch.cuda.is_available() else "gloo"


def leave_process_group() -> None:
    """NCCL complains of a process that ends without."""
    if dist.is_initialized():
        dist.destroy_process_group()
