"""The whole policy behind one call, for learning from pictures that are given: log-probs of their tokens, and the flow
that the decoder answers on the very hidden states that it is going to paint from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from policy.ar.forward import image_forward
from policy.flow.network import FlowNetwork
from policy.lora.adapters import Lora, StoredWeight
from policy.pictures.reference import GivenLatents, ReferenceLatents, flow_of
from policy.supervised.understanding import Redrawn, UnderstandingTerms
from policy.trainable import Adapter, Gathered, LanguageModel, Network, WeightStream
from rl.registry import did_you_mean
from rl.types import Forward, PictureFeatures, Sequences, Span, UserError

if TYPE_CHECKING:
    from diffusers import SanaTransformer2DModel

    from policy.tokenizers.hybrid import HybridEncoder


@dataclass(frozen=True, kw_only=True)
class PictureQuery(Sequences):
    """B prompts with the tokens of their pictures, and the pictures' latents with noise on them.

    Example: ``tokens_BT`` (32, 16), ``states`` (32, 32, 4, 4).
    """

    states: Tensor  # (B, C, h, w) float32
    timestep_B: Tensor  # float32, in [0, 1000], as the decoder is told
    keep_B: Tensor  # 1, or 0: the condition is dropped
    references_BChw: Tensor | None = None  # latents of what is to be changed, zeros of nothing; None: in no row
    has_reference_B: Tensor | None = None  # bool
    keep_reference_B: Tensor | None = None  # 1, or 0: what is attended to of it is dropped
    pixels_B3HW: Tensor | None = None  # of each row's picture, where ``features`` are made of it or it is redrawn


@dataclass(frozen=True)
class PictureAnswer:
    """What the policy makes of them."""

    forward: Forward
    flow: Tensor | None  # (B, C, h, w), noise minus clean latents; None where it was not asked
    head_logits: Mapping[str, Tensor]  # (B, T, K) of each head
    redrawn: Redrawn | None = None  # what the understanding branch knows of the pictures, if it was asked


class SupervisedNetwork:
    """Language model, connector and transformer as one :class:`policy.trainable.Trainable`.

    Rows that are plain :class:`Sequences` get the language model's answer alone.
    """

    name = "ar"

    def __init__(
        self,
        language: LanguageModel,
        connector: nn.Module,
        transformer: SanaTransformer2DModel,
        reference: ReferenceLatents | None = None,
        *,
        trained: Sequence[str],
        vocabulary: int | None = None,
        prompts: bool = False,
        flow: bool = True,
        detach: bool = False,
        recompute: bool = False,
        heads: Mapping[str, int] | None = None,
        understanding: HybridEncoder | None = None,
        redraw: bool = False,
        lora: Lora | None = None,
    ) -> None:
        """``reference``: how the decoder sees pictures that are to be changed. ``trained``: beginnings of the names of
        weights. ``vocabulary``: a picture's token is one of so many ids; ``None``: of the image tokens. ``prompts``,
        ``flow``: what is asked beside its tokens. ``heads``: name -> classes. ``understanding``: the branch that makes
        features of the rows' pictures; ``redraw``: it is asked what it knows of them. ``lora``: adapters of the
        transformer, which learn in its place.

        Raises: UserError naming one of ``trained`` that no weight begins with.
        """
        self.language = language
        self.flow_network = FlowNetwork(connector, transformer, reference, recompute=recompute, lora=lora)
        self._heads, self._understanding = dict(heads or {}), understanding
        span = language.span
        self._span = span if vocabulary is None else Span(0, vocabulary, length=span.most)
        branch = None if understanding is None else UnderstandingTerms(understanding)
        decoder = (connector, transformer, reference)
        module = _PictureTerms(language, *decoder, self._heads, prompts, flow, detach, branch, redraw)
        self.module: nn.Module = module
        self._trained = self._chosen(trained)
        through = ("ar.", "understanding.encoder.", "understanding.continuous.")
        module.through_language = bool(language.lora) or any(name.startswith(through) for name in self._trained)
        self._redraw = redraw

    def _chosen(self, trained: Sequence[str]) -> dict[str, nn.Parameter]:
        whole, found = dict(self.module.named_parameters()), dict[str, nn.Parameter]()
        for one in trained:
            begun = {name: value for name, value in whole.items() if name == one or name.startswith(f"{one}.")}
            if not begun and one.partition(".")[0] == "reference":
                raise UserError(
                    f"supervised.trained: has {one}, and this policy's decoder does not attend to pictures that are to "
                    f"be changed (reference in its policy.json); take it out, or start from what "
                    f"python -m policy.references POLICY OUT writes"
                )
            if not begun:
                parts = {name.rsplit(".", count)[0] for name in whole for count in range(1, name.count(".") + 1)}
                raise UserError(f"supervised.trained: no weight begins with {one!r}{did_you_mean(one, parts)}")
            found |= begun
        for part, lora in (("ar.", self.language.lora), ("transformer.", self.flow_network.lora)):
            if lora and any(name.startswith(part) for name in found):
                found = {name: value for name, value in found.items() if not name.startswith(part)}
                adapters = {id(one) for one in lora.parameters()}
                found |= {name: value for name, value in whole.items() if id(value) in adapters}
        found = {name: value for name, value in found.items() if name not in self._never_learnt}
        return found | {name: value for name, value in whole.items() if name.startswith(("heads.", "redraw."))}

    @property
    def _never_learnt(self) -> set[str]:
        branch = self._understanding
        return set() if branch is None else {f"understanding.{name}" for name in branch.never_learnt}

    def inputs(self, rows: Sequences) -> tuple[object, ...]:
        plain = self.language.inputs(rows)
        if not isinstance(rows, PictureQuery):
            return plain
        dtype = next(self.module.parameters()).dtype
        pixels_B3HW = None if rows.pixels_B3HW is None else rows.pixels_B3HW.to(dtype)
        asked = (rows.states.to(dtype), rows.timestep_B, rows.keep_B.to(dtype), _given(rows, dtype), pixels_B3HW)
        return (*plain[:3], self._span, rows.features, *asked)

    def outputs(self, raw: tuple[Tensor, ...]) -> PictureAnswer:
        hidden_BSD, logprobs_BT, entropy_BT, *more = raw
        if not more:
            return PictureAnswer(Forward(hidden_BSD, logprobs_BT, entropy_BT), None, {})
        prompts_BL, flow, *more = more
        logits, of_pictures = more[: len(self._heads)], more[len(self._heads) :]
        forward = Forward(hidden_BSD, logprobs_BT, entropy_BT, prompts_BL if prompts_BL.shape[1] else None)
        return PictureAnswer(
            forward,
            flow if flow.shape[1:].numel() else None,
            dict(zip(self._heads, logits, strict=True)),
            Redrawn(*of_pictures) if of_pictures else None,
        )

    def trained(self) -> Sequence[nn.Parameter]:
        return list(self._trained.values())

    @property
    def trained_parts(self) -> frozenset[str]:
        """Where anything learns."""
        own = {name.partition(".")[0] for name in self._trained} - {"heads", "redraw"}
        apart = {"ar", "understanding"}
        return frozenset(apart & own | ({"decoder"} if own - apart else set()))

    def weights(self, gathered: Gathered = nullcontext) -> WeightStream:
        return self.language.weights(gathered)

    def streams(self, gathered: Gathered = nullcontext) -> dict[str, WeightStream]:
        """Of the parts that learn, as a policy folder keeps them: ``ar``, ``decoder``, ``understanding``."""
        whole = {"ar": self.weights, "decoder": self.flow_network.weights, "understanding": self._branch_weights}
        return {name: whole[name](gathered) for name in sorted(self.trained_parts)}

    def _branch_weights(self, gathered: Gathered) -> WeightStream:
        """Those that learn, and the adapter for reading, which a TA-Tok's file does not hold."""
        assert self._understanding is not None  # something of it is trained
        learns = {name.removeprefix("understanding.") for name in self._trained}
        sent = {
            name: value
            for name, value in self._understanding.state_dict(keep_vars=True).items()
            if name in learns or name.startswith("continuous.")
        }
        return WeightStream.stored([StoredWeight(name, (value,)) for name, value in sent.items()], gathered)

    def adapters(self, gathered: Gathered = nullcontext) -> dict[str, Adapter]:
        return self.language.adapters(gathered) | self.flow_network.adapters(gathered)

    def reference(self) -> Network:
        raise NotImplementedError("nothing is compared with the policy at the start")

    def used_directly(self) -> Sequence[Tensor]:
        return [*self.language.used_directly(), *self.flow_network.used_directly()]


def _given(rows: PictureQuery, dtype: torch.dtype) -> GivenLatents | None:
    if rows.references_BChw is None or rows.has_reference_B is None or rows.keep_reference_B is None:
        return None
    return GivenLatents(rows.references_BChw.to(dtype), rows.has_reference_B, rows.keep_reference_B.to(dtype))


class _PictureTerms(nn.Module):
    """All of it behind the one call that an engine makes."""

    def __init__(
        self,
        language: LanguageModel,
        connector: nn.Module,
        transformer: nn.Module,
        reference: ReferenceLatents | None,
        heads: Mapping[str, int],
        prompts: bool,
        flow: bool,
        detach: bool,
        branch: UnderstandingTerms | None,
        redraw: bool,
    ) -> None:
        super().__init__()
        self.ar, self.connector, self.transformer = language.ar, connector, transformer
        self.reference = reference
        width = language.ar.config.hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same on every rank
            self.heads = nn.ModuleDict({name: nn.Linear(width, classes) for name, classes in heads.items()})
        if branch is not None:
            self.understanding = branch.branch
        if branch is not None and redraw:
            self.redraw = branch.redraw
        self._language, self._branch, self._redrawn = language, branch, redraw
        self._prompts, self._flow, self._detach = prompts, flow, detach
        self.through_language = True
        """Whether a gradient goes into the language model."""

    def forward(
        self,
        prompt_ids: Sequence[Sequence[int]],
        tokens_BT: Tensor,
        temperature: float,
        span: Span,
        features: Sequence[PictureFeatures | None] | None = None,
        states: Tensor | None = None,
        timestep_B: Tensor | None = None,
        keep_B: Tensor | None = None,
        given: GivenLatents | None = None,
        pixels_B3HW: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        nothing: Tensor | None = None
        if self._branch is not None and pixels_B3HW is not None:
            features, nothing = self._branch.put(features, pixels_B3HW)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.through_language):
            found = image_forward(
                self.ar,
                span,
                prompt_ids,
                tokens_BT,
                features=features,
                temperature=temperature,
                chunk=self._language.chunk,
                halves=self._language.halves,
                recompute=self._language.recompute,
                prompts=states is not None and self._prompts,
            )
        hidden_BSD = found.hidden_BSD
        logprobs_BT = found.logprobs_BT if nothing is None else found.logprobs_BT + nothing
        if states is None or timestep_B is None or keep_B is None:
            return hidden_BSD, logprobs_BT, found.entropy_BT
        of_prompts = hidden_BSD.new_zeros(len(hidden_BSD), 0)
        if found.prompt_logprobs_BL is not None:
            of_prompts = found.prompt_logprobs_BL
        flow = (
            self._answered(hidden_BSD, states, timestep_B, keep_B, given)
            if self._flow
            else states.new_zeros(len(states), 0)
        )
        logits = [head(hidden_BSD[:, 1:]) for head in self.heads.values()]
        known = self._branch.redrawn(pixels_B3HW) if self._branch and self._redrawn and pixels_B3HW is not None else ()
        return hidden_BSD, logprobs_BT, found.entropy_BT, of_prompts, flow, *logits, *known

    def _answered(
        self, hidden_BSD: Tensor, states: Tensor, timestep_B: Tensor, keep_B: Tensor, given: GivenLatents | None
    ) -> Tensor:
        read_BSD = hidden_BSD.detach() if self._detach else hidden_BSD
        condition = self.connector(read_BSD * keep_B[:, None, None])
        return flow_of(self.transformer, self.reference, states, timestep_B, condition, given)
