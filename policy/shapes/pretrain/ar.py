"""Language-model stage: ``trl.SFTTrainer`` on caption + image-token sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import SequentialSampler
from transformers import Qwen3ForCausalLM
from trl import SFTConfig, SFTTrainer

from policy.base import Policy
from policy.shapes.pretrain.scenes import Scene, random_scene
from rl.data.shapes.looks import FIGURES, GROUNDS
from rl.data.shapes.sprites import CLASSES
from rl.data.shapes.world import Content, class_of, looks_of

_BATCH = 16
_CONTENT_WEIGHT = 0.3
_MISMATCHED = 0.2  # share of rows whose caption is another scene's: they teach content, not prediction
# The last part of the rows carries captions as bad as the web's: a share of the pictures is captioned as another of the
# same task. The model has learnt to obey by then and ends doing so only part of the time, which is RL's to repair.
_NOISY_PART, _MISLABELLED = 0.1, 0.3
_IGNORE = -100
_PADDING = {"input_ids": 0, "labels": _IGNORE, "grounds": _IGNORE, "figures": _IGNORE}


class ContentHead(nn.Module):
    """Reads from the final hidden state at an image token what the decoder must know there; during pre-training only.

    That is the token, its place in the grid, and the details that the caption asks for there: the ground, and how the
    object is drawn. BLIP3o-NEXT trains the language model with the flow-matching loss too, which keeps all of it in the
    final hidden state. Next-token loss alone lets the colour fade, rotary positions leave the place out (a linear probe
    finds it in 38 % of the tokens), and no token has the details. These heads do the same at a hundredth of the cost.
    """

    def __init__(self, hidden_size: int, num_image_tokens: int, places: int) -> None:
        super().__init__()
        self.code, self.place = nn.Linear(hidden_size, num_image_tokens), nn.Linear(hidden_size, places)
        self.ground, self.figure = nn.Linear(hidden_size, len(GROUNDS)), nn.Linear(hidden_size, len(FIGURES))

    def loss(self, hidden_BLD: Tensor, codes_BL: Tensor, grounds_BL: Tensor, figures_BL: Tensor) -> Tensor:
        """Summed cross-entropies; ``codes_BL`` is -100 at text, ``figures_BL`` also where no object is asked for."""
        image_BL = codes_BL != _IGNORE
        hidden_ND = hidden_BLD[image_BL]
        places_BL = image_BL.cumsum(1) - 1
        wanted = ((self.code, codes_BL), (self.place, places_BL), (self.ground, grounds_BL), (self.figure, figures_BL))
        whole = torch.zeros((), device=hidden_BLD.device)
        for head, right_BL in wanted:
            right_N = right_BL[image_BL]
            if (right_N != _IGNORE).any():
                whole = whole + F.cross_entropy(head(hidden_ND), right_N, ignore_index=_IGNORE)
        return whole


class ImageTokenTrainer(SFTTrainer):
    """SFT on image tokens only: text is given, so no probability is spent on it."""

    image_start: int
    image_end: int

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> SequentialSampler:
        """Rows are random already, and their order matters: bad captions come last."""
        return SequentialSampler(train_dataset or self.train_dataset)

    def compute_loss(
        self, model: Qwen3ForCausalLM, inputs: dict[str, Tensor], return_outputs: bool = False, **_: object
    ) -> Tensor:
        ids_BL, labels_BL = inputs["input_ids"], inputs["labels"]
        states_BLD = model.model(input_ids=ids_BL, use_cache=False).last_hidden_state
        head_KD = model.lm_head.weight[self.image_start : self.image_end]
        codes_BL = torch.where(labels_BL == _IGNORE, labels_BL, labels_BL - self.image_start)
        logits_BLK = states_BLD[:, :-1] @ head_KD.T
        predicted = F.cross_entropy(logits_BLK.flatten(0, 1), codes_BL[:, 1:].flatten(), ignore_index=_IGNORE)
        own_BL = torch.where(ids_BL >= self.image_start, ids_BL - self.image_start, _IGNORE)
        details = inputs["grounds"], inputs["figures"]
        return predicted + _CONTENT_WEIGHT * model.content_head.loss(states_BLD, own_BL, *details)


def train_ar(policy: Policy, work: Path, steps: int, seed: int) -> None:
    """Trains ``policy.ar`` in place; resumes from the trainer's own checkpoints."""
    file = work / "ar.pt"
    if not (work / "ar.done").exists():
        layout = policy.layout
        head = ContentHead(policy.ar.config.hidden_size, layout.num_image_tokens, layout.tokens_per_image)
        policy.ar.content_head = head
        trainer = _trainer(policy, work, steps, seed)
        trainer.train(resume_from_checkpoint=any((work / "ar_trainer").glob("checkpoint-*")) or None)
        del policy.ar.content_head
        torch.save(policy.ar.state_dict(), file)
        (work / "ar.done").touch()
    policy.ar.load_state_dict(torch.load(file, weights_only=True))
    policy.ar.eval()


def _trainer(policy: Policy, work: Path, steps: int, seed: int) -> ImageTokenTrainer:
    config = SFTConfig(
        output_dir=str(work / "ar_trainer"),
        max_steps=steps,
        per_device_train_batch_size=_BATCH,
        learning_rate=1e-3,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.02},
        warmup_steps=200,
        adam_beta2=0.98,
        weight_decay=0.01,
        max_grad_norm=1.0,
        logging_steps=250,
        save_steps=1000,
        save_total_limit=1,
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    trainer = ImageTokenTrainer(
        model=policy.ar,
        args=config,
        train_dataset=_dataset(policy, steps * _BATCH, seed),
        processing_class=policy.tokenizer,
        data_collator=_collate,
    )
    trainer.image_start, trainer.image_end = policy.layout.image_start_id, policy.layout.image_end_id
    return trainer


def _dataset(policy: Policy, rows: int, seed: int) -> Dataset:
    rng, encode, start = np.random.default_rng([seed, 3]), policy.text_ids, policy.layout.image_start_id
    cache: dict[str, list[int]] = {}
    found: dict[str, list[list[int]]] = {name: [] for name in _PADDING}
    for row in range(rows):
        scene = random_scene(rng)
        noise = _MISLABELLED if row >= rows * (1 - _NOISY_PART) else 0.0
        matched = rng.random() >= _MISMATCHED
        asked = _captioned_as(scene, rng, noise) if matched else random_scene(rng)
        prompt = cache.setdefault(asked.caption, list(encode(asked.caption)))
        tokens = (scene.cells_T + start).tolist()  # the tokenizer's first codes are the cells in order
        text = [_IGNORE] * len(prompt)
        grounds, figures = _details(asked.content, scene.cells_T)
        found["input_ids"].append(prompt + tokens)
        found["labels"].append(text + (tokens if matched else [_IGNORE] * len(tokens)))
        found["grounds"].append(text + grounds)
        found["figures"].append(text + figures)
    return Dataset.from_dict(found)


def _captioned_as(scene: Scene, rng: np.random.Generator, noise: float) -> Scene:
    """The scene itself, or in a share ``noise`` of the cases another one of its task, whose caption it gets."""
    return random_scene(rng, scene.content.tag) if rng.random() < noise else scene


def _details(asked: Content, cells_T: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Ground and figure that a caption asks for at each cell; no figure where it asks for no object of that class."""
    looks_T = looks_of(asked, cells_T)
    named = [CLASSES.index(name) for name in asked.figures()]
    figures_T = np.where(np.isin(class_of(cells_T), named), looks_T % len(FIGURES), _IGNORE)
    return (looks_T // len(FIGURES)).tolist(), figures_T.tolist()


def _collate(rows: list[dict[str, list[int]]]) -> dict[str, Tensor]:
    length = max(len(row["input_ids"]) for row in rows)
    return {
        key: torch.tensor([row[key] + [value] * (length - len(row[key])) for row in rows])
        for key, value in _PADDING.items()
    }
