"""The IDX format of MNIST and Fashion-MNIST: two zero bytes, the type (8 = uint8), the number of axes, their lengths as
four bytes each, the highest first, then the values. Source: http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelleaks.data.archive import gunzip
from labelleaks.data.cards import ParsedRows
from labelleaks.errors import InputError

__all__ = ["FILES", "read_idx"]

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_MOST = 1 << 28
"""bytes, unpacked; the largest official file has 47 MB"""


def read_idx(paths: Mapping[str, Path], class_names: tuple[str, ...]) -> ParsedRows:
    """Read the four files: uint8 (n, 1, 28, 28). Raises InputError where one is damaged or two do not fit."""
    parts = []
    for pictures, labels in (FILES[:2], FILES[2:]):
        x, y = _array(paths[pictures], 3), _array(paths[labels], 1)
        if len(x) != len(y):
            raise InputError(f"{paths[pictures]}: {len(x)} pictures, but {paths[labels].name} has {len(y)} labels")
        parts.append((x[:, None], y.astype(np.int64)))
    return ParsedRows(
        x=np.concatenate([x for x, _ in parts]),
        y=np.concatenate([y for _, y in parts]),
        split=np.repeat(np.array([0, 1], dtype=np.uint8), [len(y) for _, y in parts]),
        class_names=class_names,
    )


def _array(path: Path, axes: int) -> NDArray[np.uint8]:
    content = gunzip(path, _MOST)
    start = 4 + 4 * axes
    if len(content) < start or content[:4] != bytes((0, 0, 8, axes)):
        raise InputError(f"{path}: not an IDX file of {axes} axes: it begins with {content[:4]!r}")
    shape = struct.unpack(f">{axes}I", content[4:start])
    values = np.frombuffer(content, dtype=np.uint8, offset=start)
    if values.size != np.prod(shape, dtype=np.uint64):
        raise InputError(f"{path}: {values.size:,} values, but its head says {shape}")
    return values.reshape(shape)
