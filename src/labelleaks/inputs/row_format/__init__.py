"""Row formats: encoders of a user's own kind of rows as the core's tensors, and of every query back.

*The target sees exactly what the user's own code would send it.* A format is learnt once from all rows of a run, or
from what the user says of them. ``decode(encode(rows))`` equals ``rows``, type for type; what cannot be carried exactly
is refused before the first label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from labelleaks.core.domains import Continuous, Domain, Integer, Text
from labelleaks.errors import InputError
from labelleaks.inputs.row_format.array_tables import is_flat, learn_array_table, needs_columns
from labelleaks.inputs.row_format.arrays import float32_rows, learn_array, learn_dict
from labelleaks.inputs.row_format.frames import Declared, FrameFormat, is_frame, learn_frame
from labelleaks.inputs.row_format.pictures import Pictures, learn_pictures
from labelleaks.inputs.row_format.plain_tables import Columns, DictOfColumns, NumberTable
from labelleaks.inputs.row_format.text import is_texts, learn_texts

__all__ = [
    "Columns",
    "DictOfColumns",
    "FrameFormat",
    "NumberTable",
    "Pictures",
    "RowFormat",
    "Table",
    "float32_rows",
    "is_frame",
    "is_texts",
    "learn",
]


@dataclass(frozen=True)
class Table:
    """Domains of some columns of a table; those of the others are read off the rows.

    ``Table({"age": Integer(0, 120), "income": Continuous(0, 1e6), "city": ["rome", "oslo"]})``

    Args:
        columns: by name: bounds, the list of a column's values, or ``Text()``.

    Raises:
        InputError: anything else in their place.
    """

    columns: Mapping[str, Declared] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.columns, Mapping):
            raise InputError(f"Table: a dict of columns is needed, got a {type(self.columns).__name__}")
        for name, given in self.columns.items():
            listed = isinstance(given, Sequence) and not isinstance(given, str) and len(given) > 0
            if not (isinstance(given, (Continuous, Integer, Text)) or listed):
                raise InputError(
                    f"Table: column {name!r}: {given!r} is neither Integer(low, high), Continuous(low, high), "
                    "Text() nor a list of values"
                )


class RowFormat(Protocol):
    """Encoder of rows of one kind as float32 tensors, exact both ways."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one encoded row."""
        ...

    @property
    def torch(self) -> bool:
        """Whether queries are torch tensors, which stay on their device."""
        ...

    @property
    def plain(self) -> bool:
        """Whether queries are float32 arrays or tensors, as the core has them."""
        ...

    @property
    def numeric(self) -> bool:
        """Whether codes are the rows' own numbers, feature by feature, but for their dtype."""
        ...

    def encode(self, rows: Any, what: str) -> Tensor:
        """Return float32 (n, *shape) for rows of this kind; ``what`` names them in messages.

        Raises:
            InputError: rows of another kind, or a value that cannot be carried exactly (named, with its place).
        """
        ...

    def decode(self, x: Tensor) -> Any:
        """Return encoded rows (m, *shape) as what the user's own code would send: a copy."""
        ...

    def domain(self) -> Domain:
        """Return the domain of encoded rows where the user names none."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a record says about the rows (JSON types only)."""
        ...

    def digest(self) -> str:
        """Return a hash of everything that decides what a code stands for."""
        ...


def learn(
    groups: Mapping[str, Any],
    *,
    declared: Mapping[str, Declared] | None = None,
    positional: bool = False,
    text: Text | None = None,
) -> RowFormat:
    """Return the format of rows that belong together.

    Args:
        groups: what the rows are (``"members"``) -> rows of one kind: arrays, tensors, sparse matrices, tables with
            named columns, dicts of arrays, or texts.
        declared: what the user says of some columns of a table, by name.
        positional: a table's columns are numbers, one feature each, for a domain that goes by position.
        text: how texts are taken apart; None: ``Text()``.

    Raises:
        InputError: kinds that do not fit together, or a value that cannot be carried exactly.
    """
    what, first = next(iter(groups.items()))
    for other, rows in groups.items():
        if _kind(rows) != _kind(first):
            raise InputError(
                f"{other}: a {type(rows).__name__}, but {what} are a {type(first).__name__}; give all as one kind"
            )
    if is_texts(first):
        if declared or positional:
            raise InputError(f"domain: {what} are texts: give ll.Text(), or leave domain= out")
        return learn_texts(groups, text)
    if text is not None:
        raise InputError(f"domain=ll.Text(): {what} are no texts: give a list of strings, or say ll.Table({{...}})")
    if is_frame(first):
        return learn_frame(groups, declared=declared, positional=positional)
    if isinstance(first, Pictures):
        return learn_pictures(groups)
    if any(needs_columns(rows, positional) for rows in groups.values()) or (declared and is_flat(first)):
        return learn_array_table(groups, declared=declared, positional=positional)
    if declared:
        raise InputError(
            "domain: columns are named, but the rows are no table: give a DataFrame, or an array (n, width)"
        )
    return learn_dict(groups) if _kind(first) == "dict" else learn_array(groups)


def _kind(rows: Any) -> str:
    """Kind of rows, which all groups have in common."""
    if is_frame(rows):
        return "table"
    if isinstance(rows, Mapping) and not hasattr(rows, "toarray"):
        return "dict"
    if isinstance(rows, Pictures):
        return "pictures"
    return "texts" if is_texts(rows) else "array"
