"""Digits: 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from labelleaks.data.cards import Card, FileSet, ParsedRows, Sizes

__all__ = ["CARD"]

_NAMES = tuple("0123456789")


def _read(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return ParsedRows(
        x=digits.images.astype(np.uint8)[:, None],
        y=digits.target.astype(np.int64),
        split=np.zeros(len(digits.target), dtype=np.uint8),
        class_names=_NAMES,
    )


CARD = Card(
    name="digits",
    title="Digits",
    home="scikit-learn",
    cite="Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part)",
    licence="CC BY 4.0 (UCI)",
    evidence="no evidence",
    why="not in the authors' code; here because it is at hand everywhere",
    rows=(1797, 0),
    shape=(1, 8, 8),
    classes=10,
    sizes=Sizes((600, 500, 400, 300, 200, 100), 400, "ours"),
    sets=(FileSet((), _read),),
    class_names=_NAMES,
    scale=16,
)
