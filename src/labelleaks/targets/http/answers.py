"""One label or one list of scores a row, in whatever form of JSON services answer them.

A row's answer is a label, a list of scores, a map of class to score (``{"cat": 0.7, "dog": 0.3}``), a ranked list of
``{"label": "cat", "score": 0.7}`` (Hugging Face), ``"0.7:3:cat"`` (Triton's classification), or any of these as JSON in
a string. What a row's answer is read as depends on that row and on the user's word alone.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.core.classes import Classes
from labelleaks.errors import InputError
from labelleaks.targets.http.body import Breach, entry, kind, rectangular
from labelleaks.targets.http.options import Http

__all__ = ["chosen", "csv_fields", "label_in", "per_row", "searched", "spelled", "unwrapped"]

_LABELS = ("label", "class", "class_name", "name", "category", "prediction", "predicted_label")
_SCORES = ("score", "probability", "prob", "confidence")
_RANKED = re.compile(r"(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?):(\d+)(?::(.*))?", re.DOTALL)
"""Triton's classification extension: ``value:index`` or ``value:index:label``."""


def per_row(values: Any, rows: int, options: Http, classes: Classes | None) -> NDArray[Any]:
    """Return labels (m,) or scores (m, K) of an answer to ``rows`` rows.

    Args:
        values: a list with the answer of each row; an object of lists, of which ``options.output`` names one.
        options: ``output``, ``label_map`` and ``answers`` are the user's word on what is answered.
        classes: those of the run; None: not known yet, a map's keys are taken for its classes.

    Raises:
        Breach: anything else; says how it is mended.
    """
    values = unwrapped(values)
    if isinstance(values, dict) and options.output is not None:
        values = entry(values, options.output, "an object")
    if isinstance(values, list) and any(map(_is_object_or_list_of, values)):
        values = [_of_objects(value, options, classes) for value in values]
    elif isinstance(values, list) and values and all(map(_is_ranked, values)):
        values = [_best([(float(s), i, t) for s, i, t in map(_ranked, _listed(v))], classes) for v in values]
    return chosen(rectangular(values, rows), options, classes)


def chosen(answer: NDArray[Any], options: Http, classes: Classes | None) -> NDArray[Any]:
    """Return an answer as the user says that its whole numbers are meant: as scores, or as ids of which one counts.

    JSON of ``1.0`` is often ``1``, so that whole numbers may be fractions.
    """
    whole = answer.dtype.kind in "iu"
    if whole and answer.size == len(answer) and classes is not None and classes.threshold is not None:
        return answer.astype(np.float64)
    if options.answers == "scores" and answer.ndim == 2 and whole:
        return answer.astype(np.float64)
    return answer[:, 0] if options.answers == "ids" and answer.ndim == 2 else answer


def unwrapped(value: Any) -> Any:
    """Return an answer with objects and lists in place of the texts that hold them as JSON."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return unwrapped(json.loads(value))
        except (ValueError, RecursionError):
            return value
    if isinstance(value, dict):
        return {key: unwrapped(inner) for key, inner in value.items()} if _holds_text(value.values()) else value
    if isinstance(value, list) and _holds_text(value):
        return [unwrapped(inner) for inner in value]
    return value


def _holds_text(values: Any) -> bool:
    return any(isinstance(value, (str, dict, list)) for value in values)


def _is_object_or_list_of(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _of_objects(value: Any, options: Http, classes: Classes | None) -> Any:
    """A row's answer that is an object, or a ranked list of objects."""
    if not _is_object_or_list_of(value):
        raise Breach(f"it is {kind(value)} for one row and an object for another")
    if isinstance(value, list):
        return _best([_label_and_score(one) for one in value], classes)
    if options.output is not None:
        return entry(value, options.output, "a prediction")
    if len(value) == 1:
        return next(iter(value.values()))
    if _is_map(value, options, classes):
        return _best([(float(score), -1, name) for name, score in value.items()], classes)
    if len(value) == 2 and {key.lower() for key in value} <= {*_LABELS, *_SCORES}:
        return _label_and_score(value)[2]
    raise Breach(
        f"its predictions have {', '.join(map(repr, list(value)[:5]))}: say output: NAME of the one that holds labels "
        "or scores; where these are the classes and their scores, name them with classes: […], or with label_map:"
    )


def _is_map(value: dict[str, Any], options: Http, classes: Classes | None) -> bool:
    if not value or not all(type(score) in (int, float) for score in value.values()):
        return False
    if options.label_map is not None:
        return set(value) <= {spelled(key) for key in options.label_map}
    if classes is None:
        return any(type(score) is float for score in value.values()) and not set(value) & {*_LABELS, *_SCORES}
    return set(value) <= {spelled(name) for name in classes.names}


def _label_and_score(one: Any) -> tuple[float, int, Any]:
    """(score, no index, label) of ``{"label": "cat", "score": 0.7}``; Breach of anything else."""
    keys = {key.lower(): key for key in one} if isinstance(one, dict) else {}
    labels, scores = ([keys[word] for word in words if word in keys] for words in (_LABELS, _SCORES))
    if len(labels) != 1 or len(scores) != 1 or type(one[scores[0]]) not in (int, float):
        found = f"an object with {', '.join(map(repr, keys.values()))}" if keys else kind(one)
        raise Breach(
            f"its ranked list holds {found}, not one label and one score each: say label: with protocol template"
        )
    return float(one[scores[0]]), -1, one[labels[0]]


def _best(ranked: list[tuple[float, int, Any]], classes: Classes | None) -> Any:
    """Label of the highest score; of equal ones that of the first class."""
    names = [_label_of(index, text, classes) for _, index, text in ranked]
    order = {} if classes is None else {spelled(name): place for place, name in enumerate(classes.names)}
    top = max(score for score, _, _ in ranked)
    best = [name for name, (score, _, _) in zip(names, ranked, strict=True) if score == top]
    return min(best, key=lambda name: (order.get(spelled(name), len(order)), str(name)))


def _label_of(index: int, text: Any, classes: Classes | None) -> Any:
    """A label as the classes have it: a class's name that is a number comes as text where it is a key."""
    if index >= 0 and (text is None or (classes is not None and classes.plain)):
        return index if classes is None or index >= len(classes) else classes.names[index]
    if classes is None:
        return text
    return next((name for name in classes.names if spelled(name) == spelled(text)), text)


def _is_ranked(value: Any) -> bool:
    texts = _listed(value)
    return bool(texts) and all(isinstance(text, str) and _RANKED.fullmatch(text) for text in texts)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _ranked(text: str) -> tuple[str, int, str | None]:
    match = _RANKED.fullmatch(text)
    assert match is not None
    return match[1], int(match[2]), match[3]


def spelled(value: Any) -> str:
    """Return a label as the key of a map: 1, 1.0 and "1" are one."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def searched(path: Any, answer: Any, rows: int) -> Any:
    """Return what a JMESPath finds in an answer: a list with an entry for each row. Breach where it fails on it."""
    from jmespath.exceptions import JMESPathError

    try:
        found = unwrapped(path.search(unwrapped(answer)))
    except JMESPathError as error:
        raise Breach(f"the path {path.expression!r} fails on it ({' '.join(str(error).split())})") from None
    if rows == 1 and (not isinstance(found, list) or _is_one_row(found)):
        return [found]
    return found


def _is_one_row(values: list[Any]) -> bool:
    """Whether a list is the scores of one row; whole numbers could be the labels of several rows that were not sent."""
    several = len(values) > 1
    return several and (all(type(v) is float for v in values) or all(isinstance(v, Mapping) for v in values))


def csv_fields(content: bytes) -> list[Any]:
    """Return lines of CSV, or one line of as many values, as numbers and texts.

    Raises:
        ValueError: nothing is there, or it is no text.
    """
    try:
        lines = [line for line in csv.reader(content.decode("utf-8").splitlines()) if line]
    except (UnicodeDecodeError, csv.Error):
        raise ValueError("no CSV") from None
    if not lines or lines[0][0].lstrip()[:1] == "<":  # a web page
        raise ValueError("no CSV")
    values = [[_field(text) for text in line] for line in lines]
    if len(values) == 1:
        return values[0]
    return [line[0] for line in values] if all(len(line) == 1 for line in values) else values


def _field(text: str) -> Any:
    for kind_of in (int, float):
        try:
            value = kind_of(text)
        except ValueError:
            continue
        return value if value == value and abs(value) != float("inf") else text
    return text.strip()


def label_in(answers: Sequence[tuple[int, Any]], options: Http) -> str:
    """Return the JMESPath to the labels or scores in all of some answers.

    Args:
        answers: (rows of the request, the parsed answer).

    Raises:
        InputError: there are none, or several things that may be labels and do not say the same; all are listed.
    """

    found, fractions = _readings(answers, options)
    apart = {path: labels for path, labels in found.items() if not _inside_another(path, found)}
    if len({json.dumps(labels) for labels in apart.values()}) == 1:
        return next((path for path in apart if path != "@"), "@")
    if apart:
        several = ", ".join(f"{path} ({', '.join(map(str, labels[:3]))}, …)" for path, labels in apart.items())
        raise InputError(
            f"several things in its answers may be labels: {several}: say which, --set label={next(iter(apart))}"
        )
    shown = " ".join(json.dumps(answers[0][1]).split())[:200]
    number = next((path for path in fractions if path != "@"), "@")
    cut = f"; one number a row of two classes is --set label={number} --set threshold=0.5" if fractions else ""
    raise InputError(f"no labels are found in its answer {shown}: say where they are, --set label=PATH{cut}")


def _readings(answers: Sequence[tuple[int, Any]], options: Http) -> tuple[dict[str, list[Any]], list[str]]:
    """Labels in all answers by path, and the paths of one fraction a row."""
    import jmespath

    found: dict[str, list[Any]] = {}
    fractions = []
    for path in dict.fromkeys(_paths(answers[0][1], 3)):
        try:
            read = [per_row(searched(jmespath.compile(path), a, m), m, options, None) for m, a in answers]
        except Breach:
            continue
        flat = [one.argmax(1) if one.ndim == 2 and one.shape[1] > 1 else one.reshape(-1) for one in read]
        if all(one.dtype.kind != "f" or bool((one == np.rint(one)).all()) for one in flat):
            found[path] = [label for one in flat for label in one.tolist()]
        else:
            fractions.append(path)
    return found, fractions


def _inside_another(path: str, paths: Mapping[str, list[Any]]) -> bool:
    """Whether a path leads into what another finds labels in: a part of a map or of a ranked list."""
    return any(path != other and path.startswith((f"{other}.", f"{other}[")) for other in paths)


def _paths(value: Any, depth: int, path: str = "") -> Iterator[str]:
    """Yield the paths to all values of an answer; those to values of objects in a list hold for each of them."""
    value = unwrapped(value)
    yield path or "@"
    if depth and isinstance(value, dict):
        for key, inner in value.items():
            name = key if re.fullmatch(r"[A-Za-z_]\w*", key) else json.dumps(key)
            yield from _paths(inner, depth - 1, f"{path}.{name}" if path else name)
    elif depth and isinstance(value, list) and value and isinstance(value[0], dict):
        yield from (f"{path}[*].{inner}" for inner in _paths(value[0], depth - 1) if inner != "@")
