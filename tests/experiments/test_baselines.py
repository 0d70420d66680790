"""The grid's own attacks: salt and pepper, and the baselines that see posteriors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from labelleaks import metrics
from labelleaks.core.attack import Knowledge
from labelleaks.core.domains import Binary, Box
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.errors import InputError
from labelleaks.experiments import baselines
from labelleaks.experiments.baselines import SaltAndPepper
from labelleaks.testing import check_attack
from tests.support import run


def attack(predict: object, x: Tensor, y: Tensor, budget: int = 1001) -> tuple[Scores, Gate]:
    return run(SaltAndPepper(), predict, Candidates(x, y, Box(0, 1), 2), budget=budget)  # type: ignore[arg-type]


def test_salt_and_pepper_keeps_every_rule_of_an_attack() -> None:
    check_attack(SaltAndPepper(), "vector")


def test_salt_and_pepper_counts_the_values_that_it_takes() -> None:
    """A target whose label changes with the share of extreme values: the level found is that share."""
    x = torch.full((6, 400), 0.5)
    scores, gate = attack(lambda rows: ((rows != 0.5).float().mean(1) >= 0.25).long(), x, torch.zeros(6).long())
    changed = (scores.value / 0.5) ** 2  # each change moves a value by 0.5
    assert bool((changed >= 100).all()) and bool((changed < 110).all())
    assert bool((scores.status == int(Status.DONE)).all())
    assert int(scores.queries.sum()) == gate.ledger.rows
    assert scores.trajectory is not None and torch.equal(scores.trajectory.value[-1], scores.value)
    assert bool((scores.trajectory.value.diff(dim=0) <= 0).all())


@pytest.mark.parametrize(
    ("label", "budget", "status"), [(1, 1001, Status.MISCLASSIFIED), (0, 1001, Status.NO_START), (0, 7, Status.BUDGET)]
)
def test_a_constant_target(label: int, budget: int, status: Status) -> None:
    scores, gate = attack(lambda rows: torch.zeros(len(rows)).long(), torch.rand(3, 9), torch.full((3,), label), budget)
    assert bool((scores.status == int(status)).all())
    assert gate.ledger.rows == 3 * (1 if label else budget)
    assert bool((scores.value == (0 if label else 3.0)).all())  # the diameter of nine unit sides


def test_salt_and_pepper_refuses_bits() -> None:
    bits = Candidates(torch.zeros(2, 4), torch.zeros(2).long(), Binary(), 2)
    with pytest.raises(InputError, match="Box"):
        SaltAndPepper().cost(bits, Knowledge(Gate(lambda x: x).setup_oracle("s")), 10)


def posteriors(n: int, sharpness: float, seed: int) -> Tensor:
    z = sharpness * torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.log_softmax(z, 1)


def test_salem_learns_that_members_are_surer() -> None:
    inside, outside = posteriors(300, 6, 0), posteriors(300, 1, 1)
    member = np.arange(400) < 200
    score = baselines.salem(torch.cat([posteriors(200, 6, 2), posteriors(200, 1, 3)]), inside, outside, seed=0)
    found = metrics.auc(score.numpy(), member).value
    assert found is not None and found > 0.85
    again = baselines.salem(posteriors(200, 6, 2), inside, outside, seed=0)
    assert torch.equal(again, score[:200])  # a row's bits do not hang on the rows beside it


def test_given_labels_only_the_loss_is_the_gap_attack_and_salem_knows_nothing() -> None:
    labels, y = torch.tensor([0, 1, 2, 1]), torch.tensor([0, 1, 0, 0])
    loss = baselines.loss_threshold(baselines.one_hot(labels, 3), y)
    assert loss.tolist() == [0.0, 0.0, loss[2].item(), loss[2].item()] and loss[2] < 0
    seen = baselines.one_hot(torch.arange(50) % 3, 3)
    assert len(baselines.salem(seen, seen, seen, seed=0).unique()) == 1


def test_lira_asks_how_much_surer_the_target_is_than_the_shadows() -> None:
    y = torch.zeros(3).long()
    p = torch.tensor([0.9, 0.9, 0.5], dtype=torch.float64)
    shadow = torch.tensor([0.9, 0.1, 0.5], dtype=torch.float64)
    log_p, outside = (torch.stack([q, 1 - q], 1).log() for q in (p, shadow))
    score = baselines.lira_offline(log_p, [outside, outside], y)
    np.testing.assert_allclose(score, [0, 2 * np.log(9), 0], atol=1e-12)
