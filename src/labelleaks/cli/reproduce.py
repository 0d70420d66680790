"""``labelleaks reproduce``: run a paper's experiment grid, as far as it is not done yet, and write its page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelleaks.cli.options import Address, Commands, EngineFlag, Quiet
from labelleaks.core import progress

if TYPE_CHECKING:
    from labelleaks.experiments import GridPlan

__all__ = ["COMMANDS"]

ReproductionName = Annotated[
    str, typer.Argument(help="A folder of reproductions, for example label-leaks.", show_default=False)
]
Profile = Annotated[str, typer.Option(help="quick, cpu or paper: a file of the reproduction's profiles folder.")]
Only = Annotated[str | None, typer.Option(help="Data sets, comma separated; default: all of the profile's.")]
Seeds = Annotated[int | None, typer.Option(min=1, help="Seeds 1 to this; default: the profile's.")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes side by side, each with one thread.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the missing stages with their forecast; run nothing.")]
DatasetFiles = Annotated[
    str | None, typer.Option("--from", help="Folder with the data sets' files; nothing is downloaded.")
]
Folder = Annotated[Path, typer.Option(help="Folder that holds the reproductions.")]
StoreFlag = Annotated[Path | None, typer.Option("--store", help="Folder of targets, shadows and scores.")]
ResultsFolder = Annotated[
    Path | None, typer.Option(help="Folder of results and page; default: the reproduction's own.")
]


def reproduce(
    name: ReproductionName,
    profile: Profile = "quick",
    only: Only = None,
    seeds: Seeds = None,
    jobs: Jobs = 1,
    engine: EngineFlag = None,
    address: Address = None,
    dry_run: DryRun = False,
    from_: DatasetFiles = None,
    folder: Folder = Path("reproductions"),
    store: StoreFlag = None,
    out: ResultsFolder = None,
    quiet: Quiet = False,
) -> None:
    """Run a paper's experiments: what is finished is not done again, a killed run goes on. Writes rows and a page."""
    from labelleaks import experiments
    from labelleaks.engine import choose
    from labelleaks.experiments.runner import Options, forecast
    from labelleaks.experiments.store import default_folder

    chosen = choose(engine, address=address)
    reproduction = experiments.load_reproduction(name, profile, folder)
    names = None if only is None else tuple(part.strip() for part in only.split(",") if part.strip())
    options = Options(names, seeds, from_, str(store or default_folder()), str(out or reproduction.folder))
    planned = experiments.plan(reproduction, options)
    if dry_run:
        _print_forecast(planned, jobs)
        return

    with progress.meter(False if quiet else None, unit="stages") as (note, expect):
        expect(sum(stage.kind != "evaluation" for stage, _ in forecast(planned)))  # those take no time

        def say(line: str) -> None:
            if note is not None:
                note(line.rpartition(":")[0], 1)
            elif not quiet:
                typer.echo(line, err=True)

        elsewhere = None if chosen.name == "local" else chosen
        done = experiments.run(planned, jobs=jobs, engine=elsewhere, say=say)
    page = experiments.write_page(reproduction, options.out)
    if not quiet:
        typer.echo(f"{done} stages done now; page: {page}")


def _print_forecast(planned: GridPlan, jobs: int) -> None:
    from labelleaks.experiments.runner import forecast, seconds_with

    stages = forecast(planned)
    for stage, seconds in stages:
        typer.echo(f"{stage.key}  {stage.kind:<10} {_time(seconds):>9}  {stage.name}")
    finished = sum(len(of.evaluations) for of in planned.worlds) - sum(s.kind == "evaluation" for s, _ in stages)
    total = _time(seconds_with(planned, 1))
    also = "" if jobs == 1 else f" ({_time(seconds_with(planned, jobs))} with --jobs {jobs} on as many)"
    typer.echo(
        f"{len(stages)} stages to do, at most {total} on one core{also} by the profile's rates; "
        f"{finished} evaluations are finished"
    )


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


COMMANDS: Commands = {"reproduce": reproduce}
