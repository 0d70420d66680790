"""The report's charts, drawn from a record."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from labelleaks.auditing.evaluation import CurvePoint
from labelleaks.auditing.report.svg import Axis, Chart
from labelleaks.auditing.report.wording import about, figure, number, percent
from labelleaks.core.types import Status
from labelleaks.metrics import Estimate

if TYPE_CHECKING:  # a record shows itself by its report
    from labelleaks.auditing.record import AttackResult, AuditRecord

__all__ = ["colours", "distribution", "power", "roc_linear", "roc_log", "swatch"]

_BINS = 28
_OWN = ("gap", "noise", "augmentation", "boundary", "transfer", "guided", "yoqo", "oslo", "dhattack", "chameleon",
        "calibrated")  # fmt: skip
"""Whose colours are s0, s1, … in report.css; the further ones there are for attacks of other packages."""
_LINES = 16  # colours in report.css
_DASHES = 6  # d0, d1, … in report.css
_MANY = 0.2  # share of candidates at the highest score from which that score gets a pair of bars
_FEW = 14  # distinct scores up to which each gets its own pair of bars
_SHARES = [(0.0, "0"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %")]


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return the classes that give each attack its colour and dash, by name: the same in every report.

    An attack of ours has a colour of its own, another package's one of the others, by a hash of its name. Attacks of
    one kind share their colour and differ by their dash. Where two names meet, the later in the alphabet moves on.
    """
    wanted = list(names)
    taken: dict[int, str] = {}
    found: dict[str, str] = {}
    for name in sorted(wanted):
        kind, _, settings = name.partition("(")
        if kind in _OWN:
            colour = _OWN.index(kind)
        else:
            free = range(len(_OWN), _LINES)
            tries = [free[(_hash(kind) + i) % len(free)] for i in range(len(free))]
            colour = next((one for one in tries if taken.get(one, kind) == kind), tries[0])
        taken[colour] = kind
        used = {css for css in found.values() if css.split()[0] == f"s{colour}"}
        dashes = [f"s{colour} d{(_hash(settings) + i) % _DASHES}" for i in range(_DASHES)]
        choices = dashes if settings else [f"s{colour}", *dashes]
        found[name] = next((css for css in choices if css not in used), choices[0])
    return {name: found[name] for name in wanted}


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())


def swatch(css: str) -> Markup:
    """A short stretch of an attack's line, for legends."""
    return Markup(
        f'<svg class="swatch" viewBox="0 0 28 10" aria-hidden="true"><path class="line {css}" d="M1 5H27"/></svg>'
    )


def roc_log(record: AuditRecord) -> Markup:
    """ROC on logarithmic axes: what an attack finds while it accuses almost nobody."""
    members, others = int(record.member.sum()), int((~record.member).sum())
    x = _log_share(others, "wrongly accused (FPR)")
    y = _log_share(members, "members found (TPR)")
    chart = Chart(x, y, "ROC of all attacks, logarithmic axes")
    floor = max(x.low, y.low)
    chart.line([(floor, floor), (1.0, 1.0)], "chance")
    for name, css in colours(record.attacks).items():
        chart.line(_points(record.attacks[name]), css, step=True)
    return chart.render()


def roc_linear(record: AuditRecord) -> Markup:
    """The whole ROC; the area under it is the AUC, so tie groups are sloped."""
    axis = Axis(0.0, 1.0, "wrongly accused (FPR)", _SHARES)
    chart = Chart(axis, Axis(0.0, 1.0, "members found (TPR)", _SHARES), "ROC of all attacks, linear axes")
    chart.line([(0.0, 0.0), (1.0, 1.0)], "chance")
    for name, css in colours(record.attacks).items():
        chart.line(_points(record.attacks[name]), css)
    return chart.render()


def power(record: AuditRecord, fpr: float | None = None) -> Markup | None:
    """Draw AUC (or TPR at ``fpr``) against labels per candidate. None without any curve."""
    curves = {name: _curve(result, fpr) for name, result in record.attacks.items()}
    estimates = [e for curve in curves.values() for _, e in curve]
    if not estimates:
        return None
    most = max(labels for curve in curves.values() for labels, _ in curve)
    x = Axis(1.0, float(max(most, 10)), "labels per candidate", _decades(max(most, 10)), log=True)
    lowest = min(e.value if e.low is None else e.low for e in estimates if e.value is not None)
    if fpr is None:
        low = math.floor(min(lowest, 0.48) * 10) / 10
        y = Axis(low, 1.0, "AUC", [(v / 10, f"{v / 10:.1f}") for v in range(round(low * 10), 11)])
        name, chance = "AUC against labels per candidate", 0.5
    else:
        y = Axis(0.0, 1.0, f"found at {percent(fpr)} FPR", _SHARES)
        name, chance = f"TPR at {percent(fpr)} FPR against labels per candidate", fpr
    chart = Chart(x, y, name)
    chart.rule(y=chance, css="chance", text="guessing")
    css = colours(record.attacks)
    for attack, curve in curves.items():
        _draw_curve(chart, attack, curve, css[attack])
    return chart.render()


def distribution(record: AuditRecord, result: AttackResult) -> Markup:
    """Scores of members and non-members; misclassified and start-less candidates stand apart, as they are ranked."""
    named = {int(Status.MISCLASSIFIED): "wrong label", int(Status.NO_START): "no start"}
    ranked = ~np.isin(result.status, list(named))
    if len(np.unique(result.scores)) <= _FEW:
        ranked = np.zeros_like(ranked)
    slots = _slots(result, record.member, ranked, named)
    middle = _histogram(result.scores[ranked], record.member[ranked], record.member) if ranked.any() else None
    return _draw_distribution(record, result, slots, middle)


def _points(result: AttackResult) -> list[tuple[float, float]]:
    return list(zip(result.roc.fpr.tolist(), result.roc.tpr.tolist(), strict=True))


def _log_share(rows: int, label: str) -> Axis:
    low = 1.0 / max(rows, 10)
    decades = range(math.floor(math.log10(1 / low)) + 1)
    ticks = [(10.0**-d, percent(10.0**-d)) for d in reversed(decades)]
    minor = [m * 10.0**-d for d in range(1, len(ticks) + 1) for m in range(2, 10) if m * 10.0**-d > low]
    return Axis(low, 1.0, label, ticks, log=True, minor=minor)


def _decades(most: int) -> list[tuple[float, str]]:
    ticks = [(10.0**d, f"{10**d:,}") for d in range(int(math.log10(most)) + 1)]
    return ticks if most < 2.5 * ticks[-1][0] else [*ticks, (float(most), f"{most:,}")]


def _curve(result: AttackResult, fpr: float | None) -> list[tuple[int, Estimate]]:
    """(labels, estimate) along the trajectory; a single point where an attack has none."""
    points: Sequence[CurvePoint] = result.curve
    if not points:
        ranking = result.evaluation.ranking
        points = [CurvePoint(int(result.queries.max(initial=1)), ranking)]
    found = [(p.labels, p.ranking.auc if fpr is None else p.ranking.tpr_at_fpr.get(fpr)) for p in points]
    return [(max(labels, 1), e) for labels, e in found if e is not None and e.value is not None]


def _draw_curve(chart: Chart, attack: str, curve: list[tuple[int, Estimate]], css: str) -> None:
    whole = [(labels, e) for labels, e in curve if e.low is not None and e.high is not None]
    if len(whole) > 1:
        chart.band([(k, e.low or 0.0) for k, e in whole], [(k, e.high or 0.0) for k, e in whole], css)
    elif whole:
        chart.whisker(whole[0][0], whole[0][1].low or 0.0, whole[0][1].high or 0.0, css)
    chart.line([(k, e.value or 0.0) for k, e in curve], css)
    for k, e in curve:
        chart.dot((k, e.value or 0.0), css, f"{attack}, {k:,} labels: {figure(e)}")


Slot = tuple[str, float, float]  # name, share of members, share of non-members


def _slots(
    result: AttackResult, member: NDArray[np.bool_], ranked: NDArray[np.bool_], named: dict[int, str]
) -> tuple[list[Slot], list[Slot]]:
    """Bars with names, left and right of the histogram: by status, or by score where there are few scores. What gets a
    bar here leaves ``ranked``."""
    left: list[Slot] = []
    right: list[Slot] = []
    if not ranked.any():
        return [(number(v), *_shares(result.scores == v, member)) for v in np.unique(result.scores).tolist()], right
    for status, name in named.items():
        chosen = result.status == status
        if chosen.any():
            (left if status == int(Status.MISCLASSIFIED) else right).append((name, *_shares(chosen, member)))
    top = float(result.scores[ranked].max())
    tied = ranked & (result.scores == top)
    if tied.sum() >= _MANY * len(member) and not tied[ranked].all():  # a heap at one score would flatten all the rest
        right.insert(0, (f"= {number(top)}", *_shares(tied, member)))
        ranked &= ~tied
    return left, right


def _shares(chosen: NDArray[np.bool_], member: NDArray[np.bool_]) -> tuple[float, float]:
    return float((chosen & member).sum() / max(member.sum(), 1)), float(
        (chosen & ~member).sum() / max((~member).sum(), 1)
    )


def _histogram(
    scores: NDArray[np.float64], member: NDArray[np.bool_], everyone: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Edges, and the share of each group in each bin; the outermost bins hold what lies beyond."""
    least, lower, upper, most = np.quantile(scores, [0.005, 0.25, 0.75, 0.995]).tolist()
    reach = 4 * (upper - lower)  # a long tail must not squeeze the bulk into one bin
    low, high = (max(least, lower - reach), min(most, upper + reach)) if reach > 0 else (least, most)
    if not high > low:
        low, high = float(scores.min()) - 0.5, float(scores.max()) + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    inside = np.clip(scores, low, high)
    of_members, _ = np.histogram(inside[member], edges)
    of_others, _ = np.histogram(inside[~member], edges)
    return edges, of_members / max(everyone.sum(), 1), of_others / max((~everyone).sum(), 1)


def _draw_distribution(
    record: AuditRecord,
    result: AttackResult,
    slots: tuple[list[Slot], list[Slot]],
    middle: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None,
) -> Markup:
    """x in bins: a named slot is some bins wide, the histogram ``_BINS``."""
    left, right = slots
    wide = 7.0 if middle is not None else 1.0
    start = len(left) * wide + (1.5 if left and middle is not None else 0.0)
    stop = start + (_BINS if middle is not None else 0)
    total = stop + (len(right) * wide + 1.5 if right else 0.0)
    tops = [max(a, b) for _, a, b in (*left, *right)]
    tops += [] if middle is None else [float(middle[1].max()), float(middle[2].max())]
    every = 1 if middle is not None else -(-len(left) // 6)
    ticks = [((i + 0.5) * wide, name) for i, (name, _, _) in enumerate(left) if i % every == 0]
    ticks += [(stop + 1.5 + (i + 0.5) * wide, name) for i, (name, _, _) in enumerate(right)]
    if middle is not None:
        low, span = float(middle[0][0]), float(middle[0][-1] - middle[0][0])
        values = _round_values(low, low + span)
        ticks += [
            (start + _BINS * (v - low) / span, name) for v, name in zip(values, _distinct_texts(values), strict=True)
        ]
    high = max([*tops, 0.01]) * 1.08
    chart = Chart(
        Axis(0.0, max(total, 1.0), about(result).axis, ticks),
        Axis(0.0, high, "", _share_ticks(high)),
        f"Scores of members and non-members, {result.name}",
        height=250,
        left=54,
    )
    _draw_slots(chart, left, 0.0, wide)
    _draw_slots(chart, right, stop + 1.5, wide)
    if middle is not None:
        _draw_histogram(chart, middle, start, result.threshold.tau)
    return chart.render()


def _draw_slots(chart: Chart, slots: list[Slot], begin: float, wide: float) -> None:
    for i, (name, members, others) in enumerate(slots):
        centre, half = begin + (i + 0.5) * wide, 0.36 * wide
        chart.bar(centre - half, centre, members, "member", f"{name}: {percent(members)} of the members")
        chart.bar(centre, centre + half, others, "other-fill", f"{name}: {percent(others)} of the non-members")


def _draw_histogram(
    chart: Chart, middle: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], start: float, tau: float
) -> None:
    edges, members, others = middle
    outline = [(start, 0.0)]
    for i, (a, b) in enumerate(zip(members.tolist(), others.tolist(), strict=True)):
        where = f"{number(float(edges[i]))} to {number(float(edges[i + 1]))}"
        tip = f"{where}: {percent(a)} of the members, {percent(b)} of the non-members"
        chart.bar(start + i, start + i + 1, a, "member", tip)
        outline += [(start + i, b), (start + i + 1, b)]
    chart.line([*outline, (start + _BINS, 0.0)], "other")
    if edges[0] < tau < edges[-1]:
        place = start + _BINS * float((tau - edges[0]) / (edges[-1] - edges[0]))
        chart.rule(x=place, css="threshold", text="threshold")


def _share_ticks(high: float) -> list[tuple[float, str]]:
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0) if high / s <= 5)
    return [(i * step, percent(i * step)) for i in range(int(high / step) + 1)]


def _distinct_texts(values: list[float]) -> list[str]:
    """Three significant digits, or as many as it takes for different values to look different."""
    tries = [[number(v, digits) for v in values] for digits in range(3, 18)]
    return next(names for names in tries if len(set(names)) == len(set(values)))


def _round_values(low: float, high: float) -> list[float]:
    """At most four round values inside, clear of the ends."""
    low, high = low + 0.08 * (high - low), high - 0.04 * (high - low)
    magnitude = 10.0 ** math.floor(math.log10(high - low))
    for step in (m * magnitude for m in (0.2, 0.25, 0.5, 1.0, 2.0, 5.0)):
        first = math.ceil(low / step)
        found = [k * step for k in range(first, math.floor(high / step) + 1)]
        if len(found) <= 4:
            return found or [(low + high) / 2]
    return [(low + high) / 2]
