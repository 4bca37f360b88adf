"""What the command line means, and every sentence that it is answered with where it means nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.folder import EMBEDDED
from rl.config.load import dump, load
from rl.evaluate.arguments import NamedPolicy, NamedPrompts, read_arguments
from rl.evaluate.candidates import find_candidates
from rl.evaluate.out_folder import claim_out
from rl.evaluate.overlap import overlaps
from rl.evaluate.settings import measured_by, prompt_component, read_config, read_prompts
from rl.types import Prompt, UserError

ROOT = Path(__file__).parents[3]
GENEVAL = str(ROOT / "examples" / "geneval.yaml")


def a_run(folder: Path, *, policy: bool = True) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(dump(load(GENEVAL, ["render.steps=7"])))
    if policy:
        (folder / "policy").mkdir()
        (folder / "policy" / "policy.json").write_text("{}")
    return folder


def test_options_belong_to_what_stands_before_them(tmp_path: Path) -> None:
    odd = tmp_path / "a=b"
    odd.mkdir()
    given = read_arguments(
        [
            *("render.steps=2", "--policy", "sd=p/one", "--pipeline-option", "steps=3"),
            *("--pipeline-option", "dtype=bfloat16", "--policy", str(odd)),
            *("--prompts", "shapes", "--prompt-option", "split=heldout"),
            *("--reward", "geneval", "--option", "detector=shapes", "--reward", "b=m:bright", "rollout.engine=torch"),
        ]
    )
    assert given.policies == [
        NamedPolicy("p/one", "sd", {"steps": 3, "dtype": "bfloat16"}),
        NamedPolicy(str(odd)),  # a folder that exists is no name
    ]
    assert given.prompts == NamedPrompts("shapes", {"split": "heldout"})
    assert [(one.name, one.options) for one in given.rewards] == [("geneval", {"detector": "shapes"}), ("b", {})]
    assert given.overrides == ["render.steps=2", "rollout.engine=torch"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--pipeline-option", "steps=3", "--policy", "p"], "--pipeline-option steps=3: must come after the --policy"),
        (["--policy", "=p"], "--policy =p: must read POLICY or NAME=POLICY"),
        (["--policy", "p", "--prompt-option", "a=1"], "--prompt-option a=1: must come after --prompts"),
        (
            ["--policy", "p", "--prompts", "a", "--prompts", "b"],
            "--prompts b: is given twice; put all prompts into one",
        ),
        (["--policy", "p", *["--pipeline-option", "steps=3"] * 2], "--pipeline-option steps=3: steps is given twice"),
        (["--policy", "p", "--pipeline-option", "steps"], "--pipeline-option 'steps' is not of the form key=value"),
    ],
)
def test_arguments_in_the_wrong_place(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_arguments(arguments)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_what_is_named_replaces_what_the_configuration_has() -> None:
    given = ["--policy", "shapes", "--config", GENEVAL, "--samples", "2", "--seed", "7"]
    config, file = read_config(read_arguments([*given, "render.steps=9", "rollout.top_p=0.9"]))
    assert file == GENEVAL
    assert (config.eval.samples_per_prompt, config.eval.seed, config.render.steps) == (2, 7, 9)
    assert config.rollout.top_p == 0.9  # which only an evaluation may
    assert list(config.rewards) == ["geneval"]
    assert len(read_prompts(config)) == 600

    other = ["--prompts", "shapes", "--prompt-option", "split=train", "--prompt-option", "tags=[counting]"]
    config, _ = read_config(read_arguments([*given, *other, "--reward", "mine=quality"]))
    assert config.data.eval is not None
    assert config.data.eval.options == {"split": "train", "tags": ["counting"]}  # without per_task of the file
    assert list(config.rewards) == ["mine"]


def test_without_a_configuration_the_first_run_folder_gives_one(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    config, file = read_config(read_arguments(["--policy", "shapes", "--policy", str(run)]))
    assert file == str(run / "config.yaml")
    assert config.render.steps == 7


def test_a_file_of_prompts_is_read_by_its_ending(tmp_path: Path) -> None:
    for name, use in [("a.txt", "text"), ("b.jsonl", "jsonl"), ("metadata", "jsonl")]:
        (tmp_path / name).write_text("x")
        found = prompt_component(NamedPrompts(str(tmp_path / name), {}))
        assert found == {"use": use, "options": {"path": str(tmp_path / name)}}
    assert prompt_component(NamedPrompts("m:mine", {"a": 1})) == {"use": "m:mine", "options": {"a": 1}}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--prompts is missing: give a file, one of shapes"),
        (["--prompts", "shapes"], "--reward is missing: give one, for example --reward geneval"),
        (["--prompts", "shappes", "--reward", "quality"], "'shappes' is neither a file nor .*, did you mean 'shapes'"),
        (["--prompts", "nix/none.jsonl", "--reward", "quality"], "--prompts: there is no file 'nix/none.jsonl'"),
        (
            ["--config", GENEVAL, "data.eval=null"],
            "has no data.eval, so there is nothing to evaluate on: add --prompts",
        ),
        (["--config", GENEVAL, "--reward", "quality", "--option", "nix=1"], r"rewards.quality.options.nix: .* no such"),
        (["--config", GENEVAL, *["--reward", "quality"] * 2], "two rewards are called 'quality'"),
    ],
)
def test_settings_that_mean_nothing(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_config(read_arguments(["--policy", "shapes", *arguments]))


def test_prompts_that_no_reward_can_score_are_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("two red circles\n")
    given = ["--policy", "shapes", "--prompts", str(tmp_path / "p.txt"), "--reward", "geneval"]
    config, _ = read_config(read_arguments([*given, "--option", "detector=shapes"]))
    with pytest.raises(UserError, match=r"two red circles.* lacks what its reward needs: 'include'"):
        read_prompts(config)


def test_what_a_policy_may_be(tmp_path: Path, pipeline_folder: Path) -> None:
    run = a_run(tmp_path / "my run")
    given = [NamedPolicy("shapes"), NamedPolicy(str(run)), NamedPolicy(str(run / "policy"), "again")]
    given.append(NamedPolicy(str(pipeline_folder), None, {"steps": 2}))
    found = find_candidates(given)
    assert [(one.name, one.kind) for one in found] == [
        ("shapes", "policy"),
        ("my-run", "policy"),
        ("again", "policy"),
        ("tiny-sd", "pipeline"),
    ]
    assert found[0].folder == EMBEDDED["shapes"]
    assert found[1].folder == found[2].folder == run / "policy"
    assert find_candidates([NamedPolicy(str(run / "policy"))])[0].name == "my-run"


def test_what_a_run_has_seen_in_training_is_told(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    (tmp_path / "train.txt").write_text("one ring\ntwo stars\n")
    train = [f"data.train.options.path={tmp_path / 'train.txt'}"]
    (run / "config.yaml").write_text(dump(load(GENEVAL, ["data.train.use=text", *train])))
    found = find_candidates([NamedPolicy("shapes"), NamedPolicy(str(run))])
    prompts = [Prompt("a", "one ring"), Prompt("b", "two rings")]
    assert list(overlaps(found, prompts)) == ["run: 1 of the 2 prompts is among its training prompts"]
    assert list(overlaps(found, prompts[1:])) == ["run: none of the 1 prompts is among its training prompts"]
    (tmp_path / "train.txt").unlink()
    (sentence,) = overlaps(found, prompts)
    assert sentence.startswith(
        "run: whether it has seen these prompts in training is not known: data.train: there is no"
    )


def test_what_a_policy_may_not_be(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    unfinished = a_run(tmp_path / "unfinished", policy=False)
    for given, sentence in [
        (NamedPolicy("shape"), "there is no folder 'shape', did you mean 'shapes'"),
        (NamedPolicy(f"{tmp_path}/emty"), f"there is no folder '{tmp_path}/emty', did you mean '{tmp_path}/empty'.$"),
        (NamedPolicy("owner/name"), "one of a hub is fetched first: hf download owner/name --local-dir name"),
        (
            NamedPolicy(str(tmp_path / "empty")),
            r"neither a policy \(no policy.json\), nor a run \(no config.yaml\), nor",
        ),
        (NamedPolicy(str(unfinished)), "has written no policy yet; let it end .python -m rl.launch .* --resume"),
        (NamedPolicy("shapes", "a/b"), "a name may hold letters, digits"),
        (NamedPolicy("shapes", None, {"steps": 3}), "--pipeline-option steps: 'shapes' is no diffusers pipeline"),
    ]:
        with pytest.raises(UserError, match=sentence):
            find_candidates([given])
    with pytest.raises(UserError, match="two policies are called 'shapes'; name one otherwise: --policy other=shapes"):
        find_candidates([NamedPolicy("shapes"), NamedPolicy("shapes")])


def test_a_folder_belongs_to_one_evaluation(tmp_path: Path, pipeline_folder: Path) -> None:
    rules = measured_by(load(GENEVAL))
    prompts = [Prompt("a", "one ring"), Prompt("b", "two rings")]
    shapes = find_candidates([NamedPolicy("shapes", "base")])
    out = tmp_path / "out"
    claim_out(out, rules, prompts, shapes)
    claim_out(out, rules, prompts, shapes)
    claim_out(out, rules, prompts, find_candidates([NamedPolicy(str(pipeline_folder), "sd")]))  # one more policy
    with pytest.raises(UserError, match=r"by other rules \(eval.seed was 1234, now 1\)"):
        claim_out(out, {**rules, "eval.seed": 1}, prompts, shapes)
    with pytest.raises(UserError, match="by other rules .prompts was"):
        claim_out(out, rules, prompts[:1], shapes)
    for changed in (NamedPolicy(str(pipeline_folder), "base"), NamedPolicy(str(pipeline_folder), "sd", {"steps": 9})):
        with pytest.raises(UserError, match="was another policy, or its files or options have changed since"):
            claim_out(out, rules, prompts, find_candidates([changed]))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; name a folder"):
        claim_out(tmp_path / "file", rules, prompts, shapes)
    with pytest.raises(UserError, match=r"holds something else \(no settings.json\)"):
        claim_out(tmp_path, rules, prompts, shapes)
