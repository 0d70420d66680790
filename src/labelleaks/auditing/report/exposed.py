"""Single candidates on the page: the most exposed members, and the table of all."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from labelleaks.auditing import texts
from labelleaks.auditing.report import pictures
from labelleaks.auditing.report.wording import best_by_auc, count, number
from labelleaks.core.types import Status

if TYPE_CHECKING:  # a record shows itself by its report
    from labelleaks.auditing.record import AttackResult, AuditRecord

__all__ = ["STATUS", "candidates", "exposure", "json_for_script"]

_EXPOSED = 12
_COARSE = 14  # distinct scores up to which an attack sorts candidates into classes, not one by one
_NORMS = {"distance_l2": "L2", "distance_linf": "L∞", "distance_l1": "L1", "distance_l0": "L0"}

STATUS = {
    "DONE": "done",
    "BUDGET": "out of labels",
    "NO_START": "without a start",
    "MISCLASSIFIED": "misclassified",
    "UNASKED": "asked about by other inputs",
}
"""Words for what became of a candidate."""


def exposure(record: AuditRecord, chosen: AttackResult | None) -> dict[str, Any]:
    """Return what the page shows of single members, by the attack of the headline or a finer one."""
    shown = _fine(record, chosen)
    return {
        "shown": shown,
        "mover": _mover(record, shown),
        "exposed": _exposed(record, shown) if shown else [],
        "exposed_total": _standing_out(record, shown) if shown else "",
        "tied": _tied(record, shown) if shown else 0,
        "startless": int((record.member & (shown.status == int(Status.NO_START))).sum()) if shown else 0,
        "as_pictures": record.inputs is not None and pictures.is_image(record.inputs.shape[1:], record.domain),
        "as_texts": record.inputs is not None and texts.holds_words(record.domain),
        "candidates": json_for_script(candidates(record)),
        "spent": list(record.attacks),
    }


def candidates(record: AuditRecord) -> dict[str, Any]:
    """Columns for the page's table; scores with six digits."""
    return {
        "ids": list(record.ids),
        "member": record.member.astype(int).tolist(),
        "y": record.y.tolist(),
        "classes": list(record.classes),
        "statuses": [STATUS[status.name] for status in Status],
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


def json_for_script(data: Any) -> Markup:
    """JSON that can stand inside a ``<script>``: nothing in it can end the element or open a comment."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # ASCII: U+2028 and U+2029 are escaped already
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _fine(record: AuditRecord, chosen: AttackResult | None) -> AttackResult | None:
    """The attack that exposes single candidates: the chosen one, unless it knows only a few scores and others more."""
    if chosen is None or len(np.unique(chosen.scores)) > _COARSE:
        return chosen
    finer = {name: r for name, r in record.attacks.items() if len(np.unique(r.scores)) > _COARSE}
    return best_by_auc(replace(record, attacks=finer)) or chosen


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
    words = []
    if record.inputs is not None and texts.holds_words(record.domain):
        changed = source.details["adversarial"][i] if source is not None and moved else None
        words = texts.struck(record.domain, record.inputs[i], changed)
    shown = {"distance_l0": "words"} if record.domain.get("kind") == "text" else _NORMS
    norms = {} if source is None or not moved else source.details
    return {
        "id": record.ids[i],
        "label": record.classes[int(record.y[i])],
        "score": number(float(result.scores[i]), 6),
        "above": f"{count(above)} of {count(others)}" if above else f"none of {count(others)}",
        "exposure": f"{count(above) if above else 'no'} non-member{'' if above == 1 else 's'} of {count(others)} "
        f"{'scores' if above == 1 else 'score'} as high",
        "picture": drawn,
        "words": words,
        "distances": [(name, number(float(norms[key][i]))) for key, name in shown.items() if key in norms],
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
