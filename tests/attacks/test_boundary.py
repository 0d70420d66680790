"""The boundary attack as a whole: closed forms, independence of the batch, budgets, statuses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelleaks.attacks import boundary as module
from labelleaks.attacks.boundary import Boundary
from labelleaks.attacks.search.pointwise import Pointwise
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.domains import Binary, Box, Continuous, Domain, Integer, Mixed, OneHot, distance
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.label_oracle import Ledger
from labelleaks.core.types import Candidates, Predict, Scores, Status
from labelleaks.errors import InputError
from labelleaks.testing.planted import Ball, Counted, HalfSpace, case
from tests import support

WIDE = Box(-50, 50)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def run(
    target: Predict,
    x: torch.Tensor,
    domain: Domain,
    *,
    budget: int | None = 300,
    attack: Boundary | None = None,
    y: torch.Tensor | None = None,
    batch_rows: int = 256,
    seed: int = 0,
    starts: torch.Tensor | None = None,
) -> tuple[Scores, Ledger]:
    y = torch.zeros(len(x), dtype=torch.int64) if y is None else y
    candidates = Candidates(x, y, domain, classes=3)
    scores, gate = support.run(
        attack or Boundary(), target, candidates, budget=budget, starts=starts, batch_rows=batch_rows, seed=seed
    )
    return scores, gate.ledger


def half_space(d: int, n: int = 6) -> tuple[HalfSpace, torch.Tensor, torch.Tensor]:
    w = numbers(d).to(torch.float64)
    w /= w.norm()
    x = numbers(n, d, seed=1).to(torch.float64)
    x -= (x @ w + 0.5 + torch.rand(n, generator=torch.Generator().manual_seed(2)))[:, None] * w
    return HalfSpace(w, 0.0), x.to(torch.float32), -(x @ w)


def starts(target: Predict, d: int, scale: float) -> torch.Tensor:
    rows = scale * numbers(200, d, seed=3)
    return rows[target(rows) == 1][:20]


# Twice the excess that was measured: a change for the worse shows, noise of another seed does not.
CLOSED = {(8, 500): 1.001, (64, 500): 1.04, (64, 2500): 1.001, (784, 500): 2.3, (784, 2500): 1.1, (3072, 500): 4.5}


@pytest.mark.parametrize(("d", "budget"), CLOSED)
@pytest.mark.parametrize("target_name", ["plane", "ball", "from outside"])
def test_l2_distance_to_a_closed_form(target_name: str, d: int, budget: int) -> None:
    if target_name == "plane":
        target, x, true = half_space(d)
        decide: Predict = target
        pool = starts(decide, d, 3.0)
    else:
        radius = math.sqrt(d)
        direction = numbers(6, d, seed=1)
        direction /= direction.norm(dim=1, keepdim=True)
        inner = target_name == "ball"
        ball = Ball(torch.zeros(d), radius)
        x = direction * radius * (0.5 if inner else 1.5)
        decide = (lambda rows: 1 - ball(rows)) if inner else ball
        true = ball.distance(x)
        pool = starts(decide, d, 3.0 if inner else 0.5)
    scores, _ = run(decide, x, WIDE, budget=budget, starts=pool)
    ratio = scores.value / true
    assert float(ratio.min()) >= 1 - 1e-6
    assert float(ratio.median()) < CLOSED[d, budget]


@pytest.mark.parametrize(("d", "budget", "most"), [(8, 500, 1.001), (64, 2500, 1.02), (784, 2500, 1.25)])
def test_linf_distance_to_a_plane(d: int, budget: int, most: float) -> None:
    target, x, true = half_space(d)
    scores, _ = run(target, x, WIDE, budget=budget, attack=Boundary(norm="linf"), starts=starts(target, d, 3.0))
    ratio = scores.value / (true / target.normal.abs().sum())
    assert float(ratio.min()) >= 1 - 1e-6 and float(ratio.median()) < most
    assert torch.equal(scores.value, scores.details["distance_linf"])


@pytest.mark.parametrize("subspace", ["resize", "dct"])
def test_a_smooth_boundary_is_found_sooner_in_a_smooth_subspace(subspace: Any) -> None:
    smooth = torch.linspace(-1, 1, 32)[:, None] * torch.linspace(1, 2, 32)[None, :]
    w = smooth.reshape(-1).to(torch.float64)
    w /= w.norm()
    x = 0.5 + 0.05 * numbers(6, 1, 32, 32)
    x -= ((x.reshape(6, -1).to(torch.float64) @ w + 0.2)[:, None] * w).to(torch.float32).reshape(6, 1, 32, 32)
    target = HalfSpace(w, 0.0)
    pool = starts(target, 1024, 1.0).reshape(-1, 1, 32, 32)
    plain, _ = run(target, x, WIDE, budget=250, starts=pool)
    scores, _ = run(target, x, WIDE, budget=250, attack=Boundary(subspace=subspace), starts=pool)
    assert float((scores.value / plain.value).max()) < 0.8


# As above, for the other searches in L2: (plane, ball).
OTHERS = {
    ("surfree", 8, 500): (1.001, 1.001),
    ("surfree", 64, 500): (1.08, 1.08),
    ("surfree", 784, 1000): (2.3, 3.5),
    ("signopt", 8, 500): (1.001, 1.001),
    ("signopt", 64, 500): (1.06, 1.06),
    ("signopt", 784, 2500): (1.15, 1.15),
    ("tangent", 8, 500): (1.001, 1.001),
    ("tangent", 64, 500): (1.08, 1.08),
    ("tangent", 784, 2500): (1.2, 1.2),
}


@pytest.mark.parametrize(("search", "d", "budget"), OTHERS)
def test_other_searches_come_close_in_l2(search: Any, d: int, budget: int) -> None:
    plane, x, true = half_space(d)
    ball = Ball(torch.zeros(d), math.sqrt(d))
    inner = numbers(6, d, seed=1)
    inner *= 0.5 * math.sqrt(d) / inner.norm(dim=1, keepdim=True)

    def outside(rows: torch.Tensor) -> torch.Tensor:
        return 1 - ball(rows)

    for target, rows, away, most in (
        (plane, x, true, OTHERS[search, d, budget][0]),
        (outside, inner, ball.distance(inner), OTHERS[search, d, budget][1]),
    ):
        pool = starts(target, d, 3.0)
        scores, _ = run(target, rows, WIDE, budget=budget, attack=Boundary(search=search), starts=pool)
        ratio = scores.value / away
        assert float(ratio.min()) >= 1 - 1e-6
        assert float(ratio.median()) < most


@pytest.mark.parametrize(("d", "budget", "most"), [(8, 300, 1.02), (64, 500, 1.1), (784, 1000, 2.2)])
@pytest.mark.parametrize("pool", [False, True])
def test_rays_need_no_start(d: int, budget: int, most: float, pool: bool) -> None:
    target, x, true = half_space(d)
    given = {"starts": starts(target, d, 3.0)} if pool else {}
    attack = Boundary(norm="linf", search="rays")
    scores, ledger = run(target, x, WIDE, budget=budget, attack=attack, **given)
    ratio = scores.value / (true / target.normal.abs().sum())
    assert float(ratio.min()) >= 1 - 1e-6 and float(ratio.median()) < most
    assert torch.equal(scores.value, scores.details["distance_linf"])
    assert ("boundary.start" in ledger.by_phase()) is not pool


def test_rays_start_from_a_corner_of_a_ball_around_them_and_give_up_without_one() -> None:
    d = 20
    ball = Ball(torch.zeros(d), 3.0)
    x = 0.1 * numbers(4, d)

    def outside(rows: torch.Tensor) -> torch.Tensor:
        return 1 - ball(rows)

    attack = Boundary(norm="linf", search="rays")
    scores, _ = run(outside, x, Box(-1, 1), budget=200, attack=attack)
    a = x.to(torch.float64).abs()
    # The farthest corner of the cube of half-side t around a is a + t sign(a): d t^2 + 2 t |a|_1 + |a|^2 = 9.
    one, square = a.sum(1), a.square().sum(1)
    true = (-one + (one.square() - d * (square - 9.0)).sqrt()) / d
    assert float((scores.value / true).min()) >= 1 - 1e-6 and float((scores.value / true).max()) < 1.05
    never, _ = run(lambda rows: torch.zeros(len(rows), dtype=torch.int64), x, Box(-1, 1), budget=150, attack=attack)
    assert never.status.tolist() == [int(Status.NO_START)] * 4 and 100 < int(never.queries.max()) <= 113


def test_a_ray_that_meets_nothing_ends_at_its_start() -> None:
    x = torch.zeros(2, 6)
    start = torch.tensor([[3.0, 1, 0, 0, 0, 0]])
    island = Ball(start[0], 0.5)
    scores, _ = run(island, x, WIDE, budget=100, attack=Boundary(norm="linf", search="rays"), starts=start)
    assert scores.value.tolist() == [3.0, 3.0] and scores.status.tolist() == [int(Status.DONE)] * 2


@pytest.mark.parametrize("search", ["surfree", "signopt"])
def test_a_smooth_subspace_helps_the_others_too(search: Any) -> None:
    smooth = torch.linspace(-1, 1, 16)[:, None] * torch.linspace(1, 2, 16)[None, :]
    w = smooth.reshape(-1).to(torch.float64)
    target = HalfSpace(w / w.norm(), 0.5)
    x = 0.05 * numbers(6, 1, 16, 16)
    pool = starts(target, 256, 2.0).reshape(-1, 1, 16, 16)
    plain, _ = run(target, x, WIDE, budget=200, attack=Boundary(search=search), starts=pool)
    dct, _ = run(target, x, WIDE, budget=200, attack=Boundary(search=search, subspace="dct"), starts=pool)
    assert float((dct.value / plain.value).max()) < 0.9


@pytest.mark.parametrize(
    ("norm", "search"), [("l2", s) for s in ("hopskipjump", "surfree", "signopt", "tangent")]
    + [("linf", s) for s in ("hopskipjump", "rays")]
)  # fmt: skip
def test_what_is_reported_was_projected_after_the_last_step(norm: Any, search: Any) -> None:
    target, x, _ = half_space(100)
    for steps in (1, 3):
        attack = Boundary(norm=norm, max_iterations=steps, search=search)
        scores, _ = run(target, x, WIDE, attack=attack, starts=starts(target, 100, 3.0))
        offset = scores.details["adversarial"] - x
        assert bool((target(x + offset) == 1).all()) and bool((target(x + (1 - 1e-3) * offset) == 0).all())


# --- rows do not see each other -----------------------------------------------------------------------------------

ATTACKS = [
    Boundary(),
    Boundary(norm="linf"),
    Boundary(subspace="resize"),
    Boundary(subspace="dct"),
    Boundary(search="surfree"),
    Boundary(search="surfree", subspace="dct"),
    Boundary(search="signopt"),
    Boundary(search="tangent"),
    Boundary(norm="linf", search="rays"),
]
OTHER_ATTACKS = [a for a in ATTACKS if a.search != "hopskipjump" and a.subspace is None]


def assert_same(a: Scores, b: Scores, rows: torch.Tensor) -> None:
    assert torch.equal(a.value[rows], b.value) and torch.equal(a.status[rows], b.status)
    assert torch.equal(a.queries[rows], b.queries)
    assert a.trajectory is not None and b.trajectory is not None
    assert torch.equal(a.trajectory.value[:, rows], b.trajectory.value)
    for name, found in a.details.items():
        assert torch.equal(found[rows], b.details[name]), name


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
@pytest.mark.parametrize("levels", [None, 256])
def test_all_together_permuted_and_alone_give_the_same_bits(
    attack: Boundary, levels: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, budget = (64, 400) if attack.search == "hopskipjump" else (33, 140)
    domain = Box(0, 1, levels=levels)
    x = domain.from_uniform(torch.rand(n, 1, 9, 11, generator=torch.Generator().manual_seed(0)))
    normal = numbers(99, seed=4).to(torch.float64)
    target = HalfSpace(normal, float((x.reshape(n, -1).to(torch.float64) @ normal).quantile(0.8)))
    together, _ = run(target, x, domain, budget=budget, attack=attack)
    assert set(together.status.tolist()) >= {int(Status.BUDGET), int(Status.MISCLASSIFIED)}
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    assert_same(together, run(target, x[order], domain, budget=budget, attack=attack, batch_rows=100)[0], order)
    for i in (0, 17, n - 1):
        rows = torch.tensor([i])
        assert_same(together, run(target, x[rows], domain, budget=budget, attack=attack, batch_rows=7)[0], rows)
    monkeypatch.setattr(module, "_GROUP", 99 * n // 4)  # five groups of candidates instead of one
    assert_same(together, run(target, x, domain, budget=budget, attack=attack)[0], torch.arange(n))


@pytest.mark.parametrize("d", [784, 3072])
def test_image_sized_rows_alone_and_together(d: int) -> None:
    target, x, _ = half_space(d, n=33)  # library sums and products take other paths for one row than for many
    sent: set[bytes] = set()

    def recording(rows: torch.Tensor) -> torch.Tensor:
        sent.update(row.tobytes() for row in rows.numpy())
        return target(rows)

    together, _ = run(recording, x, WIDE, budget=300)
    everything = set(sent)
    for i in (0, 32):
        sent.clear()
        assert_same(together, run(recording, x[i : i + 1], WIDE, budget=300)[0], torch.tensor([i]))
        assert sent <= everything  # not only the scores: every query has the same bits


@pytest.mark.parametrize("attack", OTHER_ATTACKS, ids=str)
def test_image_sized_rows_alone_and_together_in_the_other_searches(attack: Boundary) -> None:
    target, x, _ = half_space(784, n=33)
    together, _ = run(target, x, WIDE, budget=150, attack=attack)
    for i in (0, 32):
        assert_same(together, run(target, x[i : i + 1], WIDE, budget=150, attack=attack)[0], torch.tensor([i]))


@pytest.mark.parametrize("threads", [1, 2])
def test_wide_rows_alone_and_on_any_number_of_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    target, x, _ = half_space(40_000, n=3)  # sums of so many terms are split among threads
    together, _ = run(target, x, WIDE, budget=80)
    assert_same(together, run(target, x[1:2], WIDE, budget=80)[0], torch.tensor([1]))
    torch.set_num_threads(3 - threads)
    assert_same(together, run(target, x, WIDE, budget=80)[0], torch.arange(3))


def test_another_seed_gives_another_search() -> None:
    target, x, _ = half_space(30)
    a, b = (run(target, x, WIDE, seed=seed)[0] for seed in (0, 1))
    assert not torch.equal(a.value, b.value)
    torch.testing.assert_close(a.value, b.value, rtol=0.3, atol=0)


# --- labels -------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    budget=st.integers(1, 3000),
    name=st.sampled_from(["vector", "image", "binary", "mixed", "memory"]),
    chosen=st.sampled_from([Boundary(), Boundary(norm="linf"), *OTHER_ATTACKS]),
    pool=st.booleans(),
)
def test_any_budget_is_kept_and_every_row_is_billed(budget: int, name: str, chosen: Boundary, pool: bool) -> None:
    made = case(name, members=4, nonmembers=3)
    target = made.target()
    whole = made.candidates
    attack = chosen if isinstance(whole.domain, Box) else Boundary()
    given_starts = {"starts": made.shadow[:20].clone()} if pool else {}
    scores, ledger = run(
        target, whole.x, whole.domain, budget=budget, y=whole.y, attack=attack, **given_starts
    )  # beyond the budget: BudgetExceeded
    assert ledger.rows == target.rows and not target.broken
    assert ledger.rows - ledger.setup_rows == int(scores.queries.sum())
    assert ledger.setup_rows == (20 if pool else 0) and int(scores.queries.max()) <= budget
    path = scores.trajectory
    assert path is not None and bool((path.value[1:] <= path.value[:-1]).all())
    assert torch.equal(path.value[-1], scores.value) and path.checkpoints[-1] <= max(1, budget)
    wrong = made.decide(scores.details["adversarial"]) != whole.y
    found = (scores.status == int(Status.DONE)) | (scores.status == int(Status.BUDGET))
    assert bool(wrong[found].all())
    torch.testing.assert_close(
        scores.value[found],
        distance(scores.details["adversarial"], whole.x, attack.norm)[found],
        rtol=1e-12,
        atol=0,
    )


def test_without_a_limit_the_search_ends_within_what_cost_says() -> None:
    for name, attack in (
        *((name, Boundary(max_iterations=4)) for name in ("vector", "binary", "mixed")),
        *(("vector", replace(attack, max_iterations=4)) for attack in OTHER_ATTACKS),
    ):
        made = case(name, members=3, nonmembers=3)
        gate = Gate(made.target())
        cost = attack.cost(made.candidates, Knowledge(setup=gate.setup_oracle("x")), 10**9)
        whole = made.candidates
        scores, _ = run(made.target(), whole.x, whole.domain, y=whole.y, budget=None, attack=attack)
        assert set(scores.status.tolist()) <= {int(Status.DONE), int(Status.MISCLASSIFIED)}
        assert cost.least <= int(scores.queries.max()) <= cost.most < 10_000


def test_the_point_that_is_kept_was_really_sent() -> None:
    sent: list[torch.Tensor] = []
    domain = Box(0, 1, levels=256)
    x = domain.from_uniform(torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    target = HalfSpace(numbers(64, seed=4).to(torch.float64), 3.0)

    def recording(rows: torch.Tensor) -> torch.Tensor:
        sent.append(rows.clone())
        return target(rows)

    scores, _ = run(recording, x, domain, y=target(x), budget=200)
    everything = {row.numpy().tobytes() for row in torch.cat(sent)}
    assert all(row.numpy().tobytes() in everything for row in scores.details["adversarial"])


def test_what_is_done_and_what_is_cut_short() -> None:
    target, x, _ = half_space(8)
    assert run(target, x, WIDE, budget=200)[0].status.tolist() == [int(Status.BUDGET)] * 6
    done, _ = run(target, x, WIDE, budget=5000)
    assert done.status.tolist() == [int(Status.DONE)] * 6 and int(done.queries.max()) < 2000


# --- candidates of every kind -------------------------------------------------------------------------------------


def test_misclassified_candidates_take_one_label() -> None:
    target, x, _ = half_space(10)
    y = torch.tensor([0, 1, 0, 2, 0, 0])
    scores, _ = run(target, x, WIDE, y=y)
    wrong = torch.tensor([1, 3])
    assert scores.status[wrong].tolist() == [int(Status.MISCLASSIFIED)] * 2
    assert scores.queries[wrong].tolist() == [1, 1] and scores.value[wrong].tolist() == [0, 0]
    assert torch.equal(scores.details["adversarial"][wrong], x[wrong])
    assert scores.trajectory is not None and not scores.trajectory.value[:, wrong].any()
    assert all(not scores.details[f"distance_{norm}"][wrong].any() for norm in ("l0", "l1", "l2", "linf"))
    assert float(scores.value[[0, 2, 4, 5]].min()) > 0


@pytest.mark.parametrize("domain", [Box(-1, 3), Binary(), Mixed(Continuous(0, 2, width=5), OneHot(5))])
def test_without_a_start_the_distance_is_the_diameter(domain: Domain) -> None:
    x = domain.from_uniform(torch.rand(3, 10, generator=torch.Generator().manual_seed(0)))
    scores, _ = run(lambda rows: torch.zeros(len(rows), dtype=torch.int64), x, domain, budget=150)
    assert scores.status.tolist() == [int(Status.NO_START)] * 3
    assert scores.value.tolist() == [domain.diameter((10,), "l2")] * 3 and int(scores.queries.max()) <= 101
    assert scores.details["distance_l0"].tolist() == [domain.diameter((10,), "l0")] * 3
    assert torch.equal(scores.details["adversarial"], x)


def test_starts_cost_the_candidates_nothing_and_shadow_labels_are_bought_once() -> None:
    target, x, _ = half_space(10)
    shadow = ShadowRows(3 * numbers(30, 10, seed=3))
    gate = Gate(target)
    known = Knowledge(setup=gate.setup_oracle("setup"), shadow=shadow)
    candidates = Candidates(x, torch.zeros(6, dtype=torch.int64), WIDE, classes=2)
    assert Boundary().cost(candidates, known, 100).setup == 30
    one = Boundary().score(gate.oracle("boundary", 6, 100), candidates, known, seed=0)
    assert gate.ledger.setup_rows == 30 and "boundary.start" not in gate.ledger.by_phase()
    assert Boundary().cost(candidates, known, 100).setup == 0
    again = Boundary().score(gate.oracle("boundary", 6, 100), candidates, known, seed=0)
    assert gate.ledger.setup_rows == 30 and torch.equal(one.value, again.value)
    assert one.trajectory is not None
    labels = target(shadow.x)
    for i in range(6):  # after one label: the distance to the nearest shadow row with another label
        away = distance(shadow.x, x[i : i + 1].expand(30, -1), "l2")[labels == 1].min()
        assert float(one.trajectory.value[0, i]) == pytest.approx(float(away))


def test_no_candidates_no_scores() -> None:
    target, x, _ = half_space(10)
    scores, ledger = run(target, x[:0], WIDE)
    assert scores.value.shape == (0,) and ledger.rows == 0


# --- binary and mixed rows ----------------------------------------------------------------------------------------


def fewest_flips(w: torch.Tensor, offset: float, row: torch.Tensor) -> int:
    """Exact: flip the features that help most until the sum passes the offset."""
    gains = (w * (1 - 2 * row.to(torch.float64))).sort(descending=True).values
    total = float((w * row.to(torch.float64)).sum()) - offset
    return int((total + gains.cumsum(0) > 0).to(torch.int8).argmax()) + 1


def test_binary_rows_come_close_to_the_fewest_flips() -> None:
    d = 200
    w = numbers(d).to(torch.float64)
    x = (torch.rand(12, d, generator=torch.Generator().manual_seed(0)) > 0.5).to(torch.float32)
    offset = float((x.to(torch.float64) @ w).max()) + 10
    target = HalfSpace(w, offset)
    pool = (w > 0).to(torch.float32)[None]
    found = {}
    for budget in (60, 1500):
        scores, _ = run(target, x, Binary(), budget=budget, attack=Boundary(norm="l0"), starts=pool)
        found[budget] = scores.value / torch.tensor([fewest_flips(w, offset, row) for row in x])
        assert float(found[budget].min()) >= 1
    assert float(found[1500].median()) < 1.35 and float(found[60].median()) < 3


def test_one_hot_groups_move_as_one_and_numbers_move_part_of_the_way() -> None:
    domain = Mixed(Continuous(0, 10, width=2), Integer(0, 100), OneHot(4), OneHot(3))
    x = torch.tensor([[1.0, 2.0, 10.0, 1, 0, 0, 0, 0, 1, 0]]).repeat(4, 1)
    x[:, 0] += torch.arange(4)
    decide = Counted(lambda rows: (rows[:, 2] > 40).to(torch.int64), domain, (10,))  # the integer alone decides
    scores, _ = run(decide, x, domain, budget=400)
    assert not decide.broken
    assert torch.equal(scores.details["adversarial"][:, [0, 1, *range(3, 10)]], x[:, [0, 1, *range(3, 10)]])
    assert scores.value.tolist() == [31.0] * 4 and scores.details["distance_l0"].tolist() == [1.0] * 4
    assert Pointwise(domain, (10,), iterations=1).G == 5
    choice = Counted(lambda rows: rows[:, 5].to(torch.int64), domain, (10,))  # a category alone decides
    scores, _ = run(choice, x, domain, budget=400)
    assert scores.value.tolist() == pytest.approx([math.sqrt(2)] * 4)  # a library may be off by a bit


# --- what is refused ----------------------------------------------------------------------------------------------


def test_bad_settings_are_refused() -> None:
    for wrong in (
        {"norm": "l3"},
        {"norm": True},
        {"subspace": "pca"},
        {"factor": 0},
        {"max_iterations": 0},
        {"search": "rayz"},
    ):
        with pytest.raises(InputError, match=next(iter(wrong))):
            replace(Boundary(), **wrong)  # type: ignore[arg-type]
    target, x, _ = half_space(10)
    with pytest.raises(InputError, match="Binary and Mixed"):
        run(target, x, WIDE, attack=Boundary(norm="l1"))
    with pytest.raises(InputError, match="needs images"):
        run(target, x, WIDE, attack=Boundary(subspace="dct"))
    with pytest.raises(InputError, match="Box"):
        run(target, (x > 0).to(torch.float32), Binary(), attack=Boundary(subspace="dct"))
    with pytest.raises(InputError, match="search='surfree' needs a continuous domain, such as Box, not Binary"):
        run(target, (x > 0).to(torch.float32), Binary(), attack=Boundary(search="surfree"))
    with pytest.raises(InputError, match="use norm='linf'"):
        run(target, x, WIDE, attack=Boundary(search="rays"))
    with pytest.raises(InputError, match="use norm='l2'"):
        run(target, x, WIDE, attack=Boundary(search="tangent", norm="linf"))
    with pytest.raises(InputError, match="signs of features"):
        run(target, x, WIDE, attack=Boundary(search="rays", norm="linf", subspace="dct"))
