"""Learning from pairs of a prompt and its picture, in place of rewards."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from rl.config.section import Component, Section
from rl.config.sections.decoder import DecoderLora
from rl.config.sections.lora import some
from rl.config.values import AtLeastOne, Bool, Fraction, Names, NotNegative


class LossWeights(Section):
    """Of each kind of loss, every one a mean over its own elements of a step: never one mean over all, in which a
    picture's tokens would drown the words and both the flow."""

    image: NotNegative = 1.0
    """Cross-entropy of the picture's tokens."""
    text: NotNegative = 0.0
    """Cross-entropy of the prompt's own tokens, over the whole vocabulary; codes of pictures in it are given."""
    answer: NotNegative = 1.0
    """Cross-entropy of answers in words, the end of each included; ``softmax`` must be ``all``."""
    flow: NotNegative = 1.0
    """Mean square error of the flow that the decoder answers for the noised picture."""
    heads: NotNegative = 0.3
    """Cross-entropies of ``supervised.heads`` together."""
    reconstruction: NotNegative = 0.0
    """Of an understanding branch (a hybrid image tokenizer), the mean absolute error of the pixels that a linear map,
    thrown away in the end, makes of the codes' vectors: what no answer asks for stays in them all the same."""
    reading: NotNegative = 0.0
    """The same of what the language model reads of a picture, its features."""
    quantiser: NotNegative = 0.0
    """How far its vectors are from their codes; 0 of ``fsq``, which has no codebook."""


class ConditionDrop(Section):
    """Shares of rows in which something is left out, for guidance."""

    condition: Fraction = 0.1
    """The hidden states are zeros before the connector, which is what painting with guidance asks the decoder."""
    reference: Fraction = 0.1
    """Of edits: what the decoder attends to of the picture that is to be changed is zeros behind its connector."""
    both: Fraction = 0.0
    """Both at once, beside the shares of each alone: painting with guidance asks just that of an edit."""


class SupervisedConfig(Section):
    """What a supervised run learns from, and what of the policy learns. Its optimiser is ``train``."""

    examples: Component = Component(use="shapes")
    """Prompts with their pictures (``shapes``, ``tar``, ``jsonl``, ``hf``)."""
    rows_per_step: AtLeastOne = 32
    """Examples in each step."""
    trained: Annotated[Names, AfterValidator(some)] = ("ar", "connector", "transformer")
    """What learns, by the beginnings of the names of weights: ``ar`` (with ``train.lora``, its adapters),
    ``connector``, ``transformer``, ``reference`` (what a decoder attends to of a picture that is to be changed),
    ``understanding`` (a hybrid image tokenizer), or parts of them, such as ``transformer.caption_projection`` or
    ``understanding.continuous``; or ``[vae]``, the autoencoder alone, on pictures that are to come back as they are."""
    decoder_lora: DecoderLora | None = None
    """Where ``transformer`` is trained, learn adapters of it in place of its weights; the connector, which is small,
    learns as it is."""
    losses: LossWeights = LossWeights()
    """Weights of the losses, of all but an autoencoder."""
    latent_noise: NotNegative = 0.15
    """Noise on the latents of an autoencoder that learns, of their own spread: small errors of what is painted must not
    show."""
    softmax: Literal["image", "all"] = "image"
    """Over which rows of the head a picture's token is one of many: those of image tokens, from which it is sampled, or
    all, as in BLIP3o-NEXT's own pre-training."""
    changed_weight: NotNegative = 1.0
    """Weight of a token that differs from the one in the same place of the prompt's picture, beside 1 of those that are
    kept: in an edit most are copies, and copying all of them is what is learnt first."""
    drop: ConditionDrop = ConditionDrop()
    """What is left out now and then."""
    detach: Bool = False
    """Keep the flow's gradient out of the language model."""
    sigmas: Literal["uniform", "logit_normal"] = "uniform"
    """How the noise levels of the flow are drawn."""
    heads: dict[str, AtLeastOne] = Field(default_factory=dict)
    """Linear heads that read something from the final hidden state at each image token while it is trained: ``code``
    (the token itself), ``place`` (where it stands), or what the examples label; the name, and how many classes there
    are. They keep it there for the decoder and are thrown away."""
    features: Fraction = 0.0
    """Share of questions of which the picture is read by the features of the understanding branch, the others by its
    codes: a policy that is to answer from both learns both."""
    max_bad_rows: Fraction = 0.05
    """Stop the run when more of the rows so far can't be used (a broken picture, a prompt that is too long);
    fewer are left out, counted and named."""

    @property
    def understanding(self) -> str | None:
        """The key for which the policy must have an understanding branch, if there is one."""
        if self.has("understanding"):
            return "trained"
        return "features" if self.features else "losses" if self.redraws else None

    @property
    def redraws(self) -> bool:
        return max(self.losses.reconstruction, self.losses.reading, self.losses.quantiser) > 0

    def has(self, part: str) -> bool:
        """Whether anything of it learns: ``ar``, ``connector``, ..."""
        return any(name.partition(".")[0] == part for name in self.trained)

    @property
    def estimated(self) -> bool:
        """Whether there is an estimate of its memory; nothing is measured of an autoencoder or a branch that learns."""
        return not (self.of_autoencoder or self.understanding)

    @property
    def of_autoencoder(self) -> bool:
        return self.trained == ("vae",)
