"""The rows that every attack has to pass, yours included.

    from labelleaks.testing.conformance import check_attack
    check_attack(MyAttack(), "image")

Each row runs the attack on candidates with a planted leak (:mod:`labelleaks.testing.planted`) and raises
:class:`NotConformant` with what was expected and what was found. No test framework is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from labelleaks.core.attack import About, Attack, Cost, Knowledge, ShadowRows, missing_members, prepared
from labelleaks.core.oracle.label_oracle import Gate, Ledger
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.errors import BudgetExceeded, LabelLeaksError
from labelleaks.models import architectures
from labelleaks.testing.planted import Counted, PlantedCase, case

__all__ = ["ROWS", "NotConformant", "check", "check_attack"]

BUDGET = 60


class NotConformant(LabelLeaksError, AssertionError):
    """An attack broke a rule that all attacks keep."""


@dataclass(eq=False)
class _Outcome:
    scores: Scores
    ledger: Ledger
    target: Counted
    cost: Cost
    candidates: Candidates
    knowledge: Knowledge


class _Runner:
    """Runs one attack on parts of one case, each time against a fresh target, gate and set of shadow rows."""

    def __init__(
        self, attack: Attack, planted: PlantedCase, give: frozenset[str], lowest: bool, asks_candidate: bool
    ) -> None:
        self.attack = attack
        self.case = planted
        self.give = give | attack.needs
        self.misclassified_lowest = lowest
        self.asks_candidate = asks_candidate
        self.trained: dict[str, Any] = {}  # what came out of the knowledge alone serves all runs
        self._first: _Outcome | None = None

    @property
    def first(self) -> _Outcome:
        """The run of all candidates (copies of them) at the standard budget, made once."""
        if self._first is None:
            self._first = self.run(self.part(torch.arange(len(self.case.candidates))))
        return self._first

    def budget(self) -> int:
        """The standard budget, or more for an attack that needs more for one step."""
        candidates = self.case.candidates
        gate = Gate(self.case.target())
        return max(BUDGET, self.attack.cost(candidates, self.knowledge(gate), BUDGET).least)

    def knowledge(self, gate: Gate) -> Knowledge:
        given = self.case.shadow
        return Knowledge(
            setup=gate.setup_oracle("setup"),
            shadow=ShadowRows(given.clone(), self.case.decide(given)) if "shadow" in self.give else None,
            starts=given.clone() if "starts" in self.give else None,
            family=architectures.in_layout(None, self.case.candidates.shape, self.case.candidates.domain.layout),
            store=self.trained,
        )

    def run(self, candidates: Candidates, budget: int | None = None) -> _Outcome:
        budget = self.budget() if budget is None else budget
        target = self.case.target()
        gate = Gate(target, batch_rows=50)
        knowledge = self.knowledge(gate)
        cost = self.attack.cost(candidates, knowledge, budget)
        _expect(target.rows == 0, f"cost() sends nothing; it sent {target.rows} rows")
        ready = prepared(self.attack, knowledge, candidates, seed=0)
        oracle = gate.oracle(self.attack.name, len(candidates), budget)
        try:
            scores = self.attack.score(oracle, candidates, ready, seed=0)
        except BudgetExceeded:
            raise
        except LabelLeaksError as error:
            raise NotConformant(str(error)) from error
        return _Outcome(scores, gate.ledger, target, cost, candidates, knowledge)

    def part(self, rows: Tensor) -> Candidates:
        whole = self.case.candidates
        return Candidates(whole.x[rows].clone(), whole.y[rows].clone(), whole.domain, whole.classes)


def check_attack(
    attack: Attack,
    on: str | PlantedCase = "vector",
    *,
    give: Iterable[str] = (),
    misclassified_lowest: bool = True,
    asks_candidate: bool = True,
) -> None:
    """Run every row.

    Args:
        attack: a configured attack. Choose cheap settings: it is run some twenty times on 32 candidates.
        on: a name of :data:`labelleaks.testing.planted.CASES`, or a case of your own.
        give: fields of Knowledge to give beyond the attack's ``needs``, for example ``"shadow"``.
        misclassified_lowest: False for an attack that says it orders the misclassified candidates too.
        asks_candidate: False for an attack that asks for the labels of other inputs only, and so cannot tell which
            candidates are misclassified.

    Raises:
        NotConformant: with a line for each row that failed.
    """
    planted = case(on) if isinstance(on, str) else on
    bench = _Runner(attack, planted, frozenset(give), misclassified_lowest, asks_candidate)
    broken = []
    for row in ROWS:
        try:
            _check(row, bench)
        except NotConformant as error:
            broken.append(str(error))
    if broken:
        raise NotConformant("\n".join(broken))


def check(
    row: str,
    attack: Attack,
    on: str | PlantedCase = "vector",
    *,
    give: Iterable[str] = (),
    misclassified_lowest: bool = True,
    asks_candidate: bool = True,
) -> None:
    """Run one row of :data:`ROWS`; the arguments and the error are those of :func:`check_attack`."""
    planted = case(on) if isinstance(on, str) else on
    _check(row, _Runner(attack, planted, frozenset(give), misclassified_lowest, asks_candidate))


def _check(row: str, bench: _Runner) -> None:
    try:
        ROWS[row](bench)
    except NotConformant as broken:
        raise NotConformant(f"{bench.attack.name} on {bench.case.name}, {row}: {broken}") from None


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotConformant(otherwise)


def _auc(score: Tensor, member: Tensor) -> float:
    """Share of (member, non-member) pairs in the right order, ties half."""
    a, b = score[member][:, None], score[~member][None, :]
    return float(((a > b).to(torch.float64) + 0.5 * (a == b).to(torch.float64)).mean())


def _orientation(bench: _Runner) -> None:
    value, member = bench.first.scores.value, bench.case.member
    overall = _auc(value, member)
    _expect(overall > 0.55, f"members are planted farther away, so AUC must be above 0.55; it is {overall:.3f}")
    correct = bench.first.scores.status != int(Status.MISCLASSIFIED)
    given = _auc(value[correct], member[correct])
    _expect(given >= 0.5, f"AUC among the correctly classified must be at least 0.5; it is {given:.3f}")


def _same(bench: _Runner, other: Scores, rows: Tensor, what: str) -> None:
    mine = bench.first.scores
    for name, a, b in (
        ("value", mine.value[rows], other.value),
        ("status", mine.status[rows], other.status),
        ("queries", mine.queries[rows], other.queries),
    ):
        wrong = (a != b).nonzero().reshape(-1)
        if len(wrong):
            i = int(wrong[0])
            found = f"{b[i].item()!r} instead of {a[i].item()!r}"
            _expect(False, f"{what}: {name} of {len(wrong)} of {len(a)} rows differs, row {int(rows[i])}: {found}")
    for name, column in mine.details.items():
        _expect(torch.equal(column[rows], other.details[name]), f"{what}: details[{name!r}] differs")
    if mine.trajectory is not None and other.trajectory is not None:
        before, after = mine.trajectory, other.trajectory
        same = before.checkpoints == after.checkpoints and torch.equal(before.value[:, rows], after.value)
        _expect(same, f"{what}: the trajectory differs")


def _permuted(bench: _Runner) -> None:
    n = len(bench.case.candidates)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(5))
    _same(bench, bench.run(bench.part(order)).scores, order, "permuted")


def _halved(bench: _Runner) -> None:
    everyone = torch.arange(len(bench.case.candidates))
    for rows in (everyone[::2], everyone[1::2]):
        _same(bench, bench.run(bench.part(rows)).scores, rows, "without its neighbours")


def _alone(bench: _Runner) -> None:
    correct = (bench.first.scores.status != int(Status.MISCLASSIFIED)).nonzero().reshape(-1)
    for rows in (correct[:1], correct[-1:]):
        _same(bench, bench.run(bench.part(rows)).scores, rows, "alone")


def _determinism(bench: _Runner) -> None:
    everyone = torch.arange(len(bench.case.candidates))
    _ = bench.first
    bench.trained = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        before = torch.get_rng_state()
        _same(bench, bench.run(bench.case.candidates).scores, everyone, "a second time")
        _expect(torch.equal(before, torch.get_rng_state()), "the global random state was used or set")


def _billing(bench: _Runner) -> None:
    run = bench.first
    ledger, queries = run.ledger, run.scores.queries.cpu()
    _expect(ledger.rows == run.target.rows, f"{ledger.rows} rows billed, {run.target.rows} seen by the target")
    billed = sum(ledger.candidates.values(), torch.zeros_like(queries))
    _expect(torch.equal(billed, queries), f"queries say {queries.tolist()}, the ledger says {billed.tolist()}")
    _expect(
        ledger.setup_rows == run.cost.setup,
        f"cost() said {run.cost.setup} set-up rows, {ledger.setup_rows} were sent",
    )
    most = int(queries.max())
    _expect(most <= run.cost.most, f"cost() said {run.cost.most} labels at most, {most} were spent")


def _setup(bench: _Runner) -> None:
    for candidates in (bench.case.candidates, bench.part(torch.arange(0))):
        gate = Gate(bench.case.target(), batch_rows=50)
        knowledge = bench.knowledge(gate)
        due = bench.attack.cost(candidates, knowledge, bench.budget()).setup
        on = f"prepare() on {len(candidates)} candidates"
        try:
            ready = prepared(bench.attack, knowledge, candidates, seed=0)
        except LabelLeaksError as error:
            raise NotConformant(f"{on}: {error}") from error
        billed = gate.ledger.setup_rows
        _expect(gate.ledger.rows == billed, f"{on} billed {gate.ledger.rows - billed} rows to candidates")
        _expect(billed == due, f"{on} sent {billed} rows of set-up, cost() said {due}")
        again = bench.attack.cost(candidates, ready, bench.budget()).setup
        _expect(again == 0, f"{on} is done, and cost() still says {again} rows of set-up")
        try:
            prepared(bench.attack, ready, candidates, seed=0)
        except LabelLeaksError as error:
            raise NotConformant(f"{on} a second time buys again what it has: {error}") from error
    _ = bench.first  # refuses set-up in score()


def _budgets(bench: _Runner) -> None:
    candidates = bench.case.candidates
    least = bench.first.cost.least
    for budget in sorted({least, least + 1, least + 6, 33, 100} - set(range(least))):
        try:
            run = bench.run(candidates, budget)
        except BudgetExceeded as error:
            raise NotConformant(f"budget {budget}: {error}") from error
        most = int(run.scores.queries.max())
        _expect(most <= min(budget, run.cost.most), f"budget {budget}, cost().most {run.cost.most}: {most} spent")


def _inside(bench: _Runner) -> None:
    broken = bench.first.target.broken
    _expect(not broken, f"{len(broken)} calls broke the contract, the first: {(broken or [''])[0]}")


def _unmodified(bench: _Runner) -> None:
    run, given = bench.first, bench.case.candidates
    untouched = torch.equal(run.candidates.x, given.x) and torch.equal(run.candidates.y, given.y)
    if run.knowledge.shadow is not None:
        untouched = untouched and torch.equal(run.knowledge.shadow.x, bench.case.shadow)
    if run.knowledge.starts is not None:
        untouched = untouched and torch.equal(run.knowledge.starts, bench.case.shadow)
    _expect(untouched, "the inputs were changed in place")
    requires = run.candidates.x.requires_grad or run.scores.value.requires_grad
    _expect(not requires, "something requires grad afterwards")


def _finite(bench: _Runner) -> None:
    scores = bench.first.scores
    tensors = {"value": scores.value, **{f"details[{k!r}]": v for k, v in scores.details.items()}}
    if scores.trajectory is not None:
        tensors["trajectory"] = scores.trajectory.value
    for name, tensor in tensors.items():
        _expect(bool(torch.isfinite(tensor.to(torch.float64)).all()), f"{name} has NaN or infinity")


def _shapes(bench: _Runner) -> None:
    scores, n = bench.first.scores, len(bench.case.candidates)
    for name, dtype in (("value", torch.float64), ("status", torch.int64), ("queries", torch.int64)):
        found: Tensor = getattr(scores, name)
        _expect(
            found.shape == (n,) and found.dtype == dtype,
            f"{name} must be {dtype} ({n},); it is {found.dtype} {tuple(found.shape)}",
        )
    known = {int(status) for status in Status}
    _expect(set(scores.status.tolist()) <= known, f"status values {sorted(set(scores.status.tolist()))}")
    _expect(int(scores.queries.min()) >= 1, "every candidate takes a label at least")
    for name, column in scores.details.items():
        _expect(len(column) == n, f"details[{name!r}] has {len(column)} rows")


def _misclassified(bench: _Runner) -> None:
    scores, case_ = bench.first.scores, bench.case
    wrong = case_.decide(case_.candidates.x) != case_.candidates.y
    noted = scores.status == int(Status.MISCLASSIFIED)
    if not bench.asks_candidate:
        unasked = bool((scores.status == int(Status.UNASKED)).all())
        _expect(unasked, "an attack that does not ask for the candidate notes UNASKED, for all of them")
        return
    _expect(torch.equal(noted, wrong), f"MISCLASSIFIED noted for {int(noted.sum())} rows, true of {int(wrong.sum())}")
    if not bench.misclassified_lowest:
        return
    _expect(bool((scores.queries[wrong] == 1).all()), "a misclassified candidate takes one label")
    top, bottom = float(scores.value[wrong].max()), float(scores.value[~wrong].min())
    _expect(top < bottom, f"a misclassified candidate scores {top:g}, a correct one {bottom:g}")


def _all_misclassified(bench: _Runner) -> None:
    whole = bench.case.candidates
    y = (bench.case.decide(whole.x) + 1) % whole.classes
    scores = bench.run(Candidates(whole.x, y, whole.domain, whole.classes)).scores
    noted = bool((scores.status == int(Status.MISCLASSIFIED)).all())
    _expect(noted or not bench.asks_candidate, "status of candidates that are all misclassified")
    _expect(bool(torch.isfinite(scores.value).all()), "value has NaN or infinity")


def _zero_candidates(bench: _Runner) -> None:
    try:
        run = bench.run(bench.part(torch.arange(0)))
    except Exception as error:  # an index of a row that is not there, the mean of nothing
        raise NotConformant(f"it failed with {error!r}") from error
    scores, path = run.scores, run.scores.trajectory
    for name, dtype in (("value", torch.float64), ("status", torch.int64), ("queries", torch.int64)):
        found: Tensor = getattr(scores, name)
        _expect(
            found.shape == (0,) and found.dtype == dtype,
            f"{name} must be {dtype} (0,); it is {found.dtype} {tuple(found.shape)}",
        )
    for name, column in scores.details.items():
        _expect(len(column) == 0, f"details[{name!r}] has {len(column)} rows")
    _expect(path is None or tuple(path.value.shape) == (len(path.checkpoints), 0), "the trajectory has rows")
    _expect(run.target.rows <= run.cost.setup, f"{run.target.rows} rows sent, {run.cost.setup} of set-up were due")
    _expect(not run.target.broken, f"a call broke the contract: {(run.target.broken or [''])[0]}")


def _trajectory(bench: _Runner) -> None:
    scores = bench.first.scores
    path = scores.trajectory
    if path is None:
        return
    shape = (len(path.checkpoints), len(bench.case.candidates))
    _expect(tuple(path.value.shape) == shape, f"the trajectory must be {shape}; it is {tuple(path.value.shape)}")
    _expect(path.value.dtype == torch.float64, f"the trajectory must be float64; it is {path.value.dtype}")
    increasing = all(a < b for a, b in zip(path.checkpoints, path.checkpoints[1:], strict=False))
    _expect(increasing and path.checkpoints[0] >= 1, f"checkpoints must increase from 1: {path.checkpoints}")
    _expect(torch.equal(path.value[-1], scores.value), "the trajectory must end in value")
    for c, checkpoint in enumerate(path.checkpoints):
        ended = scores.queries <= checkpoint
        final = torch.equal(path.value[c, ended], scores.value[ended])
        _expect(final, f"a candidate that took at most {checkpoint} labels must keep its final score from there on")


def _protocol(bench: _Runner) -> None:
    attack = bench.attack
    known = {field.name for field in fields(Knowledge)} - {"setup", "store", "prepared"}
    lacking = missing_members(attack)
    _expect(not lacking, f"it lacks {', '.join(lacking)}: see labelleaks.core.attack.Attack")
    for member, kind in (("name", str), ("is_distance", bool), ("anytime", bool), ("whole", bool), ("about", About)):
        _expect(isinstance(getattr(attack, member), kind), f"{member} must be a {kind.__name__}")
    _expect(isinstance(attack.revision, int) and attack.revision >= 1, f"revision must be 1 or more: {attack.revision}")
    _expect(bool(attack.about.summary and attack.about.axis), "about must have a summary and an axis")
    _expect(set(attack.needs) <= known, f"needs {sorted(attack.needs)}; the fields are {sorted(known)}")
    cost = bench.first.cost
    _expect(1 <= cost.least <= cost.most, f"cost() must have 1 <= least <= most: {cost}")


ROWS: dict[str, Callable[[_Runner], None]] = {
    "protocol": _protocol,
    "set-up in prepare": _setup,
    "shapes": _shapes,
    "finite": _finite,
    "orientation": _orientation,
    "misclassified lowest": _misclassified,
    "all misclassified": _all_misclassified,
    "zero candidates": _zero_candidates,
    "billed = seen": _billing,
    "budget never exceeded": _budgets,
    "inside the domain": _inside,
    "inputs unmodified": _unmodified,
    "determinism": _determinism,
    "permuted": _permuted,
    "halved": _halved,
    "alone": _alone,
    "trajectory": _trajectory,
}
"""The rows by name, cheapest first."""
