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

_CUT = (
    "where it is the probability of the second class say threshold=0.5, where it is its logit threshold=0, and of "
    "words classes= too, the second one last"
)
_FIRST = {
    "callable": "return the best one, ids[:, 0]",
    "estimator": "give a function that returns the best one, lambda x: model.predict(x)[:, 0]",
    "torch": "give a function that returns the best one, lambda x: model(x)[:, 0]",
    "onnx": "name the output that holds labels or scores (output=), or give a function that returns the best one",
    "http": "say answers: ids",
}
"""By kind of target: the mend of several ids a row."""
_WHOLE_SCORES = {"http": "of scores or one-hot rows say answers: scores"}
"""By kind of target: the mend of scores that are whole numbers, where it is another than of a function."""


def read_answer(answer: Any, rows: int, classes: Classes, *, kind: str = "callable") -> Tensor:
    """Turn a target's answer into codes.

    Args:
        answer: tensor, array, Series or list: (m,) labels (whole numbers, floats that are whole, booleans, strings), or
            (m, K) scores or one-hot rows, whose columns are in the order of ``classes``. An object with ``logits``
            stands for them.
        rows: m, how many rows were sent.
        classes: the classes that may be answered.
        kind: of the target, for the mends in messages: ``torch``, ``estimator``, ``callable``, ``onnx`` or ``http``.

    Returns:
        int64 (m,) codes, on the answer's device. The lowest index wins among equal scores.

    Raises:
        TargetError: anything else; says what was answered and how to mend it.
    """
    answer = _from_maps(getattr(answer, "logits", answer))
    if answer is None:
        raise TargetError(f"the target answered None to {rows} rows; it must return one label a row")
    if isinstance(answer, tuple) and any(np.ndim(part) for part in answer):
        raise TargetError(
            f"the target answered a tuple of {len(answer)} arrays to {rows} rows; return the one that holds labels (m,)"
            " or scores (m, K), for example lambda x: f(x)[0]"
        )
    found = answer.detach() if isinstance(answer, Tensor) else _array(answer)
    if found.ndim == 2 and found.shape[1] > 1:
        return _from_scores(_scores(found, kind), rows, classes)
    if found.ndim == 2 and found.shape[1] == 1 and len(found) == rows:
        found = found[:, 0]
    if tuple(found.shape) != (rows,):
        raise TargetError(
            f"the target answered {_described(to_numpy(found))} to {rows} rows; one label a row is needed, (m,), or "
            "scores (m, K)"
        )
    if classes.threshold is not None:
        return _from_one_score(found, classes)
    if isinstance(found, Tensor):
        codes = _codes_of(found, classes)
        if codes is not None:
            return codes
    labels = _labels(to_numpy(found))
    codes = torch.from_numpy(_from_labels(labels, classes))
    return codes.to(found.device) if isinstance(found, Tensor) else codes


def _from_maps(answer: Any) -> Any:
    """Return the best class of each row where classes and scores come as dicts; else the answer.

    Of ``{class: score}`` (ONNX' maps) and ``{"label": class, "score": score}``, one or a list of them for each row (as
    ``transformers`` answers); the first one among equals.
    """
    if not isinstance(answer, (list, tuple)) or not answer:
        return answer
    rows = [row if isinstance(row, (list, tuple)) else [row] for row in answer]
    if not all(row and all(isinstance(part, dict) for part in row) for row in rows):
        return answer
    if all({"label", "score"} <= part.keys() for row in rows for part in row):
        return [max(row, key=lambda part: part["score"])["label"] for row in rows]
    scored = all(
        len(row) == 1 and row[0] and all(np.isscalar(s) and not isinstance(s, str) for s in row[0].values())
        for row in rows
    )
    return [max(row[0], key=row[0].__getitem__) for row in rows] if scored else answer


def _array(answer: Any) -> NDArray[Any]:
    try:
        return to_numpy(answer)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TargetError(
            f"the target answered a {type(answer).__name__} that is no array ({str(error).splitlines()[0]}); "
            "return labels (m,) or scores (m, K)"
        ) from None


def _from_one_score(raw: Any, classes: Classes) -> Tensor:
    """Return which of two classes one number a row (m,) means; numbers that are no floats are labels as ever."""
    numbers = (
        raw
        if isinstance(raw, Tensor)
        else torch.from_numpy(np.ascontiguousarray(raw))
        if raw.dtype.kind == "f"
        else None
    )
    if numbers is None or not numbers.is_floating_point():
        raise TargetError(
            f"the target answered {_described(to_numpy(raw))}, and threshold={classes.threshold:g} is for fractions: "
            "leave threshold= out where these are labels"
        )
    _refuse_nan(numbers)
    return classes.above_threshold(numbers)


def _codes_of(labels: Tensor, classes: Classes) -> Tensor | None:
    """Return whole numbers (m,) that are codes themselves, on their device; None: they need a closer look."""
    if labels.is_floating_point() or labels.is_complex() or not classes.plain:
        return None
    codes = labels.to(torch.int64)
    return None if bool(((codes < 0) | ((codes >= len(classes)) & (not classes.open))).any()) else codes


def _scores(raw: Any, kind: str) -> Tensor:
    """Return answers (m, K) as scores: floats, or one-hot rows.

    Whole numbers that are no one-hot rows may be the ids of the K best as well as scores, and are refused; so are those
    of two columns, where ids and one-hot rows look the same.
    """
    if not isinstance(raw, Tensor):
        if raw.dtype.kind not in "biuf":
            raise TargetError(f"the target answered {_described(raw)}; return labels (m,) or scores (m, K)")
        if raw.dtype.kind == "u":
            raw = raw.astype(np.int64)
        if raw.dtype.itemsize > 8:
            raw = raw.astype(np.float64)
        raw = torch.from_numpy(np.ascontiguousarray(raw))
    scores: Tensor = raw
    if scores.is_floating_point():
        return scores
    hot = scores.to(torch.int64)
    one_hot = bool((((hot == 0) | (hot == 1)).all(1) & (hot.sum(1) == 1)).all())
    if one_hot and (hot.shape[1] > 2 or scores.dtype == torch.bool):
        return hot
    raise TargetError(
        f"the target answered {_described(to_numpy(raw))}: {hot.shape[1]} whole numbers a row may be ids or scores: "
        f"of ids {_FIRST[kind]}; " + _WHOLE_SCORES.get(kind, "of scores return floats; of one-hot rows their argmax(1)")
    )


def _from_scores(scores: Tensor, rows: int, classes: Classes) -> Tensor:
    if len(scores) != rows:
        raise TargetError(f"the target answered {len(scores)} rows of scores to {rows} rows; one for each is needed")
    if scores.shape[1] < len(classes) or (scores.shape[1] > len(classes) and not classes.open):
        raise TargetError(
            f"the target answers {scores.shape[1]} scores a row, but there are {len(classes)} classes ({classes}): "
            f"say classes={scores.shape[1]}, or name them in the order of the columns"
        )
    if not classes.ordered:
        raise TargetError(
            f"the target answers {scores.shape[1]} scores a row, and nothing says which class each stands for: name "
            f"the classes in the order of its columns, classes=[…] (they are {classes}, in an order that only you know)"
        )
    if classes.threshold is not None:
        raise TargetError(f"the target answers {scores.shape[1]} scores a row, and threshold= is for one: leave it out")
    top, codes = scores.max(1)  # the first index among equals; NaN wins over numbers, so that one look finds it
    _refuse_nan(top)
    return codes


def _refuse_nan(scores: Tensor) -> None:
    if scores.is_floating_point() and bool(scores.isnan().any()):
        bad = scores.isnan().nonzero().reshape(-1)
        raise TargetError(
            f"the target answered NaN scores for {len(bad)} of {len(scores)} rows, the first is row {int(bad[0])} of "
            "its batch; a NaN has no label: check the target's inputs (domain, preprocess)"
        )


def _labels(array: NDArray[Any]) -> NDArray[Any]:
    labels = named(array)
    if labels is None and array.dtype.kind == "f":
        raise TargetError(f"the target answered {_described(array)}: fractions are not labels: {_CUT}")
    if labels is None:
        raise TargetError(f"the target answered {_described(array)}: labels must be whole numbers, booleans or strings")
    return labels


def _from_labels(labels: NDArray[Any], classes: Classes) -> NDArray[np.int64]:
    codes = classes.codes(labels)
    if bool((codes < 0).any()):
        unknown = np.unique(labels[codes < 0]).tolist()
        order = "" if classes.ordered else ", in the order of its outputs"
        raise TargetError(
            f"the target answered {', '.join(map(repr, unknown[:5]))}, which is none of the {len(classes)} classes "
            f"({classes}): name every class that it can answer with classes={order and '[…]'}{order}"
        )
    return codes


def _described(array: NDArray[Any]) -> str:
    if array.ndim == 0:
        return f"one {type(array.item()).__name__}, {array.item()!r},"
    values = array.reshape(-1)
    if array.dtype.kind == "f" and (values != np.round(values)).any():
        values = values[values != np.round(values)]
    example = f", for example {values[0].item()!r}" if array.size and array.dtype.kind != "O" else ""
    return f"{array.dtype} of shape {array.shape}{example}"
