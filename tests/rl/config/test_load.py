"""From files and overrides to a run, and every way in which that goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rl.config.load import dump, load, load_with_origins
from rl.config.yaml12 import parse, to_yaml
from rl.types import UserError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """``write("a.yaml", text)`` in the current folder; a reward is there unless the text names some."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, text: str, reward: bool = True) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + ("\nrewards: {geneval: geneval}\n" if reward else ""))
        return path

    return write_file


def complaint(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(path, overrides)
    return str(caught.value)


def test_yaml_1_2_scalars() -> None:
    text = "{a: 1e-6, b: off, c: 010, d: 0x1F, e: .5, f: '1', g: ~, h: 1_000, i: 2026-01-01, j: true, "
    text += "k: .inf, l: 1., m: 0o17}"
    tree, problems = parse(text, "x")
    assert not problems
    expected = [1e-6, "off", 10, 31, 0.5, "1", None, "1_000", "2026-01-01", True, float("inf"), 1.0, 15]
    assert list(tree.plain().values()) == expected
    assert [type(v) for v in tree.plain().values()] == [type(v) for v in expected]


def test_written_yaml_reads_back_identically() -> None:
    odd = [
        "1e-6",
        "off",
        "null",
        "",
        "010",
        "0o7",
        "~",
        "true",
        "1.0",
        "2026-01-01",
        "é: x",
        " lead",
        "a\nb",
        "<<",
        "-",
        "*x",
    ]
    tree = {"text": odd, "numbers": [1e-6, 1e20, 1.0, 0, -3], "rest": [None, True, {"inner": []}], "empty": {}}
    read, problems = parse(to_yaml(tree), "x")
    assert not problems
    assert read.plain() == tree


def test_merge_keys_bring_in_what_is_not_written() -> None:
    text = """a: &a {x: 1, y: 2}
b: &b {y: 3, z: 4}
c:
  <<: [*a, *b]
  x: 5
d:
  x: 6
  <<: *a
e: {"<<": 7}
"""
    tree, problems = parse(text, "f.yaml")
    assert not problems
    read = tree.plain()
    assert read["c"] == {"x": 5, "y": 2, "z": 4}
    assert read["d"] == {"x": 6, "y": 2}
    assert read["e"] == {"<<": 7}
    assert str(tree.value["c"].value["z"].origin) == "f.yaml:2"
    for text, words in [
        ("a: {<<: 3}", "f.yaml:1: a.<<: takes a mapping or a list of mappings, such as *name"),
        ("a: &x\n  <<: *x", "f.yaml:1: a.<<: an alias contains itself"),
        ("a: &x {y: 1}\nb:\n  <<: *x\n  <<: *x", "f.yaml:4: b.<<: written twice, first in line 3; keep one"),
    ]:
        _, problems = parse(text, "f.yaml")
        assert str(problems[0]) == words


def test_unsafe_yaml_is_refused() -> None:
    for text, words in [
        ("a: !!python/object/apply:os.system [ls]", "the tag tag:yaml.org,2002:python"),
        ("a: &x [*x]", "an alias contains itself"),
        ("? [1]\n: 2", "a key must be a plain word"),
    ]:
        _, problems = parse(text, "f.yaml")
        assert words in str(problems[0])
        assert str(problems[0]).startswith("f.yaml:1: ")


def test_defaults_and_run_folder(write: Write) -> None:
    config = load(write("deep/my_run.yaml", ""))
    assert config.run.folder == "runs/my_run"
    assert config.train.lr == 1e-4
    assert load("deep/my_run.yaml", ["run.folder=elsewhere"]).run.folder == "elsewhere"


def test_extends_layers(write: Write) -> None:
    write("configs/base.yaml", "train: {lr: 1e-6, steps: 7}\nloss: {use: grpo, options: {clip_low: 0.1}}", reward=False)
    write("configs/more.yaml", "extends: base.yaml\ntrain: {steps: 8}", reward=False)
    # base.yaml comes in twice; the second time must not undo what more.yaml said.
    path = write("examples/run.yaml", "extends: [../configs/more.yaml, ../configs/base.yaml]\ntrain: {zero_stage: 1}")
    config = load(path, ["train.zero_stage=2"])
    assert (config.train.lr, config.train.steps, config.train.zero_stage) == (1e-6, 8, 2)
    assert config.loss.options == {"clip_low": 0.1}


def test_overrides_are_yaml_values(write: Write) -> None:
    config = load(
        write("a.yaml", ""),
        [
            "train.lr=1e-6",
            "train.betas=[0.8, 0.9]",
            "eval.at_end=off",
            "policy.path=off",
            "rewards.ocr={use: ocr, weight: 2}",
        ],
    )
    assert config.train.lr == 1e-6
    assert config.train.betas == (0.8, 0.9)
    assert config.eval.at_end is False
    assert config.policy.path == "off"
    assert config.rewards["ocr"].weight == 2


def test_null_removes_components(write: Write) -> None:
    path = write("a.yaml", "rewards: {geneval: geneval, ocr: ocr}", reward=False)
    config = load(path, ["rewards.ocr=null", "kl=null", "correction=~", "data.eval=null"])
    assert list(config.rewards) == ["geneval"]
    assert config.kl is config.correction is config.data.eval is None
    assert list(load(path, ["rewards=null", "rewards.mine=ocr"]).rewards) == ["mine"]


def test_changing_use_drops_inherited_options(write: Write) -> None:
    write(
        "base.yaml",
        "loss: {use: grpo, options: {clip_low: 0.1}}\nrewards:\n  a: {use: geneval, options: {}, weight: 3}",
        reward=False,
    )
    path = write("a.yaml", "extends: base.yaml", reward=False)
    assert load(path, ["loss=dapo"]).loss.options == {}
    assert load(path, ["loss=grpo", "loss.options.clip_high=0.3"]).loss.options == {"clip_low": 0.1, "clip_high": 0.3}
    assert load(path, ["loss.options.clip_high=0.3", "loss.use=dapo"]).loss.options == {}
    changed = load(path, ["rewards.a=ocr"]).rewards["a"]
    assert (changed.use, changed.weight) == ("ocr", 3)
    # The schema's own defaults count as inherited too.
    assert load(path, ["kl=k1"]).kl.options == {}  # type: ignore[union-attr]
    assert load(path, ["data.eval.options.per_task=5"]).data.eval.options == {"split": "heldout", "per_task": 5}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["kl=null", "correction=null", "data.eval=null"],
        [
            "kl=k1",
            "kl=k3",
            "rewards.ocr={use: ocr, role: monitor, weight: -1e-7}",
        ],  # k3 again, without its default beta
        ["train.betas=[0.5, 0]", "policy.path='1e-6'", "run.folder='off'", "guards.max_kl=null"],
    ],
)
def test_dump_loads_back_identically(write: Write, overrides: list[str]) -> None:
    config = load(write("a.yaml", ""), overrides)
    Path("resolved.yaml").write_text(dump(config))
    assert load("resolved.yaml") == config
    assert dump(load("resolved.yaml")) == dump(config)


def test_a_dumped_run_can_be_extended(write: Write) -> None:
    config = load(write("a.yaml", ""), ["kl=k1", "kl=k3"])
    Path("resolved.yaml").write_text(dump(config))
    child = load(write("b.yaml", "extends: resolved.yaml\ntrain: {lr: 1e-3}", reward=False))
    assert child.kl == config.kl
    assert child.train.lr == 1e-3
    assert child.run.folder == "runs/a"


def test_all_mistakes_in_one_message(write: Write) -> None:
    write("base.yaml", "train:\n  lr: 1e-4\n  stps: 3\n", reward=False)
    path = write(
        "a.yaml",
        "extends: base.yaml\nloss: dpao\nloss: grpo\nrewards:\n  ocr: {use: ocr, role: trian}\nrollout:\n"
        "  top_p: 0.9\n",
        reward=False,
    )
    message = complaint(path, "train.zero_stage=4", "kl.options.betta=1", "eval.evry=3", "nonsense")
    assert message.splitlines()[0] == "9 problems in the configuration:"
    lines = [line.strip() for line in message.splitlines()[1:]]
    for start in [
        "a.yaml:3: loss: written twice, first in line 2; keep one",
        "command line: 'nonsense' is not of the form key=value",
        "base.yaml:3: train.stps: unknown key, did you mean 'steps'?",
        "a.yaml:5: rewards.ocr.role: must be 'train' or 'monitor', got 'trian' (text), did you mean 'train'?",
        "command line: train.zero_stage: must be at most 3, got 4",
        "command line: eval.evry: unknown key, did you mean 'every'?",
        "a.yaml:2: loss: there is no 'dpao' among the losses, did you mean 'dapo'?",
        "command line: kl.options.betta: 'k3' has no such option, did you mean 'beta'? (it takes beta)",
    ]:
        assert sum(line.startswith(start) for line in lines) == 1, (start, message)
    # A rule across sections, in the same round although other sections are broken.
    assert any(line.startswith("a.yaml:7: rollout.top_p: must be 1 while training, got 0.9") for line in lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {lr: fast}", "a.yaml:1: train.lr: must be a number, got 'fast' (text)"),
        ("train: {steps: 2.5}", "a.yaml:1: train.steps: must be a whole number, got 2.5"),
        ("train: {steps: yes}", "a.yaml:1: train.steps: must be a whole number, got 'yes' (text)"),
        ("\ntrain:\n  steps: -1", "a.yaml:3: train.steps: must be at least 0, got -1"),
        ("train: {betas: [0.9]}", "a.yaml:1: train.betas[1]: has too few values, got [0.9] (a list)"),
        ("train: {eps: 0}", "a.yaml:1: train.eps: must be greater than 0, got 0"),
        ("train: {lr: .inf}", "a.yaml:1: train.lr: must be a finite number, got inf"),
        ("eval: {at_end: 1}", "a.yaml:1: eval.at_end: must be true or false, got 1"),
        (
            "tracking: {console: fancy}",
            "a.yaml:1: tracking.console: must be 'auto' or 'rich' or 'plain' or 'off', got 'fancy' (text)",
        ),
        ("policy: {path: 3}", "a.yaml:1: policy.path: must be text, got 3"),
        ("train:", "a.yaml:1: train: must be a mapping (key: value), got nothing (null)"),
        ("loss: 3", "a.yaml:1: loss: must be a name or {use: name, options: {...}}, got 3"),
        ("loss: null", "a.yaml:1: loss: must be a name or {use: name, options: {...}}, got nothing (null)"),
        (
            "kl: {use: k3, beta: 1}",
            "a.yaml:1: kl.beta: unknown key; what the component itself takes goes under options: kl.options.beta",
        ),
        ("lr: 3", "a.yaml:1: lr: unknown key, did you mean 'train.lr'?"),
        ("zzz: 3", "a.yaml:1: zzz: unknown key (known: policy, data, "),
        (
            "rollout: {engine: vlm}",
            "a.yaml:1: rollout.engine: there is no 'vlm' among the samplers, did you mean 'vllm'?",
        ),
        ("data: {train: jsonl}", "a.yaml:1: data.train.options.path: is missing; 'jsonl' needs it"),
        ("a: [1", "a.yaml:"),
    ],
)
def test_messages(write: Write, text: str, words: str) -> None:
    message = complaint(write("a.yaml", text))
    assert message.startswith(words)
    assert "\n" not in message


def test_bad_syntax_names_the_line(write: Write) -> None:
    message = complaint(write("a.yaml", "train: {}\nloss: [1\nkl: 2", reward=False))
    assert message.startswith("a.yaml:3: not valid YAML: ")


def test_missing_files(write: Write) -> None:
    write("examples/geneval.yaml", "")
    assert complaint(Path("examples/genevl.yaml")) == (
        "examples/genevl.yaml: there is no file 'examples/genevl.yaml', did you mean 'geneval.yaml'?"
    )
    path = write("a.yaml", "train: {}\nextends: [examples/zzzzzzzzzzzzzzzz.yaml]", reward=False)
    # Only that: with a layer missing, "no rewards" would be a guess.
    assert complaint(path) == "a.yaml:2: extends: there is no file 'examples/zzzzzzzzzzzzzzzz.yaml'"
    assert "can't read 'examples'" in complaint(Path("examples"))
    write("runs/a/config.yaml", "")
    assert "'runs/a' is a folder; the configuration of its run is 'runs/a/config.yaml'" in complaint(Path("runs/a"))


def test_extends_in_a_circle(write: Write) -> None:
    write("b.yaml", "# b\nextends: c.yaml", reward=False)
    write("c.yaml", "extends: a.yaml", reward=False)
    path = write("a.yaml", "extends: b.yaml")
    assert complaint(path) == "c.yaml:1: extends: the files go in a circle: a.yaml -> b.yaml -> c.yaml -> a.yaml"


def test_other_mistakes_about_files(write: Write) -> None:
    assert "must be a file name or a list of file names, got 3" in complaint(write("a.yaml", "extends: 3"))
    assert "a configuration is a mapping" in complaint(write("b.yaml", "- 1", reward=False))
    Path("c.yaml").write_bytes(b"\xff\xfe\x00a")
    assert complaint(Path("c.yaml")) == "c.yaml: is not UTF-8 text"
    assert "at least one reward" in complaint(write("d.yaml", "", reward=False))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.lr", "command line: 'train.lr' is not of the form key=value"),
        ("=3", "command line: '=3' is not of the form key=value"),
        ("train..lr=3", "command line: 'train..lr=3' is not of the form key=value"),
        ("train.lr=", "command line: train.lr: nothing after '='; to remove it write train.lr=null"),
        ("extends=b.yaml", "command line: extends: can be written in a file only"),
        (
            "rewards.genval=null",
            "command line: rewards.genval: there is no such reward to remove, did you mean 'geneval'?",
        ),
        ("train.betas=[1", "command line: train.betas: '[1' can't be read: not valid YAML"),
        ("kl.use=k9", "command line: kl: there is no 'k9' among the kls"),
        ("train.micro_batch=atuo", "command line: train.micro_batch: must be a whole number from 1, or auto"),
        ("train.lr=null", "command line: train.lr: must be a number, got nothing (null)"),
        ("train.lr.x=3", "command line: train.lr: must be a number, got {'x': 3} (a mapping)"),
    ],
)
def test_override_messages(write: Write, override: str, words: str) -> None:
    message = complaint(write("a.yaml", ""), override)
    assert message.startswith(words)
    assert "\n" not in message


def test_a_plug_in_is_checked_without_being_imported(write: Write) -> None:
    path = write("a.yaml", "")
    Path("bright_plugin.py").write_text(
        "raise RuntimeError('imported')\ndef bright(samples, *, target=0.5, power): ...\n"
        "class Held:\n    def __init__(self, folder, size=3): ...\n    def __call__(self, samples): ...\n"
    )
    given = ["rewards.b=bright_plugin:bright", "rewards.b.options.power=2"]
    assert load(path, given).rewards["b"].options == {"power": 2}
    assert "rewards.b.options.power: is missing; 'bright_plugin:bright' needs it" in complaint(path, given[0])
    assert "did you mean 'target'? (it takes target, power)" in complaint(path, *given, "rewards.b.options.targt=1")
    assert "rewards.h.options.folder: is missing" in complaint(path, "rewards.h=bright_plugin:Held")
    Path("broken_plugin.py").write_text("def bright(:\n")
    assert "broken_plugin.py:1: not valid Python" in complaint(path, "rewards.b=broken_plugin:bright")


def test_a_later_mistake_says_where_its_keys_were_written(write: Write) -> None:
    write("base.yaml", "data:\n  prompts_per_step: 4\nkl: &x {use: k3}", reward=False)
    path = write(
        "a.yaml", "extends: base.yaml\nkl: &x {use: k3}\ndata:\n  train: {<<: *x, use: shapes}\ntrain: {lr: 1}"
    )
    _, origins = load_with_origins(path, ["train.steps=3"])
    assert origins.add_to("data.prompts_per_step is 4, but data.train has 3") == (
        "data.prompts_per_step is 4, but data.train has 3 "
        "(data.prompts_per_step: base.yaml:2; data.train: a.yaml:4 (merged with << in line 4))"
    )
    assert origins.add_to("train.steps") == "train.steps (train.steps: command line)"
    for plain in ("eval.seed is odd", "see a.yaml:3", "no key at all", "data.zzz"):
        assert origins.add_to(plain) == plain
    with pytest.raises(UserError, match=r"^train.lr is odd \(train.lr: a.yaml:5\)$"), origins.named():
        raise UserError("train.lr is odd")
