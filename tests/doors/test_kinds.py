"""Kinds of rows x doors: each reaches its target row by row as it is, type for type, or is refused in one line."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torch import nn

import labelleaks as ll
from labelleaks.errors import LabelLeaksError
from labelleaks.inputs.arrays import encode, take

RNG = np.random.default_rng(0)
UNIT = RNG.random((8, 5))
Y = np.arange(8) % 2


def some_missing(dtype: str = "f8") -> Any:
    x = UNIT.astype(dtype)
    x[1, 2] = x[5, 0] = np.nan
    return x


def pictures(mode: str, shape: Sequence[int], dtype: str = "u1") -> list[Image.Image]:
    pixels = RNG.integers(0, 256, (8, *shape)).astype(dtype)
    return [Image.frombytes(mode, (6, 5), row.tobytes()) for row in pixels]


def table(values: Sequence[Any], dtype: Any = None) -> pd.DataFrame:
    return pd.DataFrame({"moves": UNIT[:, 0], "value": pd.Series(list(values), dtype=dtype)})


DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]
TENSORS = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32,
    torch.float64, torch.uint16, torch.uint32, torch.float8_e4m3fn]  # fmt: skip
SPARSE = [
    f"{name}_{kind}" for name in ("csr", "csc", "coo", "lil", "dok", "bsr", "dia") for kind in ("matrix", "array")
]
COUNTS = RNG.integers(0, 100, (8, 5))
VOLUMES, SEQUENCES = RNG.integers(0, 90, (8, 4, 4, 4)), UNIT.repeat(4, 0).reshape(8, 4, 5)

EXACT: dict[str, Any] = {
    **{f"array of {name}": COUNTS.astype(name) for name in DTYPES if not name.startswith("f")},
    **{f"array of {name}": UNIT.astype(name) for name in DTYPES if name.startswith("f")},
    **{f"volume of {name}": VOLUMES.astype(name) for name in DTYPES if not name.startswith("f")},
    **{f"sequence of {name}": SEQUENCES.astype(name) for name in DTYPES if name.startswith("f")},
    **{f"tensor of {d}": torch.from_numpy(COUNTS / (1 if "int" in str(d) else 100)).to(d) for d in TENSORS},
    **{f"pixels of {d}": torch.from_numpy(VOLUMES).to(d) for d in TENSORS[:5]},
    **{kind: getattr(scipy.sparse, kind)(np.round(UNIT, 1) * (UNIT > 0.5)) for kind in SPARSE},
    **{f"sparse {d}": scipy.sparse.csr_matrix((COUNTS % 2).astype(d)) for d in ("i4", "i8", "?", "f4")},
    "sparse rows of zeros": scipy.sparse.csr_matrix(np.eye(8, 5) * (np.arange(8) > 5)[:, None]),
    "bits": UNIT > 0.5,
    "bits as a tensor": torch.from_numpy(UNIT > 0.5),
    "missing": some_missing(),
    "missing in float32": some_missing("f4"),
    "missing in float16": some_missing("f2"),
    "missing in a tensor": torch.from_numpy(some_missing()),
    "missing in bfloat16": torch.from_numpy(some_missing()).bfloat16(),
    "always missing in one column": np.where(np.arange(5) == 3, np.nan, UNIT),
    "Fortran order": np.asfortranarray(UNIT),
    "every second row": np.repeat(UNIT, 2, 0)[::2],
    "backwards": UNIT[:, ::-1],
    "big endian": UNIT.astype(">f8"),
    "whole, big endian": COUNTS.astype(">i4"),
    "dates as numbers": np.stack([20180131 + np.arange(8), COUNTS[:, 0]], 1),
    "unix times in nanoseconds": np.stack([1_700_000_000_000_000_001 + np.arange(8), COUNTS[:, 0]], 1),
    "cents": np.stack([123456.78 + np.arange(8) / 100, UNIT[:, 0]], 1) / 1e6,
    "17 digits in three axes": RNG.random((8, 3, 4)),
    "objects": np.array([[i, "ab"[i % 2], i / 8, None] for i in range(8)], dtype=object),
    "objects that are numbers": UNIT.astype(object),
    "objects with gaps": np.array([[i / 8, None if i % 3 else 2.5] for i in range(8)], dtype=object),
    "words": np.array([["ab"[i % 2], f"word {i % 3}"] for i in range(8)]),
    "bytes": np.array([["ab"[i % 2], f"word {i % 3}"] for i in range(8)]).astype("S"),
    "channels last in memory": torch.rand(8, 3, 4, 4).to(memory_format=torch.channels_last),
    "one feature": UNIT[:, :1],
    "13 bands": RNG.random((8, 13, 6, 6)),
    "a video": RNG.random((8, 3, 4, 6, 6)).astype("f4"),
    "an 8-bit video": RNG.integers(0, 256, (8, 3, 4, 6, 6)).astype("u1"),
    "pixel_values": {"pixel_values": UNIT.astype("f4").repeat(4, 1).reshape(8, 1, 4, 5)},
    "tokens": {"input_ids": COUNTS, "attention_mask": np.ones((8, 5), int)},
    "tokens as tensors": {"input_ids": torch.from_numpy(COUNTS), "attention_mask": torch.ones(8, 5, dtype=torch.int64)},
    "tokens alone": {"input_ids": torch.from_numpy(COUNTS)},
    "a dict of columns": {"age": np.arange(8), "city": np.array(list("abcabcab")), "income": UNIT[:, 0]},
    "a dict of columns with gaps": {"age": some_missing()[:, 2], "there": UNIT[:, 0] > 0.5},
    "one number a row beside pixels": {"x": RNG.random((8, 3, 4)), "age": np.arange(8)},
    "grey pictures": pictures("L", (5, 6)),
    "RGB pictures": pictures("RGB", (5, 6, 3)),
    "RGBA pictures": pictures("RGBA", (5, 6, 4)),
    "16-bit pictures": pictures("I;16", (5, 6), "u2"),
    "CMYK pictures": pictures("CMYK", (5, 6, 4)),
    "HSV pictures": pictures("HSV", (5, 6, 3)),
    "grey pictures with opacity": pictures("LA", (5, 6, 2)),
    "column of floats": table(UNIT[:, 1]),
    "column of float32": table(UNIT[:, 1].astype("f4"), "float32"),
    "column of whole numbers": table(range(8), "int64"),
    "column of 8 bits": table(range(8), "uint8"),
    "column of words": table(list("abcabcab")),
    "column of categories": table(list("abcabcab"), "category"),
    "column of ordered categories": table(list("abcabcab"), pd.CategoricalDtype(list("zcba"), ordered=True)),
    "column of truth": table([True, False] * 4),
    "column of nullable numbers": table([1, None, 3, 4, 5, 6, 7, 8], "Int64"),
    "column of nullable fractions": table([1.5, None, 3, 4, 5, 6, 7, 8], "Float64"),
    "column of nullable truth": table([True, None] * 4, "boolean"),
    "column of dates": table(pd.date_range("2020-01-31", periods=8)),
    "column of moments in Rome": table(pd.date_range("2020-01-31", periods=8, tz="Europe/Rome")),
    "column of spans of time": table(pd.to_timedelta(range(8), unit="s")),
    "column of days": table([dt.date(2020, 1, 1 + i % 3) for i in range(8)], object),
    "column of decimals": table([Decimal(i % 3) / 7 for i in range(8)], object),
    "column of pairs": table([(1, 2), (3, 4)] * 4, object),
    "column of kinds": table([1, "a", None, 2.5, True, "a", 1, 1], object),
    "column of periods": table(pd.period_range("2020-01", periods=8, freq="M")),
    "column of intervals": table(pd.arrays.IntervalArray.from_breaks(range(9))),
    "column of pyarrow numbers": table([1, None, 3, 4, 5, 6, 7, 8], pd.ArrowDtype(pa.int64())),
    "column of pyarrow text": table(list("abcabcab"), pd.ArrowDtype(pa.string())),
    "column of complex numbers": table([1 + 2j, 2 + 1j] * 4),
    "sparse column": table([0.0, 0, 0, 1, 0, 2, 0, 0], pd.SparseDtype(float, 0.0)),
    "columns called by numbers": pd.DataFrame(UNIT),
    "columns on two levels": pd.DataFrame(UNIT, columns=pd.MultiIndex.from_product([["a"], range(5)])),
    "one-hot columns": pd.get_dummies(table(list("abcabcab"))),
    "arrow table": pa.table({"a": UNIT[:, 0], "b": list("abcabcab"), "c": pa.array([1, None] * 4)}),
    "arrow dictionary": pa.table({"a": UNIT[:, 0], "b": pa.array(list("abcabcab")).dictionary_encode()}),
    "arrow times": pa.table({"a": UNIT[:, 0], "b": pa.array([dt.datetime(2020, 1, 1 + i) for i in range(8)])}),
    "arrow decimals": pa.table({"a": UNIT[:, 0], "b": pa.array([Decimal("1.10"), Decimal("2.25")] * 4)}),
}  # fmt: skip
"""Kinds of rows that reach a function as they are."""


def cut(x: Any, part: slice) -> Any:
    """Some rows of any kind."""
    if isinstance(x, Mapping) and not scipy.sparse.issparse(x):
        return {key: value[part] for key, value in x.items()}
    if scipy.sparse.issparse(x):
        return type(x)(x.tocsr()[part])
    if isinstance(x, pd.DataFrame):
        return x.iloc[part].reset_index(drop=True)
    return x.slice(part.start, part.stop - part.start) if isinstance(x, pa.Table) else x[part]


def count(x: Any) -> int:
    if isinstance(x, Mapping) and not scipy.sparse.issparse(x):
        return len(next(iter(x.values())))
    return x.shape[0] if hasattr(x, "shape") else len(x)


def each(x: Any) -> list[str]:
    """Rows as text that shows type, dtype and every value of each."""
    if isinstance(x, Mapping) and not scipy.sparse.issparse(x):
        parts = [[f"{key} {row}" for row in each(value)] for key, value in x.items()]
        return ["; ".join(row) for row in zip(*parts, strict=True)]
    if isinstance(x, list):
        return [f"{type(image).__name__} {image.mode} {image.size} {image.tobytes()!r}" for image in x]
    if isinstance(x, pd.DataFrame):
        columns = [[f"{name} {x[name].dtype} {type(v).__name__} {v!r}" for v in x[name].tolist()] for name in x]
        return ["; ".join(row) for row in zip(*columns, strict=True)]
    if isinstance(x, pa.Table):
        columns = [[f"{n} {x.column(n).type} {v!r}" for v in x.column(n).to_pylist()] for n in x.column_names]
        return ["; ".join(row) for row in zip(*columns, strict=True)]
    if isinstance(x, torch.Tensor):
        return [
            f"torch {row.dtype} {tuple(row.shape)} {row.contiguous().reshape(-1).view(torch.uint8).tolist()}"
            for row in x
        ]
    library = type(x).__name__ if scipy.sparse.issparse(x) else "numpy"
    start = f"{library} {x.dtype.kind if x.dtype.kind in 'US' else x.dtype}"
    dense = x.toarray() if scipy.sparse.issparse(x) else np.asarray(x)
    if dense.ndim == 1:
        return [f"{start} {type(value).__name__} {value!r}" for value in dense.tolist()]
    return [f"{start} {row.shape} {[(type(v).__name__, v) for v in row.reshape(-1).tolist()]!r}" for row in dense]


class Ear:
    """A target that notes what it is sent."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.kinds: set[type] = set()

    def __call__(self, rows: Any) -> Any:
        self.rows += each(rows)
        self.kinds.add(type(rows))
        return np.zeros(count(rows), int)


def run(target: Any, x: Any, **options: Any) -> Any:
    """An audit of the first rows against the others, with the gap attack alone, which sends rows as they are."""
    data: dict[str, Any] = {"members": (cut(x, slice(0, 4)), Y[:4]), "nonmembers": (cut(x, slice(4, 8)), Y[4:])}
    given: dict[str, Any] = {"attacks": ["gap"], "classes": 2, "show_progress": False, "allow_noisy": True, **options}
    return ll.audit(target, **data, **given)


@pytest.mark.parametrize("kind", EXACT)
def test_from_python_to_a_function(kind: str) -> None:
    x, ear = EXACT[kind], Ear()
    before = each(copy.deepcopy(x))
    run(ear, x)
    assert set(ear.rows) == set(each(x))
    assert ear.kinds == {type(x)}
    assert each(x) == before


@pytest.mark.parametrize("kind", EXACT)
def test_queries_that_attacks_make_are_of_the_same_kind(kind: str) -> None:
    """Every dtype, shape and name is as in the rows, whatever is asked."""
    x, ear = EXACT[kind], Ear()
    run(ear, x, attacks=["noise"], budget=6)
    assert ear.kinds == {type(x)} and len(set(ear.rows)) >= len(set(each(x)))
    heads = (
        {row.split("[")[0] for row in each(x)} if not isinstance(x, (pd.DataFrame, pa.Table, list, Mapping)) else set()
    )
    if heads:
        assert {row.split("[")[0] for row in ear.rows} == heads


@pytest.mark.parametrize("kind", EXACT)
def test_recorded_answers_are_matched_by_content(kind: str) -> None:
    x = EXACT[kind]
    answers = {row: int(row in each(x)[::3]) for row in each(x)}
    record = run(ll.Recorded(x, [answers[row] for row in each(x)]), x)
    assert record["gap"].scores.tolist() == [
        float(answers[row] == label) for row, label in zip(each(x), Y, strict=True)
    ]


@pytest.mark.parametrize("kind", EXACT)
def test_a_format_is_exact_both_ways(kind: str) -> None:
    x = EXACT[kind]
    (rows,) = (take((x, Y), "members").rows,)
    encoded = encode([take((x, Y), "members")])
    assert each(encoded.form.decode(encoded.x[0])) == each(x)
    assert encoded.x[0].dtype == torch.float32 and len(encoded.x[0]) == count(rows)
    assert encoded.domain.project(encoded.x[0].clone()).equal(encoded.x[0])


# --- refused, with a mend that works ----------------------------------------------------------------------------------


class Quantity(np.ndarray):
    """An array with a unit."""


class Foreign:
    """An array of another library."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return UNIT

    shape = UNIT.shape

    def __getitem__(self, part: Any) -> Foreign:
        return self


def holding(value: float, x: Any = UNIT) -> Any:
    made = x.clone() if isinstance(x, torch.Tensor) else x.copy()
    made[(1,) * made.ndim] = value
    return made


WIDE = RNG.random((8, 3, 4))
GAPS_SPARSE = scipy.sparse.csr_matrix(np.where(UNIT > 0.9, np.nan, np.round(UNIT)))
REFUSED: dict[str, tuple[Any, str, Callable[[Any], Any] | None]] = {
    "infinity": (holding(np.inf), "infinity", lambda x: np.clip(x, 0, 1)),
    "minus infinity": (holding(-np.inf), "infinity", lambda x: np.clip(x, 0, 1)),
    "infinity in a tensor": (holding(np.inf, torch.from_numpy(UNIT)), "x.clamp", lambda x: x.clamp(0, 1)),
    "infinity beside gaps": (holding(np.inf, some_missing()), "infinity", lambda x: np.clip(x, 0, 1)),
    "too large": (holding(1e200), "too large for float32", lambda x: x / 1e200),
    "gaps in sequences": (holding(np.nan, WIDE), "np.nan_to_num", np.nan_to_num),
    "gaps in tensors of sequences": (holding(np.nan, torch.from_numpy(WIDE)), "torch.nan_to_num", torch.nan_to_num),
    "gaps in sparse rows": (
        GAPS_SPARSE,
        "x.data = np.nan_to_num(x.data)",
        lambda x: scipy.sparse.csr_matrix(np.nan_to_num(x.toarray())),
    ),
    "masked": (np.ma.masked_array(UNIT, UNIT > 0.9), "filled(np.nan)", lambda x: x.astype(float).filled(np.nan)),
    "whole, masked": (
        np.ma.masked_array(COUNTS, COUNTS > 50),
        "filled(np.nan)",
        lambda x: x.astype(float).filled(np.nan),
    ),
    "a matrix": (np.matrix(UNIT), "np.asarray(x)", np.asarray),
    "an array with a unit": (UNIT.view(Quantity), "np.asarray(x)", np.asarray),
    "another library's": (Foreign(), "np.asarray(x)", np.asarray),
    "128 bits": (UNIT.astype(np.longdouble), "astype(np.float64)", lambda x: x.astype(np.float64)),
    "structured": (
        np.array([(i / 8, i) for i in range(8)], dtype=[("a", "f8"), ("b", "i4")]),
        "pd.DataFrame(x)",
        pd.DataFrame,
    ),
    "dates": (
        np.array([["2020-01-01", f"2020-01-0{i + 1}"] for i in range(8)], dtype="M8[D]"),
        "astype('int64')",
        lambda x: x.astype("int64"),
    ),
    "spans of time": (
        np.array([[1, i] for i in range(8)], dtype="m8[s]"),
        "astype('int64')",
        lambda x: x.astype("int64"),
    ),
    "complex": (UNIT + 0.5j, "x.real, x.imag", lambda x: np.stack([x.real, x.imag], -1)),
    "words in three axes": (np.array([[["1", "0"]]] * 8), "astype(float)", lambda x: x.astype(float)),
    "objects in three axes": (np.array([[[1, 0.5]]] * 8, dtype=object), "astype(float)", lambda x: x.astype(float)),
    "beyond 61 bits": (np.stack([2**63 + np.arange(8, dtype="u8")], 1), "give x - x.min()", lambda x: x - x.min()),
    "flat": (UNIT[:, 0], "x.reshape(-1, 1)", lambda x: x.reshape(-1, 1)),
    "a sparse tensor": (torch.from_numpy(UNIT).to_sparse(), "x.to_dense()", lambda x: x.to_dense()),
    "a sparse CSR tensor": (lambda: torch.from_numpy(UNIT).to_sparse_csr(), "x.to_dense()", lambda x: x.to_dense()),
    "a nested tensor": (
        lambda: torch.nested.as_nested_tensor([torch.rand(3), torch.rand(2)] * 4),
        "to_padded_tensor",
        lambda x: torch.nested.to_padded_tensor(x, 0.0),
    ),
    "a quantised tensor": (
        lambda: torch.quantize_per_tensor(torch.rand(8, 5), 0.01, 0, torch.quint8),
        "dequantize",
        lambda x: x.dequantize(),
    ),
    "a meta tensor": (torch.empty(8, 5, device="meta"), "give the values", None),
    "a complex tensor": (torch.rand(8, 5) + 1j, "real numbers", None),
    "rows of several lengths": ([[1.0, 2.0], [3.0]] * 4, "not rows of one shape", None),
    "a file's name": ("rows.npy", "x is a str", None),
    "a palette": (
        [image.convert("P") for image in pictures("L", (5, 6))],
        "image.convert",
        lambda x: [i.convert("RGB") for i in x],
    ),
    "black and white": (
        [image.convert("1") for image in pictures("L", (5, 6))],
        "image.convert",
        lambda x: [i.convert("RGB") for i in x],
    ),
    "two modes": (
        pictures("L", (5, 6))[:4] + pictures("RGB", (5, 6, 3))[:4],
        "image.convert",
        lambda x: [i.convert("RGB") for i in x],
    ),
    "two sizes": (
        pictures("L", (5, 6))[:4] + [i.resize((3, 3)) for i in pictures("L", (5, 6))[:4]],
        "image.resize((6, 5))",
        lambda x: [i.resize((6, 5)) for i in x],
    ),
    "words beside pixels": ({"x": WIDE, "city": np.array(list("abcabcab"))}, "numbers are needed", None),
    "a dict of several counts": ({"x": UNIT, "y": UNIT[:5]}, "as many rows", None),
    "gaps in a dict of arrays": ({"x": some_missing()}, "np.nan_to_num", lambda x: {"x": np.nan_to_num(x["x"])}),
    "an empty dict": ({}, "empty dict", None),
    "a dict with numbers for names": ({0: UNIT}, "the key 0", lambda x: {str(0): x[0]}),
    "a view of memory": (memoryview(UNIT), "give np.asarray(x)", np.asarray),
    "pictures of 32 bits": (
        [Image.new("F", (4, 5), i / 8) for i in range(8)],
        "np.stack",
        lambda x: np.stack([np.asarray(image) for image in x]),
    ),
    "column of lists": (table([[1], [2]] * 4), "is no single value", None),
    "column with infinity": (table([1.0, np.inf] * 4), "holds infinity", None),
    "a column twice": (pd.DataFrame(UNIT, columns=list("abcda")), "is there twice", None),
    "no columns": (pd.DataFrame(index=range(8)), "is empty", None),
    "all rows alike": (pd.DataFrame({"a": [1] * 8}), "one value only", None),
}
"""Rows -> what is said of them -> the mend that the message names, as code."""


def refused(call: Callable[[], Any], ear: Ear) -> str:
    with pytest.raises(LabelLeaksError) as caught:
        call()
    assert "\n" not in str(caught.value) and not ear.rows
    return str(caught.value)


def whole(target: Any, x: Any) -> Any:
    """An audit of rows that need not be of a kind that can be cut."""
    return ll.audit(target, members=(x, Y), nonmembers=(x, Y), attacks=["gap"], classes=2, show_progress=False)


@pytest.mark.filterwarnings("ignore:.*(beta state|prototype stage|deprecated)")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_carried_is_refused_with_a_mend_that_works(kind: str) -> None:
    x, says, mend = REFUSED[kind]
    x, ear = x() if callable(x) else x, Ear()
    assert says in refused(lambda: whole(ear, x), ear)
    assert says in refused(lambda: ll.Recorded(x, Y), ear) or kind == "all rows alike"
    if mend is not None:
        made = mend(x)
        whole(ear, made)
        assert set(ear.rows) == set(each(made))


# --- any rows at all --------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.floats(-1e30, 1e30), st.just(float("nan")))
CELLS = st.one_of(
    st.integers(-(2**60), 2**60),
    st.floats(-1e30, 1e30).map(lambda v: v + 0.0),
    st.text(max_size=4),
    st.none(),
    st.booleans(),
)


@st.composite
def flat_arrays(draw: Any) -> Any:
    """Arrays (n, width) that hold missing values, text or objects."""
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 4)))
    kind = draw(st.sampled_from(["f8", "f4", "O", "U", "torch", "bfloat16"]))
    if kind in ("O", "U"):
        cells = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4) if kind == "U" else CELLS
        made = np.empty(shape, object)
        for place in np.ndindex(*shape):
            made[place] = draw(cells)
        made = made.astype(str) if kind == "U" else made
    else:
        made = draw(hnp.arrays("f4", shape, elements=st.floats(width=16, allow_infinity=False)))
    moves = np.arange(shape[0] + 1)[:, None] % 2
    spread = np.concatenate([np.concatenate([made, made[:1]]), moves.astype(made.dtype)], 1)
    if spread.dtype.kind == "f":
        spread = spread + 0.0  # where there are both, -0.0 is 0.0
        spread[0, 0] = np.nan
    if kind in ("torch", "bfloat16"):
        return torch.from_numpy(spread).to(torch.float64 if kind == "torch" else torch.bfloat16)
    return spread.astype(kind) if kind in ("f4", "f8") else spread


@settings(deadline=None, max_examples=150)
@given(flat_arrays())
def test_any_flat_array_comes_back_as_it_was(x: Any) -> None:
    encoded = encode([take((x, np.zeros(len(x), int)), "rows")])
    assert each(encoded.form.decode(encoded.x[0])) == each(x)
    u = torch.rand(4, *encoded.form.shape, generator=torch.Generator().manual_seed(len(x)))
    made = encoded.form.decode(encoded.domain.from_uniform(u))
    assert type(made) is type(x) and made.shape == (4, x.shape[1]) and str(made.dtype)[:2] == str(x.dtype)[:2]


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=4),
        st.one_of(
            hnp.arrays("i8", st.sampled_from([(3,), (3, 2)]), elements=st.integers(-(2**20), 2**20)),
            hnp.arrays("f4", st.sampled_from([(3,), (3, 2, 2)]), elements=st.floats(0, 1, width=16)),
            hnp.arrays("?", st.sampled_from([(3,), (3, 4)])),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_dict_of_arrays_comes_back_as_it_was(x: dict[str, Any]) -> None:
    x = {**x, "moves": np.array([0, 1, 2])}
    encoded = encode([take((x, [0, 1, 0]), "rows")])
    assert each(encoded.form.decode(encoded.x[0])) == each(x)
    assert encoded.domain.project(encoded.x[0].clone()).equal(encoded.x[0])


@settings(deadline=None, max_examples=40)
@given(hnp.arrays("u1", st.tuples(st.integers(1, 4), st.just(5), st.just(6), st.sampled_from([3, 4]))))
def test_any_pictures_come_back_as_they_were(pixels: Any) -> None:
    x = [Image.fromarray(row) for row in pixels]
    encoded = encode([take((x, np.zeros(len(x), int)), "rows")])
    assert each(encoded.form.decode(encoded.x[0])) == each(x)


# --- what a target gets that is no function ---------------------------------------------------------------------------


class Hears(nn.Module):
    """A module that notes what it gets by name."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.got: list[dict[str, torch.Tensor]] = []

    def forward(self, x: Any = None, **more: torch.Tensor) -> torch.Tensor:
        self.got.append(dict(more) if x is None else {"x": x})
        first = next(iter(self.got[-1].values()))
        return torch.nan_to_num(first.flatten(1).float())[:, :2] * self.scale


MODULE_ROWS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pixel_values": (EXACT["pixel_values"], {"pixel_values": torch.float32}),
    "tokens": (EXACT["tokens"], {"input_ids": torch.int64, "attention_mask": torch.int64}),
    "missing": (EXACT["missing"], {"x": torch.float32}),
    "missing in bfloat16": (EXACT["missing in bfloat16"], {"x": torch.float32}),
    "whole numbers": (COUNTS, {"x": torch.float32}),
    "halves": (UNIT.astype("f2"), {"x": torch.float32}),
}


@pytest.mark.parametrize("kind", MODULE_ROWS)
def test_a_module_gets_tensors_by_name(kind: str) -> None:
    x, dtypes = MODULE_ROWS[kind]
    module = Hears()
    run(module, x)
    got = {name: torch.cat([batch[name] for batch in module.got]) for name in dtypes}
    assert {name: part.dtype for name, part in got.items()} == dtypes and set(module.got[0]) == set(dtypes)
    for name, part in got.items():
        users = torch.as_tensor(x[name] if isinstance(x, Mapping) else x).to(part.dtype)
        assert set(each(part)) == set(each(users))


@pytest.mark.parametrize(
    "bag", [nn.EmbeddingBag(100, 2), nn.Sequential(nn.Embedding(100, 2), nn.Flatten(), nn.Linear(10, 2))]
)
@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_embeddings_look_whole_numbers_up(bag: nn.Module, kind: str) -> None:
    x = COUNTS if kind == "array" else torch.from_numpy(COUNTS)
    record = run(bag, x, attacks=["gap", "noise", "boundary"], budget=40)
    assert record.domain["kind"] == "mixed" and {p["part"] for p in record.domain["parts"]} == {"integer"}


class Processor:
    """An image processor as those of transformers are: pictures in, a dict of arrays out."""

    def __init__(self, mean: float) -> None:
        self.mean, self.got = mean, []

    def __call__(self, images: Any) -> dict[str, Any]:
        self.got += images if isinstance(images, list) else list(images)
        return {"pixel_values": [np.moveaxis(np.asarray(i), -1, 0).astype("f4") / 255 - self.mean for i in images]}

    def to_json_string(self) -> str:
        return f'{{"mean": {self.mean}}}'


@pytest.mark.parametrize("kind", ["pictures", "array", "tensor"])
def test_a_model_and_its_image_processor_on_8_bit_pictures(kind: str) -> None:
    x: Any = EXACT["RGB pictures"]
    if kind != "pictures":
        x = np.stack([np.asarray(image) for image in x])
        x = torch.from_numpy(x) if kind == "tensor" else x
    module, processor = Hears(), Processor(0.5)
    run(module, x, preprocess=processor)
    pixels = torch.cat([batch["pixel_values"] for batch in module.got])
    users = np.stack([np.asarray(row) for row in x])
    assert set(each(pixels)) == set(each(torch.from_numpy(np.moveaxis(users, -1, 1).astype("f4") / 255 - 0.5)))
    marks = {run(Hears(), x, preprocess=Processor(mean)).target["fingerprint"] for mean in (0.5, 0.5, 0.4)}
    assert len(marks) == 2, "the processor's settings are part of what the target is"


def test_pictures_without_a_processor_are_refused_by_a_module() -> None:
    ear = Ear()
    assert "give preprocess=" in refused(lambda: run(Hears(), EXACT["RGB pictures"]), ear)


@pytest.mark.parametrize("scales_only_8_bits", [True])
@pytest.mark.parametrize("door", ["array", "tensor", "dataset", "loader"])
def test_a_preprocessing_that_scales_only_8_bits_still_scales(door: str, scales_only_8_bits: bool) -> None:
    x = torch.randint(0, 256, (8, 3, 5, 5), dtype=torch.uint8)
    module, seen = Hears(), []

    def scaled(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.dtype)
        return batch.float() / 255 if batch.dtype == torch.uint8 else batch

    if door in ("dataset", "loader"):
        sets = [torch.utils.data.TensorDataset(x[a:b], torch.from_numpy(Y[a:b])) for a, b in ((0, 4), (4, 8))]
        given = [torch.utils.data.DataLoader(s, batch_size=3) for s in sets] if door == "loader" else sets
        ll.audit(module, members=given[0], nonmembers=given[1], attacks=["gap"], classes=2, preprocess=scaled)
    else:
        run(module, x.numpy() if door == "array" else x, preprocess=scaled)
    assert set(seen) == {torch.uint8}
    assert set(each(torch.cat([batch["x"] for batch in module.got]))) == set(each(x.float() / 255))


class ImagePipeline:
    """``transformers.pipeline("image-classification")`` as far as its callers see it."""

    task = "image-classification"

    def __init__(self, weights: int = 0) -> None:
        torch.manual_seed(weights)
        self.model = nn.Linear(2, 2)
        self.model.config = type("Config", (), {"id2label": {1: "dog", 0: "cat"}})  # type: ignore[assignment]
        self.image_processor = Processor(0.5)
        self.seen: list[Any] = []

    def __call__(self, images: Any, batch_size: int = 1) -> Any:
        self.seen += images
        scores = [np.asarray(image).mean() / 255 for image in images]
        ranked = [[{"label": "dog", "score": s}, {"label": "cat", "score": 1 - s}] for s in scores]
        return [sorted(row, key=lambda part: -part["score"]) for row in ranked]


ImagePipeline.__module__ = "transformers.pipelines.image_classification"
Pipeline = type("Pipeline", (ImagePipeline,), {"__module__": "transformers.pipelines.base"})


@pytest.mark.parametrize("kind", ["pictures", "array", "grey"])
def test_an_image_pipeline_is_a_target_as_it_is(kind: str) -> None:
    x: Any = EXACT["grey pictures" if kind == "grey" else "RGB pictures"]
    pipeline = Pipeline()
    rows = np.stack([np.asarray(image) for image in x]) if kind == "array" else x
    record = run(pipeline, rows, classes=None, attacks=["gap", "noise"], budget=4)
    assert record.classes == ("cat", "dog") and set(each(x)) <= set(each(pipeline.seen))
    marks = [run(Pipeline(weights), rows, classes=None).target["fingerprint"] for weights in (0, 0, 1)]
    assert marks[0] == marks[1] != marks[2]


def test_an_image_pipeline_refuses_what_is_no_picture_with_a_mend() -> None:
    ear, x = Ear(), RNG.random((8, 3, 5, 6))
    said = refused(lambda: run(Pipeline(), x, classes=None), ear)
    assert "(x * 255).round().astype('uint8')" in said and "x.transpose(0, 2, 3, 1)" in said
    run(Pipeline(), (x * 255).round().astype("uint8").transpose(0, 2, 3, 1), classes=None)


def test_the_users_word_counts_for_columns_of_arrays() -> None:
    for x in (some_missing(), COUNTS):
        record = run(Ear(), x, domain=ll.Table({0: ll.Continuous(0, 200), 1: ll.Continuous(-1, 200)}))
        assert [part["high"] for part in record.domain["parts"]].count(200) == 2
    ear = Ear()
    said = refused(lambda: run(ear, some_missing(), domain=ll.Box(0, 1)), ear)
    assert "leave domain= out" in said and "ll.Table({0: [...], ...})" in said


def test_numbers_of_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the protocol of JAX' arrays: those that come are those that go."""
    import sys
    import types

    class ArrayImpl(np.ndarray): ...

    ArrayImpl.__module__ = "jaxlib._jax"
    fake = types.ModuleType("jax.numpy")
    fake.asarray = lambda x: np.asarray(x).view(ArrayImpl)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jax.numpy", fake)
    for x in (UNIT.view(ArrayImpl), some_missing().view(ArrayImpl), COUNTS.view(ArrayImpl), WIDE.view(ArrayImpl)):
        ear = Ear()
        run(ear, x)
        assert ear.kinds == {ArrayImpl} and set(ear.rows) == set(each(x))
