"""``python -m policy.references``: a policy whose decoder can learn to see what is to be changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.folder import read_policy_config
from policy.json_file import read_json
from policy.references.__main__ import main


def test_a_policy_is_given_eyes_for_references(
    tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "seeing", tmp_path / "again"
    assert main([str(tiny_policy), str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: a policy folder whose decoder sees references")
    assert read_json(out / "policy.json")["reference"] == ["channels"]
    read_policy_config(out)
    for typed, said in (
        ([str(out), str(again)], f"the decoder of {out} sees references already (channels); train it as it is."),
        (
            [str(tiny_policy), str(again), "--ways", "chanels"],
            "there is no 'chanels', did you mean 'channels'?",
        ),
        ([str(tiny_policy), str(again), "--ways", "beside_noise"], "which a picture twice as wide would squeeze; use"),
        ([str(tiny_policy), str(out)], f"{out} exists and is not empty; name a new folder."),
    ):
        assert main(typed) == 2
        assert said in capsys.readouterr().err
    assert not again.exists()
