"""Candidates as texts, where an input holds some: words, and those that were left out until the label changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["holds_words", "struck", "without_words"]

_MOST = 400
"""Words of a text that are shown."""


def holds_words(domain: Mapping[str, Any]) -> bool:
    """Whether a record's domain says which words the codes of its candidates stand for."""
    return any(True for _ in _texts(domain))


def struck(
    domain: Mapping[str, Any], x: NDArray[np.float32], perturbed: NDArray[np.float32] | None
) -> list[tuple[str, bool]]:
    """Return the words of one candidate, in order, and whether each was left out of ``perturbed``: at most 400."""
    found: list[tuple[str, bool]] = []
    for first, part in _texts(domain):
        words = part["vocabulary"]
        for place in range(first, first + int(part["positions"])):
            code = int(x[place])
            if code:
                found.append((words.get(str(code), "…"), perturbed is not None and int(perturbed[place]) != code))
    return found if len(found) <= _MOST else [*found[:_MOST], ("…", False)]


def without_words(domain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a domain's description without its words."""
    plain = {key: value for key, value in domain.items() if key != "vocabulary"}
    if isinstance(plain.get("parts"), list):
        plain["parts"] = [without_words(part) for part in plain["parts"]]
    return plain


def _texts(domain: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Parts that are texts with their words, and the first column of each."""
    first = 0
    for part in domain.get("parts", [domain]) if domain.get("kind") in ("text", "mixed") else []:
        if "vocabulary" in part and "positions" in part:
            yield first, part
        first += int(part.get("positions", part.get("width", 1)))
