"""``labelleaks probe URL``: what a service speaks, its limits and its speed, in a few billed queries."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelleaks.cli.options import Commands

if TYPE_CHECKING:
    from labelleaks.targets.http.discover import Discovery, Spoken
    from labelleaks.targets.http.options import Http

__all__ = ["COMMANDS"]


def probe(
    url: Annotated[str, typer.Argument(help="A server, or the whole address that answers.", show_default=False)],
    rows: Annotated[
        Path | None, typer.Option(help="A file of rows to ask about, your members: .csv, .parquet, .npz, .npy.")
    ] = None,
    nonmembers: Annotated[Path | None, typer.Option(help="The file of non-members to name in the spec.")] = None,
    shape: Annotated[str | None, typer.Option(help="Shape of a row to make up, e.g. 64 or 3,32,32.")] = None,
    low: Annotated[float, typer.Option(help="Smallest value of a made-up row.")] = 0.0,
    high: Annotated[float, typer.Option(help="Largest value of a made-up row.")] = 1.0,
    most_rows: Annotated[int, typer.Option(min=1, help="Largest batch to try.")] = 16,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any key of target:, e.g. --set model=digits.")
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="Write the proposed spec to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output, nothing else.")] = False,
) -> None:
    """Ask a service a few billed questions: what it speaks, what it answers, its limits, its speed; propose a spec."""
    from labelleaks.cli import probe_rows
    from labelleaks.targets.http import Http, discover

    keys = _settings(set_)
    run: dict[str, Any] = {name: keys.pop(name) for name in ("classes", "threshold") if name in keys}
    service = discover.spoken(url, keys)
    settings = {**_proposed(service), **keys}
    find_label = settings["protocol"] == "template" and settings.get("label") is None
    address = service.url or url
    options = Http(url=address, **{**settings, **({"label": "@"} if find_label else {})})
    x = probe_rows.gathered(probe_rows.RowChoice(rows, shape, low, high, most_rows), service, options)
    batches = tuple(size for size in discover.BATCHES if size < most_rows and size <= len(x))
    found = discover.ask(options, x, (*batches, min(most_rows, len(x))), find_label=find_label)
    if found.label is not None:
        settings["label"] = found.label
    target = {**settings, **run, "batch_rows": settings.get("batch_rows", found.most_rows)}
    proposed = _spec(address, target, rows, nonmembers)
    if spec is not None:
        spec.write_text(proposed, encoding="utf-8")
    if as_json:
        typer.echo(json.dumps({"spoken": asdict(service), "found": asdict(found), "spec": proposed}, indent=2))
    else:
        wrote = (
            f"in a spec:\n{proposed}" if spec is None else f"spec      {spec} was written: labelleaks audit {spec}\n"
        )
        _print(options, service, found, wrote)


def _proposed(service: Spoken) -> dict[str, Any]:
    """Keys of target: that what a service says of itself decides."""
    operation = service.operation
    held: dict[str, Any] = {
        "protocol": service.protocol, "model": service.model, "input": service.input, "datatype": service.datatype,
        "columns": list(service.columns) or None,
    }  # fmt: skip
    if operation is not None:
        held |= {"template": operation.template, "upload": operation.upload}
        held |= {"pictures": "png"} if operation.picture else {}
        held |= {"batch_rows": 1} if operation.single else {}
    return {name: value for name, value in held.items() if value is not None}


def _spec(url: str, target: Mapping[str, Any], rows: Path | None, nonmembers: Path | None) -> str:
    """A whole spec, with files that are still to be named."""
    import yaml

    given = {"url": url, **{name: value for name, value in target.items() if value is not None}}
    data = {"members": str(rows or "members.csv"), "nonmembers": str(nonmembers or "nonmembers.csv")}
    return yaml.safe_dump({"target": given, "data": data, "out": "run"}, sort_keys=False, allow_unicode=True, width=200)


def _settings(given: list[str] | None) -> dict[str, Any]:
    from labelleaks.cli.spec_file import parse_override
    from labelleaks.errors import SpecError, nearest
    from labelleaks.targets.http.options import Http

    settings = {".".join(map(str, key)): value for key, value in map(parse_override, given or [])}
    names = [*(f.name for f in fields(Http) if f.name != "url"), "classes", "threshold"]
    unknown = next((name for name in settings if name not in names), None)
    if unknown is not None:
        raise SpecError(f"--set {unknown}: unknown key{nearest(unknown, names)}")
    return settings


def _print(options: Http, service: Spoken, discovery: Discovery, wrote: str) -> None:
    from labelleaks.auditing.forecast import money
    from labelleaks.targets.http.formats import address_of

    alone = statistics.median(
        seconds for size, seconds in discovery.seconds if size == min(s for s, _ in discovery.seconds)
    )
    size, seconds = max(discovery.seconds)
    limit = (
        f"; {discovery.refused[0]} rows were refused: {discovery.refused[1]}"
        if discovery.refused
        else "; no more was tried"
    )
    lines = [
        f"address   {address_of(options).partition('?')[0]}",
        f"speaks    {service.protocol} ({service.how})",
        f"answers   {discovery.answers}, for example {', '.join(map(repr, discovery.labels[:5]))}",
        f"speed     {alone * 1e3:.1f} ms a row alone"
        + (f", {seconds / size * 1e3:.2f} ms a row in a batch of {size}" if size > 1 else ""),
        f"limit     a batch of {discovery.most_rows} rows was answered{limit}",
    ]
    if service.operation is not None and service.operation.columns:
        must = service.operation.required
        needed = [name if name in must else f"{name} (may be left out)" for name in service.operation.columns]
        lines.append(f"columns   {', '.join(needed)}")
    if service.outputs:
        lines.append(f"outputs   {', '.join(service.outputs)}")
    if discovery.changed:
        lines.append(
            f"noisy     {discovery.changed} answers changed when a row was asked about again (allow_noisy: true)"
        )
    cost = f", {money(discovery.cost)} at your prices" if discovery.cost else ""
    lines.append(
        f"billed    {discovery.rows} rows in {len(discovery.seconds) + bool(discovery.refused)} requests{cost}"
    )
    typer.echo("\n".join(lines) + "\n\n" + wrote, nl=False)


COMMANDS: Commands = {"probe": probe}
