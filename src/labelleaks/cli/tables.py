"""Output of the command line: records, forecasts and the list of attacks, as tables and as JSON."""

from __future__ import annotations

import inspect
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from labelleaks.auditing.forecast import Forecast, money
from labelleaks.auditing.record import AttackResult, AuditRecord
from labelleaks.auditing.run_log import RunLog
from labelleaks.core import registry
from labelleaks.errors import LabelLeaksError
from labelleaks.metrics import Estimate

__all__ = [
    "attacks_json",
    "forecast_json",
    "print_attacks",
    "print_forecast",
    "print_record",
    "print_run_log",
    "record_json",
]

_COLOURS = {"serious": "red", "warning": "yellow", "info": "blue"}


def record_json(record: AuditRecord) -> dict[str, Any]:
    """The figures of a record as JSON types; an estimate without a value is null with its reason."""
    accuracy = record.accuracy
    return {
        "name": record.name,
        "complete": record.complete,
        "members": int(record.member.sum()),
        "nonmembers": int((~record.member).sum()),
        "accuracy": None if accuracy is None else {"members": accuracy[0], "nonmembers": accuracy[1]},
        "attacks": {name: _attack_json(result) for name, result in record.attacks.items()},
        "ledger": {
            "rows": record.ledger.rows,
            "setup_rows": record.ledger.setup_rows,
            "by_phase": dict(record.ledger.by_phase),
        },
        "flags": [asdict(flag) for flag in record.flags],
        "notes": list(record.notes),
    }


def _attack_json(result: AttackResult) -> dict[str, Any]:
    return {
        "labels_per_candidate": {"mean": float(result.queries.mean()), "most": int(result.queries.max())},
        "auc": asdict(result.auc),
        "tpr_at_fpr": {str(fpr): asdict(estimate) for fpr, estimate in result.tpr_at_fpr.items()},
        "balanced_accuracy": asdict(result.balanced_accuracy),
        "advantage": asdict(result.advantage),
        "precision": asdict(result.precision),
        "given_correct": {"auc": asdict(result.given_correct.auc)},
        "thresholds": [
            {
                **asdict(decision.threshold),
                "balanced_accuracy": asdict(decision.balanced_accuracy),
                "tpr": asdict(decision.tpr),
                "fpr": asdict(decision.fpr),
            }
            for decision in result.evaluation.decisions
        ],
    }


def print_record(record: AuditRecord, console: Console | None = None) -> None:
    """Print the answer, a row for each attack, the thresholds, the ledger and the flags."""
    console = console or Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("attack", overflow="fold", min_width=12)
    for heading in ("labels", "AUC (95 %)", "correct*", "TPR@10%", "TPR@1%", "TPR@0.1%", "balanced†"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, result in record.attacks.items():
        table.add_row(
            escape(name),
            f"{result.queries.mean():,.0f}",
            _interval(result.auc),
            _value(result.given_correct.auc),
            *[_value(result.tpr_at_fpr[fpr]) for fpr in (0.1, 0.01, 0.001)],
            _value(result.balanced_accuracy),
        )
    members = int(record.member.sum())
    state = "" if record.complete else "  [bold red](incomplete)[/]"
    console.print(
        f"\n[bold]{escape(record.name)}[/]: {members:,} members, {len(record) - members:,} non-members{state}"
    )
    accuracy = record.accuracy
    if accuracy is not None:
        console.print(
            f"the target is right about {accuracy[0]:.1%} of the members and {accuracy[1]:.1%} of the non-members"
        )
    console.print()
    console.print(table)
    console.print(
        "[dim]* AUC among correctly classified candidates: insight beyond the accuracy gap.\n"
        "† the attack's balanced accuracy, threshold cross-fitted. ~ unstable with so few non-members, – not "
        "measurable.\n"
        f"{record.ledger.rows:,} labels of the target in all, {record.ledger.setup_rows:,} of them for set-up.[/]"
    )
    for note in record.notes:
        console.print(f"note: {escape(note)}")
    for flag in record.flags:
        console.print(
            f"[{_COLOURS[flag.severity]}]{flag.severity}[/] {escape(flag.name)}: {escape(flag.raised_because)}"
        )


def print_run_log(record: AuditRecord, folder: str | Path | None, console: Console | None = None) -> None:
    """Print what the record does not say, because it differs between equal runs: journal, retries, price."""
    log = None if folder is None else RunLog.load(folder)
    if log is None:
        return
    parts = [
        f"{log.cached:,} of these labels were in the journal, {record.ledger.rows - log.cached:,} were asked for now"
        if log.cached
        else "",
        f"{log.canary_rows:,} more rows checked that the target has not changed" if log.canary_rows else "",
        f"{log.retries:,} rows were sent again after a failure" if log.retries else "",
        f"all requests cost {money(log.cost)}" if log.cost else "",
    ]
    if any(parts):
        (console or Console(highlight=False)).print(f"[dim]{'; '.join(filter(None, parts))}.[/]")


def _value(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    return f"{'~' if estimate.unstable else ''}{estimate.value:.3f}"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return _value(estimate)
    return f"{_value(estimate)} ({estimate.low:.2f}–{estimate.high:.2f})"


def forecast_json(forecast: Forecast) -> dict[str, Any]:
    """A forecast as JSON types."""
    return {**asdict(forecast), "rows": forecast.rows, "local_seconds": forecast.local_seconds, "wait": forecast.wait}


def print_forecast(forecast: Forecast, console: Console | None = None) -> None:
    """Print rows per attack, at most, and the time where it was measured."""
    console = console or Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("attack")
    timed = any(line.attack_seconds is not None for line in forecast.lines)
    for heading in ("labels each", "rows", "set-up rows", *(("training", "attack") if timed else ())):
        table.add_column(heading, justify="right")
    for line in forecast.lines:
        rungs = f" (runs at {', '.join(f'{b:,}' for b in line.budgets)} labels)" if line.budgets else ""
        cells = [f"{line.labels:,}", f"{line.rows:,}", f"{line.setup_rows:,}"]
        times = (line.training_seconds, line.attack_seconds) if timed else ()
        cells += ["–" if seconds is None else _duration(seconds) for seconds in times]
        table.add_row(escape(line.name + rungs), *cells)
    console.print(table)
    each = "run" if any(line.budgets for line in forecast.lines) else "attack"
    console.print(f"\nat most {forecast.rows:,} rows in all, at {forecast.budget:,} labels per candidate and {each}")
    for note in forecast.notes:
        console.print(f"note: {escape(note)}")
    if forecast.seconds is not None:
        least, most = map(_duration, forecast.seconds)
        span = most if least == most else f"{least} to {most}"
        console.print(f"{span} inside the target (measured on {forecast.probe_rows} billed rows)")
    local = forecast.local_seconds
    if local is not None:
        console.print(f"about {_duration(local)} here, training at its longest (estimated on a few rows, unbilled)")
    if forecast.wait is not None:
        least, most = map(_duration, forecast.wait)
        console.print(f"in all about {most if least == most else f'{least} to {most}'}")
    if forecast.cost is not None and forecast.cost[1]:
        console.print(f"costs {money(forecast.cost[0])} to {money(forecast.cost[1])} without retries")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def attacks_json() -> list[dict[str, Any]]:
    """Every attack, ours and other packages': first sentence, needs and settings, or why it cannot be used."""
    return [_listed(plugin) for plugin in (*registry.ours("attacks"), *registry.installed("attacks"))]


def _listed(plugin: registry.Plugin) -> dict[str, Any]:
    whose = {"name": plugin.name, "package": plugin.package}
    try:
        registry.find("attacks", plugin.name)  # two packages may claim the name
        kind = plugin.load()
        doc = inspect.getdoc(kind) or ""
        return whose | {
            "needs": sorted(kind.needs),
            "distance": bool(kind.is_distance),
            "what": _plain(doc.split("\n\n")[0]),
            "source": _plain(doc.partition("Source:")[2].split("\n\n")[0]),
            "settings": {k: repr(p.default) for k, p in inspect.signature(kind).parameters.items()},
        }
    except LabelLeaksError as error:
        return whose | {"error": str(error)}
    except (AttributeError, TypeError, ValueError) as error:
        return whose | {"error": f"{plugin} is no attack: {type(error).__name__}: {error}"}


def _plain(text: str) -> str:
    """On one line, without the marks of a cross-reference."""
    return " ".join(re.sub(r":\w+:`~?([^`]*)`", r"\1", text).split())


def print_attacks(console: Console | None = None) -> None:
    """Print every attack: what it does, what it needs, its settings, its source; whose it is where it is not ours."""
    console = console or Console(highlight=False)
    for attack in attacks_json():
        whose = "" if attack["package"] == "labelleaks" else f", from {attack['package']}"
        if "error" in attack:
            console.print(f"[bold]{escape(attack['name'])}[/]{escape(whose)}\n  {escape(attack['error'])}\n")
            continue
        needs = ", ".join(attack["needs"]) or "nothing but the candidates"
        console.print(f"[bold]{escape(attack['name'])}[/]  (needs {needs}){escape(whose)}")
        console.print(f"  {escape(attack['what'])}")
        if attack["settings"]:
            console.print(f"  [dim]settings: {escape(', '.join(f'{k}={v}' for k, v in attack['settings'].items()))}[/]")
        console.print(f"  [dim]source: {escape(attack['source'])}[/]\n")
