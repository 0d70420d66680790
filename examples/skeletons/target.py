"""A target of one's own: copy this file where a function is not enough."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from labelleaks.targets import Classes


@dataclass
class Yours:
    """A target that says whether the features of a row sum up to more than ``limit``.

    Args:
        limit: a number.
    """

    limit: float
    name = "yours"
    classes = Classes(("below", "above"))
    batch_rows = 512  # rows of one call at most

    def __post_init__(self) -> None:
        self.fingerprint = f"yours:{self.limit!r}"  # equal for equal targets, on every machine
        self._session: Any = None

    def describe(self) -> dict[str, Any]:
        """What a record says of it: JSON types."""
        return {"kind": "yours", "limit": self.limit, "fingerprint": self.fingerprint}

    def __enter__(self) -> Self:
        self._session = object()  # open what it needs: a connection, a file, a model on a device
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}  # shards on other machines open it anew

    def __call__(self, x: Tensor) -> Tensor:
        """(m, *shape) float32 in the domain's units -> int64 (m,) codes 0 … K - 1."""
        return (x.flatten(1).to(torch.float64).sum(1) > self.limit).to(torch.int64)
