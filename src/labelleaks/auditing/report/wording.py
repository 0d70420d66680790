"""Numbers and sentences for people. Reads a record; computes no statistic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labelleaks import attacks as registry
from labelleaks.core.attack import About
from labelleaks.metrics import Estimate

if TYPE_CHECKING:  # a record shows itself by its report
    from labelleaks.auditing.record import AttackResult, AuditRecord

__all__ = [
    "Headline",
    "about",
    "best_by_auc",
    "count",
    "figure",
    "headline",
    "number",
    "percent",
    "plain",
    "setup_rows",
]

LEAST = 30
"""Members or non-members below which the report gives no headline figure."""
STRONG_AUC = 0.7
STRONG_LIFT = 10.0


_UNKNOWN = About("", "score")


def about(result: AttackResult) -> About:
    """Return what the attack says of itself: in the record, else (one made before) as it says so today, by its name."""
    if result.about is not None:
        return result.about
    name = str(result.spec.get("attack", result.name.partition("(")[0]))
    return registry.resolve(name).about if name in registry.names() else _UNKNOWN


def count(value: int) -> str:
    """1234567 -> 1,234,567"""
    return f"{value:,}"


def percent(value: float) -> str:
    """0.314 -> 31 %; small shares, and those near 1, keep a digit."""
    hundred = 100 * value
    near = min(abs(hundred), abs(100 - hundred))
    digits = 0 if near >= 9.95 else 1 if near >= 0.95 else 2
    text = f"{hundred:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if digits else text
    return f"{text}\u00a0%".replace("-", "\u2212")


def bare(value: float) -> str:
    """:func:`percent` without its sign."""
    return percent(value).removesuffix("\u00a0%")


def number(value: float, digits: int = 3) -> str:
    """So many significant digits, with a true minus sign."""
    return f"{value:.{digits}g}".replace("-", "\u2212")


def figure(estimate: Estimate, *, share: bool = False) -> str:
    """``0.71 [0.67, 0.75]`` or ``31 % [25, 37]``; a dash where there is no value."""
    if estimate.value is None:
        return "–"
    if share:
        ends = [bare(e) for e in (estimate.low, estimate.high) if e is not None]
        return percent(estimate.value) + (f" [{', '.join(ends)}]" if len(ends) == 2 else "")
    ends = [_three(e) for e in (estimate.low, estimate.high) if e is not None]
    return _three(estimate.value) + (f" [{', '.join(ends)}]" if len(ends) == 2 else "")


def plain(estimate: Estimate) -> str:
    """``31 % (25 to 37 %)``, for a sentence."""
    if estimate.value is None:
        return "an unknown share"
    if estimate.low is None or estimate.high is None:
        return percent(estimate.value)
    return f"{percent(estimate.value)} ({bare(estimate.low)} to {percent(estimate.high)})"


def best_by_auc(record: AuditRecord) -> AttackResult | None:
    """Return the attack whose AUC has the highest lower end; the first of equals."""
    rated = [r for r in record.attacks.values() if r.auc.value is not None]
    return max(rated, key=lambda r: (_low(r.auc), r.auc.value), default=None)


@dataclass(frozen=True)
class Headline:
    """The top of the report."""

    level: str
    """``strong``, ``leak``, ``none`` or ``unknown``"""
    label: str
    sentence: str
    more: tuple[str, ...] = ()
    attack: str | None = None
    fpr: float | None = None
    """The false-positive rate that the sentence speaks of, where it does."""


def headline(record: AuditRecord) -> Headline:
    """Choose the sentence that the record supports, never a stronger one."""
    members = int(record.member.sum())
    nonmembers = len(record) - members
    best = best_by_auc(record)
    if not record.attacks:
        return Headline(
            "unknown", "No answer", "No attack was finished, so there is nothing to say about this model yet."
        )
    if best is None or min(members, nonmembers) < LEAST:
        return Headline(
            "unknown",
            "Too few records to say",
            f"{count(members)} training records and {count(nonmembers)} others are too few to say how much this model "
            f"leaks: below {LEAST} on either side, chance alone moves every figure too far.",
            attack=best.name if best else None,
        )
    fpr, sharpest = _sharpest(record)
    if fpr is not None and sharpest is not None:
        return _found(record, sharpest, best, fpr)
    if _low(best.auc) > 0.5:
        sentence = (
            f"{_outsider(best)} tells a training record of this model from another record in {plain(best.auc)} of such "
            "pairs; guessing is right in 50\u00a0% of them."
        )
        more = tuple(line for line in (_cost(record, best), _beyond_gap(record, best)) if line)
        return Headline(_level(best, None), _LABEL[_level(best, None)], sentence, more, best.name)
    high = max(r.auc.high for r in record.attacks.values() if r.auc.high is not None)
    tried = len(record.attacks)
    sentence = (
        f"{'This attack does' if tried == 1 else f'None of these {tried} attacks does'} better than guessing: the best "
        f"tells a training record from another in {plain(best.auc)} of pairs, and guessing is right in 50\u00a0%."
    )
    caution = (
        f"That is not proof of safety: the intervals still allow {percent(high)}, and a stronger attack or more labels "
        "may find what these did not."
    )
    return Headline("none", _LABEL["none"], sentence, (caution, _cost(record, best)), best.name)


_LABEL = {"strong": "Strong leak", "leak": "Leak found", "none": "No leak found"}


def _sharpest(record: AuditRecord) -> tuple[float | None, AttackResult | None]:
    """The lowest FPR of 1 % and 10 % that is well measured and at which an attack beats guessing, and that attack."""
    for fpr in (0.01, 0.1):
        able = [r for r in record.attacks.values() if _solid(r.tpr_at_fpr.get(fpr)) and _low(r.tpr_at_fpr[fpr]) > fpr]
        if able:
            return fpr, max(able, key=lambda r: _low(r.tpr_at_fpr[fpr]))
    return None, None


def _found(record: AuditRecord, sharpest: AttackResult, best: AttackResult, fpr: float) -> Headline:
    level = _level(best, sharpest.tpr_at_fpr[fpr].low, fpr)
    sentence = (
        f"{_outsider(sharpest)} can pick out {plain(sharpest.tpr_at_fpr[fpr])} of this model’s training records while "
        f"wrongly accusing {percent(fpr)} of other records. Guessing would find {percent(fpr)}."
    )
    return Headline(level, _LABEL[level], sentence, _more(record, best, sharpest), sharpest.name, fpr)


def _level(best: AttackResult, tpr: float | None, fpr: float = 1.0) -> str:
    return "strong" if _low(best.auc) >= STRONG_AUC or (tpr or 0.0) >= STRONG_LIFT * fpr else "leak"


def _outsider(result: AttackResult) -> str:
    labels = int(result.queries.max()) if len(result.queries) else 0
    times = "once" if labels == 1 else f"up to {count(labels)} times"
    return f"An outsider who may ask this model for a label {times} per record"


def _more(record: AuditRecord, best: AttackResult, named: AttackResult) -> tuple[str, ...]:
    lines = []
    if named.auc.value is not None and best is named:
        lines.append(
            f"Shown a training record and another one, this attack ({named.name}) names the right one in "
            f"{plain(named.auc)} of cases; guessing is right in 50\u00a0%."
        )
    elif best.auc.value is not None:
        lines.append(
            f"That is the {named.name} attack. The best overall is {best.name}: shown a training record and another "
            f"one, it names the right one in {plain(best.auc)} of cases; guessing is right in 50\u00a0%."
        )
    lines.append(_cost(record, named))
    lines.append(_beyond_gap(record, named))
    return tuple(line for line in lines if line)


def _cost(record: AuditRecord, result: AttackResult) -> str:
    spent = result.queries
    middle, total = int(np.median(spent)), int(spent.sum())
    setup = setup_rows(record, result)
    rows = count(len(record))
    line = f"Its price: {count(middle)} {_labels(middle)} for a typical record and {count(total)} for all {rows}"
    also = f", after {count(setup)} {_labels(setup)} to set up" if setup else ""
    early = next((p.labels for p in result.curve if _low(p.ranking.auc) > 0.5), None)
    beats = f" It beats guessing from {count(early)} {_labels(early)} per record on." if early is not None else ""
    return f"{line}{also}.{beats}"


def _beyond_gap(record: AuditRecord, result: AttackResult) -> str:
    inner = result.given_correct.auc
    if inner.value is None:
        return ""
    if _low(inner) > 0.5:
        return (
            "It is more than the model’s accuracy gap: among records that the model classifies correctly, the attack "
            f"still names the right one of two in {plain(inner)} of cases."
        )
    return (
        "It may be no more than the model’s accuracy gap: among records that the model classifies correctly, the "
        f"attack names the right one of two in {plain(inner)} of cases, which chance can explain."
    )


def _labels(k: int) -> str:
    return "label" if k == 1 else "labels"


def setup_rows(record: AuditRecord, result: AttackResult) -> int:
    """Rows that set this attack and its thresholds up, as if it were alone: they belong to no candidate.

    The labels of the shadow rows are bought by the attack that comes first, and count for all that use them.
    """
    setup = record.ledger.setup
    own = sum(rows for phase, rows in setup.items() if phase.startswith(f"{result.name}."))
    if not about(result).relabels:
        return own
    labels = sum(rows for phase, rows in setup.items() if phase.endswith(".relabel"))
    had = setup.get(f"{result.name}.relabel", 0)
    return own + max(0, min(labels, int(record.shadow.get("given", 0))) - had)


def readable_fpr(result: AttackResult) -> float:
    """The lowest of 1 % and 10 % that is well measured for this attack; 10 % where neither is."""
    return next((fpr for fpr in (0.01, 0.1) if _solid(result.tpr_at_fpr.get(fpr))), 0.1)


def sentence(text: str) -> str:
    """With a capital and a full stop, as the page prints it."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) or not text else ".")


def _solid(estimate: Estimate | None) -> bool:
    return estimate is not None and estimate.value is not None and not estimate.unstable


def _low(estimate: Estimate) -> float:
    return -1.0 if estimate.low is None else estimate.low


def _three(value: float) -> str:
    return f"{value:.3f}".replace("-", "\u2212")


def joined(names: Sequence[str]) -> str:
    """``a, b and c``"""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
