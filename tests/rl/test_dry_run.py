"""The command's dry run: counts worked out by hand, no torch, quick; and its exit codes."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from math import prod
from pathlib import Path

import pytest
from PIL import Image

import rl
from policy.ar.size import ArSize
from policy.parts import PARTS
from rl.config.load import load
from rl.config.schema import Config
from rl.dry_run import describe, evaluation_steps
from rl.launch import main
from rl.preflight.weights import _shapes
from rl.types import Prompt, UserError

ROOT = Path(rl.__file__).parent.parent
AR = {
    "vocab_size": 201,
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "intermediate_size": 256,
    "tie_word_embeddings": False,
}
LAYOUT = {
    "vocab_size": 201,
    "image_start_id": 73,
    "num_image_tokens": 128,
    "tokens_per_image": 16,
    "im_start_id": 70,
    "im_end_id": 71,
    "scale_id": 72,
    "grid": [4, 4],
}


def write_header(file: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """And a hole in the file where the numbers would be."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(file, 8 + len(text) + end)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy folder with its JSON files, and weights of which only the headers were ever written: all that a dry run
    reads."""
    folder = tmp_path / "policy"
    for part, files in PARTS.items():
        (folder / part).mkdir(parents=True)
        for file in files:
            if file.endswith(".json"):
                (folder / part / file).write_text("{}")
            else:
                write_header(folder / part / file, dict(_shapes(AR)) if part == "ar" else {})
    (folder / "ar" / "config.json").write_text(json.dumps(AR))
    (folder / "connector" / "config.json").write_text('{"hidden_size": 96, "caption_channels": 192}')
    (folder / "transformer" / "config.json").write_text('{"caption_channels": 192}')
    (folder / "image_tokenizer" / "config.json").write_text('{"kind": "patch_vq", "patch": 16, "codes": 128}')
    (folder / "policy.json").write_text(json.dumps({"layout": LAYOUT, "prompt_template": "{prompt}"}))
    return folder


@pytest.fixture
def run_file(tmp_path: Path, policy: Path) -> Path:
    lines = [json.dumps({"prompt": f"{n} circles", "include": [{"class": "circle", "count": n}]}) for n in range(1, 7)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    path = tmp_path / "small.yaml"
    path.write_text(
        f"policy: {{path: {policy}}}\n"
        f"data:\n"
        f"  train: {{use: jsonl, options: {{path: {tmp_path / 'p.jsonl'}}}}}\n"
        f"  eval: {{use: jsonl, options: {{path: {tmp_path / 'p.jsonl'}}}}}\n"
        f"  prompts_per_step: 4\n"
        f"rollout: {{group_size: 3}}\n"
        f"rewards: {{geneval: geneval}}\n"
        f"train: {{steps: 30, micro_batch: 5, updates_per_rollout: 2}}\n"
        f"eval: {{every: 20, samples_per_prompt: 2}}\n"
        f"checkpoint: {{every: 8}}\n"
        f"render: {{renders: 2}}\n"
    )
    return path


def test_parameters_of_qwen3() -> None:
    # By hand, one layer: q and o 2 * 96 * 96, k and v 2 * 96 * 32, their norms 64, MLP 3 * 96 * 256, two norms 192.
    layer = 18_432 + 6_144 + 64 + 73_728 + 192
    assert (
        ArSize.of(AR).parameters == 2 * 201 * 96 + 2 * layer + 96 == 235_808
    )  # = the elements in ar/model.safetensors
    assert ArSize.of({**AR, "tie_word_embeddings": True}).parameters == 235_808 - 201 * 96


@pytest.mark.parametrize(
    ("sections", "steps"),
    [
        ({"eval": {"every": 20}, "train": {"steps": 30}}, [0, 20, 30]),
        ({"eval": {"every": 0}, "train": {"steps": 30}}, [0, 30]),
        (
            {"eval": {"every": 10, "at_start": False, "at_end": False}, "train": {"steps": 30}},
            [10, 20],
        ),  # as the run does
        ({"eval": {"every": 7}, "train": {"steps": 10**7}}, [0, *range(7, 10**7, 7), 10**7]),
        ({"train": {"steps": 0}}, [0]),
        ({"data": {"eval": None}}, []),
    ],
)
def test_evaluation_steps(sections: dict[str, object], steps: list[int]) -> None:
    assert evaluation_steps(Config.model_validate(sections)) == steps


def test_counts(run_file: Path) -> None:
    prompts = [Prompt(str(i), f"prompt {i}") for i in range(6)]
    held_out = [Prompt("a", "prompt 0"), Prompt("b", "new")]
    text = describe(load(run_file), prompts, held_out)
    rows = dict(
        re.split(r"\s{2,}", line[2:].strip(), maxsplit=1) for line in text.splitlines() if re.match(r"# .*\S  ", line)
    )
    # 4 prompts x 3 = 12 samples x 16 tokens; 2 updates of 6 samples in micro-batches of 5: 2 passes each.
    assert rows["steps"] == "30 with 2 updates in 4 micro-batches each"
    assert rows["ranks"] == "1"
    assert rows["warm-up"] == "5 of 60 updates"
    assert rows["disk"] == "2.83 MB a checkpoint"  # 235,808 x 12 bytes
    assert rows["training prompts"] == "6, seen 20.0 times each"
    assert rows["prompts"] == "4 a step, 120 in all"
    assert rows["samples"] == "12 a step, 360 in all"
    assert rows["image tokens"] == "192 a step, 5,760 in all (16 a sample)"
    assert rows["pictures"] == "24 a step, 720 in all"
    assert rows["checkpoints"] == "4 written, 2 kept"  # 8, 16, 24, 30
    assert rows["evaluations"] == "3, after steps 0, 20, 30"
    assert rows["held-out prompts"] == "2, of which 1 are also training prompts"
    assert rows["evaluation pictures"] == "4 each, 12 in all"
    assert rows["run folder"] == "runs/small"
    assert rows["parameters"] == "235,808 in the language model"
    assert re.fullmatch(r"[\d.]+ [MG]B at most, in 'paint' \(estimate, within 15 %\)", rows["memory"])
    assert rows["trainer's weights"] == "0.94 MB"
    assert rows["+ in step"].endswith("AdamW's copies 0.15 MB")  # 201 x 96 numbers, twice
    assert rows["reward processes"] == "1, each about 300.00 MB and its model besides"


def test_each_network_has_a_warm_up_of_its_own_steps() -> None:
    prompts = [Prompt("a", "a")]
    typed = ["rewards.geneval.use=geneval", "policy.path=shapes", "render.renders=2", "train.steps=12"]
    text = describe(load(None, [*typed, "trainers=[decoder]", "decoder.updates_per_rollout=4"]), prompts, [])
    assert re.search("# steps +12\n", text) and re.search("# decoder's warm-up +5 of 48 updates\n", text)
    turns = ["trainers=[ar, decoder]", "schedule={order: alternate, ar: {steps: 3}}"]
    text = describe(load(None, [*typed, *turns]), prompts, [])
    assert re.search("# warm-up +5 of 9 updates\n# decoder's warm-up +5 of 3 updates\n", text)


def rows_of(*typed: str) -> dict[str, str]:
    """Of the embedded policy, with one prompt."""
    config = load(None, ["rewards.geneval.use=geneval", "policy.path=shapes", "train.steps=12", *typed])
    lines = re.findall(r"^# +(\S.*?)  +(.*)$", describe(config, [Prompt("a", "a")], []), re.MULTILINE)
    return dict(reversed(lines))  # of two with one name that above the memory


def test_steps_of_networks_that_take_turns_are_counted_apart() -> None:
    turns = "schedule={order: alternate, ar: {steps: 3}, decoder: {group_size: 2, renders: 8}}"
    rows = rows_of("trainers=[ar, decoder]", "data.prompts_per_step=4", turns, "train.updates_per_rollout=2")
    # 9 steps of 4 x 8 samples with one picture each, 3 of 4 x 2 with eight
    assert rows["steps"] == "12: 9 of the language model with 2 updates in 2 micro-batches each, 3 of the decoder"
    assert rows["samples"] == "32 a step of the language model, 8 of the decoder, 312 in all"
    assert rows["image tokens"] == ("512 a step of the language model, 128 of the decoder, 4,992 in all (16 a sample)")
    assert rows["pictures"] == "32 a step of the language model, 64 of the decoder, 480 in all"
    assert "learn from 192 pairs of a picture and a timestep a step, in 1 update" in rows["decoder"]
    same = rows_of("trainers=[ar, decoder]", "render.renders=2", "schedule=alternate")
    assert same["samples"] == "128 a step, 1,536 in all"


def test_a_step_that_may_sample_again_has_a_range() -> None:
    rows = rows_of("data.prompts_per_step=4", "groups={flat: resample, budget: 2.5}")
    assert rows["prompts"] == "4 to 10 a step, 48 to 120 in all"
    assert (rows["samples"], rows["pictures"]) == ("32 to 80 a step, 384 to 960 in all",) * 2
    assert rows["image tokens"] == "512 to 1,280 a step, 6,144 to 15,360 in all (16 a sample)"
    assert rows_of("data.prompts_per_step=4", "groups=skip")["samples"] == "32 a step, 384 in all"


def test_a_language_model_that_stays_as_it_is_does_not_learn() -> None:
    decoder = ("trainers=[decoder]", "render.renders=2", "decoder.updates_per_rollout=4", "train.ranks=2")
    rows = rows_of(*decoder, "train.zero_stage=2", "decoder.zero_stage=1")
    assert rows["steps"] == "12"
    assert rows["ranks"] == "2, 96 pairs of an update each; ZeRO stage 1"  # 128 x 2 x 3 / 4 / 2
    assert rows["parameters"] == "1,676,608 in the language model, which stays as it is"
    assert rows["language model"] == "6.71 MB"
    assert not {"warm-up", "AdamW states", "trainer's weights", "ZeRO's bucket", "+ in update", "+ in step"} & set(rows)


def test_ranks_share_an_update(run_file: Path) -> None:
    prompts = [Prompt(str(i), f"prompt {i}") for i in range(6)]
    text = describe(load(run_file, ["train.ranks=2", "train.zero_stage=1"]), prompts, prompts)
    assert "30 with 2 updates in 2 micro-batches each" in text  # 3 samples each
    assert "2, 3 samples of an update each; ZeRO stage 1" in text


@pytest.mark.parametrize(("every", "steps", "count"), [(0, 30, 1), (8, 30, 4), (10, 30, 3), (25, 0, 1)])
def test_checkpoints_are_counted_as_the_run_writes_them(policy: Path, every: int, steps: int, count: int) -> None:
    sections = {"policy": {"path": str(policy)}, "train": {"steps": steps}, "checkpoint": {"every": every, "keep": 9}}
    text = describe(Config.model_validate(sections), [Prompt("a", "a")], [])
    assert f"  {count} written, {count} kept" in text


def test_what_it_prints_is_a_runnable_configuration(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_file), "train.lr=1e-6", "--dry-run", "loss=dapo"]) == 0
    (tmp_path / "again.yaml").write_text(capsys.readouterr().out)
    assert load(tmp_path / "again.yaml") == load(run_file, ["train.lr=1e-6", "loss=dapo"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.lr=fast"], "error: command line: train.lr: must be a number"),
        (["data.prompts_per_step=8"], "error: data.prompts_per_step is 8, but data.train has only 6 different prompts"),
        (["data.train.options.path=none.jsonl"], "error: data.train: there is no prompt file 'none.jsonl'"),
        (["rewards=null", "rewards.o=ocr"], "lacks what its reward needs: 'text' (reward o); so do 5 more prompts"),
        (["policy.path=nowhere"], "error: policy.path: there is no policy folder at 'nowhere'"),
    ],
)
def test_mistakes_exit_with_2(
    run_file: Path, overrides: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_file), *overrides, "--dry-run"]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.out == ""


def test_prompts_with_pictures_need_a_policy_that_declares_to_read_them(
    run_file: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "cat.png")
    with (tmp_path / "p.jsonl").open("a") as file:
        file.write('\n{"prompt": "make it blue", "include": [{"class": "circle", "count": 1}], "image": "cat.png"}')
    assert main([str(run_file), "--dry-run"]) == 2
    assert (
        f"make it blue', {tmp_path}/p.jsonl:7) holds pictures, as do 1 more, and the policy '{policy}' reads text "
        "alone (its prompt encoder 'template' does not declare `pictures = True`)"
    ) in capsys.readouterr().err
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_encoder.py").write_text("raise RuntimeError('imported')\nclass Sees:\n    pictures = True\n")
    content = {"layout": LAYOUT, "prompt_template": "{prompt}", "prompt_encoder": "own_encoder:Sees"}
    (policy / "policy.json").write_text(json.dumps(content))
    assert main([str(run_file), "--dry-run"]) == 0
    (tmp_path / "cat.png").unlink()
    assert main([str(run_file), "--dry-run"]) == 2
    assert f"error: data.train: {tmp_path}/p.jsonl:7: there is no picture" in capsys.readouterr().err


def test_interrupt_exits_with_130(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rl.start.load_with_origins", interrupted)
    assert main([str(run_file), "--dry-run"]) == 130


def test_incomplete_policy_folder(run_file: Path, policy: Path) -> None:
    (policy / "ar" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="lacks ar/model.safetensors"):
        describe(load(run_file), [Prompt("a", "b")], [])


def test_no_torch_and_under_a_second_and_a_half(policy: Path) -> None:
    """The real example with the embedded prompts, in a process of its own."""
    code = (
        "import sys\nfrom rl.launch import main\n"
        "code = main(sys.argv[1:])\n"
        "heavy = {'torch', 'vllm', 'deepspeed', 'ray', 'paddle', 'transformers', 'diffusers', 'datasets'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)), file=sys.stderr)\nsys.exit(code)"
    )
    command = [sys.executable, "-c", code, "examples/geneval.yaml", f"policy.path={policy}", "--dry-run"]
    walls, cpus = [], []
    for _ in range(3):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ)
        walls.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0, done.stderr
        assert "HEAVY []" in done.stderr
    # CPU seconds, because a busy machine stretches the wall clock; on a free one the two are the same.
    assert min(cpus) < 1.5, (cpus, walls)
