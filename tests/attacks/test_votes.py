"""A boundary search of a target whose labels change: the majority of repeated answers, within the budget."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from labelleaks.attacks import Boundary
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.domains import Box
from labelleaks.core.oracle.label_oracle import Gate
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.errors import InputError
from tests.support import run

D = 12
X = torch.rand(60, D, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
W = torch.linspace(0.5, 1.5, D, dtype=torch.float64)
LEVEL = float((X.double() @ W).median())
TRUE = ((X.double() @ W - LEVEL).abs() / W.norm()).clamp_min(1e-9)  # the exact distance to the plane


def plane(x: Tensor) -> Tensor:
    return (x.double() @ W > LEVEL).long()


def score(share: float, votes: int, budget: int, shadow: Tensor | None = None) -> tuple[Scores, Gate, Boundary]:
    generator = torch.Generator().manual_seed(1)

    def noisy(x: Tensor) -> Tensor:
        flipped = torch.rand(len(x), generator=generator) < share
        return torch.where(flipped, 1 - plane(x), plane(x))

    attack = Boundary(votes=votes)
    found, gate = run(attack, noisy, Candidates(X, plane(X), Box(0, 1), 2), budget=budget, shadow=shadow)
    return found, gate, attack


def test_votes_keep_the_distance_right_where_one_answer_does_not() -> None:
    once, often = score(0.1, 1, 600)[0], score(0.1, 9, 2400)[0]

    def right(found: Scores) -> float:
        """Share of candidates whose distance is within a fifth of the true one."""
        ratio = found.value / TRUE
        return float(((ratio > 0.8) & (ratio < 1.2)).double().mean())

    assert right(often) > 0.85
    assert right(once) < right(often) - 0.25
    assert 0.85 < float(often.details["agreement"].mean()) < 0.97
    assert "agreement" not in once.details


@pytest.mark.parametrize("votes", [3, 5])
def test_a_quiet_target_gives_the_distances_of_one_vote_for_more_labels(votes: int) -> None:
    once, often = score(0.0, 1, 10_000)[0], score(0.0, votes, 60_000)[0]
    assert torch.equal(once.value, often.value) and torch.equal(once.status, often.status)
    assert (often.details["agreement"] == 1.0).all()
    assert (often.queries > once.queries).all() and (often.queries < votes * once.queries).all()


@pytest.mark.parametrize("budget", [120, 333])
def test_the_budget_holds_and_every_row_is_billed(budget: int) -> None:
    found, gate, attack = score(0.3, 3, budget, shadow=torch.rand(20, D))
    assert int(found.queries.max()) <= budget
    assert gate.ledger.setup == {"boundary.starts": 60}
    assert gate.ledger.rows == int(found.queries.sum()) + 60
    assert (found.status != int(Status.NO_START)).any() and bool(torch.isfinite(found.value).all())
    knowledge = Knowledge(gate.setup_oracle("boundary"), ShadowRows(torch.rand(20, D)))
    cost = attack.cost(Candidates(X, plane(X), Box(0, 1), 2), knowledge, budget)
    assert cost.setup == 60 and cost.least <= budget == cost.most


@pytest.mark.parametrize("votes", [0, 2, -1, 1.5])
def test_votes_are_odd(votes: int) -> None:
    with pytest.raises(InputError, match="votes must be"):
        Boundary(votes=votes)
