"""Ledger and facts of a run on the page, and settings as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from labelleaks.auditing.report.wording import count, percent

if TYPE_CHECKING:  # a record shows itself by its report
    from labelleaks.auditing.record import AuditRecord, RunLog

__all__ = ["facts", "ledger", "pretty"]


def ledger(record: AuditRecord, run: RunLog | None) -> dict[str, Any]:
    """Return rows by phase, with shares and bars, as texts."""
    book = record.ledger
    most = max([*book.setup.values(), *book.candidates.values(), 1])

    def rows(phases: Mapping[str, int]) -> list[dict[str, Any]]:
        return [
            {"phase": phase, "rows": count(k), "share": percent(k / max(book.rows, 1)), "bar": _bar(k / most)}
            for phase, k in phases.items()
        ]

    return {
        "candidates": rows(book.candidates),
        "candidate_rows": count(book.rows - book.setup_rows),
        "setup": rows(book.setup),
        "setup_rows": count(book.setup_rows),
        "total": count(book.rows),
        "typical": count(int(np.median(book.by_candidate))) if len(book.by_candidate) else "0",
        "most": count(int(book.by_candidate.max(initial=0))),
        "models": _models(record),
        "kept": _kept(book.rows, run),
    }


def _kept(rows: int, run: RunLog | None) -> str:
    """Say which part of the labels this run did not ask for."""
    if run is None or not run.cached:
        return ""
    return f" {count(run.cached)} of these labels were in the journal; this run asked for {count(rows - run.cached)}."


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


def facts(record: AuditRecord, run: RunLog | None) -> list[tuple[str, str]]:
    """Return name and value of each fact that tells runs apart."""
    found = [
        ("Target", str(record.target.get("name") or record.target.get("kind") or "not described")),
        ("Fingerprint", str(record.target.get("fingerprint", "not taken"))),
        ("Candidates", f"{count(len(record))}, {count(len(record.classes))} classes"),
        ("Seed", str(record.seed)),
        *[(name, version) for name, version in record.versions.items()],
        ("Record schema", str(record.schema_version)),
    ]
    if run is not None:
        found += [
            ("Started", run.started),
            ("Took", f"{run.seconds:.1f} s, {run.target_seconds:.1f} s of them in the target"),
            (
                "Calls",
                f"{count(run.calls)}; {count(run.cached)} labels were in the journal, "
                f"{count(run.retries)} rows sent again",
            ),
            ("Host", f"{run.host} {run.platform}".strip()),
        ]
    return [(name, value) for name, value in found if value]


def pretty(data: Any) -> str:
    """Return JSON for people, cut where it is long."""
    return _shorten(json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, default=str)) if data else ""


def _shorten(text: str, most: int = 4000) -> str:
    return text if len(text) <= most else f"{text[:most]}\n… {len(text) - most:,} more characters, in record.json"
