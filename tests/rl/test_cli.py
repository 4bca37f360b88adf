from __future__ import annotations

import sys
from importlib.metadata import entry_points

import pytest

from rl.cli import COMMANDS, available, main


@pytest.fixture(autouse=True)
def own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["easel"])  # a command sets it for the module that it runs


@pytest.mark.parametrize("given", [[], ["--help"], ["-h"], ["help"]])
def test_alone_it_lists_every_command_with_a_line(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == list(available())
    assert all(len(line) <= 80 and len(line.split()) > 2 for line in lines)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("easel-rl ")


def test_an_unknown_command_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lanch", "x.yaml"]) == 2
    sentence = "error: there is no command 'lanch', did you mean 'launch'? `easel` alone lists them all.\n"
    assert capsys.readouterr().err == sentence


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")  # by other tests
def test_a_command_is_its_module_with_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["launch", "no-such.yaml"])
    assert left.value.code == 2
    assert "no-such.yaml" in capsys.readouterr().err


def test_the_names_lead_where_the_documents_say() -> None:
    modules = {name: module for name, (module, _) in COMMANDS.items()}
    assert (modules["launch"], modules["check"], modules["check-loss"]) == ("rl.launch", "rewards.check", "rl.check")
    assert (modules["paint"], modules["score"], modules["serve"]) == ("policy.paint", "rewards.score", "rewards.serve")
    assert len(set(modules.values())) == len(modules)


def test_the_installed_command_is_this_one() -> None:
    installed = [point.value for point in entry_points(group="console_scripts", name="easel")]
    if not installed:
        pytest.skip("easel-rl is not installed here")
    assert set(installed) == {"rl.cli:main"}
