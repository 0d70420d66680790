"""Purchase-100, Texas-100 and Location-30: rows of bits, in comma separated lines.

Purchase-100: 197,324 shoppers, 600 bits each (bought or not), 100 classes by clustering. Texas-100: 67,330 hospital
stays, 6,169 bits each, the 100 most frequent procedures as classes. Location-30: 5,010 people in Bangkok, 446 bits each
(places visited or not), 30 classes by clustering.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from labelleaks.data.archive import members
from labelleaks.data.cards import Card, FileSet, Labels, ParsedRows, Pixels, RemoteFile, Sizes
from labelleaks.errors import InputError

__all__ = ["LOCATION30", "PURCHASE100", "TEXAS100", "read_bits", "read_classes"]

_COMMA, _ZERO = ord(","), ord("0")
_LINE = 1 << 20
"""bytes of a line; a longer one is refused"""


def read_bits(stream: IO[bytes], what: str, *, labelled: bool) -> tuple[Pixels, Labels]:
    """Read lines ``label,bit,bit,...`` (or ``bit,bit,...``): uint8 (n, features) and int64 (n,) labels from 1, or none.

    Raises:
        InputError: a line that is no such thing or has another length than the first; says which.
    """
    rows: list[Pixels] = []
    labels: list[int] = []
    for number, line in _lines(stream, what):
        place = f"{what}, line {number}"
        if labelled:
            first, _, line = line.partition(b",")
            labels.append(_whole(first, place))
        row = _bits(line)
        if row is None:
            raise InputError(f"{place}: not a list of 0 and 1: {line[:40]!r}")
        if rows and len(row) != len(rows[0]):
            raise InputError(f"{place}: {len(row)} features, but the first line has {len(rows[0])}")
        rows.append(row)
    if not rows:
        raise InputError(f"{what}: is empty")
    return np.stack(rows), np.array(labels, dtype=np.int64)


def read_classes(stream: IO[bytes], what: str) -> Labels:
    """Read one whole number a line: int64 (n,). Raises InputError where a line is none."""
    return np.array([_whole(line, f"{what}, line {number}") for number, line in _lines(stream, what)], dtype=np.int64)


def _lines(stream: IO[bytes], what: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := stream.readline(_LINE):
        number += 1
        if len(line) == _LINE:
            raise InputError(f"{what}, line {number}: longer than {_LINE:,} bytes: refused")
        if line.strip():
            yield number, line.strip()


def _bits(line: bytes) -> Pixels | None:
    """``0,1,1`` by the bytes themselves, much faster than number by number; other spellings the slow way."""
    codes = np.frombuffer(line, dtype=np.uint8)
    bits = codes[::2] - np.uint8(_ZERO)
    if len(codes) % 2 and bool((codes[1::2] == _COMMA).all()) and bool((bits <= 1).all()):
        return bits
    try:
        slow = np.array([float(part.strip(b' "\t')) for part in line.split(b",")])
    except ValueError:
        return None
    return slow.astype(np.uint8) if bool(((slow == 0) | (slow == 1)).all()) else None


def _whole(text: bytes, place: str) -> int:
    try:
        value = float(text.strip(b' "\t'))
    except ValueError:
        value = 0.5
    if not value.is_integer() or abs(value) >= 2**63:
        raise InputError(f"{place}: a class number is expected, not {text[:40]!r}")
    return int(value)


def _remote(name: str, *urls: str, most: int = 1 << 30) -> RemoteFile:
    """A file whose checksum nobody citable has published."""
    return RemoteFile(name, urls, checksum=None, source="", most=most)


def _one_file(file: RemoteFile, member: str, class_names: tuple[str, ...]) -> FileSet:
    """Rows in one file of the archive, a line each: the class from 1, then the bits."""

    def read(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
        path = paths[file.name]
        for name, stream in members(path, lambda name: name.rpartition("/")[2] == member):
            x, y = read_bits(stream, f"{path}: {name}", labelled=True)
            return ParsedRows(x, y - 1, np.zeros(len(y), dtype=np.uint8), class_names)
        raise InputError(f"{path}: {member} is not in it")

    return FileSet((file,), read)


def _texas(file: RemoteFile, class_names: tuple[str, ...]) -> FileSet:
    """Bits and classes (from 1) in two files of the archive, a line for each row."""

    def read(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
        path = paths[file.name]
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
        return ParsedRows(x, y - 1, np.zeros(len(y), dtype=np.uint8), class_names)

    return FileSet((file,), read)


_REPOSITORY = "https://github.com/privacytrustlab/datasets"
_AUTHOR = "https://www.comp.nus.edu.sg/~reza/files"
_TO_30, _TO_100 = (tuple(str(number) for number in range(1, most + 1)) for most in (30, 100))
_COMMON: Mapping[str, Any] = {
    "home": _REPOSITORY,
    "evidence": "no evidence",
    "why": "not in the authors' code; usual in the field (Choquette-Choo et al., LDL)",
    "scale": 1,
}

PURCHASE100 = Card(
    name="purchase100",
    title="Purchase-100",
    cite="Shokri, Stronati, Song, Shmatikov, Membership Inference Attacks, S&P 2017",
    licence="none stated; made from a Kaggle competition's data",
    rows=(197_324, 0),
    shape=(600,),
    classes=100,
    sizes=Sizes((20_000, 15_000, 10_000, 5_000, 2_000, 1_000), 10_000, "ours"),
    sets=(
        _one_file(
            _remote(
                "dataset_purchase.tgz",
                f"{_REPOSITORY}/raw/master/dataset_purchase.tgz",
                f"{_AUTHOR}/dataset_purchase.tgz",
            ),
            "dataset_purchase",
            _TO_100,
        ),
    ),
    npz=("purchase100.npz",),
    **_COMMON,
)

TEXAS100 = Card(
    name="texas100",
    title="Texas-100",
    cite="Shokri, Stronati, Song, Shmatikov, Membership Inference Attacks, S&P 2017",
    licence="none stated; made from the Texas Department of State Health Services' public use file",
    rows=(67_330, 0),
    shape=(6169,),
    classes=100,
    sizes=Sizes((10_000, 8_000, 6_000, 4_000, 2_000, 1_000), 10_000, "ours"),
    sets=(
        _texas(
            _remote(
                "dataset_texas.tgz",
                f"{_REPOSITORY}/raw/master/dataset_texas.tgz",
                f"{_AUTHOR}/dataset_texas.tgz",
            ),
            _TO_100,
        ),
    ),
    npz=("texas100.npz",),
    **_COMMON,
)

LOCATION30 = Card(
    name="location30",
    title="Location-30",
    cite="Yang, Zhang, Qu, Participatory cultural mapping, ACM TIST 2016; Shokri et al., S&P 2017",
    licence="none stated",
    rows=(5010, 0),
    shape=(446,),
    classes=30,
    sizes=Sizes((1200, 1000, 800, 600, 400, 200), 1000, "ours"),
    sets=(
        _one_file(
            _remote(
                "dataset_location.tgz",
                f"{_REPOSITORY}/raw/169de9de00de049dd2e571cf7279e64698ac046a/dataset_location.tgz",
                most=1 << 26,
            ),
            "bangkok",
            _TO_30,
        ),
    ),
    npz=("location30.npz",),
    class_names=_TO_30,
    **_COMMON,
)
