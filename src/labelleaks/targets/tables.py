"""Whether a target is asked with a table of named columns or with numbers: what it shows of itself decides."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from labelleaks.targets.base import is_target
from labelleaks.targets.classes import is_estimator
from labelleaks.targets.http import Http
from labelleaks.targets.onnx import Onnx

__all__ = ["column_names_of", "takes_numbers_only", "takes_table"]

_COUNTED = re.compile(r"(Column_|f|x|feature_)?\d+", re.IGNORECASE)
"""Names that libraries give to the columns of an array."""


def takes_numbers_only(target: Any) -> bool:
    """Whether a target gets float32 numbers only: a torch module, an ONNX file of one input, or a Target."""
    if isinstance(target, Onnx):
        return not target.takes_columns()
    return isinstance(target, nn.Module) or is_target(target)


def takes_table(target: Any, *, complete_numbers: bool) -> bool:
    """Whether a target of a run on tables gets tables; if not, arrays of numbers, the columns in the members' order.

    An estimator gets what it was fitted on: a table where it knows the names of its columns, or where it is a pipeline
    that does not know their number either. A function gets a table where its first parameter is annotated as a
    DataFrame. Any target gets one where the rows are more than complete columns of numbers.

    Args:
        complete_numbers: every column of the rows is of numbers, and none is missing.
    """
    if isinstance(target, Http):
        return target.takes_columns(complete_numbers=complete_numbers)
    if isinstance(target, Onnx) and target.takes_columns():
        return True
    if takes_numbers_only(target):
        return not complete_numbers
    if is_estimator(target) or hasattr(target, "predict"):
        if column_names_of(target) is not None:
            return True
        return hasattr(target, "steps") and _member(target, "n_features_in_") is None
    return not complete_numbers or _asks_for_frame(target)


def column_names_of(model: Any) -> tuple[str, ...] | None:
    """Return the names of the columns that a model was fitted on; None where it has none, or made them up itself."""
    for member in ("feature_names_in_", "feature_names_", "feature_name_", "feature_names", "feature_name"):
        found = _member(model, member)
        if callable(found):
            found = _called(found)
        if isinstance(found, str) or found is None or not hasattr(found, "__len__") or not len(found):
            continue
        names = tuple(map(str, found))
        return None if all(map(_COUNTED.fullmatch, names)) else names
    last = _last_step(model)
    return None if last is None else column_names_of(last)


def _last_step(model: Any) -> Any:
    steps = getattr(model, "steps", None)
    return steps[-1][1] if isinstance(steps, list) and len(steps) > 1 else None


def _member(model: Any, name: str) -> Any:
    try:
        return getattr(model, name, None)
    except Exception:  # a property of somebody's model that needs what is not there
        return None


def _called(method: Callable[[], Sequence[str]]) -> Any:
    try:
        return method()
    except Exception:  # as above
        return None


def _asks_for_frame(function: Any) -> bool:
    annotations = getattr(function, "__annotations__", None) or getattr(type(function).__call__, "__annotations__", {})
    first = next((annotation for name, annotation in annotations.items() if name != "return"), None)
    return "DataFrame" in (first if isinstance(first, str) else getattr(first, "__name__", ""))
