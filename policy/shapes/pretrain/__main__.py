"""Makes the embedded model from nothing: ``python -m policy.shapes.pretrain --out DIR``.

Four stages, each resumable and skipped when done: image tokenizer (seconds), autoencoder, language model
(``trl.SFTTrainer``), decoder on the language model's own hidden states. Seeded.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

from policy.base import Policy
from policy.shapes.model import make_policy
from policy.shapes.pretrain.ar import train_ar
from policy.shapes.pretrain.autoencoder import train_vae
from policy.shapes.pretrain.decoder import train_decoder
from policy.shapes.pretrain.image_tokenizer import fit_tokenizer
from policy.shapes.pretrain.stage import is_finished
from rl.process.command import command
from rl.process.parser import CommandParser

STAGES = ("tokenizer", "vae", "ar", "decoder")


def pretrain(out: Path, stages: tuple[str, ...], steps: dict[str, int], seed: int) -> None:
    """Runs the stages in order; ``out`` ends as a complete policy folder."""
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    policy = make_policy(out)
    fit_tokenizer(policy, seed)
    trainers = {"vae": train_vae, "ar": train_ar, "decoder": train_decoder}
    for stage in ("vae", "ar", "decoder"):
        started = time.time()
        if stage in stages:
            trainers[stage](policy, work, steps[stage], seed)
            _note(work, stage, time.time() - started)
    if is_finished("decoder", work, steps["decoder"]):
        policy.save(out)


def _note(work: Path, stage: str, seconds: float) -> None:
    file = work / "seconds.json"
    seen = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**seen, stage: round(seen.get(stage, 0.0) + seconds, 1)}))


@command
def main() -> int:
    parser = CommandParser(prog="python -m policy.shapes.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the new policy")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--vae-steps", type=int, default=3000)
    parser.add_argument("--ar-steps", type=int, default=18000)
    parser.add_argument("--decoder-steps", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    steps = {"vae": options.vae_steps, "ar": options.ar_steps, "decoder": options.decoder_steps}
    pretrain(options.out, tuple(options.stages), steps, options.seed)
    if (options.out / "policy.json").exists():
        Policy.load(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
