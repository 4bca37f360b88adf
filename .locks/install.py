"""Makes the virtual environment from the pinned list of one extra. Standard library only; called by the Makefile.

torch comes first and by pip: its CPU build lives where pip is configured to look, or on PyTorch's own index. All the
rest is a complete list, so nothing is resolved (``--no-deps``): torchvision, which vLLM and open_clip name as a
requirement and which breaks CPU torch, stays out. uv does the work; pip is the fallback where uv cannot.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = "uv==0.13.9"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
ALWAYS = ("clip", "ocr-offline", "dev")  # extras that stand in both lists
NEEDED_GB = {"cpu": 6, "gpu": 16}
# What a run imports before its first step. uv leaves bytecode to the first import, so the first run, or under
# PYTHONDONTWRITEBYTECODE every run, would compile 2300 files: 4 s of a start.
FIRST_IMPORTS = """
import os, sys
sys.dont_write_bytecode = False
os.environ["DS_ACCELERATOR"] = "cpu"
import rl.loop, rl.start, rewards.pool.worker, rewards.library.geneval.reward, rollout.samplers.torch_sampler
import deepspeed, accelerate.tracking, torch.utils.tensorboard
"""


class SetupError(Exception):
    """One sentence for the user; details are in the log."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["install", "lock"])
    parser.add_argument("--extra", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    arguments = parser.parse_args(argv)
    try:
        if arguments.action == "lock":
            lock(Path(sys.executable))
        else:
            Installer(arguments.venv.absolute(), arguments.extra).run()
    except SetupError as error:
        print(f"set-up stopped: {error}", file=sys.stderr)
        return 1
    return 0


class Installer:
    """One environment, one extra. Every command's output goes to ``setup.log`` inside the environment."""

    def __init__(self, venv: Path, extra: str) -> None:
        self.venv, self.extra = venv, extra
        self.python = venv / "bin" / "python"
        self.log = venv / "setup.log"

    def run(self) -> None:
        started = time.monotonic()
        print(f"setting up {self.venv} from .locks/{self.extra}.txt (first use only)", flush=True)
        self.make_venv()
        self.log.write_text("")
        self.get_uv()
        self.get_torch()
        self.get_pinned()
        self.step("easel-rl itself", [*self.pip(), "install", "--no-deps", "--no-build-isolation", "-e", str(ROOT)])
        self.attempt("bytecode of what a run imports", [str(self.python), "-c", FIRST_IMPORTS])
        (self.venv / f".ready-{self.extra}").touch()
        print(f"set-up done in {time.monotonic() - started:.0f} s", flush=True)

    def make_venv(self) -> None:
        """Creates the environment, or keeps one whose Python and pip still answer and that holds no other extra."""
        other = [path for path in self.venv.glob(".ready-*") if path.name != f".ready-{self.extra}"]
        usable = self.python.exists() and quiet([str(self.python), "-m", "pip", "--version"])
        if usable and not other:
            return
        if self.venv.exists() and not (self.venv / "pyvenv.cfg").exists() and any(self.venv.iterdir()):
            raise SetupError(
                f"{self.venv} exists and is not a virtual environment: move it away or name another, VENV=..."
            )
        existing = self.venv if self.venv.exists() else self.venv.parent
        free_gb = shutil.disk_usage(existing if existing.exists() else ROOT).free / 1e9
        if free_gb < NEEDED_GB[self.extra]:
            raise SetupError(
                f"{self.venv} needs about {NEEDED_GB[self.extra]} GB of disk and {free_gb:.1f} GB are free."
            )
        command = [sys.executable, "-m", "venv", "--clear", str(self.venv)]
        if quiet(command):
            return
        # Debian ships venv without ensurepip: make it without pip and let the outer pip put one in.
        if quiet([*command, "--without-pip"]) and quiet(
            [sys.executable, "-m", "pip", "--python", str(self.python), "install", "pip"]
        ):
            return
        raise SetupError(
            f"{sys.executable} cannot make a virtual environment: install its venv module (on Debian and Ubuntu: "
            "apt install python3-venv), then run the same command again."
        )

    def get_uv(self) -> None:
        """The first fetch: if this fails nothing else can be fetched either, so it decides 'no index answers'."""
        if installed_version(self.python, "uv") == UV.partition("==")[2]:
            return
        if not self.attempt("uv", [*self.pip(), "install", "--retries", "1", "--timeout", "20", UV]):
            raise SetupError(
                f"no package index answered (pip could not fetch {UV}): check the network, the proxy (HTTPS_PROXY) and "
                f"`pip config list`, then run the same command again; pip's own words are in {self.log}."
            )

    def get_torch(self) -> None:
        wanted = torch_pin(self.extra)
        version = wanted.partition("==")[2]
        if installed_version(self.python, "torch") == version:
            return
        command = [*self.pip(), "install", "--no-deps", "--retries", "1", wanted]
        if self.attempt(f"torch {version}", command):
            return
        if self.extra == "cpu" and self.attempt(
            f"torch {version} from PyTorch's index", [*command, "--timeout", "20", "--index-url", TORCH_CPU_INDEX]
        ):
            return
        raise SetupError(
            f"no wheel of {wanted} could be fetched for this Python and machine (tried where pip looks"
            f"{f', and on {TORCH_CPU_INDEX}' if self.extra == 'cpu' else ''}): put the wheel into a folder "
            f"and run again with PIP_FIND_LINKS=folder; pip's own words are in {self.log}."
        )

    def get_pinned(self) -> None:
        """All pins in one go; torch's line is satisfied already and left out, its wheel may be in no index."""
        pins = self.venv / "pins.txt"
        pins.write_text("".join(line for line in lock_lines(self.extra) if not line.startswith("torch==")))
        arguments = ["install", "--no-deps", "-r", str(pins)]
        uv = [str(self.venv / "bin" / "uv"), "pip", "--quiet"]
        uv_install = [*uv, *arguments, "--python", str(self.python), *uv_sources(self.pip_config())]
        if not self.attempt("the pinned set (uv)", uv_install):
            self.step("the pinned set (pip)", [*self.pip(), *arguments, "--retries", "1"])

    def pip(self) -> list[str]:
        return [str(self.python), "-m", "pip", "--disable-pip-version-check", "--no-input"]

    def pip_config(self) -> dict[str, list[str]]:
        return parse_pip_config(output_of([*self.pip(), "config", "list"]))

    def step(self, what: str, command: list[str]) -> None:
        if not self.attempt(what, command):
            tail = " ".join(self.log.read_text().strip().splitlines()[-1:])
            raise SetupError(f"installing {what} failed, the whole output is in {self.log}; its last line: {tail}")

    def attempt(self, what: str, command: list[str]) -> bool:
        started = time.monotonic()
        print(f"  {what} ...", end=" ", flush=True)
        with self.log.open("a") as log:
            log.write(f"\n$ {shlex.join(command)}\n")
            log.flush()
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, check=False).returncode == 0
        print(f"{time.monotonic() - started:.0f} s" if done else "not there", flush=True)
        return done


def lock_lines(extra: str) -> list[str]:
    return (ROOT / ".locks" / f"{extra}.txt").read_text().splitlines(keepends=True)


def torch_pin(extra: str) -> str:
    """``torch==2.13.0+cpu``: the CPU lock also has a line for systems without CPU wheels of that name; not this one."""
    pins = [line.partition(";")[0].strip() for line in lock_lines(extra) if line.startswith("torch==")]
    return max(pins, key=lambda pin: "+" in pin)


def parse_pip_config(listing: str) -> dict[str, list[str]]:
    """``pip config list`` -> index-url, extra-index-url, find-links; later lines (environment) win, as for pip."""
    found: dict[str, list[str]] = {}
    # pip prints the environment first; for pip it has the last word.
    lines = sorted(listing.splitlines(), key=lambda line: line.startswith(":env:"))
    for line in lines:
        match = re.match(r"(?:global|install|:env:)\.(index-url|extra-index-url|find-links)='(.*)'$", line.strip())
        if match:
            found[match[1]] = match[2].replace("\\n", " ").split()
    return found


def uv_sources(config: dict[str, list[str]]) -> list[str]:
    """uv does not read pip's configuration: the same places as options, all equal, since every version is pinned."""
    options = [part for url in config.get("index-url", [])[:1] for part in ("--default-index", url)]
    options += [part for url in config.get("extra-index-url", []) for part in ("--index", url)]
    options += [part for place in config.get("find-links", []) for part in ("--find-links", place)]
    return [*options, "--index-strategy", "unsafe-best-match"] if options else []


def lock(python: Path) -> None:
    """Compiles both lists anew, with markers for every system and for Python 3.11 to 3.13 (``--universal``)."""
    uv = python.parent / "uv"
    links = parse_pip_config(output_of([str(python), "-m", "pip", "config", "list"])).get("find-links")
    places = links or [f"{TORCH_CPU_INDEX}/torch/"]
    common = [
        "--universal",
        "--python-version",
        "3.11",
        "--custom-compile-command",
        "make lock",
        "--quiet",
        "--upgrade",
    ]
    options = {
        "cpu": [part for place in places for part in ("--find-links", place)],
        "gpu": ["--no-config", "--excludes", ".locks/exclude-gpu.txt"],
    }
    for extra, more in options.items():
        target = f".locks/{extra}.txt"
        extras = [part for name in (extra, *ALWAYS) for part in ("--extra", name)]
        command = [str(uv), "pip", "compile", "pyproject.toml", *extras, "-o", target]
        if subprocess.run([*command, *common, *more], cwd=ROOT, check=False).returncode:
            raise SetupError(f"{target} could not be compiled; uv's words are above.")
        print(f"{target}: {sum('==' in line for line in lock_lines(extra))} pins")


def installed_version(python: Path, name: str) -> str | None:
    code = f"from importlib.metadata import version; print(version({name!r}))"
    return output_of([str(python), "-c", code]).strip() or None


def output_of(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def quiet(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
