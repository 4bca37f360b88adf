"""Pictures per second of rewards alone and in the pool, and what the pool costs: ``python -m rewards.bench``.

``--reward NAME`` or ``--reward 'ocr={"detect": false}'`` (repeatable; default geneval and ocr) is measured in a plain
loop in this process, then in a pool of one and of two workers. The second table compares the plain loop with the
pool for a reward that sleeps ``--cost-ms`` per picture, for several sizes of pictures: what is left is the pool's own
cost. Of ``--repeats`` runs the fastest counts, the first one warms up.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rewards.base import normalise
from rewards.batches import batches_by_group
from rewards.load import load_reward
from rewards.needs import settle_needs
from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent, RewardPoolConfig
from rl.process.command import command
from rl.process.parser import CommandParser
from rl.types import Prompt, Sample, Score, UserError

GROUP = 8
SIZES = (64, 512, 1024)
SLEEPER = "rewards.bench:costs"


@dataclass(frozen=True)
class Rate:
    """One reward: pictures per second in a plain loop, and in a pool with each number of workers."""

    reward: str
    alone: float
    pool: dict[int, float]


@dataclass(frozen=True)
class Overhead:
    """Seconds for ``pictures`` of ``size`` px that cost ``cost_ms`` each, in a plain loop and in a pool of one."""

    size: int
    pictures: int
    cost_ms: float
    plain_s: float
    pool_s: float

    @property
    def share(self) -> float:
        return self.pool_s / self.plain_s - 1


def costs(samples: Sequence[Sample], *, ms: float = 5.0) -> list[float]:
    """A reward that takes ``ms`` per picture and no CPU."""
    for _ in samples:
        time.sleep(ms / 1000)
    return [1.0] * len(samples)


def samples(count: int, size: int) -> list[Sample]:
    """Groups of eight: a word and a red disc at places that differ, with what ``ocr`` and ``geneval`` ask for."""
    metadata = {"tag": "single_object", "include": [{"class": "circle", "count": 1}], "text": "HELLO"}
    return [
        Sample(f"s{i}", f"g{i // GROUP}", Prompt(f"p{i // GROUP}", "HELLO and a circle", metadata), _picture(i, size))
        for i in range(count)
    ]


def _picture(index: int, size: int) -> np.ndarray:
    image = Image.new("RGB", (size, size), (240, 240, 240))
    draw = ImageDraw.Draw(image)
    draw.text((2 + index % 8, 2), "HELLO", fill=(0, 0, 0), font_size=size // 4)
    x, y = size // 2 + index % 4, size // 2 + index % 5
    draw.ellipse((x, y, x + size // 4, y + size // 4), fill=(220, 30, 30))
    return np.asarray(image)


def rate(name: str, reward: RewardComponent, asked: Sequence[Sample], repeats: int) -> Rate:
    """Raises ``UserError`` if the reward fails on the pictures: the speed of failing is of no interest."""
    in_pool = {}
    for workers in (1, 2):
        shared = reward.model_copy(update={"workers": workers})
        with RewardPool({name: shared}, RewardPoolConfig(timeout_s=600)) as pool:
            in_pool[workers] = len(asked) / _fastest(lambda: pool.score(asked)[name], name, repeats)
    return Rate(name, len(asked) / _fastest(_plain_loop(name, reward, asked), name, repeats), in_pool)


def overhead(size: int, count: int, cost_ms: float, repeats: int) -> Overhead:
    """The pool against the plain loop, one right after the other."""
    asked, reward = samples(count, size), RewardComponent(use=SLEEPER, options={"ms": cost_ms})
    plain_s = _fastest(_plain_loop("sleeper", reward, asked), "sleeper", repeats)
    with RewardPool({"sleeper": reward}) as pool:
        pool_s = _fastest(lambda: pool.score(asked)["sleeper"], "sleeper", repeats)
    return Overhead(size, count, cost_ms, plain_s, pool_s)


def _plain_loop(name: str, reward: RewardComponent, asked: Sequence[Sample]) -> Callable[[], list[Score]]:
    needs, _ = settle_needs(name, reward)
    call = load_reward(name, reward.use, reward.options, probe=reward.probe)
    batches = [[asked[index] for index in batch] for batch in batches_by_group(asked, needs.batch_size)]
    return lambda: [score for batch in batches for score in normalise(call(batch), batch)]


def _fastest(call: Callable[[], list[Score]], name: str, repeats: int) -> float:
    seconds = []
    for _ in range(1 + repeats):
        began = time.perf_counter()
        found = call()
        seconds.append(time.perf_counter() - began)
        reasons = [score.failure for score in found if score.failure is not None]
        if reasons:
            raise UserError(f"{name} failed on {len(reasons)} of {len(found)} pictures: {reasons[0]}")
    return min(seconds[1:])


def parse_reward(text: str) -> tuple[str, RewardComponent]:
    """``ocr`` or ``ocr={"detect": false}``."""
    use, _, written = text.partition("=")
    try:
        options = json.loads(written or "{}")
    except ValueError as error:
        raise UserError(f"--reward {text!r}: what follows '=' is not JSON ({error})") from error
    if not use:
        raise UserError(f'--reward {text!r}: no reward is named; write for example ocr={{"detect": false}}')
    if not isinstance(options, dict):
        raise UserError(f"--reward {text!r}: what follows '=' must be a JSON object of options")
    return use, RewardComponent(use=use, options=options)


def show(rates: Sequence[Rate], overheads: Sequence[Overhead]) -> None:
    console = Console()
    if rates:
        table = Table(title="pictures per second")
        for column in ("reward", "alone", "pool, 1 worker", "pool, 2 workers"):
            table.add_column(column, justify="left" if column == "reward" else "right")
        for one in rates:
            table.add_row(escape(one.reward), *(f"{value:.1f}" for value in (one.alone, *one.pool.values())))
        console.print(table)
    table = Table(title="cost of the pool")
    for column in ("picture", "pictures", "reward", "plain loop", "pool, 1 worker", "overhead"):
        table.add_column(column, justify="right")
    for each in overheads:
        seconds = (f"{value:.3f} s" for value in (each.plain_s, each.pool_s))
        table.add_row(f"{each.size} px", str(each.pictures), f"{each.cost_ms:g} ms", *seconds, f"{each.share:+.1%}")
    console.print(table)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m rewards.bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--reward", action="append", help="a reward, with its options as JSON after '='")
    parser.add_argument("--pictures", type=int, default=128, help="pictures per run (128)")
    parser.add_argument("--size", type=int, default=64, help="side of the rewards' pictures in pixels (64)")
    parser.add_argument("--cost-ms", type=float, default=5.0, help="cost of a picture in the second table (5)")
    parser.add_argument("--repeats", type=int, default=3, help="runs after the first (3)")
    parser.add_argument("--json", help="write the figures to this file as well")
    given = parser.parse_args(arguments)
    wanted = [(text, *parse_reward(text)) for text in given.reward or ("geneval", "ocr")]
    asked = samples(given.pictures, given.size)
    rates = [replace(rate(name, reward, asked, given.repeats), reward=text) for text, name, reward in wanted]
    overheads = [overhead(size, given.pictures, given.cost_ms, given.repeats) for size in SIZES]
    show(rates, overheads)
    if given.json:
        rows = {
            "cpus": os.cpu_count(),
            "rates": [asdict(one) for one in rates],
            "overheads": [{**asdict(one), "share": one.share} for one in overheads],
        }
        Path(given.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
