"""What a run's memory is made of, by hand; what a machine offers; micro-batches that were left to us."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from policy.ar.size import ArSize
from policy.folder import resolve_folder
from policy.tokenizers.ta_tok_config import TaTokConfig
from policy.tokenizers.ta_tok_weights import read_weights
from rl.config.load import dump, load
from rl.config.schema import Config
from rl.preflight.memory import available, decoder, parts, planning
from rl.preflight.memory.available import cgroup_room
from rl.preflight.memory.decoder import DecoderPlan
from rl.preflight.memory.estimate import estimate
from rl.preflight.memory.image_tokenizer import ImageTokenizerSize
from rl.preflight.memory.plan import Plan
from rl.preflight.memory.planning import decoder_plan, found_by, memory_of, plan_of, settled
from rl.preflight.memory.sizes import DecoderSize, PolicySize, stored_numbers
from rl.types import Prompt, UserError
from tests.policy.tokenizers.tiny_ta_tok import CODES, CONFIG, layout, tensors, write

PROMPTS = [Prompt("a", "two red circles on a table of wood")]  # 34 characters: 8 + 8 tokens
AR = ArSize(
    parameters=1000, positions=64, cached_numbers=20, vocabulary=50, hidden=10, layers=2, queries=20, keys=5, inner=30
)
DECODER = DecoderSize(
    parameters=300,
    width=6,
    expansion=2.0,
    latents=4,
    latent_numbers=8,
    layers=2,
    connector=40,
    transformer=200,
    widest=1000,
    pixels=64,
)
TOKENIZER = ImageTokenizerSize(weights=900, each=70, distances=30, at_once=5)
SIZE = PolicySize(AR, DECODER, tokens=16, codes=40, image_tokenizer=TOKENIZER)
PLAN = Plan(
    device="cpu",
    engine="torch",
    train_bytes=4,
    optimizer_bytes=8,
    sampler_bytes=4,
    decoder_bytes=4,
    samples=8,
    running=6,
    group_size=4,
    renders=2,
    prompt_tokens=4,
    micro_batch=5,
    paint_micro_batch=3,
    logprob_chunk=100,
    zero_stage=0,
    has_reference=True,
    read_back=0,
)
HALF = replace(PLAN, train_bytes=2, optimizer_bytes=12, zero_stage=1, sampler_bytes=2)


def test_every_item_by_hand() -> None:
    found = estimate(PLAN, SIZE)
    assert dict(found.held) == {
        "process": 640_000_000,
        "trainer's weights": 4000,
        "AdamW states": 8000,
        "reference weights": 4000,
        "sampler's weights": 4000,
        "decoder": 1200,
        "hidden states": 8 * 17 * 10 * 8,  # samples x (tokens + 1) x hidden, the sampler's and the reference's
        "painted pictures": 2 * 8 * 2 * 64 * 3,
    }
    positions = 2 * 4 + 5 * 16  # two prompts among five samples
    numbers = 8 * 10 + 5 * 20 + 4 * 5 + 4 * 30
    activations = 2 * (positions * numbers * 4 + 5 * 4 * 16 * 20 * 4)  # two layers, and who sees whom: four heads a key
    assert {name: dict(items) for name, items in found.phases.items()} == {
        "sample": {"keys and values": 6 * 20 * 20 * 4, "logits": 6 * 40 * 32},
        "paint": {"activations of painting": int(3 * 1000 * 18.8)},
        "update": {
            "gradients": 4000,
            "activations": activations,
            "logits or the head's gradient": 80 * 40 * 4 * 4,  # fewer positions than a chunk
        },
        "step": {"gradients": 4000, "activations kept by the heap": activations, "AdamW's copies": 2 * 500 * 4},
        "save": {"activations kept by the heap": activations, "weights to be written": 4000},
    }
    assert found.largest == "update"
    assert found.peak == sum(found.held.values()) + sum(found.phases["update"].values())


def test_the_image_tokenizer_counts_where_pictures_are_read_back() -> None:
    without, reading = estimate(PLAN, SIZE), estimate(replace(PLAN, read_back=3), SIZE)
    assert dict(reading.held) == {**without.held, "image tokenizer": 900}
    assert reading.phases["guards"] == {"activations of the image tokenizer": 3 * 70 + 30}
    assert "guards" not in without.phases
    assert TOKENIZER.activations(16) == 5 * 70 + 30  # so many at one time


def test_the_size_of_a_ta_tok(tmp_path: Path) -> None:
    """What nobody reads of the file (its last layer, pooling head and decoder) counts nothing."""
    write(tmp_path, tensors())
    found = ImageTokenizerSize.read(tmp_path, tokens=64, pixels=34 * 34)
    read = read_weights(
        tmp_path / "model.safetensors", TaTokConfig.from_json(CONFIG, tmp_path, layout()), torch.device("cpu")
    )
    held = sum(one.numel() * one.element_size() for one in read.state_dict().values())
    held += read.codebook_KC.numel() * 4 + 4 * (24 * 24 + 24)  # and the map of the codes, which is gone again
    assert found.weights == held
    assert found.each == 34 * 34 * 3 * 4 + 64 * 6 * 48 * 4 + 64 * 48 * 4
    assert (found.distances, found.at_once) == (64 * CODES * 4, 16)


def test_the_run_says_how_many_pictures_are_read_back() -> None:
    config, prompts = load("examples/geneval.yaml", ["guards.render_fidelity_share=0.25"]), PROMPTS
    samples = config.data.prompts_per_step * config.rollout.group_size
    assert plan_of(config, SIZE, prompts, "cpu").read_back == samples // 4
    assert "image tokenizer" in memory_of(config, prompts, "cpu").held


def test_zero_keeps_gradients_in_float32_and_its_bucket() -> None:
    held = estimate(HALF, SIZE).held
    assert (held["trainer's weights"], held["AdamW states"], held["gradients"]) == (2000, 12_000, 4000)
    assert held["ZeRO's bucket"] == 2000
    assert parts.reduce_bucket(replace(HALF, device="cuda"), AR) == 10**9  # a GPU gives all of it at once
    assert parts.step_copies(HALF, AR) == 2 * 1000 * 4  # all parameters are one


@pytest.mark.parametrize(
    ("changes", "expected"),
    [  # weights, gradients, AdamW, reference, copies of the step
        ({"zero_stage": 1, "ranks": 4}, (4000, 4000, 2000, 4000, 2000)),
        ({"zero_stage": 2, "ranks": 4}, (4000, 1000, 2000, 4000, 2000)),
        ({"zero_stage": 3, "ranks": 4}, (1000, 1000, 2000, 4000, 2000)),
        ({"adapters": 60}, (4240, 240, 480, 0, 480)),
        ({"device": "cuda", "offload_optimizer": True}, (4000, 4000, 0, 4000, 0)),
        ({"device": "cuda", "offload_reference": True}, (4000, 4000, 8000, 0, 0)),
        ({"has_reference": False}, (4000, 4000, 8000, 0, 4000)),
    ],
)
def test_what_is_sharded_moved_or_not_there(changes: dict[str, object], expected: tuple[int, ...]) -> None:
    plan = replace(PLAN, **changes)  # type: ignore[arg-type]
    of = (parts.weights, parts.gradients, parts.optimizer, parts.reference, parts.step_copies)
    assert tuple(one(plan, AR) for one in of) == expected


def test_checkpointing_keeps_one_layer_and_what_goes_into_each() -> None:
    whole, saved = (parts.activations(replace(PLAN, checkpointing=on), SIZE, 5) for on in (False, True))
    assert saved == whole / 2 + 2 * 88 * 10 * 4


def test_on_a_gpu_the_torch_sampler_keeps_its_cache() -> None:
    on_cpu, on_gpu = (estimate(replace(PLAN, device=device), SIZE) for device in ("cpu", "cuda"))  # type: ignore[arg-type]
    assert "sampler's cache" not in on_cpu.held
    assert on_gpu.held["sampler's cache"] == 6 * 20 * 20 * PLAN.sampler_bytes
    assert on_gpu.phases["sample"]["keys and values"] == 0


def test_what_is_lent_on_a_gpu_counts_where_it_works() -> None:
    vllm = replace(PLAN, engine="vllm", cache_bytes=777, device="cuda")
    all_there, lent = estimate(vllm, SIZE), estimate(replace(vllm, sleeps=True, offload_decoder=True), SIZE)
    assert set(all_there.held) - set(lent.held) == {"sampler's weights", "sampler's cache", "decoder"}
    sampler, decoder = 777 + all_there.held["sampler's weights"], all_there.held["decoder"]
    assert all_there.of("sample") - lent.of("sample") == decoder
    assert all_there.of("paint") - lent.of("paint") == sampler
    assert all_there.of("update") - lent.of("update") == sampler + decoder
    on_cpu = replace(PLAN, sleeps=True, offload_decoder=True)
    assert estimate(on_cpu, SIZE) == estimate(PLAN, SIZE)  # there is nowhere to go


def test_vllm_has_its_cache_from_the_start() -> None:
    found = estimate(replace(PLAN, engine="vllm", cache_bytes=777), SIZE)
    assert found.held["sampler's cache"] == 777
    assert found.phases["sample"] == {"keys and values": 0, "logits": 6 * 50 * 32}
    assert found.held["sampler's weights"] == 4 * (2 * 1000 + 50 * 10)  # packed on a CPU
    assert parts.sampler(replace(PLAN, engine="vllm", device="cuda"), AR) == 4000


def test_sizes_are_those_of_the_folder(tiny_policy: Path) -> None:
    from policy.base import Policy

    policy, size = Policy.load(tiny_policy), PolicySize.read(tiny_policy)
    assert size.ar.parameters == stored_numbers(tiny_policy / "ar")
    assert size.decoder.parameters == sum(one.numel() for one in policy.decoder.parameters())
    assert (size.tokens, size.codes, size.decoder.pixels) == (16, 128, 64 * 64)
    assert (size.decoder.width, size.decoder.latents, size.decoder.expansion) == (192, 16, 2.0)
    assert size.decoder.widest == 24 * 32 * 32  # the last map before the pixels


def test_the_plan_of_a_configuration() -> None:
    overrides = [
        "policy.path=shapes",
        "rewards.a.use=geneval",
        "rollout.options.max_num_seqs=50",
        "policy.dtype=bfloat16",
    ]
    config = load(None, [*overrides, "data.prompts_per_step=16", "rollout.group_size=8", "train.updates_per_rollout=4"])
    plan = plan_of(config, SIZE, PROMPTS, "cpu")
    assert (plan.engine, plan.samples, plan.running, plan.micro_batch) == ("torch", 128, 50, 32)
    assert (plan.train_bytes, plan.sampler_bytes, plan.decoder_bytes, plan.optimizer_bytes) == (4, 2, 2, 8)
    assert plan.prompt_tokens == 16
    assert plan.has_reference  # kl is on by default
    vllm = plan_of(load(None, [*overrides, "rollout.engine=vllm"]), SIZE, PROMPTS, "cpu")
    assert vllm.cache_bytes == 64 << 20
    given = plan_of(
        load(None, [*overrides, "rollout.engine=vllm", "rollout.options.kv_cache_mb=3"]), SIZE, PROMPTS, "cpu"
    )
    assert given.cache_bytes == 3 << 20


def test_slow_copies_take_the_place_of_a_frozen_reference() -> None:
    names = ["policy.path=shapes", "rewards.a.use=geneval"]
    moving = [*names, "kl_reference.use=ema", "train.ema=0.9", "eval.policy=ema"]
    found = {
        what: plan_of(load(None, overrides), SIZE, PROMPTS, "cpu")
        for what, overrides in {
            "fixed": names,
            "moving": moving,
            "both": [*moving, "anchor=condition"],
            "none": [*moving, "kl=null", "kl_reference=fixed"],
        }.items()
    }
    assert {what: (plan.has_reference, plan.copies) for what, plan in found.items()} == {
        "fixed": (True, 0),
        "moving": (False, 2),
        "both": (True, 2),
        "none": (False, 1),
    }
    held = estimate(found["moving"], SIZE).held
    assert held["slow copies"] == 2 * 4 * SIZE.ar.parameters and "reference weights" not in held


def automatic(*overrides: str) -> Config:
    names = ["policy.path=shapes", "rewards.a.use=geneval", "data.prompts_per_step=32", "rollout.group_size=8"]
    return load(None, [*names, *overrides])


def room(monkeypatch: pytest.MonkeyPatch, offered: int) -> None:
    monkeypatch.setattr(planning, "available", lambda device: offered)
    monkeypatch.setattr(planning, "worker_count", lambda config: 0)


def test_auto_is_the_most_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = automatic("train.micro_batch=40", "render.micro_batch=70")
    for section, phase, count in (("train", "update", 40), ("render", "paint", 70)):
        room(monkeypatch, int(memory_of(wanted, PROMPTS, "cpu").of(phase) / 0.9) + 1)
        found = settled(automatic(f"{section}.micro_batch=auto"), PROMPTS, "cpu")
        assert getattr(found, section).micro_batch == count


def test_auto_is_never_more_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, 10**15)
    both = automatic(
        "train.micro_batch=auto", "render.micro_batch=auto", "train.updates_per_rollout=4", "render.renders=2"
    )
    found = settled(both, PROMPTS, "cpu")
    assert (found.train.micro_batch, found.render.micro_batch) == (64, 512)


def test_ranks_on_a_cpu_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = automatic("train.micro_batch=40", "train.ranks=2")
    room(monkeypatch, 2 * int(memory_of(wanted, PROMPTS, "cpu").of("update") / 0.9) + 3)
    found = settled(automatic("train.micro_batch=auto", "train.ranks=2"), PROMPTS, "cpu")
    assert found.train.micro_batch == 40


def test_auto_says_when_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, 10**8)
    with pytest.raises(
        UserError, match=r"^train.micro_batch: auto finds that not even 1 sample .* the 0.1 GB of memory"
    ):
        settled(automatic("train.micro_batch=auto"), PROMPTS, "cpu")
    number = automatic()
    assert settled(number, PROMPTS, "cpu") is number  # nothing was left to us


def test_auto_in_a_configuration(tmp_path: Path) -> None:
    config = automatic("train.micro_batch=auto")
    assert "  micro_batch: auto\n" in dump(config)
    (tmp_path / "a.yaml").write_text(dump(config))
    assert load(tmp_path / "a.yaml") == config
    for wrong in ("0", "-1", "many"):
        with pytest.raises(UserError, match="command line: train.micro_batch: must be "):
            automatic(f"train.micro_batch={wrong}")


def group(folder: Path, limit: str, usage: int, inactive: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


def test_the_tightest_control_group_counts(tmp_path: Path) -> None:
    mine = tmp_path / "cgroup"
    mine.write_text("0::/job/step\n")
    root = tmp_path / "fs"
    group(root / "job" / "step", "max", 100)
    group(root / "job", "1000", 400, inactive=50)
    assert min(cgroup_room(root, mine)) == 650  # files that nobody has open make room
    group(root / "job" / "step", "500", 450)
    assert min(cgroup_room(root, mine)) == 50
    assert min(cgroup_room(tmp_path / "none", tmp_path / "none")) == 1 << 60


def test_the_first_version_of_control_groups(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("3000\n")
    (folder / "memory.usage_in_bytes").write_text("1000\n")
    (folder / "memory.stat").write_text("total_inactive_file 100\n")
    assert min(cgroup_room(tmp_path, tmp_path / "none")) == 2100
    (folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")  # no limit
    assert min(cgroup_room(tmp_path, tmp_path / "none")) == 1 << 60


def test_a_gpu_that_does_not_say_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="auto asks nvidia-smi .* it does not answer; write a number for train.micro_b"):
        available.available("cuda")


def test_what_auto_has_become_is_told() -> None:
    asked = automatic("train.micro_batch=auto")
    found = settled(asked, PROMPTS, "cpu")
    assert found_by(asked, found) == [
        f"train.micro_batch: auto is {found.train.micro_batch} here, by the estimate of --dry-run"
    ]


REWARD = ["rewards.ocr=ocr"]
LEARNT = DecoderPlan(
    number_bytes=4, optimizer_bytes=8, trained=50, pictures=16, rows=48, states=1, positions=17, micro_batch=6, copies=2
)


def test_what_a_decoder_that_learns_adds() -> None:
    found, before = estimate(replace(PLAN, decoder=LEARNT), SIZE), estimate(PLAN, SIZE)
    assert {name: taken for name, taken in found.held.items() if name not in before.held} == {
        "decoder's AdamW states": 50 * 8,
        "decoder's reference": 240 * 4,
        "decoder's copies": 2 * 50 * 4,
        "latents of the pictures": 16 * 8 * 4,
    }
    block = 2 * 17 + (18.3 + 8 * 2.0) * 4 + 43
    assert dict(found.phases["decoder"]) == {
        "gradients": 50 * 4,
        "rows of the pictures": 48 * 2 * 8 * 4,
        "activations of the decoder": int(6 * 6 * (6.8 * 17 + 2.5 * 4 + 2 * block) * 4.0),
    }
    sharded = estimate(replace(PLAN, decoder=replace(LEARNT, zero_stage=1, ranks=2, reference_copy=False)), SIZE)
    assert (sharded.held["decoder's gradients"], sharded.held["decoder's AdamW states"]) == (200, 200)
    assert "decoder's reference" not in sharded.held
    fewer = decoder.activations(replace(LEARNT, checkpointing=True), DECODER)
    assert fewer < decoder.activations(LEARNT, DECODER)


def test_a_language_model_that_does_not_learn_takes_its_weights_alone() -> None:
    held = estimate(replace(PLAN, ar_learns=False, has_reference=False, decoder=LEARNT), SIZE)
    assert held.held["language model"] == 4000 and "AdamW states" not in held.held and "update" not in held.phases


def test_a_decoder_that_learns_is_planned_from_the_configuration() -> None:
    typed = ["trainers=[decoder]", "render={renders: 2, steps: 8}", "data.prompts_per_step=4", "rollout.group_size=2"]
    size = PolicySize.read(resolve_folder("shapes"))
    plan = decoder_plan(load(None, [*REWARD, *typed, "decoder={old: nft, micro_batch: 500}"]), size)
    assert plan is not None
    assert (plan.pictures, plan.rows, plan.micro_batch, plan.states, plan.copies) == (16, 48, 48, 1, 1)
    late = decoder_plan(load(None, [*REWARD, *typed, "decoder.ema=0.9", "eval.at_start=false"]), size)
    assert late is not None and late.copies == 2  # of the base too, which no evaluation has seen
    window = ["render.sampler={use: cps, options: {window: 3}}", "decoder={loss: flow_grpo, lora: {}}"]
    plan = decoder_plan(load(None, [*REWARD, *typed, *window]), size)
    assert plan is not None and (plan.rows, plan.states, plan.reference_copy) == (48, 8, False)
    assert decoder_plan(load(None, REWARD), size) is None
    automatic = settled(load(None, [*REWARD, *typed, "decoder.micro_batch=auto"]), PROMPTS, "cpu")
    assert automatic.decoder is not None and automatic.decoder.micro_batch == 48
    frozen = settled(load(None, [*REWARD, *typed, "train.micro_batch=auto"]), PROMPTS, "cpu")
    assert frozen.train.micro_batch == 64


def test_networks_that_take_turns_are_planned_with_the_numbers_of_their_own() -> None:
    turns = "schedule={order: alternate, ar: {group_size: 8, renders: 1}, decoder: {group_size: 2, renders: 6}}"
    typed = ["trainers=[ar, decoder]", "data.prompts_per_step=4", "render.steps=8", "decoder.micro_batch=500", turns]
    config = load(None, [*REWARD, *typed])
    plan = plan_of(config, PolicySize.read(resolve_folder("shapes")), PROMPTS, "cpu")
    assert plan.decoder is not None and (plan.decoder.pictures, plan.decoder.rows) == (48, 144)
    # 8 samples of each of 4 prompts in the turn of the one, 48 pictures in that of the other
    assert (plan.samples, plan.group_size, plan.micro_batch, plan.paint_micro_batch) == (32, 8, 32, 48)
    assert plan.samples * plan.renders >= 48
