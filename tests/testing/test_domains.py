"""check_domain passes what keeps the contract, ours and users' own, and names what a broken domain does wrong."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from labelleaks.core.domains import Binary, Box, Continuous, Domain, Group, Integer, Mixed, OneHot, need_domain
from labelleaks.errors import InputError
from labelleaks.testing import NotConformant, check_domain
from tests.core.own_domains import Cube, Grid, Holed, Record

GOOD: list[tuple[Domain, tuple[int, ...]]] = [
    (Box(0, 1), (3, 8, 8)),
    (Box(-2.1179, 2.64, levels=256), (5,)),
    (Box(torch.tensor([0.0, -1.0, 10.0]), torch.tensor([1.0, 0.5, 1000.0]), levels=7), (3,)),
    (Box(torch.zeros(3, 1, 1), torch.tensor([1.0, 2.0, 3.0])[:, None, None]), (3, 4, 4)),
    (Box(0, 1, layout="hwc"), (4, 8, 4)),
    (Binary(), (7,)),
    (Mixed(Continuous(-2, 2, width=4), Integer(0, 20, width=2), OneHot(4), OneHot(3)), (13,)),
    (Cube(), (2, 6)),
    (Holed(), (6,)),
    (Grid(), (6,)),
    (Record(), (16,)),
]


@pytest.mark.parametrize(("domain", "shape"), GOOD, ids=lambda x: type(x).__name__)
def test_domains_that_keep_the_contract_pass(domain: Domain, shape: tuple[int, ...]) -> None:
    check_domain(domain, shape)


def test_groups_of_ours_say_bounds_and_steps() -> None:
    (all_,) = Box(0.5, 2.5, levels=5).groups((2, 3))
    assert (all_.kind, all_.columns, all_.low, all_.high, all_.step) == ("continuous", slice(0, 6), 0.5, 2.5, 0.5)
    (each,) = Box(torch.tensor([0.0, -1.0]), torch.tensor([1.0, 3.0]), levels=3).groups((2,))
    assert isinstance(each.low, Tensor) and each.low.tolist() == [0, -1] and each.step == 2.0
    mixed = Mixed(Continuous(-1, 1), Integer(0, 3, width=2), OneHot(3)).groups((6,))
    assert [(g.kind, g.columns.start, g.columns.stop, g.low, g.high, g.step) for g in mixed] == [
        ("continuous", 0, 1, -1, 1, 0.0), ("integer", 1, 3, 0, 3, 1.0), ("one_hot", 3, 6, 0.0, 1.0, 0.0),
    ]  # fmt: skip
    with pytest.raises(InputError, match="kind='real': one of continuous, integer, binary, one_hot"):
        Group("real", slice(0, 1))  # type: ignore[arg-type]


class Unprojected(Cube):
    def project(self, x: Tensor) -> Tensor:
        return x.clone()

    def check(self, x: Tensor, what: str) -> None:
        if bool((x.abs() > 1).any()):
            raise InputError(f"{what}: too large")


class Restless(Cube):
    def project(self, x: Tensor) -> Tensor:
        return 0.999 * x.clamp(0, 1)

    def check(self, x: Tensor, what: str) -> None:
        if bool(((x < 0) | (x > 1)).any()):
            raise InputError(f"{what}: outside")


class Coupled(Cube):
    def project(self, x: Tensor) -> Tensor:
        return (x - x.min()).clamp(0, 1) if len(x) > 2 else x.clamp(0, 1)

    def check(self, x: Tensor, what: str) -> None:
        if bool(((x < 0) | (x > 1)).any()):
            raise InputError(f"{what}: outside")


class InPlace(Cube):
    def project(self, x: Tensor) -> Tensor:
        return x.clamp_(0, 1)


class Careless(Cube):
    def check(self, x: Tensor, what: str) -> None:
        pass


class Nameless(Cube):
    def check(self, x: Tensor, what: str) -> None:
        if bool(((x < 0) | (x > 1)).any()):
            raise InputError("outside")


class Constant(Cube):
    def from_uniform(self, u: Tensor) -> Tensor:
        return torch.full_like(u, 0.5)


class Small(Cube):
    def diameter(self, shape: Sequence[int], norm: Any) -> float:
        return 0.1


class Gapped(Cube):
    def groups(self, shape: Sequence[int]) -> tuple[Group, ...]:
        return (Group("continuous", slice(0, 2)), Group("continuous", slice(3, 6)))


class Short(Cube):
    def groups(self, shape: Sequence[int]) -> tuple[Group, ...]:
        return (Group("continuous", slice(0, 2)),)


class Torn(Cube):
    def groups(self, shape: Sequence[int]) -> tuple[Group, ...]:
        return (Group("binary", slice(0, 6)),)


class Halves(Grid):
    def project(self, x: Tensor) -> Tensor:
        return (x.clamp(0, 20) * 2).round() / 2


class Double(Cube):
    def bounds(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        return torch.zeros(tuple(shape), dtype=torch.float64), torch.ones(tuple(shape), dtype=torch.float64)


class Wide(Cube):
    def span(self, shape: Sequence[int]) -> Tensor:
        return torch.full(tuple(shape), 2.0)


class Unspeakable(Cube):
    def describe(self) -> dict[str, Any]:
        return {"kind": "cube", "low": torch.zeros(2)}


class Anonymous(Cube):
    def describe(self) -> dict[str, Any]:
        return {"low": 0.0}


class Unpicklable(Cube):
    def __init__(self) -> None:
        self.lock = threading.Lock()


class Sideways(Cube):
    layout = "sideways"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (Unprojected, r"projection: outside the domain"),
        (Restless, "contract: project must leave what is in the domain|projection: project must leave its own rows"),
        (Coupled, "row by row: project of a row depends on the rows beside it"),
        (InPlace, "projection: project must not change the rows that it gets"),
        (Careless, "check: check must refuse rows beyond the bounds"),
        (Nameless, "check: check must name the rows"),
        (Constant, "random inputs: from_uniform makes one row"),
        (Small, "distances: two inputs are .* apart in l0, the diameter is 0.1"),
        (Gapped, "contract: groups.* follow each other without a gap"),
        (Short, "contract: groups.* hold all 6 columns of a row, they hold 2"),
        (Torn, "contract: continuous=True, but features of kind binary cannot move"),
        (Halves, "kinds: columns .* are no whole numbers"),
        (Double, r"contract: bounds.* must be float32 of shape \(6,\), it is torch.float64"),
        (Wide, "contract: span.* must be high - low"),
        (Unspeakable, "contract: describe.* what JSON can hold"),
        (Anonymous, 'contract: describe.* a name under "kind"'),
        (Unpicklable, "pickled: it must be pickled"),
        (Sideways, "Sideways: layout='sideways': one of"),
    ],
)
def test_what_a_domain_does_wrong_is_named(broken: type, says: str) -> None:
    with pytest.raises(NotConformant, match=says) as caught:
        check_domain(broken(), (6,))
    assert broken.__name__ in str(caught.value)


def test_what_lacks_members_is_refused_with_what_to_add() -> None:
    class Half:
        continuous = True

        def project(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(InputError, match=r"domain=Half is not a whole domain, add .*bounds: bounds\(shape\) -> "):
        need_domain(Half())
    with pytest.raises(InputError, match=r"domain=Box is a class: give an instance, Box\(…\)"):
        need_domain(Box)
    with pytest.raises(InputError, match="domain='box' is not a domain: give Box"):
        need_domain("box")
    assert need_domain(Cube()).continuous
