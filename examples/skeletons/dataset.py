"""People: a table of bits in a file of one's own. Copy this file for a data set by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from labelleaks.data import Card, FileSet, ParsedRows, RemoteFile
from labelleaks.errors import InputError


def read(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
    """Read people.csv: a header, then eight bits and a label (0, 1 or 2) in each line."""
    try:
        table = np.loadtxt(paths["people.csv"], delimiter=",", skiprows=1, dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise InputError(f"{paths['people.csv']}: not a table of whole numbers ({error})") from None
    split = np.zeros(len(table), dtype=np.uint8)  # 0: training part, 1: test part
    return ParsedRows(table[:, :8].astype(np.uint8), table[:, 8], split, ("a", "b", "c"))


CARD = Card(
    name="people",
    title="People",
    home="where it is described",
    cite="who made it",
    licence="what may be done with it",
    rows=(100, 0),
    shape=(8,),
    classes=3,
    # With urls (https) and a published checksum ("sha256:…") it is downloaded; without, it is read with folder=.
    sets=(FileSet((RemoteFile("people.csv", urls=(), checksum=None, source=""),), read),),
    class_names=("a", "b", "c"),
    scale=1,
)
