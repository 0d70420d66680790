"""The calibrated boundary attack: what it adds to the boundary's distance, and what it costs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from labelleaks.attacks import calibrated as module
from labelleaks.attacks.boundary import Boundary
from labelleaks.attacks.calibrated import TUNING, Calibrated
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.domains import Box
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.label_oracle import Ledger
from labelleaks.core.types import Candidates, Predict, Scores, Status
from labelleaks.errors import NeedsError
from labelleaks.models.training import Recipe
from labelleaks.testing import check_attack
from labelleaks.testing.planted import Ball, HalfSpace, remembered

BOX = Box(-20, 20)
UNTRAINED = Recipe(epochs=1, lr=1e-30)


class Plane(nn.Module):
    """Class 1 where the first feature is above ``at``: a reference whose boundary is known."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.line = nn.Linear(4, 2)
        with torch.no_grad():
            self.line.weight.copy_(torch.tensor([[0.0, 0, 0, 0], [1.0, 0, 0, 0]]))
            self.line.bias.copy_(torch.tensor([0.0, -at]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.line(x))


def attack(
    target: Predict, x: torch.Tensor, reference_at: float, *, y: torch.Tensor | None = None, references: int = 2
) -> tuple[Scores, Ledger]:
    gate = Gate(target, batch_rows=64)
    shadow = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    knowledge = Knowledge(
        setup=gate.setup_oracle("setup"),
        shadow=ShadowRows(shadow),
        starts=torch.tensor([[10.0, 0, 0, 0]]),
        family=lambda: Plane(reference_at),
        references=references,
    )
    y = torch.zeros(len(x), dtype=torch.int64) if y is None else y
    candidates = Candidates(x, y, BOX, classes=2)
    calibrated = Calibrated(recipe=UNTRAINED)
    cost = calibrated.cost(candidates, knowledge, 200)
    scores = calibrated.score(gate.oracle("calibrated", len(x), 200), candidates, knowledge, seed=0)
    assert gate.ledger.setup_rows == cost.setup == 41
    return scores, gate.ledger


FIRST = HalfSpace(torch.tensor([1.0, 0, 0, 0]), 2.0)
ROWS = torch.tensor([[0.0, 0, 0, 0], [-2.0, 1, 0, 0], [1.0, 0, 3, 0]])  # 2, 4 and 1 away


@pytest.mark.parametrize("at", [4.0, 1.5, 2.0])
def test_the_score_is_the_log_of_target_to_reference_distance(at: float) -> None:
    scores, ledger = attack(FIRST, ROWS, at)
    true = torch.tensor([2.0, 4.0, 1.0], dtype=torch.float64)
    expected = (true / (true + at - 2.0)).log()
    torch.testing.assert_close(scores.value, expected, rtol=0, atol=0.03)  # steps of 1 %, and the search's own error
    reference = scores.details["reference_distance"]
    assert reference.shape == (3, 2) and torch.equal(reference[:, 0], reference[:, 1])
    torch.testing.assert_close(reference[:, 0], true + at - 2.0, rtol=0.03, atol=0)
    assert ledger.rows - ledger.setup_rows == int(scores.queries.sum())


def test_the_search_is_the_boundary_attack_s() -> None:
    scores, _ = attack(FIRST, ROWS, 4.0)
    gate = Gate(FIRST, batch_rows=64)
    knowledge = Knowledge(setup=gate.setup_oracle("setup"), starts=torch.tensor([[10.0, 0, 0, 0]]))
    candidates = Candidates(ROWS, torch.zeros(3, dtype=torch.int64), BOX, classes=2)
    plain = Boundary().score(gate.oracle("boundary", 3, 200), candidates, knowledge, seed=0)
    assert torch.equal(scores.queries, plain.queries) and torch.equal(scores.status, plain.status)
    for name, found in plain.details.items():
        assert torch.equal(scores.details[name], found)


def test_a_reference_that_is_wrong_about_the_candidate_has_the_shortest_distance() -> None:
    scores, _ = attack(FIRST, ROWS, -1.0)  # right about the second row alone
    shortest = BOX.diameter((4,), "l2") / 2**TUNING.octaves
    reference = scores.details["reference_distance"][:, 0]
    assert reference[0] == reference[2] == pytest.approx(shortest)
    assert float(reference[1]) == pytest.approx(1.0, rel=0.03)
    assert scores.value[0] > scores.value[2] > scores.value[1]  # among the easy wins the target's distance decides


def test_a_reference_that_never_changes_its_mind_has_the_diameter() -> None:
    scores, _ = attack(FIRST, ROWS, 100.0)
    assert torch.equal(scores.details["reference_distance"], torch.full((3, 2), BOX.diameter((4,), "l2")).double())


def test_misclassified_last_and_censored_first() -> None:
    y = torch.tensor([0, 1, 0])
    scores, _ = attack(FIRST, ROWS, 4.0, y=y)
    assert scores.status[1] == int(Status.MISCLASSIFIED) and scores.queries[1] == 1
    assert scores.value[1] < scores.value[[0, 2]].min() - 1 and not scores.details["reference_distance"][1].any()
    alone = torch.zeros(2, 4)
    alone[1, 0] = 1.0
    point = Ball(torch.tensor([10.0, 0, 0, 0]), 1e-6)  # only the start itself, and it is not asked for again

    def never(rows: torch.Tensor) -> torch.Tensor:
        return 0 * point(rows)

    scores, _ = attack(never, alone, 4.0)
    assert scores.status.tolist() == [int(Status.NO_START)] * 2
    assert scores.value.tolist() == pytest.approx([TUNING.octaves * math.log(2)] * 2)


@pytest.mark.parametrize("together", [1, 3, 5, 100])
def test_the_first_wrong_length_is_found_on_every_ray(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TUNING", replace(TUNING, together=together))
    lengths = torch.arange((TUNING.octaves * TUNING.coarse << TUNING.bisect) + 1)
    last = len(lengths) - 1
    edge = torch.tensor([0, 1, 31, 32, 33, 100, last - 33, last - 1, last, last + 9])

    def wrong(index: torch.Tensor, ray: torch.Tensor) -> torch.Tensor:
        return index >= edge[ray]

    found = module._first(wrong, len(edge), lengths)
    # Beyond the last coarse point nothing is asked: those rays count as never wrong.
    coarse = last - (1 << TUNING.bisect)
    assert torch.equal(found, torch.where(edge > coarse, last, edge))


def test_rays_are_followed_some_candidates_at_a_time_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, _ = attack(FIRST, ROWS, 4.0)
    monkeypatch.setattr(module, "_GROUP", 1)
    assert torch.equal(attack(FIRST, ROWS, 4.0)[0].value, scores.value)


def test_without_shadow_rows_it_refuses() -> None:
    gate = Gate(FIRST)
    candidates = Candidates(ROWS, torch.zeros(3, dtype=torch.int64), BOX, classes=2)
    with pytest.raises(NeedsError, match="shadow"):
        Calibrated().cost(candidates, Knowledge(setup=gate.setup_oracle("setup")), 200)
    assert gate.ledger.rows == 0


@pytest.mark.parametrize("name", ["vector", "image", "binary", "mixed"])
def test_every_conformance_row(name: str) -> None:
    check_attack(Calibrated(recipe=Recipe(epochs=8)), remembered(name))
