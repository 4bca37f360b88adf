"""Seconds, memory and arithmetic of BLIP3o-NEXT's training on this GPU, with random weights of its shapes.

    python examples/blip3o_next/measure.py                     # ends after 7.5 minutes at most; needs no network
    python examples/blip3o_next/measure.py --small             # the same on a CPU in a minute, with a tiny policy

It needs torch, transformers, diffusers, deepspeed, accelerate, safetensors, tokenizers, numpy, pillow, pydantic,
pyyaml, psutil, rich and scipy; peft for LoRA, and vLLM only if it is to sample. On an H100 it has run in parts, never
whole.

The recipe of ``geneval.yaml`` with few prompts, a reward that costs nothing, and two steps a variant. The first warms
up, the last one counts. It prints a table and writes all figures as JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RECIPE = HERE / "geneval.yaml"
STAGES = ("sample", "paint", "forward", "guards", "score", "update", "decoder", "sync")
_WITHOUT_COST = (  # a reward of pixels, nothing evaluated, shown or saved
    *("rewards.geneval=null", "rewards.bright.use=examples.custom_reward.bright:bright", "data.eval=null"),
    *("tracking.console=off", "tracking.to=[]", "rollout.engine=auto", "train.ranks=1"),
)
_SMALL = ("data.prompts_per_step=2", "rollout.group_size=2", "render.steps=4", "train.micro_batch=2")


_DECODER = (  # 2 token sequences of a prompt for 16 pictures, painted in 10 steps without guidance
    *("trainers=[decoder]", "kl=null", "anchor=null", "rollout.group_size=2", "render.renders=8", "render.guidance=1"),
    *("render.steps=10", "decoder.lora.rank=32", "decoder.lr=1e-4", "decoder.micro_batch=16", "eval.parts=0"),
    *("decoder.dtype=bfloat16", "decoder.zero_stage=1"),
)
_TRAINED: Mapping[str, tuple[str, ...]] = {  # what learns, as overrides of the recipe
    "full": (),
    "lora": ("train.lora.rank=32",),
    "nft": (*_DECODER, "decoder.loss=nft", "decoder.timesteps=3"),
    "flow_grpo": (*_DECODER, "decoder.loss=flow_grpo", "render.sampler={use: cps, options: {window: 2, eta: 0.7}}"),
}
_TITLES = {"lora": "LoRA", "nft": "decoder, LoRA, NFT", "flow_grpo": "decoder, LoRA, Flow-GRPO"}


@dataclass(frozen=True)
class Variant:
    policy: str
    pixels: int
    trained: str
    """One of ``_TRAINED``."""

    @property
    def title(self) -> str:
        return f"{self.policy}, {self.pixels} px, {_TITLES.get(self.trained, self.trained)}"


@dataclass(frozen=True)
class Device:
    """What the figures are measured against: dense bfloat16 FLOP/s and bytes/s by the data sheet; None: unknown."""

    name: str
    flops: float | None
    bandwidth: float | None


_MASKLESS = "flash_attention"
_SHEETS = {  # the first whose name is in the device's
    "H200": (989e12, 4.8e12),
    "H100 NVL": (835e12, 3.9e12),
    "H100 PCIe": (756e12, 2.0e12),
    "H100": (989e12, 3.35e12),
    "A100": (312e12, 2.0e12),
}


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    began = time.monotonic()
    given.deadline = began + given.seconds + 60
    with tempfile.TemporaryDirectory(prefix="easel-measure-", dir=given.folder) as folder:
        found = _measured(given, Path(folder), began)
    print("\n" + report(found))
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"\n{given.out}: all figures; {time.monotonic() - began:.0f} s in all")
    return 1 if any("failed" in one for one in (*found["variants"], *found["decoding"])) else 0


def _measured(given: argparse.Namespace, folder: Path, began: float) -> dict[str, Any]:
    from random_policy import SIZES, make_policy, set_pixels

    device, on = _device()
    found: dict[str, Any] = {"device": asdict(device), "torch": _torch_version(), "variants": [], "decoding": []}
    for name in ["small"] if given.small else given.policy:
        policy, made = folder / name, time.monotonic()
        make_policy(policy, SIZES[name], device=on)
        print(f"{name}: random weights written in {time.monotonic() - made:.0f} s", flush=True)
        if not given.only_steps:
            for how in [[]] if given.small else [[], ["compiled"]]:
                title = ", ".join([name, *how])
                found["decoding"].append({"policy": title, **_decoding(policy, how, given, folder)})
                print(f"decoding, {title}: {found['decoding'][-1].get('failed') or 'measured'}", flush=True)
        if given.only_decoding:
            continue
        for variant in _variants(name, given):
            if why := _left_out(variant, time.monotonic() - began, given.seconds):
                found["variants"].append({**asdict(variant), "left_out": why})
                continue
            set_pixels(policy, variant.pixels)
            taken = _steps(variant, policy, given, folder)
            found["variants"].append({**asdict(variant), **taken})
            print(f"{variant.title}: {taken.get('failed') or 'measured'}", flush=True)
    return found


def _variants(policy: str, given: argparse.Namespace) -> Iterator[Variant]:
    for pixels, how in product([64] if given.small else given.pixels, given.trained):
        yield Variant(policy, pixels, how)


def _left_out(variant: Variant, elapsed: float, most: float) -> str | None:
    if variant.trained != "full" and importlib.util.find_spec("peft") is None:
        return "peft is not installed"
    return f"{most} s were over" if elapsed > most else None


def _steps(variant: Variant, policy: Path, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One process, so that no variant finds the memory of another; ``failed`` says why there are no figures."""
    name = f"{variant.policy}-{variant.pixels}-{variant.trained}"
    overrides = [f"policy.path={policy}", f"run.folder={folder / 'runs' / name}", f"train.steps={given.steps}"]
    overrides += [*_WITHOUT_COST, f"data.prompts_per_step={given.prompts}"]
    overrides += [*_TRAINED[variant.trained], *(_SMALL if given.small else ())]
    return _child("one_variant.py", [str(RECIPE), str(given.steps)], [*overrides, *given.overrides], folder, given)


def _decoding(policy: Path, how: list[str], given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    batch = 4 if given.small else given.batch
    return _child("decoding_speed.py", [str(policy), str(batch)], how, folder, given)


def _child(
    script: str, words: Sequence[str], last: Sequence[str], folder: Path, given: argparse.Namespace
) -> dict[str, Any]:
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / script), *words, str(answer), *last]
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            timeout=max(given.deadline - time.monotonic(), 10),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done {given.seconds + 60} s after the start of all"}
    if done.returncode or not answer.is_file():
        print(done.stderr[-4000:], file=sys.stderr)
        return {"failed": (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:300]}
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def _device() -> tuple[Device, str]:
    """And where random numbers are drawn."""
    import torch

    if not torch.cuda.is_available():
        return Device("CPU", None, None), "cpu"
    name = torch.cuda.get_device_name()
    flops, bandwidth = next((sheet for known, sheet in _SHEETS.items() if known in name), (None, None))
    return Device(name, flops, bandwidth), "cuda"


def _torch_version() -> str:
    import torch

    return str(torch.__version__)


def report(found: Mapping[str, Any]) -> str:
    """Two tables in Markdown."""
    device = found["device"]
    lines = [f"{device['name']}, torch {found['torch']}", ""]
    if found["variants"]:
        head = ["variant", "pictures", *STAGES, "step, s", "first step, s", "peak, GB", "estimate, GB"]
        lines += _table(
            [*head, "MFU of paint", "MFU of update", "sync, %"],
            [_row(one, device["flops"]) for one in found["variants"]],
        )
    if found["decoding"]:
        head = ["decoding", "batch", "eager, ms a step", "replayed, ms a step", "limit, ms", "share of bandwidth"]
        head += ["logits differ by", "a layer's attention with a mask, ms", "without"]
        lines += ["", *_table(head, [_decoding_row(one, device) for one in found["decoding"]])]
    return "\n".join(lines)


def _row(one: Mapping[str, Any], flops: float | None) -> list[str]:
    title = Variant(one["policy"], one["pixels"], one["trained"]).title
    if "steps" not in one:
        return [title, one.get("failed") or f"left out: {one['left_out']}"]
    last, stages = one["steps"][-1], one["steps"][-1]["stages"]
    return [
        title,
        str(one["pictures"]),
        *(f"{stages.get(stage, 0.0):.2f}" for stage in STAGES),
        f"{last['seconds']:.2f}",
        f"{one['steps'][0]['seconds']:.2f}",
        f"{one['peak_bytes'] / 1e9:.1f}",
        f"{one['estimate_bytes'] / 1e9:.1f}",
        _mfu(one["paint_flop"], stages.get("paint"), flops),
        _mfu(one["update_flop"], stages.get("update"), flops),
        f"{100 * stages.get('sync', 0.0) / last['seconds']:.1f}",
    ]


def _mfu(done: float, seconds: float | None, flops: float | None) -> str:
    return f"{done / seconds / flops:.1%}" if flops and seconds else "-"


def _decoding_row(one: Mapping[str, Any], device: Mapping[str, Any]) -> list[str]:
    if "eager_ms" not in one:
        return [one["policy"], one["failed"]]
    limit = one["bytes_a_step"] / device["bandwidth"] * 1e3 if device["bandwidth"] else None
    replayed = one["replayed_ms"]
    return [
        one["policy"],
        str(one["batch"]),
        f"{one['eager_ms']:.2f}",
        f"{replayed:.2f}" if replayed else "-",
        f"{limit:.2f}" if limit else "-",
        f"{limit / replayed:.0%}" if limit and replayed else "-",
        f"{one['difference']:.1e}" if replayed else "-",
        *_attention_cells(one["attention_ms"]),
    ]


def _attention_cells(milliseconds: Mapping[str, float | None]) -> list[str]:
    """By the fastest kernel that takes a mask, and by the one that takes none."""
    without = milliseconds[_MASKLESS]
    masked = [one for name, one in milliseconds.items() if name not in (_MASKLESS, "bytes") and one is not None]
    return [f"{min(masked):.3f}" if masked else "-", f"{without:.3f}" if without is not None else "-"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    filled = [[*row, *[""] * (len(head) - len(row))] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] + ["---:"] * (len(head) - 1), *filled)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("overrides", nargs="*", metavar="key=value", help="on top of every variant, for example train.micro_batch=8")
    add("--policy", nargs="+", choices=["0.6B", "1.7B"], default=["0.6B"], help="size of the language model")
    add("--pixels", nargs="+", type=int, default=[512, 1024], help="side of the pictures, a multiple of 32")
    add("--trained", nargs="+", choices=list(_TRAINED), default=["full", "lora"], help="nft, flow_grpo: the decoder")
    add("--prompts", type=int, default=1, help="a step, with 16 pictures each")
    add("--batch", type=int, default=128, help="samples of the check of decoding")
    add("--steps", type=int, default=2, help="of each variant")
    add("--seconds", type=int, default=390, help="after which no further variant is begun; a minute later all ends")
    add("--out", type=Path, default=Path("measured.json"))
    add("--folder", type=Path, help="for the random weights, 8 GB (default: the temporary one)")
    add("--small", action="store_true", help="a tiny policy, for a CPU")
    add("--only-decoding", action="store_true")
    add("--only-steps", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
