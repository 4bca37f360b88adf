"""Training of the decoder."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator

from rl.config.section import Component, Optimisation
from rl.config.sections.lora import LoraSettings, some
from rl.config.values import AtLeastOne, Bool, MicroBatch, Names, NotNegative

_ATTENTION = tuple(f"{block}.{part}" for block in ("attn1", "attn2") for part in ("to_q", "to_k", "to_v", "to_out.0"))


class DecoderLora(LoraSettings):
    """Adapters of the transformer, in place of its weights."""

    targets: Annotated[Names, AfterValidator(some)] = _ATTENTION
    """The linear layers that get one, by the ends of their names."""


class DecoderConfig(Optimisation):
    """What of the decoder learns, from which loss, and its optimiser."""

    section: ClassVar[str] = "decoder"
    """Where it stands."""

    loss: Component = Component(use="nft")
    """``nft`` (DiffusionNFT) and ``awm``, on finished pictures; ``flow_grpo``, on the stochastic steps of
    ``render.sampler``."""
    train: Literal["transformer", "connector", "all"] = "transformer"
    """Which of its networks (``all``: with what attends to pictures that are to be changed); the autoencoder never."""
    lora: DecoderLora | None = None
    """Train adapters of the transformer instead; the reference is then the same network without them."""
    timesteps: AtLeastOne = 3
    """Of those that a picture was painted in, how many it is learnt from; a window has its own."""
    micro_batch: MicroBatch = 64
    """Pairs of a picture and a timestep per forward and backward pass on one rank; changes memory, not results."""
    reference: NotNegative = 1e-4
    """Weight of the mean square distance of the flow from that of the decoder at the start; 0 saves its forward."""
    old: Literal["live", "nft", "nft_late"] = "live"
    """Which weights paint training pictures: those of now, or a copy that follows them slowly, by DiffusionNFT's rule
    for one reward (``nft``) or several (``nft_late``)."""
    follow: Bool = False
    """Learn on the hidden states of the language model that the same step has just updated, compared with what the
    decoder said on those that it painted: its pull to the old flow re-aligns it with a language model that moves. Costs
    a forward of each network."""
