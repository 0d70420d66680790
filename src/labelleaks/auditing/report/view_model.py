"""From a record to what the page shows: plain rows of texts, charts and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from labelleaks.auditing.evaluation import Decision
from labelleaks.auditing.record import AttackResult, AuditRecord, RunLog
from labelleaks.auditing.report import charts, pictures
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
from labelleaks.core.types import Status
from labelleaks.metrics import Estimate

__all__ = ["build", "json_for_script"]

_EXPOSED = 12
_PAIRS = 15  # of attacks, up to which all of them are shown: six attacks
_COARSE = 14  # distinct scores up to which an attack sorts candidates into classes, not one by one
_FPRS = (0.1, 0.01, 0.001)
_NORMS = {"distance_l2": "L2", "distance_linf": "L∞", "distance_l1": "L1", "distance_l0": "L0"}
_SEVERITY = {"serious": ("▲", "Serious"), "warning": ("●", "Warning"), "info": ("○", "For information")}


def build(record: AuditRecord, run: RunLog | None) -> dict[str, Any]:
    """Return the template's context."""
    head = headline(record)
    notes: list[str] = []
    chosen = record.attacks.get(head.attack or "") or best_by_auc(record)
    shown = _fine(record, chosen)
    return {
        "record": record,
        "run": run,
        "answer": head,
        "members": count(int(record.member.sum())),
        "nonmembers": count(int((~record.member).sum())),
        "missing": joined(record.missing),
        "tiles": _tiles(record, head, chosen),
        "flags": [_flag(flag) for flag in record.flags],
        "attacks": [_attack(record, i, r, notes) for i, r in enumerate(record.attacks.values())],
        "fprs": [percent(fpr) for fpr in _FPRS],
        "footnotes": notes,
        "charts": _charts(record, head, chosen),
        "chosen": chosen,
        "shown": shown,
        "mover": _mover(record, shown),
        "exposed": _exposed(record, shown) if shown else [],
        "exposed_total": _standing_out(record, shown) if shown else "",
        "tied": _tied(record, shown) if shown else 0,
        "startless": int((record.member & (shown.status == int(Status.NO_START))).sum()) if shown else 0,
        "as_pictures": record.inputs is not None and pictures.is_image(record.inputs.shape[1:], record.domain),
        "ledger": _ledger(record),
        "thresholds": _thresholds(record),
        "comparisons": _comparisons(record),
        "facts": _facts(record, run),
        "details": {name: _pretty(getattr(record, name)) for name in ("spec", "target", "domain", "shadow")},
        "candidates": json_for_script(_candidates(record)),
        "spent": [(r.name, charts.css_of(i)) for i, r in enumerate(record.attacks.values())],
    }


def _fine(record: AuditRecord, chosen: AttackResult | None) -> AttackResult | None:
    """The attack that exposes single candidates: the chosen one, unless it knows only a few scores and others more."""
    if chosen is None or len(np.unique(chosen.scores)) > _COARSE:
        return chosen
    finer = {name: r for name, r in record.attacks.items() if len(np.unique(r.scores)) > _COARSE}
    return best_by_auc(replace(record, attacks=finer)) or chosen


def json_for_script(data: Any) -> Markup:
    """JSON that can stand inside a ``<script>``: nothing in it can end the element or open a comment."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # ASCII: U+2028 and U+2029 are escaped already
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _tiles(record: AuditRecord, head: Headline, chosen: AttackResult | None) -> list[tuple[str, str, str]]:
    """(name, value, remark)"""
    if chosen is None:
        return []
    best = best_by_auc(record) or chosen
    tiles = [
        ("AUC of the best attack", figure(best.auc).split(" ")[0], f"{_ends(best.auc)}; {best.name}; 0.5 is guessing")
    ]
    fpr = head.fpr or readable_fpr(chosen)
    tpr = chosen.tpr_at_fpr.get(fpr, Estimate(None, reason="not measured"))
    remark = (
        f"{_ends(tpr, share=True)}; {chosen.name}; {percent(fpr)} is guessing" if tpr.value is not None else tpr.reason
    )
    value = "–" if tpr.value is None else percent(tpr.value)
    tiles.append((f"Members found, {percent(fpr)} wrongly accused", value, remark or ""))
    known = record.accuracy
    if known is not None:
        remark = f"of the members; {percent(known[1])} of the non-members"
        tiles.append(("The model is right about", percent(known[0]), remark))
    tiles.append(
        (
            "Labels per record",
            count(int(chosen.queries.max(initial=0))),
            f"at most, {chosen.name}; {count(record.ledger.rows)} in the whole audit",
        )
    )
    serious = sum(flag.severity == "serious" for flag in record.flags)
    warnings = sum(flag.severity == "warning" for flag in record.flags)
    if not record.complete:
        return [*tiles, ("Serious flags, warnings", "–", "not looked for yet: the run did not end")]
    remark = f"{serious} serious, {warnings} {'warning' if warnings == 1 else 'warnings'}; read them before the figures"
    tiles.append(
        (
            "Serious flags, warnings",
            str(serious + warnings),
            remark if serious + warnings else "nothing that spoils the figures",
        )
    )
    return tiles


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


def _attack(record: AuditRecord, index: int, result: AttackResult, notes: list[str]) -> dict[str, Any]:
    statuses = {Status(s).name: int((result.status == s).sum()) for s in np.unique(result.status).tolist()}
    return {
        "name": result.name,
        "css": charts.css_of(index),
        "swatch": charts.swatch(index),
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
        "statuses": ", ".join(f"{count(k)} {_STATUS[name]}" for name, k in statuses.items()),
        "spec": _pretty(result.spec),
    }


_STATUS = {
    "DONE": "done",
    "BUDGET": "out of labels",
    "NO_START": "without a start",
    "MISCLASSIFIED": "misclassified",
    "UNASKED": "asked about by other inputs",
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
    distributions = [
        {"name": r.name, "svg": charts.distribution(record, r), "spread": _spread(r)} for r in record.attacks.values()
    ]
    return {
        "roc_log": charts.roc_log(record),
        "roc_linear": charts.roc_linear(record),
        "power": charts.power(record),
        "power_tpr": charts.power(record, fpr),
        "power_fpr": percent(fpr),
        "distributions": distributions,
        "floor": percent(1 / max(int((~record.member).sum()), 10)),
    }


def _spread(result: AttackResult) -> str:
    return f"AUC {figure(result.auc)}"


def _exposed(record: AuditRecord, result: AttackResult) -> list[dict[str, Any]]:
    """The members that the attack calls members and that fewest non-members outrank; those without a start are told,
    not shown: their score is a bound, not a finding."""
    needed = record.fpr_needed(result.name)
    order = _exposed_order(record, result)[:_EXPOSED]
    others = int((~record.member).sum())
    return [_one_exposed(record, result, i, round(needed[i] * others), others) for i in order.tolist()]


def _exposed_order(record: AuditRecord, result: AttackResult) -> NDArray[np.int64]:
    needed = record.fpr_needed(result.name)
    found = np.flatnonzero(record.member & result.decided & (result.status != int(Status.NO_START)))
    return found[np.lexsort((found, -result.scores[found], needed[found]))]


def _tied(record: AuditRecord, result: AttackResult) -> int:
    """Count the members with the score of the last one shown, where some of them are left out."""
    order = _exposed_order(record, result)
    if len(order) <= _EXPOSED or result.scores[order[_EXPOSED]] != result.scores[order[_EXPOSED - 1]]:
        return 0
    return int((result.scores[order] == result.scores[order[_EXPOSED]]).sum())


def _mover(record: AuditRecord, result: AttackResult | None) -> AttackResult | None:
    """The attack whose perturbed candidates are shown: ``result`` itself where it has them."""
    able = [r for r in record.attacks.values() if "adversarial" in r.details]
    return next((r for r in able if r is result), able[0] if able else None)


def _one_exposed(record: AuditRecord, result: AttackResult, i: int, above: int, others: int) -> dict[str, Any]:
    source = _mover(record, result)
    moved = source is not None and source.status[i] in (int(Status.DONE), int(Status.BUDGET))
    drawn = None
    if record.inputs is not None and pictures.is_image(record.inputs.shape[1:], record.domain):
        perturbed = source.details["adversarial"][i] if source is not None and moved else None
        drawn = pictures.triple(record.inputs[i], perturbed, record.domain)
    norms = {} if source is None or not moved else source.details
    return {
        "id": record.ids[i],
        "label": record.classes[int(record.y[i])],
        "score": number(float(result.scores[i]), 6),
        "above": f"{count(above)} of {count(others)}" if above else f"none of {count(others)}",
        "exposure": f"{count(above) if above else 'no'} non-member{'' if above == 1 else 's'} of {count(others)} "
        f"{'scores' if above == 1 else 'score'} as high",
        "picture": drawn,
        "distances": [(name, number(float(norms[key][i]))) for key, name in _NORMS.items() if key in norms],
        "labels": count(int(result.queries[i])),
    }


def _standing_out(record: AuditRecord, result: AttackResult) -> str:
    """Return a sentence that counts the members above every non-member."""
    top = int((record.member & (record.fpr_needed(result.name) == 0)).sum())
    if top == 0:
        return f"By the {result.name} attack, no member scores above every non-member."
    return (
        f"By the {result.name} attack, {count(top)} of {count(int(record.member.sum()))} members "
        f"{'scores' if top == 1 else 'score'} above every non-member: of {'this one' if top == 1 else 'these'} an "
        "attacker can be all but sure."
    )


def _most(queries: Any) -> str:
    """The most labels that any candidate took, where that is not the typical number."""
    most = int(queries.max(initial=0))
    return "" if not len(queries) or most == int(np.median(queries)) else count(most)


def _ledger(record: AuditRecord) -> dict[str, Any]:
    ledger = record.ledger
    most = max([*ledger.setup.values(), *ledger.candidates.values(), 1])

    def rows(phases: Mapping[str, int]) -> list[dict[str, Any]]:
        return [
            {"phase": phase, "rows": count(k), "share": percent(k / max(ledger.rows, 1)), "bar": _bar(k / most)}
            for phase, k in phases.items()
        ]

    return {
        "candidates": rows(ledger.candidates),
        "candidate_rows": count(ledger.rows - ledger.setup_rows),
        "setup": rows(ledger.setup),
        "setup_rows": count(ledger.setup_rows),
        "total": count(ledger.rows),
        "typical": count(int(np.median(ledger.by_candidate))) if len(ledger.by_candidate) else "0",
        "most": count(int(ledger.by_candidate.max(initial=0))),
        "models": _models(record),
    }


def _models(record: AuditRecord) -> str:
    """Say what training shadow models took, or nothing where there were none."""
    trained = record.shadow.get("models", ())
    if not trained:
        return ""
    rows, epochs = [m["rows"] for m in trained], [m["epochs"] for m in trained if m["epochs"]]
    words = f"{count(len(trained))} shadow {'model' if len(trained) == 1 else 'models'} trained on {_span(rows)} rows"
    return f"{words}, {_span(epochs)} epochs" if epochs else words


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return count(low) if low == high else f"{count(low)} to {count(high)}"


def _bar(share: float) -> Markup:
    return Markup(
        '<svg class="meter" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{max(100 * share, 0.5):.1f}" height="8"/></svg>'
    )


def _thresholds(record: AuditRecord) -> list[dict[str, Any]]:
    return [
        _threshold(result.name, charts.css_of(i), decision, j == 0)
        for i, result in enumerate(record.attacks.values())
        for j, decision in enumerate(result.evaluation.decisions)
    ]


def _threshold(attack: str, css: str, decision: Decision, reported: bool) -> dict[str, Any]:
    return {
        "attack": attack,
        "css": css,
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


def _facts(record: AuditRecord, run: RunLog | None) -> list[tuple[str, str]]:
    facts = [
        ("Target", str(record.target.get("name") or record.target.get("kind") or "not described")),
        ("Fingerprint", str(record.target.get("fingerprint", "not taken"))),
        ("Candidates", f"{count(len(record))}, {count(len(record.classes))} classes"),
        ("Seed", str(record.seed)),
        *[(name, version) for name, version in record.versions.items()],
        ("Record schema", str(record.schema_version)),
    ]
    if run is not None:
        facts += [
            ("Started", run.started),
            ("Took", f"{run.seconds:.1f} s, {run.target_seconds:.1f} s of them in the target"),
            (
                "Calls",
                f"{count(run.calls)}; {count(run.cached)} rows from the journal, {count(run.retries)} sent again",
            ),
            ("Host", f"{run.host} {run.platform}".strip()),
        ]
    return [(name, value) for name, value in facts if value]


def _pretty(data: Any) -> str:
    return _shorten(json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, default=str)) if data else ""


def _shorten(text: str, most: int = 4000) -> str:
    return text if len(text) <= most else f"{text[:most]}\n… {len(text) - most:,} more characters, in record.json"


def _candidates(record: AuditRecord) -> dict[str, Any]:
    """Columns for the page's table; scores with six digits."""
    return {
        "ids": list(record.ids),
        "member": record.member.astype(int).tolist(),
        "y": record.y.tolist(),
        "classes": list(record.classes),
        "statuses": [_STATUS[status.name] for status in Status],
        "attacks": [
            {
                "name": r.name,
                "score": [float(f"{v:.6g}") for v in r.scores.tolist()],
                "fpr": [float(f"{v:.6g}") for v in record.fpr_needed(r.name).tolist()],
                "decided": r.decided.astype(int).tolist(),
                "status": r.status.tolist(),
                "queries": r.queries.tolist(),
            }
            for r in record.attacks.values()
        ],
    }
