"""A request's body and a parsed answer: JSON both ways, and what makes an answer one label a row. No network.

Fractions go out as the shortest decimal form of their float64 value (of a float32: the same value in that width), which
reads back as exactly that value in either width; whole numbers as whole numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Body", "Breach", "dump", "entry", "kind", "parse", "rectangular"]


class Breach(Exception):
    """An answer came whole and is not one label for each row; its text says what it is."""


@dataclass(frozen=True)
class Body:
    """Content of a request."""

    content: bytes
    kind: str
    """Its ``Content-Type``."""


def parse(content: bytes) -> Any:
    """Parse the JSON of an answer; where it is several lines of JSON, a list of what each holds.

    Raises:
        ValueError: it is none (cut off, HTML, nested too deeply).
        Breach: it holds NaN or an infinity, which are no JSON and no label.
    """
    try:
        return _json(content)
    except ValueError:
        lines = [line for line in content.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [_json(line) for line in lines]


def _json(content: bytes) -> Any:
    def refuse(word: str) -> Any:
        raise Breach(f"it holds {word}")

    try:
        return json.loads(content, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dump(document: Any) -> Body:
    """Return a document as a JSON body; arrays in it are lists of numbers."""
    import orjson

    content = orjson.dumps(document, default=_objects, option=orjson.OPT_SERIALIZE_NUMPY)
    return Body(content, "application/json")


def _objects(value: Any) -> Any:
    """An array of objects as a list, which orjson does not make of it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON")


def entry(answer: Any, key: str, what: str) -> Any:
    """Return ``answer[key]``; Breach where the answer is no object or lacks it."""
    if not isinstance(answer, dict) or key not in answer:
        found = f"an object with {', '.join(map(repr, list(answer)[:5]))}" if isinstance(answer, dict) else kind(answer)
        raise Breach(f"it is {found}, not {what} with {key!r}")
    return answer[key]


def kind(value: Any) -> str:
    """Name a JSON value's kind for a message."""
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def rectangular(values: Any, rows: int) -> NDArray[Any]:
    """A list of labels or of scores as an array; Breach where it is none for ``rows`` rows, or holds null."""
    if not isinstance(values, list):
        raise Breach(f"its labels are {kind(values)}, not a list")
    if len(values) != rows:
        raise Breach(f"it has {len(values)} labels for {rows} rows")
    leaves, kinds = values, set(map(type, values))
    if list in kinds:
        if len(kinds) > 1 or len(set(map(len, values))) > 1:
            raise Breach("its scores are of unequal length")
        leaves = [leaf for value in values for leaf in value]
        kinds = set(map(type, leaves))
    if kinds <= {int, float} and kinds:
        found = np.array(values, dtype=np.int64 if kinds == {int} and _small(leaves) else np.float64)
    elif len(kinds) == 1 and kinds <= {str, bool}:
        found = np.array(values, dtype=object if kinds == {str} else np.bool_)
    else:
        raise Breach(f"its labels hold {' and '.join(sorted(kind(leaf) for leaf in _one_of_each(leaves)))}")
    return found


def _small(values: list[int]) -> bool:
    return max(values) < 2**63 and min(values) > -(2**63)


def _one_of_each(values: list[Any]) -> list[Any]:
    return list({type(value): value for value in values}.values()) or [None]
