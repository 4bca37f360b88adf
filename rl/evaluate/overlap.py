"""Whether a policy has seen in training what it is measured on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rl.config.load import load
from rl.data.prompt_list import overlap
from rl.data.prompts import load_prompts
from rl.evaluate.candidates import Candidate
from rl.run_folder.claim import CONFIG_FILE
from rl.types import Prompt, UserError


def overlaps(candidates: Sequence[Candidate], prompts: Sequence[Prompt]) -> Iterator[str]:
    """A sentence for each policy of a run."""
    for one in candidates:
        if one.run is None:
            continue
        try:
            trained = load_prompts(load(one.run / CONFIG_FILE).data.train, "data.train")
        except UserError as error:
            yield f"{one.name}: whether it has seen these prompts in training is not known: {error}"
            continue
        seen = overlap(trained, prompts)
        verb = "are" if seen > 1 else "is"
        yield f"{one.name}: {seen or 'none'} of the {len(prompts)} prompts {verb} among its training prompts"
