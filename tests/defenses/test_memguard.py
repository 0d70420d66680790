"""MemGuard: whoever sees posteriors learns the label alone, and no label-only score moves by a bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from labelleaks import attacks, data
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Scores
from labelleaks.data import label_leaks_split
from labelleaks.defenses import MemGuard, memguard
from labelleaks.models import architectures
from labelleaks.models.training import Recipe, train
from labelleaks.targets import wrap

BUDGET = 40


def test_posteriors_say_the_label_and_nothing_else() -> None:
    outputs = torch.tensor([[3.0, 1.0, -2.0, 0.0], [0.0, 0.1, 9.0, 0.2], [1.0, 1.0, 0.0, 0.0]])
    p = memguard(outputs).exp()
    assert torch.equal(p.argmax(1), torch.tensor([0, 2, 0]))
    torch.testing.assert_close(p.sum(1), torch.ones(3))
    torch.testing.assert_close(p.sort(1).values, torch.tensor([[0.249 + 2e-3 / 3] * 3 + [0.251]]).expand(3, 4))


@pytest.fixture(scope="module")
def world() -> tuple[torch.nn.Module, Candidates, ShadowRows]:
    digits = data.load("digits")
    split = label_leaks_split(digits, seed=1, protocol="clean")
    x, y = digits.rows(split.members(100))
    model = architectures.build("mlp", digits.shape, digits.classes, seed=0)
    train(model, x, y, Recipe(epochs=8), seed=0)
    u, v = digits.rows(split.nonmembers(6))
    shadow = ShadowRows(*digits.rows(split.shadow[:120]))
    rows = Candidates(torch.cat([x[:6], u]), torch.cat([y[:6], v]), digits.domain, digits.classes)
    return model.eval(), rows, shadow


@pytest.mark.parametrize("name", attacks.names())
def test_every_label_only_score_keeps_its_bits(
    name: str, world: tuple[torch.nn.Module, Candidates, ShadowRows]
) -> None:
    model, rows, shadow = world

    def scores(target: torch.nn.Module) -> tuple[Scores, Gate]:
        gate = Gate(wrap(target, numpy=False, classes=rows.classes, width=rows.width))
        known = Knowledge(gate.setup_oracle("s"), ShadowRows(shadow.x, shadow.y), family="mlp", references=2)
        oracle = gate.oracle(name, len(rows), BUDGET)
        return attacks.resolve(name).score(oracle, rows, known, seed=0), gate

    (plain, open_gate), (behind, guarded_gate) = scores(model), scores(MemGuard(model).eval())
    assert torch.equal(plain.value, behind.value)
    assert torch.equal(plain.status, behind.status) and torch.equal(plain.queries, behind.queries)
    assert open_gate.ledger.describe() == guarded_gate.ledger.describe()
    details: dict[str, Tensor] = dict(behind.details)
    assert all(torch.equal(value, details[key]) for key, value in plain.details.items())
