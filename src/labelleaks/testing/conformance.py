"""The rows that every attack has to pass, yours included.

    from labelleaks.testing import check_attack
    check_attack(MyAttack(), "image")

Each row runs the attack on candidates with a planted leak (:mod:`labelleaks.testing.planted`) and raises
:class:`NotConformant` with what was expected and what was found. No test framework is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields

import torch
from torch import Tensor

from labelleaks.core.attack import About, Attack, Knowledge, missing_members, prepared
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.errors import BudgetExceeded, LabelLeaksError
from labelleaks.testing.planted import PlantedCase, case
from labelleaks.testing.runner import NotConformant, Runner, expect

__all__ = ["ROWS", "NotConformant", "check_attack"]


def check_attack(
    attack: Attack,
    on: str | PlantedCase = "vector",
    *,
    give: Iterable[str] = (),
    misclassified_lowest: bool = True,
    asks_candidate: bool = True,
    rows: Iterable[str] | None = None,
) -> None:
    """Run every row, or some.

    Args:
        attack: a configured attack. Choose cheap settings: it is run some twenty times on 32 candidates.
        on: a name of :data:`labelleaks.testing.planted.CASES`, or a case of your own.
        give: fields of Knowledge to give beyond the attack's ``needs``, for example ``"shadow"``.
        misclassified_lowest: False for an attack that says it orders the misclassified candidates too.
        asks_candidate: False for an attack that asks for the labels of other inputs only, and so cannot tell which
            candidates are misclassified.
        rows: names of :data:`ROWS`; None: all.

    Raises:
        NotConformant: with a line for each row that failed.
    """
    planted = case(on) if isinstance(on, str) else on
    bench = Runner(attack, planted, frozenset(give), misclassified_lowest, asks_candidate)
    broken = []
    for row in ROWS if rows is None else rows:
        try:
            _check(row, bench)
        except NotConformant as error:
            broken.append(str(error))
    if broken:
        raise NotConformant("\n".join(broken))


def _check(row: str, bench: Runner) -> None:
    try:
        ROWS[row](bench)
    except NotConformant as broken:
        raise NotConformant(f"{bench.attack.name} on {bench.case.name}, {row}: {broken}") from None


def _auc(score: Tensor, member: Tensor) -> float:
    """Share of (member, non-member) pairs in the right order, ties half."""
    a, b = score[member][:, None], score[~member][None, :]
    return float(((a > b).to(torch.float64) + 0.5 * (a == b).to(torch.float64)).mean())


def _orientation(bench: Runner) -> None:
    value, member = bench.first.scores.value, bench.case.member
    overall = _auc(value, member)
    expect(overall > 0.55, f"members are planted farther away, so AUC must be above 0.55; it is {overall:.3f}")
    correct = bench.first.scores.status != int(Status.MISCLASSIFIED)
    among = _auc(value[correct], member[correct])
    expect(among >= 0.5, f"AUC among the correctly classified must be at least 0.5; it is {among:.3f}")


def _same(bench: Runner, other: Scores, rows: Tensor, what: str) -> None:
    mine = bench.first.scores
    for name, a, b in (
        ("value", mine.value[rows], other.value),
        ("status", mine.status[rows], other.status),
        ("queries", mine.queries[rows], other.queries),
    ):
        wrong = (a != b).nonzero().reshape(-1)
        if len(wrong):
            i = int(wrong[0])
            values = f"{b[i].item()!r} instead of {a[i].item()!r}"
            expect(False, f"{what}: {name} of {len(wrong)} of {len(a)} rows differs, row {int(rows[i])}: {values}")
    for name, column in mine.details.items():
        expect(torch.equal(column[rows], other.details[name]), f"{what}: details[{name!r}] differs")
    if mine.trajectory is not None and other.trajectory is not None:
        before, after = mine.trajectory, other.trajectory
        same = before.checkpoints == after.checkpoints and torch.equal(before.value[:, rows], after.value)
        expect(same, f"{what}: the trajectory differs")


def _permuted(bench: Runner) -> None:
    n = len(bench.case.candidates)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(5))
    _same(bench, bench.run(bench.part(order)).scores, order, "permuted")


def _halved(bench: Runner) -> None:
    everyone = torch.arange(len(bench.case.candidates))
    for rows in (everyone[::2], everyone[1::2]):
        _same(bench, bench.run(bench.part(rows)).scores, rows, "without its neighbours")


def _alone(bench: Runner) -> None:
    correct = (bench.first.scores.status != int(Status.MISCLASSIFIED)).nonzero().reshape(-1)
    for rows in (correct[:1], correct[-1:]):
        _same(bench, bench.run(bench.part(rows)).scores, rows, "alone")


def _determinism(bench: Runner) -> None:
    everyone = torch.arange(len(bench.case.candidates))
    _ = bench.first
    bench.trained = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        before = torch.get_rng_state()
        _same(bench, bench.run(bench.case.candidates).scores, everyone, "a second time")
        expect(torch.equal(before, torch.get_rng_state()), "the global random state was used or set")


def _billing(bench: Runner) -> None:
    run = bench.first
    ledger, queries = run.ledger, run.scores.queries.cpu()
    expect(ledger.rows == run.target.rows, f"{ledger.rows} rows billed, {run.target.rows} seen by the target")
    billed = sum(ledger.candidates.values(), torch.zeros_like(queries))
    expect(torch.equal(billed, queries), f"queries say {queries.tolist()}, the ledger says {billed.tolist()}")
    expect(
        ledger.setup_rows == run.cost.setup,
        f"cost() said {run.cost.setup} set-up rows, {ledger.setup_rows} were sent",
    )
    most = int(queries.max())
    expect(most <= run.cost.most, f"cost() said {run.cost.most} labels at most, {most} were spent")


def _setup(bench: Runner) -> None:
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
        expect(gate.ledger.rows == billed, f"{on} billed {gate.ledger.rows - billed} rows to candidates")
        expect(billed == due, f"{on} sent {billed} rows of set-up, cost() said {due}")
        again = bench.attack.cost(candidates, ready, bench.budget()).setup
        expect(again == 0, f"{on} is done, and cost() still says {again} rows of set-up")
        try:
            prepared(bench.attack, ready, candidates, seed=0)
        except LabelLeaksError as error:
            raise NotConformant(f"{on} a second time buys again what it has: {error}") from error
    _ = bench.first  # refuses set-up in score()


def _budgets(bench: Runner) -> None:
    candidates = bench.case.candidates
    least = bench.first.cost.least
    for budget in sorted({least, least + 1, least + 6, 33, 100} - set(range(least))):
        try:
            run = bench.run(candidates, budget)
        except BudgetExceeded as error:
            raise NotConformant(f"budget {budget}: {error}") from error
        most = int(run.scores.queries.max())
        expect(most <= min(budget, run.cost.most), f"budget {budget}, cost().most {run.cost.most}: {most} spent")


def _inside(bench: Runner) -> None:
    broken = bench.first.target.broken
    expect(not broken, f"{len(broken)} calls broke the contract, the first: {(broken or [''])[0]}")


def _unmodified(bench: Runner) -> None:
    run, planted = bench.first, bench.case.candidates
    untouched = torch.equal(run.candidates.x, planted.x) and torch.equal(run.candidates.y, planted.y)
    if run.knowledge.shadow is not None:
        untouched = untouched and torch.equal(run.knowledge.shadow.x, bench.case.shadow)
    if run.knowledge.starts is not None:
        untouched = untouched and torch.equal(run.knowledge.starts, bench.case.shadow)
    expect(untouched, "the inputs were changed in place")
    requires = run.candidates.x.requires_grad or run.scores.value.requires_grad
    expect(not requires, "something requires grad afterwards")


def _finite(bench: Runner) -> None:
    scores = bench.first.scores
    tensors = {"value": scores.value, **{f"details[{k!r}]": v for k, v in scores.details.items()}}
    if scores.trajectory is not None:
        tensors["trajectory"] = scores.trajectory.value
    for name, tensor in tensors.items():
        expect(bool(torch.isfinite(tensor.to(torch.float64)).all()), f"{name} has NaN or infinity")


def _shapes(bench: Runner) -> None:
    scores, n = bench.first.scores, len(bench.case.candidates)
    for name, dtype in (("value", torch.float64), ("status", torch.int64), ("queries", torch.int64)):
        column: Tensor = getattr(scores, name)
        expect(
            column.shape == (n,) and column.dtype == dtype,
            f"{name} must be {dtype} ({n},); it is {column.dtype} {tuple(column.shape)}",
        )
    statuses = {int(status) for status in Status}
    expect(set(scores.status.tolist()) <= statuses, f"status values {sorted(set(scores.status.tolist()))}")
    expect(int(scores.queries.min()) >= 1, "every candidate takes a label at least")
    for name, column in scores.details.items():
        expect(len(column) == n, f"details[{name!r}] has {len(column)} rows")


def _misclassified(bench: Runner) -> None:
    scores, case_ = bench.first.scores, bench.case
    wrong = case_.decide(case_.candidates.x) != case_.candidates.y
    noted = scores.status == int(Status.MISCLASSIFIED)
    if not bench.asks_candidate:
        unasked = bool((scores.status == int(Status.UNASKED)).all())
        expect(unasked, "an attack that does not ask for the candidate notes UNASKED, for all of them")
        return
    expect(torch.equal(noted, wrong), f"MISCLASSIFIED noted for {int(noted.sum())} rows, true of {int(wrong.sum())}")
    if not bench.misclassified_lowest:
        return
    expect(bool((scores.queries[wrong] == 1).all()), "a misclassified candidate takes one label")
    top, bottom = float(scores.value[wrong].max()), float(scores.value[~wrong].min())
    expect(top < bottom, f"a misclassified candidate scores {top:g}, a correct one {bottom:g}")


def _all_misclassified(bench: Runner) -> None:
    whole = bench.case.candidates
    y = (bench.case.decide(whole.x) + 1) % whole.classes
    scores = bench.run(Candidates(whole.x, y, whole.domain, whole.classes)).scores
    noted = bool((scores.status == int(Status.MISCLASSIFIED)).all())
    expect(noted or not bench.asks_candidate, "status of candidates that are all misclassified")
    expect(bool(torch.isfinite(scores.value).all()), "value has NaN or infinity")


def _zero_candidates(bench: Runner) -> None:
    try:
        run = bench.run(bench.part(torch.arange(0)))
    except Exception as error:  # an index of a row that is not there, the mean of nothing
        raise NotConformant(f"it failed with {error!r}") from error
    scores, path = run.scores, run.scores.trajectory
    for name, dtype in (("value", torch.float64), ("status", torch.int64), ("queries", torch.int64)):
        column: Tensor = getattr(scores, name)
        expect(
            column.shape == (0,) and column.dtype == dtype,
            f"{name} must be {dtype} (0,); it is {column.dtype} {tuple(column.shape)}",
        )
    for name, column in scores.details.items():
        expect(len(column) == 0, f"details[{name!r}] has {len(column)} rows")
    expect(path is None or tuple(path.value.shape) == (len(path.checkpoints), 0), "the trajectory has rows")
    expect(run.target.rows <= run.cost.setup, f"{run.target.rows} rows sent, {run.cost.setup} of set-up were due")
    expect(not run.target.broken, f"a call broke the contract: {(run.target.broken or [''])[0]}")


def _trajectory(bench: Runner) -> None:
    scores = bench.first.scores
    path = scores.trajectory
    if path is None:
        return
    shape = (len(path.checkpoints), len(bench.case.candidates))
    expect(tuple(path.value.shape) == shape, f"the trajectory must be {shape}; it is {tuple(path.value.shape)}")
    expect(path.value.dtype == torch.float64, f"the trajectory must be float64; it is {path.value.dtype}")
    increasing = all(a < b for a, b in zip(path.checkpoints, path.checkpoints[1:], strict=False))
    expect(increasing and path.checkpoints[0] >= 1, f"checkpoints must increase from 1: {path.checkpoints}")
    expect(torch.equal(path.value[-1], scores.value), "the trajectory must end in value")
    for c, checkpoint in enumerate(path.checkpoints):
        ended = scores.queries <= checkpoint
        final = torch.equal(path.value[c, ended], scores.value[ended])
        expect(final, f"a candidate that took at most {checkpoint} labels must keep its final score from there on")


def _protocol(bench: Runner) -> None:
    attack = bench.attack
    needable = {field.name for field in fields(Knowledge)} - {"setup", "store", "prepared"}
    lacking = missing_members(attack)
    expect(not lacking, f"it lacks {', '.join(lacking)}: see labelleaks.core.attack.Attack")
    for member, kind in (("name", str), ("is_distance", bool), ("anytime", bool), ("whole", bool), ("about", About)):
        expect(isinstance(getattr(attack, member), kind), f"{member} must be a {kind.__name__}")
    expect(isinstance(attack.revision, int) and attack.revision >= 1, f"revision must be 1 or more: {attack.revision}")
    expect(bool(attack.about.summary and attack.about.axis), "about must have a summary and an axis")
    expect(set(attack.needs) <= needable, f"needs {sorted(attack.needs)}; the fields are {sorted(needable)}")
    cost = bench.first.cost
    expect(1 <= cost.least <= cost.most, f"cost() must have 1 <= least <= most: {cost}")


ROWS: dict[str, Callable[[Runner], None]] = {
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
