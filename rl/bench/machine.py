"""The machine of a bench, in one line."""

from __future__ import annotations

from pathlib import Path

from rl.run_folder.environment import describe_environment

_BF16 = ("amx_bf16", "avx512_bf16", "bf16")
"""Flags of /proc/cpuinfo: x86 with tiles, x86 with vectors, ARM."""


def describe_machine() -> str:
    """``AMD EPYC, 2 cores, torch 2.13.0, trl 1.16.0; bf16 instructions: avx512_bf16``."""
    found = describe_environment([])
    versions = [f"{name} {found['versions'].get(name, 'missing')}" for name in ("torch", "trl")]
    bf16 = ", ".join(bf16_instructions(_flags())) or "none"
    return f"{found['cpu']}, {found['cores']} cores, {', '.join(versions)}; bf16 instructions: {bf16}"


def bf16_instructions(flags: str) -> list[str]:
    return [name for name in _BF16 if name in flags.split()]


def _flags() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return ""
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
