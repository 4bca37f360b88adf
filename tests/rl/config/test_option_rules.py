"""Values that a component can't use: told when the configuration is read, with key and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.config.load import load
from rl.types import UserError

HEAD = "trainers: [decoder]\nrewards: {geneval: geneval}\n"
CPS = "render: {renders: 2, steps: 4, sampler: {use: cps, options: {eta: 0.7, window: 2}}}\n"


def said(folder: Path, text: str, *overrides: str) -> str | None:
    """What is refused of this configuration, if anything."""
    file = folder / "o.yaml"
    file.write_text(text)
    try:
        load(file, overrides)
    except UserError as error:
        return str(error).replace(f"{folder}/", "")
    return None


def loss(folder: Path, written: str) -> str | None:
    return said(folder, f"{HEAD}{CPS}decoder:\n  loss: {written}\n")


def sampler(folder: Path, options: str, steps: int = 4) -> str | None:
    written = f"render:\n  renders: 2\n  steps: {steps}\n  sampler: {{use: sde, options: {options}}}\n"
    return said(folder, f"{HEAD}decoder: {{loss: flow_grpo}}\n{written}")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{use: nft, options: {beta: -1}}", "beta: must be a number above 0, got -1"),
        ("{use: nft, options: {beta: much}}", "beta: must be a number above 0, got 'much'"),
        ("{use: nft, options: {beta: null}}", "beta: must be a number, got nothing (null)"),
        ("{use: nft, options: {beta: .inf}}", "beta: must be a number above 0, got inf"),
        ("{use: nft, options: {adaptive: off}}", "adaptive: must be true or false, got 'off' (text)"),
        (
            "{use: awm, options: {weighting: unifrm}}",
            "weighting: must be 'uniform' or 't' or 't2' or 'huber' or 'ghuber', got 'unifrm' (text), did you mean "
            "'uniform'?",
        ),
        ("{use: awm, options: {clip: 0}}", "clip: must be a number above 0, got 0"),
        (
            "{use: flow_grpo, options: {weights: gard}}",
            "weights: must be 'equal' or 'tempflow' or 'guard', got 'gard' (text), did you mean 'guard'?",
        ),
        (
            "{use: flow_grpo, options: {ratio_norm: true, kl_mask: 1e-5}}",
            "kl_mask: ratio_norm and kl_mask exclude each other; set one of them",
        ),
        ("{use: flow_grpo, options: {kl_mask: -1}}", "kl_mask: must be a number that is not negative, got -1"),
        ("{use: flow_grpo, options: {kl_mask: null, ratio_norm: true}}", None),
        ("{use: nft, options: {beta: 1, adaptive: false}}", None),
    ],
)
def test_options_of_a_decoders_loss(written: str, message: str | None, tmp_path: Path) -> None:
    assert loss(tmp_path, written) == (message and f"o.yaml:5: decoder.loss.options.{message}")


@pytest.mark.parametrize(
    ("options", "steps", "message"),
    [
        ("{eta: 1.5}", 4, "eta: must be a number above 0 and at most 1, got 1.5 (0 is euler, which has no log-probs)"),
        ("{eta: high}", 4, "eta: must be a number, got 'high' (text)"),
        (
            "{window: 4}",
            4,
            "window: is 4 from step 0, which includes the last of 4 steps and would leave its noise in the picture; "
            "make it smaller, or render.steps at least 5",
        ),
        (
            "{start: 3}",  # with the window's default
            4,
            "window: is 2 from step 3, which needs 6 steps or more, and there are 4; raise render.steps or make it "
            "smaller",
        ),
        (
            "{}",
            1,
            "window: is 2 from step 0, which needs 3 steps or more, and there are 1; raise render.steps or make it "
            "smaller",
        ),
        ("{windw: 9}", 1, "windw: 'sde' has no such option, did you mean 'window'? (it takes eta, window, start)"),
        ("{window: 3}", 4, None),
    ],
)
def test_a_window_must_fit_into_the_steps(options: str, steps: int, message: str | None, tmp_path: Path) -> None:
    assert sampler(tmp_path, options, steps) == (message and f"o.yaml:7: render.sampler.options.{message}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.options.clip_low=-0.2", "loss.options.clip_low: must be a number that is not negative, got -0.2"),
        ("anchor={use: condition, options: {beta: -1}}", "anchor.options.beta: must be a number that is not negative"),
        ("correction.options.cap=0", "correction.options.cap: must be a number above 0, got 0"),
        ("advantage.options.eps=x", "advantage.options.eps: must be a number that is not negative, got 'x'"),
        ("rewards.geneval.options.grading=strct", "'strict' or 'graded', got 'strct' (text), did you mean 'strict'?"),
    ],
)
def test_the_same_holds_for_every_component(override: str, message: str, tmp_path: Path) -> None:
    found = said(tmp_path, "rewards: {geneval: geneval}\n", override)
    assert found is not None and found.startswith("command line: ") and message in found and "\n" not in found


OWN = """
from typing import Literal
from somewhere import Far

def mine(logprobs_BT, old_logprobs_BT, advantages_B, *, clip: float = 0.2, how: "Literal[1]" = 1,
         far: Far = 3, share: float = None, mode: Literal["a", "b"] | None = None, count: int | list[int] = 3):
    ...
"""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{clip: big}", "clip: must be a number, got 'big' (text)"),
        ("{mode: c}", "mode: must be 'a' or 'b', got 'c' (text)"),
        ("{clip: 1, mode: a}", None),
        ("{mode: null}", None),
        ("{how: 2, far: x, share: null, count: many}", None),  # nothing that can be told from what is written
    ],
)
def test_a_function_of_ones_own_is_taken_at_its_word(
    options: str, message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_option_loss.py").write_text(OWN)
    written = f"rewards: {{geneval: geneval}}\nloss:\n  use: own_option_loss:mine\n  options: {options}\n"
    assert said(tmp_path, written) == (message and f"o.yaml:4: loss.options.{message}")
