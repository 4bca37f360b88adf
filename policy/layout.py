"""Where the image tokens lie in the vocabulary, and how many make a picture."""

from __future__ import annotations

from dataclasses import dataclass

from policy.json_file import JsonObject
from rl.types import Span, UserError


@dataclass(frozen=True)
class TokenLayout:
    """Token ids of one policy. Image token ``k`` has vocabulary id ``image_start_id + k``.

    Example (embedded model): grid (4, 4), tokens_per_image 16, num_image_tokens 128.
    BLIP3o-NEXT (arXiv 2510.15857): grid (27, 27), tokens_per_image 729, num_image_tokens 65536.
    """

    vocab_size: int
    image_start_id: int
    num_image_tokens: int
    tokens_per_image: int
    im_start_id: int
    im_end_id: int
    scale_id: int
    grid: tuple[int, int]

    @property
    def image_end_id(self) -> int:
        """One past the last image token id."""
        return self.image_start_id + self.num_image_tokens

    @property
    def image(self) -> Span:
        """A picture, as what is sampled after a prompt."""
        return Span(self.image_start_id, self.image_end_id, self.tokens_per_image)

    def words(self, end: int, most: int) -> Span:
        """An answer of at most ``most`` tokens, the last of them ``end``: any id but those of pictures."""
        start = self.image_end_id if self.image_start_id == 0 else 0
        stop = self.image_start_id if self.image_end_id == self.vocab_size else self.vocab_size
        inside = start < self.image_start_id and self.image_end_id < stop
        return Span(
            start,
            stop,
            max_length=most,
            end=end,
            without=(self.image_start_id, self.image_end_id) if inside else None,
        )

    def problems(self) -> list[str]:
        """Contradictions inside the layout itself, one clause each."""
        found = []
        if self.grid[0] * self.grid[1] != self.tokens_per_image:
            found.append(f"grid {self.grid[0]}x{self.grid[1]} does not hold tokens_per_image {self.tokens_per_image}")
        if self.image_end_id > self.vocab_size:
            found.append(f"image tokens end at id {self.image_end_id}, beyond vocab_size {self.vocab_size}")
        specials = {"im_start_id": self.im_start_id, "im_end_id": self.im_end_id, "scale_id": self.scale_id}
        for name, token in specials.items():
            if not 0 <= token < self.vocab_size:
                found.append(f"{name} {token} lies outside vocab_size {self.vocab_size}")
            if self.image_start_id <= token < self.image_end_id:
                found.append(f"{name} {token} lies among the image tokens")
        return found

    @classmethod
    def from_dict(cls, values: JsonObject, where: str) -> TokenLayout:
        """Raises: UserError naming ``where`` and the missing or unknown keys."""
        wanted = set(cls.__dataclass_fields__)
        missing, unknown = sorted(wanted - set(values)), sorted(set(values) - wanted)
        if missing or unknown:
            parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(
                unknown
            )
            raise UserError(
                f"{where}: the token layout {' and '.join(parts)}; write exactly the keys {sorted(wanted)}."
            )
        height, width = values["grid"]
        return cls(**{**values, "grid": (int(height), int(width))})
