"""Texas-100: 67,330 hospital stays, 6,169 bits each, the 100 most frequent procedures as classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from labelleaks.data.archive import members
from labelleaks.data.cards import Card, FileSet, Labels, ParsedRows, Pixels, RemoteFile, Sizes
from labelleaks.data.tabular import read_bits, read_classes
from labelleaks.errors import InputError

__all__ = ["CARD"]

_FILE = RemoteFile(
    name="dataset_texas.tgz",
    urls=(
        "https://github.com/privacytrustlab/datasets/raw/master/dataset_texas.tgz",
        "https://www.comp.nus.edu.sg/~reza/files/dataset_texas.tgz",
    ),
    checksum=None,
    source="",
)


def _read(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
    """Bits and classes (from 1) in two files, a line for each row."""
    path = paths[_FILE.name]
    x: Pixels | None = None
    y: Labels | None = None
    for name, stream in members(path, lambda name: name.endswith(("100/feats", "100/labels"))):
        if name.endswith("feats"):
            x, _ = read_bits(stream, f"{path}: {name}", labelled=False)
        else:
            y = read_classes(stream, f"{path}: {name}")
    if x is None or y is None:
        raise InputError(f"{path}: texas/100/{'feats' if x is None else 'labels'} is not in it")
    if len(x) != len(y):
        raise InputError(f"{path}: {len(x)} rows but {len(y)} classes")
    return ParsedRows(x, y - 1, np.zeros(len(y), dtype=np.uint8), tuple(str(number) for number in range(1, 101)))


CARD = Card(
    name="texas100",
    title="Texas-100",
    home="https://github.com/privacytrustlab/datasets",
    cite="Shokri, Stronati, Song, Shmatikov, Membership Inference Attacks, S&P 2017",
    licence="none stated; made from the Texas Department of State Health Services' public use file",
    evidence="no evidence",
    why="not in the authors' code; usual in the field (Choquette-Choo et al., LDL)",
    rows=(67_330, 0),
    shape=(6169,),
    classes=100,
    sizes=Sizes((10_000, 8_000, 6_000, 4_000, 2_000, 1_000), 10_000, "ours"),
    sets=(FileSet((_FILE,), _read),),
    npz=("texas100.npz",),
    scale=1,
)
