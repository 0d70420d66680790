"""Every flag both ways: raised on evidence that deserves it, silent on a clean audit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from labelleaks.auditing.evaluation import CurvePoint, compare, evaluate
from labelleaks.auditing.flags import FLAGS, Evidence, ShadowEvidence, baseline, find_flags
from labelleaks.auditing.flags.baseline import blind_auc
from labelleaks.auditing.flags.groups import blind_baseline
from labelleaks.auditing.thresholds import Threshold
from labelleaks.core.domains import Box
from labelleaks.core.types import Candidates, Scores, Status

N = 300  # per group
ALWAYS = {"fpr_out_of_reach", "audited_threshold"}  # information that a clean audit of this size has too


@dataclass(frozen=True, eq=False)
class Result:
    status: np.ndarray
    queries: np.ndarray
    evaluation: object
    value: np.ndarray


def result(value, status, member, keys, queries=500, thresholds=()):
    queries = np.full(len(value), queries)
    scores = Scores(torch.as_tensor(value), torch.as_tensor(status), torch.as_tensor(queries))
    return Result(status, queries, evaluate(scores, member, keys=keys, thresholds=thresholds), np.asarray(value))


def candidates(n=2 * N, seed=0, width=12, classes=4):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, width, generator=generator)
    return Candidates(x, torch.randint(0, classes, (n,), generator=generator), Box(0, 1), classes)


def evidence(c=None, *, members=N, shift=1.0, wrong=0.1, seed=0, **change):
    """An audit with a leak beyond the gap, on groups drawn alike."""
    c = candidates() if c is None else c
    member = np.arange(len(c)) < members
    rng = np.random.default_rng(seed)
    missed = rng.random(len(c)) < np.where(member, wrong / 4, wrong)
    status = np.where(missed, int(Status.MISCLASSIFIED), int(Status.DONE))
    value = np.where(missed, -9.0, rng.normal(size=len(c)) + shift * member)
    keys = c.keys.numpy()
    attacks = {
        "gap": result((~missed).astype(float), status, member, keys, 1),
        "boundary": result(value, status, member, keys),
    }
    return Evidence(c, member, attacks, **change)


def with_attack(e, name, value, status=None, queries=500, thresholds=()):
    status = e.attacks["boundary"].status if status is None else status
    attacks = {**e.attacks, name: result(value, status, e.member, e.candidates.keys.numpy(), queries, thresholds)}
    comparisons = compare({n: a.value for n, a in attacks.items()}, e.member)
    return replace(e, attacks=attacks, comparisons=comparisons)


def raised(e, blind=False):
    """All flags but the blind baseline, which takes most of the time and has tests of its own."""
    return [flag for check in FLAGS if blind or check is not blind_baseline for flag in check(e)]


def names(e):
    return {flag.name for flag in raised(e)}


def one(e, name):
    found = [flag for flag in raised(e, blind=name == "blind_baseline") if flag.name == name]
    assert len(found) == 1, f"{name} not raised; raised: {names(e)}"
    assert all((found[0].raised_because, found[0].meaning, found[0].what_to_do))
    return found[0]


def test_a_clean_audit_raises_nothing_but_information():
    e = evidence()
    e = with_attack(e, "noise", e.attacks["boundary"].value * 0.9)
    flags = find_flags(e)
    assert {flag.name for flag in flags} == ALWAYS
    assert {flag.severity for flag in flags} == {"info"}


def test_few_rows():
    assert "few_rows" not in names(evidence(candidates(200), members=100))
    flag = one(evidence(candidates(199), members=100), "few_rows")
    assert flag.severity == "warning" and "100 members and 99 non-members" in flag.raised_because
    assert one(evidence(candidates(130), members=10), "few_rows").severity == "serious"


def test_fpr_out_of_reach():
    said = one(evidence(), "fpr_out_of_reach").raised_because
    assert "300 non-members" in said
    assert "TPR at 0.1% FPR cannot be measured (needs 1,000)" in said
    assert "TPR at 1.0% FPR is unstable (better 1,000)" in said
    assert "10.0%" not in said
    many = evidence(candidates(10_050, width=2), members=50)
    assert "fpr_out_of_reach" not in names(many)


def test_blind_baseline_sees_a_shift_and_the_interval_decides():
    c = candidates()
    x = c.x.clone()
    x[:N, 3] = x[:N, 3] * 0.5  # members: one feature is darker
    flag = one(evidence(Candidates(x, c.y, c.domain, c.classes)), "blind_baseline")
    assert flag.severity == "serious"
    assert "AUC 0." in flag.raised_because and "99 % interval" in flag.raised_because


def test_blind_baseline_sees_labels_and_shapes_of_images():
    c = candidates(400, width=48)
    y = torch.arange(400) % 3 + (torch.arange(400) >= 200)  # members have classes 0 to 2, the others 1 to 3
    images = Candidates(c.x.reshape(400, 3, 4, 4), y, c.domain, 4)
    one(evidence(images, members=200), "blind_baseline")


def test_blind_baseline_sees_what_no_mean_shows():
    c = candidates()
    x = c.x.clone()
    x[:N] = 0.5 + (x[:N] - 0.5) * 0.6  # members: the same means, less contrast
    one(evidence(Candidates(x, c.y, c.domain, c.classes)), "blind_baseline")


def test_blind_baseline_sees_a_little_in_every_feature():
    """No feature alone tells much and the rows' means stay: trees see nothing, the linear half does."""
    plain = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))
    member = np.arange(300) < 150
    shift = 0.1 * (1 - 2 * (torch.arange(200) % 2)) * torch.as_tensor(member)[:, None]
    args = (np.zeros(300, np.int64), member, np.random.default_rng(0).integers(-(2**62), 2**62, 300))
    assert blind_auc((plain + shift).numpy(), *args, seed=0).low > 0.5
    assert blind_auc(plain.numpy(), *args, seed=0).low < 0.5


def test_blind_baseline_reads_a_bounded_number_of_rows_chosen_by_content(monkeypatch):
    monkeypatch.setattr(baseline, "_MOST_ROWS", 30)
    c = candidates(200)
    order = np.random.default_rng(1).permutation(200)
    args = (c.x.numpy(), c.y.numpy(), np.arange(200) < 120, c.keys.numpy())
    rows = baseline._choose_rows(args[3], args[2], 0)
    assert len(rows) == 60 and args[2][rows].sum() == 30
    assert blind_auc(*args, seed=0) == blind_auc(*(part[order] for part in args), seed=0)


@pytest.mark.coverage
def test_blind_baseline_is_rarely_wrong_about_groups_drawn_alike():
    low = [
        blind_auc(c.x.numpy(), c.y.numpy(), np.arange(len(c)) < 60, c.keys.numpy(), seed=0).low
        for c in (candidates(120, seed=seed, width=5) for seed in range(12))
    ]
    assert sum(bound > 0.5 for bound in low) <= 1


def test_blind_baseline_in_any_order_and_on_constant_features():
    c = candidates(200)
    member = np.arange(200) < 100
    order = np.random.default_rng(0).permutation(200)
    args = (c.x.numpy(), c.y.numpy(), member, c.keys.numpy())
    a = blind_auc(*args, seed=3)
    assert a == blind_auc(*(part[order] for part in args), seed=3)
    assert a != blind_auc(*args, seed=4)
    same = blind_auc(np.zeros((200, 5), np.float32), np.zeros(200, np.int64), member, args[3], seed=3)
    assert same.value == 0.5
    few = blind_auc(*(part[85:] for part in args), seed=3)
    assert few.value is None and "15 rows" in few.reason


def test_shared_and_repeated_rows():
    c = candidates()
    x, y = c.x.clone(), c.y.clone()
    x[N : N + 4] = x[:4]  # the labels differ: the input alone decides
    flag = one(evidence(Candidates(x, y, c.domain, c.classes)), "shared_rows")
    assert flag.severity == "serious" and "4 members are also among the non-members (4 rows" in flag.raised_because
    assert "near_duplicates" not in names(evidence(Candidates(x, y, c.domain, c.classes)))
    x, y = c.x.clone(), c.y.clone()
    x[1:10], y[1:10] = x[0], y[0]
    repeated = evidence(Candidates(x, y, c.domain, c.classes))
    flag = one(repeated, "repeated_rows")
    assert flag.severity == "warning" and flag.raised_because.startswith("9 members and 0 non-members")
    assert "shared_rows" not in names(repeated)


def test_near_duplicates():
    c = candidates(width=64)
    x = c.x.clone()
    x[N : N + 10] = (x[:10] + 0.001).clamp(0, 1)
    flag = one(evidence(Candidates(x, c.y, c.domain, c.classes)), "near_duplicates")
    assert flag.raised_because.startswith("10 of 300 non-members") and flag.severity == "warning"
    assert "near_duplicates" not in names(evidence(candidates(width=64)))


def test_one_sided_classes():
    c = candidates()
    y = c.y.clone()
    y[:N] = y[:N].clamp(max=2)  # no member of class 3
    lone = replace(evidence(Candidates(c.x, y, c.domain, 4)), class_names=("a", "b", "c", "<script>"))
    flag = one(lone, "one_sided_classes")
    assert flag.severity == "warning" and flag.raised_because.endswith("only: <script>")


def test_constant_labels():
    c = candidates()
    e = evidence(c)
    status = np.where(c.y.numpy() == 2, int(Status.DONE), int(Status.MISCLASSIFIED))
    constant = replace(e, attacks={"gap": result((status == 0).astype(float), status, e.member, c.keys.numpy(), 1)})
    assert "of class 2, which has" in one(constant, "constant_labels").raised_because
    assert "constant_labels" in names(replace(e, one_label=True))
    one_class = Candidates(c.x, torch.zeros_like(c.y), c.domain, 4)
    assert "constant_labels" not in names(replace(evidence(one_class), one_label=True))


def test_randomised_labels():
    e = evidence()
    assert "2 of 16 probed rows" in one(replace(e, probed=16, changed=2), "randomised_labels").raised_because
    status = e.attacks["boundary"].status.copy()
    status[:3] = np.where(status[:3] == int(Status.DONE), int(Status.MISCLASSIFIED), int(Status.DONE))
    fickle = with_attack(e, "noise", e.attacks["boundary"].value, status)
    assert "3 of 600 candidates" in one(fickle, "randomised_labels").raised_because
    assert "randomised_labels" not in names(replace(e, probed=16, changed=0))


def test_at_chance():
    flag = one(evidence(wrong=3.2), "at_chance")  # members: 80 % wrong
    assert flag.severity == "serious" and "of the members" in flag.raised_because
    assert "at_chance" not in names(evidence(wrong=1.6))  # members: 40 % wrong of 4 classes


def test_members_misread():
    flag = one(evidence(wrong=1.9), "members_misread")  # members: 48 % wrong of 4 classes
    assert flag.severity == "warning" and "preprocessing" in flag.what_to_do
    assert "members_misread" not in names(evidence(wrong=0.8))  # 20 % wrong
    assert "members_misread" not in names(evidence(wrong=3.2))  # at_chance says it


def test_below_chance():
    flag = one(evidence(shift=-1.5), "below_chance")
    assert flag.severity == "serious" and "boundary: AUC 0." in flag.raised_because and "gap" not in flag.raised_because
    assert "below_chance" not in names(evidence(shift=0.0))


@pytest.mark.parametrize(("share", "severity"), [(0.04, None), (0.06, "warning"), (0.3, "serious")])
def test_no_start(share, severity):
    e = evidence()
    status = e.attacks["boundary"].status.copy()
    done = np.flatnonzero(status == int(Status.DONE))[: int(share * len(status))]
    status[done] = int(Status.NO_START)
    e = with_attack(e, "boundary", e.attacks["boundary"].value, status)
    if severity is None:
        assert "no_start" not in names(e)
    else:
        flag = one(e, "no_start")
        assert flag.severity == severity and f"boundary: {share:.1%} of the candidates" in flag.raised_because


def test_out_of_budget():
    e = evidence()
    status = e.attacks["boundary"].status.copy()
    status[status == int(Status.DONE)] = int(Status.BUDGET)
    flag = one(with_attack(e, "boundary", e.attacks["boundary"].value, status), "out_of_budget")
    assert flag.severity == "info" and "ran out" in flag.raised_because and "AUC" not in flag.raised_because
    points = [
        CurvePoint(labels, e.attacks[name].evaluation.ranking) for labels, name in ((200, "gap"), (500, "boundary"))
    ]
    climbs = with_attack(e, "boundary", e.attacks["boundary"].value, status)
    found = climbs.attacks["boundary"]
    climbs.attacks["boundary"] = replace(found, evaluation=replace(found.evaluation, curve=tuple(points)))
    low, high = (point.ranking.auc.value for point in points)
    said = one(climbs, "out_of_budget").raised_because
    assert said.endswith(f"(AUC {low:.3f} after 200 labels, {high:.3f} after 500)")
    assert "out_of_budget" not in names(e)


def test_audited_threshold():
    e = evidence()
    assert "gap, boundary" in one(e, "audited_threshold").raised_because
    bare = {n: replace(a.evaluation.decisions[0].threshold, upper_bound=False) for n, a in e.attacks.items()}
    outside = {
        n: replace(
            a, evaluation=replace(a.evaluation, decisions=(replace(a.evaluation.decisions[0], threshold=bare[n]),))
        )
        for n, a in e.attacks.items()
    }
    assert "audited_threshold" not in names(replace(e, attacks=outside))
    assert one(evidence(candidates(60), members=1), "audited_threshold").severity == "warning"


def test_one_sided_decision():
    e = evidence()
    far = with_attack(
        e, "boundary", e.attacks["boundary"].value, thresholds=[Threshold(99.0, "median", "random inputs")]
    )
    assert one(far, "one_sided_decision").raised_because == "boundary with random inputs calls nobody a member"
    near = with_attack(
        e, "boundary", e.attacks["boundary"].value, thresholds=[Threshold(0.0, "median", "random inputs")]
    )
    assert "one_sided_decision" not in names(near)


def test_accusing_and_unreachable_thresholds():
    e = evidence()
    value = e.attacks["boundary"].value
    low = Threshold(float(np.quantile(value[N:], 0.4)), "percentile 50", "random inputs")
    found = one(with_attack(e, "boundary", value, thresholds=[low]), "accusing_threshold")
    assert found.raised_because == "boundary with random inputs calls 180 of 300 non-members members"
    fair = Threshold(float(np.quantile(value[N:], 0.9)), "percentile 50", "random inputs")
    assert not {"accusing_threshold", "unreachable_threshold"} & names(with_attack(e, "b", value, thresholds=[fair]))
    told = one(with_attack(e, "b", value, thresholds=[replace(fair, doubt="all are tied")]), "unreachable_threshold")
    assert told.raised_because == "b with random inputs: all are tied"


@pytest.mark.parametrize(
    ("rows", "labels", "severity"), [(1, 1, "serious"), (2, 2, "serious"), (12, 4, "warning"), (500, 1, "serious")]
)
def test_thin_shadow(rows, labels, severity):
    found = one(evidence(shadow=ShadowEvidence(rows, labels, 4)), "thin_shadow")
    assert found.severity == severity and (labels > 1 or "one label" in found.raised_because)
    assert "thin_shadow" not in names(evidence(shadow=ShadowEvidence(500, 4, 4)))
    assert "thin_shadow" not in names(evidence(shadow=ShadowEvidence(500, 1, 1)))


def test_cheap_attack_wins():
    e = evidence(wrong=0.9)
    rng = np.random.default_rng(0)
    flag = one(with_attack(e, "noise", rng.normal(size=2 * N)), "cheap_attack_wins")
    assert "gap beats noise (500 labels) by 0." in flag.raised_because
    assert flag.severity == "info"  # boundary leads
    gap = e.attacks["gap"]
    led_by_gap = with_attack(replace(e, attacks={"gap": gap}), "noise", rng.normal(size=2 * N), gap.status)
    assert one(led_by_gap, "cheap_attack_wins").severity == "warning"
    assert "cheap_attack_wins" not in names(with_attack(e, "transfer", rng.normal(size=2 * N), queries=1))
    better = with_attack(e, "noise", rng.normal(size=2 * N) + 3 * e.member)
    assert all(pair.p_holm < 0.05 for pair in better.comparisons if "noise" in (pair.first, pair.second))
    assert "beats gap" not in " ".join(flag.raised_because for flag in raised(better))
    twenty = with_attack(e, "boundary", rng.normal(size=2 * N))
    twenty = with_attack(twenty, "noise", e.attacks["boundary"].value, queries=20)
    said = one(twenty, "cheap_attack_wins").raised_because  # of the two that beat boundary, one asks once
    assert "gap beats boundary" in said and "noise beats" not in said
    assert "cheap_attack_wins" not in names(better)


def test_only_the_gap():
    assert "only_the_gap" in names(evidence(wrong=0.6, shift=0.0))
    assert "only_the_gap" not in names(evidence(wrong=0.6, shift=1.0))
    assert "only_the_gap" not in names(evidence(wrong=0.0, shift=0.0))
    e = evidence(wrong=0.6, shift=0.0)
    assert "only_the_gap" not in names(replace(e, attacks={"gap": e.attacks["gap"]}))  # nobody looked further


def test_the_serious_come_first_and_equal_evidence_gives_equal_flags():
    c = candidates()
    x = c.x.clone()
    x[N] = x[0]
    e = evidence(Candidates(x, c.y, c.domain, c.classes))
    a, b = find_flags(e), find_flags(e)
    assert a == b
    rank = ["serious", "warning", "info"]
    assert [rank.index(flag.severity) for flag in a] == sorted(rank.index(flag.severity) for flag in a)
    assert a[0].name == "shared_rows"


@pytest.mark.parametrize("n", [2, 3, 12, 50])
@pytest.mark.parametrize("kind", ["one feature", "all equal", "one class", "all wrong", "no attacks"])
def test_no_flag_raises_on_degenerate_audits(n, kind):
    c = candidates(n, width=1 if kind == "one feature" else 3)
    if kind == "all equal":
        c = Candidates(torch.zeros(n, 3), torch.zeros(n, dtype=torch.int64), Box(0, 1), 2)
    if kind == "one class":
        c = Candidates(c.x, torch.zeros_like(c.y), Box(0, 1), 4)
    e = evidence(c, members=n // 2, wrong=4.0 if kind == "all wrong" else 0.1)
    if kind == "no attacks":
        e = replace(e, attacks={})
    for flag in find_flags(e):
        assert flag.severity in ("info", "warning", "serious")
    assert len({flag.name for check in FLAGS for flag in check(e)}) == sum(len(check(e)) for check in FLAGS)
