"""Purchase-100: 197,324 shoppers, 600 bits each (bought or not), 100 classes by clustering."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from labelleaks.data.archive import members
from labelleaks.data.cards import Card, FileSet, ParsedRows, RemoteFile, Sizes
from labelleaks.data.tabular import read_bits
from labelleaks.errors import InputError

__all__ = ["CARD"]

_FILE = RemoteFile(
    name="dataset_purchase.tgz",
    urls=(
        "https://github.com/privacytrustlab/datasets/raw/master/dataset_purchase.tgz",
        "https://www.comp.nus.edu.sg/~reza/files/dataset_purchase.tgz",
    ),
    checksum=None,
    source="",
)


def _read(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
    """One line a row: the class from 1, then 600 bits."""
    path = paths[_FILE.name]
    for name, stream in members(path, lambda name: name.rpartition("/")[2] == "dataset_purchase"):
        x, y = read_bits(stream, f"{path}: {name}", labelled=True)
        return ParsedRows(x, y - 1, np.zeros(len(y), dtype=np.uint8), tuple(str(number) for number in range(1, 101)))
    raise InputError(f"{path}: dataset_purchase is not in it")


CARD = Card(
    name="purchase100",
    title="Purchase-100",
    home="https://github.com/privacytrustlab/datasets",
    cite="Shokri, Stronati, Song, Shmatikov, Membership Inference Attacks, S&P 2017",
    licence="none stated; made from a Kaggle competition's data",
    evidence="no evidence",
    why="not in the authors' code; usual in the field (Choquette-Choo et al., LDL)",
    rows=(197_324, 0),
    shape=(600,),
    classes=100,
    sizes=Sizes((20_000, 15_000, 10_000, 5_000, 2_000, 1_000), 10_000, "ours"),
    sets=(FileSet((_FILE,), _read),),
    npz=("purchase100.npz",),
    scale=1,
)
