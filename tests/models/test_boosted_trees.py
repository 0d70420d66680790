"""Boosted trees as a family of shadow models: same bytes, every class has a logit, the default of tables."""

from __future__ import annotations

import pickle

import pytest
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.domains import Binary, Box, Continuous, Integer, Mixed, OneHot
from labelleaks.core.oracle.gate import Gate
from labelleaks.errors import InputError, NeedsError
from labelleaks.models import architectures, reference_models
from labelleaks.models.boosted_trees import BoostedTrees
from labelleaks.models.shadow_training import train_shadows

TABLE = Mixed(Continuous(0, 1, width=3), OneHot(3))


def rows(n: int, classes: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = TABLE.from_uniform(torch.rand(n, 6, generator=torch.Generator().manual_seed(seed)))
    return x, ((x[:, 0] + x[:, 4]) * classes / 2).long().clamp(0, classes - 1)


def test_the_same_rows_make_the_same_trees_on_any_number_of_threads() -> None:
    x, y = rows(400)
    one = BoostedTrees(3).fit(x, y, 2).logits(x)
    with threadpool_limits(2):
        again = BoostedTrees(3).fit(x, y, 2).logits(x)
    assert torch.equal(one, again)
    assert not torch.equal(one, BoostedTrees(4).fit(x, y, 2).logits(x))
    assert ((one[:, 1] > one[:, 0]) == (y == 1)).to(torch.float64).mean() > 0.95


def test_a_row_has_the_same_bits_in_any_company() -> None:
    x, y = rows(300, classes=3)
    model = BoostedTrees(0).fit(x, y, 3)
    whole = model.logits(x)
    for some in (torch.tensor([5]), torch.arange(299, -1, -3), torch.arange(64)):
        assert torch.equal(model.logits(x[some]), whole[some])
        assert torch.equal(model.labels(x[some]), whole[some].argmax(1))
    assert torch.equal(pickle.loads(pickle.dumps(model)).logits(x), whole)  # as it is sent to shards
    assert model.logits(x[:0]).shape == (0, 3)
    torch.testing.assert_close(model.log_posteriors(x).exp().sum(1), torch.ones(300, dtype=torch.float64))


@pytest.mark.parametrize("kept", [[1], [0, 2]])
def test_a_class_that_no_row_has_is_never_the_answer(kept: list[int]) -> None:
    x, _ = rows(100)
    y = torch.tensor(kept)[(x[:, 0] > 0.5).long() % len(kept)]
    model = BoostedTrees(0).fit(x, y, 4)
    assert model.logits(x).shape == (100, 4)
    assert set(model.labels(x).tolist()) == set(kept)


def test_references_by_the_name_of_trees_differ_and_are_shared() -> None:
    x, y = rows(200)
    gate = Gate(lambda q: (q[:, 0] > 0.5).long())
    knowledge = Knowledge(gate.setup_oracle("s"), ShadowRows(x), family="trees", references=3)
    models = reference_models.references(knowledge, 2, seed=0).models
    assert reference_models.references(knowledge, 2, seed=0).models == models
    assert len({model.logits(x).numpy().tobytes() for model in models}) == 3
    assert len(reference_models.trainings(knowledge.store)) == 3 and gate.ledger.rows == 200
    with pytest.raises(NeedsError, match="boosted trees have no gradient"):
        models[0].gradient(x, y, lambda logits, _: logits[:, 0])
    same = train_shadows(x, y, 2, "trees", seeds=[1])[0]
    assert torch.equal(same.logits(x), train_shadows(x, y, 2, "trees", seeds=[1])[0].logits(x))


def test_trees_are_the_default_of_tables_alone() -> None:
    assert architectures.family_for(None, (6,), TABLE) == "trees"
    assert architectures.family_for(None, (2,), Mixed(Integer(0, 1), Integer(0, 9))) == "trees"
    assert architectures.family_for(None, (6,), Box(0, 1)) is None
    assert architectures.family_for(None, (6,), Binary()) is None
    assert architectures.family_for(None, (1025,), Mixed(Continuous(0, 1, width=1025))) is None
    assert architectures.family_for("mlp", (6,), TABLE) == "mlp"
    with pytest.raises(InputError, match=r"unknown shadow family 'tree'.*trees"):
        architectures.build("tree", (6,), 2, seed=0)
