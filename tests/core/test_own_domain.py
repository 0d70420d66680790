"""A domain of the user's own runs through every attack, inside itself, or is refused by name before a query."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import labelleaks as ll
from labelleaks import attacks
from labelleaks.attacks.boundary import Boundary
from labelleaks.attacks.search.registry import SEARCHES
from labelleaks.core.attack import Knowledge
from labelleaks.core.domains import Domain, Group
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates
from labelleaks.experiments.baselines import SaltAndPepper
from tests.core.own_domains import Cube, Grid, Holed, Record

N, BUDGET = 8, 60
_OTHERS = [name for name in SEARCHES if name != "hopskipjump"]
VARIANTS: dict[str, Any] = {name: attacks.load(name)() for name in attacks.names()} | {
    "boundary linf": Boundary(norm="linf"),
    "boundary l0": Boundary(norm="l0"),
    "boundary dct": Boundary(subspace="dct"),
    **{f"boundary {name}": Boundary(search=name, norm="linf" if name == "rays" else "l2") for name in _OTHERS},  # type: ignore[arg-type]
}
SHAPES: dict[type, tuple[int, ...]] = {Holed: (1, 6, 6), Grid: (16,), Record: (16,)}
_TABLES = (Grid, Record)
REFUSED = {  # what cannot be done there, and the words that say so
    (Holed, "boundary l0"): r"boundary: norm='l0' .* in Holed use",
    **{
        (kind, "augmentation"): r"augmentation needs images, sequences, volumes or texts: rows of shape \(16,\)"
        for kind in _TABLES
    },
    **{(kind, "boundary dct"): f"boundary: subspace='dct' needs images .* not {kind.__name__}" for kind in _TABLES},
    **{
        (kind, f"boundary {name}"): f"boundary: search='{name}' .* not {kind.__name__}"
        for kind in _TABLES
        for name in _OTHERS
    },
}


class Watched:
    """A linear target that notes every row it sees outside the domain."""

    def __init__(self, domain: Domain, shape: tuple[int, ...]) -> None:
        self.domain, self.rows = domain, 0
        pool = domain.from_uniform(torch.rand(500, *shape, generator=torch.Generator().manual_seed(1)))
        self.weights = torch.where(torch.arange(pool[0].numel()) % 2 == 0, 1.0, -1.0) / domain.span(shape).flatten()
        self.middle = (pool.flatten(1) @ self.weights).median()

    def __call__(self, x: Any) -> Any:
        rows = torch.as_tensor(np.asarray(x))
        self.rows += len(rows)
        self.domain.check(rows, "query")
        assert torch.equal(self.domain.project(rows), rows)  # to the last bit
        return ((rows.flatten(1) @ self.weights) > self.middle).long().numpy()


def given(domain: Domain, shape: tuple[int, ...]) -> tuple[Watched, dict[str, Any]]:
    target = Watched(domain, shape)
    x = domain.from_uniform(torch.rand(2 * N + 60, *shape, generator=torch.Generator().manual_seed(0)))
    y = target(x)
    target.rows = 0
    x = x.numpy()
    return target, {
        "members": (x[:N], y[:N]), "nonmembers": (x[N : 2 * N], y[N : 2 * N]), "shadow": (x[2 * N :],),
        "domain": domain, "budget": BUDGET, "classes": 2, "family": "mlp", "references": 2, "show_progress": False,
    }  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("kind", SHAPES, ids=lambda kind: kind.__name__)
def test_every_attack_runs_in_an_own_domain_or_refuses_it_by_name(kind: type, name: str) -> None:
    target, arguments = given(kind(), SHAPES[kind])
    says = REFUSED.get((kind, name))
    if says is not None:
        with pytest.raises(ll.InputError, match=says):
            ll.audit(target, attacks=[VARIANTS[name]], **arguments)
        assert target.rows == 0
        return
    record = ll.audit(target, attacks=[VARIANTS[name]], **arguments)
    (result,) = record.attacks.values()
    assert np.isfinite(result.scores).all() and len(result.scores) == 2 * N
    assert target.rows == record.ledger.rows


@pytest.mark.parametrize("shape", [(16,), (1, 6, 6)])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_box_by_another_name_is_attacked_as_a_box(name: str, shape: tuple[int, ...]) -> None:
    """Bit for bit: no attack asks which class a domain is."""
    scores = []
    for domain in (ll.Box(0, 1), Cube()):
        target, arguments = given(domain, shape)
        try:
            record = ll.audit(target, attacks=[VARIANTS[name]], **arguments)
        except ll.InputError as error:
            scores.append((str(error).replace("Cube", "Box"), target.rows))
            continue
        (result,) = record.attacks.values()
        scores.append((result.scores.tolist(), result.status.tolist(), result.queries.tolist()))
    assert scores[0] == scores[1]


@pytest.mark.parametrize("name", ["noise", "chameleon", "dhattack", "yoqo", "oslo", "guided", "boundary", "calibrated"])
def test_bits_by_another_name_are_attacked_as_bits(name: str) -> None:
    class Bits(Grid):
        high = 1.0

        def groups(self, shape: Any) -> tuple[Group, ...]:
            return tuple(Group("binary", slice(i, i + 1)) for i in range(shape[0]))  # one by one is as good

        def project(self, x: Tensor) -> Tensor:
            return (x > 0.5).to(x.dtype)

        def from_uniform(self, u: Tensor) -> Tensor:
            return (u >= 0.5).to(u.dtype)

    scores = []
    for domain in (ll.Binary(), Bits()):
        target, arguments = given(domain, (16,))
        (result,) = ll.audit(target, attacks=[name], **arguments).attacks.values()
        scores.append((result.scores.tolist(), result.status.tolist(), result.queries.tolist()))
    assert scores[0] == scores[1]


def test_salt_and_pepper_asks_the_domain_too() -> None:
    found = []
    for domain in (ll.Box(0, 1), Cube(), Record()):
        target, arguments = given(domain, (16,))
        x, y = arguments["members"]
        candidates = Candidates(torch.as_tensor(x), torch.as_tensor(y), domain, 2)
        gate = Gate(lambda rows, target=target: torch.as_tensor(target(rows)))
        knowledge = Knowledge(gate.setup_oracle("s"))
        attack = SaltAndPepper()
        if not domain.continuous:
            with pytest.raises(ll.InputError, match=r"salt_and_pepper needs .* not Record"):
                attack.cost(candidates, knowledge, 200)
            continue
        attack.cost(candidates, knowledge, 200)
        found.append(attack.score(gate.oracle("s", N, 200), candidates, knowledge, seed=0).value)
    assert torch.equal(*found)


def test_boundary_distances_in_an_own_domain_are_those_of_the_search_that_fits_it() -> None:
    """Not the search over bits, which finds points a third farther away."""
    target, arguments = given(Cube(), (16,))
    record = ll.audit(target, attacks=["boundary"], **{**arguments, "budget": 500})
    x = np.concatenate([arguments["members"][0], arguments["nonmembers"][0]])
    true = np.abs(x @ target.weights.numpy() - target.middle.numpy()) / np.linalg.norm(target.weights.numpy())
    found = record.attacks["boundary"].scores
    assert np.median(found / true) < 1.1


def test_default_attacks_random_thresholds_and_the_report_take_an_own_domain(tmp_path: Any) -> None:
    for kind, shape in ((Holed, (1, 6, 6)), (Grid, (12,)), (Record, (16,))):
        target, arguments = given(kind(), shape)
        record = ll.audit(target, **arguments, out=tmp_path / kind.__name__)
        assert record.domain == {"kind": kind.__name__.lower()}
        assert ("augmentation" in record.attacks) == (len(shape) == 3)
        assert (tmp_path / kind.__name__ / "report.html").stat().st_size > 1000


class Lacking:
    """A domain of an earlier edition."""

    def project(self, x: Tensor) -> Tensor:
        return x.clamp(0, 1)

    def check(self, x: Tensor, what: str) -> None: ...


class Failing(Cube):
    def groups(self, shape: Any) -> Any:
        return 1 / 0


class Liar(Cube):
    def bounds(self, shape: Any) -> Any:
        return torch.zeros(3), torch.ones(3)


@pytest.mark.parametrize(
    ("domain", "says"),
    [
        (Lacking(), r"domain=Lacking is not a whole domain, add .*continuous: a bool; .*groups: groups\(shape\) -> "),
        (Cube, "domain=Cube is a class"),
        (Failing(), r"domain=Failing fails for rows of shape \(16,\): division by zero"),
        (Liar(), r"domain=Liar breaks its contract .*bounds\(shape\)\[0\] must be float32 of shape \(16,\)"),
        (Record(), "members: rows outside the Record"),
    ],
)
def test_what_is_no_domain_is_refused_before_a_query(domain: Any, says: str) -> None:
    target, arguments = given(Cube(), (16,))
    with pytest.raises(ll.InputError, match=says) as caught:
        ll.audit(target, **{**arguments, "domain": domain})
    assert target.rows == 0 and "\n" not in str(caught.value)
