"""A reward in ten lines: how near a picture's mean brightness is to a wish."""


def bright(samples, *, target: float = 0.8):
    """1 when a picture's mean brightness is `target`, falling linearly; None = not applicable."""
    scores = []
    for sample in samples:  # sample.picture (H, W, 3) uint8, sample.prompt.text, sample.prompt.metadata
        brightness = sample.picture.mean() / 255
        scores.append(1.0 - abs(brightness - target))
    return scores
