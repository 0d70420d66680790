"""Flags about thresholds: whom they let through, of known non-members and of candidates without a truth."""

from __future__ import annotations

from typing import Any

from labelleaks.auditing.flags.evidence import Evidence, Flag, interval
from labelleaks.auditing.thresholds import Threshold

_MOST = 0.5
"""Share of non-members called members from which a threshold tells less than a coin."""


def one_sided_decision(e: Evidence) -> list[Flag]:
    """Flag decisions that call everybody, or nobody, a member."""
    found = []
    for name, attack in e.attacks.items():
        for decision in attack.evaluation.decisions:
            if len(decision.member) and (decision.member.all() or not decision.member.any()):
                who = "everybody" if decision.member.all() else "nobody"
                found.append(f"{name} with {decision.threshold.source} calls {who} a member")
    if not found:
        return []
    return [
        Flag(
            "one_sided_decision",
            "info",
            "; ".join(found),
            "Such a threshold lies beyond all scores: its balanced accuracy is 50 % and says nothing of the ranking.",
            "Judge the attack by AUC and TPR at FPR, or choose another threshold.",
        )
    ]


def accusing_threshold(e: Evidence) -> list[Flag]:
    """Flag thresholds of an outsider that call most of the known non-members members."""
    found = []
    for name, attack in e.attacks.items():
        for decision in attack.evaluation.decisions:
            rate = decision.fpr.value
            if not decision.threshold.upper_bound and rate is not None and rate >= _MOST:
                rows = attack.evaluation.ranking.nonmembers
                found.append(
                    f"{name} with {decision.threshold.source} calls {round(rate * rows)} of {rows} non-members members"
                )
    if not found:
        return []
    return [
        Flag(
            "accusing_threshold",
            "warning",
            "; ".join(found),
            "Whoever decides by it accuses more non-members than a coin would. The ranking is not touched.",
            "Decide by a threshold with a stated false-positive rate: FixedFPR(...) with shadow rows, or HoldOut(...).",
        )
    ]


def unreachable_threshold(e: Evidence) -> list[Flag]:
    """Flag thresholds that hardly any score can pass, as their rules saw it."""
    found = [
        f"{name} with {decision.threshold.source}: {decision.threshold.doubt}"
        for name, attack in e.attacks.items()
        for decision in attack.evaluation.decisions
        if decision.threshold.doubt
    ]
    return [_unreachable("; ".join(found))] if found else []


def of_decisions(attack: str, threshold: Threshold, member: Any) -> tuple[Flag, ...]:
    """Return the flags of decisions whose truth nobody knows, the serious first.

    Args:
        member: bool (n,), who is called a member.
    """
    flags = []
    if threshold.doubt:
        flags.append(_unreachable(f"{attack} with {threshold.source}: {threshold.doubt}"))
    expected = threshold.expected_fpr
    if expected is not None and expected.value is not None and expected.value >= _MOST:
        flags.append(
            Flag(
                "accusing_threshold",
                "serious",
                f"{attack} with {threshold.source} calls {interval(expected)} of the non-members that it knows members",
                "Most of those who are called members here were not in the training data.",
                "Use FixedFPR(...) with shadow rows, more labels, or another attack.",
            )
        )
    if len(member) and (member.all() or not member.any()):
        who = "every candidate" if member.all() else "no candidate"
        flags.append(
            Flag(
                "one_sided_decision",
                "warning",
                f"{attack} with {threshold.source} calls {who} a member",
                "A threshold that lies beyond all scores tells candidates apart no better than no threshold.",
                "Look at the scores: decisions.scores rank the candidates whatever the threshold.",
            )
        )
    if expected is None:
        flags.append(
            Flag(
                "unknown_fpr",
                "info",
                f"{threshold.source}: no non-member was scored, so that nobody knows how many non-members pass",
                "A candidate that is called a member may be one of many non-members that score as high.",
                "Give shadow rows and threshold='fixed_fpr', or HoldOut(...) with known non-members.",
            )
        )
    return tuple(flags)


def _unreachable(because: str) -> Flag:
    return Flag(
        "unreachable_threshold",
        "warning",
        because,
        "Hardly any score can pass this threshold: that nobody is called a member says nothing of the candidates.",
        "Choose another threshold, or look at the ranking.",
    )
