"""Ascent directions: splits of the ensemble, log-odds drops, the domain's bounds, and features changed one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from labelleaks.attacks._guided.directions import (
    Split,
    StartPoints,
    ensemble_log_odds,
    feature_scale,
    log_odds,
    perturb_to,
    splits,
)
from labelleaks.attacks._guided.tuning import TUNING
from labelleaks.core.batch_invariant import mean_of
from labelleaks.core.domains import Binary, Box, Continuous, Domain, Integer, Mixed, OneHot
from labelleaks.models.checkpoints import Training
from labelleaks.models.shadow_model import Network, ShadowModel


class Plane(nn.Module):
    """Logits (0, <w, x> - b)."""

    def __init__(self, w: Tensor, b: float) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(w), b

    def forward(self, x: Tensor) -> Tensor:
        margin = (x * self.w).flatten(1).sum(1) - self.b
        return torch.stack([torch.zeros_like(margin), margin], 1)


def plane(w: Tensor, b: float = 0.0) -> ShadowModel:
    return Network(Plane(w, b), 2, tuple(w.shape), Training(1, 1, 0.0))


def go(
    domain: Domain,
    x: Tensor,
    y: Tensor,
    weights: list[Tensor],
    drop: float | Tensor,
    sign: int = -1,
    scale: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Perturb all rows; the first of the planes directs, the others measure."""
    models = tuple(plane(w) for w in weights)
    start = StartPoints(
        models, x, y, domain, ensemble_log_odds(models, x, y), domain.span(x.shape[1:]) if scale is None else scale
    )
    split = Split((0,), tuple(range(1, len(models))))
    drops = torch.full((len(x),), drop, dtype=torch.float64) if isinstance(drop, float) else drop
    return perturb_to(start, split, torch.arange(len(x)), drops, sign=sign, **options)


@pytest.mark.parametrize(("models", "count"), [(2, 2), (3, 4), (4, 4), (8, 6), (32, 10)])
def test_every_model_directs_and_measures(models: int, count: int) -> None:
    """No model measures a way that it directs, and no two splits are the same."""
    all_splits = splits(models)
    assert len(all_splits) == count == len({frozenset(split.directing) for split in all_splits})
    for split in all_splits:
        directing, measuring = set(split.directing), set(split.measuring)
        assert directing and measuring and not directing & measuring and directing | measuring == set(range(models))


def test_one_model_does_both() -> None:
    (split,) = splits(1)
    assert split.directing == split.measuring == (0,)


def test_log_odds_are_those_of_the_posterior() -> None:
    z = torch.randn(5, 4, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 0])
    p = z.softmax(1).gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(log_odds(z, y), (p / (1 - p)).log())


MIXED = Mixed(Continuous(-2, 2), Integer(0, 9), OneHot(3), Integer(0, 1))
ONES = torch.ones(2, dtype=torch.int64)
W = torch.tensor([3.0, 4.0])


def test_on_planes_the_drop_is_the_margin_that_was_lost() -> None:
    x = torch.tensor([[0.6, 0.6], [0.5, 0.9]])
    wanted = torch.tensor([1.5, 0.3], dtype=torch.float64)
    points, reached = go(Box(0, 1), x, ONES, [W, W], wanted)
    torch.testing.assert_close(((x - points) * W).sum(1).double(), reached, atol=1e-5, rtol=0)
    torch.testing.assert_close(reached, wanted, atol=1e-5, rtol=0)  # a plane is linear
    way = points - x
    assert (way / way.norm(dim=1, keepdim=True) + W / W.norm()).abs().max() < 1e-5


def test_points_lie_farther_where_the_measuring_models_lose_less_than_predicted() -> None:
    x = torch.full((1, 2), 0.8)
    points, reached = go(Box(0, 1), x, ONES[:1], [W, W / 5], 0.5)
    assert float(reached) == pytest.approx(0.5, rel=TUNING.tolerance)
    assert float(((x - points) * W).sum()) == pytest.approx(2.5, rel=TUNING.tolerance)


def test_towards_the_label_the_drop_is_a_gain() -> None:
    x = torch.tensor([[0.2, 0.2]])
    points, reached = go(Box(0, 1), x, ONES[:1], [W, W], 1.0, sign=+1)
    assert float(((points - x) * W).sum()) == pytest.approx(float(reached), abs=1e-5) == pytest.approx(1.0, abs=1e-5)


def test_a_way_ends_at_the_bounds_with_the_drop_reached_there() -> None:
    x = torch.tensor([[0.1, 0.1]])
    points, reached = go(Box(0, 1), x, ONES[:1], [W, W], 5.0)
    assert (points == 0).all() and float(reached) == pytest.approx(0.7, abs=1e-5)


def test_where_measuring_models_gain_the_point_is_the_candidate_itself() -> None:
    x = torch.full((1, 2), 0.6)
    points, reached = go(Box(0, 1), x, ONES[:1], [W, -W], 1.0)
    assert torch.equal(points, x) and float(reached) == 0


def test_steps_are_measured_in_the_scale_of_the_features() -> None:
    """A rare feature is not moved far, however steep a model that saw next to nothing of it is there."""
    x = torch.full((1, 3), 0.5)
    w, scale = torch.tensor([1.0, 100.0, 1.0]), torch.tensor([0.3, 0.001, 0.0])
    points, reached = go(Box(0, 1), x, ONES[:1], [w, w], 0.2, scale=scale)
    moved = (x - points)[0]
    assert float(reached) == pytest.approx(0.2, abs=1e-5)
    assert float(moved[1] / moved[0]) == pytest.approx(100 * 0.001**2 / 0.3**2, rel=1e-3) and moved[2] == 0


def test_scales_come_from_the_rows_but_a_picture_has_one() -> None:
    rows = torch.rand(50, 6)
    rows[:, 2] = 0.1
    torch.testing.assert_close(feature_scale(rows, Box(0, 2)), rows.double().std(0, correction=0).float())
    assert feature_scale(rows, MIXED)[2] == 0
    pictures = torch.rand(5, 1, 8, 8)
    assert torch.equal(feature_scale(pictures, Box(0, 2)), Box(0, 2).span((1, 8, 8)))
    torch.testing.assert_close(feature_scale(pictures, Binary()), pictures.std(0, correction=0))


@pytest.mark.parametrize("domain", [Box(0, 1), Binary(), Mixed(Integer(0, 1, width=4))], ids=["box", "binary", "mixed"])
def test_what_never_varies_stays(domain: Domain) -> None:
    w = torch.tensor([1.0, 2.0, 3.0, 4.0])
    scale = torch.tensor([0.5, 0.0, 0.5, 0.0])
    points, _ = go(domain, torch.ones(1, 4), ONES[:1], [w, w], 100.0, scale=scale)
    assert points.tolist() == [[0.0, 1.0, 0.0, 1.0]]


def test_numbers_of_a_table_go_two_scales() -> None:
    domain = Mixed(Continuous(-10, 10), Integer(0, 100), Integer(0, 9))
    x, w = torch.tensor([[1.0, 50.0, 5.0]]), torch.tensor([3.0, 1.0, 0.5])
    points, _ = go(domain, x, ONES[:1], [w, w], 1000.0, scale=torch.tensor([1.5, 4.2, 0.1]))
    assert points.tolist() == [[-2.0, 42.0, 4.0]]


def test_pictures_change_smoothly() -> None:
    w = torch.zeros(1, 16, 16)
    w[0, 8, 8] = 1.0
    x = torch.full((1, 1, 16, 16), 0.5)
    sharp, smooth = (go(Box(0, 1), x, ONES[:1], [w, w], 0.1, smoothing=smoothing)[0] - x for smoothing in (0.0, 3 / 16))
    assert int((sharp != 0).sum()) == 1
    assert int((smooth != 0).sum()) == 49 and float(smooth[0, 0, 8, 8]) == float(smooth.min())
    assert float(smooth[0, 0, 8, 8]) == pytest.approx(float(sharp[0, 0, 8, 8]), rel=TUNING.tolerance)


@pytest.mark.parametrize("domain", [Binary(), MIXED], ids=["binary", "mixed"])
def test_tables_change_one_feature_after_the_other(domain: Domain) -> None:
    generator = torch.Generator().manual_seed(0)
    width = 6
    x = domain.from_uniform(torch.rand(9, width, generator=generator))
    w = torch.randn(width, generator=generator)
    y = (x @ w > 0).to(torch.int64)
    top, largest = go(domain, x, y, [w, w], math.inf)
    assert (largest > 0).all()
    domain.check(top, "point")
    points, reached = go(domain, x, y, [w, w], largest / 2)
    domain.check(points, "point")
    assert (reached >= largest / 2).all() and (reached <= largest).all()
    torch.testing.assert_close(
        reached, (ensemble_log_odds([plane(w)], x, y) - ensemble_log_odds([plane(w)], points, y))[0]
    )
    assert ((points != x).sum(1) <= (top != x).sum(1)).all()
    changed = go(domain, x, y, [w, w], 1e-9)[0] != x
    assert (changed.sum(1) <= 2).all()  # one feature; a switch of category changes two columns


def test_features_that_may_not_change_stay() -> None:
    w = torch.tensor([1.0, 2.0, 3.0, 4.0])
    allowed = torch.tensor([[True, False, True, False]])
    points, _ = go(Binary(), torch.ones(1, 4), ONES[:1], [w, w], math.inf, allowed=allowed)
    assert points.tolist() == [[0.0, 1.0, 0.0, 1.0]]


def test_means_are_taken_term_by_term() -> None:
    models = [plane(torch.randn(3)) for _ in range(5)]
    x, y = torch.randn(40, 3), torch.zeros(40, dtype=torch.int64)
    together = mean_of(ensemble_log_odds(models, x, y))
    alone = torch.cat([mean_of(ensemble_log_odds(models, x[i : i + 1], y[i : i + 1])) for i in range(40)])
    assert torch.equal(together, alone)
