"""What is typed after ``=``, and names that a module of one's own has or has not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rl.config import values
from rl.config.load import dump, load
from rl.config.yaml12 import parse, parse_value, to_yaml
from rl.types import UserError

ROOT = Path(__file__).parents[3]
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


@pytest.mark.parametrize(
    "text",
    [
        *("runs/a #1", "a # b", "#1", "&x", "*x", "|", ">-", "!x", "%d", "@home", "`ls`", "- a", "? a", "a: b", "a:"),
        *(
            ", b",
            "]",
            " led",
            '"a" and "b"',
            "'tis",
            "a\nb",
            "---",
            "...",
            "1_000",
            "off",
            "0b1",
            "1e",
            "=",
            "läufe/中",
        ),
    ],
)
def test_what_stands_after_the_equals_sign_is_the_value(text: str) -> None:
    assert parse_value(text) == text
    assert parse(to_yaml({"folder": text}), "x")[0].plain() == {"folder": text}


def test_a_folder_with_a_comment_sign(write: Write) -> None:
    config = load(
        write("a.yaml", ""), ["run.folder=runs/a #1", "rewards.p=clip_score", "rewards.p.options.prefix=A: &x"]
    )
    assert config.run.folder == "runs/a #1"
    assert config.rewards["p"].options == {"prefix": "A: &x"}
    Path("resolved.yaml").write_text(dump(config))
    assert load("resolved.yaml") == config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1e-5", 1e-5), ("0x1F", 31), ("0o17", 15), ("010", 10), ("-3", -3), ("null", None), ("~", None)],
        *[("'1'", "1"), ('"a # b"', "a # b"), ('"\\t"', "\t"), ("'it''s'", "it's"), ('""', ""), ("", ""), (" 7 ", 7)],
        *[("[1, 'a # b']", [1, "a # b"]), ("{a: {b: [c d]}}", {"a": {"b": ["c d"]}}), ("[]", []), ("true", True)],
    ],
)  # fmt: skip
def test_values_on_the_command_line(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2] # two", "what follows ' #' would be a comment in YAML; put the text in quotes"),
        ("{a: 1, # one\n b: 2}", "what follows ' #' would be a comment in YAML; put the text in quotes"),
        ("[&x]", "'&x' would be a name for a value in YAML; put the text in quotes"),
        ("[!!str 1, !x 2]", "the tag !x is not allowed; write a plain value; a text that begins with [ needs quotes"),
        ("[1] 2", "not valid YAML: expected '<document start>'"),
    ],
)
def test_brackets_that_can_not_be_read(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_value(text)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {steps: 1_000}", "train.steps: must be a whole number, got '1_000' (text); write 1000"),
        ("train: {steps: '10'}", "train.steps: must be a whole number, got '10' (text); write 10"),
        ("train: {lr: '1,5'}", "train.lr: must be a number, got '1,5' (text); write 1.5"),
        ("train: {steps: '1,000,000'}", "train.steps: must be a whole number, got '1,000,000' (text); write 1000000"),
        ("train: {steps: 1e20}", "train.steps: must be at most 10,000,000, got a number of 21 digits"),
        ("train: {steps: 1e300}", "train.steps: must be at most 10,000,000, got a number of 301 digits"),
        ("train: {steps: true}", "train.steps: must be a whole number, got True (a boolean)"),
        ("train: {lr: off}", "train.lr: must be a number, got 'off' (text)"),
        ("train: {lr: 1e300}", "train.lr: must be at most 100, got 1e+300"),
        ("train: {lr: 1e999}", "train.lr: must be a finite number, got inf"),
        ("train: {lr: -.inf}", "train.lr: must be a finite number, got -inf"),
        ("train: {lr: .nan}", "train.lr: must be a finite number, got nan"),
        ("rollout: {temperature: -0.0}", "rollout.temperature: must be greater than 0, got -0.0"),
        ("data: {prompts_per_step: 1000000000000}", "data.prompts_per_step: must be at most 1,000,000,000, got 1000"),
        ("train: {betas: [0.9, 1]}", "train.betas[1]: must be less than 1, got 1"),
        ("run: {seed: 0xFFFFFFFFFFFFFFFF}", "run.seed: must be less than 9,223,372,036,854,775,808, got 1844674407"),
        ("rewards: {geneval: {use: geneval, weight: -1e9}}", "rewards.geneval.weight: must be at least -1,000,000"),
        ("rewards: {geneval: {use: geneval, scale: [2, 1]}}", "rewards.geneval.scale: must be [low, high] with"),
        ("train: {steps: %s}" % ("9" * 5000), "train.steps: must be a whole number, got inf"),
    ],
)  # fmt: skip
def test_numbers_at_the_edge(write: Write, text: str, words: str) -> None:
    message = complaint(write("a.yaml", text, reward="rewards" not in text))
    assert message.splitlines()[-1].strip().startswith(f"a.yaml:1: {words}")


@pytest.mark.parametrize(
    ("text", "steps"), [("1e2", 100), ("5.0", 5), ("0x10", 16), ("0o17", 15), ("010", 10), ("+7", 7)]
)
def test_whole_numbers_however_they_are_written(write: Write, text: str, steps: int) -> None:
    path = write("a.yaml", f"train: {{steps: {text}}}")
    assert load(path).train.steps == load(path, [f"train.steps={text}"]).train.steps == steps
    assert "must be a whole number, got 2.5" in complaint(path, "train.steps=2.5")


def test_a_name_that_a_module_does_not_have_is_found_without_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lamp.py").write_text("raise SystemExit\ndef bright(samples): ...\nother = bright\n")
    (tmp_path / "made.py").write_text("globals()['bri' + 'ght'] = print\n")
    (tmp_path / "a.yaml").write_text("rewards: {geneval: geneval}\n")
    with pytest.raises(UserError, match=r"rewards.x.use: module 'lamp' has no 'brigt', did you mean 'bright'\?"):
        load("a.yaml", ["rewards.x.use=lamp:brigt"])
    with pytest.raises(UserError, match="'lamp.py:bright' names a file; write the module, without the ending: lamp"):
        load("a.yaml", ["rewards.x.use=lamp.py:bright"])
    for use in ("lamp:bright", "lamp:other", "made:bright"):
        assert load("a.yaml", [f"rewards.x.use={use}"]).rewards["x"].use == use


@pytest.mark.parametrize(("able", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_an_automatic_precision_is_decided_once(
    able: bool, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(values, "multiplies_bfloat16", lambda: able)
    config = load(ROOT / "examples/geneval.yaml", ["render.dtype=auto"])
    assert (config.policy.dtype, config.train.dtype, config.render.dtype) == (expected, expected, expected)
    (tmp_path / "config.yaml").write_text(dump(config))
    monkeypatch.setattr(values, "multiplies_bfloat16", lambda: not able)
    assert load(tmp_path / "config.yaml") == config


def test_the_choices_of_a_value_that_may_be_null_are_said(write: Write) -> None:
    assert complaint(write("a.yaml", "render:\n  dtype: flot32\n")) == (
        "a.yaml:2: render.dtype: must be 'float32' or 'bfloat16', got 'flot32' (text), did you mean 'float32'?"
    )
