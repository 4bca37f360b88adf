"""The warm start of the language model alone is TRL's: its real SFTTrainer, on the same ids from the same weights."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from policy.base import Policy
from policy.pictures.view import square_view
from policy.shapes.vocabulary import with_answers
from policy.words import Words
from rl.config.load import load
from rl.data.examples.contract import Example
from rl.data.examples.order import NumberedStream
from rl.data.shapes.mixed import mixed
from rl.halves.language_model import language_model
from rl.process.ranks import Place
from rl.supervised.batch import PictureBatch
from rl.supervised.build import taught
from rl.supervised.collect import Dataset
from rl.supervised.rows import RowMaker
from rl.trainer.team import Team
from tests.policy.editing import editing_policy
from tests.rl.run_case import write_config

ROWS, MICRO_BATCH, STEPS = 12, 4, 3
LR, BETAS = 1e-3, (0.9, 0.95)
EPS = 1e-6
"""Adam divides a gradient by its own size, so one that is nothing but rounding makes a whole step, in either direction.
Measured: the furthest weights are .0016 ``LR`` apart after the first step and no further after the third; with an
``eps`` of 1e-8 that would be .015."""
APART = 0.01 * LR


@dataclass(frozen=True)
class Learnt:
    """What a trainer says and has after each of its steps."""

    losses: Sequence[float]
    norms: Sequence[float]
    weights: Sequence[Mapping[str, Tensor]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("parity")
    with_answers(Policy.load(editing_policy(made / "first"))).save(made / "policy")
    return made / "policy"


def ours(folder: Path, scratch: Path, steps: Sequence[Sequence[Example]], losses: Mapping[str, float]) -> Learnt:
    """By the trainer of a supervised run, in micro-batches."""
    supervised = {"softmax": "all", "trained": ["ar"], "losses": {**losses, "flow": 0.0}}
    train = {"steps": STEPS, "lr": LR, "warmup_steps": 0, "betas": BETAS, "eps": EPS, "grad_clip": 0.0}
    config = load(write_config(scratch, folder, supervised=supervised, train={**train, "micro_batch": MICRO_BATCH}))
    policy = Policy.load(folder)
    assert config.supervised is not None
    learner = taught(config, config.supervised, language_model(config, policy), policy, Team(Place()))
    rows = Dataset(_Given(steps), RowMaker(policy, config.supervised, 0), scratch, 0.0, MICRO_BATCH)
    said, weights = [], []
    for step in range(STEPS):
        batch = rows(step).batch
        assert isinstance(batch, PictureBatch) and len(batch) == ROWS
        said.append(learner.trainer.update(batch))  # type: ignore[arg-type]
        weights.append(_copied(policy.ar))
    return Learnt([one["loss"] for one in said], [one["grad_norm"] for one in said], weights)


@dataclass
class _Given:
    """An :class:`rl.data.examples.contract.ExampleStream` of these."""

    steps: Sequence[Sequence[Example]]

    def at(self, step: int) -> list[Example]:
        return list(self.steps[step])

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None: ...


def theirs(folder: Path, scratch: Path, steps: Sequence[Sequence[Example]]) -> Learnt:
    """By TRL's SFTTrainer, of which the labels are ids of completions, in micro-batches of another size."""
    from datasets import Dataset as Table
    from transformers import TrainerCallback

    with pytest.MonkeyPatch.context() as patch:
        # TRL imports vLLM wherever it is installed: half a minute for nothing, here.
        patch.setattr(importlib.import_module("trl.import_utils"), "is_vllm_available", lambda *_, **__: False)
        from trl import SFTConfig, SFTTrainer

    weights: list[Mapping[str, Tensor]] = []

    class Keeps(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            weights.append(_copied(more["model"]))

    policy = Policy.load(folder)
    policy.ar.requires_grad_(True)
    tokenizer = deepcopy(policy.tokenizer)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(policy.layout.im_end_id)  # never looked at: rows are ids
    config = SFTConfig(
        output_dir=str(scratch / "trl"),
        max_steps=STEPS,
        per_device_train_batch_size=ROWS // 2,
        gradient_accumulation_steps=2,
        learning_rate=LR,
        lr_scheduler_type="constant",
        warmup_steps=0,
        optim="adamw_torch",
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        adam_epsilon=EPS,
        weight_decay=0.0,
        max_grad_norm=1e9,  # never reached, and 0 would not tell the norm
        completion_only_loss=True,
        train_sampling_strategy="sequential",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    rows = Table.from_list([_completed(policy, example) for given in steps for example in given])
    trainer = SFTTrainer(
        model=policy.ar, args=config, train_dataset=rows, processing_class=tokenizer, callbacks=[Keeps()]
    )
    trainer.train()
    logged = [one for one in trainer.state.log_history if "grad_norm" in one]
    return Learnt([one["loss"] for one in logged], [one["grad_norm"] for one in logged], weights)


def _completed(policy: Policy, example: Example) -> dict[str, list[int]]:
    """What a user of TRL would make of it: the prompt is given, the picture's tokens or the words are learnt."""
    prompt = list(policy.encoder_of({})(example.prompt).ids)
    if example.answer is None:
        pixels = square_view(example.picture.pixels, policy.decoder.picture_side)
        completion = policy.image_tokenizer.encode(pixels[None])[0].tolist()
    else:
        completion = list(Words.of(policy.tokenizer, policy.layout, 16).ids(example.answer))
    return {"input_ids": prompt + completion, "completion_mask": [0] * len(prompt) + [1] * len(completion)}


def _copied(ar: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in ar.state_dict().items()}


def furthest(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def check_equal(folder: Path, our: Learnt, their: Learnt) -> None:
    assert len(our.losses) == len(their.losses) == len(their.weights) == STEPS
    assert our.losses == pytest.approx(their.losses, rel=1e-6)
    assert our.norms == pytest.approx(their.norms, rel=1e-6)
    start = _copied(Policy.load(folder).ar)
    for step in range(STEPS):
        assert furthest(our.weights[step], their.weights[step]) < APART
        assert furthest(our.weights[step], start) > 0.9 * (step + 1) * LR


@pytest.mark.parametrize("shares", [{"draw": 1, "edit": 1}, {"answer": 1}])
def test_a_warm_start_of_the_language_model_equals_trl(shares: dict[str, float], folder: Path, tmp_path: Path) -> None:
    """Its loss, the gradient's norm, and its weights after each of three steps."""
    stream = NumberedStream(mixed(shares=shares, seed=1), ROWS, seed=0)
    steps = [stream.at(step) for step in range(STEPS)]
    check_equal(folder, ours(folder, tmp_path, steps, {}), theirs(folder, tmp_path, steps))


def test_pictures_and_answers_together_equal_trl_where_each_weighs_its_share_of_tokens(
    folder: Path, tmp_path: Path
) -> None:
    """TRL's loss is one mean over all tokens, in which few words hardly count; ours is one of each kind, weighed."""
    steps = [NumberedStream(mixed(shares={"draw": 1, "edit": 1, "answer": 2}, seed=1), ROWS, seed=0).at(0)] * STEPS
    policy = Policy.load(folder)
    learnt = {True: 0, False: 0}
    for one in steps[0]:
        learnt[one.answer is None] += sum(_completed(policy, one)["completion_mask"])
    image = learnt[True] / sum(learnt.values())
    assert 0.9 < image < 1.0
    their = theirs(folder, tmp_path, steps)
    check_equal(folder, ours(folder, tmp_path, steps, {"image": image, "answer": 1 - image}), their)
    other = ours(folder, tmp_path, steps, {"image": 1.0, "answer": 1.0})
    assert other.losses[0] > 1.5 * their.losses[0] and furthest(other.weights[0], their.weights[0]) > LR
