"""The command line. Heavy imports happen inside commands, so that ``--help`` is instant.

Exit codes: 0 done, 2 bad input, 3 the target failed, 4 a ``--fail-if`` gate failed, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelleaks.cli import canaries, data, demo, journal, reproduce
from labelleaks.cli import probe as probecli
from labelleaks.cli.options import (
    AcceptChanged,
    Address,
    Attacks,
    Budget,
    BudgetTotal,
    CandidatesFlag,
    EngineFlag,
    Factory,
    FailIf,
    Json,
    Members,
    Nonmembers,
    Out,
    Overwrite,
    Quiet,
    ReferencesDir,
    ReplayOnly,
    Seed,
    Set,
    Shadow,
    ShardRows,
    SpecPath,
    TargetFlag,
    Threads,
    TrustPickle,
    guarded,
    listed,
    mount,
    set_threads,
    show,
    spec_of,
)
from labelleaks.errors import DoubtWarning

if TYPE_CHECKING:
    from labelleaks.auditing.forecast import Forecast

__all__ = ["app", "main"]

app = typer.Typer(
    name="labelleaks",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        import labelleaks

        typer.echo(f"labelleaks {labelleaks.__version__}")
        raise typer.Exit()


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure how much a classifier that returns only labels leaks about its training data."""


mount(app, demo.COMMANDS)


@app.command()
@guarded
def audit(
    spec: SpecPath = None,
    target: TargetFlag = None,
    factory: Factory = None,
    members: Members = None,
    nonmembers: Nonmembers = None,
    shadow: Shadow = None,
    attacks: Attacks = None,
    budget: Budget = None,
    budget_total: BudgetTotal = None,
    seed: Seed = None,
    out: Out = None,
    references_dir: ReferencesDir = None,
    set_: Set = None,
    fail_if: FailIf = None,
    overwrite: Overwrite = False,
    trust_pickle: TrustPickle = False,
    replay_only: ReplayOnly = False,
    accept_changed: AcceptChanged = False,
    engine: EngineFlag = None,
    address: Address = None,
    shard_rows: ShardRows = None,
    no_inputs: Annotated[
        bool, typer.Option("--no-inputs", help="Keep the candidates and their perturbed copies out of the record.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the forecast and stop; nothing is sent, nothing is written.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
) -> None:
    """Audit a target whose members are known: how much leaks, to which attack, at what cost."""
    from labelleaks.auditing.api import audit as run_audit
    from labelleaks.auditing.api import forecast as run_forecast
    from labelleaks.cli import from_spec, gate
    from labelleaks.cli.spec import AuditSpec
    from labelleaks.core import progress
    from labelleaks.engine import choose

    conditions = [gate.parse(text) for text in fail_if or []]
    set_threads(threads)
    loaded = spec_of(AuditSpec, spec, set_, {
        "target.path": target, "target.factory": factory, "data.members": members, "data.nonmembers": nonmembers,
        "data.shadow": shadow, "attacks": listed(attacks), "budget": budget, "budget_total": budget_total,
        "seed": seed, "out": out, "references_dir": references_dir,
    })  # fmt: skip
    gate.check_attacks(conditions, from_spec.attack_names(loaded))
    show_progress = False if quiet or as_json else None
    with progress.meter(show_progress):
        progress.stage("reading files")
        arguments = from_spec.audit_arguments(loaded, trust_pickle=trust_pickle)
    if dry_run:
        _print_forecast(run_forecast(**arguments, probe=False), as_json=as_json)
        return
    record = run_audit(
        **arguments,
        out=loaded.out,
        overwrite=overwrite,
        keep_inputs=loaded.keep_inputs and not no_inputs,
        replay_only=replay_only,
        accept_changed=accept_changed,
        engine=choose(engine, address=address),
        shard_rows=shard_rows,
        name=loaded.name or (spec.stem if spec else "audit"),
        show_progress=show_progress,
    )
    show(record, loaded.out, as_json=as_json, quiet=quiet)
    gate.enforce(conditions, record)


@app.command()
@guarded
def infer(
    spec: SpecPath = None,
    target: TargetFlag = None,
    factory: Factory = None,
    candidates: CandidatesFlag = None,
    shadow: Shadow = None,
    attack: Annotated[str | None, typer.Option(help="One attack; default: boundary.")] = None,
    threshold: Annotated[
        str | None, typer.Option(help="random_inputs, fixed_fpr, shadow_calibrated or a number.")
    ] = None,
    fdr: Annotated[
        float | None,
        typer.Option(help="Call so many that a share of at most FDR is false; needs fixed_fpr or a hold-out."),
    ] = None,
    budget: Budget = None,
    budget_total: BudgetTotal = None,
    seed: Seed = None,
    out: Annotated[Path | None, typer.Option(help="CSV file for the decisions; default: standard output.")] = None,
    references_dir: ReferencesDir = None,
    set_: Set = None,
    trust_pickle: TrustPickle = False,
    replay_only: ReplayOnly = False,
    accept_changed: AcceptChanged = False,
    engine: EngineFlag = None,
    address: Address = None,
    shard_rows: ShardRows = None,
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
) -> None:
    """Decide for each candidate whether the target was trained on it; no known members are needed."""
    from labelleaks.auditing.api import infer as run_infer
    from labelleaks.cli import from_spec
    from labelleaks.cli.spec import InferSpec
    from labelleaks.core import progress, serialization
    from labelleaks.engine import choose

    set_threads(threads)
    loaded = spec_of(InferSpec, spec, set_, {
        "target.path": target, "target.factory": factory, "data.candidates": candidates, "data.shadow": shadow,
        "attack": attack, "threshold": threshold, "budget": budget, "budget_total": budget_total, "seed": seed,
        "out": out, "references_dir": references_dir,
    })  # fmt: skip
    show_progress = False if quiet or as_json else None
    with progress.meter(show_progress):
        progress.stage("reading files")
        arguments = from_spec.infer_arguments(loaded, trust_pickle=trust_pickle)
    if fdr is not None:
        arguments["threshold"] = from_spec.threshold_for_fdr(fdr, arguments["threshold"])
    if loaded.out is not None:
        serialization.check_writable(Path(loaded.out).parent)
    decisions = run_infer(
        **arguments,
        replay_only=replay_only,
        accept_changed=accept_changed,
        engine=choose(engine, address=address),
        shard_rows=shard_rows,
        show_progress=show_progress,
    )
    if fdr is not None:
        decisions = decisions.at_fdr(fdr)
    if not quiet:
        typer.echo(
            f"{int(decisions.member.sum())} of {len(decisions)} candidates are called members "
            f"(score > {decisions.threshold.tau:.6g}; threshold from {decisions.threshold.source}); "
            f"{decisions.ledger.rows:,} labels, {decisions.ledger.setup_rows:,} of them set-up",
            err=True,
        )
    from_spec.write_decisions(decisions, None if loaded.out is None else Path(loaded.out), as_json=as_json)


@app.command()
@guarded
def forecast(
    spec: SpecPath = None,
    target: TargetFlag = None,
    factory: Factory = None,
    members: Members = None,
    nonmembers: Nonmembers = None,
    shadow: Shadow = None,
    attacks: Attacks = None,
    budget: Budget = None,
    budget_total: BudgetTotal = None,
    seed: Seed = None,
    set_: Set = None,
    probe: Annotated[bool, typer.Option(help="Ask the target 16 billed rows to measure its speed.")] = True,
    calibrate: Annotated[
        bool, typer.Option(help="Train and attack for seconds against a free stand-in, to estimate the whole wait.")
    ] = True,
    trust_pickle: TrustPickle = False,
    as_json: Json = False,
    threads: Threads = None,
) -> None:
    """Say how many labels an audit will ask for, and how long that takes, before it runs."""
    from labelleaks.auditing.api import forecast as run_forecast
    from labelleaks.cli import from_spec
    from labelleaks.cli.spec import AuditSpec

    set_threads(threads)
    loaded = spec_of(AuditSpec, spec, set_, {
        "target.path": target, "target.factory": factory, "data.members": members, "data.nonmembers": nonmembers,
        "data.shadow": shadow, "attacks": listed(attacks), "budget": budget, "budget_total": budget_total,
        "seed": seed,
    })  # fmt: skip
    arguments = from_spec.audit_arguments(loaded, trust_pickle=trust_pickle)
    predicted = run_forecast(**arguments, probe=probe, calibrate=calibrate)
    _print_forecast(predicted, as_json=as_json)


@app.command(name="attacks")
@guarded
def list_attacks(as_json: Json = False) -> None:
    """List the attacks: what each needs, what it does, its settings, where it comes from."""
    from labelleaks.cli import tables

    if as_json:
        typer.echo(json.dumps(tables.attacks_json(), indent=2))
    else:
        tables.print_attacks()


@app.command()
@guarded
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder or its record.json.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="HTML file; default: report.html in the run's folder.")] = None,
    fail_if: FailIf = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the HTML report of a record again; asks the target nothing."""
    from labelleaks.auditing.record import load
    from labelleaks.auditing.report import write_report
    from labelleaks.cli import gate

    conditions = [gate.parse(text) for text in fail_if or []]
    record = load(run)
    folder = run if run.is_dir() else run.parent
    path = write_report(record, folder / "report.html" if out is None else out)
    show(record, folder, as_json=as_json, quiet=quiet, report=path)
    gate.enforce(conditions, record)


mount(app, canaries.COMMANDS, group="canaries", about=canaries.ABOUT)
mount(app, data.COMMANDS, group="data", about=data.ABOUT)
mount(app, journal.COMMANDS, group="journal", about=journal.ABOUT)
mount(app, probecli.COMMANDS)
mount(app, reproduce.COMMANDS)


def _print_forecast(predicted: Forecast, *, as_json: bool) -> None:
    from labelleaks.cli import tables

    if as_json:
        typer.echo(json.dumps(tables.forecast_json(predicted), indent=2, sort_keys=True))
    else:
        tables.print_forecast(predicted)


def main() -> None:
    """Run the command line."""
    warnings.simplefilter("ignore", DoubtWarning)  # flags are printed
    sys.path.insert(0, os.getcwd())  # so that module:function finds the caller's own modules
    app()
