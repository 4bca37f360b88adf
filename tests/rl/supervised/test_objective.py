"""Every kind of loss is a mean over its own elements of the whole batch, however it is cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from policy.supervised.network import PictureAnswer
from policy.supervised.understanding import Redrawn
from rl.algorithm.terms import total_loss
from rl.config.sections.supervised import LossWeights
from rl.supervised.batch import HeadNames, PictureBatch
from rl.supervised.objective import SupervisedObjective
from rl.types import Forward, PictureFeatures, Span

IMAGE = Span(100, 108, length=4)
LOSSES = LossWeights(image=0.5, text=2.0, flow=3.0, heads=0.25)
PROMPTS = [(1, 2, 3, 4), (1, 105, 106, 2, 4), (7, 4), (7, 8, 4)]


def batch(image: tuple[float, ...] = (1, 1, 0, 1), flow: tuple[float, ...] = (1, 0, 1, 1)) -> PictureBatch:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 5, (4, 4, 1), generator=generator)
    labels[0, :3] = -100
    return PictureBatch(
        prompt_ids=PROMPTS,
        tokens_BT=torch.full((4, 4), 100),
        temperature=1.0,
        states=torch.zeros(4, 2, 2, 2),
        timestep_B=torch.zeros(4),
        keep_B=torch.ones(4),
        target=torch.randn(4, 2, 2, 2, generator=generator),
        image_B=torch.tensor(image),
        text_B=torch.ones(4),
        flow_B=torch.tensor(flow),
        changed_BT=torch.ones(4, 4),
        labels_BTH=labels,
        heads=HeadNames(("place",)),
    )


def answer() -> PictureAnswer:
    generator = torch.Generator().manual_seed(2)
    logprobs_BT, words_BL = -torch.rand(4, 4, generator=generator), -torch.rand(4, 4, generator=generator)
    forward = Forward(torch.zeros(4, 5, 3), logprobs_BT, torch.rand(4, 4, generator=generator), words_BL)
    return PictureAnswer(
        forward, torch.randn(4, 2, 2, 2, generator=generator), {"place": torch.randn(4, 4, 5, generator=generator)}
    )


def part(found: PictureAnswer, rows: slice) -> PictureAnswer:
    forward = found.forward
    assert forward.prompt_logprobs_BL is not None and found.flow is not None
    cut = Forward(
        forward.hidden_BSD[rows], forward.logprobs_BT[rows], forward.entropy_BT[rows], forward.prompt_logprobs_BL[rows]
    )
    return PictureAnswer(cut, found.flow[rows], {name: value[rows] for name, value in found.head_logits.items()})


def test_the_loss_is_the_weighted_sum_of_four_means() -> None:
    objective, rows, found = SupervisedObjective(LOSSES, IMAGE), batch(), answer()
    assert found.flow is not None and found.forward.prompt_logprobs_BL is not None and rows.labels_BTH is not None
    prepared = objective.prepare(rows)
    loss = total_loss(objective(found, prepared), objective.weights(prepared))
    image = -found.forward.logprobs_BT[[0, 1, 3]].mean()
    words = found.forward.prompt_logprobs_BL
    # the codes of a picture in a prompt (105, 106) are given
    learnt = torch.cat([words[0, :3], words[1, 2:4], words[2, :1], words[3, :2]])
    flow = (found.flow - rows.target)[[0, 2, 3]].square().mean()
    head = F.cross_entropy(found.head_logits["place"].flatten(0, 1), rows.labels_BTH.flatten(), ignore_index=-100)
    torch.testing.assert_close(loss, 0.5 * image + 2.0 * -learnt.mean() + 3.0 * flow + 0.25 * head)


def test_ids_in_place_of_which_a_picture_is_read_are_given_too() -> None:
    objective, found = SupervisedObjective(LossWeights(image=0, text=1.0, flow=0, heads=0), IMAGE), answer()
    picture = PictureFeatures(1, "digest", torch.zeros(2, 0))
    rows = replace(batch(), features=(None, None, None, picture), labels_BTH=None, heads=None)
    prepared, words = objective.prepare(rows), found.forward.prompt_logprobs_BL
    assert words is not None
    loss = total_loss(objective(replace(found, head_logits={}), prepared), objective.weights(prepared))
    # of the last prompt (7, 8, 4) ids 8 and 4 are the picture's
    torch.testing.assert_close(loss, -torch.cat([words[0, :3], words[1, 2:4], words[2, :1]]).mean())


@pytest.mark.parametrize("cuts", [[(0, 1), (1, 4)], [(0, 2), (2, 4)]])
def test_micro_batches_add_up(cuts: list[tuple[int, int]]) -> None:
    objective, found = SupervisedObjective(LOSSES, IMAGE), answer()
    prepared = objective.prepare(batch())
    whole = total_loss(objective(found, prepared), objective.weights(prepared))
    parts = []
    for first, last in cuts:
        rows = prepared.take(range(first, last))
        parts.append(total_loss(objective(part(found, slice(first, last)), rows), objective.weights(rows)))
    torch.testing.assert_close(sum(parts), whole)


def test_what_changes_counts_more() -> None:
    objective, found = SupervisedObjective(LossWeights(flow=0, heads=0), IMAGE), answer()
    changed = torch.tensor([[4.0, 1.0, 1.0, 1.0]]).expand(4, 4) * 4 / 7
    prepared = objective.prepare(replace(batch((1, 1, 1, 1)), changed_BT=changed, labels_BTH=None, heads=None))
    terms = objective(replace(found, head_logits={}), prepared)
    expected = -(found.forward.logprobs_BT * torch.tensor([4.0, 1.0, 1.0, 1.0])).sum() / (7 * 4)
    torch.testing.assert_close(total_loss(terms, objective.weights(prepared)), expected)
    assert list(terms) == ["image"]


def test_what_is_redrawn_is_the_mean_over_pictures_and_each_part_has_its_weight() -> None:
    losses = LossWeights(image=0.0, flow=0.0, heads=0.0, reconstruction=0.5, reading=2.0, quantiser=0.0)
    objective = SupervisedObjective(losses, IMAGE)
    known = Redrawn(torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.1, 0.2, 0.3, 0.6]), torch.full((4,), 9.0))
    prepared = objective.prepare(batch())
    terms = objective(replace(answer(), redrawn=known), prepared)
    assert set(terms) == {"reconstruction", "reading", "head_place"}  # what weighs nothing is left out
    loss = total_loss({name: terms[name] for name in ("reconstruction", "reading")}, objective.weights(prepared))
    torch.testing.assert_close(loss, torch.tensor(0.5 * 2.5 + 2.0 * 0.3))
