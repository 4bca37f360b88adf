"""The reference of all keys: current, complete, and a schema that tells right from wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

import rl
from rl.config.declared import read_source
from rl.config.schema import COMPONENT_KINDS, Config
from rl.config.yaml12 import parse
from rl.keys.__main__ import main
from rl.keys.json_schema import json_schema, schema_text
from rl.keys.page import page
from rl.keys.reference import all_keys, card, type_text
from rl.registry import BUILT_IN

ROOT = Path(rl.__file__).parent.parent
SWEEPS = set((ROOT / "examples" / "ablations").glob("*.yaml"))
RUN_FILES = sorted({path for folder in ("configs", "examples") for path in (ROOT / folder).rglob("*.yaml")} - SWEEPS)


CHECKER = jsonschema.Draft7Validator(json_schema())


@pytest.mark.parametrize(("file", "make"), [("schema.json", schema_text), ("KEYS.md", page)])
def test_what_is_shipped_is_current(file: str, make: Callable[[], str]) -> None:
    shipped = (ROOT / "rl" / "config" / file).read_text(encoding="utf-8")
    assert shipped == make(), (
        "type: python -m rl.keys --schema > rl/config/schema.json; python -m rl.keys --page > rl/config/KEYS.md"
    )


def faults(text: str) -> list[str]:
    tree, problems = parse(text, "x")
    assert not problems
    return [error.message for error in CHECKER.iter_errors(tree.plain())]


def test_the_schema_itself_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(CHECKER.schema)


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_run_file_is_valid_and_says_where_its_schema_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert faults(text) == []
    first = text.partition("\n")[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve() == (ROOT / "rl" / "config" / "schema.json").resolve()


@pytest.mark.parametrize(
    "text",
    [
        "{loss: dapo, kl: null, rewards: {a: ocr, b: null, c: my_rewards:bright}, terms: null}",
        "{loss: {use: my_losses:wrong, options: {any: 1}}, train: {betas: [0.9, 0.99], steps: 1e2}}",
        "{eval: {at_end: off}}",
        "{rewards: {ocr: {options: {side: 1}}}, extends: [a.yaml], guards: {max_kl: null}, reward_pool: {cache: x}}",
        "{schedule: alternate}",
        "extends: null",
    ],
)
def test_what_is_right(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "{train: {stps: 3}}",
        "{train: {steps: 2.5}}",
        "{train: {betas: [0.9]}}",
        "{train: {schedule: linear}}",
        "{eval: {at_end: perhaps}}",
        "{loss: dpao}",
        "{loss: {use: grpo, options: {clip: 0.2}}}",
        "{rewards: {ocr: {use: ocr, wieght: 1}}}",
        "{extends: 3}",
        "{lr: 3}",
        "{schedule: alternat}",
    ],
)
def test_what_is_wrong(text: str) -> None:
    assert faults(text) != []


def test_every_key_has_a_type_and_a_meaning() -> None:
    keys = {key.name: key for key in all_keys()}
    assert all(key.doc for key in keys.values())
    sections = {name.rpartition(".")[0] for name in keys}
    assert all(
        key.type and key.default for key in keys.values() if key.name not in sections | Config.model_fields.keys()
    )
    assert (keys["train.lr"].type, keys["train.lr"].default) == ("number, at least 0, at most 100", "0.0001")
    assert (keys["train.schedule"].type, keys["train.schedule"].default) == ("constant or cosine", "constant")
    assert (keys["loss"].kind, keys["loss"].default) == ("losses", "grpo")
    assert keys["rewards.NAME.use"].default == "needed"
    assert keys["rewards.NAME.scale"].type == "[number, number] or null"
    assert keys["run.folder"].type == "path or null"
    assert {key.kind for key in keys.values()} - {None} == set(COMPONENT_KINDS.values())


def test_types_in_words() -> None:
    assert type_text({"type": "integer", "minimum": 1, "maximum": 10**9}) == "whole number, at least 1"
    assert type_text({"type": "array", "items": {"type": "string"}}) == "list of text"


@pytest.mark.parametrize("kind", BUILT_IN)
def test_every_component_has_a_card(kind: str) -> None:
    for name in BUILT_IN[kind]:
        one = card(kind, name)
        source = read_source(kind, name)
        options = source.options() if source else None
        assert one.doc, name
        assert one.options is None or options is None or [o.name for o in one.options] == list(options.takes)


def test_the_options_of_a_component() -> None:
    options = {one.name: one for one in card("rewards", "geneval").options or ()}
    assert (options["grading"].type, options["grading"].default) == ("strict or graded", '"strict"')
    assert (options["colors"].type, options["colors"].default) == ("str or null", "null")
    assert {one.name: one.default for one in card("prompts", "jsonl").options or ()}["path"] == "needed"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("train.lr", ["train.lr: Peak learning rate of AdamW.", "default  0.0001"]),
        ("train", ["train: Optimisation of the language model;", "train.zero_stage"]),
        ("loss", ["loss: ", "dapo (losses)", "clip_high"]),
        ("loss.options.clip_low", ["loss: ", "clip_low"]),
        ("rewards", ["rewards.NAME.weight", "ocr (rewards)"]),
        ("rewards.mine.weight", ["rewards.NAME.weight: Factor"]),
        ("rewards.mine.options.side", ["rewards: ", "side "]),
        ("ocr", ["ocr (rewards)", "grading"]),
        ("rewards.ocr", ["ocr (rewards)", "grading"]),
        ("owlv2", ["owlv2 (detectors)"]),
    ],
)
def test_one_key(key: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([key]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words), out


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(key.name in listed for key in all_keys() if key.name not in Config.model_fields)
    assert main(["trian.lr"]) == 2
    assert capsys.readouterr().err == (
        "error: there is no key 'trian.lr', did you mean 'train.lr'? (python -m rl.keys lists them)\n"
    )
    assert main(["--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "A run of easel-rl"
    with pytest.raises(SystemExit):
        main(["train.lr", "--schema"])


def test_the_steps_of_each_phase_have_their_own_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule.decoder.steps"]) == 0
    assert capsys.readouterr().out.startswith(
        "schedule.decoder.steps: ``alternate``: in how many steps in a row the decoder learns, 1 if not given; not for "
        "``after``, where it has the rest of the run.\n"
    )
    assert main(["schedule.ar.steps"]) == 0
    assert "the language model learns, 1 if not given; ``after``: in how many" in capsys.readouterr().out
