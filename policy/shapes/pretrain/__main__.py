"""Makes the embedded model from nothing: ``python -m policy.shapes.pretrain --out DIR``.

The image tokenizer is fitted in seconds. Supervised runs follow, each on what the one before has made, by the files
beside this one: ``vae`` (the autoencoder), ``ar`` (the language model learns to draw), ``decoder`` (connector and
transformer, on the language model's own hidden states), ``understanding`` (what pictures are read by), ``unify`` (the
language model learns to edit and to answer), ``places`` (where things stand) and ``unified_decoder`` (which follows,
and sees what is to be changed). Their folders are in ``DIR/work``; the same command goes on where it was stopped.
``--first unify --policy FOLDER`` does the later ones alone, on a policy that has the earlier ones behind it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from policy.base import Policy
from policy.checksums import CHECKSUMS_FILE
from policy.folder import resolve_folder
from policy.parts import CONFIG_FILE
from policy.references.untrained import with_references
from policy.shapes.model import make_policy
from policy.shapes.pretrain.autoencoder import set_scale
from policy.shapes.pretrain.image_tokenizer import fit_tokenizer
from policy.shapes.reading import fit_codes, with_reading
from policy.shapes.vocabulary import with_answers, with_editing
from rl.process.command import command
from rl.process.parser import CommandParser
from rl.types import UserError

STAGES = ("vae", "ar", "decoder", "understanding", "unify", "places", "unified_decoder")
_BAD_FROM = {"ar": 16 * 0.9, "decoder": 48 * 0.7, "unify": 24 * 0.85, "places": 24 * 0.75, "unified_decoder": 48 * 0.7}
"""Rows a step, times the share of the steps before bad ones come."""


def pretrain(stages: Sequence[str], out: Path, steps: Mapping[str, int], seed: int, policy: Path | None = None) -> None:
    """Runs the stages in order; ``out`` ends as a complete policy folder. ``steps``: of stages that are to have others
    than their files say. ``policy``: has the stages before behind it; ``None``: there are none."""
    policy = policy or _untrained(out / "work" / "start", seed)
    for stage in stages:
        run = out / "work" / stage
        if stage in _BEFORE:
            policy = _prepared(stage, policy, out / "work" / f"before-{stage}", seed)
        _train(stage, policy, run, steps.get(stage), seed)
        policy = run / "policy"
        if stage == "vae":
            set_scale(policy, seed)
    unwanted = shutil.ignore_patterns("README.md", "*.png", CHECKSUMS_FILE)
    shutil.copytree(policy, out, ignore=unwanted, dirs_exist_ok=True)


def _untrained(folder: Path, seed: int) -> Path:
    if not folder.is_dir():
        torch.manual_seed(seed)
        made = make_policy(folder)
        fit_tokenizer(made, seed)
        made.save(folder)
    return folder


def _reading(policy: Policy, seed: int) -> Policy:
    """Able to read instructions and questions, and to see what no code says: none of which it has learnt yet."""
    return with_reading(with_answers(policy if policy.task_templates else with_editing(policy)), seed)


def _writing(policy: Policy, seed: int) -> Policy:
    """The codes of the cells, from the encoder that has learnt."""
    fit_codes(policy, seed)
    return policy


def _seeing(policy: Policy, seed: int) -> Policy:
    """A decoder that is shown the picture to be changed."""
    del seed  # what is new is zeros
    return policy if policy.decoder.reference else with_references(policy)


_BEFORE: Mapping[str, Callable[[Policy, int], Policy]] = {
    "understanding": _reading,
    "unify": _writing,
    "unified_decoder": _seeing,
}
"""What a stage needs that no stage before it has made."""


def _prepared(stage: str, policy: Path, folder: Path, seed: int) -> Path:
    if not (folder / CONFIG_FILE).is_file():
        _BEFORE[stage](Policy.load(policy), seed).save(folder)
    return folder


def _train(stage: str, policy: Path, run: Path, steps: int | None, seed: int) -> None:
    """Raises: UserError if the run has failed, which it has told itself."""
    begun = run / "config.yaml"
    chosen = [str(begun), "--resume"] if begun.is_file() else [str(Path(__file__).with_name(f"{stage}.yaml"))]
    if not begun.is_file():
        chosen += [f"policy.path={policy}", f"run.folder={run}", f"run.seed={seed}"]
        if steps is not None and stage in _BAD_FROM:
            chosen.append(f"supervised.examples.options.bad_from={round(_BAD_FROM[stage] * steps)}")
    chosen += [] if steps is None else [f"train.steps={steps}"]
    if subprocess.run([sys.executable, "-m", "rl.launch", *chosen], check=False).returncode:
        raise UserError(f"the stage {stage} has not come to its end; the same command goes on with it")


def _stages(first: str, policy: str | None) -> tuple[str, ...]:
    """From the first one on. Raises: UserError if what was typed does not go together."""
    if (first != STAGES[0]) != (policy is not None):
        raise UserError("--first and --policy go together: a stage, and the policy that it goes on from; give both.")
    return STAGES[STAGES.index(first) :]


@command
def main() -> int:
    parser = CommandParser(prog="python -m policy.shapes.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the new policy")
    for stage in STAGES:
        about = f"of {stage}.yaml, if not those that it says"
        parser.add_argument(f"--{stage.replace('_', '-')}-steps", type=int, help=about)
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn at random")
    parser.add_argument("--first", choices=STAGES, default=STAGES[0], help="the stage to begin with, on --policy")
    parser.add_argument("--policy", help="policy folder, or an embedded model's name, with the stages before behind it")
    options = parser.parse_args()
    stages = _stages(options.first, options.policy)
    policy = None if options.policy is None else resolve_folder(options.policy)
    given = {stage: getattr(options, f"{stage}_steps") for stage in stages}
    steps = {stage: count for stage, count in given.items() if count is not None}
    pretrain(stages, options.out, steps, options.seed, policy)
    Policy.load(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
