"""Config -> live parts: what a run names is what it gets."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from policy.base import Policy
from policy.trajectory import euler
from rl.acting.engines import start_sampler
from rl.build import (
    component,
    load_policy,
    showing,
    start_collecting,
    start_trainers,
    sync_tolerance,
)
from rl.config.load import load
from rl.halves.language_model import language_model, moving_reference, objective
from rl.preflight.memory.planning import memory_of
from rl.process.ranks import Place
from rl.tracking.guards.pictures import Fidelity
from rl.trainer.team import Team
from rl.types import Forward, Prompt, UserError

ROOT = Path(__file__).parents[2]
GENEVAL = ROOT / "examples" / "geneval.yaml"
PLUGIN = """
from rl.algorithm.terms import Term
from rl.config.declared import declares


@declares(reference=("hidden",))
def bonus(outputs, rows, *, beta: float = 0.1):
    return Term(-beta * outputs.logprobs_BT)


@declares(reference="hidden")
def wrong(outputs, rows): ...


@declares(reference=("hiden",))
def typo(outputs, rows): ...


def jump(velocity, noise, scheduler, steps, /, *, size: float = 1.0):
    return noise - size * velocity(noise, noise.new_full((len(noise),), 1000.0))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "parts_for_test.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "parts_for_test"


def test_the_loss_of_a_run_is_named_term_by_term(plugin: str) -> None:
    config = load(GENEVAL, [f"terms.bonus.use={plugin}:bonus", "terms.bonus.options.beta=0.5"])
    loss = objective(config, torch.nn.Identity())
    assert list(loss.penalties) == ["kl", "anchor", "bonus"]
    assert loss.reference == {"logprobs", "hidden"}
    outputs = Forward(torch.zeros(1, 3, 4), torch.full((1, 2), -2.0), torch.zeros(1, 2))
    assert loss.penalties["bonus"](outputs, None).loss.tolist() == [[1.0, 1.0]]  # type: ignore[arg-type]
    without = load(GENEVAL, ["kl=null", "anchor=null"])
    assert objective(without, torch.nn.Identity()).reference == frozenset()


def test_a_reference_that_moves_is_kept_beside_the_fixed_one_that_others_need() -> None:
    overrides = ["kl_reference.use=ema", "kl_reference.options.decay=0.9", "entropy.use=bonus"]
    moving = load(GENEVAL, overrides)
    loss = objective(moving, torch.nn.Identity())
    assert list(loss.penalties) == ["kl", "entropy", "anchor"]
    assert loss.reference == {"kl_reference", "hidden"} and list(loss.controls) == ["entropy"]
    assert [rule(3) for rule in moving_reference(moving).values()] == [0.9]
    fixed = objective(load(GENEVAL), torch.nn.Identity())
    assert fixed.reference == {"logprobs", "hidden"} and not fixed.controls
    assert not moving_reference(load(GENEVAL)) and not moving_reference(load(GENEVAL, ["kl=null"]))


def test_a_rule_that_answers_no_share_is_told() -> None:
    config = load(GENEVAL, ["kl_reference.use=math:sqrt"])
    (rule,) = moving_reference(config).values()
    with pytest.raises(UserError, match="kl_reference: 'math:sqrt' answered 2.0; it must be a number from 0 to 1, the"):
        rule(4)
    config = load(GENEVAL, ["entropy.use=math:dist"])
    with pytest.raises(UserError, match="entropy: 'math:dist' raised TypeError"):
        objective(config, torch.nn.Identity())


def test_what_is_evaluated_is_painted_by_the_ode_where_training_pictures_get_fresh_noise(tiny_policy: Path) -> None:
    window = ["render.sampler={use: cps, options: {window: 2}}", "render.steps=4"]
    config = load(GENEVAL, [f"policy.path={tiny_policy}", *window])
    policy = load_policy(config)
    hidden_BSD = torch.randn(1, 17, policy.decoder.connector[0].in_features)
    noisy = policy.decoder.paint(hidden_BSD, [5], steps=4)
    with showing(config, policy)():
        found = policy.decoder.paint(hidden_BSD, [5], steps=4)
    assert (policy.decoder.paint(hidden_BSD, [5], steps=4) == noisy).all()
    policy.decoder.sampler = euler
    assert (policy.decoder.paint(hidden_BSD, [5], steps=4) == found).all() and not (found == noisy).all()
    policy.decoder.sampler = component("decoder_samplers", load(GENEVAL).render.sampler)
    with showing(load(GENEVAL), policy)():  # one without a window paints all
        assert policy.decoder.sampler is not euler


def test_the_connector_that_an_anchor_compares_through_is_not_the_one_that_is_trained(tiny_policy: Path) -> None:
    config = load(GENEVAL, [f"policy.path={tiny_policy}", "anchor={use: condition, options: {beta: 0.1}}"])
    policy = load_policy(config)
    trainer: Any = start_trainers(config, policy, Team(Place())).ar
    anchor = trainer.objective.penalties["anchor"]
    connector = anchor.penalty.args[0]
    before = {name: value.clone() for name, value in connector.state_dict().items()}
    with torch.no_grad():
        for parameter in policy.decoder.connector.parameters():
            parameter.add_(1.0)
    assert before and all(torch.equal(value, before[name]) for name, value in connector.state_dict().items())
    assert not torch.equal(policy.decoder.connector[0].weight, connector[0].weight)


def test_terms_are_removed_and_mistyped_as_rewards_are(plugin: str) -> None:
    added = f"terms.bonus={plugin}:bonus"
    assert load(GENEVAL, [added, "terms.bonus=null"]).terms == {}
    assert load(GENEVAL, [added, "terms=null"]).terms == {}
    for overrides, sentence in [
        ([added, "terms.bonsu=null"], "terms.bonsu: there is no such term to remove, did you mean 'bonus'?"),
        ([added, "terms.bonus.options.bta=1"], "terms.bonus.options.bta: .* has no such option, did you mean 'beta'?"),
        (["terms.bonus=bonus"], "terms.bonus: there is no 'bonus' among the terms"),
        ([f"terms.b={plugin}:wrong"], "terms.b.*: its `reference` is 'hidden': it must be a tuple of names"),
        ([f"terms.b={plugin}:typo"], r"its `reference` is \('hiden',\): it must be a tuple of 'logprobs' and 'hidden'"),
        ([f"terms.policy={plugin}:bonus"], "terms.policy: 'policy' is the name of a term that every loss may have"),
        ([f"terms.a b={plugin}:bonus"], "'terms.a b=.*' is not of the form key=value"),
    ]:
        with pytest.raises(UserError, match=sentence):
            load(GENEVAL, overrides)


def test_the_way_from_noise_to_picture_is_a_choice(plugin: str, tiny_policy: Path) -> None:
    config = load(GENEVAL, [f"render.sampler.use={plugin}:jump", "render.sampler.options.size=0.5"])
    decoder = Policy.load(tiny_policy).decoder
    hidden_BSD = torch.randn(2, 17, decoder.connector[0].in_features)
    one_step = decoder.paint(hidden_BSD, [1, 2], steps=1)
    decoder.sampler = component("decoder_samplers", config.render.sampler)
    assert (decoder.paint(hidden_BSD, [1, 2], steps=1) != one_step).any()
    decoder.sampler = component("decoder_samplers", load(GENEVAL, [f"render.sampler={plugin}:jump"]).render.sampler)
    # a whole step from sigma 1 is what one Euler step is
    assert (decoder.paint(hidden_BSD, [1, 2], steps=1).astype(int) - one_step).max() <= 1


def test_decoder_and_language_model_have_precisions_of_their_own() -> None:
    policy = load_policy(load(GENEVAL, ["train.dtype=float32", "policy.dtype=float32", "render.dtype=bfloat16"]))
    assert (policy.ar.dtype, policy.decoder.vae.dtype) == (torch.float32, torch.bfloat16)
    assert policy.decoder.connector_in(torch.float32)[0].weight.dtype == torch.float32
    convolution = policy.decoder.vae.decoder.conv_in.weight
    assert convolution.is_contiguous(memory_format=torch.channels_last)


def test_a_run_names_what_learns_and_what_is_made_again() -> None:
    given = ["train.lora={rank: 2, targets: [v_proj]}", "train.gradient_checkpointing=true", "train.dtype=float32"]
    config = load(GENEVAL, given)
    trainable = language_model(config, load_policy(config))
    assert {tuple(one.shape) for one in trainable.trained()} == {(2, 192), (64, 2)}
    assert trainable.module.recompute is True and set(trainable.adapters()) == {"ar"}
    plain = load(GENEVAL, ["train.dtype=float32"])
    whole = language_model(plain, load_policy(plain))
    assert len(whole.trained()) == len(list(whole.ar.parameters())) and not whole.adapters()


def test_only_an_engine_that_can_is_asked_to_sleep(tiny_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, config = Policy.load(tiny_policy), load(GENEVAL, ["rollout.sleep=2", "rollout.engine=vllm"])
    told: dict[str, object] = {}
    monkeypatch.setattr("rl.acting.engines.resolve", lambda kind, name: lambda *_, **options: told.update(options))
    start_sampler(config, policy, [Prompt("a", "a red circle")])
    assert told["sleeps"] is True


@pytest.mark.parametrize(
    ("overrides", "layers", "expected"),
    [
        (["policy.dtype=float32", "train.dtype=float32"], 28, 1e-3),
        (["policy.dtype=bfloat16", "train.dtype=float32"], 4, 0.2),
        (["policy.dtype=bfloat16", "train.dtype=bfloat16"], 36, 0.6),
        (["policy.dtype=bfloat16", "train.dtype=bfloat16", "sync.tolerance=0.05"], 36, 0.05),
    ],
)
def test_the_canary_allows_what_precision_and_depth_bring(overrides: list[str], layers: int, expected: float) -> None:
    assert sync_tolerance(load(GENEVAL, overrides), layers) == pytest.approx(expected)


def test_render_fidelity_is_of_the_share_that_a_run_names(tiny_policy: Path) -> None:
    policy, rewards = Policy.load(tiny_policy), SimpleNamespace(unprobed=())
    for given, share in (([], 1.0), (["guards.render_fidelity_share=0.25"], 0.25)):
        act = start_collecting(load(GENEVAL, given), policy, None, None, rewards)  # type: ignore[arg-type]
        assert act.fidelity == Fidelity(policy.image_tokenizer, share)
    with pytest.raises(UserError, match=r"guards\.render_fidelity_share.*2"):
        load(GENEVAL, ["guards.render_fidelity_share=2"])


def test_a_policy_folder_names_its_prompt_encoder(tiny_policy: Path, tmp_path: Path) -> None:
    (tmp_path / "shouting_for_test.py").write_text(
        "from policy.prompt import TemplateEncoder\n\n\nclass Shout(TemplateEncoder):\n"
        "    def __call__(self, prompt, /):\n        return super().__call__(prompt)\n"
    )
    policy = Policy.load(tiny_policy)
    policy.prompt_encoder = "shouting_for_test:Shout"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        policy.save(tmp_path / "shouting")
        again = Policy.load(tmp_path / "shouting")
        assert type(again.encode_prompt).__name__ == "Shout"
        assert again.text_ids("two rings") == Policy.load(tiny_policy).encode_prompt(Prompt("p", "two rings")).ids


def test_the_dry_run_counts_the_reference_that_a_term_needs(plugin: str) -> None:
    without = load(GENEVAL, ["kl=null", "anchor=null", "train.dtype=float32"])
    with_it = load(GENEVAL, ["kl=null", "anchor=null", "train.dtype=float32", f"terms.bonus={plugin}:bonus"])
    assert "reference weights" not in memory_of(without, []).held
    assert memory_of(with_it, []).held["reference weights"] == 4 * 1_676_608
