"""CHAMELEON's test: the divergence in closed form, who is a neighbour, what is asked and in which order, the copies."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from labelleaks.attacks.chameleon import Chameleon, _copies, _divergence, _moved_index
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.domains import Binary, Box
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Status
from labelleaks.errors import InputError
from labelleaks.models import reference_models
from labelleaks.models.training import Recipe
from labelleaks.testing.planted import remembered

SHORT = Recipe(epochs=8)


def given(name: str = "vector", count: int | None = 4):
    made = remembered(name)
    gate = Gate(made.target())
    return made, gate, Knowledge(gate.setup_oracle("setup"), ShadowRows(made.shadow), references=count)


def expected_divergence(models, points: torch.Tensor, y: int) -> torch.Tensor:
    p = torch.stack([m.logits(points).double().softmax(1)[:, y] for m in models])
    phi = torch.log(p + 1e-7) - torch.log(1 - p + 1e-7)
    mean, sd = phi.mean(0), phi.std(0) + 1e-5
    return kl_divergence(Normal(mean[0], sd[0]), Normal(mean, sd))


def test_the_divergence_is_that_of_the_fitted_normals() -> None:
    made, _, knowledge = given()
    models = reference_models.references(knowledge, 2, seed=0, recipe=SHORT).models
    rows = torch.tensor([3, 8])
    points = torch.cat([made.candidates.x[rows, None], _copies(made.candidates, 5, 0)(rows)], 1)
    found = _divergence(models, points, made.candidates.y[rows])
    for i, row in enumerate(rows.tolist()):
        expected = expected_divergence(models, points[i], int(made.candidates.y[row]))
        assert torch.allclose(found[i], expected, rtol=1e-4, atol=1e-5)
    assert (found[:, 0].abs() < 1e-9).all()


@pytest.mark.parametrize("kl", [0.05, 0.75, 1e9])
def test_the_score_is_the_share_of_the_nearest_neighbours_labelled_right(kl: float) -> None:
    made, gate, knowledge = given()
    attack = Chameleon(copies=12, kl=kl, recipe=SHORT)
    budget = 7
    scores = attack.score(gate.oracle("chameleon", 32, budget), made.candidates, knowledge, seed=0)
    models = reference_models.references(knowledge, 2, seed=0, recipe=SHORT).models
    everyone = torch.arange(32)
    points = torch.cat([made.candidates.x[:, None], _copies(made.candidates, 12, 0)(everyone)], 1)
    for i in range(32):
        y = int(made.candidates.y[i])
        apart = expected_divergence(models, points[i], y)[1:]
        near = [j for j in apart.argsort().tolist() if float(apart[j]) <= kl]
        asked = points[i][[0, *(1 + j for j in near)]][:budget]
        right = made.decide(asked) == y
        assert int(scores.details["neighbours"][i]) == len(near)
        assert int(scores.queries[i]) == len(asked)
        assert float(scores.value[i]) == pytest.approx(float(right.double().mean()))
        first = Status.DONE if len(near) < budget else Status.BUDGET
        assert int(scores.status[i]) == int(first if right[0] else Status.MISCLASSIFIED)
    assert torch.equal(gate.ledger.candidates["chameleon.neighbours"], scores.queries)
    assert scores.trajectory is not None
    right_alone = (made.decide(made.candidates.x) == made.candidates.y).double()
    assert torch.equal(scores.trajectory.value[0], right_alone)


@pytest.mark.parametrize("shape", [(1, 16, 16), (16, 16), (16, 16, 3)])
def test_copies_of_pictures_are_mirrored_and_shifted(shape: tuple[int, ...]) -> None:
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    rows = Candidates(x, torch.zeros(2, dtype=torch.int64), Box(0, 1), 2)
    made = _copies(rows, 40, 0)(torch.tensor([1, 0]))
    assert made.shape == (2, 40, *shape)
    across = {(1, 16, 16): 2, (16, 16): 1, (16, 16, 3): 1}[shape]
    down = across - 1
    for i, row in ((0, 1), (1, 0)):
        known = {}
        for mirrored in (False, True):
            for a in range(-2, 3):
                for b in range(-2, 3):
                    index = (torch.arange(16) - b).clamp(0, 15)
                    index = 15 - index if mirrored else index
                    moved = x[row].index_select(down, (torch.arange(16) - a).clamp(0, 15)).index_select(across, index)
                    known[moved.numpy().tobytes()] = (mirrored, a, b)
        seen = {known[copy.contiguous().numpy().tobytes()] for copy in made[i]}
        assert len(seen) > 15 and {m for m, _, _ in seen} == {False, True}


def test_shifts_cover_both_directions_evenly() -> None:
    draw = (torch.arange(900) / 900)[None]
    shift = -(_moved_index(32, draw)[0, :, 16] - 16)
    assert torch.bincount(shift + 4).tolist() == [100] * 9


def test_copies_of_bits_are_those_of_the_noise_attack() -> None:
    made, _, _ = given("binary")
    copies = _copies(made.candidates, 10, 0)(torch.arange(4))
    Binary().check(copies.reshape(-1, 40), "copies")
    flips = (copies != made.candidates.x[:4, None]).sum(2).double()
    assert 1 < float(flips.mean()) < 8


def test_cost_and_refusals() -> None:
    made, gate, knowledge = given()
    cost = Chameleon().cost(made.candidates, knowledge, 50)
    assert (cost.least, cost.most, cost.setup) == (1, 50, len(made.shadow))
    assert Chameleon(copies=3).cost(made.candidates, knowledge, 50).most == 4
    for settings, says in (({"copies": 0}, "copies must be a whole number"), ({"kl": 0.0}, "kl must be a number")):
        with pytest.raises(InputError, match=says):
            Chameleon(**settings)
    made, gate, knowledge = given(count=1)
    with pytest.raises(InputError, match="needs two at least"):
        Chameleon().prepare(knowledge, made.candidates, seed=0)
    assert gate.ledger.rows == 0
