"""What inputs are crafted with: ensemble losses and gradients, diverse and smoothed gradients, steps in a domain."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from labelleaks.attacks import surrogate_gradients
from labelleaks.core.domains import Binary, Box, Continuous, Integer, Mixed, OneHot
from labelleaks.models import shadow_training
from labelleaks.models.training import Recipe

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def models():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(60, *SHAPE, generator=generator)
    y = torch.randint(3, (60,), generator=generator)
    return [shadow_training.train_shadow(x, y, 3, "cnn", Recipe(epochs=2), seed=seed) for seed in range(2)]


@pytest.fixture(scope="module")
def rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(9, *SHAPE, generator=generator), torch.randint(3, (9,), generator=generator)


def test_confidence_and_cross_entropy(models, rows) -> None:
    x, y = rows
    each = [m.logits(x).double() for m in models]
    together = (each[0] + each[1]) / 2
    expected = together.softmax(1).gather(1, y[:, None])[:, 0]
    assert torch.allclose(surrogate_gradients.confidence(models, x, y), expected)
    assert torch.allclose(surrogate_gradients.nats(models[1], x, y), F.cross_entropy(each[1], y, reduction="none"))


def test_the_ensembles_gradient_is_that_of_the_mean_logits(models, rows) -> None:
    x, y = rows
    free = x.clone().requires_grad_()
    logits = (models[0].module(free) + models[1].module(free)) / 2
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), free)
    found = surrogate_gradients.ensemble_gradient(models, x, y)
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))
    assert torch.equal(surrogate_gradients.ensemble_gradient(models, x[3:4], y[3:4]), found[3:4])


def test_a_smoothed_gradient_is_a_convolution() -> None:
    picture = torch.zeros(2, 1, 9, 9)
    picture[0, 0, 4, 4] = 1.0
    made = surrogate_gradients.transferable(lambda x, y: picture, Box(0, 1), (1, 9, 9), diversity=0.0, smooth=True)
    found = made(picture, torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64), 0)
    weights = torch.exp(-0.5 * (1.5 * torch.arange(-2, 3)) ** 2)
    weights = weights / weights.sum()
    assert torch.allclose(found[0, 0, 2:7, 2:7], weights[:, None] * weights[None, :], atol=1e-7)
    assert float(found[0].sum()) == pytest.approx(1) and not found[1].any()


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8), (8, 8, 3)])
def test_a_diverse_gradient_is_carried_back_through_the_picture_that_was_seen(shape: tuple[int, ...]) -> None:
    """For a loss that is linear in the picture seen, <gradient, x - low> is the loss."""
    generator = torch.Generator().manual_seed(2)
    x = 2 + torch.rand(6, *shape, generator=generator)
    weight = torch.rand(6, *shape, generator=generator)
    seen = []

    def gradient(points: Tensor, y: Tensor) -> Tensor:
        seen.append(points)
        return weight[: len(points)]

    streams = torch.arange(6) * 7919
    made = surrogate_gradients.transferable(gradient, Box(2, 4), shape, diversity=1.0, smooth=False)
    found = made(x, torch.zeros(6, dtype=torch.int64), streams, 0)
    loss = ((seen[0] - 2) * weight).flatten(1).sum(1)
    assert torch.allclose(((x - 2) * found).flatten(1).sum(1), loss, rtol=1e-4)
    assert (seen[0] >= 2 - 1e-5).all() and not torch.equal(seen[0], x)
    made(x[4:], torch.zeros(2, dtype=torch.int64), streams[4:], 0)
    assert seen[1].shape == (2, *shape) and torch.equal(seen[1], seen[0][4:])
    made(x, torch.zeros(6, dtype=torch.int64), streams, 1)
    assert not torch.equal(seen[2], seen[0])


def test_without_diversity_the_picture_is_seen_as_it_is() -> None:
    x = torch.rand(3, *SHAPE)
    draws = torch.tensor([[0.9, 0.1, 0.2, 0.3]] * 3)
    assert torch.allclose(surrogate_gradients._shrunk(x, draws, 0.5), x, atol=1e-6)
    smaller = surrogate_gradients._shrunk(torch.ones(1, 1, 20, 20), torch.tensor([[0.1, 0.0, 0.0, 1.0]]), 0.5)
    assert float(smaller.sum()) == pytest.approx(18 * 18, rel=0.02)  # at the top right
    assert float(smaller[0, 0, 0, -1]) == 1 and float(smaller[0, 0, -1].sum() + smaller[0, 0, :, 0].sum()) == 0


def test_a_step_in_a_box_stays_within_the_radius_and_the_bounds() -> None:
    moves = surrogate_gradients.Moves(Box(torch.tensor([0.0, -10.0]), torch.tensor([1.0, 10.0]), levels=3), (2,))
    x = torch.tensor([[0.05, 0.0], [0.5, 9.0]])
    once = moves.signed(x, x, torch.tensor([[-3.0, 0.01], [2.0, 5.0]]), step=0.1, radius=1.0)
    assert torch.allclose(once, torch.tensor([[0.0, 2.0], [0.6, 10.0]]))
    held = moves.signed(x, x, torch.tensor([[1.0, -1.0], [0.0, -1.0]]), step=0.1, radius=0.04)
    assert torch.allclose(held, torch.tensor([[0.09, -0.8], [0.5, 8.2]]))


def test_elsewhere_the_feature_that_is_pulled_most_and_can_move_goes_first() -> None:
    moves = surrogate_gradients.Moves(Binary(), (4,))
    x = torch.tensor([[0.0, 1.0, 0.0, 1.0]])
    z, pull = x, torch.tensor([[0.4, -1.0, -2.0, 3.0]])  # the last two are at their ends
    flips = []
    for _ in range(9):
        z = moves.signed(x, z, pull, step=0.25, radius=0.01)
        flips.append((Binary().project(z) != x)[0].tolist())
    assert flips[0] == [False] * 4
    assert flips[3] == [False, True, False, False]
    assert flips[-1] == [True, True, False, False]
    assert z.tolist() == [[1.0, 0.0, 0.0, 1.0]]

    mixed = Mixed(Continuous(0, 10), Integer(0, 4), OneHot(3))
    row = torch.tensor([[5.0, 1.0, 1.0, 0.0, 0.0]])
    z, seen = row, []
    for _ in range(8):
        z = surrogate_gradients.Moves(mixed, (5,)).signed(
            row, z, torch.tensor([[-0.1, 0.2, 0.0, 0.0, 5.0]]), step=0.5, radius=0
        )
        seen.append(mixed.project(z.clone()))
    mixed.check(torch.cat(seen), "sent")
    assert seen[0][0].tolist() == [5, 1, 1, 0, 0]
    assert seen[2][0].tolist() == [5, 1, 0, 0, 1]  # another category has overtaken
    assert seen[-1][0].tolist() == [0, 4, 0, 0, 1]
