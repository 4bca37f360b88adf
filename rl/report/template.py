"""How pages are made of templates: what every one of them may use."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rl.evaluation.results import OVERALL, mark
from rl.evaluation.tables import estimate
from rl.report.chart import number


def template_environment(*folders: Path) -> Environment:
    """Templates of ``folders``, and of this one: its macros, style and script."""
    environment = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "mark": mark, "estimate": estimate}
    environment.globals["OVERALL"] = OVERALL
    return environment
