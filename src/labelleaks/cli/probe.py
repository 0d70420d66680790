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
    import numpy as np
    from numpy.typing import NDArray

    from labelleaks.targets.http.discover import Discovery, Spoken
    from labelleaks.targets.http.options import Http

__all__ = ["COMMANDS"]


def probe(
    url: Annotated[str, typer.Argument(help="A server, or the whole address that answers.", show_default=False)],
    rows: Annotated[Path | None, typer.Option(help="A file of rows to ask about: .npz, .npy, .csv, .parquet.")] = None,
    shape: Annotated[str | None, typer.Option(help="Shape of a row to make up, e.g. 64 or 3,32,32.")] = None,
    low: Annotated[float, typer.Option(help="Smallest value of a made-up row.")] = 0.0,
    high: Annotated[float, typer.Option(help="Largest value of a made-up row.")] = 1.0,
    most_rows: Annotated[int, typer.Option(min=1, help="Largest batch to try.")] = 16,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any key of target:, e.g. --set model=digits.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output, nothing else.")] = False,
) -> None:
    """Ask a service a few billed questions: what it speaks, what it answers, its limits and its speed."""
    from labelleaks.targets.http import Http, discover
    from labelleaks.targets.http.rows import Rows

    settings = _settings(set_)
    service = discover.spoken(url, settings)
    settings = {"protocol": service.protocol, "model": service.model, "input": service.input, **settings}
    options = Http(**{"url": url, **{k: v for k, v in settings.items() if v is not None}})
    x = _rows(rows, shape, service, (low, high), most_rows)
    batches = tuple(size for size in discover.BATCHES if size < most_rows and size <= len(x))
    found = discover.ask(options, Rows(len(x), x), (*batches, min(most_rows, len(x))))
    if as_json:
        typer.echo(json.dumps({"spoken": asdict(service), "found": asdict(found)}, indent=2))
    else:
        _print(options, service, found, settings)


def _settings(given: list[str] | None) -> dict[str, Any]:
    from labelleaks.cli.spec_file import parse_override
    from labelleaks.errors import SpecError, nearest
    from labelleaks.targets.http.options import Http

    settings = {".".join(map(str, key)): value for key, value in map(parse_override, given or [])}
    texts = {text.partition("=")[0].strip(): text.partition("=")[2] for text in given or []}
    settings |= {name: texts[name] for name in ("template", "label") if name in texts}  # as they are: no YAML in them
    names = [f.name for f in fields(Http) if f.name != "url"]
    unknown = next((name for name in settings if name not in names), None)
    if unknown is not None:
        raise SpecError(f"--set {unknown}: unknown key{nearest(unknown, names)}")
    return settings


def _rows(
    file: Path | None, shape: str | None, service: Spoken, bounds: tuple[float, float], most: int
) -> NDArray[np.float32]:
    import numpy as np

    from labelleaks.errors import InputError
    from labelleaks.inputs.files import read_rows
    from labelleaks.inputs.row_format import is_frame
    from labelleaks.inputs.tables import as_numbers

    if file is not None:
        rows = read_rows(file).x
        if is_frame(rows):
            rows = as_numbers({str(file): rows}, "float32", by_position=True)[str(file)]
        return np.ascontiguousarray(rows[:most], dtype=np.float32)
    sizes: tuple[int, ...] = service.shape or ()
    if shape is not None:
        words = shape.split(",")
        if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
            raise InputError(f"--shape {shape}: sizes are needed, for example 64 or 3,32,32")
        sizes = tuple(int(word) for word in words)
    if not sizes:
        raise InputError("it does not tell the shape of a row: give --shape 64 (or 3,32,32), or --rows FILE")
    low, high = bounds
    unit = np.random.default_rng(0).random((most, *sizes), dtype=np.float32)
    return (low + unit * (high - low)).astype(np.float32)


def _print(options: Http, service: Spoken, discovery: Discovery, settings: Mapping[str, Any]) -> None:
    import yaml

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
        f"speed     {alone * 1e3:.1f} ms a row alone, {seconds / size * 1e3:.2f} ms a row in a batch of {size}",
        f"limit     a batch of {discovery.most_rows} rows was answered{limit}",
    ]
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
    target = {
        "url": options.url,
        **{k: v for k, v in settings.items() if v is not None},
        "batch_rows": discovery.most_rows,
    }
    typer.echo("\n".join(lines) + "\n\nin a spec:\n" + yaml.safe_dump({"target": target}, sort_keys=False), nl=False)


COMMANDS: Commands = {"probe": probe}
