"""Metrics against scikit-learn, SciPy's bootstrap, slow references and their own invariances."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, precision_score, roc_auc_score, roc_curve

from labelleaks import metrics
from labelleaks.errors import InputError

# Few levels, so that ties are everywhere, between and within the groups; and real numbers of all magnitudes.
TIED = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40)
REAL = st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.booleans()), min_size=2, max_size=40)
ROWS = st.one_of(TIED, REAL).filter(lambda rows: 0 < sum(member for _, member in rows) < len(rows))


def arrays(rows):
    return np.array([score for score, _ in rows], dtype=np.float64), np.array([member for _, member in rows])


def slow_auc(scores, member):
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, is_in in zip(scores, member, strict=True)
        if is_in
        for b, other in zip(scores, member, strict=True)
        if not other
    ]
    return math.fsum(pairs) / len(pairs)


def slow_delong(a, b, member):
    """Variance of AUC(a) - AUC(b) (or of AUC(a), without b) from all pairs, as DeLong et al. write it."""

    def verdicts(scores):
        return (np.sign(scores[member][:, None] - scores[~member][None, :]) + 1) / 2

    psi = verdicts(a) - (verdicts(b) if b is not None else 0)
    return psi.mean(1).var(ddof=1) / len(psi) + psi.mean(0).var(ddof=1) / psi.shape[1]


def slow_tpr(scores, member, fpr):
    best = 0.0
    for t in np.unique(scores):
        if (scores[~member] >= t).sum() / (~member).sum() <= fpr:
            best = max(best, (scores[member] >= t).mean())
    return best


def two_normals(m, n, shift, seed):
    generator = np.random.default_rng(seed)
    member = np.arange(m + n) < m
    return generator.normal(0, 1, m + n) + shift * member, member


# ----------------------------------------------------------------------------------------------------------- ROC


@given(ROWS)
@settings(max_examples=100, deadline=None)
def test_roc_is_scikit_learns(rows):
    scores, member = arrays(rows)
    got = metrics.roc(scores, member)
    with np.errstate(over="ignore"):  # scikit-learn subtracts scores
        fpr, tpr, thresholds = roc_curve(member, scores, drop_intermediate=False)
    np.testing.assert_array_equal(got.fpr, fpr)
    np.testing.assert_array_equal(got.tpr, tpr)
    np.testing.assert_array_equal(got.thresholds, thresholds)
    assert (got.fpr[0], got.tpr[0], got.fpr[-1], got.tpr[-1]) == (0, 0, 1, 1)


def test_roc_moves_whole_tie_groups():
    got = metrics.roc([2, 2, 1, 1], [True, False, True, False])
    np.testing.assert_array_equal(got.fpr, [0, 0.5, 1])
    np.testing.assert_array_equal(got.thresholds, [np.inf, 2, 1])


# ----------------------------------------------------------------------------------------------------------- AUC


@given(ROWS)
@settings(max_examples=150, deadline=None)
def test_auc_counts_pairs(rows):
    scores, member = arrays(rows)
    got = metrics.auc(scores, member)
    assert got.value == pytest.approx(slow_auc(scores, member), abs=1e-12)
    # scikit-learn integrates the curve; it agrees to rounding
    assert got.value == pytest.approx(roc_auc_score(member, scores), abs=1e-12)
    assert 0 <= got.low <= got.value <= got.high <= 1


@given(ROWS)
@settings(max_examples=100, deadline=None)
def test_swapped_groups_mirror(rows):
    scores, member = arrays(rows)
    one, other = metrics.auc(scores, member), metrics.auc(scores, ~member)
    assert one.value == pytest.approx(1 - other.value, abs=1e-12)
    assert one.low == pytest.approx(1 - other.high, abs=1e-9)
    assert one.high == pytest.approx(1 - other.low, abs=1e-9)
    negated = metrics.auc(-scores, member)
    assert negated.value == pytest.approx(other.value, abs=1e-12)


@given(ROWS, st.sampled_from(["rank", "exponential of the rank", "tiny", "huge"]))
@settings(max_examples=100, deadline=None)
def test_only_the_order_counts(rows, how):
    scores, member = arrays(rows)
    rank = stats.rankdata(scores, method="dense")
    moved = {
        "rank": rank,
        "exponential of the rank": 2.0**rank,
        "tiny": rank * 5e-324,
        "huge": (rank - 25) * 7e306,
    }[how]
    assert metrics.auc(moved, member) == metrics.auc(scores, member)
    assert metrics.tpr_at_fpr(moved, member, 0.3) == metrics.tpr_at_fpr(scores, member, 0.3)
    assert metrics.compare_auc(moved, scores, member).difference.value == 0
    np.testing.assert_array_equal(metrics.roc(moved, member).tpr, metrics.roc(scores, member).tpr)


@given(ROWS, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_rows_does_not_count_bit_for_bit(rows, random):
    mixed = list(rows)
    random.shuffle(mixed)
    (a, in_a), (b, in_b) = arrays(rows), arrays(mixed)
    assert metrics.auc(a, in_a) == metrics.auc(b, in_b)
    assert metrics.tpr_at_fpr(a, in_a, 0.25) == metrics.tpr_at_fpr(b, in_b, 0.25)
    assert metrics.compare_auc(a, np.round(a), in_a) == metrics.compare_auc(b, np.round(b), in_b)
    assert repr(metrics.best_threshold(a, in_a)) == repr(metrics.best_threshold(b, in_b))
    for first, second in zip(vars(metrics.roc(a, in_a)).values(), vars(metrics.roc(b, in_b)).values(), strict=True):
        assert first.tobytes() == second.tobytes()


def test_row_order_does_not_move_the_last_bit_of_long_arrays():
    scores, member = two_normals(3001, 1777, 0.7, 1)
    other = scores + np.random.default_rng(2).normal(0, 1, len(scores))
    order = np.random.default_rng(3).permutation(len(scores))
    assert metrics.auc(scores, member) == metrics.auc(scores[order], member[order])
    assert metrics.compare_auc(scores, other, member) == metrics.compare_auc(scores[order], other[order], member[order])


def test_negative_zero_is_zero():
    assert metrics.auc([0.0, -0.0], [True, False]).value == 0.5
    for scores in ([0.0, -0.0], [-0.0, 0.0], [-0.0, -0.0]):
        assert math.copysign(1, metrics.roc(scores, [True, False]).thresholds[1]) == 1
        assert math.copysign(1, metrics.best_threshold(scores, [True, False])) == 1
    assert len(metrics.roc([0.0, -0.0], [True, False]).fpr) == 2


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_auc_interval_is_delongs(decimals):
    scores, member = two_normals(60, 90, 1.0, 5)
    scores = np.round(scores, decimals)
    got, variance = metrics.auc(scores, member), slow_delong(scores, None, member)
    half = math.log(got.high / (1 - got.high)) - math.log(got.value / (1 - got.value))
    # The quantile is Student's t with many degrees of freedom here: between 1.96 and 2.
    assert 1.96 < half * got.value * (1 - got.value) / math.sqrt(variance) < 2.0


def test_auc_interval_agrees_with_the_bootstrap():
    scores, member = two_normals(150, 200, 1.0, 7)
    boot = stats.bootstrap(
        (scores[member], scores[~member]),
        lambda x, y, axis=-1: stats.mannwhitneyu(x, y, axis=axis).statistic / (x.shape[-1] * y.shape[-1]),
        n_resamples=1000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    got = metrics.auc(scores, member)
    assert got.low == pytest.approx(boot.low, abs=0.012)
    assert got.high == pytest.approx(boot.high, abs=0.012)


@pytest.mark.parametrize("n", [1, 20, 1000])
def test_perfect_separation_has_a_bound_and_not_a_point(n):
    member = np.arange(2 * n) < n
    apart = np.arange(2 * n)[::-1] * 1.0
    if n > 1:
        got = metrics.auc(apart, member)
        assert (got.value, got.high) == (1, 1)
        assert got.low == pytest.approx(0.025 ** (1 / n))  # n disjoint pairs all in order: Clopper-Pearson, n of n
        turned = metrics.auc(-apart, member)
        assert (turned.value, turned.low) == (0, 0)
        assert turned.high == pytest.approx(1 - got.low)
        apart[0] = -1
        assert metrics.auc(apart, member).low <= got.low  # less separation never has a higher limit
    two_values = metrics.auc(member * 1.0, member)
    assert (two_values.value, two_values.high) == (1, 1)
    assert two_values.low < 1


def test_auc_of_two_values_is_a_balanced_accuracy():
    decided, member = np.arange(90) % 3 > 0, np.arange(90) < 40
    assert metrics.auc(np.where(decided, 7.0, -1e300), member) == metrics.balanced_accuracy(decided, member)


def test_constant_scores_have_a_bound_and_not_a_point():
    got = metrics.auc(np.zeros(100), np.arange(100) < 40)
    assert got.value == 0.5
    assert got.high - 0.5 == pytest.approx((1 - 0.025 ** (1 / 40)) / 2)
    assert got.low == pytest.approx(1 - got.high)


def test_a_group_that_agrees_still_counts_as_few_rows():
    # All 10 members score 1, non-members 0, 1 or 2. The interval must allow for members not seen.
    scores = np.concatenate([np.ones(10), np.arange(1000) % 10 // 4])
    got = metrics.auc(scores, np.arange(1010) < 10)
    assert got.high - got.low > 0.15


def test_one_row_says_nothing_about_its_group():
    got = metrics.auc([1.0, 0.0, 2.0], [True, False, False])
    assert (got.low, got.high, got.unstable) == (0, 1, True)


def test_level_widens_the_interval():
    scores, member = two_normals(80, 80, 0.5, 0)
    for measure in (
        lambda level: metrics.auc(scores, member, level=level),
        lambda level: metrics.tpr_at_fpr(scores, member, 0.1, level=level),
        lambda level: metrics.advantage(scores > 0, member, level=level),
        lambda level: metrics.balanced_accuracy(scores > 0, member, level=level),
        lambda level: metrics.precision(scores > 0, member, level=level),
        lambda level: metrics.rate(3, 10, level=level),
        lambda level: metrics.compare_auc(scores, np.round(scores), member, level=level).difference,
    ):
        narrow, wide = measure(0.8), measure(0.99)
        assert wide.low < narrow.low <= narrow.value == wide.value <= narrow.high < wide.high
        with pytest.raises(InputError, match="level must be between 0 and 1"):
            measure(95)


def test_auc_neither_loops_over_rows_nor_holds_pairs():
    """Of 4e10 pairs: a call for each row would be 400,000 calls, all at once 40 GB."""
    scores, member = two_normals(200_000, 200_000, 0.3, 0)
    metrics.auc(*two_normals(20, 20, 0.3, 0))  # imports what it needs
    calls = 0

    def count(frame, event, function):
        nonlocal calls
        calls += event in ("call", "c_call")

    tracemalloc.start()
    sys.setprofile(count)
    try:
        metrics.auc(scores, member)
    finally:
        sys.setprofile(None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert calls < 1000
    assert peak < 20 * scores.nbytes


# ---------------------------------------------------------------------------------------------------- two attacks


def test_comparison_is_paired_delong():
    scores, member = two_normals(120, 100, 1.0, 3)
    other = np.round(scores + np.random.default_rng(4).normal(0, 1, len(scores)), 1)
    got = metrics.compare_auc(scores, other, member)
    variance = slow_delong(scores, other, member)
    assert got.difference.value == pytest.approx(slow_auc(scores, member) - slow_auc(other, member), abs=1e-12)
    # Student's quantile (1.96 to 2), and one row counted twice
    assert 1.96 < (got.difference.high - got.difference.value) / math.sqrt(variance) < 2.06
    z = abs(got.difference.value) / math.sqrt(variance)
    assert 2 * stats.norm.sf(z) < got.p_value < 2 * stats.t.sf(z / 1.03, 99)  # df: at least the smaller group's
    turned = metrics.compare_auc(other, scores, member)
    assert turned.p_value == got.p_value
    assert (turned.difference.low, turned.difference.high) == (-got.difference.high, -got.difference.low)


def test_identical_attacks_differ_by_less_than_a_bound():
    scores, member = two_normals(50, 80, 1.0, 3)
    got = metrics.compare_auc(scores, np.exp(scores), member)
    assert (got.difference.value, got.p_value) == (0, 1)
    assert got.difference.high == pytest.approx(1 - 0.025 ** (1 / 50))
    assert got.difference.low == -got.difference.high


def test_equal_auc_is_not_an_identical_attack():
    # Both AUC 1/2 and both orders mirror images: a difference of 0 with a wide interval, not the identical bound.
    member = np.arange(40) < 20
    a = np.where(member, np.arange(40) % 20, 9.5)
    got = metrics.compare_auc(a, -a, member)
    assert got.difference.value == 0
    assert got.difference.high > 0.3


def test_perfect_against_constant():
    member = np.arange(200) < 100
    got = metrics.compare_auc(member * 1.0, np.zeros(200), member)
    assert got.difference.value == 0.5
    assert 0 < got.difference.low < 0.5 <= got.difference.high < 0.52
    assert got.p_value < 1e-15
    few = metrics.compare_auc([1.0, 0.0], [0.0, 0.0], [True, False])
    assert few.p_value == 1
    assert few.difference.low <= 0


def test_comparison_of_one_row_says_nothing():
    got = metrics.compare_auc([1.0, 0, 2], [0, 1.0, 2], [True, False, False])
    assert (got.difference.low, got.difference.high, got.p_value) == (-1, 1, 1)


def test_holm_by_hand():
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.6, 0.9]) == [1, 1]
    assert metrics.holm([]) == []
    with pytest.raises(InputError, match="0 to 1"):
        metrics.holm([0.5, math.nan])


# ------------------------------------------------------------------------------------------------------ TPR at FPR


@given(ROWS, st.sampled_from([0.1, 0.2, 0.29, 1 / 3, 0.5, 0.7]))
@settings(max_examples=150, deadline=None)
def test_tpr_is_the_last_operating_point(rows, fpr):
    scores, member = arrays(rows)
    got = metrics.tpr_at_fpr(scores, member, fpr)
    if got.value is None:
        assert (~member).sum() < 1 / fpr
        assert (got.low, got.high) == (None, None)
        return
    assert got.value == slow_tpr(scores, member, fpr)
    assert 0 <= got.low <= got.value <= got.high <= 1


def test_tpr_never_interpolates_nor_splits_ties():
    member = np.arange(200) < 100
    scores = np.where(member, 1.0, np.arange(200) % 2)  # half of the non-members share the members' score
    assert metrics.tpr_at_fpr(scores, member, 0.4).value == 0
    assert metrics.tpr_at_fpr(scores, member, 0.5).value == 1


def test_fpr_is_met_as_a_reader_divides():
    member = np.arange(150) < 50
    scores = np.concatenate(
        [np.full(50, 70.5), np.arange(100)]
    )  # 29 of 100 non-members score above, and 0.29 * 100 < 29
    assert metrics.tpr_at_fpr(scores, member, 0.29).value == 1
    assert metrics.tpr_at_fpr(scores, member, 0.28).value == 0


@pytest.mark.parametrize(("fpr", "least"), [(0.1, 10), (0.01, 100), (0.001, 1000)])
def test_too_few_nonmembers_have_a_reason(fpr, least):
    for n in (least - 1, least, 10 * least - 1, 10 * least):
        scores, member = two_normals(20, n, 1.0, 0)
        got = metrics.tpr_at_fpr(scores, member, fpr)
        if n < least:
            assert got.value is None
            assert got.reason == f"{100 * fpr:g} % FPR needs at least {least} non-members, there are {n}"
        else:
            assert got.value is not None
            assert got.unstable == (n < 10 * least)


def test_fpr_is_a_fraction():
    with pytest.raises(InputError, match=r"1 % is 0\.01"):
        metrics.tpr_at_fpr([1, 2], [True, False], 1)
    with pytest.raises(InputError, match=r"1 % is 0\.01"):
        metrics.conformal_threshold([1, 2], 5)


# ------------------------------------------------------------------------------------------------------- decisions

DECISIONS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: 0 < sum(member for _, member in rows) < len(rows)
)


@given(DECISIONS)
@settings(max_examples=100, deadline=None)
def test_decisions_are_scikit_learns(rows):
    decided, member = (np.array(column) for column in zip(*rows, strict=True))
    balanced, advantage = metrics.balanced_accuracy(decided, member), metrics.advantage(decided, member)
    assert balanced.value == pytest.approx(balanced_accuracy_score(member, decided))
    assert advantage.value == pytest.approx(decided[member].mean() - decided[~member].mean())
    assert -1 <= advantage.low <= advantage.value <= advantage.high <= 1
    assert balanced.low == pytest.approx((1 + advantage.low) / 2)
    precision = metrics.precision(decided, member)
    if decided.any():
        assert precision.value == pytest.approx(precision_score(member, decided))
        assert precision.low <= precision.value <= precision.high
    else:
        assert precision == metrics.Estimate(None, reason="no candidate is called a member")


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 30), (3, 30), (30, 30), (517, 1000)])
def test_rate_is_clopper_pearson(k, n):
    exact = stats.binomtest(k, n).proportion_ci(0.95, "exact")
    got = metrics.rate(k, n)
    assert (got.value, got.low, got.high) == pytest.approx((k / n, exact.low, exact.high))


def test_rate_refuses_nonsense():
    for k, n in ((0, 0), (3, 2), (-1, 5)):
        with pytest.raises(InputError, match="0 <= k <= n"):
            metrics.rate(k, n)


# ------------------------------------------------------------------------------------------------------ thresholds


@given(ROWS)
@settings(max_examples=150, deadline=None)
def test_best_threshold_is_best(rows):
    scores, member = arrays(rows)
    tau = metrics.best_threshold(scores, member)
    assert math.isfinite(tau)

    def gain(cut):
        called = scores > cut
        return int((called & member).sum()) * int((~member).sum()) - int((called & ~member).sum()) * int(member.sum())

    assert gain(tau) == max([0, *(gain(cut) for cut in scores)])


def test_best_threshold_is_a_midpoint():
    assert metrics.best_threshold([0, 1, 3, 4], [False, False, True, True]) == 2
    assert metrics.best_threshold([4, 3, 1, 0], [False, False, True, True]) == 4  # nothing beats calling nobody
    assert metrics.best_threshold([-1.7e308, 1.7e308], [False, True]) == 0
    close = np.nextafter(1.0, 2.0)
    assert 1.0 <= metrics.best_threshold([1.0, close], [False, True]) < close
    assert close <= metrics.best_threshold([close, np.nextafter(close, 2.0)], [False, True]) < np.nextafter(close, 2.0)
    assert metrics.best_threshold([0.0, 5e-324], [False, True]) == 0


@pytest.mark.parametrize("fpr", [0.5, 0.1, 0.05, 0.01])
def test_conformal_threshold_is_exact_for_every_next_row(fpr):
    # Among n + 1 exchangeable rows each is equally likely to be the new one: count over all of them.
    generator = np.random.default_rng(0)
    for n in (math.ceil(1 / fpr) - 1, 150, 199):
        if n < 1 / fpr - 1:
            continue
        rows = np.round(generator.normal(0, 1, n + 1), 1)
        above = [rows[i] > metrics.conformal_threshold(np.delete(rows, i), fpr) for i in range(n + 1)]
        assert np.mean(above) <= fpr
        distinct = generator.permutation(n + 1)
        above = [distinct[i] > metrics.conformal_threshold(np.delete(distinct, i), fpr) for i in range(n + 1)]
        assert sum(above) == max(k for k in range(n + 2) if k / (n + 1) <= fpr)  # and not one fewer than it may


def test_conformal_threshold_needs_rows():
    with pytest.raises(InputError, match="1 % FPR needs at least 99 non-members to calibrate on, got 98"):
        metrics.conformal_threshold(np.arange(98), 0.01)
    assert metrics.conformal_threshold(np.arange(99), 0.01) == 98


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("scores", "member", "says"),
    [
        ([1.0, np.nan, np.inf], [True, False, True], "2 of 3 are NaN or infinite, the first in row 1"),
        ([1.0, 2.0], [True, True], "no non-members"),
        ([1.0, 2.0], [False, False], "no members"),
        ([], [], "no members"),
        ([1.0, 2.0], [True], "2 rows but member has 1"),
        ([[1.0], [2.0]], [True, False], r"shape \(n,\), got \(2, 1\)"),
        ([1.0, 2.0], [[True, False]], r"member must be one value a row"),
        (["a", "b"], [True, False], "real numbers"),
        ([1j, 2], [True, False], "real numbers"),
        ([1.0, 2.0], [0, 2], "member must be True or False"),
        ([1.0, 2.0], [0.0, 1.0], "member must be True or False"),
    ],
)
def test_bad_input_is_named(scores, member, says):
    for measure in (
        metrics.roc,
        metrics.auc,
        metrics.best_threshold,
        lambda s, t: metrics.tpr_at_fpr(s, t, 0.5),
        lambda s, t: metrics.compare_auc(s, s, t),
    ):
        with pytest.raises(InputError, match=says):
            measure(scores, member)


def test_bad_decisions_are_named():
    for measure in (metrics.advantage, metrics.balanced_accuracy, metrics.precision):
        with pytest.raises(InputError, match="decided must be True or False"):
            measure([0.3, 0.9], [True, False])
        with pytest.raises(InputError, match="decided has 1 rows but member has 2"):
            measure([True], [True, False])
        with pytest.raises(InputError, match="no non-members"):
            measure([True], [True])


def test_comparison_names_the_bad_side():
    with pytest.raises(InputError, match="b: 1 of 2"):
        metrics.compare_auc([1, 2], [1, np.nan], [True, False])


def test_inputs_stay_as_they_were():
    scores, member = two_normals(30, 30, 1.0, 0)
    before = scores.copy(), member.copy()
    scores.setflags(write=False)
    member.setflags(write=False)
    metrics.roc(scores, member), metrics.auc(scores, member), metrics.tpr_at_fpr(scores, member, 0.1)
    metrics.best_threshold(scores, member), metrics.conformal_threshold(scores, 0.1)
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(member, before[1])


def test_import_stays_light():
    code = "import sys, labelleaks.metrics; print([m for m in ('scipy', 'torch', 'sklearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- p-values, false-discovery rate, precision at a prior -------------------------------------------------------------


@given(ROWS)
def test_conformal_p_values_agree_with_a_slow_count_and_with_the_threshold(rows):
    scores, member = arrays(rows)
    known = scores[~member]
    p = metrics.conformal_p_values(scores, known)
    slow = [(1 + sum(float(k) >= float(s) for k in known)) / (1 + len(known)) for s in scores]
    np.testing.assert_array_equal(p, slow)
    fpr = 1 / (len(known) + 1) + 1e-9
    if fpr < 1:
        np.testing.assert_array_equal(p <= fpr, scores > metrics.conformal_threshold(known, fpr))


def test_conformal_p_values_of_non_members_are_uniform_or_above():
    random = np.random.default_rng(0)
    p = np.array([metrics.conformal_p_values(random.normal(size=1), random.normal(size=99))[0] for _ in range(4000)])
    for level in (0.01, 0.05, 0.1, 0.5):
        assert stats.binom.sf((p <= level).sum() - 1, 4000, level) > 1e-3
        assert stats.binom.cdf((p <= level).sum(), 4000, level) > 1e-3  # no ties: not conservative either


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("fdr", [0.05, 0.2])
def test_false_discovery_rate_is_held(shift, fdr):
    """300 candidates, a third of them members, 200 known non-members; ties by rounding."""
    random = np.random.default_rng(5)
    false, called = [], 0
    for _ in range(400):
        member = np.arange(300) < 100
        scores = np.round(random.normal(size=300) + shift * member, 2)
        decided = metrics.called_at_fdr(metrics.conformal_p_values(scores, np.round(random.normal(size=200), 2)), fdr)
        false.append((decided & ~member).sum() / max(1, decided.sum()))
        called += decided.sum()
    assert np.mean(false) <= fdr + 3 * np.std(false) / math.sqrt(len(false))
    assert called > 1000 or shift < 3  # 200 known non-members cannot show less than 1 in 201


@given(st.lists(st.floats(1e-6, 1), max_size=30), st.floats(0.01, 1))
def test_called_at_fdr_agrees_with_scipy(p, fdr):
    decided = metrics.called_at_fdr(np.array(p), fdr)
    adjusted = stats.false_discovery_control(p) if p else np.zeros(0)
    sure = np.abs(adjusted - fdr) > 1e-12  # but for rounding
    np.testing.assert_array_equal(decided[sure], (adjusted <= fdr)[sure])


def test_precision_at_a_prior():
    member = np.arange(2000) < 1000
    decided = np.concatenate([np.arange(1000) < 500, np.arange(1000) < 10])
    at_half = metrics.precision_at_prior(decided, member, 0.5)
    assert at_half.value == pytest.approx(metrics.precision(decided, member).value)
    rare = metrics.precision_at_prior(decided, member, 0.01)
    assert rare.value == pytest.approx(0.01 * 0.5 / (0.01 * 0.5 + 0.99 * 0.01))
    assert rare.low < rare.value < rare.high < at_half.low
    nobody = metrics.precision_at_prior(np.zeros(2000, dtype=bool), member, 0.01)
    assert nobody.value is None
    assert nobody.reason == "no candidate is called a member"


def test_interval_of_precision_at_a_prior_holds():
    random = np.random.default_rng(3)
    truth, inside = 0.1 * 0.4 / (0.1 * 0.4 + 0.9 * 0.05), 0
    member = np.arange(400) < 200
    for _ in range(500):
        decided = random.random(400) < np.where(member, 0.4, 0.05)
        found = metrics.precision_at_prior(decided, member, 0.1)
        inside += found.low <= truth <= found.high
    assert inside >= 470


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: metrics.precision_at_prior([True], [True], 0.0), "prior=0.0"),
        (lambda: metrics.conformal_p_values([1.0], []), "known non-members"),
        (lambda: metrics.called_at_fdr([0.0], 0.1), "p_values"),
        (lambda: metrics.called_at_fdr([0.5], 0), "fdr=0"),
    ],
)
def test_what_no_p_value_or_prior_can_be_is_refused(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()
