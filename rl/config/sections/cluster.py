"""Whether a run collects ahead of its updates, and on how many workers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rl.config.section import Section
from rl.config.values import WHOLE, AtLeastOne, Bool, Count, NotNegative, Positive

_AHEAD = {"serial": False, "ahead": True}


class LoopConfig(Section):
    """When steps are collected."""

    use: Literal["serial", "ahead"] = "serial"
    """``serial``: in this process, each step with the weights that the step before has learnt; ``ahead``: by samplers
    and painters of a Ray cluster (``cluster``), while this process learns. ``loop: ahead`` is short for it."""
    staleness: Annotated[int, Field(ge=0, le=64), WHOLE] = 0
    """``ahead``: step k is sampled and painted with exactly the weights after k - ``staleness`` steps (at the start:
    those of the start), so this many steps are under way beside the one that is learnt. 2 keeps sampler, painter and
    trainer all busy. 0 makes each wait for the others and gives the serial loop's numbers: on purpose only
    (``in_turn``), or where all share one GPU (``rollout.sleep``)."""
    in_turn: Bool = False
    """``ahead`` with ``staleness: 0`` is meant: to compare a cluster with the serial loop, or because the decoder
    learns too."""

    @property
    def ahead(self) -> bool:
        return _AHEAD[self.use]


class ClusterConfig(Section):
    """The workers and trainers of ``loop: ahead``, Ray actors."""

    address: Annotated[str, Field(min_length=1)] | None = None
    """``host:port`` of a Ray cluster that is there, or ``auto`` for this machine's; ``null``: what ``RAY_ADDRESS``
    says, else one is started on this machine and ends with the run."""
    samplers: AtLeastOne = 1
    """Sampling engines."""
    painters: Count = 1
    """Processes with a copy of the language model and the decoder, which follow what learns; hidden states never leave
    them. 0: whoever trains paints, between sampling and update (``loop.staleness: 0``)."""
    trainers: Annotated[int, Field(ge=0), WHOLE] = 0
    """Ranks that share each update, Ray actors with a GPU each where there are any, in one placement group; the run's
    own process then holds no weights. 0: that process is the trainer (``train.ranks`` of them). ``run.folder`` has to
    be one that their machines see as well."""
    trainer_restarts: Annotated[int, Field(ge=0), WHOLE] = 3
    """How often all ``trainers`` may be started again after one was lost, from the last checkpoint and the experience
    log; then the run ends, and a resume goes on."""
    sample_groups: AtLeastOne | None = None
    """Prompts that a sampler gets at one time; ``null``: as many as the engine samples side by side."""
    paint_groups: AtLeastOne | None = None
    """Prompts that a painter gets at one time; ``null``: so many that forward and painting are cut as in a serial
    run (``train.micro_batch``, ``render.micro_batch``)."""
    sampler_gpus: NotNegative | None = None
    """GPUs of each sampler; ``null``: 1 where there are any. Ranks that are no ``trainers`` have one each besides: the
    machine's first ones where a cluster is started here, those that Ray was not given (``ray start --num-gpus``) where
    one is joined. With ``rollout.sleep`` they share: samplers sleep on the trainer's GPUs, which Ray is given too."""
    painter_gpus: NotNegative | None = None
    """GPUs of each painter; ``null``: 1 where there are any."""
    cpus: NotNegative = 1.0
    """CPUs that each worker reserves in Ray's books."""
    threads: AtLeastOne | None = None
    """Threads of each worker's numerical libraries; ``null``: what ``OMP_NUM_THREADS`` says, or a fair share."""
    attempts: AtLeastOne = 3
    """Workers that may fail on a group before it is left out of its step as failed."""
    timeout_s: Positive = 600.0
    """Seconds until a worker that has not answered, or a trainer that gets nowhere, is killed and its work done again
    by another one."""
    start_timeout_s: Positive = 300.0
    """Seconds a worker or a trainer may take to load, and a run may be without any worker for a stage."""
