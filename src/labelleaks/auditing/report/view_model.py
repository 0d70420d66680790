"""From a record to what the page shows: plain rows of texts, charts and pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from labelleaks.auditing.evaluation import Decision
from labelleaks.auditing.report import charts
from labelleaks.auditing.report.exposed import STATUS, exposure
from labelleaks.auditing.report.provenance import facts, ledger, pretty
from labelleaks.auditing.report.wording import (
    Headline,
    about,
    best_by_auc,
    count,
    figure,
    headline,
    joined,
    number,
    percent,
    readable_fpr,
    sentence,
    setup_rows,
)
from labelleaks.auditing.texts import without_words
from labelleaks.core.types import Status
from labelleaks.metrics import Estimate

if TYPE_CHECKING:  # a record shows itself by its report
    from labelleaks.auditing.decisions import Decisions
    from labelleaks.auditing.record import AttackResult, AuditRecord, RunLog

__all__ = ["build", "decisions_look", "first_look"]

_PAIRS = 15  # of attacks, up to which all of them are shown: six attacks
_ROWS = 10  # candidates of decisions that a notebook shows
_FPRS = (0.1, 0.01, 0.001)
_SEVERITY = {"serious": ("▲", "Serious"), "warning": ("●", "Warning"), "info": ("○", "For information")}


def build(record: AuditRecord, run: RunLog | None) -> dict[str, Any]:
    """Return the context of the whole page."""
    top, notes = _top(record)
    chosen = top["chosen"]
    return {
        **top,
        "whole": True,
        "run": run,
        "flags": [_flag(flag) for flag in record.flags],
        "fprs": [percent(fpr) for fpr in _FPRS],
        "footnotes": notes,
        "distributions": [
            {"name": r.name, "svg": charts.distribution(record, r), "spread": _spread(r)}
            for r in record.attacks.values()
        ],
        **exposure(record, chosen),
        "ledger": ledger(record, run),
        "thresholds": _thresholds(record),
        "comparisons": _comparisons(record),
        "facts": facts(record, run),
        "details": {
            **{name: pretty(getattr(record, name)) for name in ("spec", "target")},
            "domain": pretty(without_words(record.domain)),
            "shadow": pretty(record.shadow),
        },
    }


def first_look(record: AuditRecord) -> dict[str, Any]:
    """Return the context of the page's top: the answer, the first figures, serious flags, curves."""
    serious = [_flag(flag) for flag in record.flags if flag.severity == "serious"]
    return {**_top(record)[0], "whole": False, "flags": serious}


def _top(record: AuditRecord) -> tuple[dict[str, Any], list[str]]:
    """Context that page and first look share, and the footnotes that it needs."""
    head = headline(record)
    notes: list[str] = []
    chosen = record.attacks.get(head.attack or "") or best_by_auc(record)
    css = charts.colours(record.attacks)
    top = {
        "record": record,
        "answer": head,
        "members": count(int(record.member.sum())),
        "nonmembers": count(int((~record.member).sum())),
        "missing": joined(record.missing),
        "tiles": _tiles(record, head, chosen),
        "attacks": [_attack(record, css[name], r, notes) for name, r in record.attacks.items()],
        "charts": _charts(record, head, chosen),
        "chosen": chosen,
    }
    return top, notes


def decisions_look(decisions: Decisions) -> dict[str, Any]:
    """Return the context of decisions in a notebook: first figures, flags, the candidates that score highest."""
    expected, threshold = decisions.expected_fpr, decisions.threshold
    called = int(decisions.member.sum())
    order = np.lexsort((np.arange(len(decisions)), -decisions.scores))[:_ROWS]
    rows = decisions.rows()
    promised = expected.high is not None and expected.low == 0
    tiles = [
        ("Called members", count(called), f"of {count(len(decisions))} candidates, by {decisions.attack['name']}"),
        ("Threshold", number(threshold.tau), f"score above it; {threshold.source}"),
        ("Non-members called members", "–" if expected.value is None else percent(expected.value), expected.reason or
         (f"up to {percent(expected.high)}" if promised and expected.high else _ends(expected, share=True))),
        ("Labels per record", count(int(decisions.queries.max(initial=0))),
         f"at most; {count(decisions.ledger.rows)} in all"),
    ]  # fmt: skip
    return {
        "tiles": tiles,
        "flags": [_flag(flag) for flag in decisions.flags],
        "rows": [{**rows[i], "score": number(rows[i]["score"], 6), "status": STATUS[rows[i]["status"]]} for i in order],
        "left": len(decisions) - len(order),
    }


def _tiles(record: AuditRecord, head: Headline, chosen: AttackResult | None) -> list[tuple[str, str, str]]:
    """(name, value, remark)"""
    if chosen is None:
        return []
    best = best_by_auc(record) or chosen
    tiles: list[tuple[str, str, str]] = []
    known = record.accuracy
    if known is not None:
        remark = f"of the members; {percent(known[1])} of the non-members"
        tiles.append(("The model is right about", percent(known[0]), remark))
    tiles.append(
        ("AUC of the best attack", figure(best.auc).split(" ")[0], f"{_ends(best.auc)}; {best.name}; 0.5 is guessing")
    )
    fpr = head.fpr or readable_fpr(chosen)
    tpr = chosen.tpr_at_fpr.get(fpr, Estimate(None, reason="not measured"))
    found, remark = "–", tpr.reason or ""
    if tpr.value is not None:
        found, remark = percent(tpr.value), f"{_ends(tpr, share=True)}; {chosen.name}; {percent(fpr)} is guessing"
    tiles.append((f"Members found, {percent(fpr)} wrongly accused", found, remark))
    tiles.append(
        (
            "Labels per record",
            count(int(chosen.queries.max(initial=0))),
            f"at most, {chosen.name}; {count(record.ledger.rows)} in the whole audit",
        )
    )
    return [*tiles, ("Serious flags", *_counted_flags(record))]


def _counted_flags(record: AuditRecord) -> tuple[str, str]:
    """Return the number of serious flags, and a remark on the others."""
    if not record.complete:
        return "–", "not looked for yet: the run did not end"
    serious, warnings, infos = (
        sum(flag.severity == severity for flag in record.flags) for severity in ("serious", "warning", "info")
    )
    if not record.flags:
        return "0", "and none of another kind"
    others = [f"{warnings} {'warning' if warnings == 1 else 'warnings'}"] if warnings else []
    others += [f"{infos} for information"] if infos else []
    beside = f"and {joined(others)}" if others else ""
    return str(serious), f"{beside}; read them before the figures".removeprefix("; ") if serious + warnings else beside


def _ends(estimate: Estimate, *, share: bool = False) -> str:
    if estimate.low is None or estimate.high is None:
        return "no interval"
    show = percent if share else (lambda v: f"{v:.3f}")
    return f"{show(estimate.low)} to {show(estimate.high)}"


def _flag(flag: Any) -> dict[str, str]:
    sign, word = _SEVERITY.get(flag.severity, _SEVERITY["info"])
    return {
        "sign": sign,
        "word": word,
        "severity": flag.severity if flag.severity in _SEVERITY else "info",
        "name": flag.name.replace("_", " "),
        "raised_because": sentence(flag.raised_because),
        "meaning": sentence(flag.meaning),
        "what_to_do": sentence(flag.what_to_do),
    }


def _attack(record: AuditRecord, css: str, result: AttackResult, notes: list[str]) -> dict[str, Any]:
    statuses = {Status(s).name: int((result.status == s).sum()) for s in np.unique(result.status).tolist()}
    return {
        "name": result.name,
        "swatch": charts.swatch(css),
        "what": about(result).summary,
        "labels": count(int(np.median(result.queries))) if len(result.queries) else "0",
        "labels_most": _most(result.queries),
        "setup": count(setup_rows(record, result)),
        "auc": _cell(result.auc, notes),
        "tpr": [_cell(result.tpr_at_fpr.get(fpr), notes, share=True) for fpr in _FPRS],
        "balanced_accuracy": _cell(result.balanced_accuracy, notes, share=True),
        "advantage": _cell(result.advantage, notes, share=True),
        "given_correct": _cell(result.given_correct.auc, notes),
        "source": result.threshold.source,
        "upper_bound": result.threshold.upper_bound,
        "statuses": ", ".join(f"{count(k)} {STATUS[name]}" for name, k in statuses.items()),
        "spec": pretty(result.spec),
    }


def _cell(estimate: Estimate | None, notes: list[str], *, share: bool = False) -> dict[str, str]:
    """A figure, or a dash with the number of the footnote that says why."""
    if estimate is None or estimate.value is None:
        reason = "not measured" if estimate is None or not estimate.reason else estimate.reason
        if reason not in notes:
            notes.append(reason)
        return {"value": "–", "ends": "", "note": str(notes.index(reason) + 1), "unstable": ""}
    value, _, ends = figure(estimate, share=share).partition(" [")
    return {
        "value": value,
        "ends": ends.rstrip("]").replace(", ", "–"),
        "note": "",
        "unstable": "unstable" if estimate.unstable else "",
    }


def _charts(record: AuditRecord, head: Headline, chosen: AttackResult | None) -> dict[str, Any]:
    if not record.attacks:
        return {}
    fpr = head.fpr or (readable_fpr(chosen) if chosen else 0.1)
    return {
        "roc_log": charts.roc_log(record),
        "roc_linear": charts.roc_linear(record),
        "power": charts.power(record),
        "power_tpr": charts.power(record, fpr),
        "power_fpr": percent(fpr),
        "floor": percent(1 / max(int((~record.member).sum()), 10)),
    }


def _spread(result: AttackResult) -> str:
    return f"AUC {figure(result.auc)}"


def _most(queries: Any) -> str:
    """The most labels that any candidate took, where that is not the typical number."""
    most = int(queries.max(initial=0))
    return "" if not len(queries) or most == int(np.median(queries)) else count(most)


def _thresholds(record: AuditRecord) -> list[dict[str, Any]]:
    return [
        _threshold(result.name, decision, j == 0)
        for result in record.attacks.values()
        for j, decision in enumerate(result.evaluation.decisions)
    ]


def _threshold(attack: str, decision: Decision, reported: bool) -> dict[str, Any]:
    return {
        "attack": attack,
        "reported": reported,
        "source": decision.threshold.source,
        "objective": decision.threshold.objective,
        "upper_bound": decision.threshold.upper_bound,
        "tau": number(decision.threshold.tau),
        "tpr": figure(decision.tpr, share=True),
        "fpr": figure(decision.fpr, share=True),
        "balanced_accuracy": figure(decision.balanced_accuracy, share=True),
        "precision": figure(decision.precision, share=True),
    }


def _comparisons(record: AuditRecord) -> dict[str, list[dict[str, str]]]:
    """Pairs to show, and pairs to fold away: where there are many, all without the best attack."""
    best = best_by_auc(record)
    found: dict[str, list[dict[str, str]]] = {"shown": [], "folded": []}
    for one in record.comparisons:
        gap, first, second = one.difference, one.first, one.second
        if gap.value is not None and gap.value < 0:  # the better one first
            low, high = (None if end is None else -end for end in (gap.high, gap.low))
            gap, first, second = replace(gap, value=-gap.value, low=low, high=high), second, first
        clear = one.p_holm < 0.05 and bool(gap.value)
        row = {"pair": f"{first} over {second}", "difference": figure(gap)}
        row["p"] = "< 0.001" if one.p_holm < 0.001 else f"{one.p_holm:.3f}"
        row["verdict"] = f"{first} ranks better" if clear else "no clear difference"
        folded = len(record.comparisons) > _PAIRS and best is not None and best.name not in (first, second)
        found["folded" if folded else "shown"].append(row)
    return found
