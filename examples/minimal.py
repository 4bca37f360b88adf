"""The whole loop by hand, on one page: sample, look, paint, score, compare, update, put the weights back.

    python examples/minimal.py        # 40 steps, about a minute and a half on two cores

The same steps as ``python -m rl.launch examples/geneval.yaml``, without what a run of days needs around them: worker
processes, failures, guards, checkpoints, evaluation. Read it from top to bottom, then ``rl/loop.py``.
"""

from __future__ import annotations

import sys
from functools import partial

import torch

from policy.base import Policy
from policy.trainable import LanguageModel
from rewards.library.geneval.reward import GenEval
from rl.algorithm import advantages, anchor, losses
from rl.algorithm.objective import PolicyObjective
from rl.algorithm.terms import AnchorTerm
from rl.config.schema import TrainConfig
from rl.data.shapes.prompts import prompts
from rl.data.stream import PromptStream
from rl.trainer.trainer import Trainer
from rl.types import Forward, Sample, Sequences, TokenBatch
from rollout.render import render_seeds
from rollout.samplers.torch_sampler import TorchSampler
from rollout.seeds import group_seeds
from rollout.sync import Canary, WeightSync

P, G, SEED = 16, 8, 0  # prompts a step, samples a prompt: B = P * G pictures


def main(steps: int) -> list[float]:
    """Returns the mean score of every step."""
    policy = Policy.load("shapes")  # language model, diffusion decoder and tokenizers from one folder
    stream = PromptStream(prompts("rl", per_task=100), P, SEED)
    sampler = TorchSampler(policy.folder, policy.layout, encode=policy.encode_prompt)  # vLLM: same contract
    reward = GenEval(detector="shapes")

    # A policy gradient on the tokens, and a pull that keeps the hidden states where the frozen decoder can read them.
    held = AnchorTerm(partial(anchor.condition, policy.decoder.connector, beta=0.3))
    objective = PolicyObjective(losses.grpo, losses.token_mean, penalties={"anchor": held})
    trainer: Trainer[Sequences, TokenBatch, Forward] = Trainer(
        LanguageModel(policy.ar, policy.layout.image), objective, TrainConfig(lr=5e-4, betas=(0.9, 0.99)), steps=steps
    )
    sync = WeightSync([sampler])

    means = []
    for step in range(steps):
        # 1. prompts -> tokens, with the log-probs of the policy that wrote them
        asked = stream.at(step)
        rollout = sampler.sample(asked, G, group_seeds(SEED, step, asked, G))
        rows = Sequences(rollout.prompt_ids_per_sample(), torch.from_numpy(rollout.tokens_BT), rollout.temperature)

        # 2. tokens -> hidden states and the trainer's own log-probs, under the policy of now and the one of the start
        now, start = trainer.forward(rows), trainer.reference_forward(rows)

        # 3. hidden states -> pictures; a prompt's samples share their noise, so that the reward compares tokens
        noise = render_seeds(rollout, seed_mode="group", renders=1, run_seed=SEED, step=step)
        pictures = policy.decoder.paint(now.hidden_BSD, noise, steps=4)

        # 4. pictures -> scores
        owners = [rollout.prompt_of(index) for index in range(rollout.batch_size)]
        scores = reward([Sample(f"{i}", owner.id, owner, pictures[i]) for i, owner in enumerate(owners)])
        scores_PG = torch.tensor([score.value for score in scores]).view(P, G)

        # 5. scores -> advantages: how much better than the rest of its group
        valid_PG = torch.ones(P, G, dtype=torch.bool)
        advantages_PG = advantages.grpo(scores_PG, valid_PG)

        # 6. one optimizer step
        batch = TokenBatch(
            **vars(rows),
            rollout_logprobs_BT=torch.from_numpy(rollout.logprobs_BT),
            old_logprobs_BT=now.logprobs_BT,
            reference_hidden_BSD=start.hidden_BSD if start else None,
            advantages_B=advantages_PG.flatten(),
            valid_B=valid_PG.flatten(),
        )
        metrics = trainer.update(batch)

        # 7. new weights into the sampler, which must then compute what the trainer computes
        few = rows.take(range(4))
        canary = Canary(few, trainer.forward(few).logprobs_BT.numpy())
        sync.push("ar", trainer.weights(), trainer.version, {"logprobs": canary})

        means.append(scores_PG.mean().item())
        print(f"step {step:3}  score {means[-1]:.3f}  loss {metrics['loss']:+.4f}  entropy {metrics['entropy']:.3f}")
    return means


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
