"""One column's values as float32 features, exact both ways: numbers and categories.

A *codec* is learnt from all values that a column has in a run. What was learnt comes back from :meth:`Codec.decode` as
it was, bit for bit and type for type; a code that an attack made up comes back as a value that the column could hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labelleaks.core.domains import Continuous, Integer, OneHot, Tokens
from labelleaks.errors import InputError

__all__ = ["MOST_ONE_HOT", "Categories", "Codec", "Constant", "Numbers", "numbers", "one_of"]

MOST_ONE_HOT = 512
"""Categories that get a feature each; a column with more has one feature, the place of the category in their order."""

_LARGEST = 1e38  # float32 ends at 3.4e38

DomainPart = Continuous | Integer | OneHot | Tokens
Codes = NDArray[np.float32]
Raw = NDArray[Any]


class Codec(Protocol):
    """Encoder of one column's values as features."""

    @property
    def parts(self) -> tuple[DomainPart, ...]:
        """Domains of its features; their widths add up to the number of features, 0 where the column is constant."""
        ...

    @property
    def examples(self) -> Raw:
        """Every category, or one of the numbers, that was learnt or declared (k,); k >= 1."""
        ...

    def encode(self, values: Raw) -> Codes:
        """Return float32 (n, width) for values (n,). InputError where one cannot be carried exactly."""
        ...

    def decode(self, codes: Codes) -> Raw:
        """Return the values (n,) that codes (n, width) stand for: those that were learnt exactly, else the nearest."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what the column may hold (JSON types only)."""
        ...

    def key(self) -> bytes:
        """Return bytes that are equal where codes stand for the same values."""
        ...


# --- numbers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Numbers:
    """Numbers of one dtype, in their own units less ``offset``.

    float32 has 24 bits: where two values would share a code, codes are moved to the next free float32, in the order of
    the values, and looked up on the way back.
    """

    dtype: np.dtype[Any]
    offset: int
    values: Raw
    """(k,) learnt values, increasing"""
    codes: Codes
    """(k,) their codes, increasing"""
    low: float
    high: float
    """Bounds of the codes."""
    exact: bool
    """Whether every learnt value is its code and the offset, so that nothing need be looked up."""
    even: bool
    """Whether codes lie as far apart as their values, but for float32's rounding."""

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return self.dtype.kind in "biu"

    @property
    def parts(self) -> tuple[DomainPart, ...]:
        if self.whole and self.even:
            return (Integer(int(self.low), int(self.high)),)
        return (Continuous(self.low, self.high),)

    @property
    def examples(self) -> Raw:
        return self.values[:1]

    def encode(self, values: Raw) -> Codes:
        place = np.minimum(np.searchsorted(self.values, values), len(self.values) - 1)
        codes = np.where(self.values[place] == values, self.codes[place], self._near(values))
        new = self.decode(codes[:, None]) != values
        if new.any():
            raise InputError(
                f"{values[new][0]!r} was not there when the columns were read, and float32 cannot hold it exactly"
            )
        return codes[:, None]

    def decode(self, codes: Codes, place: NDArray[np.int32] | None = None) -> Raw:
        """As :meth:`Codec.decode`; ``place`` (n,): what :class:`Places` gave for several columns."""
        codes = codes[:, 0]
        if self.exact:
            return self._value(codes)
        if place is None:
            place = self._places(codes[None])[0]
        made: Raw = self.values[place]
        if place.min(initial=0) < 0:
            new = place < 0
            made[new] = self._value(codes[new])
        return made

    @cached_property
    def _places(self) -> Places:
        return Places((self.codes,))

    @cached_property
    def _steps(self) -> NDArray[np.float64]:
        """The learnt values less the offset, once for all queries."""
        return self.values.astype(np.float64) - self.offset

    def _near(self, values: Raw) -> Codes:
        return (values.astype(np.longdouble) - np.longdouble(self.offset)).astype(np.float32)

    def _value(self, codes: Codes) -> Raw:
        """A value for any code: within the bounds of the dtype, whole where the dtype is."""
        wide = codes.astype(np.float64)
        if not self.even:
            wide = np.interp(wide, self.codes, self._steps)
        if not self.whole:
            return wide.astype(self.dtype)
        steps = np.rint(wide).astype(np.int64)
        return (steps + np.int64(self.offset)).astype(self.dtype)

    def describe(self) -> dict[str, Any]:
        low, high = (self._value(np.array([bound], np.float32))[0].item() for bound in (self.low, self.high))
        return {"kind": "integer" if self.whole else "continuous", "low": low, "high": high}

    def key(self) -> bytes:
        looked_up = b"" if self.exact else self.values.tobytes() + self.codes.tobytes()
        return f"{self.dtype} {self.offset} {self.even} ".encode() + looked_up


class Places:
    """Hash table of the places of many different float32 of several columns, some five times as fast as halving."""

    def __init__(self, columns: Sequence[Codes]) -> None:
        """Enter the codes of each column, all different within one."""
        sizes = [len(codes) for codes in columns]
        ends = np.cumsum([0, *sizes])
        self._first = ends[:-1].astype(np.int32)[:, None]
        self._column = np.repeat(np.arange(len(columns), dtype=np.int32), sizes)
        self._bits = np.concatenate([np.ascontiguousarray(codes).view(np.uint32) for codes in columns])
        bits = max(8, int(len(self._bits) * 4 - 1).bit_length())
        self._shift, self._mask = np.uint32(32 - bits), (1 << bits) - 1
        self._table = np.full(1 << bits, -1, np.int32)
        left = np.arange(len(self._bits), dtype=np.int32)
        slots = self._slots(self._bits, self._column)
        while len(left):
            free = self._table[slots] < 0
            self._table[slots[free]] = left[free]
            lost = self._table[slots] != left
            left, slots = left[lost], (slots[lost] + 1) & self._mask

    def _slots(self, bits: NDArray[np.uint32], column: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return where to look first: the golden ratio's bits (Knuth, 6.4), other ones for each column."""
        spread = (bits ^ (column.astype(np.uint32) * np.uint32(2246822519))) * np.uint32(2654435769)
        return (spread >> self._shift).astype(np.int32)

    def __call__(self, codes: Codes) -> NDArray[np.int32]:
        """Return each code's place within its column, -1 where it has none: int32 (columns, m), as codes are."""
        count, rows = codes.shape
        bits = np.ascontiguousarray(codes).view(np.uint32).reshape(-1)
        column = np.repeat(np.arange(count, dtype=np.int32), rows)
        slots = self._slots(bits, column)
        place = self._table[slots]
        unsettled = np.flatnonzero(
            self._others(place, bits, column)
        )  # a place that is free ends the search: there is none
        slots = slots[unsettled]
        while len(unsettled):
            slots = (slots + 1) & self._mask
            place[unsettled] = self._table[slots]
            more = self._others(place[unsettled], bits[unsettled], column[unsettled])
            unsettled, slots = unsettled[more], slots[more]
        placed: NDArray[np.int32] = place.reshape(count, rows)
        return np.where(placed < 0, np.int32(-1), placed - self._first)

    def _others(
        self, place: NDArray[np.int32], bits: NDArray[np.uint32], column: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        """Return where another code stands: bool (k,)."""
        same: NDArray[np.bool_] = (self._bits[place] == bits) & (self._column[place] == column)
        return (place >= 0) & ~same


def numbers(
    values: Raw,
    *,
    low: float | None = None,
    high: float | None = None,
    offset: int | None = None,
    always_moves: bool = False,
    mend: str = "take a constant off, or give it as text",
) -> Codec:
    """Learn a column of numbers.

    Args:
        values: (n,) finite, of an integer or floating dtype; n >= 1.
        low, high: what the column may hold; None: its own least and largest value.
        offset: what is taken off each value; None: chosen so that whole numbers stay apart in float32.
        always_moves: a column of equal values has a feature, too.
        mend: what to do about whole numbers that cannot be carried.

    Returns:
        A codec; :class:`Constant` where all values are equal and no bounds are given.

    Raises:
        InputError: a value outside the bounds, or whole numbers that 64 bits cannot hold.
    """
    found = np.unique(values)
    whole = found.dtype.kind in "biu"
    if whole and (int(found[0]) < -(2**61) or int(found[-1]) > 2**61):
        raise InputError(f"whole numbers beyond ±2⁶¹ are not carried, for example {found[-1].item()}: {mend}")
    if found.dtype.itemsize > 4 and (found[0] < -_LARGEST or found[-1] > _LARGEST):
        raise InputError(f"numbers beyond ±1e38 are not carried, for example {found[-1]!r}: scale the column")
    least, most = (found[0] if low is None else low), (found[-1] if high is None else high)
    if found[0] < least or found[-1] > most:
        worst = found[0] if found[0] < least else found[-1]
        raise InputError(f"{worst!r} lies outside [{least}, {most}]")
    if least == most and not always_moves:
        return Constant(found.dtype, found[0])
    if offset is None:
        offset = int(least) if whole and max(abs(int(least)), abs(int(most))) > 1 << 24 else 0
    near = (found.astype(np.longdouble) - np.longdouble(offset)).astype(np.float32) + np.float32(0)
    codes = _apart(near)
    ends = [np.float32(np.longdouble(bound) - np.longdouble(offset)) for bound in (least, most)]
    even = bool((codes == near).all()) and not (whole and float(most) - float(least) > 1 << 24)
    made = Numbers(
        found.dtype, offset, found, codes, float(min(ends[0], codes[0])), float(max(ends[1], codes[-1])), False, even
    )
    return replace(made, exact=even and bool((made._value(codes) == found).all()))


def _apart(codes: Codes) -> Codes:
    """Return codes that do not fall, moved up where equal so that each is above the one before."""
    if (np.diff(codes) > 0).all():
        return codes
    bits = codes.view(np.int32).astype(np.int64)
    order = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)  # whole numbers in the order of the floats
    place = np.arange(len(order))
    order = np.maximum.accumulate(order - place) + place
    bits = np.where(order < 0, (-order) | 0x80000000, order).astype(np.uint32)
    return bits.view(np.float32)


@dataclass(frozen=True, eq=False)
class Constant:
    """A column with one value: no feature, since nothing can be moved."""

    dtype: Any
    value: Any

    @property
    def parts(self) -> tuple[DomainPart, ...]:
        return ()

    @property
    def examples(self) -> Raw:
        return _array([self.value], self.dtype)

    def encode(self, values: Raw) -> Codes:
        for value in values.tolist() if values.dtype == object else values:
            if not _same(value, self.value):
                raise InputError(f"{value!r} in a column where everything was {self.value!r}")
        return np.zeros((len(values), 0), np.float32)

    def decode(self, codes: Codes) -> Raw:
        return _array([self.value] * len(codes), self.dtype)

    def describe(self) -> dict[str, Any]:
        value = self.value.item() if isinstance(self.value, np.generic) else self.value
        finite = isinstance(value, (int, bool)) or (isinstance(value, float) and math.isfinite(value))
        return {"kind": "constant", "value": value if finite else str(value)}

    def key(self) -> bytes:
        return f"{self.dtype} {self.value!r}".encode()


# --- categories -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Categories:
    """One of several values of any kind: text, truth values, dates, None."""

    dtype: Any
    values: tuple[Any, ...]

    @property
    def parts(self) -> tuple[DomainPart, ...]:
        k = len(self.values)
        return (OneHot(k),) if 2 < k <= MOST_ONE_HOT else (Integer(0, k - 1),)

    @property
    def examples(self) -> Raw:
        return _array(self.values, self.dtype)

    def encode(self, values: Raw) -> Codes:
        places = {_key(value): i for i, value in enumerate(self.values)}
        try:
            found = np.array([places[_key(value)] for value in values.tolist()], dtype=np.int64)
        except KeyError:
            strange = next(value for value in values.tolist() if _key(value) not in places)
            raise InputError(f"{strange!r} is none of the {len(self.values)} known values") from None
        if isinstance(self.parts[0], OneHot):
            return np.eye(len(self.values), dtype=np.float32)[found]
        return found.astype(np.float32)[:, None]

    def decode(self, codes: Codes) -> Raw:
        if isinstance(self.parts[0], OneHot):
            place = codes.argmax(1)
        else:
            place = np.clip(np.rint(codes[:, 0]), 0, len(self.values) - 1).astype(np.int64)
        found: Raw = _array(self.values, self.dtype)[place]
        return found

    def describe(self) -> dict[str, Any]:
        shown = [value if isinstance(value, (bool, int, str)) else str(value) for value in self.values[:20]]
        return {"kind": "one of", "count": len(self.values), "values": shown}

    def key(self) -> bytes:
        return f"{self.dtype} {self.values!r}".encode()


def one_of(values: Sequence[Any], dtype: Any, *, known: Sequence[Any] | None = None) -> Codec:
    """Learn a column whose values are told apart by type and value.

    Args:
        values: (n,) of any hashable kind; n >= 1.
        dtype: of the array that :meth:`Codec.decode` makes.
        known: all values that the column may hold, in their order; None: those that are there, sorted.

    Raises:
        InputError: a value that is not hashable, or not among ``known``.
    """
    try:
        there = {_key(value): value for value in values}
    except TypeError:
        odd = next(value for value in values if getattr(type(value), "__hash__", None) is None)
        raise InputError(f"{odd!r} (a {type(odd).__name__}) is no single value") from None
    if known is None:
        found = sorted(there.values(), key=_order)
    else:
        found = list(known)
        strange = [value for key, value in there.items() if key not in {_key(v) for v in found}]
        if strange:
            raise InputError(f"{strange[0]!r} is none of {', '.join(map(repr, found[:5]))}")
    return Constant(dtype, found[0]) if len(found) == 1 else Categories(dtype, tuple(found))


def _key(value: Any) -> tuple[type, Any]:
    missing = isinstance(value, float) and value != value
    return type(value), "nan" if missing else value


def _order(value: Any) -> tuple[str, Any]:
    if isinstance(value, (bool, int, float, str)) and value == value:
        return type(value).__name__, value
    return type(value).__name__ + " ", repr(value)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.generic) and isinstance(b, np.generic):
        return bool(a == b)
    return _key(a) == _key(b)


def _array(values: Sequence[Any], dtype: Any) -> Raw:
    found = np.empty(len(values), dtype=dtype)
    for i, value in enumerate(values):
        found[i] = value
    return found
