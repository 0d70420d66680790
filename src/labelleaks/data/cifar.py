"""The formats that CIFAR-10 and CIFAR-100 share: the binary version, and the Python version read without its pickles.

Binary: for each picture one label byte (CIFAR-100: the coarse one, then the fine one) and 3,072 bytes, red plane, green
plane, blue plane, row by row. Python: a dict with ``data`` (n, 3072) in that order and ``labels`` or ``fine_labels``.
Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labelleaks.data.archive import members
from labelleaks.data.cards import Labels, ParsedRows, Pixels
from labelleaks.data.pickles import read_pickle
from labelleaks.errors import InputError

__all__ = ["read_binary", "read_python"]

_PIXELS = 3 * 32 * 32
_MOST = 1 << 29
"""bytes of a member; the largest official one has 154 MB"""


def read_binary(path: Path, *, train: Sequence[str], test: str, names: str, label_bytes: int) -> ParsedRows:
    """Read the binary version: uint8 (n, 3, 32, 32). Raises InputError where the archive is not that."""
    held = _content(path, [*train, test, names])
    class_names = tuple(line.strip() for line in held[names].decode("ascii", "replace").splitlines() if line.strip())
    return _joined([_records(held[name], f"{path}: {name}", label_bytes) for name in [*train, test]], class_names)


def read_python(path: Path, *, train: Sequence[str], test: str, meta: str, labels: str, names: str) -> ParsedRows:
    """Read the Python version: uint8 (n, 3, 32, 32). Raises InputError where the archive is not that."""
    held = _content(path, [*train, test, meta])
    parts = [_batch(read_pickle(held[name], f"{path}: {name}"), labels, f"{path}: {name}") for name in [*train, test]]
    listed = read_pickle(held[meta], f"{path}: {meta}").get(names)
    if not isinstance(listed, list) or not all(isinstance(name, bytes | str) for name in listed):
        raise InputError(f"{path}: {meta} holds no list {names!r}")
    return _joined(
        parts, tuple(name.decode("ascii", "replace") if isinstance(name, bytes) else name for name in listed)
    )


def _content(path: Path, wanted: Sequence[str]) -> Mapping[str, bytes]:
    held = {name: stream.read(_MOST) for name, stream in members(path, lambda name: name in wanted)}
    missing = [name for name in wanted if name not in held]
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} is not in it")
    return held


def _records(content: bytes, what: str, label_bytes: int) -> tuple[Pixels, Labels]:
    width = label_bytes + _PIXELS
    if not content or len(content) % width:
        raise InputError(f"{what}: {len(content):,} bytes, a multiple of {width:,} is expected")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, width)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1].astype(np.int64)


def _batch(batch: Mapping[str, Any], labels: str, what: str) -> tuple[Pixels, Labels]:
    data, given = batch.get("data"), batch.get(labels)
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise InputError(f"{what}: data is no array (n, {_PIXELS})")
    if not isinstance(given, list) or not all(isinstance(label, int) for label in given) or len(given) != len(data):
        raise InputError(f"{what}: {labels} is no list of {len(data)} numbers")
    return data.reshape(-1, 3, 32, 32), np.array(given, dtype=np.int64)


def _joined(parts: Sequence[tuple[Pixels, Labels]], class_names: tuple[str, ...]) -> ParsedRows:
    """All parts in order; the last one is the test part."""
    test = len(parts) - 1
    return ParsedRows(
        x=np.concatenate([x for x, _ in parts]),
        y=np.concatenate([y for _, y in parts]),
        split=np.concatenate([np.full(len(y), part == test, dtype=np.uint8) for part, (_, y) in enumerate(parts)]),
        class_names=class_names,
    )
