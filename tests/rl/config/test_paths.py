"""One rule for the paths of every key and option: ``~`` and variables are expanded, what has no value is an error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from rewards.command_line import parse_option
from rl.config.load import dump, load
from rl.config.paths import expanded, expanded_options
from rl.config.schema import Config, RewardComponent
from rl.config.values import PathText
from rl.types import UserError

EXPAND = get_args(PathText)[1]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.delenv("NOWHERE", raising=False)
    Path("a.yaml").write_text("rewards: {geneval: geneval}\n")
    return tmp_path


def path_keys(model: type[BaseModel] = Config, at: str = "") -> Iterator[str]:
    """Every key of the schema whose value is a path."""
    for name, field in model.model_fields.items():
        held = field.annotation
        inner = [kind for kind in (held, *get_args(held)) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if inner:
            key = f"{at}{name}.geneval." if inner[0] is RewardComponent else f"{at}{name}."
            yield from path_keys(inner[0], key)
        elif EXPAND in field.metadata or any(EXPAND in get_args(kind) for kind in get_args(held)):
            yield at + name


def test_the_keys_that_are_paths() -> None:
    assert set(path_keys()) == {"policy.path", "reward_pool.cache", "run.folder", "rewards.geneval.python"}


OPTIONS = ["rewards.geneval.options.detector_options.file", "data.train.options.path", "rollout.options.download_dir"]


@pytest.mark.parametrize(
    ("written", "path"),
    [
        *[("~/x", "/home/ada/x"), ("~", "/home/ada"), ("$DATA/a b", "/data/a b"), ("${DATA}x/y", "/datax/y")],
        *[("x/y", "x/y"), ("./~/$5", "./~/$5"), ("../x", "../x"), ("/a/$DATA", "/a//data")],
    ],
)
def test_what_a_path_stands_for(written: str, path: str) -> None:
    assert expanded(written) == path
    assert expanded_options({"a": {"b": [written]}}) == {"a": {"b": [path]}}


def test_paths_of_every_key() -> None:
    keys = [*path_keys(), *OPTIONS]
    config = load("a.yaml", ["data.train.use=text", *(f"{key}=~/$DATA" for key in keys)])
    for key in keys:
        found: object = config
        for part in key.split("."):
            found = found[part] if isinstance(found, dict) else getattr(found, part)
        assert found == "/home/ada//data", key
    Path("resolved.yaml").write_text(dump(config))
    assert load("resolved.yaml") == config


def test_what_has_no_value_is_an_error() -> None:
    keys = [*path_keys(), *OPTIONS]
    for written, words in {
        "$NOWHERE/x": "'$NOWHERE/x': the environment variable NOWHERE is not set; set it, or write the path out",
        "~nobody-here/x": "'~nobody-here/x': '~nobody-here' is no home folder here; write the folder out, or ./~nobod",
    }.items():
        with pytest.raises(UserError) as caught:
            load("a.yaml", ["data.train.use=text", *(f"{key}={written}" for key in keys)])
        lines = str(caught.value).splitlines()
        assert lines[0] == f"{len(keys)} problems in the configuration:"
        for key in keys:
            where = key.partition(".options")[0] + ".options" if ".options" in key else key
            assert any(line.startswith(f"  command line: {where}: {words}") for line in lines), key


@pytest.mark.parametrize("written", ['""', '" "', '"\\0"'])
def test_a_path_is_not_empty(written: str) -> None:
    with pytest.raises(UserError, match=r"^command line: run.folder: .* is no path; name a file or folder$"):
        load("a.yaml", [f"run.folder={written}"])


@pytest.mark.parametrize(
    "text", ["a price of $5", "$NOWHERE is where", "~ 3 dogs", "http://a/$NOWHERE", "is $DATA/x it?"]
)
def test_options_that_are_no_paths_stay(text: str) -> None:
    assert load("a.yaml", [f"rollout.options.question={text}"]).rollout.options == {"question": text}


def test_extends_and_options_of_commands_follow_the_rule(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", str(home / "more"))
    (home / "more").mkdir()
    Path("more/base.yaml").write_text("rewards: {geneval: geneval}\ntrain: {steps: 7}\n")
    Path("b.yaml").write_text("extends: $DATA/base.yaml\n")
    assert load("b.yaml").train.steps == 7
    Path("c.yaml").write_text("extends: $NOWHERE/base.yaml\n")
    with pytest.raises(UserError, match=r"^c.yaml:1: extends: .*the environment variable NOWHERE is not set"):
        load("c.yaml")
    assert parse_option("det_dir=~/det") == ("det_dir", "/home/ada/det")
    assert parse_option("prefix=A # b") == ("prefix", "A # b")
    with pytest.raises(UserError, match=r"^--option det_dir=\$NOWHERE/d: .*NOWHERE is not set"):
        parse_option("det_dir=$NOWHERE/d")
