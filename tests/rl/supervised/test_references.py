"""Rows of edits carry the picture that is to be changed, as painting would show it to the decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from policy.base import Policy
from policy.conditions import ATTENDED, CHANNELS
from policy.references.untrained import with_references
from policy.supervised.network import SupervisedNetwork
from policy.trainable import LanguageModel
from rl.config.sections.supervised import ConditionDrop, LossWeights, SupervisedConfig
from rl.data.examples.contract import Example
from rl.data.examples.order import NumberedStream
from rl.data.pictures import Picture
from rl.data.shapes.edits.rows import EditRows
from rl.data.shapes.examples import examples
from rl.supervised.batch import PictureBatch
from rl.supervised.collect import Dataset
from rl.supervised.objective import SupervisedObjective
from rl.supervised.rows import RowMaker
from rl.types import Prompt, UserError
from tests.policy.editing import editing_policy


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = editing_policy(tmp_path_factory.mktemp("edits") / "policy")
    return with_references(Policy.load(folder), (ATTENDED, CHANNELS))


def mixed(count: int) -> list[Example]:
    """Edits and drawings in turn."""
    edits, drawings = EditRows(), examples(seed=1)
    return [Example(*edits[i]) if i % 2 else drawings[i] for i in range(count)]


def rows_of(policy: Policy, given: list[Example], step: int = 0, **options: object) -> PictureBatch:
    make = RowMaker(policy, SupervisedConfig.model_validate(options), seed=5)
    return make(given, np.stack([one.picture.pixels for one in given]), step)


def test_an_edits_reference_is_what_painting_shows(policy: Policy) -> None:
    given = mixed(8)
    batch = rows_of(policy, given)
    assert batch.references_BChw is not None and batch.has_reference_B is not None
    assert int(batch.has_reference_B.sum()) == 4 and not batch.references_BChw[~batch.has_reference_B].any()
    by_ids = {policy.encode_prompt(one.prompt).ids: one for one in given if one.prompt.pictures}
    for row in batch.has_reference_B.nonzero()[:, 0].tolist():
        shown = policy.decoder.encoded([by_ids[tuple(batch.prompt_ids[row])].prompt.pictures[0]])
        torch.testing.assert_close(batch.references_BChw[row, None], shown, atol=1e-4, rtol=1e-4)


def test_what_is_drawn_for_a_row_is_what_it_was_without_references(policy: Policy, tiny_policy: Path) -> None:
    drawings = [one for one in mixed(8) if not one.prompt.pictures]
    sees, blind = rows_of(policy, drawings), rows_of(Policy.load(tiny_policy), drawings)
    assert sees.references_BChw is None and blind.references_BChw is None
    for name in ("timestep_B", "keep_B", "target", "states"):
        assert getattr(sees, name).equal(getattr(blind, name)), name
    assert rows_of(policy, mixed(8), losses={"flow": 0.0}).references_BChw is None  # nobody looks


def test_references_are_dropped_by_their_share_and_with_the_condition(policy: Policy) -> None:
    given = [Example(*EditRows()[1])] * 400
    batch = rows_of(policy, given, drop=ConditionDrop(condition=0.1, reference=0.2, both=0.2))
    assert batch.keep_reference_B is not None
    condition, reference = 1 - batch.keep_B, 1 - batch.keep_reference_B
    both = (condition * reference).mean().item()
    assert 0.15 < both < 0.29  # .2 + .8 * .1 * .2 = .216
    assert 0.2 < condition.mean().item() < 0.36 and 0.28 < reference.mean().item() < 0.44


def test_a_reference_that_cannot_be_read_is_counted_and_named(policy: Policy, tmp_path: Path) -> None:
    class Some:
        endless, notes = True, ()

        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int, /) -> Example:
            prompt, after = EditRows()[index]
            broken = Prompt(prompt.id, prompt.text, prompt.metadata, (Picture(b"none"),))
            return Example(broken if index == 2 else prompt, after)

        def of_run(self, seed: int) -> Some:
            return self

        def digest(self) -> str:
            return ""

    told: list[str] = []
    make = RowMaker(policy, SupervisedConfig(losses=LossWeights()), seed=5)
    lesson = Dataset(NumberedStream(Some(), per_step=4, seed=0), make, tmp_path, 0.5, 4, told.append)(0)
    assert lesson.metrics["bad_rows"] == 1.0 and len(lesson.batch) == 3
    assert "edits-0-2" in told[0] and "is left out: the picture can't be read" in told[0]


def test_what_sees_references_learns_from_rows_of_edits(policy: Policy) -> None:
    decoder = policy.decoder
    network = SupervisedNetwork(
        LanguageModel(policy.ar, policy.layout.image),
        decoder.connector,
        decoder.transformer,
        decoder.reference,
        trained=("connector", "transformer", "reference"),
    )
    network.module.requires_grad_(False)
    for parameter in network.trained():
        parameter.requires_grad_(True)
    objective = SupervisedObjective(LossWeights(image=0.0), policy.layout.image)
    batch = objective.prepare(rows_of(policy, mixed(4)))
    outputs = network.outputs(network.module(*network.inputs(batch)))
    terms = objective(outputs, batch)
    torch.stack([term.loss.sum() for term in terms.values()]).sum().backward()
    reference = decoder.reference
    assert reference is not None and reference.connector is not None
    assert reference.connector[3].weight.grad is not None and reference.connector[3].weight.grad.abs().max() > 0
    seen = decoder.transformer.patch_embed.proj.weight.grad
    assert seen is not None and seen[:, 32:].abs().max() > 0
    assert network.trained_parts == {"decoder"}
    names = {name.partition(".")[0] for name, _ in network.streams()["decoder"].shapes}
    assert names == {"connector", "transformer", "reference_connector"}


def test_a_decoder_without_eyes_has_none_to_train(tiny_policy: Path) -> None:
    blind = Policy.load(tiny_policy)
    with pytest.raises(UserError) as caught:
        SupervisedNetwork(
            LanguageModel(blind.ar, blind.layout.image),
            blind.decoder.connector,
            blind.decoder.transformer,
            trained=("reference",),
        )
    assert str(caught.value) == (
        "supervised.trained: has reference, and this policy's decoder does not attend to pictures that are to be "
        "changed (reference in its policy.json); take it out, or start from what python -m policy.references "
        "POLICY OUT writes"
    )
