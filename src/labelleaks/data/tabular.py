"""Comma separated lines of bits, as the Purchase, Texas and Location files hold them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import numpy as np

from labelleaks.data.cards import Labels, Pixels
from labelleaks.errors import InputError

__all__ = ["read_bits", "read_classes"]

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
