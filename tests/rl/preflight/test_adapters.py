"""Adapters that are not possible, told before anything heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rl.config.load import load
from rl.preflight import adapters
from rl.preflight.adapters import learning_numbers, lora_problems, trained_parameters
from rl.preflight.machine import check_machine
from rl.types import UserError

ROOT = Path(__file__).parents[3]
GENEVAL = ROOT / "examples" / "geneval.yaml"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["train.lora.rank=0"], r"train\.lora\.rank: must be at least 1, got 0"),
        (["train.lora.rank=5000"], r"train\.lora\.rank: must be at most 4096, got 5000"),
        (["train.lora.alpha=0"], r"train\.lora\.alpha: must be greater than 0, got 0"),
        (["train.lora.dropout=0.1"], r"train\.lora\.dropout: must be 0, got 0\.1: with dropout the ratio of the first"),
        (["train.lora.targets=[]"], r"train\.lora\.targets: must name at least one layer, each once, got \[\]"),
        (["train.lora.targets=[q_proj,q_proj]"], r"train\.lora\.targets: must name at least one layer, each once"),
        (["train.lora.rnk=4"], r"train\.lora\.rnk: unknown key, did you mean 'rank'"),
        (["train.lora=16"], r"train\.lora: must be a mapping"),
        (["train.offload_optimizer=cpu", "train.zero_stage=0"], r"offload_optimizer: it is ZeRO .*zero_stage is 0"),
        (["train.lora={}", "train.offload_reference=cpu"], r"offload_reference: .*no copy to move; leave it null"),
        (
            ["rollout.sleep=1", "rollout.engine=torch"],
            r"rollout\.sleep: the engine torch keeps its memory; set it to 0",
        ),
        (["rollout.sleep=3"], r"rollout\.sleep: must be at most 2, got 3"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(typed: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        load(GENEVAL, typed)
    assert str(caught.value).count("\n") == 0


def test_a_target_that_matches_nothing_is_named_with_those_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "version", lambda _: "0.21.2")
    with pytest.raises(UserError, match=r"train\.lora\.targets: .* called 'query' \(there are: down_proj, gate_proj"):
        check_machine(load(GENEVAL, ["train.lora.targets=[q_proj,query]"]))
    check_machine(load(GENEVAL, ["train.lora.targets=[q_proj,mlp.up_proj]"]))


def test_without_peft_a_run_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "version", lambda _: None)
    with pytest.raises(UserError, match=r"train\.lora: adapters need peft, which is not installed; type `"):
        check_machine(load(GENEVAL, ["train.lora={}"]))
    check_machine(load(GENEVAL))


def test_what_learns_is_counted_from_the_checkpoints_header(tiny_policy: Path) -> None:
    whole, some = (load(GENEVAL, typed).train for typed in ([], ["train.lora={rank: 2, targets: [k_proj]}"]))
    assert trained_parameters(whole, tiny_policy / "ar") == 237_344
    assert trained_parameters(some, tiny_policy / "ar") == 2 * 2 * (96 + 32)
    assert list(lora_problems(load(GENEVAL), tiny_policy)) == []


DECODER = ["trainers=[decoder]", "render.renders=2", "decoder.timesteps=1", "render.dtype=null", "policy.dtype=float32"]


def test_what_of_a_decoder_learns_is_counted_too(tiny_policy: Path) -> None:
    whole = decoder_numbers(tiny_policy, "decoder.train=all")
    assert decoder_numbers(tiny_policy, "decoder.train=connector") + decoder_numbers(tiny_policy) == whole
    size = json.loads((tiny_policy / "transformer" / "config.json").read_text())
    blocks, width = size["num_layers"], size["num_attention_heads"] * size["attention_head_dim"]
    assert decoder_numbers(tiny_policy, "decoder.lora={rank: 2, targets: [attn1.to_q]}") == blocks * 2 * 2 * width
    both = load(GENEVAL, [*DECODER, "trainers=[ar, decoder]"])
    assert learning_numbers(both, tiny_policy) == 237_344 + decoder_numbers(tiny_policy)
    config = load(GENEVAL, [*DECODER, "decoder.lora.targets=[q_proj]"])
    (problem,) = lora_problems(config, tiny_policy)
    assert problem.startswith("decoder.lora.targets: no linear layer that can be adapted is called 'q_proj'")
    assert "to_out.0" in problem and "scale_shift_table" not in problem


def decoder_numbers(policy: Path, *typed: str) -> int:
    return learning_numbers(load(GENEVAL, [*DECODER, *typed]), policy)


def test_it_takes_no_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from rl.preflight.adapters import trained_parameters as count; "
        "from rl.config.load import load; print(count(load(sys.argv[1], ['train.lora={}']).train, Path(sys.argv[2]))); "
        "assert 'torch' not in sys.modules and 'peft' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(GENEVAL), str(ROOT / "policy" / "shapes" / "weights" / "ar")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "217088"), done.stderr
