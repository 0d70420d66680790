"""The command line. Heavy imports happen inside commands, so that ``--help`` is instant.

Exit codes: 0 done, 2 bad input, 3 the target failed, 4 a ``--fail-if`` gate failed, 130 interrupted.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelleaks import datacli, journalcli, probecli, reproducecli

if TYPE_CHECKING:
    from labelleaks.failif import Condition
    from labelleaks.record import AuditRecord
    from labelleaks.spec import AuditSpec, InferSpec

__all__ = ["app", "main"]

GATE_FAILED = 4
INTERRUPTED = 130

app = typer.Typer(
    name="labelleaks",
    help="How much does a classifier that returns only labels leak about its training data?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode=None,
)

SpecPath = Annotated[Path | None, typer.Argument(help="A YAML spec; flags override it.", show_default=False)]
TargetFlag = Annotated[
    str | None,
    typer.Option(
        help="An address (http://…), module:function, .safetensors (with --factory), .onnx, TorchScript, .pt2 or "
        ".joblib (with --trust-pickle), or recorded answers (.csv, .parquet, .npz)."
    ),
]
Factory = Annotated[str | None, typer.Option(help="module:function that builds the module of a .safetensors file.")]
TrustPickle = Annotated[bool, typer.Option("--trust-pickle", help="Load a .joblib target: it can run any code.")]
Members = Annotated[
    str | None, typer.Option(help="Rows the target was trained on: .npz, .npy, .csv, .parquet, folder.")
]
Nonmembers = Annotated[str | None, typer.Option(help="Rows it was not trained on.")]
CandidatesFlag = Annotated[str | None, typer.Option("--candidates", help="Rows whose membership is in question.")]
Shadow = Annotated[str | None, typer.Option(help="Further rows of the same kind, for shadow models and thresholds.")]
Attacks = Annotated[
    str | None,
    typer.Option(
        help="Names, comma separated, or ladder: all that fit; default: gap, noise, augmentation, boundary and "
        "transfer, where they fit."
    ),
]
Budget = Annotated[int | None, typer.Option(help="Labels per candidate and attack.")]
BudgetTotal = Annotated[int | None, typer.Option(help="Rows of the whole run, set-up included.")]
Seed = Annotated[int | None, typer.Option(help="Equal seeds give equal results.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the run.")]
ReferencesDir = Annotated[
    str | None, typer.Option(help="Folder where trained shadow models are kept; what is there is not trained again.")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override any key: --set domain.high=255.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no table.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another run in the output folder.")]
ReplayOnly = Annotated[bool, typer.Option("--replay-only", help="Take every answer from the journal, send nothing.")]
AcceptChanged = Annotated[
    bool, typer.Option("--accept-changed", help="Go on where a service no longer answers as its journal says.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of torch; default: torch's own choice.")]
FailIf = Annotated[
    list[str] | None, typer.Option(help="Exit with 4 where this holds, e.g. 'boundary.tpr@1%>0.05'. Repeatable.")
]


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn what a command raises on purpose into one line and an exit code; no traceback reaches the user."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        from labelleaks.errors import LabelLeaksError

        try:
            command(*args, **kwargs)
        except LabelLeaksError as error:
            _say(f"error: {' '.join(str(error).split())}", error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as error:
            _say("interrupted", error)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # the reader of our output went away
            raise typer.Exit(0) from None
        except OSError as error:  # a file that cannot be read or written: the disk is full, a folder is not ours
            _say(f"error: {error}", error)
            raise typer.Exit(LabelLeaksError.exit_code) from None

    return run


def _say(line: str, error: BaseException) -> None:
    for text in (line, *getattr(error, "__notes__", ())):
        typer.echo(text, err=True)


@app.command()
@_guarded
def demo(
    out: Out = Path("runs/demo"),
    seed: int = 0,
    budget: int = 500,
    quiet: Quiet = False,
    threads: Threads = None,
) -> None:
    """Train a small target on embedded digits, audit it with six attacks, write a report."""
    from labelleaks import demo as demonstration
    from labelleaks.domain import Box
    from labelleaks.entry import audit as run_audit

    _set_threads(threads)
    if not quiet:
        typer.echo(
            "Training a small network on 200 noisy digits until it knows them by heart (a regime chosen so that the "
            "leak is large), then auditing it with six attacks ...",
            err=True,
        )
    case = demonstration.build(seed=seed)
    record = run_audit(
        case.target,
        members=case.members,
        nonmembers=case.nonmembers,
        shadow=case.shadow,
        attacks=demonstration.ATTACKS,
        domain=Box(0, 1),
        budget=budget,
        seed=seed,
        name="demo: 200 noisy digits",
        out=out,
        overwrite=True,
        show_progress=False if quiet else None,
    )
    _show(record, out, as_json=False, quiet=quiet)


@app.command()
@_guarded
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
    no_inputs: Annotated[
        bool, typer.Option("--no-inputs", help="Keep the candidates and their perturbed copies out of the record.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
) -> None:
    """Audit a target whose members are known: how much leaks, to which attack, at what cost."""
    from labelleaks import attacks as attacks_by_name
    from labelleaks import failif, frontdoor
    from labelleaks.entry import audit as run_audit
    from labelleaks.ladder import LADDER

    conditions = [failif.parse(text) for text in fail_if or []]
    _set_threads(threads)
    loaded = _audit_spec(
        spec, set_, target=target, factory=factory, members=members, nonmembers=nonmembers, shadow=shadow,
        attacks=attacks, budget=budget, budget_total=budget_total, seed=seed, out=out, references_dir=references_dir,
    )  # fmt: skip
    kinds = attacks_by_name.names() if loaded.attacks is None else [getattr(a, "name", a) for a in loaded.attacks]
    if LADDER in kinds:
        kinds = [*attacks_by_name.names(), *kinds]
    failif.check_attacks(conditions, [str(kind) for kind in kinds])
    arguments = frontdoor.audit_arguments(loaded, trust_pickle=trust_pickle)
    record = run_audit(
        **arguments,
        out=loaded.out,
        overwrite=overwrite,
        keep_inputs=loaded.keep_inputs and not no_inputs,
        replay_only=replay_only,
        accept_changed=accept_changed,
        name=loaded.name or (spec.stem if spec else "audit"),
        show_progress=False if quiet or as_json else None,
    )
    _show(record, loaded.out, as_json=as_json, quiet=quiet)
    _gate(conditions, record)


@app.command()
@_guarded
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
    budget: Budget = None,
    budget_total: BudgetTotal = None,
    seed: Seed = None,
    out: Annotated[Path | None, typer.Option(help="CSV file for the decisions; default: standard output.")] = None,
    references_dir: ReferencesDir = None,
    set_: Set = None,
    trust_pickle: TrustPickle = False,
    replay_only: ReplayOnly = False,
    accept_changed: AcceptChanged = False,
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
) -> None:
    """Decide for each candidate whether the target was trained on it; no known members are needed."""
    from labelleaks import frontdoor, storage
    from labelleaks.entry import infer as run_infer

    _set_threads(threads)
    loaded = _infer_spec(
        spec, set_, target=target, factory=factory, candidates=candidates, shadow=shadow, attack=attack,
        threshold=threshold, budget=budget, budget_total=budget_total, seed=seed, out=out,
        references_dir=references_dir,
    )  # fmt: skip
    arguments = frontdoor.infer_arguments(loaded, trust_pickle=trust_pickle)
    if loaded.out is not None:
        storage.check_writable(Path(loaded.out).parent)
    decisions = run_infer(
        **arguments,
        replay_only=replay_only,
        accept_changed=accept_changed,
        show_progress=False if quiet or as_json else None,
    )
    if not quiet:
        typer.echo(
            f"{int(decisions.member.sum())} of {len(decisions)} candidates are called members "
            f"(score > {decisions.threshold.tau:.6g}; threshold from {decisions.threshold.source}); "
            f"{decisions.ledger.rows:,} labels, {decisions.ledger.setup_rows:,} of them set-up",
            err=True,
        )
    frontdoor.write_decisions(decisions, None if loaded.out is None else Path(loaded.out), as_json=as_json)


@app.command()
@_guarded
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
    trust_pickle: TrustPickle = False,
    as_json: Json = False,
    threads: Threads = None,
) -> None:
    """Say how many labels an audit will ask for, and how long that takes, before it runs."""
    from labelleaks import frontdoor, tables
    from labelleaks.entry import forecast as run_forecast

    _set_threads(threads)
    loaded = _audit_spec(
        spec, set_, target=target, factory=factory, members=members, nonmembers=nonmembers, shadow=shadow,
        attacks=attacks, budget=budget, budget_total=budget_total, seed=seed, out=None,
    )  # fmt: skip
    found = run_forecast(**frontdoor.audit_arguments(loaded, trust_pickle=trust_pickle), probe=probe)
    if as_json:
        typer.echo(json.dumps(tables.forecast_json(found), indent=2, sort_keys=True))
    else:
        tables.print_forecast(found)


@app.command(name="attacks")
@_guarded
def list_attacks(as_json: Json = False) -> None:
    """List the attacks: what each needs, what it does, its settings, where it comes from."""
    from labelleaks import tables

    if as_json:
        typer.echo(json.dumps(tables.attacks_json(), indent=2))
    else:
        tables.print_attacks()


@app.command()
@_guarded
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder or its record.json.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="HTML file; default: report.html in the run's folder.")] = None,
    fail_if: FailIf = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the HTML report of a record again; asks the target nothing."""
    from labelleaks import failif
    from labelleaks.record import load
    from labelleaks.report import write_report

    conditions = [failif.parse(text) for text in fail_if or []]
    record = load(run)
    folder = run if run.is_dir() else run.parent
    path = write_report(record, folder / "report.html" if out is None else out)
    _show(record, folder, as_json=as_json, quiet=quiet, report=path)
    _gate(conditions, record)


datacli.mount(app, _guarded)
journalcli.mount(app, _guarded)
probecli.mount(app, _guarded)
reproducecli.mount(app, _guarded)


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _overrides(given: list[str] | None, flags: dict[tuple[str, ...], Any]) -> dict[tuple[Any, ...], Any]:
    from labelleaks.spec import parse_override

    found = dict(parse_override(text) for text in given or [])
    return found | {key: value for key, value in flags.items() if value is not None}


def _audit_spec(
    path: Path | None,
    overrides: list[str] | None,
    *,
    target: str | None,
    factory: str | None,
    members: str | None,
    nonmembers: str | None,
    shadow: str | None,
    attacks: str | None,
    budget: int | None,
    budget_total: int | None,
    seed: int | None,
    out: Path | None,
    references_dir: str | None = None,
) -> AuditSpec:
    from labelleaks.spec import AuditSpec, load_spec

    flags = {
        ("target", "path"): target,
        ("target", "factory"): factory,
        ("data", "members"): members,
        ("data", "nonmembers"): nonmembers,
        ("data", "shadow"): shadow,
        ("attacks",): None if attacks is None else [part.strip() for part in attacks.split(",")],
        ("budget",): budget,
        ("budget_total",): budget_total,
        ("seed",): seed,
        ("out",): None if out is None else str(out),
        ("references_dir",): references_dir,
    }
    return load_spec(AuditSpec, path, _overrides(overrides, flags))


def _infer_spec(
    path: Path | None,
    overrides: list[str] | None,
    *,
    target: str | None,
    factory: str | None,
    candidates: str | None,
    shadow: str | None,
    attack: str | None,
    threshold: str | None,
    budget: int | None,
    budget_total: int | None,
    seed: int | None,
    out: Path | None,
    references_dir: str | None = None,
) -> InferSpec:
    from labelleaks.spec import InferSpec, load_spec

    flags = {
        ("target", "path"): target,
        ("target", "factory"): factory,
        ("data", "candidates"): candidates,
        ("data", "shadow"): shadow,
        ("attack",): attack,
        ("threshold",): threshold,
        ("budget",): budget,
        ("budget_total",): budget_total,
        ("seed",): seed,
        ("out",): None if out is None else str(out),
        ("references_dir",): references_dir,
    }
    return load_spec(InferSpec, path, _overrides(overrides, flags))


def _show(
    record: AuditRecord, folder: str | Path | None, *, as_json: bool, quiet: bool, report: Path | None = None
) -> None:
    from labelleaks import tables

    if as_json:
        typer.echo(json.dumps(tables.record_json(record), indent=2, sort_keys=True))
    elif not quiet:
        tables.print_record(record)
        tables.print_traffic(folder if report is None else None)
    if folder is not None and not as_json and not quiet:
        typer.echo(f"\nReport: {report or Path(folder) / 'report.html'}")


def _gate(conditions: list[Condition], record: AuditRecord) -> None:
    from labelleaks import failif

    sentence = failif.first_that_holds(conditions, record)
    if sentence is not None:
        typer.echo(f"gate failed: {sentence}", err=True)
        raise typer.Exit(GATE_FAILED)


def main() -> None:
    """Run the command line."""
    sys.path.insert(0, os.getcwd())  # so that module:function finds the caller's own modules
    app()
