"""What a painter of the cluster shows its decoder."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rl.cluster import references
from rl.cluster.jobs import PaintJob
from rl.cluster.packed import PackedRollout
from rl.cluster.references import StoredReferences
from rl.cluster.worker.roles import PainterRole
from rl.config.schema import Config
from rl.data.pictures import Picture
from rl.types import Forward, Prompt, Rollout

BEFORE = Picture(np.zeros((64, 64, 3), np.uint8))


class Decoder:
    def __init__(self, *, sees: bool) -> None:
        self.reference = object() if sees else None
        self.shown: list[Any] = []
        self.asked: list[tuple[int, int]] = []

    def paint(self, hidden_BSD: torch.Tensor, seeds: Any, **options: Any) -> NDArray[np.uint8]:
        self.shown.append(options.get("references"))
        self.asked.append((len(seeds), options["steps"]))
        return np.zeros((len(hidden_BSD), 64, 64, 3), np.uint8)


def painter(decoder: Decoder, tiny_policy: Path) -> PainterRole:
    role = object.__new__(PainterRole)
    role._config = Config.model_validate({"policy": {"path": str(tiny_policy)}})
    role._forward = lambda rows: Forward(torch.zeros(4, 17, 8), torch.zeros(4, 16), torch.zeros(4, 16))  # type: ignore
    role._there, role._decoder = nullcontext, decoder  # type: ignore[assignment]
    role.decoder_weights = None
    role.weights = SimpleNamespace(hold=lambda version: None, version=0, mismatch=None)  # type: ignore[assignment]
    return role


@pytest.mark.parametrize("sees", [True, False])
def test_a_decoder_that_sees_references_is_shown_those_of_its_prompts(
    tiny_policy: Path, sees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = (Prompt("e", "make it red", pictures=(BEFORE,)), Prompt("d", "a red circle"))
    tokens = np.zeros((4, 16), np.int64)
    rollout = Rollout(prompts, 2, ((1,), (1,)), tokens, np.zeros((4, 16), np.float32), (0, 1, 2, 3), 1.0, 0)
    monkeypatch.setattr(references, "ray", SimpleNamespace(put=lambda one: one, get=lambda one, timeout: one))
    decoder, stored = Decoder(sees=sees), StoredReferences(64).of(0, prompts) if sees else ()
    job = PaintJob(step=0, rollout=PackedRollout.of(rollout), references=stored)
    painter(decoder, tiny_policy).work(None, job)
    found = [[one and one.digest for one in seen] if seen else None for seen in decoder.shown]
    assert found == [[BEFORE.digest, BEFORE.digest, None, None] if sees else None]
    assert not any(prompt.pictures or prompt.text for prompt in PackedRollout.of(rollout).rollout().prompts)


def test_a_job_says_how_many_steps_and_renders(tiny_policy: Path) -> None:
    prompts, tokens = (Prompt("d", ""), Prompt("e", "")), np.zeros((4, 16), np.int64)
    rollout = Rollout(prompts, 2, ((1,), (1,)), tokens, np.zeros((4, 16), np.float32), (0, 1, 2, 3), 1.0, 0)
    decoder = Decoder(sees=False)
    role, packed = painter(decoder, tiny_policy), PackedRollout.of(rollout)
    role.work(None, PaintJob(step=0, rollout=packed))
    told, pictures = role.work(None, PaintJob(step=0, rollout=packed, steps=3, renders=2))
    assert decoder.asked == [(4, role._config.render.steps), (8, 3)]
    assert isinstance(pictures, np.ndarray) and len(pictures) == len(told.seeds) == 8
