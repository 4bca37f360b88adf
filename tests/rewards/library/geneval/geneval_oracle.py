"""GenEval's rules once more, slowly and literally from the paper's protocol, to be compared with the real ones.

Written against the text of the protocol only: lists and loops, no shared code, raw metadata instead of parsed.
"""

from __future__ import annotations

import math
import random
from typing import Any

Found = dict[str, Any]  # class, score, color, x0, y0, x1, y1


def strict(metadata: dict[str, Any], detections: list[Found]) -> bool:
    limit = 0.3
    if metadata["tag"] == "counting":
        limit = 0.9
    per_class: dict[str, list[Found]] = {}
    remaining = [d for d in detections if d["score"] > limit]
    while remaining:
        best = remaining[0]
        for d in remaining:
            if d["score"] > best["score"]:
                best = d
        remaining = [d for d in remaining if d is not best]
        if len(per_class.setdefault(best["class"], [])) < 16:
            per_class[best["class"]].append(best)

    verdict = True
    matched: list[list[Found] | None] = []
    for clause in metadata["include"]:
        good = True
        best_ones = []
        for d in per_class.get(clause["class"], []):
            if len(best_ones) < clause["count"]:
                best_ones.append(d)
        if len(best_ones) < clause["count"]:
            good = False
        if good and "color" in clause:
            for d in best_ones:
                if d["color"] != clause["color"]:
                    good = False
        if good and "position" in clause:
            wanted, number = clause["position"]
            others = matched[number]
            if others is None:
                good = False
            else:
                for d in best_ones:
                    for other in others:
                        if not in_relation(wanted, d, other):
                            good = False
        matched.append(best_ones if good else None)
        verdict = verdict and good
    for clause in metadata.get("exclude", []):
        if len(per_class.get(clause["class"], [])) >= clause["count"]:
            verdict = False
    return verdict


def in_relation(wanted: str, a: Found, b: Found) -> bool:
    across = axis(a["x0"], a["x1"], b["x0"], b["x1"])
    down = axis(a["y0"], a["y1"], b["y0"], b["y1"])
    raw_across = (a["x0"] + a["x1"]) / 2 - (b["x0"] + b["x1"]) / 2
    raw_down = (a["y0"] + a["y1"]) / 2 - (b["y0"] + b["y1"]) / 2
    length = (raw_across**2 + raw_down**2) ** 0.5
    if length == 0:
        return False
    if wanted == "left of":
        return across / length < -0.5
    if wanted == "right of":
        return across / length > 0.5
    if wanted == "above":
        return down / length < -0.5
    return down / length > 0.5


def axis(a0: float, a1: float, b0: float, b1: float) -> float:
    d = (a0 + a1) / 2 - (b0 + b1) / 2
    size = (a1 - a0) + (b1 - b0)
    if d > 0:
        return max(d - 0.1 * size, 0)
    return -max(-d - 0.1 * size, 0)


TASKS = ["single_object", "two_object", "counting", "colors", "position", "color_attr"]
CLASSES = ["circle", "square", "star"]
COLORS = ["red", "blue"]


def random_case(rng: random.Random) -> tuple[dict[str, Any], list[Found]]:
    """A prompt's metadata and detections that satisfy it often enough for both verdicts to be common."""
    kind = rng.choice([*TASKS, "wild"])
    a, b = rng.sample(CLASSES, 2)
    count = rng.randint(1, 4)
    first, second = {"class": a, "count": 1}, {"class": b, "count": 1}
    metadata: dict[str, Any] = {"tag": kind, "include": [first]}
    if kind in ("two_object", "position", "color_attr", "wild"):
        metadata["include"].append(second)
    if kind == "counting":
        first["count"] = count
        metadata["exclude"] = [{"class": a, "count": count + 1}]
    if kind in ("colors", "color_attr") or (kind == "wild" and rng.random() < 0.5):
        for clause in metadata["include"]:
            clause["color"] = rng.choice(COLORS)
    if kind in ("position", "wild"):
        second["position"] = [rng.choice(["left of", "right of", "above", "below"]), 0]
    if kind == "wild":
        first["count"], second["count"] = rng.choice([(1, 1), (2, 1), (1, 2)])
        if rng.random() < 0.5:
            metadata["exclude"] = [{"class": rng.choice(CLASSES), "count": rng.choice([1, 2, 3, 16, 17])}]
    return metadata, random_detections(rng, metadata)


def random_detections(rng: random.Random, metadata: dict[str, Any]) -> list[Found]:
    found: list[Found] = []
    for clause in metadata["include"]:
        extra = rng.choice([-1, 0, 0, 0, 0, 1, 30 if rng.random() < 0.1 else 0])
        for _ in range(max(0, clause["count"] + extra)):
            found.append(detection(rng, clause["class"], clause.get("color")))
    for _ in range(rng.choice([0, 0, 1, 2])):
        found.append(detection(rng, rng.choice(CLASSES), None))
    rng.shuffle(found)
    return found


def detection(rng: random.Random, label: str, color: str | None) -> Found:
    x, y = rng.choice([(rng.uniform(0, 48), rng.uniform(0, 48)), (16.0 * rng.randint(0, 3), 16.0 * rng.randint(0, 3))])
    likely = color if color is not None and rng.random() < 0.8 else rng.choice(COLORS)
    score = rng.uniform(0.9, 1.0) if rng.random() < 0.7 else rng.uniform(0.0, 1.0)
    if rng.random() < 0.05:  # at a threshold, and next to it
        limit = rng.choice([0.3, 0.9])
        score = rng.choice([limit, math.nextafter(limit, 0), math.nextafter(limit, 1)])
    width, height = rng.uniform(4, 24), rng.uniform(4, 24)
    return {"class": label, "score": score, "color": likely, "x0": x, "y0": y, "x1": x + width, "y1": y + height}
