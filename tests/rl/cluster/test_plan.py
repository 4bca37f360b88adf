"""What a run asks its workers for: blocks that the serial loop computes side by side, deadlines, rules."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rl.cluster.ahead import work_plan
from rl.config.load import load
from rl.config.schema import Config
from rl.types import UserError
from tests.rl.run_case import ROOT, environment

AHEAD = ("examples/geneval.yaml", "loop=ahead", "loop.staleness=2")


def config(*overrides: str) -> Config:
    return load(ROOT / AHEAD[0], [*AHEAD[1:], *overrides])


@pytest.mark.parametrize(
    ("overrides", "sample", "paint"),
    [
        ((), 32, 32),  # 256 sequences are sampled, and read, at one time
        (("rollout.options.max_num_seqs=64", "train.micro_batch=16"), 8, 16),  # 128 pictures are painted
        (("train.micro_batch=16", "render.micro_batch=16"), 32, 2),
        (("train.micro_batch=16", "render.micro_batch=16", "render.renders=2"), 32, 2),
        (("train.micro_batch=12", "render.micro_batch=8"), 32, 3),
        (("cluster.sample_groups=4", "cluster.paint_groups=1"), 4, 1),
        (("rollout.options.max_num_seqs=4",), 1, 32),
    ],
)
def test_a_block_is_what_the_serial_loop_computes_side_by_side(
    overrides: tuple[str, ...], sample: int, paint: int
) -> None:
    stages = work_plan(config(*overrides), 10).stages
    assert [(stage.name, stage.most_groups, stage.blocks) for stage in stages] == [
        ("sample", sample, True),
        ("paint", paint, True),
    ]


def test_groups_of_unequal_sizes_are_handed_out_by_units() -> None:
    plan = work_plan(config("groups.sizes=knapsack", "groups.unit=2", "rollout.options.max_num_seqs=64"), 10)
    assert plan.groups == 32 * 8 // 2
    assert [stage.most_groups for stage in plan.stages] == [32, 128]  # 64 sequences; the whole step is one micro-batch


def test_a_plan_has_the_runs_patience() -> None:
    plan = work_plan(config("cluster.timeout_s=30", "cluster.attempts=2", "cluster.start_timeout_s=40"), 10)
    assert [stage.deadline for stage in plan.stages] == [30.0, 30.0]
    assert (plan.attempts, plan.absence, plan.max_failed, plan.staleness) == (2, 40.0, 0.05, 2)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["loop.staleness=2"],
            "loop.staleness: is 2, and a serial loop samples with the weights of now; write loop.use: ahead, or leave "
            "it out",
        ),
        (
            ["loop=ahead", "loop.staleness=1", "correction=null"],
            "correction: is null, and with loop.staleness 1 samples come from older weights than those that learn; "
            "leave it at token_tis",
        ),
        (
            ["loop=ahead", "loop.staleness=1", "trainers=[ar,decoder]", "render.renders=2"],
            "loop.staleness: is 1, and a decoder learns from what the weights of now have painted; write 0 with "
            "loop.in_turn: true, or take it out of trainers",
        ),
        (
            ["loop=ahead", "trainers=[ar,decoder]", "render.renders=2", "decoder.old=nft", "schedule=alternate"],
            "decoder.old: is nft, so with schedule.order alternate the language model's steps are painted with other "
            "weights than the decoder's, and painters get one set; write live, or cluster.painters: 0",
        ),
        (
            ["loop=ahead", "loop.staleness=1", "checkpoint.experience=false"],
            "checkpoint.experience: is false, and steps that were begun with older weights can't be repeated without",
        ),
        (
            ["loop=ahead", "loop.staleness=1", "checkpoint.keep=1"],
            "checkpoint.keep: is 1, and a run 1 step ahead may have to go on from the checkpoint before the last",
        ),
        (
            ["loop=ahead", "groups=resample"],
            "groups.flat: is resample, so a step's scores say how many prompts it uses up, and with loop.use: ahead "
            "the next step has drawn its own by then; write skip, or loop.use: serial",
        ),
        (["cluster.trainers=2"], "cluster.trainers: is 2, and a serial loop trains in its own process; write loop.use"),
        (
            ["loop=ahead", "cluster.trainers=2", "train.ranks=3"],
            "train.ranks: is 3, which are ranks of this machine (or torchrun's), and cluster.trainers 2 are Ray's; "
            "leave one of them out",
        ),
        (
            ["loop=ahead", "cluster.trainers=2", "trainers=[ar,decoder]"],
            "cluster.trainers: is 2, and these learn the language model alone; train the decoder with 0",
        ),
        (
            ["loop=ahead", "cluster.trainers=1", "checkpoint.experience=false"],
            "checkpoint.experience: is false, and trainers that are started again learn from it what no checkpoint",
        ),
        (
            ["loop=ahead", "cluster.trainers=2", "cluster.painters=0"],
            "cluster.painters: is 0, so that whoever trains paints, and 2 cluster.trainers don't; write 1",
        ),
        (
            ["loop=ahead", "cluster.trainers=2", "rollout.sleep=1", "rollout.engine=vllm"],
            "rollout.sleep: lends the GPUs of a trainer in the run's own process, not of cluster.trainers 2",
        ),
        (
            ["loop=ahead", "cluster.trainers=999"],
            "cluster.trainers: 999 ranks can't share the 256 samples of an update",
        ),
        (["loop=ahead", "sync.enabled=false"], "sync.enabled: is false, and samplers of a cluster work with published"),
        (
            ["loop=ahead", "loop.staleness=1", "rollout.sleep=1", "rollout.engine=vllm"],
            "rollout.sleep: is 1, and with loop.staleness 1 samplers work while others learn, so they can't lend their "
            "memory; set it to 0, or loop.staleness to 0",
        ),
        (
            ["loop=ahead", "loop.staleness=2", "cluster.painters=0"],
            "cluster.painters: is 0, so that the trainer paints with the weights of now, and loop.staleness 2 asks for "
            "older ones; write 1, or loop.staleness: 0 with loop.in_turn: true",
        ),
        (
            ["loop=ahead", "loop.staleness=1", "loop.in_turn=true"],
            "loop.in_turn: is true, and with loop.staleness 1 nobody takes turns; leave one of them out",
        ),
        (["loop.in_turn=true"], "loop.in_turn: is true, and a serial loop has nobody who waits; leave it out"),
    ],
)
def test_what_a_cluster_cannot_do_is_said_before_anything_starts(overrides: list[str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        load(ROOT / AHEAD[0], overrides)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "waiting", "fix"),
    [
        ([], "1 sampler and 1 painter wait", "write 2, which keeps all of them busy"),
        (
            ["cluster.samplers=2", "cluster.painters=3"],
            "2 samplers and 3 painters wait",
            "write 2, which keeps all of ",
        ),
        (["cluster.painters=0"], "1 sampler waits", "let samplers lend their memory (rollout.sleep)"),
        (["cluster.painters=0", "cluster.samplers=2"], "2 samplers wait", "let samplers lend their memory (rollout."),
    ],
)
def test_workers_of_their_own_that_would_wait_are_refused(overrides: list[str], waiting: str, fix: str) -> None:
    """Unless that is what the run is for."""
    with pytest.raises(UserError) as caught:
        config("loop.staleness=0", *overrides)
    told = str(caught.value)
    assert f"loop.staleness: is 0, so {waiting} during each update and the trainer during the rest, for the " in told
    assert f"for the serial loop's numbers; {fix}" in told
    assert ", or loop.use: serial, or loop.in_turn: true if that is meant" in told
    assert config("loop.staleness=0", "loop.in_turn=true", *overrides).loop.in_turn


def test_one_gpu_in_turns_is_no_pool_of_its_own() -> None:
    shared = config("loop.staleness=0", "cluster.painters=0", "rollout.sleep=2", "rollout.engine=vllm")
    assert not shared.loop.in_turn


def test_a_decoder_that_learns_is_not_told_to_let_workers_run_ahead() -> None:
    learns = ("trainers=[ar,decoder]", "render.renders=2", "render.steps=4")
    with pytest.raises(UserError) as caught:
        config("loop.staleness=0", *learns)
    assert (
        "loop.staleness: is 0, so 1 sampler and 1 painter wait during each update and the trainer during the rest, as "
        "a decoder that learns asks for; write loop.in_turn: true if that is meant, or loop.use: serial"
    ) in str(caught.value)


def test_without_painters_a_step_is_sampled_and_no_more() -> None:
    plan = work_plan(config("loop.staleness=0", "loop.in_turn=true", "cluster.painters=0"), 10)
    assert [stage.name for stage in plan.stages] == ["sample"]


@pytest.mark.parametrize("painters", [0, 2])
def test_whoever_paints_the_decoder_may_learn_too(painters: int) -> None:
    shares = ("loop.staleness=0", "loop.in_turn=true", f"cluster.painters={painters}")
    found = config(*shares, "trainers=[ar,decoder]", "render.renders=2", "render.steps=4")
    assert found.trainers == ("ar", "decoder") and found.painters_follow is (painters > 0)


def test_a_serial_run_loads_no_ray() -> None:
    code = "import sys, rl.start, rl.loop; sys.exit('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), check=False)
    assert done.returncode == 0
