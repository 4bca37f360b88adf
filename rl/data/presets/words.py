"""Prompts that ask for words to read, made by rule from frames and a list of common English words: `use: words`.

Source: frames and words written for this project, Apache-2.0. ``text`` is what must be readable, the one quoted text
of each prompt; ``tag`` is ``ocr``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from rl.data.presets.splits import Split, half
from rl.data.prompt_list import PromptList, gathered
from rl.data.row import to_prompt
from rl.types import UserError

FRAMES: tuple[str, ...] = (
    'a shop window with a sign that says "{}"',
    'a wooden board on which "{}" is painted in white letters',
    'a neon sign on a brick wall, glowing "{}"',
    'a book cover with the title "{}"',
    'a coffee cup with "{}" printed on its side',
    'a street at dusk under a banner that reads "{}"',
    'a birthday cake with "{}" written in icing',
    'a blackboard in an empty classroom, "{}" in chalk',
    'a train ticket stamped "{}"',
    'a plain white T-shirt with the words "{}"',
    'a film poster, its title "{}" in large letters',
    'a door plate engraved with "{}"',
    'a postcard from the sea with "{}" across the sky',
    'a delivery van, "{}" along its side',
    'a jar in a kitchen labelled "{}"',
    'a protest sign held up high: "{}"',
    'the word "{}" drawn in wet sand',
    'a newspaper whose headline is "{}"',
    'a phone screen that shows "{}" and nothing else',
    'a garden gate with "{}" in iron letters',
    'a mountain hut with "{}" carved above the door',
    'a ship whose bow is marked "{}"',
    'graffiti on a concrete bridge spelling "{}"',
    'a gift tag tied with string that says "{}"',
)

WORDS: tuple[str, ...] = tuple(
    """
    above acorn almond anchor apple april apron arrow autumn bakery balloon bamboo banana barrel basket beach beetle
    berry bicycle blanket blossom bottle branch bread breeze bridge bright bronze bucket butter button cabin cactus
    candle canvas canyon carpet castle cedar cellar cherry chess chimney cider cinema circle citrus clever cliff clock
    cloud clover coast cocoa coffee comet copper coral corner cotton cradle cricket crystal curtain daisy dance dawn
    desert dinner dolphin dragon dream eagle early earth east easy eleven ember empire engine evening fabric falcon
    family farmer feather festival fiddle field finger flame flower forest fountain friday friend frost garden garlic
    ginger giant glacier glass golden granite grape green guitar hammer harbour harvest hazel heart hidden hollow honey
    horizon hotel hunter ink island ivory jacket jasmine jigsaw journey juice jungle kettle kingdom kitchen lantern
    laurel lemon letter library light lilac linen little lobster lucky lunar magnet maple marble march market meadow
    melody melon midnight mint mirror monday morning mountain museum music mustard narrow needle nectar night noble
    north nutmeg oasis ocean olive onion open orange orchard origin oyster paint palace paper parade parsley pebble
    pencil pepper piano pilot pirate planet plenty pocket poppy portrait pottery pretty quarter quiet quilt rabbit
    radio rainbow raven recipe ribbon river robin rocket rosemary royal saddle sail salmon salt saturn season secret
    seven shadow shelter signal silence silver simple sister sketch sleepy slow smile snowy social socket spring
    station stone storm story street sugar summer sunday supper sweet swift table tailor teapot temple thunder ticket
    tiger timber today tomato torch tower travel treasure tulip tunnel turtle twelve twilight umbrella valley vanilla
    velvet village vinegar violet voyage walnut water weather welcome wheat whisper willow window winter wisdom wonder
    woods yellow yesterday yonder young
    """.split()
)

_CASES: tuple[Callable[[str], str], ...] = (str.upper, str.title, str.lower)
_MOST_WORDS = 6


def words(*, split: Split = "train", count: int = 500, most_words: int = 3, seed: int = 0) -> PromptList:
    """``count`` prompts, each asking for one to ``most_words`` words.

    ``split``: ``train`` and ``heldout`` share no word, whatever ``seed`` draws. Raises UserError.
    """
    known = half(WORDS, split, "words")
    if not 1 <= most_words <= _MOST_WORDS:
        raise UserError(f"words: most_words is {most_words}; it must be 1 to {_MOST_WORDS}")
    most = len(known) * len(FRAMES) // 4
    if not 1 <= count <= most:
        raise UserError(f"words: count is {count}; it must be 1 to {most:,} in {split!r}")
    rng = np.random.default_rng(seed)
    texts: dict[str, str] = {}
    while len(texts) < count:
        text = _phrase(known, int(rng.integers(1, most_words + 1)), rng)
        texts.setdefault(FRAMES[rng.integers(len(FRAMES))].format(text), text)
    rows = [{"prompt": prompt, "tag": "ocr", "text": text} for prompt, text in texts.items()]
    where = f"words[{split}]"
    return gathered((to_prompt(row, f"{where}:{number}") for number, row in enumerate(rows)), where)


def _phrase(known: list[str], length: int, rng: Generator) -> str:
    chosen = " ".join(known[index] for index in rng.choice(len(known), size=length, replace=False))
    return _CASES[rng.integers(len(_CASES))](chosen)
