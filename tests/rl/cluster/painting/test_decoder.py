"""Decoders that learn from what painters of a cluster have painted: the serial loop's numbers, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policy.parts import REFERENCE_PART
from tests.policy.editing import editing_policy
from tests.rl.cluster.test_ahead import CHANGES, ahead, evaluations, run
from tests.rl.decoder.decoder_case import DECODER, WINDOW
from tests.rl.run_case import metrics

# a cluster takes 10 s to start and each run of it half a minute: much more where the cores are busy
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def case(part: dict[str, Any], *, both: bool = False, **decoder: Any) -> dict[str, Any]:
    """Blocks of two groups for the samplers, of one for the painters."""
    return {
        "trainers": ["ar", "decoder"] if both else ["decoder"],
        "rollout": {**CHANGES["rollout"], "group_size": 2, "options": {"max_num_seqs": 4}},
        "render": {**part["render"], "micro_batch": 4},
        "train": {**CHANGES["train"], "steps": 3, "micro_batch": 2},
        "decoder": {**part["decoder"], **decoder},
        "kl": {"use": "k3"} if both else None,
        "eval": {"every": 2, "grid": 0},
    }


CASES = {
    "nft": case(DECODER, old="nft"),  # a slow copy paints
    "adapters": case(DECODER, lora={"rank": 2}, train="transformer"),
    "flow_grpo": case(WINDOW, both=True),
}


@pytest.mark.parametrize("name", list(CASES))
def test_painters_of_their_own_change_no_number(name: str, address: str, tiny_policy: Path, tmp_path: Path) -> None:
    serial = run(tmp_path / "serial", tiny_policy, **CASES[name])
    for painters in (1, 2):
        there = run(
            tmp_path / str(painters),
            tiny_policy,
            **CASES[name],
            **ahead(address, 0, painters=painters),
        )
        assert metrics(there) == metrics(serial)
        assert evaluations(there) == evaluations(serial) != []
        assert weights(there) == weights(serial)
    assert [found["decoder/policy_version"] for _, found in metrics(serial)] == [1, 2, 3]


def test_a_decoder_that_sees_what_is_changed_learns_from_edits_of_painters(address: str, tmp_path: Path) -> None:
    """Its layers for the picture that is to be changed learn too, and come to the painters with its other weights."""
    policy = editing_policy(tmp_path / "policy", sees=True)
    tags = ["two_object", "edit_move", "edit_add"]
    data = {"train": {"use": "shapes", "options": {"split": "rl", "per_task": 4, "tags": tags}}, "eval": None}
    changes = case(DECODER, both=True) | {"data": {**CHANGES["data"], **data}}
    serial = run(tmp_path / "serial", policy, **changes)
    there = run(tmp_path / "painted", policy, **changes, **ahead(address, 0))
    assert metrics(there) == metrics(serial)
    assert weights(there) == weights(serial)
    assert weights(there, REFERENCE_PART) == weights(serial, REFERENCE_PART)


def weights(run_folder: Path, part: str = "transformer") -> bytes:
    return next((run_folder / "policy" / part).glob("*.safetensors")).read_bytes()
