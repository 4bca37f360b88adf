"""Whether a window of stochastic steps fits into a sampler's: plain numbers, so that a run is checked without torch."""

from __future__ import annotations

from collections.abc import Mapping


def problem(options: Mapping[str, object], steps: int) -> tuple[str, str] | None:
    """(option, what is wrong with it) of a sampler with ``eta``, ``window`` and ``start`` that takes so many steps."""
    eta, window, start = options["eta"], options["window"], options["start"]
    if isinstance(eta, bool) or not isinstance(eta, (int, float)) or not 0 < eta <= 1:
        return "eta", f"must be a number above 0 and at most 1, got {eta!r} (0 is euler, which has no log-probs)"
    if type(window) is not int or window < 1:
        return "window", f"must be a whole number of at least 1, got {window!r}"
    if type(start) is not int or start < 0:
        return "start", f"must be a whole number of at least 0, got {start!r}"
    end = start + window
    if end > steps:
        return "window", (
            f"is {window} from step {start}, which needs {end + 1} steps or more, and there are {steps}; raise "
            "render.steps or make it smaller"
        )
    if end == steps:
        return "window", (
            f"is {window} from step {start}, which includes the last of {steps} steps and would leave its noise "
            f"in the picture; make it smaller, or render.steps at least {steps + 1}"
        )
    return None
