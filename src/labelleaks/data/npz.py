"""Rows of a data set in one plain .npz: a part of it, or all, prepared by the user.

Arrays: ``images`` (uint8, n x H x W x C) or ``features`` (n x D, 0 and 1); ``labels`` (n,); and, where there are,
``class_names``, ``split`` (0 training part, 1 test part), ``source_index`` (row in the official distribution) and
``track`` (rows that belong together; -1 unknown). Read without pickle.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.data.cards import Card, Labels, Pixels
from labelleaks.data.dataset import Dataset
from labelleaks.data.pixels import resized
from labelleaks.errors import InputError, in_a_line

__all__ = ["read_npz"]

_MOST = 16 << 30
"""bytes of the arrays; more are refused before they are unpacked"""
_KNOWN = ("images", "features", "labels", "class_names", "split", "source_index", "track")


def read_npz(path: Path, card: Card, side: int | None) -> Dataset:
    """Read the rows of ``card`` from ``path``; pictures are scaled to ``side`` where one is given.

    Raises:
        InputError: damaged, or not rows of this data set (shape, labels or class names differ).
    """
    arrays = _arrays(path)
    key = "features" if card.binary else "images"
    for needed in (key, "labels"):
        if needed not in arrays:
            raise InputError(f"{path}: no array {needed!r} among {sorted(arrays)}")
    x = _bits(path, arrays[key]) if card.binary else _pictures(path, arrays[key], card, side)
    y = _whole_numbers(path, "labels", arrays["labels"])
    n = len(x)
    names = tuple(str(name) for name in arrays.get("class_names", ())) or card.class_names
    names = names or tuple(str(label) for label in range(card.classes))
    if len(names) != card.classes:
        raise InputError(f"{path}: {len(names)} class names, but {card.title} has {card.classes} classes")
    split = _whole_numbers(path, "split", arrays.get("split", np.zeros(n, np.int64)))
    if not np.isin(split, (0, 1)).all():
        raise InputError(f"{path}: split must be 0 (training part) or 1 (test part)")
    index = _whole_numbers(path, "source_index", arrays["source_index"]) if "source_index" in arrays else None
    return Dataset(
        name=card.name,
        x=x,
        y=y,
        class_names=names,
        split=split.astype(np.uint8),
        groups=_whole_numbers(path, "track", arrays["track"]) if "track" in arrays else None,
        source_index=index,
        domain=card.inputs,
        scale=card.scale,
        whole=n == sum(card.rows),
        origin=path.name,
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MOST:
            raise InputError(f"{path}: unpacks to {size:,} bytes: refused as a zip bomb")
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files if name in _KNOWN}
    except InputError:
        raise
    except Exception as error:  # zipfile's, zlib's, and what NumPy raises where it parses a damaged head as Python
        raise InputError(f"{path}: not a plain .npz, or damaged ({in_a_line(error)})") from None


def _pictures(path: Path, images: NDArray[Any], card: Card, side: int | None) -> Pixels:
    channels = card.shape[0]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != channels:
        raise InputError(
            f"{path}: images are {images.dtype} {images.shape}; uint8 (n, height, width, {channels}) is expected"
        )
    stored = images.shape[1:3]
    if card.side is None and stored != card.shape[1:]:
        raise InputError(f"{path}: pictures of {stored}, but {card.title} has {card.shape[1:]}")
    x = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return x if side is None or stored == (side, side) else resized(x, side)


def _bits(path: Path, features: NDArray[Any]) -> Pixels:
    if features.ndim != 2 or not np.isin(features, (0, 1)).all():
        raise InputError(
            f"{path}: features are {features.dtype} {features.shape}; (n, features) of 0 and 1 is expected"
        )
    return features.astype(np.uint8)


def _whole_numbers(path: Path, name: str, array: NDArray[Any]) -> Labels:
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(f"{path}: {name} is {array.dtype} {array.shape}; whole numbers (n,) are expected")
    return array.astype(np.int64)
