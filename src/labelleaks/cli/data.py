"""``labelleaks data``: the data sets, what the paper did with them, and how to get them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelleaks.cli.options import Commands, Json, Quiet

if TYPE_CHECKING:
    from labelleaks.data import Card, Dataset

__all__ = ["ABOUT", "COMMANDS"]

ABOUT = "The paper's data sets: list, get (download, check, keep), describe."

DatasetName = Annotated[str, typer.Argument(help="A data set's name: labelleaks data list.", show_default=False)]
Archives = Annotated[
    Path | None,
    typer.Option("--from", help="Folder with the official archives, or an .npz of rows; nothing is downloaded then."),
]
Size = Annotated[int | None, typer.Option(help="Side of the pictures in pixels (gtsrb, face).")]


def list_datasets(as_json: Json = False) -> None:
    """List the data sets: size, whether the paper used them, whether they are here."""
    from labelleaks import data
    from labelleaks.core import registry
    from labelleaks.data.loading import is_kept
    from labelleaks.errors import LabelLeaksError

    cards = [(card, is_kept(card)) for card in map(data.card, data.names())]
    broken = []
    for plugin in registry.installed("datasets"):
        try:
            card = data.card(plugin.name)
            cards.append((card, is_kept(card)))
        except LabelLeaksError as error:
            broken.append(str(error))
    if as_json:
        typer.echo(json.dumps([{**_card_json(card), "kept": kept} for card, kept in cards], indent=2))
        for line in broken:
            typer.echo(line, err=True)
        return
    typer.echo(f"{'name':<14}{'rows':>9}  {'row':<13}{'classes':>7}  {'in the paper':<13}here")
    for card, kept in cards:
        shape = " x ".join(map(str, card.shape))
        rows = f"{sum(card.rows):,}"
        typer.echo(
            f"{card.name:<14}{rows:>9}  {shape:<13}{card.classes:>7}  {card.evidence:<13}{'yes' if kept else 'no'}"
        )
    for line in broken:
        typer.echo(line)
    typer.echo(
        "\nThe paper's first version has six data sets, and its text was not at hand: four are certain from the\n"
        "authors' code, a fifth is likely, the sixth is unknown. More: labelleaks data describe NAME"
    )


def get(
    name: DatasetName, from_: Archives = None, size: Size = None, as_json: Json = False, quiet: Quiet = False
) -> None:
    """Get a data set: download it (or read --from), check it, keep it in the cache."""
    from labelleaks import data

    rows = data.load(name, folder=from_, size=size, show_progress=False if quiet or as_json else None)
    if as_json:
        typer.echo(json.dumps(rows.describe(), indent=2))
    elif not quiet:
        _print_rows(rows)
        for line in _trust(data.card(name), rows):
            typer.echo(line)


def describe(name: DatasetName, from_: Archives = None, as_json: Json = False) -> None:
    """Say what a data set is, whether the paper used it, and how its rows are dealt out; downloads nothing."""
    from labelleaks import data
    from labelleaks.data.loading import is_kept

    card = data.card(name)
    rows = data.load(name, folder=from_, show_progress=False) if from_ is not None or is_kept(card) else None
    splits = {} if rows is None else {protocol: _split(rows, protocol) for protocol in ("authors", "clean")}
    if as_json:
        description = None if rows is None else rows.describe()
        typer.echo(json.dumps({**_card_json(card), "held": description, "splits": splits}, indent=2))
        return
    _print_card(card)
    if rows is None:
        typer.echo(f"\nNot here yet: labelleaks data get {card.name}")
        return
    typer.echo("")
    _print_rows(rows)
    for protocol, split in splits.items():
        typer.echo(f"\nprotocol {protocol}: {_split_line(split)}")


def _card_json(card: Card) -> dict[str, Any]:
    return {
        "name": card.name,
        "title": card.title,
        "home": card.home,
        "cite": card.cite,
        "licence": card.licence,
        "in_the_paper": card.evidence,
        "why": card.why,
        "rows": {"training_part": card.rows[0], "test_part": card.rows[1]},
        "shape": list(card.shape),
        "classes": card.classes,
        "sizes": {"targets": list(card.sizes.targets), "test": card.sizes.test, "source": card.sizes.source},
        "files": [
            {
                "name": file.name,
                "urls": list(file.urls),
                "checksum": file.checksum,
                "checksum_from": file.source or None,
            }
            for file in card.sets[0].files
        ],
        "also_read": [file.name for chosen in card.sets[1:] for file in chosen.files] + list(card.npz),
        "notes": card.notes,
    }


def _values(card: Card) -> str:
    if card.domain is not None:
        return f"of {card.domain}"
    return "bits" if card.binary else "values in [0, 1]"


def _print_card(card: Card) -> None:
    lines = [
        f"{card.title} ({card.name})",
        f"  in the paper   {card.evidence}: {card.why}",
        f"  rows           {card.rows[0]:,} to train, {card.rows[1]:,} to test, {card.classes} classes",
        f"  row            {' x '.join(map(str, card.shape))} {_values(card)}",
        f"  target sizes   {', '.join(f'{size:,}' for size in card.sizes.targets) or 'none'} ({card.sizes.source})",
        f"  non-members    {card.sizes.test:,}",
        f"  licence        {card.licence}",
        f"  cite           {card.cite}",
        f"  home           {card.home}",
    ]
    for file in card.sets[0].files:
        checked = (
            f"{file.checksum} ({file.source})" if file.checksum else "no published checksum: recorded at first use"
        )
        lines.append(f"  file           {file.name}, {checked}")
    also = [file.name for chosen in card.sets[1:] for file in chosen.files] + list(card.npz)
    if also:
        lines.append(f"  --from reads   {', '.join(also)} too")
    if card.notes:
        lines.append(f"  note           {card.notes}")
    typer.echo("\n".join(lines))


def _print_rows(dataset: Dataset) -> None:
    figures = dataset.describe()
    part = "all rows" if dataset.whole else "a part of the rows"
    groups = "" if figures["groups"] is None else f", {figures['groups']:,} groups of related rows"
    fewest, most = figures["rows_of_a_class"]
    typer.echo(
        f"{dataset.name}: {len(dataset):,} rows ({part}; {figures['training_part']:,} of the training part, "
        f"{figures['test_part']:,} of the test part) of {' x '.join(map(str, dataset.shape))}, "
        f"{dataset.classes} classes of {fewest:,} to {most:,} rows{groups}\n"
        f"read from {dataset.origin}; content {figures['digest']}"
    )


def _trust(card: Card, dataset: Dataset) -> list[str]:
    """Return the files that were trusted without a published checksum."""
    first = [file.name for chosen in card.sets for file in chosen.files if not file.checksum]
    return [
        f"{name} has no published checksum: the one of this copy was recorded, and every later copy must equal it"
        for name in first
        if name in dataset.origin
    ]


def _split(dataset: Dataset, protocol: str) -> dict[str, Any]:
    from labelleaks.data import label_leaks_split
    from labelleaks.errors import InputError

    try:
        return label_leaks_split(dataset, protocol=protocol).describe()  # type: ignore[arg-type]
    except InputError as error:
        return {"error": str(error)}


def _split_line(split: dict[str, Any]) -> str:
    if "error" in split:
        return str(split["error"])
    rules = split["protocol"]
    return (
        f"targets of {', '.join(f'{size:,}' for size in split['sizes'])}; {split['test']:,} non-members "
        f"(lowest FPR {split['smallest_fpr']:.2g}); {split['shadow']:,} shadow rows; {split['unused']:,} unused\n"
        f"  {rules['parts']}; {rules['together']}; checkpoint: {rules['checkpoint']}; "
        f"failed searches {rules['failed_searches']}"
    )


COMMANDS: Commands = {"list": list_datasets, "get": get, "describe": describe}
