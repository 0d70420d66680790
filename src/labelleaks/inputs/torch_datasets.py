"""Read a torch Dataset or DataLoader into rows and labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, default_collate

from labelleaks.errors import InputError

__all__ = ["read_dataset"]


def read_dataset(source: Dataset[Any] | DataLoader[Any], what: str) -> tuple[Any, Any]:
    """(x, y or None) of a data set or a loader; x a stack of the items' own kind (tensors or arrays)."""
    items, batched = _items(source, what)
    xs: list[Any] = []
    ys: list[Any] = []
    for item in items:
        if isinstance(item, dict) or (isinstance(item, (tuple, list)) and len(item) not in (1, 2)):
            raise InputError(f"{what}: items of the data set must be (x, y) or x, not {_shape_of(item)}")
        pair = item if isinstance(item, (tuple, list)) else (item,)
        xs.extend(pair[0] if batched else [pair[0]])
        if len(pair) == 2:
            ys.extend(map(_plain, pair[1]) if batched else [_plain(pair[1])])
    if not xs:
        raise InputError(f"{what}: is empty (the data set has no items)")
    return xs, ys or None


def _shape_of(item: Any) -> str:
    return f"a dict with {sorted(map(str, item))[:5]}" if isinstance(item, dict) else f"a tuple of {len(item)}"


def _plain(label: Any) -> Any:
    """A label as a Python value where it is one number; anything else is left for the label check to refuse."""
    if isinstance(label, Tensor):
        return label.item() if label.numel() == 1 else label.tolist()
    return label.item() if isinstance(label, np.generic) else label


def _items(source: Dataset[Any] | DataLoader[Any], what: str) -> tuple[Iterator[Any], bool]:
    if isinstance(source, DataLoader):
        plain = source.collate_fn is default_collate and isinstance(source.sampler, (SequentialSampler, RandomSampler))
        if not plain or getattr(source.sampler, "replacement", False):
            return iter(source), source.batch_sampler is not None
        source = source.dataset
    if isinstance(source, IterableDataset):
        return iter(source), False
    count = len(source)  # type: ignore[arg-type]
    if count and not _equal(source[0], source[0]):
        raise InputError(
            f"{what}: reading item 0 twice gave two different rows: the data set has a random transform; give it the "
            "evaluation transform"
        )
    return (source[i] for i in range(count)), False


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(_equal(p, q) for p, q in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, Tensor):
        return bool(torch.equal(a, b))
    return bool(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=np.asarray(a).dtype.kind == "f"))
