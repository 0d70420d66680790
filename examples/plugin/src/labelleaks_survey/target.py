"""A nearest-neighbour classifier of rows of a data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from labelleaks import data
from labelleaks.errors import InputError, TargetError
from labelleaks.targets import Classes

__all__ = ["Neighbours"]


@dataclass
class Neighbours:
    """A target that answers with the label of the nearest of its training rows, the first of equals.

    Args:
        dataset: the name of a data set whose rows hold small whole numbers.
        rows: (first, stop) of its training rows.

    Raises:
        InputError: there are no such rows.
    """

    dataset: str
    rows: tuple[int, int]
    name: str = field(init=False, default="labelleaks_survey.Neighbours")
    classes: Classes = field(init=False)
    batch_rows: int = field(init=False, default=256)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        survey, (first, stop) = data.load(self.dataset), self.rows
        if not 0 <= first < stop <= len(survey):
            raise InputError(f"Neighbours: rows ({first}, {stop}) of {self.dataset}, which has {len(survey)}")
        self.classes = Classes(survey.class_names)
        self.fingerprint = f"neighbours:{survey.digest()}:{first}:{stop}"
        self._open: tuple[Tensor, Tensor] | None = None

    def describe(self) -> dict[str, Any]:
        rows = list(self.rows)
        return {"kind": "neighbours", "dataset": self.dataset, "rows": rows, "fingerprint": self.fingerprint}

    def __enter__(self) -> Self:
        self._open = data.load(self.dataset).rows(range(*self.rows))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}  # another machine opens it anew

    def __call__(self, x: Tensor) -> Tensor:
        if self._open is None:
            raise TargetError("Neighbours was asked while it was closed")
        neighbours, labels = self._open
        apart = (x.to(torch.int64)[:, None] - neighbours.to(torch.int64)).flatten(2).square().sum(2)
        first = apart * len(neighbours) + torch.arange(len(neighbours))  # whole numbers: exact, and no two are equal
        return labels[first.argmin(1)]
