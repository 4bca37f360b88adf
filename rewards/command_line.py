"""The arguments that name rewards on a command line: ``--reward [NAME=]USE --option KEY=VALUE ...``, repeatable."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field

from rl.config.paths import expanded_options
from rl.config.schema import RewardComponent
from rl.config.values import MOST
from rl.config.yaml12 import parse_value
from rl.types import UserError


@dataclass
class NamedReward:
    """One ``--reward`` with the ``--option``s that follow it."""

    name: str
    use: str
    options: dict[str, object] = field(default_factory=dict)


def add_reward_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Adds ``--reward`` (a list of ``NamedReward`` in ``rewards``), ``--option`` and ``--workers``."""
    parser.add_argument(
        "--reward",
        dest="rewards",
        action=_Reward,
        required=required,
        metavar="[NAME=]USE",
        help="a reward: ocr, my_rewards:bright, or with a name of its own: words=ocr",
    )
    parser.add_argument(
        "--option",
        dest="rewards",
        action=_Option,
        metavar="KEY=VALUE",
        help="an option of the --reward before it; read as in YAML: grading=exact, side=256",
    )
    parser.add_argument("--workers", type=positive_int, default=1, metavar="N", help="processes per reward (default 1)")


def named_components(given: Sequence[NamedReward], workers: int) -> dict[str, RewardComponent]:
    """Components by name. Raises ``UserError`` if two rewards have the same name."""
    components: dict[str, RewardComponent] = {}
    for reward in given:
        if reward.name in components:
            raise UserError(
                f"--reward: two rewards are called {reward.name!r}; name one otherwise: --reward other={reward.use}"
            )
        components[reward.name] = RewardComponent(use=reward.use, options=reward.options, workers=workers)
    return components


def positive_int(text: str) -> int:
    """For ``type=``: a whole number from 1."""
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    if int(text) > MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {MOST:,}")
    return int(text)


def positive_float(text: str) -> float:
    """For ``type=``: a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


class _Reward(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        text = str(values)
        name, equals, use = text.partition("=")
        if not equals:
            name, use = text.rpartition(":")[2], text
        if not name or not use:
            parser.error(f"--reward {values}: must read USE or NAME=USE, for example ocr or words=ocr")
        namespace.rewards = [*(namespace.rewards or []), NamedReward(name, use)]


class _Option(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        if not namespace.rewards:
            parser.error(f"--option {values}: must come after the --reward that it belongs to")
        try:
            key, value = parse_option(str(values))
        except UserError as error:
            parser.error(str(error))
        options = namespace.rewards[-1].options
        if key in options:
            parser.error(f"--option {values}: {key} is given twice for {namespace.rewards[-1].name}")
        options[key] = value


def parse_options(given: Sequence[str], flag: str = "--option") -> dict[str, object]:
    """``["grading=strict", "side=128"]`` -> ``{"grading": "strict", "side": 128}``; raises ``UserError``."""
    options: dict[str, object] = {}
    for text in given:
        key, value = parse_option(text, flag)
        if key in options:
            raise UserError(f"{flag} {key} is given twice")
        options[key] = value
    return options


def parse_option(text: str, flag: str = "--option") -> tuple[str, object]:
    """``"side=128"`` -> ``("side", 128)``; raises ``UserError``."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise UserError(f"{flag} {text!r} is not of the form key=value, for example {flag} batch_size=16")
    try:
        return key, expanded_options({key: parse_value(value)})[key]
    except ValueError as error:
        raise UserError(f"{flag} {key}={value}: {error}") from error
