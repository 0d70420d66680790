"""Answers that were recorded before: a target that knows the rows it was asked once, and no others."""

from __future__ import annotations

import hashlib
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.classes import Classes, to_numpy
from labelleaks.core.oracle.query_keys import digests
from labelleaks.errors import InputError, TargetError
from labelleaks.inputs.arrays import take
from labelleaks.inputs.row_format import RowFormat, learn
from labelleaks.targets.base import scope

__all__ = ["Recorded", "RecordedTarget"]


class Recorded:
    """Labels that a target gave for rows, for audits without access to it.

    Serves attacks that ask about the candidates themselves (gap) and the shadow rows (transfer), and others only where
    every row that they send was recorded. A row matches by its exact values and shape.

    Args:
        x: (n, *shape) rows of the kind that the run's rows are: array, tensor, list, table with named columns.
        labels: (n,) what the target answered: whole numbers, booleans or strings; scores (n, K) are not kept.
        threshold: where ``labels`` are one probability or logit a row: the second of two classes lies above it.

    Raises:
        InputError: counts differ, or one row has two labels.
    """

    def __init__(self, x: Any, labels: Any, *, threshold: float | None = None) -> None:
        if threshold is not None:
            scores = to_numpy(labels)
            if scores.dtype.kind != "f" or np.isnan(scores).any():
                raise InputError(f"Recorded: threshold={threshold} is for fractions, and labels are {scores.dtype}")
            labels = Classes((0, 1), threshold=threshold).above_threshold(torch.from_numpy(scores))
        given = take((x, labels), "Recorded")
        assert given.y is not None
        self.rows = given.rows
        self.recorded_labels: NDArray[Any] = given.y
        self.place = self.places(learn({"Recorded": given.rows}))

    def places(self, form: RowFormat) -> dict[bytes, int]:
        """Return the first place of each row, by the key of its codes in a format that these rows were learnt in."""
        found: dict[bytes, int] = {}
        for i, key in enumerate(_keys(form.encode(self.rows, "Recorded"))):
            first = found.setdefault(key, i)
            if self.recorded_labels[first] != self.recorded_labels[i]:
                one, other = self.recorded_labels[[first, i]].tolist()
                raise InputError(
                    f"Recorded: rows {first} and {i} are equal but have the labels {one!r} and {other!r}; keep one"
                )
        return found

    def __len__(self) -> int:
        return len(self.place)


def _keys(x: Tensor) -> list[bytes]:
    return digests(x + 0.0)  # -0.0 and 0.0 are the same value and must be the same row


class RecordedTarget:
    """The target that :class:`Recorded` stands for."""

    kind = "recorded"

    def __init__(self, recorded: Recorded, *, form: RowFormat, classes: Classes, batch_rows: int) -> None:
        self.classes = classes
        self.batch_rows = batch_rows
        self.name = "labelleaks.Recorded"
        self._recorded = recorded
        self._form = form
        self._place = recorded.places(form)
        self._codes = classes.encode(recorded.recorded_labels, "Recorded")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, x: Tensor) -> Tensor:
        places = [self._place.get(key, -1) for key in _keys(x)]
        unknown = places.count(-1)
        if unknown:
            raise TargetError(
                f"{unknown} of {len(x)} rows were never recorded (the first is row {places.index(-1)} of its batch; "
                f"{len(self._recorded)} rows are known): recorded answers serve attacks that ask about given rows "
                "only, such as gap and transfer; for others record their queries too or give the target itself"
            )
        return self._codes[places].to(x.device)

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for key, code in sorted((key, int(self._codes[i])) for key, i in self._place.items()):
            digest.update(key + code.to_bytes(8, "little"))
        return scope(f"recorded:{digest.hexdigest()}", self.classes, None, self._form)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "rows": len(self._recorded),
            "fingerprint": self.fingerprint,
            "fingerprint_of": "rows and labels",
        }
