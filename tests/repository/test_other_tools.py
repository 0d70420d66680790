"""Faults that other label-only tools have today, each as a test that would fail on their behaviour.

F1 to F12, in the order in which they were found: a wrong sign, a step that is zeroed, probes to one side only, a dtype
crash, failures scored as non-members, accuracies given out as probabilities, unseeded noise, whole attacks on
misclassified rows, a norm that is ignored, batch mates that change a score, one failure that takes down all others,
rows that are dropped and members that are told by position.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import labelleaks as ll
from labelleaks.attacks import Augmentation, Boundary, Gap, Noise, Transfer
from labelleaks.core.attack import Attack, Knowledge
from labelleaks.core.domains import Box, distance
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.label_oracle import Ledger
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.metrics import auc
from labelleaks.testing.planted import Ball, HalfSpace, Memory, PlantedCase, case
from tests import support

ATTACKS: dict[str, Callable[[], Attack]] = {
    "gap": Gap,
    "noise": lambda: Noise(copies=60),
    "augmentation": Augmentation,
    "boundary": Boundary,
    "boundary linf": lambda: Boundary(norm="linf"),
    "transfer": lambda: Transfer(recipe=ll.Recipe(epochs=10)),
}


def attack(
    made: Attack,
    decide: Callable[[Tensor], Tensor],
    candidates: Candidates,
    *,
    budget: int = 300,
    seed: int = 0,
    starts: Tensor | None = None,
    shadow: Tensor | None = None,
) -> tuple[Scores, Ledger]:
    """Run one attack against a target of ours."""
    scores, gate = support.run(made, decide, candidates, budget=budget, shadow=shadow, starts=starts, seed=seed)
    return scores, gate.ledger


def run(made: Attack, planted: PlantedCase, *, budget: int = 300, seed: int = 0) -> tuple[Scores, Ledger]:
    return attack(
        made, planted.decide, planted.candidates, budget=budget, seed=seed,
        shadow=planted.shadow if "shadow" in made.needs else None,
    )  # fmt: skip


def plane(
    width: int, n: int, domain: Box, *, seed: int = 0, shape: tuple[int, ...] | None = None
) -> tuple[HalfSpace, Candidates]:
    """A half-space through the middle of the box, and random candidates near the plane with the target's labels."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(width, generator=generator)
    low, high = float(domain.low), float(domain.high)  # type: ignore[arg-type]
    middle, span = (low + high) / 2, high - low
    target = HalfSpace(normal, float(normal.sum()) * middle)
    x = middle + span * 0.2 * (torch.rand(n, width, generator=generator) - 0.5)
    x = x.reshape(n, *(shape or (width,)))
    return target, Candidates(x, target(x), domain, classes=2)


@pytest.mark.parametrize("name", ATTACKS)
def test_f1_a_leaking_target_scores_above_one_half(name: str) -> None:
    planted = case("image", members=24, nonmembers=24)
    scores, _ = run(ATTACKS[name](), planted)
    found = auc(scores.value.numpy(), planted.member.numpy()).value
    assert found is not None and found > 0.55

    if name != "gap":  # and not only because non-members are misclassified more often
        correct = scores.status != Status.MISCLASSIFIED
        value, member = scores.value[correct].numpy(), planted.member[correct].numpy()
        given_correct = auc(value, member).value
        assert given_correct is not None and given_correct > 0.6


def test_f1_the_audit_reports_the_same_direction() -> None:
    planted = case("vector", members=30, nonmembers=30)
    x, y, member = planted.candidates.x, planted.candidates.y, planted.member
    record = ll.audit(
        planted.decide, members=(x[member], y[member]), nonmembers=(x[~member], y[~member]),
        attacks=["boundary", "noise"], domain=planted.candidates.domain, classes=2, budget=150,
    )  # fmt: skip
    for result in record.attacks.values():
        assert result.auc.value > 0.6 and result.given_correct.auc.value > 0.6
        assert result.balanced_accuracy.value > 0.5


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_f2_small_steps_count_in_any_unit(scale: float) -> None:
    target, candidates = plane(20, 6, Box(0, scale))
    scores, _ = attack(Boundary(), target, candidates, budget=1500)
    ratio = scores.details["distance_l2"] / target.distance(candidates.x)
    assert float(ratio.min()) >= 1 - 1e-6
    assert float(ratio.max()) < 1.2


def test_f2_every_setting_has_an_effect() -> None:
    target, candidates = plane(64, 4, Box(0, 1), shape=(1, 8, 8))
    plain, _ = attack(Boundary(), target, candidates, budget=600)
    for changed in (
        Boundary(norm="linf"),
        Boundary(subspace="resize"),
        Boundary(subspace="dct"),
        Boundary(max_iterations=1),
    ):
        other, _ = attack(changed, target, candidates, budget=600)
        assert not torch.equal(other.details["distance_l2"], plain.details["distance_l2"]), changed


def test_f2_settings_go_by_name() -> None:
    with pytest.raises((TypeError, ll.InputError)):
        Boundary(True)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_f3_probes_go_to_all_sides(norm: str) -> None:
    """Noise in [0, 1) only ever points to one corner: around the point that is probed, the probes must balance."""
    target, candidates = plane(32, 1, Box(-4, 9))
    sent: list[Tensor] = []
    around: list[Tensor] = []  # probes relative to the point with another label that was found last
    base = torch.zeros(32)

    def decide(rows: Tensor) -> Tensor:
        sent[:] = [rows]
        return target(rows)

    def note(phase: str, rows: int) -> None:
        nonlocal base
        if phase.endswith(".normal"):
            around.append(sent[0] - base)
        elif int(target(sent[0])[-1]) != int(candidates.y[0]):
            base = sent[0][-1]

    gate = Gate(decide, progress=note)
    made = Boundary(norm=norm)  # type: ignore[arg-type]
    made.score(gate.oracle("attack", 1, 400), candidates, Knowledge(setup=gate.setup_oracle("setup")), seed=0)
    assert sum(len(block) for block in around) > 150
    for block in around:
        positive = (block > 0).to(torch.float64).mean()
        assert 0.4 < float(positive) < 0.6
        assert float(block.mean(0).norm()) < 0.5 * float(block.norm(dim=1).mean())


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_f3_a_boundary_on_either_side_is_found(sign: float) -> None:
    generator = torch.Generator().manual_seed(1)
    target = HalfSpace(sign * torch.ones(30), sign * 30 * 0.5 + 30 * 0.05)
    x = 0.5 + 0.05 * (torch.rand(5, 30, generator=generator) - 0.5)
    candidates = Candidates(x, torch.zeros(5, dtype=torch.int64), Box(0, 1), classes=2)
    scores, _ = attack(Boundary(), target, candidates, budget=1500, starts=0.5 + sign * torch.full((1, 30), 0.3))
    assert float((scores.details["distance_l2"] / target.distance(x)).max()) < 1.2


def test_f3_flat_rows_all_norms_and_bounds_of_their_own() -> None:
    target, candidates = plane(12, 5, Box(-4, 9))
    for norm in ("l2", "linf"):
        scores, _ = attack(Boundary(norm=norm), target, candidates)
        for each in ("l0", "l1", "l2", "linf"):
            found = scores.details[f"distance_{each}"]
            assert torch.equal(found, distance(scores.details["adversarial"], candidates.x, each))  # type: ignore[arg-type]


def test_f3_a_target_without_a_boundary_ends() -> None:
    _, candidates = plane(12, 5, Box(0, 1))
    candidates = Candidates(candidates.x, torch.zeros(5, dtype=torch.int64), Box(0, 1), classes=2)
    scores, ledger = attack(Boundary(), lambda x: torch.zeros(len(x), dtype=torch.int64), candidates, budget=10_000)
    assert scores.status.tolist() == [Status.NO_START] * 5
    assert ledger.rows < 5 * 10_000


def test_f4_float64_arrays_on_a_float32_model() -> None:
    torch_state = torch.random.get_rng_state()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    generator = np.random.default_rng(0)
    x = generator.random((40, 6))
    assert x.dtype == np.float64
    with torch.no_grad():
        y = model(torch.tensor(x, dtype=torch.float32)).argmax(1).numpy()
    record = ll.audit(
        model, members=(x[:20], y[:20]), nonmembers=(x[20:], y[20:]), attacks=["gap", "noise", "boundary"], classes=3,
        budget=60,
    )  # fmt: skip
    for result in record.attacks.values():
        assert np.isfinite(result.scores).all() and len(result.scores) == 40
    assert torch.equal(torch_state, torch.random.get_rng_state())


def noise_class() -> tuple[Memory, Candidates]:
    """Everything is class 2, but for the surroundings of 20 records: random starts never leave class 2.

    Ten candidates are of class 2 themselves: no input with another label is ever found for them.
    """
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(30, 40, generator=generator)
    y = torch.cat([torch.arange(20) % 2, torch.full((10,), 2)])
    target = Memory(x[:20], y[:20], torch.full((20,), 0.4, dtype=torch.float64), default=2)
    return target, Candidates(x, y, Box(0, 1), classes=3)


def test_f5_no_start_is_a_large_distance_not_zero() -> None:
    target, candidates = noise_class()
    scores, _ = attack(Boundary(), target, candidates, budget=120)
    stuck = torch.arange(30) >= 20
    assert set(scores.status[stuck].tolist()) == {Status.NO_START}
    assert Status.NO_START not in scores.status[~stuck].tolist()
    assert float(scores.value[stuck].min()) > float(scores.value[~stuck].max())
    assert float(scores.value[stuck].min()) >= Box(0, 1).diameter((40,), "l2")


def test_f5_no_start_is_decided_as_a_member() -> None:
    target, candidates = noise_class()
    decided = ll.infer(
        target, candidates.x, candidates.y, attack="boundary", threshold=1.0, classes=3, domain=Box(0, 1), budget=120
    )
    assert decided.member[20:].all()
    assert not decided.member[:20].any()


def test_f6_the_decision_rises_with_the_score() -> None:
    target, candidates = plane(10, 60, Box(0, 1))
    decided = ll.infer(
        target, candidates.x, candidates.y, attack=Boundary(), threshold=ll.RandomInputs(percentile=20, n=20),
        domain=Box(0, 1), classes=2, budget=100,
    )  # fmt: skip
    order = np.argsort(decided.scores)
    assert (np.diff(decided.member[order].astype(int)) >= 0).all()
    assert 0 < decided.member.sum() < 60
    assert np.array_equal(decided.member, decided.scores > decided.threshold.tau)
    # The score is the distance itself: the farthest row ranks first, with no detour over bins.
    assert np.array_equal(np.argsort(decided.scores), np.argsort(decided.details["distance_l2"]))


@pytest.mark.parametrize("name", ATTACKS)
def test_f7_equal_seeds_give_equal_answers(name: str) -> None:
    planted = case("image")
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the state that must not matter
    first, _ = run(ATTACKS[name](), planted, seed=5)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    before = torch.random.get_rng_state()
    again, _ = run(ATTACKS[name](), planted, seed=5)
    assert torch.equal(first.value, again.value) and torch.equal(first.queries, again.queries)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["noise", "boundary", "boundary linf", "transfer"])
def test_f7_different_seeds_differ(name: str) -> None:
    planted = case("image")
    first, _ = run(ATTACKS[name](), planted, seed=5)
    other, _ = run(ATTACKS[name](), planted, seed=6)
    assert not torch.equal(first.value, other.value)


@pytest.mark.parametrize("name", ATTACKS)
def test_f8_a_misclassified_row_costs_one_label(name: str) -> None:
    planted = case("image")
    scores, ledger = run(ATTACKS[name](), planted)
    wrong = planted.decide(planted.candidates.x) != planted.candidates.y
    assert bool(wrong.any())
    sent = sum(ledger.candidates.values())
    assert isinstance(sent, Tensor)
    assert set(sent[wrong].tolist()) == {1}
    assert set(scores.queries[wrong].tolist()) == {1}
    if name != "gap":
        assert set(scores.status[wrong].tolist()) == {Status.MISCLASSIFIED}
    assert float(scores.value[wrong].max()) < float(scores.value[~wrong].min())


def test_f9_the_norm_is_the_one_that_was_asked_for() -> None:
    target, candidates = plane(50, 8, Box(0, 1))
    l2, _ = attack(Boundary(norm="l2"), target, candidates, budget=1500)
    linf, _ = attack(Boundary(norm="linf"), target, candidates, budget=1500)
    assert bool((linf.details["distance_linf"] < l2.details["distance_linf"]).all())
    assert bool((l2.details["distance_l2"] < linf.details["distance_l2"]).all())
    true = target.distance(candidates.x) * float(target.normal.double().norm() / target.normal.double().abs().sum())
    assert float((linf.details["distance_linf"] / true).max()) < 1.3


@pytest.mark.parametrize("budget", [2, 3, 17, 100, 333])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_f9_a_budget_is_a_number_of_labels(budget: int, norm: str) -> None:
    planted = case("vector")
    scores, ledger = run(Boundary(norm=norm, max_iterations=1000), planted, budget=budget)  # type: ignore[arg-type]
    sent = sum(ledger.candidates.values())
    assert isinstance(sent, Tensor)
    assert torch.equal(sent, scores.queries)
    assert int(sent.max()) <= budget
    if budget >= 100:  # and what was bought is used
        correct = scores.status != Status.MISCLASSIFIED
        assert int(sent[correct].min()) > 0.8 * budget


def test_f9_a_threshold_fitted_on_audited_rows_says_so() -> None:
    planted = case("vector", members=30, nonmembers=30)
    x, y, member = planted.candidates.x, planted.candidates.y, planted.member
    record = ll.audit(
        planted.decide, members=(x[member], y[member]), nonmembers=(x[~member], y[~member]),
        attacks=["noise"], domain=planted.candidates.domain, classes=2, budget=40,
    )  # fmt: skip
    assert record["noise"].threshold.upper_bound
    assert "audited" in record["noise"].threshold.source


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_f10_batch_mates_do_not_matter(norm: str) -> None:
    target, candidates = plane(48, 64, Box(0, 1))
    made = Boundary(norm=norm)  # type: ignore[arg-type]
    starts = torch.cat([candidates.domain.from_uniform(torch.rand(4, 48, generator=torch.Generator().manual_seed(9)))])
    together, _ = attack(made, target, candidates, budget=400, starts=starts)
    for i in (0, 17, 63):
        one = Candidates(candidates.x[i : i + 1], candidates.y[i : i + 1], candidates.domain, classes=2)
        alone, _ = attack(made, target, one, budget=400, starts=starts)
        assert torch.equal(alone.value, together.value[i : i + 1])
        assert torch.equal(alone.details["adversarial"], together.details["adversarial"][i : i + 1])
        assert torch.equal(alone.queries, together.queries[i : i + 1])


def test_f11_one_failing_start_leaves_the_others_alone() -> None:
    target, candidates = noise_class()
    keep = torch.tensor([0, 1, 2, 25])  # the last one has no start
    some = Candidates(candidates.x[keep], candidates.y[keep], candidates.domain, classes=3)
    mixed, _ = attack(Boundary(), target, some, budget=150)
    assert mixed.status[3] == Status.NO_START
    found = Candidates(some.x[:3], some.y[:3], some.domain, classes=3)
    alone, _ = attack(Boundary(), target, found, budget=150)
    assert torch.equal(mixed.value[:3], alone.value)
    assert bool(torch.isfinite(mixed.value).all())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_f11_queries_are_clipped_to_the_given_bounds(norm: str) -> None:
    """The boundary is outside [0, 1]: whoever clips there never finds it."""
    seen: list[Tensor] = []
    target = Ball(torch.full((8,), 3.5), 2.0)
    generator = torch.Generator().manual_seed(0)
    x = 4.0 + 0.2 * (torch.rand(6, 8, generator=generator) - 0.5)
    candidates = Candidates(x, target(x), Box(-2, 5), classes=2)

    def decide(rows: Tensor) -> Tensor:
        seen.append(rows.clone())
        return target(rows)

    scores, _ = attack(Boundary(norm=norm), decide, candidates, budget=800)  # type: ignore[arg-type]
    rows = torch.cat(seen)
    assert float(rows.min()) >= -2 and float(rows.max()) <= 5
    assert float(rows.min()) < 0 and float(rows.max()) > 1
    assert bool((scores.details["adversarial"] > 1).any())
    if norm == "l2":
        assert float((scores.details["distance_l2"] / target.distance(x)).max()) < 1.25


def test_f11_nothing_is_nan_at_any_budget() -> None:
    target, candidates = noise_class()
    for budget in (2, 5, 9, 30):
        scores, _ = attack(Boundary(), target, candidates, budget=budget)
        assert bool(torch.isfinite(scores.value).all())
        assert all(bool(torch.isfinite(detail).all()) for detail in scores.details.values())


def failing_audit(*, flipped: bool = False, order: Tensor | None = None) -> ll.AuditRecord:
    """Groups of unequal size in which some rows have no start and some are misclassified."""
    target, candidates = noise_class()
    order = torch.arange(30) if order is None else order
    member = (torch.arange(30) % 3 != 0)[order]
    x, y = candidates.x[order], candidates.y[order].clone()
    y[order == 4] = 1 - y[order == 4]  # one that the target gets wrong
    groups = [(x[member], y[member]), (x[~member], y[~member])]
    ids = [f"row-{int(i)}" for i in torch.cat([order[member], order[~member]])]
    if flipped:
        groups, ids = groups[::-1], [f"row-{int(i)}" for i in torch.cat([order[~member], order[member]])]
    return ll.audit(
        target, members=groups[0], nonmembers=groups[1], attacks=["boundary"], domain=Box(0, 1), classes=3, budget=80,
        ids=ids,
    )  # fmt: skip


def test_f12_no_row_is_dropped_and_every_row_has_a_status() -> None:
    record = failing_audit()
    result = record["boundary"]
    assert len(result.scores) == len(result.status) == len(result.queries) == len(record.ids) == 30
    status = dict(zip(record.ids, result.status.tolist(), strict=True))
    assert status["row-4"] == Status.MISCLASSIFIED
    assert all(status[f"row-{i}"] == Status.NO_START for i in range(20, 30))
    assert record.member.sum() == 20 and record.member[:20].all()
    frame = result.evaluation.ranking
    assert (frame.members, frame.nonmembers) == (20, 10)


def test_f12_membership_follows_the_row_not_its_place() -> None:
    plain = failing_audit()
    shuffled = failing_audit(order=torch.randperm(30, generator=torch.Generator().manual_seed(4)))
    scores = dict(zip(plain.ids, plain["boundary"].scores, strict=True))
    again = dict(zip(shuffled.ids, shuffled["boundary"].scores, strict=True))
    assert scores == again
    assert plain["boundary"].auc.value == shuffled["boundary"].auc.value

    flipped = failing_audit(flipped=True)
    assert dict(zip(flipped.ids, flipped["boundary"].scores, strict=True)) == scores
    assert flipped["boundary"].auc.value == pytest.approx(1 - plain["boundary"].auc.value)
