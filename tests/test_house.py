"""The house keeps its shape: small rooms, imports downwards, one owner per name, one table of components."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from rl.config.schema import COMPONENT_KINDS
from rl.registry import BUILT_IN

ROOT = Path(__file__).parents[1]
PACKAGES = ("rl", "rewards", "policy", "rollout")
TOP = {"pyproject.toml", "README.md", "rl", "rewards", "policy", "rollout", "configs", "examples", "tests"}
ALSO = {"LICENSE", "Makefile", "CONTRIBUTING.md"}
MOST_MODULES, MOST_LINES = 15, 400


def modules(*packages: str) -> Iterator[tuple[Path, ast.Module]]:
    for package in packages:
        for file in sorted((ROOT / package).rglob("*.py")):
            yield file.relative_to(ROOT), ast.parse(file.read_text(encoding="utf-8"))


def test_the_top_level_is_the_data_flow() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not tracked:
        pytest.skip("not a git checkout")
    found = {line.partition("/")[0] for line in tracked.splitlines() if not line.startswith(".")}
    assert found == TOP | ALSO


@pytest.mark.parametrize("package", [*PACKAGES, "tests"])
def test_no_folder_holds_more_modules_than_one_can_look_over(package: str) -> None:
    held: dict[Path, int] = defaultdict(int)
    for file, _ in modules(package):
        held[file.parent] += file.name not in ("__init__.py", "__main__.py")
    assert {str(folder): count for folder, count in held.items() if count > MOST_MODULES} == {}


def test_files_are_small() -> None:
    long = {str(file): count for file, _ in modules(*PACKAGES) if (count := len(_lines(file))) > MOST_LINES}
    assert long == {}


def _lines(file: Path) -> list[str]:
    return (ROOT / file).read_text(encoding="utf-8").splitlines()


def test_no_two_public_classes_have_one_name() -> None:
    owners: dict[str, list[str]] = defaultdict(list)
    for file, tree in modules(*PACKAGES):
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                owners[node.name].append(str(file))
    assert {name: files for name, files in owners.items() if len(files) > 1} == {}


def test_nobody_but_the_registry_knows_a_component_by_name() -> None:
    """``config.loss.use == "reinforce"`` is how an if-chain starts: a component declares what it needs instead."""
    found = [
        f"{file}:{node.lineno}"
        for file, tree in modules(*PACKAGES)
        if file != Path("rl/registry.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and any(_is_use(side) for side in (node.left, *node.comparators))
    ]
    assert found == []


def _is_use(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "use"


def test_rooms_that_serve_all_rewards_and_algorithms_name_none() -> None:
    """Configuration, data, doctor, preflight and keys read what components declare."""
    names = {name for kind in ("rewards", "detectors", "losses", "advantages", "kls") for name in BUILT_IN[kind]}
    names -= {"trl"}  # a package that the doctor looks for, too
    rooms = [ROOT / "rl/config/rules.py", ROOT / "rl/config/declared.py", ROOT / "rl/data/stream.py"]
    rooms += [file for room in ("doctor", "preflight", "keys") for file in sorted((ROOT / "rl" / room).glob("*.py"))]
    found = {
        f"{file.relative_to(ROOT)}:{node.lineno}": node.value
        for file in rooms
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert found == {}


def test_every_kind_of_component_has_a_table() -> None:
    assert set(COMPONENT_KINDS.values()) <= set(BUILT_IN)


def test_no_import_points_upwards() -> None:
    """``make lint`` runs the same contracts; here they also fail a plain ``make test``."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


# One prompt on its way to its score: each file with the call that leads on, and where that call goes.
WALK = [
    ("rl/collect.py", "sampler.sample(", "rollout/samplers/base.py", "def sample("),
    ("rollout/samplers/base.py", "self.encode(prompt)", "policy/prompt.py", "def __call__(self, prompt"),
    ("rollout/samplers/base.py", "self._sample(", "rollout/samplers/vllm_sampler.py", "def _sample("),
    ("rl/collect.py", "painted(", "rollout/render.py", "def painted("),
    ("rollout/render.py", "painter.paint(", "policy/decoder.py", "def paint("),
    ("rl/collect.py", "rewards.submit(", "rewards/pool/pool.py", "def submit("),
    ("rewards/pool/pool.py", ".put(call)", "rewards/pool/queue.py", "def put(self, call"),
    ("rewards/pool/queue.py", "worker.score(call", "rewards/pool/worker_handle.py", "def score(self, call"),
    ("rewards/pool/worker_handle.py", "WorkerRequest(", "rewards/pool/worker.py", "request: WorkerRequest"),
    (
        "rewards/pool/worker.py",
        "self._reward(samples)",
        "rewards/library/geneval/reward.py",
        "def __call__(self, samples",
    ),
]


def test_one_prompt_is_followed_to_its_score_through_eleven_files() -> None:
    files = {WALK[0][0]}
    for file, call, following, definition in WALK:
        assert file in files, f"the walk has not come to {file} yet"
        assert call in (ROOT / file).read_text(encoding="utf-8"), f"{file} does not call {call}"
        assert definition in (ROOT / following).read_text(encoding="utf-8"), f"{following} has no {definition}"
        files.add(following)
    assert len(files) <= 11


COMMANDS = (
    *("rl.launch", "rl.report", "rl.sweep", "rl.doctor", "rl.keys", "rl.check", "rl.evaluate", "rl.variance"),
    *("rl.push", "rl.bench", "rl.simulate"),
    *("rewards.check", "rewards.score", "rewards.serve", "rewards.bench", "rewards.geneval"),
    *("policy.paint", "policy.edit", "policy.convert", "policy.shapes.pretrain", "rollout.bench"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_public_command_is_where_it_was(command: str) -> None:
    module = importlib.util.find_spec(command)
    assert module is not None
    name = f"{command}.__main__" if module.submodule_search_locations else command
    assert importlib.util.find_spec(name) is not None, f"python -m {command} has nothing to run"


def test_links_in_the_documents_lead_somewhere() -> None:
    lost = [
        f"{file.relative_to(ROOT)}: {link}"
        for file in sorted(ROOT.rglob("*.md"))
        if not any(part.startswith(".") for part in file.relative_to(ROOT).parts)
        for link in re.findall(r"\]\(([^)#\s]+)", file.read_text(encoding="utf-8"))
        if "://" not in link and not (file.parent / link).exists()
    ]
    assert lost == []
