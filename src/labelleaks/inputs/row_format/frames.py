"""Rows of a table with named columns (pandas, polars, pyarrow) as float32 features, and queries back as such tables."""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.domains import Continuous, Domain, Integer, Mixed, OneHot, Text, Tokens
from labelleaks.errors import InputError, nearest
from labelleaks.inputs.row_format.columns import Library, library_of
from labelleaks.inputs.row_format.features import Codec, Constant, Numbers, Places, numbers, one_of
from labelleaks.inputs.row_format.text import TextColumn, is_prose

__all__ = ["Declared", "FrameFormat", "is_frame", "learn_frame"]

Declared = Continuous | Integer | Text | Sequence[Any]
"""What a user says of a column: bounds, the list of its values, or that it holds texts."""


@dataclass(frozen=True, eq=False)
class Column:
    """One column: its dtype in the user's library, and its values as features."""

    name: Any
    dtype: Any
    codec: Codec
    missing: Literal["never", "some", "always"]
    """Whether values are missing: of some, there is a feature more, 1 where one is."""
    filler: Any
    """What stands among the codes for a missing value: a value that is there."""

    @property
    def parts(self) -> tuple[Continuous | Integer | OneHot | Tokens, ...]:
        return (*self.codec.parts, *((Integer(0, 1),) if self.missing == "some" else ()))

    @property
    def width(self) -> int:
        return sum(part.width for part in self.parts)

    def encode(self, values: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[np.float32]:
        if self.missing == "never" and missing.any():
            raise InputError(f"row {int(missing.argmax())} has no value, in a column where none was missing")
        if self.missing == "always" and not missing.all():
            raise InputError(f"row {int((~missing).argmax())} has a value, in a column where all were missing")
        filled = values.copy()
        if missing.any():
            filled[missing] = self.filler
        codes = self.codec.encode(filled)
        return np.hstack([codes, missing.astype(np.float32)[:, None]]) if self.missing == "some" else codes

    @property
    def looked_up(self) -> bool:
        """Whether its first feature is a number that is looked up on the way back."""
        return isinstance(self.codec, Numbers) and not self.codec.exact

    def decode(
        self, codes: NDArray[np.float32], place: NDArray[np.int32] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        if place is not None and isinstance(self.codec, Numbers):
            gone = codes[:, -1] > 0.5 if self.missing == "some" else None
            return self.codec.decode(codes[:, :1], place), gone
        if self.missing == "never":
            return self.codec.decode(codes), None
        if self.missing == "always":
            return self.codec.decode(codes), np.ones(len(codes), bool)
        return self.codec.decode(codes[:, :-1]), codes[:, -1] > 0.5

    def describe(self) -> dict[str, Any]:
        found = {"name": str(self.name), "dtype": str(self.dtype), **self.codec.describe()}
        return found if self.missing == "never" else {**found, "missing": self.missing}


class FrameFormat:
    """A table's columns, in the user's order, with their dtypes; made by :func:`learn_frame`."""

    kind = "table"

    def __init__(self, library: Library, columns: Sequence[Column], dummies: Sequence[tuple[int, int]]) -> None:
        self._library, self._columns, self._dummies = library, tuple(columns), tuple(dummies)
        ends = np.cumsum([0, *(column.width for column in columns)])
        self._slices = [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
        self.shape = (int(ends[-1]),)
        self._order: Sequence[int] = range(len(columns))

    torch = False
    plain = False

    @property
    def numeric(self) -> bool:
        """Whether codes are the rows' own numbers, feature by feature, but for their dtype."""
        codecs = [column.codec for column in self._columns if column.missing == "never"]
        mine = [codec for codec in codecs if isinstance(codec, Numbers) and codec.exact and codec.offset == 0]
        return len(mine) == len(self._columns)

    @property
    def names(self) -> tuple[Any, ...]:
        """Names of the columns, in the user's order."""
        return tuple(column.name for column in self._columns)

    def ordered_as(self, names: Sequence[str], *, drops_others: bool) -> FrameFormat:
        """Return this format with the columns of a decoded table in the order that its target was fitted on.

        Args:
            names: of the columns that the target was fitted on.
            drops_others: the target lets other columns fall, so that they are sent behind these.

        Raises:
            InputError: a column is missing, or there is another one and the target would refuse it.
        """
        place = {str(name): i for i, name in enumerate(self.names)}
        missing = [name for name in names if name not in place]
        if missing:
            others = [name for name in place if name not in set(names)]
            raise InputError(
                f"the target was fitted on a column {missing[0]!r}, which the rows lack{nearest(missing[0], others)}"
            )
        extra = [name for name in place if name not in set(names)]
        if extra and not drops_others:
            raise InputError(
                f"column {extra[0]!r} is none of the {len(names)} that the target was fitted on: leave it out"
            )
        made = copy.copy(self)
        made._order = [place[name] for name in [*names, *extra]]
        return made

    def encode(self, rows: Any, what: str) -> Tensor:
        """Return float32 (n, width) for a table with these columns, in any order.

        Raises:
            InputError: columns missing or too many (named), or a value that cannot be carried (column named).
        """
        check_names(self.names, self._library.names(rows), what)
        parts = []
        for column in self._columns:
            values, missing, dtype = self._library.split(rows, column.name)
            try:
                if dtype != column.dtype:
                    raise InputError(f"is {dtype} here and {column.dtype} elsewhere: bring both to one dtype")
                parts.append(column.encode(values, missing))
            except InputError as error:
                raise InputError(f"{what}: column {column.name!r}: {error}") from None
        return torch.from_numpy(np.ascontiguousarray(np.hstack(parts)))

    def decode(self, x: Tensor) -> Any:
        """Return (m, width) codes as a table of the user's library: same columns, order and dtypes."""
        codes = x.detach().cpu().numpy()
        places = dict(zip(self._looked_up, self._places(codes[:, self._firsts].T), strict=True)) if self._firsts else {}
        made = {}
        for i in self._order:
            column, where = self._columns[i], self._slices[i]
            values, missing = column.decode(codes[:, where], places.get(i))
            made[column.name] = (values, missing, column.dtype)
        return self._library.build(made, len(codes))

    def each_value(self) -> Tensor:
        """Return codes (m, width) of rows that show every category of every column, and one number of the others."""
        examples = [column.codec.examples for column in self._columns]
        rows = max(map(len, examples))
        parts = []
        for column, values in zip(self._columns, examples, strict=True):
            codes = column.codec.encode(values[np.arange(rows) % len(values)])
            parts.append(np.hstack([codes, np.zeros((rows, column.width - codes.shape[1]), np.float32)]))
        return torch.from_numpy(np.ascontiguousarray(np.hstack(parts)))

    @cached_property
    def _looked_up(self) -> list[int]:
        """The columns of numbers that are looked up, all in one table."""
        return [i for i, column in enumerate(self._columns) if column.looked_up and column.missing != "always"]

    @cached_property
    def _firsts(self) -> list[int]:
        return [self._slices[i].start for i in self._looked_up]

    @cached_property
    def _places(self) -> Places:
        codecs = [self._columns[i].codec for i in self._looked_up]
        return Places([codec.codes for codec in codecs if isinstance(codec, Numbers)])

    def domain(self) -> Domain:
        """Return what the columns were seen to hold, or were said to, as a domain of the encoded rows."""
        parts: list[Continuous | Integer | OneHot | Tokens] = []
        heads = dict(self._dummies)
        place = 0
        while place < len(self._columns):
            if place in heads:
                parts.append(OneHot(heads[place] - place))
                place = heads[place]
                continue
            parts.extend(self._columns[place].parts)
            place += 1
        return Mixed(*parts)

    def describe(self) -> dict[str, Any]:
        names = self.names
        found: dict[str, Any] = {
            "kind": self.kind,
            "library": self._library.name,
            "columns": [column.describe() for column in self._columns],
        }
        if self._dummies:
            found["one_of"] = [[str(name) for name in names[a:b]] for a, b in self._dummies]
        return found

    def digest(self) -> str:
        """Return a hash of everything that decides what a code stands for."""
        digest = hashlib.blake2b(self._library.name.encode(), digest_size=16)
        for column in self._columns:
            digest.update(f"{column.name!r} {column.dtype} {column.missing} ".encode() + column.codec.key())
        return digest.hexdigest()


def is_frame(rows: Any) -> bool:
    """Whether rows are a table with named columns of a library that is known."""
    return library_of(rows) is not None


def check_names(known: Sequence[Any], given: Sequence[Any], what: str) -> None:
    """Refuse a table that lacks columns or has others.

    Raises:
        InputError: names the columns, and the nearest known one.
    """
    if len(set(given)) < len(given):
        twice = next(name for name in given if list(given).count(name) > 1)
        raise InputError(f"{what}: column {twice!r} is there twice; give each column a name of its own")
    missing = [name for name in known if name not in set(given)]
    extra = [name for name in given if name not in set(known)]
    if missing:
        near = nearest(str(missing[0]), [str(name) for name in extra]) if extra else ""
        raise InputError(f"{what}: column {missing[0]!r} is missing{near}; all rows need the columns {_shown(known)}")
    if extra:
        raise InputError(f"{what}: column {extra[0]!r} is in no other rows; leave it out, or give it to all")


def learn_frame(
    groups: Mapping[str, Any], *, declared: Mapping[str, Declared] | None = None, positional: bool = False
) -> FrameFormat:
    """Learn the columns of tables that belong together.

    Args:
        groups: what each table is (``"members"``) -> table; the first one's order of columns counts.
        declared: what the user says of some columns: ``Integer(0, 120)``, ``Continuous(0, 1)``, ``Text()``, or a list
            of values.
        positional: each column has exactly one feature, in its own units, for a domain that goes by position.

    Raises:
        InputError: columns that differ between tables, dtypes that differ, a value that cannot be carried.
    """
    declared = dict(declared or {})
    first = next(iter(groups.values()))
    library = library_of(first)
    assert library is not None
    names = library.names(first)
    check_names(names, names, next(iter(groups)))
    for what, table in groups.items():
        if library_of(table) != library:
            raise InputError(f"{what}: a {type(table).__name__}, but other rows are a {type(first).__name__}")
        check_names(names, library.names(table), what)
    for name in declared:
        if name not in names:
            raise InputError(f"domain: there is no column {name!r}{nearest(str(name), [str(n) for n in names])}")
    columns = [_learn(library, groups, name, declared.get(name), positional) for name in names]
    made = FrameFormat(library, columns, [] if positional else _dummies(columns, library, groups))
    if made.shape == (0,):
        raise InputError("every column holds one value only: there is nothing that an attack could change")
    for what, table in groups.items():
        _check_exact(made, library, table, what)
    return made


def _learn(
    library: Library, groups: Mapping[str, Any], name: Any, declared: Declared | None, positional: bool
) -> Column:
    split = {what: library.split(table, name) for what, table in groups.items()}
    dtypes = {what: dtype for what, (_, _, dtype) in split.items()}
    what, dtype = next(iter(dtypes.items()))
    for other, found in dtypes.items():
        if found != dtype:
            raise InputError(
                f"{other}: column {name!r} is {found}, but {dtype} in {what}; bring both to one dtype (astype)"
            )
    values = np.concatenate([values for values, _, _ in split.values()])
    missing = np.concatenate([missing for _, missing, _ in split.values()])
    try:
        return _column(library, name, dtype, values, missing, declared, positional)
    except InputError as error:
        raise InputError(f"{what}: column {name!r}: {error}") from None


def _column(
    library: Library,
    name: Any,
    dtype: Any,
    values: NDArray[Any],
    missing: NDArray[np.bool_],
    declared: Declared | None,
    positional: bool,
) -> Column:
    how: Literal["never", "some", "always"] = "always" if missing.all() else "some" if missing.any() else "never"
    there = values[~missing]
    number = values.dtype.kind in "biuf"
    if positional:
        if not number or how != "never":
            raise InputError(
                f"{'has missing values' if number else f'is {dtype}'}, and domain= goes by position and number; leave "
                "domain= out (it is then read off the columns), or say ll.Table({...})"
            )
        return Column(name, dtype, numbers(there, offset=0, always_moves=True), "never", there[0])
    known = library.known(dtype)
    codec: Codec
    if len(there) == 0:
        filler = np.zeros(1, values.dtype)[0]
        codec = Constant(values.dtype, filler)
    elif isinstance(declared, Text) or (declared is None and known is None and is_prose(there)):
        codec, filler = TextColumn.learn(there, declared or Text()), there[0]
    elif isinstance(declared, (Continuous, Integer)):
        codec, filler = numbers(there, low=declared.low, high=declared.high), there[0]
    elif declared is not None or not number or known is not None:
        codec, filler = one_of(list(there.tolist()), values.dtype, known=declared or known), there[0]
    elif values.dtype.kind == "b":
        codec, filler = numbers(there, low=0, high=1), there[0]
    else:
        _check_finite(there)
        codec, filler = numbers(there), there.min()
    return Column(name, dtype, codec, how, filler)


def _check_finite(values: NDArray[Any]) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError("holds infinity; replace it by a number, or by a missing value")


def _dummies(columns: Sequence[Column], library: Library, groups: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Find neighbouring 0/1 columns called ``prefix_value`` of which exactly one is 1 in every row (get_dummies)."""
    found = []
    start = 0
    while start < len(columns):
        prefix = str(columns[start].name).rpartition("_")[0]
        stop = start
        while stop < len(columns) and prefix and str(columns[stop].name).startswith(f"{prefix}_"):
            stop += 1
        block = columns[start:stop]
        if stop - start > 1 and all(c.parts == (Integer(0, 1),) and c.missing == "never" for c in block):
            sums = [sum(library.split(t, c.name)[0].astype(np.int64) for c in block) for t in groups.values()]
            if all((np.asarray(total) == 1).all() for total in sums):
                found.append((start, stop))
        start = max(stop, start + 1)
    return found


def _check_exact(made: FrameFormat, library: Library, table: Any, what: str) -> None:
    """Refuse what does not come back as it was; a last look, whatever the library may have done."""
    back = made.decode(made.encode(table, what))
    for name in made.names:
        row = library.first_difference(table, back, name)
        if row is not None:
            raise InputError(
                f"{what}: column {name!r}, row {row}: the value cannot be carried exactly; give it as text"
            )


def _shown(names: Sequence[Any]) -> str:
    return ", ".join(map(str, list(names)[:8])) + (", …" if len(names) > 8 else "")
