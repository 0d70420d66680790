"""Flags about the target's answers, the attacks and their thresholds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelleaks.auditing.flags.evidence import AttackEvidence, Evidence, Flag, interval
from labelleaks.core.types import Status
from labelleaks.metrics import Estimate
from labelleaks.metrics.estimates import clopper_pearson

_SOME = 0.05  # share of NO_START rows that starts to shape the tail of the ranking
_MANY = 0.25


def _asks(attack: AttackEvidence) -> bool:
    """Whether the attack asked for the candidates themselves."""
    return not bool((attack.status == int(Status.UNASKED)).any())


def _labelled_right(attack: AttackEvidence) -> NDArray[np.bool_]:
    """bool (n,): candidates that the attack saw classified correctly."""
    return ~np.isin(attack.status, (int(Status.MISCLASSIFIED), int(Status.UNASKED)))


def constant_labels(e: Evidence) -> list[Flag]:
    """Flag a target that answers one label whatever it is asked."""
    y = e.candidates.y.cpu().numpy()
    reason = ""
    for name, attack in e.attacks.items():
        right = y[_labelled_right(attack)]
        if len(right) and len(y) >= 20:
            code = int(np.bincount(right).argmax())
            of_right, of_all = float((right == code).mean()), float((y == code).mean())
            if of_right >= 0.98 and of_all <= 0.9:
                reason = (
                    f"{of_right:.0%} of the candidates that are classified correctly ({name}) are of class "
                    f"{e.class_name(code)}, which has {of_all:.0%} of the rows"
                )
                break
    if e.one_label and not reason and len(np.unique(y)) > 1:
        reason = "all rows of the probe got the same label"
    if not reason:
        return []
    return [
        Flag(
            "constant_labels",
            "serious",
            f"the target seems to answer one label whatever it is asked: {reason}",
            "There is no decision boundary to measure; every figure is about class shares.",
            "Check preprocessing and class order: feed the target rows that you know it classifies well.",
        )
    ]


def randomised_labels(e: Evidence) -> list[Flag]:
    """Flag answers to the same input that differ."""
    wrong = [~_labelled_right(a) for a in e.attacks.values() if _asks(a)]
    disagree = int((np.stack(wrong).any(0) & ~np.stack(wrong).all(0)).sum()) if wrong else 0
    if e.changed == 0 and disagree == 0 and e.noise_changed == 0:
        return []
    reasons = []
    if e.noise_asked:
        low, high = clopper_pearson(e.noise_changed, e.noise_asked, 0.05)
        reasons.append(
            f"two answers to one input differ for {e.noise_changed} of {e.noise_asked} candidates: "
            f"{e.noise_changed / e.noise_asked:.3f} [{low:.3f}, {high:.3f}]"
        )
    if e.changed:
        reasons.append(f"{e.changed} of {e.probed} probed rows got another label when asked again")
    if disagree:
        reasons.append(
            f"{disagree} of {len(e.member)} candidates were classified correctly for one attack, not for another"
        )
    return [
        Flag(
            "randomised_labels",
            "serious",
            "; ".join(reasons),
            "Label-only searches trust each answer. Against random answers they measure noise, and a low figure does "
            "not mean that nothing leaks.",
            "Turn the randomness off for the audit (dropout, sampling, a defence), or ask attacks that average: noise, "
            "or boundary with votes=3 or more, which asks again where answers differ.",
        )
    ]


def _accuracy_on_members(e: Evidence) -> tuple[float, float] | None:
    """Share of the members that get their label, and that of their most frequent class; None: too few, or not asked."""
    y = e.candidates.y.cpu().numpy()[e.member]
    asking = [attack for attack in e.attacks.values() if _asks(attack)]
    if not asking or len(y) < 20 or len(np.unique(y)) < 2:
        return None
    return float(_labelled_right(asking[0])[e.member].mean()), float(np.bincount(y).max() / len(y))


def members_misread(e: Evidence) -> list[Flag]:
    """Flag a target that gets far fewer of its own members right than a trained model does."""
    found = _accuracy_on_members(e)
    if found is None:
        return []
    accuracy, most = found
    usual = most + (1 - most) / 2
    if not most < accuracy < usual:  # at or below the most frequent class: at_chance
        return []
    return [
        Flag(
            "members_misread",
            "warning",
            f"the target gives the true label to {accuracy:.1%} of the members, rows that it was trained on; a trained "
            f"model gets far more of them right (flagged below {usual:.0%})",
            "Either it was trained very briefly, or it is not asked as it was trained: then every figure is about "
            "another model.",
            "Is the preprocessing the one that it was trained with (units, normalisation, layout, class order)? "
            "Compare with its training accuracy; mend with preprocess=, domain= or classes=.",
        )
    ]


def at_chance(e: Evidence) -> list[Flag]:
    """Flag a target that labels its own members no better than the most frequent class does."""
    found = _accuracy_on_members(e)
    if found is None or found[0] > found[1]:
        return []
    accuracy, most = found
    return [
        Flag(
            "at_chance",
            "serious",
            f"the target gives the true label to {accuracy:.1%} of the members; always answering the most frequent "
            f"class would be right for {most:.1%}",
            "Either the model has learned nothing, or it is asked in the wrong way: units, normalisation, channel "
            "order or class order.",
            "Measure its accuracy outside the audit; use preprocess= for normalised inputs and classes= for the order.",
        )
    ]


def no_start(e: Evidence) -> list[Flag]:
    """Flag searches that found no input with another label for many candidates."""
    shares = {name: float((a.status == int(Status.NO_START)).mean()) for name, a in e.attacks.items() if len(a.status)}
    high = {name: share for name, share in shares.items() if share >= _SOME}
    if not high:
        return []
    return [
        Flag(
            "no_start",
            "serious" if max(high.values()) >= _MANY else "warning",
            "; ".join(f"{name}: {share:.1%} of the candidates" for name, share in high.items())
            + " found no input with another label",
            "Their distance is unknown and large; they tie above all others, members and non-members alike.",
            "Give shadow rows or a pool of starts (starts=) that holds every class.",
        )
    ]


def out_of_budget(e: Evidence) -> list[Flag]:
    """Flag attacks whose labels ran out before the attack's own end."""
    reasons = []
    for name, attack in e.attacks.items():
        share = float((attack.status == int(Status.BUDGET)).mean()) if len(attack.status) else 0.0
        if share > 0:
            reasons.append(f"{name}: {share:.1%} of the candidates{_last_gain(attack)}")
    if not reasons:
        return []
    return [
        Flag(
            "out_of_budget",
            "info",
            "the labels ran out before the attack's own end; " + "; ".join(reasons),
            "Their score is the best so far; a more patient attacker may do better.",
            "Look where the query-versus-power curve ends: if it still climbs, raise the budget.",
        )
    ]


def _last_gain(attack: AttackEvidence) -> str:
    if len(attack.evaluation.curve) < 2:
        return ""
    before, last = attack.evaluation.curve[-2:]
    values = before.ranking.auc.value, last.ranking.auc.value
    if values[0] is None or values[1] is None:
        return ""
    return f" (AUC {values[0]:.3f} after {before.labels} labels, {values[1]:.3f} after {last.labels})"


def audited_threshold(e: Evidence) -> list[Flag]:
    """Flag decisions by a threshold that was fitted on the audited rows."""
    own = [name for name, a in e.attacks.items() if a.evaluation.decisions[0].threshold.upper_bound]
    if not own:
        return []
    unjudged = [name for name in own if e.attacks[name].evaluation.decisions[0].balanced_accuracy.value is None]
    return [
        Flag(
            "audited_threshold",
            "warning" if unjudged else "info",
            f"the reported decision of {', '.join(own)} uses a threshold fitted on audited rows of known membership",
            "An outsider does not have those rows: balanced accuracy and advantage are an upper bound for such a "
            "threshold. AUC and TPR at FPR do not hang on it.",
            "Read the decisions of the other thresholds beside it, or give thresholds= (random inputs, shadow rows).",
        )
    ]


def cheap_attack_wins(e: Evidence) -> list[Flag]:
    """Flag attacks that are worse than one that asks less."""
    most = {name: int(a.queries.max(initial=0)) for name, a in e.attacks.items()}
    won = []
    for pair in e.comparisons:
        difference = pair.difference.value
        if difference is None or pair.p_holm >= 0.05 or not {pair.first, pair.second} <= most.keys():
            continue
        winner, loser = (pair.first, pair.second) if difference > 0 else (pair.second, pair.first)
        if most[winner] <= 1 < most[loser]:
            won.append(f"{winner} beats {loser} ({most[loser]} labels) by {abs(difference):.3f} AUC")
    if not won:
        return []
    best = max(e.attacks, key=lambda name: _auc(e.attacks[name]).value or 0.0)
    return [
        Flag(
            "cheap_attack_wins",
            "warning" if most[best] <= 1 else "info",  # an attack that asks more carries the result all the same
            "; ".join(won) + " (paired test, Holm-corrected, 5 %)",
            "An attack that sees more should not do worse. A search that does fails here: too small a budget, a "
            "defence that hides the boundary, or a wrong domain. Of another attack, what it counts on does not hold.",
            "Report the better attack; for a search raise the budget and check the domain's bounds.",
        )
    ]


def only_the_gap(e: Evidence) -> list[Flag]:
    """Flag a leak that is no more than wrong labels of non-members."""
    leaks = [name for name, a in e.attacks.items() if (_auc(a).low or 0.0) > 0.5]
    given = [a.evaluation.given_correct.auc for a in e.attacks.values()]
    looked = any(auc.value is not None and auc.value != 0.5 for auc in given)
    if not leaks or not looked or any((auc.low or 0.0) > 0.5 for auc in given):
        return []
    return [
        Flag(
            "only_the_gap",
            "info",
            f"{', '.join(leaks)} tell members apart, but no attack does among the candidates that the target "
            "classifies correctly",
            "All that is seen is that the model errs less on its training data: one label a record is enough for that.",
            "Closing the accuracy gap (regularisation, more data, earlier stopping) closes what is seen here.",
        )
    ]


def below_chance(e: Evidence) -> list[Flag]:
    """Flag scores that order members below non-members."""
    low = {n: _auc(a) for n, a in e.attacks.items() if (high := _auc(a).high) is not None and high < 0.5}
    if not low:
        return []
    return [
        Flag(
            "below_chance",
            "serious",
            "; ".join(f"{name}: AUC {interval(auc)}" for name, auc in low.items()),
            "Non-members look more like members than members do: the groups may be swapped, or differ in themselves.",
            "Check which group was given as members, and the blind baseline.",
        )
    ]


def _auc(attack: AttackEvidence) -> Estimate:
    return attack.evaluation.ranking.auc
