"""Rows of an array, a tensor, a SciPy sparse matrix or a dict of arrays as float32, and every query back as such."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.classes import to_numpy
from labelleaks.core.domains import Box, Continuous, Domain, Integer, Mixed
from labelleaks.core.oracle.query_keys import digests
from labelleaks.errors import InputError
from labelleaks.inputs.row_format.features import Numbers, numbers

__all__ = ["ArrayFormat", "DictFormat", "float32_rows", "is_jax", "learn_array", "learn_dict", "to_jax"]

_WIDE = 4096
"""Features of a row up to which each has a table of its own values, where float32 does not hold them."""
_FEW = 1 << 16
"""Distinct values of an array of any width up to which one table holds them all."""


class ArrayCodec(Protocol):
    """Encoder of an array's numbers as float32 of the same shape, exact both ways."""

    def encode(self, rows: NDArray[Any]) -> NDArray[np.float32]: ...

    def decode(self, codes: NDArray[np.float32]) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Plain:
    """Numbers that float32 holds: they are their own codes."""

    dtype: np.dtype[Any]

    def encode(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        codes = rows.astype(np.float32)
        _refuse(rows, self.decode(codes))
        return codes

    def decode(self, codes: NDArray[np.float32]) -> NDArray[Any]:
        if self.dtype.kind == "f":
            return codes.astype(self.dtype, copy=False)
        if self.dtype.kind == "b":
            return codes > 0.5
        info = np.iinfo(self.dtype)
        return np.clip(np.rint(codes.astype(np.float64)), info.min, info.max).astype(self.dtype)


@dataclass(frozen=True, eq=False)
class OneTable:
    """Few distinct numbers, the same ones everywhere in a row."""

    table: Numbers

    @property
    def tables(self) -> tuple[Numbers, ...]:
        """The one table."""
        return (self.table,)

    def encode(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        return self.table.encode(rows.reshape(-1))[:, 0].reshape(rows.shape)

    def decode(self, codes: NDArray[np.float32]) -> NDArray[Any]:
        return self.table.decode(codes.reshape(-1, 1)).reshape(codes.shape)


@dataclass(frozen=True, eq=False)
class Tables:
    """Each feature of flat rows with a table of its own."""

    tables: tuple[Numbers, ...]

    def encode(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        return np.stack([t.encode(rows[:, i])[:, 0] for i, t in enumerate(self.tables)], 1)

    def decode(self, codes: NDArray[np.float32]) -> NDArray[Any]:
        return np.stack([t.decode(codes[:, i : i + 1]) for i, t in enumerate(self.tables)], 1)


@dataclass(frozen=True, eq=False)
class WholeRows:
    """Wide rows of float64: a row that was learnt comes back as it was, one that was moved in float32's precision."""

    dtype: np.dtype[Any]
    rows: Mapping[bytes, NDArray[Any]]

    def encode(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        codes = rows.astype(np.float32)
        _refuse(rows, self.decode(codes))
        return codes

    def decode(self, codes: NDArray[np.float32]) -> NDArray[Any]:
        found = codes.astype(self.dtype)
        for i, key in enumerate(digests(torch.from_numpy(np.ascontiguousarray(codes)))):
            known = self.rows.get(key)
            if known is not None:
                found[i] = known
        return found


def _refuse(rows: NDArray[Any], back: NDArray[Any]) -> None:
    wrong = (back != rows).reshape(len(rows), -1)
    if wrong.any():
        row, feature = divmod(int(wrong.reshape(-1).argmax()), wrong.shape[1])
        value = rows.reshape(len(rows), -1)[row, feature]
        raise InputError(
            f"row {row}, feature {feature}: {value!r} is not exact in float32, and was in no row that was read before"
        )


class ArrayFormat:
    """Rows (n, *shape) of one dtype, of NumPy, torch, JAX or SciPy (sparse); made by :func:`learn_array`."""

    kind = "array"

    def __init__(
        self,
        library: str,
        dtype: Any,
        shape: tuple[int, ...],
        codes: ArrayCodec,
        *,
        sparse: str | None = None,
        seen: Sequence[tuple[int, int]] = ((0, 1),),
    ) -> None:
        self.library, self.dtype, self.shape = library, dtype, shape
        self._codes, self._sparse, self._seen = codes, sparse, seen

    @property
    def torch(self) -> bool:
        """Whether queries are torch tensors, which stay on their device."""
        return self.library == "torch"

    @property
    def plain(self) -> bool:
        """Whether queries are float32 arrays or tensors, as the core has them."""
        return self._cast and str(self.dtype).removeprefix("torch.") == "float32"

    @property
    def numeric(self) -> bool:
        """Whether codes are the rows' own numbers, feature by feature, but for their dtype."""
        floating = "float" in str(self.dtype)  # their codes are themselves, in float32's precision
        return isinstance(self._codes, (Plain, WholeRows)) or floating

    @property
    def _cast(self) -> bool:
        return isinstance(self._codes, Plain) and self._sparse is None

    def encode(self, rows: Any, what: str) -> Tensor:
        """Return float32 (n, *shape), on the device of a tensor, else the CPU. InputError where that is not exact."""
        array = _array(rows)
        if self.shape and array.shape[1:] != self.shape:
            raise InputError(f"{what}: rows of shape {array.shape[1:]}, but others have {self.shape}")
        try:
            codes = torch.from_numpy(np.array(self._codes.encode(array), dtype=np.float32, order="C"))
        except InputError as error:
            raise InputError(f"{what}: {error}") from None
        return codes.to(rows.device) if isinstance(rows, Tensor) else codes

    def decode(self, x: Tensor) -> Any:
        """Return (m, *shape) codes as rows of the library and dtype; a tensor on ``x``'s device. Always a copy."""
        if self.library == "torch" and self._cast:
            return _cast(x, self.dtype)
        array = self._codes.decode(x.detach().cpu().contiguous().numpy())
        if self.library == "torch":
            return torch.from_numpy(np.ascontiguousarray(array)).to(self.dtype).to(x.device)
        if self._sparse is not None:
            import scipy.sparse

            return getattr(scipy.sparse, self._sparse)(array)
        if self.library == "jax":
            return to_jax(array)
        return np.array(array, dtype=self.dtype, order="C")

    def domain(self) -> Domain:
        """Return [0, 1] in every feature; of whole numbers beyond these, all between the least and the most.

        Of 8-bit rows these are 0 and 255.
        """
        if not self.counts:
            return Box(0, 1)
        if len(self.shape) == 1 and self._sparse is None:
            runs = [(bounds, len(list(run))) for bounds, run in itertools.groupby(map(_widened, self._seen))]
            return Mixed(*(Integer(*bounds, width) for bounds, width in runs))
        low, high = (0, 255) if str(self.dtype).endswith("uint8") else self._bounds
        return Box(low, high, levels=high - low + 1)

    @property
    def _bounds(self) -> tuple[int, int]:
        return min(low for low, _ in self._seen), max(high for _, high in self._seen)

    @property
    def counts(self) -> bool:
        """Whether rows are whole numbers beyond 0 and 1, each its own code."""
        low, high = self._bounds
        return isinstance(self._codes, Plain) and (low < 0 or high > 1)

    def part(self) -> Continuous | Integer:
        """Return the domain of all features as a part of a longer row."""
        width = int(np.prod(self.shape))
        if str(self.dtype).removeprefix("torch.").startswith(("float", "bfloat")):
            return Continuous(0, 1, width)
        return Integer(*_widened(self._bounds), width)

    def describe(self) -> dict[str, Any]:
        name = str(self.dtype).removeprefix("torch.")
        found = {"kind": self.kind, "library": self.library, "dtype": name, "shape": list(self.shape)}
        return found if self._sparse is None else {**found, "sparse": self._sparse}

    def digest(self) -> str:
        """Return a hash of everything that decides what a code stands for."""
        digest = hashlib.blake2b(f"{self.library} {self.dtype} {self._sparse}".encode(), digest_size=16)
        for table in self._codes.tables if isinstance(self._codes, (OneTable, Tables)) else ():
            digest.update(table.key())
        return digest.hexdigest()


def float32_rows(library: str) -> ArrayFormat:
    """Return the format of float32 rows of any shape, of ``"numpy"`` or ``"torch"``: codes are rows."""
    dtype = torch.float32 if library == "torch" else np.dtype(np.float32)
    return ArrayFormat(library, dtype, (), Plain(np.dtype(np.float32)))


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype.is_floating_point:
        return x.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)
    if dtype == torch.bool:
        return x.detach() > 0.5
    info = torch.iinfo(dtype)
    return x.detach().double().round().clamp(info.min, info.max).to(dtype)


def learn_array(groups: Mapping[str, Any]) -> ArrayFormat:
    """Learn how rows of one kind and dtype become float32.

    Args:
        groups: what the rows are (``"members"``) -> (n, *shape) array, tensor or sparse matrix, all of one shape; the
            first one's library and dtype count.

    Raises:
        InputError: dtypes that differ where that changes a value, or numbers that cannot be carried.
    """
    first = next(iter(groups.values()))
    arrays = {what: _array(rows) for what, rows in groups.items()}
    shape = next(iter(arrays.values())).shape[1:]
    for what, array in arrays.items():
        if array.shape[1:] != shape:
            raise InputError(f"{what}: rows of shape {array.shape[1:]}, but {next(iter(groups))} have {shape}")
    dtype: Any = first.dtype if isinstance(first, Tensor) else next(iter(arrays.values())).dtype
    inner = next(iter(arrays.values())).dtype
    for what, array in arrays.items():
        if array.dtype != inner and bool((array.astype(inner) != array).any()):
            raise InputError(
                f"{what}: {array.dtype} rows, but {inner} in {next(iter(groups))}; bring both to one dtype (astype)"
            )
    sparse = type(first).__name__ if hasattr(first, "toarray") else None
    library = "torch" if isinstance(first, Tensor) else "scipy" if sparse else "jax" if is_jax(first) else "numpy"
    codes = _codes([array.astype(inner, copy=False) for array in arrays.values()], inner, shape)
    whole = inner.kind in "iu"
    seen = _seen([array.reshape(len(array), -1) for array in arrays.values()]) if whole else [(0, 1)]
    return ArrayFormat(library, dtype, tuple(shape), codes, sparse=sparse, seen=seen)


def _seen(arrays: Sequence[NDArray[Any]]) -> list[tuple[int, int]]:
    """The least and the most of each feature."""
    low = np.min([array.min(0) for array in arrays], 0)
    high = np.max([array.max(0) for array in arrays], 0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _widened(bounds: tuple[int, int]) -> tuple[int, int]:
    """Bounds that hold 0 and 1, too, where all values are one."""
    low, high = bounds
    return (low, high) if low < high else (min(low, 0), max(high, 1))


def _codes(arrays: Sequence[NDArray[Any]], dtype: np.dtype[Any], shape: tuple[int, ...]) -> ArrayCodec:
    plain = Plain(dtype)
    if (
        dtype.itemsize <= 2
        or dtype == np.float32
        or all(bool((plain.decode(a.astype(np.float32)) == a).all()) for a in arrays)
    ):
        return plain
    width = int(np.prod(shape))
    distinct = np.unique(np.concatenate([np.unique(a) for a in arrays]))
    if len(distinct) <= _FEW and width > 1:
        return OneTable(_numbers(distinct))
    if len(shape) == 1 and width <= _WIDE:
        return Tables(tuple(_numbers(np.concatenate([a[:, i] for a in arrays])) for i in range(width)))
    if dtype.kind != "f":
        raise InputError(
            f"whole numbers up to {distinct[-1]} in rows of shape {shape}: float32 holds them up to 2^24: scale them"
        )
    known: dict[bytes, NDArray[Any]] = {}
    for array in arrays:
        keys = digests(torch.from_numpy(np.ascontiguousarray(array.astype(np.float32))))
        for key, row in zip(keys, array, strict=True):
            if not np.array_equal(known.setdefault(key, row), row):
                raise InputError("two rows differ only beyond float32's precision; give them as float32")
    return WholeRows(dtype, known)


def _numbers(values: NDArray[Any]) -> Numbers:
    made = numbers(values, offset=0, always_moves=True, mend="give x - x.min(), and let the target add it again")
    assert isinstance(made, Numbers)
    return made


def to_jax(array: NDArray[Any]) -> Any:
    """Return an array as JAX', which is installed where rows are of it."""
    return import_module("jax.numpy").asarray(array)


def is_jax(rows: Any) -> bool:
    """Whether rows are an array of JAX. Imports nothing."""
    return type(rows).__module__.partition(".")[0] in ("jax", "jaxlib") and hasattr(rows, "dtype")


def _array(rows: Any) -> NDArray[Any]:
    return to_numpy(rows.toarray() if hasattr(rows, "toarray") else rows)


class DictFormat:
    """Rows as a dict of arrays, for example ``pixel_values`` or ``input_ids``: as many rows in each."""

    kind = "dict"

    def __init__(self, parts: Mapping[str, ArrayFormat], one_axis: frozenset[str]) -> None:
        self._parts, self._one_axis = dict(parts), one_axis
        widths = [int(np.prod(part.shape)) for part in parts.values()]
        self.shape: tuple[int, ...] = next(iter(parts.values())).shape if len(parts) == 1 else (sum(widths),)
        self._widths = widths

    def encode(self, rows: Any, what: str) -> Tensor:
        """Return float32 (n, *shape): one array's own shape, several flattened, one behind the other."""
        _check_keys(list(self._parts), rows, what)
        parts = [part.encode(_as_rows(rows[key]), f"{what}[{key!r}]") for key, part in self._parts.items()]
        if len(parts) == 1:
            return parts[0]
        if len({len(part) for part in parts}) > 1:
            raise InputError(f"{what}: {', '.join(f'{len(p)} rows of {k}' for k, p in zip(rows, parts, strict=True))}")
        return torch.cat([part.flatten(1) for part in parts], 1)

    def decode(self, x: Tensor) -> dict[str, Any]:
        """Return (m, *shape) codes as a dict of arrays with the same keys and dtypes."""
        pieces = x.flatten(1).split(self._widths, 1)
        made = {
            key: part.decode(piece.reshape(len(x), *part.shape))
            for (key, part), piece in zip(self._parts.items(), pieces, strict=True)
        }
        return {key: rows[:, 0] if key in self._one_axis else rows for key, rows in made.items()}

    def domain(self) -> Domain:
        """Return [0, 1] in every feature, and of whole numbers, for example token ids, all between least and most."""
        parts = list(self._parts.values())
        if len(parts) == 1:
            return parts[0].domain()
        return Mixed(*(part.part() for part in parts)) if any(part.counts for part in parts) else Box(0, 1)

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "parts": {key: part.describe() for key, part in self._parts.items()}}

    @property
    def torch(self) -> bool:
        """Whether queries are torch tensors, which stay on their device."""
        return all(part.torch for part in self._parts.values())

    plain = False
    numeric = False

    def digest(self) -> str:
        """Return a hash of everything that decides what a code stands for."""
        return " ".join(f"{key} {part.digest()}" for key, part in self._parts.items())


def learn_dict(groups: Mapping[str, Any]) -> DictFormat:
    """Learn a dict of arrays; raises as :func:`learn_array`, and where keys differ."""
    keys = list(next(iter(groups.values())))
    for what, rows in groups.items():
        _check_keys(keys, rows, what)
    first = next(iter(groups.values()))
    parts = {
        key: learn_array({f"{what}[{key!r}]": _as_rows(rows[key]) for what, rows in groups.items()}) for key in keys
    }
    return DictFormat(parts, frozenset(key for key in keys if len(first[key].shape) == 1))


def _as_rows(part: Any) -> Any:
    """One number a row as a feature of its own."""
    return part[:, None] if len(part.shape) == 1 else part


def _check_keys(keys: Sequence[str], rows: Any, what: str) -> None:
    if set(rows) != set(keys):
        odd = sorted(map(str, set(rows) ^ set(keys)))[0]
        raise InputError(f"{what}: a dict with {', '.join(map(str, rows))}, but {', '.join(keys)} elsewhere ({odd!r})")
