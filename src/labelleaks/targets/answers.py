"""Reduce whatever a target answers to one class code a row. Scores end here; nothing behind this sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.classes import Classes, named, to_numpy
from labelleaks.errors import TargetError

__all__ = ["read_answer"]


def read_answer(answer: Any, rows: int, classes: Classes, *, float_labels: bool = False) -> Tensor:
    """Turn a target's answer into codes.

    Args:
        answer: tensor, array, Series or list: (m,) labels (whole numbers, booleans, strings), or (m, K) scores or
            one-hot rows, whose columns are in the order of ``classes``. An object with ``logits`` stands for them.
        rows: m, how many rows were sent.
        classes: the classes that may be answered.
        float_labels: whether (m,) floats are labels, as for an estimator that was fitted on float labels.

    Returns:
        int64 (m,) codes, on the answer's device. The lowest index wins among equal scores.

    Raises:
        TargetError: anything else; says what was answered and how to mend it.
    """
    answer = getattr(answer, "logits", answer)
    if isinstance(answer, Tensor):
        return _read_tensor(answer, rows, classes, float_labels)
    if answer is None:
        raise TargetError(f"the target answered None to {rows} rows; it must return one label a row")
    try:
        array = to_numpy(answer)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TargetError(
            f"the target answered a {type(answer).__name__} that is no array ({str(error).splitlines()[0]}); "
            "return labels (m,) or scores (m, K)"
        ) from None
    if array.ndim == 2 and array.shape[1] > 1:
        if array.dtype.kind not in "biuf":
            raise TargetError(f"the target answered {_described(array)}; return labels (m,) or scores (m, K)")
        return _from_scores(torch.from_numpy(np.ascontiguousarray(array)), rows, classes)
    return torch.from_numpy(_from_labels(array, rows, classes, float_labels))


def _read_tensor(answer: Tensor, rows: int, classes: Classes, float_labels: bool) -> Tensor:
    if answer.dim() == 2 and answer.shape[1] > 1:
        return _from_scores(answer.detach(), rows, classes)
    whole = not answer.is_floating_point() and not answer.is_complex()
    if whole and answer.shape in ((rows,), (rows, 1)) and classes.plain:  # stays on its device
        labels = answer.detach().reshape(-1).to(torch.int64)
        if not bool(((labels < 0) | ((labels >= len(classes)) & (not classes.open))).any()):
            return labels
    return torch.from_numpy(_from_labels(to_numpy(answer), rows, classes, float_labels)).to(answer.device)


def _from_scores(scores: Tensor, rows: int, classes: Classes) -> Tensor:
    if len(scores) != rows:
        raise TargetError(f"the target answered {len(scores)} rows of scores to {rows} rows; one for each is needed")
    if scores.shape[1] < len(classes) or (scores.shape[1] > len(classes) and not classes.open):
        raise TargetError(
            f"the target answers {scores.shape[1]} scores a row, but there are {len(classes)} classes ({classes}): "
            f"say classes={scores.shape[1]}, or name them in the order of the columns"
        )
    if scores.dtype == torch.bool or scores.dtype in (torch.uint16, torch.uint32, torch.uint64):
        scores = scores.to(torch.int64)
    top, codes = scores.max(1)  # the first index among equals; NaN wins over numbers, so that one look finds it
    if scores.is_floating_point() and bool(top.isnan().any()):
        bad = top.isnan().nonzero().reshape(-1)
        raise TargetError(
            f"the target answered NaN scores for {len(bad)} of {rows} rows, the first is row {int(bad[0])} of its "
            "batch; a NaN has no label: check the target's inputs (domain, preprocess)"
        )
    return codes


def _from_labels(array: NDArray[Any], rows: int, classes: Classes, float_labels: bool) -> NDArray[np.int64]:
    if array.shape == (rows, 1):
        array = array[:, 0]
    if array.shape != (rows,):
        raise TargetError(
            f"the target answered {_described(array)} to {rows} rows; one label a row is needed, (m,), or scores (m, K)"
        )
    if array.dtype.kind == "f" and not float_labels:
        raise TargetError(
            f"the target answered {_described(array)}: floats are not labels; return whole numbers "
            "((p > 0.5).astype(int), labels.astype(int)) or scores for each class (np.stack([1 - p, p], 1))"
        )
    labels = named(array)
    if labels is None:
        raise TargetError(f"the target answered {_described(array)}: labels must be whole numbers, booleans or strings")
    codes = classes.codes(labels)
    if bool((codes < 0).any()):
        unknown = np.unique(labels[codes < 0]).tolist()
        raise TargetError(
            f"the target answered {', '.join(map(repr, unknown[:5]))}, which is none of the {len(classes)} classes "
            f"({classes}): name every class that it can answer with classes="
        )
    return codes


def _described(array: NDArray[Any]) -> str:
    if array.ndim == 0:
        return f"one {type(array.item()).__name__}, {array.item()!r},"
    example = f", for example {array.reshape(-1)[0].item()!r}" if array.size and array.dtype.kind != "O" else ""
    return f"{array.dtype} of shape {array.shape}{example}"
