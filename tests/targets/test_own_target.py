"""A target of the user's own is taken as it is, however its members are set, and is open while it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import torch
from torch import Tensor

import labelleaks as ll
from labelleaks.core.classes import Classes
from labelleaks.errors import InputError, TargetError
from labelleaks.targets import is_target, wrap


class Base:
    """Label 1 above the middle; counts how it is used, and answers only while it is open."""

    name = "own"
    classes = Classes((0, 1))
    batch_rows = 64

    def describe(self) -> dict[str, Any]:
        return {"kind": "own", "name": self.name, "fingerprint": self.fingerprint}

    def __enter__(self) -> Self:
        self.__dict__.setdefault("log", []).append("opened")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.log.append("closed")

    def __call__(self, x: Tensor) -> Tensor:
        assert self.__dict__.get("log", ["closed"])[-1] == "opened", "asked while it was closed"
        self.__dict__["rows"] = self.__dict__.get("rows", 0) + len(x)
        return (x.reshape(len(x), -1).sum(1) > x[0].numel() / 2).to(torch.int64)


class OnTheClass(Base):
    fingerprint = "v1"


class OnTheInstance(Base):
    def __init__(self) -> None:
        self.fingerprint = "v1"


class AllOnTheInstance(Base):
    def __init__(self) -> None:
        self.fingerprint, self.name, self.batch_rows, self.classes = "v1", "own", 64, Classes((0, 1))


class Computed(Base):
    @property
    def fingerprint(self) -> str:
        return "v1"


@dataclass
class InAField(Base):
    fingerprint: str


@dataclass
class InADefaultField(Base):
    fingerprint: str = field(default="v1")


class InASlot(Base):
    __slots__ = ("fingerprint",)

    def __init__(self) -> None:
        self.fingerprint = "v1"


OWN: dict[str, Callable[[], Any]] = {
    "class attribute": OnTheClass,
    "instance attribute": OnTheInstance,
    "everything on the instance": AllOnTheInstance,
    "property": Computed,
    "dataclass field": lambda: InAField("v1"),
    "dataclass field with a default": InADefaultField,
    "slot": InASlot,
}
ROWS = torch.rand(24, 6, generator=torch.Generator().manual_seed(3))
LABELS = (ROWS.sum(1) > 3).to(torch.int64)


def audit(target: Any, **settings: Any) -> ll.AuditRecord:
    return ll.audit(
        target,
        members=(ROWS[:12], LABELS[:12]),
        nonmembers=(ROWS[12:], LABELS[12:]),
        attacks=["gap", "noise"],
        budget=20,
        **settings,
    )


@pytest.mark.parametrize("shard_rows", [None, 5])
@pytest.mark.parametrize("kept", [False, True], ids=["", "journal"])
@pytest.mark.parametrize("own", OWN)
def test_it_is_taken_as_it_is(own: str, kept: bool, shard_rows: int | None, tmp_path: Path) -> None:
    target = OWN[own]()
    assert is_target(target) and wrap(target, numpy=True) is target
    journal = tmp_path / "answers.journal" if kept else None
    record = audit(target, journal=journal, shard_rows=shard_rows)
    assert record.target == {"kind": "own", "name": "own", "fingerprint": "v1"}
    assert target.log == ["opened", "closed"]
    if not kept:
        assert target.rows == record.ledger.rows
    else:
        again = OWN[own]()
        replayed = audit(again, journal=journal, shard_rows=shard_rows, replay_only=True)
        assert (replayed["noise"].scores == record["noise"].scores).all()
        assert "rows" not in again.__dict__ and again.log == ["opened", "closed"]


def test_nothing_is_computed_to_see_what_a_target_is() -> None:
    class Costly(OnTheClass):
        @property
        def fingerprint(self) -> str:  # type: ignore[override]
            raise AssertionError("was computed")

    assert is_target(Costly())


def test_what_is_no_target_is_none() -> None:
    def function(x: Any) -> Any:
        return x

    function.fingerprint = "v1"  # type: ignore[attr-defined]
    function.describe = function  # type: ignore[attr-defined]
    for thing in (function, torch.nn.Linear(2, 2), OnTheClass, 3, None):
        assert not is_target(thing)


class Half:
    """All marks of a target, not all members."""

    fingerprint = "v1"

    def describe(self) -> dict[str, Any]:
        return {}

    def __enter__(self) -> Self:
        return self

    def __call__(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("change", "settings", "says"),
    [
        ({"classes": 2}, {}, r"classes is 2.*Classes\(\(0, 1\)\)"),
        ({"batch_rows": 0}, {}, "batch_rows is 0, a whole number of at least 1 is needed"),
        ({"fingerprint": None}, {}, "fingerprint is None, a text is needed"),
        ({"fingerprint": ""}, {}, "fingerprint is ''"),
        ({"describe": lambda: {"weights": ROWS}}, {}, r"describe\(\) must return JSON types only: .*Tensor"),
        ({"describe": lambda: "mine"}, {}, r"describe\(\) must return a dictionary, not 'mine'"),
        ({}, {"preprocess": torch.relu}, "preprocess does not apply to a target of your own"),
        ({}, {"device": "cpu"}, "device='cpu' does not apply to a target of your own"),
        ({}, {"batch_rows": 3}, "batch_rows=3 does not apply to a target of your own"),
        ({}, {"classes": ["cat", "dog"]}, r"classes=\['cat', 'dog'\], but the target answers 2 classes"),
    ],
)
def test_a_wrong_one_gets_one_line(change: dict[str, Any], settings: dict[str, Any], says: str) -> None:
    target = AllOnTheInstance()
    target.__dict__.update(change)
    with pytest.raises(InputError, match=says) as caught:
        audit(target, **settings)
    assert "\n" not in str(caught.value) and "rows" not in target.__dict__


def test_half_a_target_is_told_what_it_lacks() -> None:
    with pytest.raises(InputError, match="Half is nearly a target: it lacks name, classes, batch_rows, __exit__"):
        audit(Half())


def test_one_that_cannot_be_opened_says_why() -> None:
    class Locked(OnTheClass):
        def __enter__(self) -> Self:
            raise RuntimeError("the door is locked")

    with pytest.raises(TargetError, match="the target could not be opened: RuntimeError: the door is locked"):
        audit(Locked())


def test_one_whose_fingerprint_fails_says_why() -> None:
    class Lost(OnTheClass):
        @property
        def fingerprint(self) -> str:  # type: ignore[override]
            raise RuntimeError("no such model")

    with pytest.raises(TargetError, match="the target has a fingerprint that raised: RuntimeError: no such model"):
        audit(Lost())


def test_it_may_forget_to_return_itself() -> None:
    class Forgetful(OnTheClass):
        def __enter__(self) -> Any:
            super().__enter__()

    assert audit(Forgetful()).target["kind"] == "own"
