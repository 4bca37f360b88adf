"""What a prompt may ask the ``ocr`` reward to read, told without loading a model."""

from __future__ import annotations

from collections.abc import Mapping


def metadata_problem(metadata: Mapping[str, object]) -> str | None:
    """Why ``text`` can be no target; ``None`` if it can, or if there is none."""
    text = metadata.get("text")
    lines = [text] if isinstance(text, str) else text
    if lines is None:
        return None
    if isinstance(lines, (list, tuple)) and all(isinstance(line, str) for line in lines) and "".join(lines).strip():
        return None
    return f"text is {text!r}, it must be a text, or a list of lines, that is not blank"
