"""How pictures and words are weighed against each other in one update."""

from __future__ import annotations

from rl.config.section import Section
from rl.config.values import Positive


class ModalityWeights(Section):
    """Of a step in which pictures and answers are learnt from: the losses of both are normalised apart, each over its
    own tokens, and then added with these weights. Two tokens of an answer don't drown beside those of a picture."""

    image: Positive = 1.0
    """Of the tokens of pictures, drawn and edited."""
    text: Positive = 1.0
    """Of the tokens of answers."""
