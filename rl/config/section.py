"""What sections of a configuration share."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from rl.config.values import (
    AS_TUPLE,
    AtLeastOne,
    Bool,
    Count,
    Decay,
    Dtype,
    Fraction,
    LearningRate,
    MicroBatch,
    NotNegative,
    Options,
    Positive,
    UpToThree,
)


class Section(BaseModel):
    """What all sections share: unknown keys refused, no silent conversion, no change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Component(Section):
    """A named part with its options; ``loss: dapo`` is short for ``loss: {use: dapo}``."""

    use: Annotated[str, Field(min_length=1)]
    """A built-in name, the name of an installed plug-in, or ``module:attr``."""
    options: Options = Field(default_factory=dict)
    """Keyword arguments of the component. Changing ``use`` drops the inherited ones."""


class Optimisation(Section):
    """How one network is trained: the optimiser, and how a batch is cut into pieces."""

    section: ClassVar[str]
    """The key that it stands under."""

    lr: LearningRate = 1e-4
    """Peak learning rate of AdamW."""
    betas: Annotated[tuple[Decay, Decay], AS_TUPLE] = (0.9, 0.95)
    """Decay rates of AdamW's two moments."""
    eps: Positive = 1e-8
    """AdamW's epsilon; must be well below the gradient's RMS."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay."""
    warmup_steps: Count = 5
    """Optimiser steps of linear warm-up from 0; before a cosine clipped to the run, so that one step is left."""
    schedule: Literal["constant", "cosine"] = "constant"
    """What follows the warm-up; cosine ends at ``lr_end``."""
    lr_end: Fraction = 0.0
    """Share of ``lr`` at which a cosine ends."""
    grad_clip: NotNegative = 1.0
    """Largest norm of the gradient; 0 is off."""
    micro_batch: MicroBatch = 64
    """Samples per forward and backward pass on one rank; changes memory, not results. ``auto``: the most that fit into
    the free memory by the estimate of ``--dry-run``."""
    dtype: Dtype = "float32"
    """Precision of the trainer's weights and gradients."""
    zero_stage: UpToThree = 0
    """DeepSpeed ZeRO stage."""
    updates_per_rollout: AtLeastOne = 1
    """Optimiser steps per rollout; the samples are split among them."""
    gradient_checkpointing: Bool = False
    """Keep only each layer's input for the backward pass and make the rest again: less memory, a third more time."""
    offload_optimizer: Literal["cpu"] | None = None
    """``cpu``: AdamW's states lie, and its steps are taken, in the machine's memory; needs ``zero_stage`` 1 or more."""
    offload_reference: Literal["cpu"] | None = None
    """``cpu``: the reference policy lies there too and is on the GPU only while it is asked."""

    ema: Decay | None = None
    """Decay of a slow copy that follows every update and is kept for evaluation: of the language model by
    ``eval.policy``, of the decoder by ``eval.parts``; ``null`` for none."""

    def updates_in(self, steps: int) -> int:
        """Optimiser steps of a run of ``steps``."""
        return steps * self.updates_per_rollout

    def warmup_in(self, steps: int) -> int:
        """``warmup_steps``, clipped where the schedule ends with the run. A run that goes on with more steps has them
        all again, because the configuration keeps what was written."""
        last = max(self.updates_in(steps) - 1, 0)
        return min(self.warmup_steps, last) if self.schedule == "cosine" else self.warmup_steps
