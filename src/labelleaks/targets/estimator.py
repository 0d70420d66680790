"""A fitted scikit-learn classifier or pipeline (or anything with ``fit``, ``predict`` and ``classes_``) as a target."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import Any, Self

import numpy as np
from torch import Tensor

from labelleaks.core.classes import Classes
from labelleaks.errors import MissingExtra
from labelleaks.inputs.row_format import FrameFormat, RowFormat
from labelleaks.targets.answers import read_answer
from labelleaks.targets.base import Preprocess, is_identified, qualified_name, scope
from labelleaks.targets.classes import own_classes

__all__ = ["EstimatorTarget"]


class EstimatorTarget:
    """An estimator that is asked through ``predict`` alone.

    It gets rows of the user's own kind and dtype as ``form`` makes them: tables as they are, arrays flat (m, width),
    images flattened row by row; arrays as a DataFrame with its own column names where it was fitted on one.
    """

    kind = "estimator"

    def __init__(
        self,
        estimator: Any,
        *,
        form: RowFormat,
        classes: Classes,
        batch_rows: int,
        preprocess: Preprocess | None = None,
    ) -> None:
        own_classes(estimator)  # refuses what is not a fitted classifier
        self.classes = classes
        self.batch_rows = batch_rows
        self.name = qualified_name(estimator)
        self._estimator = estimator
        self._preprocess = preprocess
        columns = getattr(estimator, "feature_names_in_", None)
        self._columns: list[str] | None = None if columns is None else [str(column) for column in columns]
        self._form = form
        if isinstance(form, FrameFormat) and self._columns is not None:
            self._form = form.ordered_as(self._columns, drops_others=_drops_others(estimator))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, x: Tensor) -> Tensor:
        rows: Any = self._form.decode(x)
        if isinstance(rows, Tensor):
            rows = rows.cpu().numpy()
        if self._preprocess is not None:
            rows = self._preprocess(rows)
        if isinstance(rows, np.ndarray) and rows.dtype.kind in "biuf":
            rows = rows.reshape(len(rows), -1)
            if self._columns is not None and len(self._columns) == rows.shape[1]:
                rows = _frame(rows, self._columns)
        answer = self._estimator.predict(rows)
        return read_answer(answer, len(x), self.classes, kind="estimator").to(x.device)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the fitted estimator where it can be hashed, else its class name."""
        return scope(f"estimator:{self._hash or self.name}", self.classes, self._preprocess, self._form)

    @property
    def identified(self) -> bool:
        """Whether the fingerprint says all that decides an answer."""
        return self._hash is not None and is_identified(self._preprocess)

    @cached_property
    def _hash(self) -> str | None:
        import joblib

        try:
            return str(joblib.hash(self._estimator, hash_name="sha1"))
        except Exception:  # whatever pickling somebody's steps may raise: the name is the fingerprint then
            return None

    def describe(self) -> dict[str, Any]:
        steps = getattr(self._estimator, "steps", None)
        return {
            "kind": self.kind,
            "name": self.name,
            "steps": [qualified_name(step) for _, step in steps] if isinstance(steps, list) else [],
            "preprocess": None if self._preprocess is None else qualified_name(self._preprocess),
            "fingerprint": self.fingerprint,
            "fingerprint_of": "its class name only" if self._hash is None else "the fitted estimator",
        }


def _drops_others(estimator: Any) -> bool:
    """Whether columns that it was not fitted on reach no step: what comes first chooses its columns by name."""
    steps = getattr(estimator, "steps", None)
    first = steps[0][1] if isinstance(steps, list) and steps else estimator
    return hasattr(first, "transformers") and hasattr(first, "remainder")


def _frame(rows: Any, columns: list[str]) -> Any:
    try:
        import pandas as pd
    except ImportError:
        raise MissingExtra(
            "the target was fitted on a DataFrame and needs pandas: pip install 'labelleaks[tables]'"
        ) from None
    return pd.DataFrame(rows, columns=columns)
