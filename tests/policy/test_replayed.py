"""Steps over fixed buffers are the plain ones; that they are captured on a GPU changes nothing of what they compute."""

from __future__ import annotations

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from policy.ar.decoding import Decoding
from policy.ar.replayed import ReplayedDecoding

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def model() -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=50, num_key_value_heads=2, head_dim=16, **SIZES)).eval()


@torch.inference_mode()
def test_every_step_is_the_plain_one_over_several_widths_and_again_with_fewer_samples() -> None:
    ar, count = model(), 130  # slots 5..134: three widths of 64
    replayed = ReplayedDecoding(ar, batch=4, slots=5 + count)
    assert replayed.slots == 192
    for rows, owners in (([(1, 2, 3), (4, 5, 6, 7, 8)], [0, 0, 1, 1]), ([(9, 8)], [0, 0, 0])):
        owner_B = torch.tensor(owners)
        plain = Decoding(ar, rows, owner_B, count)
        assert torch.allclose(replayed.begin(rows, owner_B), plain.first_hidden_BD, atol=1e-6)
        token_BT = torch.randint(50, (len(owners), count), generator=torch.Generator().manual_seed(1))
        for step in range(count):
            wanted, found = plain.step(token_BT[:, step]), replayed.step(token_BT[:, step])
            assert torch.allclose(found, wanted, atol=1e-5), step


@torch.inference_mode()
def test_new_weights_are_followed() -> None:
    ar = model()
    replayed = ReplayedDecoding(ar, batch=1, slots=8)
    rows, owner_B, token_B = [(1, 2)], torch.tensor([0]), torch.tensor([3])
    replayed.begin(rows, owner_B)
    before = replayed.step(token_B)
    ar.model.embed_tokens.weight.mul_(-2.0)
    replayed.begin(rows, owner_B)
    after = replayed.step(token_B)
    plain = Decoding(ar, rows, owner_B, 1)
    assert torch.allclose(after, plain.step(token_B), atol=1e-6) and not torch.allclose(before, after, atol=1e-2)
