"""Every command tells a mistake in the same way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from rl.process.command import command
from rl.process.parser import CommandParser
from rl.types import UserError

ROOT = Path(__file__).parents[3]
COMMANDS = (
    *(
        "rl/bench/__main__",
        "rl/report/__main__",
        "rl/sweep/__main__",
        "rl/doctor/__main__",
        *("policy/paint", "rl/check/__main__"),
        "policy/shapes/pretrain/__main__",
    ),
    *("rollout/bench", "rewards/bench", "rewards/geneval"),
    *("rewards/check/__main__", "rewards/score/__main__", "rewards/serve/__main__"),
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_told_in_one_way(name: str) -> None:
    tree = ast.parse((ROOT / f"{name}.py").read_text(encoding="utf-8"))
    (main,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    assert [ast.unparse(one) for one in main.decorator_list] == ["command"]
    beside = (ROOT / name).with_name("arguments.py")  # where a command has many
    text = ast.unparse(tree) + (beside.read_text(encoding="utf-8") if beside.is_file() else "")
    assert "CommandParser(" in text
    assert "argparse.ArgumentParser(" not in text


def test_mistakes_and_interruptions(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def main(ending: BaseException | None = None) -> int:
        if ending is not None:
            raise ending
        return 3

    assert main() == 3
    assert main(UserError("--out: there is a file; name another")) == 2
    assert capsys.readouterr().err == "error: --out: there is a file; name another\n"
    assert main(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"
    with pytest.raises(ZeroDivisionError):  # a fault of ours keeps its traceback
        main(ZeroDivisionError())


def test_wrong_arguments_are_told_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser(prog="python -m rl.any")
    parser.add_argument("--count", type=int)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--count", "many"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: argument --count: invalid int value: 'many'"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    code = (
        "import sys\nfrom rl.process.command import command\n@command\ndef main():\n"
        "    for line in range(10**6): print(line)\n    return 0\nsys.exit(main())"
    )
    reading = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert reading.stdout is not None and reading.stderr is not None
    reading.stdout.readline()
    reading.stdout.close()
    assert (reading.wait(), reading.stderr.read()) == (141, b"")
    reading.stderr.close()
