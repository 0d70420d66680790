"""Ways: who guides and who judges, what a level is, where ways stay, and what lies between their stations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from labelleaks import guidance
from labelleaks.domain import Binary, Box, Continuous, Domain, Integer, Mixed, OneHot
from labelleaks.guidance import Council, all_log_odds, councils, follow, log_odds
from labelleaks.modelfile import Training
from labelleaks.search.exact import mean_of
from labelleaks.shadowmodel import Network, ShadowModel


class Plane(nn.Module):
    """Logits (0, <w, x> - b)."""

    def __init__(self, w: Tensor, b: float) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(w), b

    def forward(self, x: Tensor) -> Tensor:
        margin = (x.flatten(1) * self.w).sum(1) - self.b
        return torch.stack([torch.zeros_like(margin), margin], 1)


def plane(w: Tensor, b: float = 0.0) -> ShadowModel:
    return Network(Plane(w, b), 2, tuple(w.shape), Training(1, 1, 0.0))


def lead(domain: Domain, x: Tensor, y: Tensor, weights: list[Tensor], sign: int = -1, end: float = 1.0) -> guidance.Way:
    council = Council((plane(weights[0]),), tuple(plane(w) for w in weights[1:]))
    ends = torch.full((len(x),), end, dtype=torch.float64)
    return follow(council, x, y, domain, torch.ones_like(x, dtype=torch.bool), sign=sign, scale=1.0, end=ends)


@pytest.mark.parametrize(("models", "count"), [(2, 2), (3, 4), (4, 4), (8, 6), (32, 10)])
def test_every_model_guides_and_judges(models: int, count: int) -> None:
    """No model judges a way that it points out, and no two councils are the same."""
    crowd = [plane(torch.ones(2)) for _ in range(models)]
    found = councils(crowd)
    assert len(found) == count == len({frozenset(map(id, council.guides)) for council in found})
    for council in found:
        guides, judges = ({*map(id, side)} for side in (council.guides, council.judges))
        assert guides and judges and not guides & judges and guides | judges == {*map(id, crowd)}


def test_one_model_does_both() -> None:
    (council,) = councils([plane(torch.ones(2))])
    assert council.guides == council.judges


def test_log_odds_are_those_of_the_posterior() -> None:
    z = torch.randn(5, 4, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 0])
    p = z.softmax(1).gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(log_odds(z, y), (p / (1 - p)).log())


def test_on_planes_the_level_is_the_margin_that_was_lost() -> None:
    w = torch.tensor([3.0, 4.0])
    x = torch.tensor([[0.6, 0.6], [0.5, 0.9]])
    way = lead(Box(0, 1), x, torch.ones(2, dtype=torch.int64), [w, w], end=1.5)
    lost = ((x - way.points) * w).sum(2)
    torch.testing.assert_close(way.level, lost.double(), atol=1e-5, rtol=0)
    assert (way.end() >= 1.5).all()
    steps = way.points.diff(dim=0)[:, 0]  # straight against the gradient, while no bound is near
    assert (steps[0] / steps[0].norm() + w / w.norm()).abs().max() < 1e-5
    assert float(way.level[1, 0]) == pytest.approx(guidance.FIRST_STEP, abs=1e-5)  # as planned


def test_towards_the_label_levels_count_what_is_won() -> None:
    w = torch.tensor([3.0, 4.0])
    x = torch.tensor([[0.2, 0.2]])
    way = lead(Box(0, 1), x, torch.ones(1, dtype=torch.int64), [w, w], sign=+1)
    won = ((way.points - x) * w).sum(2)
    torch.testing.assert_close(way.level, won.double(), atol=1e-5, rtol=0)


def test_levels_never_fall_where_judges_disagree_with_the_guide() -> None:
    w = torch.tensor([3.0, 4.0])
    way = lead(Box(0, 1), torch.full((1, 2), 0.6), torch.ones(1, dtype=torch.int64), [w, -w])
    assert (way.level == 0).all() and len(way.points) == 1 + guidance.STEPS + len(guidance.STRAIGHT_ON)


def test_a_point_between_stations_has_the_level_that_was_asked_for() -> None:
    w = torch.tensor([3.0, 4.0])
    x = torch.tensor([[0.6, 0.6], [0.7, 0.5], [0.9, 0.8]])
    way = lead(Box(0, 1), x, torch.ones(3, dtype=torch.int64), [w, w], end=2.0)
    rows, level = torch.tensor([2, 0]), torch.tensor([0.33, 1.7], dtype=torch.float64)
    asked, reached = way.at(rows, level)
    torch.testing.assert_close(((x[rows] - asked) * w).sum(1).double(), level, atol=1e-5, rtol=0)
    assert torch.equal(reached, level)


MIXED = Mixed(Continuous(-2, 2), Integer(0, 9), OneHot(3), Integer(0, 1))


@pytest.mark.parametrize("domain", [Binary(), MIXED], ids=["binary", "mixed"])
def test_tables_change_one_feature_after_the_other(domain: Domain) -> None:
    generator = torch.Generator().manual_seed(0)
    width = 6
    x = domain.from_uniform(torch.rand(9, width, generator=generator))
    w = torch.randn(width, generator=generator)
    y = (x @ w > 0).to(torch.int64)
    way = lead(domain, x, y, [w, w], end=math.inf)
    assert way.whole
    for before, after in zip(way.points[:-1], way.points[1:], strict=True):
        domain.check(after, "station")
        assert ((before != after).sum(1) <= 2).all()  # a switch of category changes two columns
    assert (way.end() > 0).all() and (way.level.diff(dim=0) >= 0).all()
    half = way.end() / 2
    asked, reached = way.at(torch.arange(9), half)
    assert (reached >= half).all()
    for i in range(9):
        assert any(torch.equal(asked[i], station) for station in way.points[:, i])


def test_features_that_may_not_change_stay() -> None:
    w = torch.tensor([1.0, 2.0, 3.0, 4.0])
    x = torch.ones(1, 4)
    allowed = torch.tensor([[True, False, True, False]])
    end = torch.full((1,), math.inf, dtype=torch.float64)
    for domain in (Binary(), Box(0, 1)):
        y = torch.ones(1, dtype=torch.int64)
        way = follow(Council((plane(w),), (plane(w),)), x, y, domain, allowed, sign=-1, scale=1.0, end=end)
        assert (way.points[:, 0, [1, 3]] == 1).all() and (way.points[-1, 0, [0, 2]] < 0.5).all()


def test_means_are_taken_term_by_term() -> None:
    models = [plane(torch.randn(3)) for _ in range(5)]
    x, y = torch.randn(40, 3), torch.zeros(40, dtype=torch.int64)
    together = mean_of(all_log_odds(models, x, y))
    alone = torch.cat([mean_of(all_log_odds(models, x[i : i + 1], y[i : i + 1])) for i in range(40)])
    assert torch.equal(together, alone)
