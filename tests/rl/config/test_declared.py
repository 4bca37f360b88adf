"""What is read from a component's source, and that a component of one's own is held to what it declares."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from rl.config.declared import Declarations, OptionNames, declarations, read_source
from rl.config.load import load
from rl.config.rules import check
from rl.config.schema import Config, components
from rl.registry import BUILT_IN, resolve
from rl.types import UserError


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``own_parts``, which nobody may import."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_hub").mkdir()
    (tmp_path / "own_hub" / "__init__.py").write_text(
        "from .names import NEEDED as NAMES\nWORDS = ('text', 'lang')\nclass Packed:\n    metadata = NAMES\n"
    )
    (tmp_path / "own_hub" / "names.py").write_text(
        "NEEDED: tuple[str, ...] = ('mask',)\nclass Base:\n    metadata = NEEDED\n"
    )
    path = tmp_path / "own_parts.py"
    path.write_text(
        dedent("""
        raise RuntimeError("imported")
        from own_hub.names import Base as Limit
        from own_hub import WORDS as KEYS
        from own_hub.names import NEEDED
        from rl.config.declared import declares as said
        SIDE = 64

        class Reads:
            metadata = KEYS
            needs = dict(cpus=2, note=Other(side=SIDE))
            typed: tuple[str, ...] = NEEDED
            made = tuple("ab")

        class Child(Reads):
            on_policy = True

        class Limit(Limit):
            pass

        def pairs(rewards_PG, valid_PG): ...
        pairs.least_group = 4
        pairs.across_prompts = True

        @said(least_group=SIDE, across_prompts=True)
        def decorated(rewards_PG, valid_PG, *, eps=1e-4): ...

        @other(least_group=3)
        def unknown(rewards_PG, valid_PG, *, eps=1e-4): ...

        def raw(values_KB, applies_KB, weights_K, group_B): ...
        raw.centred = False

        def unsaid(values_KB, applies_KB, weights_K, group_B): ...

        def plain(logprobs_BT, old_logprobs_BT, advantages_B): ...
        plain.on_policy = True

        def limited(samples, *, power=1.0, share=None): ...
        limited.not_negative = ("power", "share")

        bound = partial(limited, power=2)
        bound.metadata = ["text"]
        """)
    )
    return path


@pytest.mark.usefixtures("module")
def test_values_are_literals_or_names_of_literals() -> None:
    source = read_source("rewards", "own_parts:Reads")
    assert source is not None
    assert source.value("metadata") == ("text", "lang")
    assert source.value("typed") == ("mask",)
    assert source.value("needs") == {"cpus": 2, "note": {"side": 64}}
    assert source.value("absent") is None
    with pytest.raises(UserError) as caught:
        source.value("made")
    assert str(caught.value) == ("'own_parts:Reads': its `made` can't be read from its source; write literal values")
    assert declarations("rewards", "own_hub:Packed").metadata == ("mask",)
    assert declarations("rewards", "own_parts:bound").metadata == ("text",)  # no definition, so no options
    assert declarations("rewards", "nowhere:f") == declarations("rewards", "own_parts:gone") == Declarations()


@pytest.mark.usefixtures("module")
def test_a_function_declares_above_it_and_keeps_its_options() -> None:
    declared = declarations("advantages", "own_parts:decorated")
    assert declared == Declarations(least_group=64, across_prompts=True)
    source = read_source("advantages", "own_parts:decorated")
    assert source is not None
    assert source.options() == OptionNames(takes=("eps",), needs=())
    other = read_source("advantages", "own_parts:unknown")  # which may take anything
    assert other is not None
    assert other.options() is None
    assert declarations("advantages", "own_parts:unknown") == Declarations()


def test_what_is_read_is_what_python_sees() -> None:
    seen = set()
    kinds = ("advantages", "losses", "kls", "kl_references", "entropies", "combinations", "corrections")
    for kind in (*kinds, "decoder_losses", "decoder_samplers"):
        for name in BUILT_IN[kind]:
            read, component = declarations(kind, name), resolve(kind, name)
            for field, default in vars(Declarations()).items():
                assert getattr(read, field) == getattr(component, field, default), (kind, name, field)
                seen |= {field} if getattr(read, field) != default else set()
    declared = {"least_group", "across_prompts", "centred", "on_policy", "window", "sde", "for_sde"}
    declared |= {"from_zero", "sequences", "fixed", "fraction"}
    assert seen == declared | {"not_negative", "positive", "exclusive", "rising", "options_problem"}


@pytest.mark.usefixtures("module")
def test_a_class_inherits_what_is_declared() -> None:
    assert declarations("rewards", "own_parts:Child") == Declarations(metadata=("text", "lang"), on_policy=True)
    assert declarations("rewards", "own_parts:Limit").metadata == ("mask",)  # its parent has the same name elsewhere


@pytest.mark.usefixtures("module")
def test_the_rules_hold_for_ones_own_components() -> None:
    def broken(**sections: object) -> dict[str, str]:
        return dict(check(Config.model_validate({"rewards": {"r": {"use": "own_parts:limited"}}, **sections})))

    own = {"use": "own_parts:pairs"}
    assert broken(rollout={"group_size": 3}, advantage=own)["rollout.group_size"] == (
        "advantage 'own_parts:pairs' compares the samples of a group, so it needs at least 4, got 3"
    )
    assert broken(advantage=own, combine={"use": "own_parts:raw"})["advantage.use"] == (
        "own_parts:pairs compares a sample with other prompts' samples, so with combine: own_parts:raw easy prompts "
        "would be rewarded; write combine: gdpo, or advantage: grpo"
    )
    assert broken(advantage=own, combine={"use": "own_parts:unsaid"}) == {}  # nobody has said whether it is centred
    assert broken(loss={"use": "own_parts:plain"}, train={"updates_per_rollout": 2})["train.updates_per_rollout"] == (
        "loss 'own_parts:plain' has no ratio, so it must be 1, got 2; or use loss: grpo"
    )
    rewards = {"r": {"use": "own_parts:limited", "options": {"power": -1, "share": None}}}
    assert broken(rewards=rewards) == {"rewards.r.options.power": "must be a number that is not negative, got -1"}


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("metadata = 'text'", "its `metadata` is 'text': it must be a tuple of names, such as (\"text\",)"),
        ("not_negative = (1,)", 'its `not_negative` is (1,): it must be a tuple of names, such as ("beta",)'),
        ("least_group = 0", "its `least_group` is 0: it must be a whole number of at least 1"),
        ("on_policy = 1", "its `on_policy` is 1: it must be True or False"),
        ("centred = 'yes'", "its `centred` is 'yes': it must be True or False"),
        ("metadata = tuple('ab')", "its `metadata` can't be read from its source; write literal values"),
    ],
)
def test_a_wrong_declaration_is_a_mistake_of_the_run(module: Path, declaration: str, message: str) -> None:
    module.write_text(f"class Reads:\n    {declaration}\n")
    Path("run.yaml").write_text("train: {steps: 1}\nrewards: {r: own_parts:Reads}\n")
    with pytest.raises(UserError) as caught:
        load("run.yaml")
    assert str(caught.value) == f"run.yaml:2: rewards.r: 'own_parts:Reads': {message}"


def test_the_default_run_is_sound_by_its_own_declarations() -> None:
    config = Config.model_validate({"rewards": {"o": {"use": "ocr"}}})
    assert [declarations(kind, one.use).not_negative for path, kind, one in components(config) if path == ("kl",)] == [
        ("beta",)
    ]
    assert dict(check(config)) == {}
