"""Every attack through every conformance row, on every kind of input it accepts; the rows against planted faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from labelleaks import attacks
from labelleaks.core.attack import About, Attack, Cost, Knowledge
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores, Status, Trajectory
from labelleaks.models.training import Recipe
from labelleaks.testing.conformance import ROWS, NotConformant, check_attack
from labelleaks.testing.planted import CASES, Ball, HalfSpace, Memory, case, remembered, row_sums

IMAGES = ("image", "memory")
SHORT = Recipe(epochs=8)


def _table() -> Iterator[tuple[Attack, str, tuple[str, ...]]]:
    """(attack, case, knowledge given beyond its needs)."""
    for name in CASES:
        yield attacks.Gap(), name, ()
        yield attacks.Noise(), name, ()
        yield attacks.Boundary(), name, ()
        yield attacks.Boundary(), name, ("shadow",)
    for search in ("surfree", "signopt", "tangent"):
        yield attacks.Boundary(search=search), "vector", ()
    for search in ("signopt", "tangent"):
        yield attacks.Boundary(search=search), "image", ()
    yield attacks.Boundary(search="surfree", subspace="dct"), "image", ("shadow",)
    for name in ("vector", "image"):
        yield attacks.Boundary(search="rays", norm="linf"), name, ()
    for name in (*IMAGES, "text"):
        yield attacks.Augmentation(), name, ()
    for name in ("vector", "image", "mixed", "text"):
        yield attacks.Transfer(recipe=SHORT), name, ()


def _compared() -> Iterator[tuple[Attack, str, bool]]:
    """(attack that compares with reference models, case, whether it asks for the candidate).

    Every kind of input comes up, not every pair: training and asking the references takes a second for each run.
    """
    yield attacks.DHAttack(queries=12, recipe=SHORT), "vector", True
    yield attacks.DHAttack(queries=30, recipe=SHORT), "mixed", True
    yield attacks.DHAttack(queries=8, recipe=SHORT), "memory", True
    yield attacks.DHAttack(queries=8, recipe=SHORT), "binary", True
    yield attacks.Oslo(taus=(0.5, 0.2), budgets=2, steps=2, recipe=SHORT), "vector", False
    yield attacks.Oslo(taus=(0.5, 0.2), budgets=2, steps=2, recipe=SHORT), "image", False
    yield attacks.Oslo(taus=(0.5, 0.2), budgets=3, steps=2, recipe=SHORT), "binary", False
    yield attacks.Yoqo(rounds=2, recipe=SHORT), "vector", False
    yield attacks.Yoqo(rounds=3, recipe=SHORT), "mixed", False
    yield attacks.Yoqo(rounds=2, recipe=SHORT), "memory", False
    yield attacks.Yoqo(rounds=2, recipe=SHORT), "binary", False
    yield attacks.Guided(labels=8, ways=2, recipe=SHORT), "vector", True
    yield attacks.Guided(labels=12, ways=2, votes=3, recipe=SHORT), "vector", True
    yield attacks.Guided(labels=12, ways=2, recipe=SHORT), "memory", True
    yield attacks.Guided(labels=8, ways=2, recipe=SHORT), "binary", True
    yield attacks.Guided(labels=8, ways=2, recipe=SHORT), "mixed", True
    yield attacks.Guided(labels=8, ways=3), "text", True
    yield attacks.Chameleon(copies=6, recipe=SHORT), "binary", True
    yield attacks.Chameleon(copies=6), "text", True
    yield attacks.Chameleon(copies=6, recipe=SHORT), "vector", True
    yield attacks.Chameleon(copies=6, recipe=SHORT), "far image", True  # noise: a shift is no small change


@pytest.mark.parametrize(
    ("attack", "on", "asks"),
    [pytest.param(a, on, asks, id=f"{a.name}{getattr(a, 'votes', '')}-{on}") for a, on, asks in _compared()],
)
def test_every_row_where_memory_is_the_leak(attack: Attack, on: str, asks: bool) -> None:
    """What reference models expect is subtracted, so a plain distance to the boundary would be no leak."""
    made = case(on.removeprefix("far ")) if on in ("memory", "far image") else remembered(on)
    check_attack(attack, made, misclassified_lowest=False, asks_candidate=asks)


def _name(entry: tuple[Attack, str, tuple[str, ...]]) -> str:
    attack, on, give = entry
    search = getattr(attack, "search", attack.name)
    return "-".join([search if attack.name == "boundary" else attack.name, on, *give])


@pytest.mark.parametrize(("attack", "on", "give"), [pytest.param(*entry, id=_name(entry)) for entry in _table()])
def test_every_row(attack: Attack, on: str, give: tuple[str, ...]) -> None:
    check_attack(attack, on, give=give)


@dataclass(frozen=True)
class _Faulty:
    """An attack by noise of its own that keeps every rule, but for one fault."""

    fault: str = ""

    name: ClassVar[str] = "faulty"
    needs: ClassVar[frozenset[str]] = frozenset()
    is_distance: ClassVar[bool] = False
    anytime: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About("Asks about noisy copies.", "share kept")

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        if self.fault == "cost asks":
            knowledge.setup.query(candidates.x[:1], torch.tensor([-1]), phase="probe")
        setup = {"set-up again": 5, "set-up by candidates": 32, "set-up in score": 5}.get(self.fault, 0)
        return Cost(least=2, most=min(budget, 9 if self.fault == "cost too low" else 31), setup=setup)

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        if self.fault in ("set-up unannounced", "set-up by candidates", "set-up again"):
            rows = candidates.x if self.fault == "set-up by candidates" else torch.zeros(5, *candidates.shape)
            knowledge.setup.query(rows, torch.full((len(rows),), -1), phase="probe")
        return knowledge

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        x, domain = candidates.x, candidates.domain
        if self.fault == "set-up in score":
            knowledge.setup.query(torch.zeros(5, *candidates.shape), torch.full((5,), -1), phase="probe")
        everyone = torch.arange(len(x))
        left = int(oracle.remaining()[0]) if len(x) or self.fault == "looks at the first" else 2
        labels = min(31, 31 if self.fault == "over budget" else left)
        correct = oracle.query(x, everyone, phase="correct") == candidates.y
        active = everyone if self.fault == "asks on for the misclassified" else everyone[correct]
        kept = torch.zeros(len(x), labels, dtype=torch.float64)
        for k in range(1, labels):
            noisy = x[active] + 0.15 * domain.span(candidates.shape) * self._normals(candidates, active, k)
            sent = noisy if self.fault == "outside" else domain.project(noisy)
            answers = oracle.query(sent, active, phase="copies")
            kept[active, k] = (answers == candidates.y[active]).to(torch.float64)
        kept[:, 0] = correct.to(torch.float64)
        if self.fault == "writes into x":
            x += 0.0001
        if self.fault == "writes into shadow rows":
            assert knowledge.shadow is not None
            knowledge.shadow.x[0] += 0.0001
        path = kept.cumsum(1).T / torch.arange(1, labels + 1)[:, None]
        path[:, ~correct] = 0.0
        found = Scores(
            value=path[-1],
            status=torch.where(correct, int(Status.DONE), int(Status.MISCLASSIFIED)),
            queries=torch.where(correct | torch.tensor(len(active) == len(x)), labels, 1),
            trajectory=Trajectory(tuple(range(1, labels + 1)), path),
        )
        return FAULTS[self.fault](found) if self.fault in FAULTS else found

    def _normals(self, candidates: Candidates, active: Tensor, k: int) -> Tensor:
        streams = candidates.streams(0, "faulty")
        if self.fault == "streams by position":
            streams = candidates.streams(0, "faulty")[:1] + torch.arange(len(candidates))
        if self.fault == "global random state":
            return torch.randn(len(active), *candidates.shape)
        from labelleaks.core.rng import NormalTable

        table = NormalTable(0, candidates.width, size=1 << 12)
        return table.vectors(streams[active], 1, first=k)[:, 0].reshape(-1, *candidates.shape)


def _nan_where_all_kept(found: Scores) -> Scores:
    return replace(found, value=torch.where(found.value == 1, torch.nan, found.value), trajectory=None)


FAULTS: dict[str, Callable[[Scores], Scores]] = {
    "sign inverted": lambda s: replace(s, value=-s.value, trajectory=None),
    "sign inverted among the correct": lambda s: replace(
        s, value=torch.where(s.value > 0, 2 - s.value, s.value), trajectory=None
    ),
    "normalised over the batch": lambda s: replace(s, value=s.value / s.value.sum(), trajectory=None),
    "nan": _nan_where_all_kept,
    "float32": lambda s: replace(s, value=s.value.to(torch.float32), trajectory=None),
    "one for nobody": lambda s: s if len(s.value) else Scores(torch.zeros(1).double(), s.status, s.queries),
    "rows dropped": lambda s: Scores(s.value[:-1], s.status[:-1], s.queries[:-1]),
    "misclassified in the middle": lambda s: replace(s, value=torch.where(s.value == 0, 0.9, s.value), trajectory=None),
    "status forgotten": lambda s: replace(s, status=torch.zeros_like(s.status)),
    "queries understated": lambda s: replace(s, queries=s.queries.clamp(max=5)),
    "trajectory of another run": lambda s: replace(
        s, trajectory=Trajectory(s.trajectory.checkpoints, s.trajectory.value.flip(1)) if s.trajectory else None
    ),
}


def test_the_faulty_attack_without_a_fault_passes() -> None:
    check_attack(_Faulty(), "vector")


@pytest.mark.parametrize(
    ("fault", "row"),
    [
        ("sign inverted", "orientation"),
        ("sign inverted among the correct", "orientation"),
        ("normalised over the batch", "halved"),
        ("normalised over the batch", "alone"),
        ("streams by position", "permuted"),
        ("streams by position", "halved"),
        ("global random state", "determinism"),
        ("nan", "finite"),
        ("float32", "shapes"),
        ("rows dropped", "shapes"),
        ("misclassified in the middle", "misclassified lowest"),
        ("asks on for the misclassified", "misclassified lowest"),
        ("status forgotten", "misclassified lowest"),
        ("status forgotten", "all misclassified"),
        ("one for nobody", "zero candidates"),
        ("looks at the first", "zero candidates"),
        ("queries understated", "billed = seen"),
        ("cost too low", "billed = seen"),
        ("cost asks", "protocol"),
        ("set-up unannounced", "set-up in prepare"),
        ("set-up by candidates", "set-up in prepare"),
        ("set-up again", "set-up in prepare"),
        ("set-up in score", "set-up in prepare"),
        ("over budget", "budget never exceeded"),
        ("outside", "inside the domain"),
        ("writes into x", "inputs unmodified"),
        ("trajectory of another run", "trajectory"),
    ],
)
def test_a_fault_is_caught(fault: str, row: str) -> None:
    with pytest.raises(NotConformant, match=f"^faulty on vector, {row}: "):
        check_attack(_Faulty(fault), "vector", rows=[row])


def test_shadow_rows_that_are_written_into_are_caught() -> None:
    with pytest.raises(NotConformant, match="inputs unmodified: the inputs were changed in place"):
        check_attack(_Faulty("writes into shadow rows"), "vector", give=("shadow",), rows=["inputs unmodified"])


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(NotConformant) as caught:
        check_attack(_Faulty("normalised over the batch"), "vector")
    rows = [line.split(": ")[0].removeprefix("faulty on vector, ") for line in str(caught.value).splitlines()]
    assert rows == ["all misclassified", "halved", "alone"]  # 0 / 0 where all scores are 0


def test_every_row_has_a_fault_that_it_catches() -> None:
    marks = test_a_fault_is_caught.pytestmark  # type: ignore[attr-defined]
    assert {row for _, row in marks[0].args[1]} == set(ROWS)


@pytest.mark.parametrize("name", CASES)
def test_cases_hold_what_they_promise(name: str) -> None:
    """In the domain, some rows misclassified on both sides, two answers among the rest, shadow rows apart."""
    made = case(name)
    candidates, member = made.candidates, made.member
    candidates.domain.check(candidates.x, "candidates")
    candidates.domain.check(made.shadow, "shadow")
    labels = made.decide(candidates.x)
    correct = labels == candidates.y
    assert correct[member].to(torch.float64).mean() > correct[~member].to(torch.float64).mean() > 0.5
    assert (~correct)[member].any()
    assert len(labels.unique()) >= 2
    both = torch.cat([candidates.x, made.shadow])
    assert len(both.unique(dim=0)) == len(both)
    if isinstance(made.decide, HalfSpace):
        distance = made.decide.distance(candidates.x)
        assert distance[member].min() > distance[~member].max()


@pytest.mark.parametrize("name", [name for name in CASES if name != "memory"])
def test_what_is_remembered_is_all_that_tells_members_apart(name: str) -> None:
    """The rule's own distances are alike on both sides; a member's label holds around it, against the rule too."""
    made = remembered(name)
    candidates, member = made.candidates, made.member
    candidates.domain.check(candidates.x, "candidates")
    candidates.domain.check(made.shadow, "shadow")
    wrong = made.decide(candidates.x) != candidates.y
    assert (int(wrong[member].sum()), int(wrong[~member].sum())) == (2, 4)
    rule = made.decide.rule
    assert int((rule(candidates.x) != candidates.y)[member & ~wrong].sum()) == 4
    distance = rule.distance(candidates.x)
    ahead = (distance[member][:, None] - distance[~member][None, :]).sign().to(torch.float64)
    assert abs(float(ahead.mean())) < 0.2
    assert torch.equal(made.decide(made.shadow), rule(made.shadow))


def test_an_attack_that_does_not_ask_for_the_candidate_says_so() -> None:
    made = case("vector")
    check_attack(_Faulty("status forgotten"), made, asks_candidate=False, rows=["all misclassified"])
    with pytest.raises(NotConformant, match="notes UNASKED"):
        check_attack(_Faulty("status forgotten"), made, asks_candidate=False, rows=["misclassified lowest"])


@pytest.mark.parametrize("name", CASES)
def test_planted_targets_answer_a_row_the_same_in_any_batch(name: str) -> None:
    made = case(name, members=40, nonmembers=41)
    x = torch.cat([made.candidates.x, made.shadow])
    whole = made.decide(x)
    assert torch.equal(torch.cat([made.decide(x[i : i + 1]) for i in range(len(x))]), whole)
    if isinstance(made.decide, HalfSpace):
        alone = torch.cat([made.decide.distance(x[i : i + 1]) for i in range(len(x))])
        assert torch.equal(alone, made.decide.distance(x))


def test_closed_forms() -> None:
    ball = Ball(torch.tensor([1.0, 1.0]), 2.0)
    x = torch.tensor([[1.0, 1.0], [1.0, 4.0], [4.0, 5.0]])
    assert ball(x).tolist() == [1, 0, 0]
    assert ball.distance(x).tolist() == pytest.approx([2, 1, 3])
    plane = HalfSpace(torch.tensor([3.0, 4.0]), 5.0)
    assert plane(x).tolist() == [1, 1, 1]
    assert plane.distance(x).tolist() == pytest.approx([0.4, 2.8, 5.4])
    memory = Memory(x[:2], torch.tensor([0, 1]), torch.tensor([1.0, 1.5]), default=2)
    asked = torch.tensor([[1.0, 1.5], [1.0, 3.0], [1.0, 9.0], [1.0, 2.2]])
    assert memory(asked).tolist() == [0, 1, 2, 2]
    numbers = torch.rand(7, 13, dtype=torch.float64)
    assert torch.allclose(row_sums(numbers), numbers.sum(1))
