"""Checks of a data set on its rows.

    from labelleaks.testing.datasets import check_dataset
    check_dataset(CARD)

No test framework is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from labelleaks.data.cards import Card
from labelleaks.data.dataset import Dataset
from labelleaks.data.loading import load_card
from labelleaks.errors import LabelLeaksError
from labelleaks.testing.conformance import NotConformant

__all__ = ["check_dataset"]


def check_dataset(card: Card, *, folder: str | Path | None = None) -> None:
    """Load a data set twice and check that its rows are what its card says.

    Args:
        card: of the data set. One with files downloads them, or needs ``folder``.
        folder: where its files are.

    Raises:
        NotConformant: with a line for each thing that does not hold.
    """
    try:
        one, other = (load_card(card, folder=folder, show_progress=False) for _ in range(2))
        faults = list(_faults(card, one, other))
    except LabelLeaksError as error:
        raise NotConformant(f"{card.name}: {error}") from error
    if faults:
        raise NotConformant("\n".join(f"{card.name}: {fault}" for fault in faults))


def _faults(card: Card, one: Dataset, other: Dataset) -> Iterator[str]:
    if one.whole and len(one) != sum(card.rows):
        yield f"{len(one)} rows, the card says {sum(card.rows)}"
    if one.classes != card.classes:
        yield f"{one.classes} classes, the card says {card.classes}"
    if card.side is None and one.shape != card.shape:
        yield f"rows of {one.shape}, the card says {card.shape}"
    if one.digest() != other.digest():
        yield "read a second time it has other rows"
    if one.x.flags.writeable:
        yield "its rows can be changed in place"
    x, y = one.rows(range(min(len(one), 1024)))
    if x.dtype != torch.float32 or y.dtype != torch.int64:
        yield f"rows are {x.dtype} and labels {y.dtype}: float32 and int64 are needed"
    one.domain.check(x, card.name)
