"""How a scene is asked for: paraphrases per task, and the words to read."""

from __future__ import annotations

_FRAMES = ("{}", "a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}", "please draw {}")


def _framed(*phrases: str) -> tuple[str, ...]:
    return tuple(frame.format(phrase) for phrase in phrases for frame in _FRAMES)


TEMPLATES: dict[str, tuple[str, ...]] = {
    "single_object": _framed("a {0}", "one {0}"),
    "two_object": _framed("a {0} and a {1}", "a {1} and a {0}"),
    "counting": _framed("{0} {plural}"),
    "colors": _framed("a {0} {1}"),
    "position": _framed("a {0} {1} a {2}"),
    "color_attr": _framed("a {0} {1} and a {2} {3}", "a {2} {3} and a {0} {1}"),
    "ocr": _framed('the word "{0}"', 'a sign that says "{0}"'),
    "ground": _framed("a {0} {1} on a {2} ground"),
    "look": _framed("{0}"),
    "look_attr": _framed("{0} and {1} on a {2} ground", "{1} and {0} on a {2} ground"),
    "details": _framed("{0} and {1} on a {2} ground", "{1} and {0} on a {2} ground"),
}


def described(figure: str, *nouns: str) -> str:
    """``described("outlined pale", "red", "circle")`` is "an outlined pale red circle"."""
    phrase = " ".join(word for word in (figure, *nouns) if word)
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


WORDS: tuple[str, ...] = tuple(
    """
    ACE ACT AGE AIR ALL AND ANT APE ARC ARM ART ASH BAG BAR BAT BED BEE BIG BOX BOY BUG BUS CAB CAN CAP CAR CAT COW
    CUP DAY DEN DOG DOT DRY EAR EGG ELF END EYE FAN FAR FIG FLY FOG FOX FUN GAP GAS GEM GUM HAT HEN HOT HUT ICE INK
    JAM JAR JET JOY KEY KID KIT LAB LEG LIP LOG MAN MAP MIX MOM MUD NET NUT OAK OIL OWL PAN PEN PET PIE PIG POT RAT
    RED ROW RUG SEA SKY SUN TAX TEA TEN TOY TUB VAN VET WAX WEB WIN YAK ZIP ZOO
    ARCH ATOM BABY BAKE BALL BAND BARK BELL BIRD BLUE BOAT BOOK CAKE CALF CAMP CARD CAVE CITY CLAY COAT CODE CORN
    DARK DAWN DEER DESK DOCK DOVE DRUM DUCK DUST EAST ECHO EDGE FACE FARM FERN FILM FIRE FISH FLAG FORK FROG GATE
    GIFT GOAT GOLD HAND HARP HAWK HILL HOME HORN IRON JADE JAZZ JUMP KELP KING KITE KNOT LAKE LAMB LAMP LEAF LIME
    LION LOVE MAIL MASK MILK MOON MOTH NEST NOON OATS OPAL OVEN PALM PARK PEAR PINE PLUM POEM POND QUIZ RAIN RICE
    ROAD ROCK ROPE ROSE SAIL SALT SAND SEED SHIP SNOW SOUP STAR SURF SWAN TENT TIDE TREE VASE VINE WAVE WEST WIND
    WING WOLF WOOD WOOL YARN YEAR ZEBU ZERO ZONE
    """.split()
)
