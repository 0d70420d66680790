"""Texts, as rows or in a column of a table, as word codes, and queries back as they were: lists, arrays, Series."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.domains import Integer, Text, Tokens
from labelleaks.errors import InputError

__all__ = ["TextColumn", "TextFormat", "is_prose", "is_texts", "learn_texts", "strings"]

_PROSE_WORDS = 4
"""Words of a value on average from which on a column of many different values holds texts, not categories."""


class TextFormat:
    """Texts in the container that the user's own rows are in; made by :func:`learn_texts`."""

    kind = "text"
    torch = False
    plain = False
    numeric = False

    def __init__(self, library: str, dtype: Any, tokens: Tokens) -> None:
        self.library, self._dtype, self._tokens = library, dtype, tokens
        self.shape = (tokens.width,)

    def encode(self, rows: Any, what: str) -> Tensor:
        """Return float32 (n, positions): codes of the words of each text, 0 behind the last.

        Raises:
            InputError: rows that are no texts, or words that no text had when the format was learnt.
        """
        try:
            return torch.from_numpy(self._tokens.vocabulary.encode(strings(rows, what), self._tokens.width))
        except InputError as error:
            raise InputError(str(error) if str(error).startswith(what) else f"{what}: {error}") from None

    def decode(self, x: Tensor) -> Any:
        """Return codes (m, positions) as texts: a list, or an array or Series of the dtype that the rows had."""
        texts = self._tokens.vocabulary.decode(x.detach().cpu().numpy())
        if self.library == "list":
            return texts
        if self.library == "numpy":
            return np.array(texts, dtype=object) if str(self._dtype) == "object" else np.array(texts)
        import pandas as pd

        return pd.Series(texts, dtype=self._dtype)

    def domain(self) -> Tokens:
        """Return the domain of the encoded rows."""
        return self._tokens

    def describe(self) -> dict[str, Any]:
        """Return what a record says about the rows."""
        return {"kind": self.kind, "library": self.library, **self._tokens.vocabulary.settings.describe()}

    def digest(self) -> str:
        """Return a hash of everything that decides what a code stands for."""
        digest = hashlib.blake2b(f"{self.library} {self._dtype} ".encode(), digest_size=16)
        digest.update(self._tokens.vocabulary.digest().encode())
        return digest.hexdigest()


def is_texts(rows: Any) -> bool:
    """Whether rows are one text each: a list, a column of a data set, a 1-D array or a Series that begins with one."""
    if isinstance(rows, (str, bytes, Mapping)):
        return False
    if isinstance(rows, np.ndarray):
        return rows.ndim == 1 and (rows.dtype.kind == "U" or (rows.dtype == object and _begins_with_text(rows)))
    home, name = type(rows).__module__.partition(".")[0], type(rows).__name__
    listed = isinstance(rows, Sequence) or (home, name) in (("pandas", "Series"), ("datasets", "Column"))
    return listed and len(rows) > 0 and _begins_with_text(rows)


def _begins_with_text(rows: Any) -> bool:
    first = rows.iloc[0] if hasattr(rows, "iloc") else rows[0] if len(rows) else None
    return isinstance(first, str)


def strings(rows: Any, what: str) -> list[str]:
    """Return rows as a list of strings.

    Raises:
        InputError: a row that is no text (named), or no row.
    """
    if not is_texts(rows):
        raise InputError(f"{what}: a {type(rows).__name__}, but other rows are texts; give a list of strings")
    found = rows.tolist() if hasattr(rows, "tolist") else list(rows)
    odd = next((i for i, text in enumerate(found) if not isinstance(text, str)), None)
    if odd is not None:
        raise InputError(
            f"{what}: row {odd} is {found[odd]!r}, the rows before it are texts: give every row as a string (an empty "
            "one where there is no text), or leave the row out"
        )
    return [str(text) for text in found]


def learn_texts(groups: Mapping[str, Any], word: Text | None = None) -> TextFormat:
    """Learn the words of texts that belong together.

    Args:
        groups: what the rows are (``"members"``) -> texts; the first one's container and dtype count.
        word: how texts are taken apart; None: ``Text()``.

    Raises:
        InputError: rows that are no texts, more different words than float32 tells apart, or a text that does not come
            back as it was.
    """
    texts = {what: strings(rows, what) for what, rows in groups.items()}
    first = next(iter(groups.values()))
    numpy, series = isinstance(first, np.ndarray), hasattr(first, "iloc")
    library = "numpy" if numpy else "pandas" if series else "list"
    tokens = (word or Text()).learn(text for group in texts.values() for text in group)
    made = TextFormat(library, first.dtype if numpy or series else None, tokens)
    for what, group in texts.items():
        back = made.decode(made.encode(group, what))
        wrong = next((i for i, (a, b) in enumerate(zip(group, _listed(back), strict=True)) if a != b), None)
        if wrong is not None:
            raise InputError(
                f"{what}: row {wrong}: the text {group[wrong][:60]!r} does not come back from its array as it was; "
                "give a list of strings"
            )
    return made


def _listed(texts: Any) -> list[Any]:
    found: NDArray[Any] | list[Any] = texts
    return found.tolist() if hasattr(found, "tolist") else list(found)


@dataclass(frozen=True, eq=False)
class TextColumn:
    """Codec of a column of texts; values that are no strings (None, NaN) have no words and a number of their own."""

    tokens: Tokens
    others: tuple[Any, ...]
    """The values that are no strings."""

    @classmethod
    def learn(cls, values: NDArray[Any], word: Text) -> TextColumn:
        """Learn the words of a column's values (n,), n >= 1."""
        others = {repr(value): value for value in values.tolist() if not isinstance(value, str)}
        return cls(word.learn(filter(_is_text, values.tolist())), tuple(others[key] for key in sorted(others)))

    @property
    def parts(self) -> tuple[Tokens | Integer, ...]:
        return (self.tokens, Integer(0, len(self.others))) if self.others else (self.tokens,)

    @property
    def examples(self) -> NDArray[Any]:
        made = np.empty(1 + len(self.others), dtype=object)
        made[:] = ["", *self.others]
        return made

    def encode(self, values: NDArray[Any]) -> NDArray[np.float32]:
        texts = [value if isinstance(value, str) else "" for value in values.tolist()]
        codes = self.tokens.vocabulary.encode(texts, self.tokens.width)
        if not self.others:
            odd = next((i for i, value in enumerate(values.tolist()) if not isinstance(value, str)), None)
            if odd is not None:
                raise InputError(f"row {odd} is {values[odd]!r}, in a column where everything was text")
            return codes
        places = {repr(value): i + 1 for i, value in enumerate(self.others)}
        which = [0 if isinstance(value, str) else places.get(repr(value), -1) for value in values.tolist()]
        if -1 in which:
            raise InputError(f"row {which.index(-1)} is {values[which.index(-1)]!r}, which was there in no row before")
        return np.hstack([codes, np.array(which, np.float32)[:, None]])

    def decode(self, codes: NDArray[np.float32]) -> NDArray[Any]:
        made = np.empty(len(codes), dtype=object)
        made[:] = self.tokens.vocabulary.decode(codes[:, : self.tokens.width])
        if self.others:
            for i in np.flatnonzero(codes[:, -1] > 0.5).tolist():
                made[i] = self.others[min(round(float(codes[i, -1])), len(self.others)) - 1]
        return made

    def describe(self) -> dict[str, Any]:
        others = {"others": [str(value) for value in self.others]} if self.others else {}
        return {"kind": "text", **self.tokens.vocabulary.settings.describe(), **others}

    def key(self) -> bytes:
        return f"{self.tokens.vocabulary.digest()} {self.others!r}".encode()


def is_prose(values: NDArray[Any]) -> bool:
    """Whether a column's values are texts rather than categories: most of them differ, and they have several words."""
    texts = [value for value in values.tolist() if isinstance(value, str)] if values.dtype == object else []
    if 2 * len(set(texts)) <= max(len(texts), 2):
        return False
    return sum(len(text.split()) for text in texts) >= _PROSE_WORDS * len(texts)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
