"""Membership meets scores: cross-fitted decisions, rankings given correct classification, curves, comparisons."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from labelleaks import metrics
from labelleaks.auditing.evaluation import FPRS, compare, evaluate, folds
from labelleaks.auditing.thresholds import Threshold
from labelleaks.core.types import Scores, Status, Trajectory
from labelleaks.errors import InputError


def _scores(value, status=None, trajectory=None):
    value = torch.as_tensor(np.asarray(value), dtype=torch.float64)
    status = torch.zeros(len(value), dtype=torch.int64) if status is None else torch.as_tensor(status)
    return Scores(value, status, torch.ones(len(value), dtype=torch.int64), trajectory)


def _audit(seed=0, members=150, nonmembers=120, shift=1.0):
    rng = np.random.default_rng(seed)
    member = np.arange(members + nonmembers) < members
    value = rng.normal(size=len(member)) + shift * member
    keys = rng.integers(-(2**62), 2**62, len(member))
    return value, member, keys


def test_ranking_agrees_with_scikit_learn():
    value, member, keys = _audit()
    found = evaluate(_scores(value), member, keys=keys).ranking
    assert found.auc.value == pytest.approx(roc_auc_score(member, value))
    assert (found.members, found.nonmembers) == (150, 120)
    assert set(found.tpr_at_fpr) == set(FPRS)
    assert found.tpr_at_fpr[0.001].value is None and found.tpr_at_fpr[0.001].reason


def test_numpy_fields_and_tensors_give_the_same():
    value, member, keys = _audit()
    as_numpy = Scores(value, np.zeros(len(value), dtype=np.int64), np.ones(len(value)), None)  # type: ignore[arg-type]
    a, b = evaluate(_scores(value), member, keys=keys), evaluate(as_numpy, member, keys=torch.as_tensor(keys))
    assert a.ranking == b.ranking
    assert np.array_equal(a.decisions[0].member, b.decisions[0].member)


def test_cross_fit_against_a_slow_reference():
    value, member, keys = _audit(3)
    found = evaluate(_scores(value), member, keys=keys).decisions[0]
    fold = {}
    for side in (True, False):
        for rank, i in enumerate(sorted(np.flatnonzero(member == side), key=lambda i: keys[i])):
            fold[i] = rank % 5
    expected = np.zeros(len(value), dtype=bool)
    for i in range(len(value)):
        others = [j for j in range(len(value)) if fold[j] != fold[i]]
        best = max(
            (
                np.mean(value[others][member[others]] > c) - np.mean(value[others][~member[others]] > c)
                for c in value[others]
            ),
        )
        tau = metrics.best_threshold(value[others], member[others])
        reached = np.mean(value[others][member[others]] > tau) - np.mean(value[others][~member[others]] > tau)
        assert reached == pytest.approx(max(best, 0.0))
        expected[i] = value[i] > tau
    assert np.array_equal(found.member, expected)
    assert found.threshold.source == "audited data, 5-fold cross-fitted"
    assert found.threshold.upper_bound
    assert found.tpr.value == pytest.approx(expected[member].mean())
    assert found.fpr.value == pytest.approx(expected[~member].mean())
    assert found.advantage.value == pytest.approx(expected[member].mean() - expected[~member].mean())


def test_cross_fit_does_not_flatter_scores_without_information():
    """In-sample, the best threshold on 30 + 30 rows of noise promises a balanced accuracy of about 0.57."""
    fitted, in_sample = [], []
    for seed in range(300):
        value, member, keys = _audit(seed, 30, 30, shift=0.0)
        decision = evaluate(_scores(value), member, keys=keys).decisions[0]
        fitted.append(decision.balanced_accuracy.value)
        own = value > metrics.best_threshold(value, member)
        in_sample.append(metrics.balanced_accuracy(own, member).value)
    error = np.std(fitted) / np.sqrt(len(fitted))
    assert np.mean(in_sample) > 0.55
    assert np.mean(fitted) < 0.5 + 3 * error


def test_rows_may_come_in_any_order():
    value, member, keys = _audit(5)
    value = np.round(value, 1)  # ties
    keys[10] = keys[11] = keys[140]  # equal content, among the members
    value[10] = value[11] = value[140]
    order = np.random.default_rng(1).permutation(len(value))
    status = (np.arange(len(value)) % 7 == 0) * int(Status.MISCLASSIFIED)
    a = evaluate(_scores(value, status), member, keys=keys)
    b = evaluate(_scores(value[order], status[order]), member[order], keys=keys[order])
    assert a.ranking == b.ranking
    assert a.given_correct == b.given_correct
    assert np.array_equal(a.decisions[0].member[order], b.decisions[0].member)
    assert a.decisions[0].threshold == b.decisions[0].threshold


def test_folds_are_even_stratified_and_keep_equal_rows_together():
    rng = np.random.default_rng(0)
    keys = rng.integers(-(2**62), 2**62, 230)
    member = np.arange(230) < 130
    keys[200:205] = keys[:5]  # the same rows on both sides
    fold = folds(keys, member)
    counts = np.bincount(fold[member])
    assert counts.max() - counts.min() <= 1
    assert np.bincount(fold[~member], minlength=5).min() >= 15
    assert np.array_equal(fold[200:205], fold[:5])


def test_given_correct_leaves_the_misclassified_out():
    value, member, keys = _audit(2)
    wrong = np.zeros(len(value), dtype=bool)
    wrong[~member] = np.arange(120) < 60
    value[wrong] = -100.0
    status = np.where(wrong, int(Status.MISCLASSIFIED), int(Status.BUDGET))
    found = evaluate(_scores(value, status), member, keys=keys)
    assert found.given_correct.auc.value == pytest.approx(roc_auc_score(member[~wrong], value[~wrong]))
    assert found.given_correct.auc.value < found.ranking.auc.value
    assert (found.given_correct.members, found.given_correct.nonmembers) == (150, 60)
    decision = found.decisions[0]
    assert decision.given_correct is not None
    assert decision.given_correct.fpr.value == pytest.approx(decision.member[~wrong & ~member].mean())
    assert decision.given_correct.fpr.value > decision.fpr.value


def test_the_gap_attack_tells_nothing_given_correct_classification():
    value, member, keys = _audit(2)
    correct = np.where(member, True, np.arange(len(value)) % 2 == 0)
    status = np.where(correct, int(Status.DONE), int(Status.MISCLASSIFIED))
    found = evaluate(_scores(correct.astype(float), status), member, keys=keys)
    assert found.ranking.auc.value == pytest.approx(0.75)
    assert found.decisions[0].balanced_accuracy.value == pytest.approx(0.75)
    assert found.given_correct.auc.value == 0.5


def test_thresholds_decide_all_candidates_strictly_above_tau():
    value = np.array([0.0, 1.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0])
    member = np.array([0, 0, 0, 0, 1, 1, 1, 1], dtype=bool)
    given = [Threshold(1.0, "balanced accuracy", "a test"), Threshold(9.0, "balanced accuracy", "a test")]
    found = evaluate(_scores(value), member, keys=np.arange(8), thresholds=given).decisions
    assert len(found) == 3
    assert found[1].threshold is given[0]
    assert found[1].member.tolist() == [False, False, False, True, False, False, True, True]
    assert found[1].precision.value == pytest.approx(2 / 3)
    assert not found[2].member.any()
    assert found[2].precision.value is None and found[2].precision.reason
    assert found[2].balanced_accuracy.value == 0.5


@pytest.mark.parametrize("members", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("nonmembers", [1, 2, 4, 7])
def test_tiny_groups_give_reasons_and_no_crash(members, nonmembers):
    value, member, keys = _audit(1, members, nonmembers)
    found = evaluate(_scores(value), member, keys=keys)
    decision = found.decisions[0]
    assert decision.member.shape == (members + nonmembers,)
    if min(members, nonmembers) < 2:
        assert decision.balanced_accuracy.value is None
        assert "too few" in decision.balanced_accuracy.reason
        assert "too few rows" in decision.threshold.source
    else:
        assert decision.balanced_accuracy.value is not None
        assert f"{min(5, members, nonmembers)}-fold" in decision.threshold.source
    assert np.isfinite(decision.threshold.tau)


def test_one_row_repeated_cannot_be_cross_fitted():
    value, member, keys = _audit(1, 20, 20)
    keys[member], value[member] = 7, 0.5
    found = evaluate(_scores(value), member, keys=keys).decisions[0]
    assert found.balanced_accuracy.value is None
    keys[:], value[:] = 7, 0.5
    assert evaluate(_scores(value), member, keys=keys).decisions[0].advantage.value is None


def test_all_misclassified_on_one_side():
    value, member, keys = _audit(0, 20, 20)
    status = np.where(member, int(Status.DONE), int(Status.MISCLASSIFIED))
    found = evaluate(_scores(value, status), member, keys=keys)
    assert found.given_correct.auc.value is None
    assert found.given_correct.auc.reason == "there are no non-members that the target is known to classify correctly"
    assert found.given_correct.tpr_at_fpr[0.1].value is None
    assert found.decisions[0].given_correct.advantage.value is None


def test_curve_reads_every_checkpoint():
    value, member, keys = _audit(4)
    rows = np.stack([np.zeros_like(value), value + np.random.default_rng(0).normal(size=len(value)), value])
    trajectory = Trajectory((1, 10, 100), torch.as_tensor(rows))
    found = evaluate(_scores(value, trajectory=trajectory), member, keys=keys)
    assert [point.labels for point in found.curve] == [1, 10, 100]
    assert found.curve[0].ranking.auc.value == 0.5
    assert found.curve[1].ranking.auc.value == pytest.approx(roc_auc_score(member, rows[1]))
    assert found.curve[2].ranking == found.ranking
    assert evaluate(_scores(value), member, keys=keys).curve == ()


def test_comparisons_of_all_pairs_with_holm():
    value, member, _ = _audit(6, 300, 300)
    rng = np.random.default_rng(0)
    values = {"good": value, "same": value * 2 + 1, "bad": rng.normal(size=len(value))}
    found = {(c.first, c.second): c for c in compare(values, member)}
    assert list(found) == [("good", "same"), ("good", "bad"), ("same", "bad")]
    assert found["good", "same"].difference.value == 0 and found["good", "same"].p_value == 1
    better = found["good", "bad"]
    assert better.difference.value == pytest.approx(roc_auc_score(member, value) - roc_auc_score(member, values["bad"]))
    assert better.difference.low > 0 and better.p_value < better.p_holm < 0.001
    assert better.p_holm == pytest.approx(min(1.0, 3 * min(better.p_value, found["same", "bad"].p_value)))
    assert compare({"alone": value}, member) == ()


def test_swapped_groups_turn_the_ranking_round():
    value, member, keys = _audit(8)
    a, b = evaluate(_scores(value), member, keys=keys), evaluate(_scores(-value), ~member, keys=keys)
    assert a.ranking.auc.value == pytest.approx(b.ranking.auc.value)
    c = evaluate(_scores(value), ~member, keys=keys)
    assert a.ranking.auc.value == pytest.approx(1 - c.ranking.auc.value)


def test_bad_arrays_are_refused():
    value, member, keys = _audit(0, 10, 10)
    with pytest.raises(InputError, match="one row a candidate"):
        evaluate(_scores(value), member[:-1], keys=keys)
    with pytest.raises(InputError):
        evaluate(_scores(value), np.ones(20, dtype=bool), keys=keys)
    value[3] = np.nan
    with pytest.raises(InputError):
        evaluate(_scores(value), member, keys=keys)
