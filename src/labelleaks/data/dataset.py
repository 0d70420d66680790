"""The one type that every data set comes out as."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from labelleaks.core.domains import Domain
from labelleaks.data.cards import Labels, Values
from labelleaks.errors import InputError

__all__ = ["Dataset"]

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows with true labels, in the order of the official distribution: training part first.

    Values are kept as they are stored, in 8 bits, and may lie on disk: :meth:`rows` makes tensors of the rows that are
    needed. All arrays are read-only.

    Raises:
        InputError: arrays that do not fit each other, or labels outside the classes.
    """

    name: str
    x: Values
    """uint8 (n, channels, height, width), values 0 … scale; or (n, features), values 0 and 1; without a scale uint8 or
    float32 (n, *shape) in the domain's units"""
    y: Labels
    """int64 (n,), 0 … classes - 1"""
    class_names: tuple[str, ...]
    """One for each label."""
    split: NDArray[np.uint8]
    """(n,): 0 = official training part, 1 = official test part"""
    groups: Labels | None
    """int64 (n,): rows with one number belong together (frames of one physical sign) and must stay on one side of
    every split; -1 where that is unknown. None: rows are single."""
    source_index: Labels | None
    """int64 (n,): row in the official distribution, training rows first. None where a file did not say."""
    domain: Domain
    """The inputs that exist, in the units of :meth:`rows`."""
    scale: int | None
    whole: bool
    """Whether this is the complete data set, not a part of it."""
    origin: str
    """The files that it was read from."""

    def __post_init__(self) -> None:
        n = len(self.x)
        for what in ("x", "y", "split", "groups", "source_index"):
            array = getattr(self, what)
            if array is None:
                continue
            if len(array) != n:
                raise InputError(f"{self.name} ({self.origin}): {n} rows but {len(array)} entries in {what}")
            array = array.view()
            array.setflags(write=False)
            object.__setattr__(self, what, array)
        if self.x.dtype != np.uint8 and (self.scale is not None or self.x.dtype != np.float32):
            wanted = "8-bit numbers" if self.scale is not None else "8-bit numbers or float32"
            raise InputError(f"{self.name} ({self.origin}): values are {self.x.dtype}, {wanted} are expected")
        if n and not (self.y.min() >= 0 and self.y.max() < self.classes):
            raise InputError(
                f"{self.name} ({self.origin}): labels {self.y.min()} … {self.y.max()}, but there are "
                f"{self.classes} classes: 0 … {self.classes - 1}"
            )
        if self.scale is not None and self.scale < 255 and n and int(self.x.max()) > self.scale:
            raise InputError(f"{self.name} ({self.origin}): a value of {self.x.max()}, at most {self.scale} exists")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.x.shape[1:])

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def rows(self, index: ArrayLike | None = None) -> tuple[Tensor, Tensor]:
        """Return rows as tensors, in the domain's units.

        Args:
            index: int (m,), rows in the order wanted; None: all of them.

        Returns:
            float32 (m, *shape), in [0, 1] where there is a scale, and int64 (m,) labels; copies, on the CPU.
        """
        chosen = np.arange(len(self)) if index is None else np.asarray(index, dtype=np.int64)
        x = torch.from_numpy(np.array(self.x[chosen])).to(torch.float32)
        return (x if self.scale in (None, 1) else x / self.scale), torch.from_numpy(np.array(self.y[chosen]))

    def digest(self) -> str:
        """Hash what the rows hold: 32 hexadecimal digits, equal for equal values, labels and order."""
        digest = hashlib.blake2b(repr((self.shape, len(self))).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.y).data)
        for start in range(0, len(self), _CHUNK):
            digest.update(np.ascontiguousarray(self.x[start : start + _CHUNK]).data)
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return the content in figures, as JSON types."""
        counts = np.bincount(self.y, minlength=self.classes)
        groups = None if self.groups is None else len(np.unique(self.groups[self.groups >= 0]))
        return {
            "name": self.name,
            "rows": len(self),
            "training_part": int((self.split == 0).sum()),
            "test_part": int((self.split == 1).sum()),
            "whole": self.whole,
            "shape": list(self.shape),
            "classes": self.classes,
            "classes_present": int((counts > 0).sum()),
            "rows_of_a_class": [int(counts.min()), int(counts.max())],
            "groups": groups,
            "domain": self.domain.describe(),
            "digest": self.digest(),
            "origin": self.origin,
        }
