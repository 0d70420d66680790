"""Location-30: 5,010 people in Bangkok, 446 bits each (places visited or not), 30 classes by clustering."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from labelleaks.data.archive import members
from labelleaks.data.cards import Card, FileSet, ParsedRows, RemoteFile, Sizes
from labelleaks.data.tabular import read_bits
from labelleaks.errors import InputError

__all__ = ["CARD"]

_NAMES = tuple(str(number) for number in range(1, 31))
_FILE = RemoteFile(
    name="dataset_location.tgz",
    urls=(
        "https://github.com/privacytrustlab/datasets/raw/169de9de00de049dd2e571cf7279e64698ac046a/dataset_location.tgz",
    ),
    checksum=None,
    source="",
    most=1 << 26,
)


def _read(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
    """One line a row: the class from 1 (in quotes), then 446 bits."""
    path = paths[_FILE.name]
    for name, stream in members(path, lambda name: name.rpartition("/")[2] == "bangkok"):
        x, y = read_bits(stream, f"{path}: {name}", labelled=True)
        return ParsedRows(x, y - 1, np.zeros(len(y), dtype=np.uint8), _NAMES)
    raise InputError(f"{path}: bangkok is not in it")


CARD = Card(
    name="location30",
    title="Location-30",
    home="https://github.com/privacytrustlab/datasets",
    cite="Yang, Zhang, Qu, Participatory cultural mapping, ACM TIST 2016; Shokri et al., S&P 2017",
    licence="none stated",
    evidence="no evidence",
    why="not in the authors' code; usual in the field (Choquette-Choo et al., LDL)",
    rows=(5010, 0),
    shape=(446,),
    classes=30,
    sizes=Sizes((1200, 1000, 800, 600, 400, 200), 1000, "ours"),
    sets=(FileSet((_FILE,), _read),),
    npz=("location30.npz",),
    class_names=_NAMES,
    scale=1,
)
