"""Options that commands share, the spec that is made of them, the summary of a record, and exit codes of errors."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from labelleaks.auditing.record import AuditRecord
    from labelleaks.cli.spec import AuditSpec, InferSpec

    Spec = TypeVar("Spec", AuditSpec, InferSpec)

INTERRUPTED = 130

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
        help="Names or module:Class, comma separated, or ladder: all that fit; default: gap, noise, augmentation, "
        "boundary, and with shadow rows transfer and guided, where they fit."
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
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another run in the output folder.")]
ReplayOnly = Annotated[bool, typer.Option("--replay-only", help="Take every answer from the journal, send nothing.")]
AcceptChanged = Annotated[
    bool, typer.Option("--accept-changed", help="Go on where a service no longer answers as its journal says.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of torch; default: torch's own choice.")]
FailIf = Annotated[
    list[str] | None, typer.Option(help="Exit with 4 where this holds, e.g. 'boundary.tpr@1%>0.05'. Repeatable.")
]
EngineFlag = Annotated[
    str | None,
    typer.Option(
        "--engine", help="Who trains shadow models and attacks shards: local, or ray (labelleaks[ray]). Same record."
    ),
]
Address = Annotated[
    str | None, typer.Option(help="A Ray cluster, HOST:PORT or auto; default: one of this machine, for this run.")
]
ShardRows = Annotated[int | None, typer.Option(min=1, help="Candidates of a shard; default: 1024.")]


Commands = Mapping[str, Callable[..., None]]
"""Functions with annotated arguments, by the name of their command."""


def guarded(command: Callable[..., None]) -> Callable[..., None]:
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


def mount(parent: typer.Typer, commands: Commands, *, group: str | None = None, about: str | None = None) -> None:
    """Add commands, each :func:`guarded`: to ``parent`` itself, or as its ``group`` with ``about`` for a help text."""
    home = parent
    if group is not None:
        home = typer.Typer(help=about, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
        parent.add_typer(home, name=group)
    for name, command in commands.items():
        home.command(name)(guarded(command))


def set_threads(threads: int | None) -> None:
    """Set torch's number of threads, where one is given."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def listed(words: str | None) -> list[str] | None:
    """Return what is separated by commas."""
    return None if words is None else [word.strip() for word in words.split(",")]


def spec_of(kind: type[Spec], path: Path | None, overrides: list[str] | None, flags: Mapping[str, Any]) -> Spec:
    """Read a spec file, with ``--set`` over it and flags over both.

    Args:
        flags: values by key (``data.members``); None: not given.

    Raises:
        SpecError: names file, line and key.
    """
    from labelleaks.cli.spec_file import load_spec, parse_override

    values: dict[tuple[Any, ...], Any] = dict(parse_override(text) for text in overrides or [])
    for key, value in flags.items():
        if value is not None:
            values[tuple(key.split("."))] = str(value) if isinstance(value, Path) else value
    return load_spec(kind, path, values)


def show(
    record: AuditRecord, folder: str | Path | None, *, as_json: bool, quiet: bool, report: Path | None = None
) -> None:
    """Print what a record says and where its report is; JSON alone where that is asked for."""
    from labelleaks.cli import tables

    if as_json:
        typer.echo(json.dumps(tables.record_json(record), indent=2, sort_keys=True))
    elif not quiet:
        tables.print_record(record)
        tables.print_run_log(record, folder if report is None else None)
    if folder is not None and not as_json and not quiet:
        typer.echo(f"\nReport: {report or Path(folder) / 'report.html'}")
