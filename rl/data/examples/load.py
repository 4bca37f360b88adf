"""The examples of a run."""

from __future__ import annotations

from typing import Any

from rl import registry
from rl.config.section import Component
from rl.data.examples.contract import Examples, ExampleStream
from rl.data.examples.order import NumberedStream
from rl.data.examples.streamed import StreamedExamples, WindowedStream
from rl.data.prompts import checked_call
from rl.types import UserError


def load_examples(component: Component) -> Examples | StreamedExamples:
    """Raises: UserError if there are none."""
    try:
        found: Any = checked_call(registry.resolve("examples", component.use), component.options)
    except UserError as error:
        raise UserError(f"supervised.examples: {error}") from error
    return found


def example_stream(examples: Examples | StreamedExamples, per_step: int, seed: int) -> ExampleStream:
    if isinstance(examples, StreamedExamples):
        return WindowedStream(examples, per_step, seed)
    return NumberedStream(examples.of_run(seed), per_step, seed)
