"""Figures as tables: aligned for a terminal, or as Markdown for the README, from the same cells."""

from __future__ import annotations

from dataclasses import dataclass

from rl.bench.aims import aims
from rl.bench.results import Figures, VariantOutcome

NONE = "-"


@dataclass(frozen=True)
class TextTable:
    """A table of text; the first column is left-aligned, the others right-aligned."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def plain(self) -> str:
        widths = [max(len(row[place]) for row in (self.head, *self.rows)) for place in range(len(self.head))]
        lines = []
        for row in (self.head, *self.rows):
            first, *rest = (
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join([first, *rest]).rstrip())
        return "\n".join(lines)

    def markdown(self) -> str:
        align = ["---", *["---:"] * (len(self.head) - 1)]
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.head, tuple(align), *self.rows))


def report(figures: Figures, *, markdown: bool = False) -> str:
    """Variants, what failed, floors, what was aimed at, the machine."""
    grids = [("", variants(figures))]
    for one in figures.outcomes:
        if one.measured and one.floor:
            grids.append((f"{one.title}: {one.settings}", floors(one)))
        if one.measured and one.kinds:
            grids.append(("one step of it by kind of work, profiled", kinds(one)))
    parts = [
        "\n\n".join(part for part in (title, grid.markdown() if markdown else grid.plain()) if part)
        for title, grid in grids
    ]
    said = [f"{one.title}: not measured: {one.failure}" for one in figures.outcomes if not one.measured]
    said += [f"{one.title}: no floor: {one.floor_failure}" for one in figures.outcomes if one.floor_failure]
    if (both := figures.over("ours-best", "trl-best")) is not None:
        said = [f"Both at best settings: ours x {both:.2f} of TRL.", *said]
    parts[1:1] = ["\n".join(said)] if said else []
    return "\n\n".join([figures.run, *parts, *aims(figures), figures.machine]) + "\n"


def variants(figures: Figures) -> TextTable:
    head = (
        *("variant", "settings", "pictures/s", "s/step (range)", "x TRL"),
        *("peak memory", "mean reward", "first ratio off by"),
    )
    measured = [one for one in figures.outcomes if one.measured]
    return TextTable(head, tuple(_variant(figures, one) for one in measured))


def _variant(figures: Figures, one: VariantOutcome) -> tuple[str, ...]:
    ratio, deviation, (low, high) = figures.ratio(one.name), one.ratio_deviation, one.range
    return (
        one.title,
        one.settings,
        f"{figures.pictures / one.seconds:.0f}",
        f"{one.seconds:.2f} ({low:.2f} .. {high:.2f})",
        NONE if ratio is None else f"{ratio:.2f}",
        f"{one.peak_mb * 2**20 / 1e9:.2f} GB",
        f"{one.reward:.3f}",
        NONE if deviation is None else f"{deviation:.2g}",
    )


def floors(one: VariantOutcome) -> TextTable:
    """Stage by stage, and what no stage has, and the sum."""
    rows = [_floor(floor.stage, one.stage(floor.stage), floor.gflop, floor.seconds) for floor in one.floor]
    rows.append(_floor("rest", one.rest, 0.0, 0.0))
    rows.append(_floor("step", one.seconds, sum(floor.gflop for floor in one.floor), one.floor_s))
    return TextTable(("stage", "seconds", "GFLOP", "floor, s", "x floor"), tuple(rows))


def kinds(one: VariantOutcome) -> TextTable:
    """What the seconds of a step go to, and those of its floor."""
    total, floor = sum(one.kinds.values()), one.floor_kinds
    rows = [
        (kind, f"{seconds:.3f}", f"{seconds / total:.0%}", _or_none(floor[kind])) for kind, seconds in one.kinds.items()
    ]
    rows += [(kind, NONE, NONE, _or_none(seconds)) for kind, seconds in floor.items() if kind not in one.kinds]
    return TextTable(("kind of work", "seconds", "share", "floor, s"), tuple(rows))


def _floor(stage: str, seconds: float, gflop: float, floor: float) -> tuple[str, ...]:
    return (
        stage,
        f"{seconds:.3f}",
        f"{gflop:.1f}" if gflop else NONE,
        _or_none(floor),
        f"{seconds / floor:.2f}" if floor else NONE,
    )


def _or_none(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds else NONE
