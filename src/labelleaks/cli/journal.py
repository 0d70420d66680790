"""``labelleaks journal``: look into a file of recorded answers, write it out, check it. Asks no target anything."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Annotated

import typer

from labelleaks.cli.options import Commands, Json

__all__ = ["ABOUT", "COMMANDS"]

ABOUT = "Recorded answers of a target: info, export, verify."

File = Annotated[Path, typer.Argument(metavar="PATH", help="A journal (answers.journal of a run).", show_default=False)]


def info(path: File, as_json: Json = False) -> None:
    """Say which target a journal is of and how many answers it holds."""
    from labelleaks.core.oracle.journal_file import read

    contents, size = read(path), path.stat().st_size
    by_class = {str(label): count for label, count in contents.by_class.items()}
    if as_json:
        summary = {
            "fingerprint": contents.fingerprint, "answers": len(contents.keys), "repeated": contents.repeated,
            "in_flight": contents.in_flight, "labels": by_class, "bytes": size,
        }  # fmt: skip
        typer.echo(json.dumps(summary, indent=2))
        return
    shares = ", ".join(f"{label}: {count:,}" for label, count in by_class.items())
    typer.echo(
        f"target     {contents.fingerprint}\n"
        f"answers    {len(contents.keys):,} ({contents.repeated:,} of them to a query that had been asked before)\n"
        f"in flight  {contents.in_flight:,} queries were on their way when a run died\n"
        f"by class   {shares or 'none'}\n"
        f"size       {size:,} bytes"
    )


def export(
    path: File,
    out: Annotated[Path | None, typer.Option(help="CSV file; default: standard output.")] = None,
) -> None:
    """Write every answer as CSV: the query's hash, how often it was asked before, its class code.

    Inputs are not in a journal. The file is for the owner only: hashes tell who has the rows that were asked about.
    """
    from labelleaks.core import serialization
    from labelleaks.core.oracle.journal_file import read

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["query", "turn", "label"])
    contents = read(path)
    hashes = [key.tobytes()[:16].hex() for key in contents.keys]
    writer.writerows(zip(hashes, contents.keys["turn"].tolist(), contents.labels.tolist(), strict=True))
    if out is None:
        typer.echo(text.getvalue(), nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    serialization.write_atomic(out, text.getvalue(), private=True)


def verify(path: File) -> None:
    """Check that a journal is whole; every fault is a line, and the exit code is 2."""
    from labelleaks.core.oracle import journal_file
    from labelleaks.errors import InputError

    faults = journal_file.verify(path)
    if faults:
        raise InputError(f"{path} is damaged: {'; '.join(faults)}. Give the run a new journal")
    typer.echo(f"{path}: whole, {len(journal_file.read(path).keys):,} answers")


COMMANDS: Commands = {"info": info, "export": export, "verify": verify}
