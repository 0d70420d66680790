"""Classes of a run: those that the user names, that the target lists, or that the labels show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labelleaks.core.classes import Classes, label_array
from labelleaks.errors import InputError
from labelleaks.targets.base import Target, is_target
from labelleaks.targets.pipelines import is_image_pipeline, pipeline_classes
from labelleaks.targets.recorded import Recorded
from labelleaks.targets.text import TextClassifier, adapted

__all__ = ["is_estimator", "own_classes", "resolve_classes"]

_SPARSE = 1000  # more classes than this, most of them never seen: the numbers are names, not codes


def is_estimator(thing: Any) -> bool:
    """Whether ``thing`` is used as scikit-learn's estimators are."""
    return hasattr(thing, "fit") and hasattr(thing, "predict") and not isinstance(thing, (type, torch.nn.Module))


def own_classes(target: Any) -> Any:
    """Return the classes that a target lists itself, or None: a fitted classifier's ``classes_``.

    Raises:
        InputError: an estimator that lists none (not fitted, a regressor), or a list for each of several outputs.
    """
    if is_image_pipeline(target):
        return pipeline_classes(target)
    if not is_estimator(target):
        return None
    found = getattr(target, "classes_", None)
    name = type(target).__name__
    if found is None:
        raise InputError(
            f"{name} has no classes_: fit it first if it is a classifier; otherwise give a function of rows that "
            "returns labels, for example lambda x: model.predict(x).argmax(1)"
        )
    if isinstance(found, list) and found and np.ndim(found[0]) > 0:
        raise InputError(f"{name} answers {len(found)} labels a row; give a function that returns one of them")
    return found


def resolve_classes(
    target: Any,
    given: int | Sequence[Any] | Classes | None,
    labels: Mapping[str, NDArray[Any] | None],
    *,
    threshold: float | None = None,
) -> Classes:
    """Decide which classes there are.

    ``given`` decides where it is there; else the target's own list; else the labels: K = largest label + 1 for whole
    numbers from 0, the sorted distinct labels where they are strings, negative, or numbers too sparse to be codes: then
    nobody knows which output stands for which, and a target that answers scores is refused.

    Args:
        target: what the user brought: scikit-learn's ``classes_`` are its own list; recorded answers count as labels.
        given: the user's ``classes=``: a number K, or the names in the order of the target's outputs.
        labels: what :func:`label_array` made of each group's labels, None where a group has none.
        threshold: of two classes, the number above which a lone score means the second one.

    Raises:
        InputError: the target lists a class that ``given`` lacks, labels of two kinds, or fewer than two classes.
    """
    if is_target(target):
        if threshold is not None:
            raise InputError(
                f"threshold={threshold!r} does not apply to a target of your own: let it see to that itself"
            )
        return _of_a_target(target, given)
    found = _classes(target, given, labels)
    return found if threshold is None else replace(found, threshold=threshold, open=False)


def _classes(
    target: Any, given: int | Sequence[Any] | Classes | None, labels: Mapping[str, NDArray[Any] | None]
) -> Classes:
    target = adapted(target)
    own = target.names if isinstance(target, TextClassifier) else own_classes(target)
    if isinstance(target, Recorded):
        labels = {**labels, "recorded answers": target.recorded_labels}
    listed = None if own is None else label_array(own, "the target's classes")
    if given is None:
        return _from_labels(labels) if listed is None else Classes(tuple(listed.tolist()))
    classes = _listed(given, "classes")
    missing = [] if listed is None else listed[classes.codes(listed) < 0].tolist()
    if missing:
        raise InputError(f"classes: the target also knows {missing[:5]}; name every class that it can answer")
    return classes


def _of_a_target(target: Target, given: Any) -> Classes:
    """The classes of a target of the user's own; what is given beside them must be the same."""
    known = target.classes
    if not isinstance(known, Classes):
        raise InputError(f"the target's classes is {known!r}: labelleaks.targets.Classes((0, 1)) is needed")
    if given is not None and _listed(given, "classes").names != known.names:
        raise InputError(
            f"classes={given!r}, but the target answers {len(known)} classes ({known}): leave classes= out"
        )
    return known


def _listed(given: Any, what: str) -> Classes:
    if isinstance(given, Classes):
        return given
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        if given < 2:
            raise InputError(f"{what}: {given} classes; at least 2 are needed")
        return Classes(tuple(range(int(given))))
    if isinstance(given, (str, float, bool)):
        raise InputError(f"{what}: {given!r} is neither a number of classes nor a list of their names")
    return Classes(tuple(label_array(given, what).tolist()))


def _from_labels(labels: Mapping[str, NDArray[Any] | None]) -> Classes:
    arrays = {what: array for what, array in labels.items() if array is not None}
    words = {what: array.dtype == object for what, array in arrays.items()}
    if len(set(words.values())) > 1:
        spelled = ", ".join(f"{what}: {'strings' if is_words else 'numbers'}" for what, is_words in words.items())
        raise InputError(f"labels are of two kinds ({spelled}); give all of them as the same kind")
    if not arrays:
        raise InputError("no labels were given: say which classes the target has, classes=10 or classes=['cat', 'dog']")
    seen = np.unique(np.concatenate(list(arrays.values()))).tolist()
    if any(words.values()) or seen[0] < 0 or seen[-1] >= max(_SPARSE, 10 * len(seen)):
        return Classes(tuple(seen), ordered=False)
    return Classes(tuple(range(int(seen[-1]) + 1)), open=True)
