"""Row formats: what is encoded comes back as it was, type for type; what cannot be carried is refused by name."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelleaks.core.domains import Continuous, Integer, OneHot
from labelleaks.errors import InputError
from labelleaks.inputs.row_format import learn

COUNT = st.integers(1, 12)
FLOATS = st.floats(-1e38, 1e38, allow_nan=False)
INTEGERS = st.integers(-(2**61), 2**61)
TEXT = st.text(max_size=6)
MOMENTS = st.datetimes(min_value=dt.datetime(1700, 1, 1), max_value=dt.datetime(2200, 1, 1))


def some(values):
    """Values of which some are missing."""
    return st.one_of(values, st.none())


COLUMNS = {
    "float64": lambda v: pd.Series(v, dtype="float64"),
    "float32": lambda v: pd.Series(np.array(v, dtype="float32")),
    "missing": lambda v: pd.Series([np.nan if x is None else x for x in v], dtype="float64"),
    "int64": lambda v: pd.Series(v, dtype="int64"),
    "uint8": lambda v: pd.Series(np.array(v, dtype="int64").astype("uint8")),
    "bool": lambda v: pd.Series([x % 2 == 0 for x in v], dtype="bool"),
    "Int64": lambda v: pd.Series(pd.array(v, dtype="Int64")),
    "Float64": lambda v: pd.Series(pd.array(v, dtype="Float64")),
    "boolean": lambda v: pd.Series(pd.array([None if x is None else x % 2 == 0 for x in v], dtype="boolean")),
    "str": lambda v: pd.Series(v, dtype="str"),
    "string": lambda v: pd.Series(v, dtype="string"),
    "object": lambda v: pd.Series(v, dtype="object"),
    "category": lambda v: pd.Series(pd.Categorical(v, categories=sorted({x for x in v if x is not None} | {"never"}))),
    "moment": lambda v: pd.Series(v, dtype="datetime64[us]"),
    "moment in Rome": lambda v: pd.Series(v, dtype="datetime64[us]").dt.tz_localize("UTC").dt.tz_convert("Europe/Rome"),
}
VALUES = {
    "float64": FLOATS, "float32": st.floats(width=32, allow_nan=False, allow_infinity=False), "missing": some(FLOATS),
    "int64": INTEGERS, "uint8": INTEGERS, "bool": INTEGERS, "Int64": some(INTEGERS), "Float64": some(FLOATS),
    "boolean": some(INTEGERS), "str": some(TEXT), "string": some(TEXT),
    "object": st.one_of(TEXT, st.integers(-9, 9), st.none(), st.booleans(), st.dates()),
    "category": some(TEXT), "moment": some(MOMENTS), "moment in Rome": some(MOMENTS),
}  # fmt: skip


@st.composite
def frames(draw):
    n = draw(COUNT)
    kinds = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=5))
    columns = {
        f"{i} {kind}": COLUMNS[kind](draw(st.lists(VALUES[kind], min_size=n, max_size=n)))
        for i, kind in enumerate(kinds)
    }
    return pd.DataFrame({**columns, "moves": np.arange(n + 1)[-n:] % 2 == 0, "more": np.arange(n) / 7})


@settings(deadline=None, max_examples=150)
@given(frames())
def test_a_table_comes_back_as_it_was(frame):
    form = learn({"rows": frame})
    x = form.encode(frame, "rows")
    assert x.dtype == torch.float32 and x.shape == (len(frame), *form.shape)
    pd.testing.assert_frame_equal(form.decode(x), frame, check_exact=True)
    json.dumps(form.describe(), allow_nan=False)
    domain = form.domain()
    domain.check(x, "rows")
    assert torch.equal(domain.project(x), x), "a row that is sent as it is would be changed by the domain"


@settings(deadline=None, max_examples=60)
@given(frames(), st.integers(0, 2**31))
def test_any_query_is_a_table_of_the_same_kind(frame, seed):
    form = learn({"rows": frame})
    u = torch.rand(4, *form.shape, generator=torch.Generator().manual_seed(seed))
    made = form.decode(form.domain().from_uniform(u))
    assert list(made.columns) == list(frame.columns) and list(made.dtypes) == list(frame.dtypes)
    again = learn({"rows": frame, "made": made})
    pd.testing.assert_frame_equal(again.decode(again.encode(made, "made")), made, check_exact=True)


KINDS = st.sampled_from(["bool", "int8", "uint8", "int32", "int64", "uint16", "float16", "float32", "float64"])


@st.composite
def arrays(draw, torch_kinds=False):
    dtype = draw(KINDS)
    shape = draw(st.sampled_from([(3,), (1,), (2, 3), (3, 4, 4), (2, 2, 2, 2)]))
    elements = {
        "float16": st.floats(width=16, allow_nan=False, allow_infinity=False),
        "float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
        "float64": st.floats(-1e30, 1e30, allow_nan=False),
        "int64": INTEGERS if len(shape) == 1 else st.integers(-(2**24), 2**24),
        "int32": st.integers(-(2**31), 2**31 - 1),
    }.get(dtype)
    return draw(hnp.arrays(dtype, (draw(COUNT), *shape), elements=elements))


@settings(deadline=None, max_examples=200)
@given(arrays())
def test_an_array_comes_back_as_it_was(rows):
    form = learn({"rows": rows})
    back = form.decode(form.encode(rows, "rows"))
    assert back.dtype == rows.dtype and back.shape == rows.shape and np.array_equal(back, rows)
    assert back is not rows and not np.shares_memory(back, rows)


@settings(deadline=None, max_examples=100)
@given(arrays(), st.sampled_from([None, torch.bfloat16]))
def test_a_tensor_comes_back_as_it_was(rows, dtype):
    if rows.dtype == np.uint16:
        rows = rows.astype(np.int32)
    tensor = torch.from_numpy(rows) if dtype is None else torch.from_numpy(rows.astype(np.float32)).to(dtype)
    if dtype is not None and not bool(torch.isfinite(tensor.float()).all()):
        return
    form = learn({"rows": tensor})
    back = form.decode(form.encode(tensor, "rows"))
    assert back.dtype == tensor.dtype and torch.equal(back, tensor)
    assert back.data_ptr() != tensor.data_ptr()


@pytest.mark.parametrize("kind", ["csr_matrix", "csr_array", "csc_matrix", "coo_array"])
def test_sparse_rows_come_back_as_they_were(kind):
    rows = getattr(scipy.sparse, kind)(np.array([[0, 1.5, 0], [0, 0, 0], [0.1, 0, 7]]))
    back = learn({"rows": rows}).decode(learn({"rows": rows}).encode(rows, "rows"))
    assert type(back) is type(rows) and back.dtype == rows.dtype and (back.toarray() == rows.toarray()).all()


def test_a_dict_of_arrays_comes_back_as_it_was():
    rows = {"input_ids": np.arange(30521, 30533).reshape(3, 4), "attention_mask": np.ones((3, 4), np.int64)}
    form = learn({"rows": rows})
    back = form.decode(form.encode(rows, "rows"))
    assert list(back) == list(rows)
    assert all(back[key].dtype == rows[key].dtype and np.array_equal(back[key], rows[key]) for key in rows)
    one = {"pixel_values": torch.rand(2, 3, 4, 4)}
    assert learn({"rows": one}).encode(one, "rows").shape == (2, 3, 4, 4)


def test_columns_are_matched_by_name_and_keep_the_first_order():
    a = pd.DataFrame({"x": [1, 2], "y": [0.5, 0.25], "z": ["u", "v"]})
    b = a[["z", "x", "y"]]
    form = learn({"members": a, "nonmembers": b})
    pd.testing.assert_frame_equal(form.decode(form.encode(b, "nonmembers")), a)


def test_whole_numbers_above_two_to_the_24th_keep_their_value_whatever_the_domain_goes_by():
    dates = np.arange(20180101, 20180129)[:, None]
    assert (learn({"rows": dates}).decode(learn({"rows": dates}).encode(dates, "rows")) == dates).all()
    frame = pd.DataFrame({"date": dates[:, 0]})
    for positional in (False, True):
        form = learn({"rows": frame}, positional=positional)
        pd.testing.assert_frame_equal(form.decode(form.encode(frame, "rows")), frame)


def test_one_hot_columns_of_get_dummies_are_one_group():
    plain = pd.DataFrame({"n": [1.0, 2.0, 3.0, 4.0], "city": ["a", "b", "c", "a"]})
    frame = pd.get_dummies(plain)
    form = learn({"rows": frame})
    assert form.domain().parts == (Continuous(1.0, 4.0), OneHot(3))
    assert form.describe()["one_of"] == [["city_a", "city_b", "city_c"]]
    pd.testing.assert_frame_equal(form.decode(form.encode(frame, "rows")), frame)


def test_what_the_user_says_of_a_column_counts():
    frame = pd.DataFrame({"age": [20, 30], "city": ["rome", "oslo"]})
    form = learn({"rows": frame}, declared={"age": Integer(0, 120), "city": ["bonn", "oslo", "rome"]})
    assert form.domain().parts == (Integer(0, 120), OneHot(3))
    assert set(form.decode(form.domain().from_uniform(torch.rand(200, 4)))["city"]) == {"bonn", "oslo", "rome"}


FRAME = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})


@pytest.mark.parametrize(
    ("groups", "more", "says"),
    [
        ({"members": FRAME, "shadow": FRAME[["a"]]}, {}, "shadow: column 'b' is missing"),
        ({"members": FRAME, "shadow": FRAME.rename(columns={"a": "A"})}, {}, "'a' is missing; known: A"),
        ({"members": FRAME, "shadow": FRAME.assign(c=1)}, {}, "shadow: column 'c' is in no other rows"),
        (
            {"members": FRAME, "shadow": FRAME.assign(a=[1, 2])},
            {},
            "shadow: column 'a' is int64, but float64 in members",
        ),
        ({"members": FRAME, "shadow": FRAME.to_numpy()}, {}, "shadow: a ndarray, but members are a DataFrame"),
        ({"members": FRAME.assign(a=[1.0, np.inf])}, {}, "members: column 'a': holds infinity"),
        ({"members": FRAME.assign(b=[[1], [2]])}, {}, r"column 'b': \[1\] \(a list\) is no single value"),
        ({"members": FRAME}, {"positional": True}, "column 'b': is str, and domain= goes by position"),
        ({"members": FRAME.assign(b=[1.0, np.nan])}, {"positional": True}, "column 'b': has missing values"),
        ({"members": FRAME}, {"declared": {"c": [1]}}, "domain: there is no column 'c'"),
        ({"members": FRAME}, {"declared": {"b": ["x"]}}, "column 'b': 'y' is none of 'x'"),
        ({"members": FRAME}, {"declared": {"a": Continuous(0, 1)}}, r"column 'a': .*2.0.* lies outside \[0, 1\]"),
        ({"members": pd.DataFrame({"a": [1, 1]})}, {}, "every column holds one value only"),
        ({"members": pd.DataFrame([[1, 2]], columns=["a", "a"])}, {}, "column 'a' is there twice"),
        ({"members": np.full((2, 2, 2), 2**40 + 1)}, {"declared": {"a": [1]}}, "the rows are no table"),
        ({"members": {"a": np.ones((2, 2))}, "shadow": {"b": np.ones((2, 2))}}, {}, "shadow: a dict with b, but a"),
    ],
)
def test_what_cannot_be_is_refused_by_name(groups, more, says):
    with pytest.raises(InputError, match=says):
        learn(groups, **more)


def test_fractions_are_their_own_numbers_and_large_whole_numbers_are_not():
    """What a service, an ONNX file or a target of one's own can be sent: float32, to which fractions are rounded."""
    fractions = np.random.default_rng(0).random((20, 4))
    assert learn({"members": fractions}).numeric
    assert not learn({"members": np.arange(20_180_131, 20_180_171).reshape(10, 4)}).numeric
