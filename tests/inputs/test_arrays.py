"""Inputs: everything that users bring becomes the same tensors, untouched; everything wrong is one clear line."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from labelleaks.core.domains import Binary, Box
from labelleaks.errors import InputError
from labelleaks.inputs.arrays import encode, take

X = np.arange(24, dtype=np.float32).reshape(6, 4) / 32
Y = np.array([0, 1, 2, 0, 1, 2])


class Rows(Dataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.items[i]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(zip(X, Y, strict=True))


def pairs() -> Rows:
    return Rows([(torch.tensor(x), int(y)) for x, y in zip(X, Y, strict=True)])


def collate(batch: list[Any]) -> Any:
    return torch.stack([x for x, _ in batch]), [y for _, y in batch]


class Unbounded(Box):
    """A domain that looks at no value."""

    def check(self, x: torch.Tensor, what: str) -> None:
        return None


def rows_of(given: Any, domain: Any = None) -> torch.Tensor:
    """The encoded rows of one group."""
    (x,) = encode([given], Unbounded() if domain is None else domain).x
    return x


@pytest.mark.parametrize(
    ("given", "numpy"),
    [
        ((X, Y), True),
        ((X.astype(np.float64), Y.astype(np.float64)), True),
        ((np.asfortranarray(X), Y[:, None]), True),
        ((X.tolist(), Y.tolist()), True),
        ((list(X), list(Y)), True),
        ((torch.tensor(X), torch.tensor(Y)), False),
        ((torch.tensor(X, dtype=torch.float64, requires_grad=True), Y), False),
        ((list(torch.tensor(X)), Y.tolist()), False),
        (TensorDataset(torch.tensor(X), torch.tensor(Y)), False),
        (pairs(), False),
        (Rows([(x, np.int64(y)) for x, y in zip(X, Y, strict=True)]), True),
        (Rows([(torch.tensor(x), torch.tensor([y])) for x, y in zip(X, Y, strict=True)]), False),
        ((Rows([torch.tensor(x) for x in X]), Y), False),
        ((pairs(),), False),
        (Stream(), True),
        (DataLoader(pairs(), batch_size=4), False),
        (DataLoader(pairs(), batch_size=4, shuffle=True, drop_last=True), False),  # read in the data set's own order
        (DataLoader(pairs(), batch_size=None), False),
        (DataLoader(pairs(), batch_size=4, collate_fn=collate), False),
    ],
)  # fmt: skip
def test_every_form_becomes_the_same_rows(given: Any, numpy: bool) -> None:
    found = take(given, "members")
    x = rows_of(found)
    assert x.dtype == torch.float32 and x.is_contiguous() and not x.requires_grad
    assert x.equal(torch.tensor(X))
    assert found.y is not None and found.y.dtype == np.int64 and found.y.tolist() == Y.tolist()
    assert isinstance(found.rows, np.ndarray) is numpy
    assert (len(found), x.shape[1:], found.ids) == (6, (4,), None)


def test_a_loader_with_a_sampler_of_its_own_is_read_as_it_delivers() -> None:
    found = take(DataLoader(pairs(), batch_size=2, sampler=[5, 0, 3]), "members")
    assert rows_of(found).equal(torch.tensor(X[[5, 0, 3]]))
    assert found.y is not None and found.y.tolist() == [2, 0, 0]


def test_data_frames_keep_their_names() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": X[:, 0], "b": [1, 0, 1, 0, 1, 0], "c": [True, False] * 3}, index=list("uvwxyz"))
    found = take((frame, pd.Series(list("pqrpqr"), index=frame.index, dtype="category")), "members")
    assert rows_of(found, Box(0, 1)).equal(torch.tensor(frame.to_numpy(dtype=np.float32)))
    assert found.y is not None and found.y.tolist() == list("pqrpqr")
    assert found.ids == tuple("uvwxyz")
    assert take((frame.reset_index(drop=True), Y), "members").ids is None
    assert take((frame, pd.DataFrame({"y": Y}, index=frame.index)), "members").y is not None
    nullable = pd.DataFrame({"a": pd.array([1, 2, 3], dtype="Int64"), "b": pd.array([0.5, 1, 2], dtype="Float64")})
    assert rows_of(take((nullable, [0, 1, 2]), "members"), Box(0, 3)).tolist() == [[1, 0.5], [2, 1], [3, 2]]


def test_data_frames_whose_labels_belong_to_other_rows() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=[10, 11])
    with pytest.raises(InputError, match="the index of x and the index of y differ"):
        take((frame, pd.Series([0, 1], index=[11, 10])), "members")


def test_pandas_is_not_imported_for_arrays() -> None:
    code = (
        "import sys, numpy as np; from labelleaks.inputs.arrays import take;"
        "take((np.ones((3, 2)), [0, 1, 1]), 'members'); sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_inputs_are_neither_changed_nor_shared() -> None:
    for x in (X.copy(), torch.tensor(X)):
        rows_of(take((x, Y), "members")).mul_(0)
        assert np.array_equal(np.asarray(x), X)
    frozen = X.copy()
    frozen.setflags(write=False)  # as from np.load(mmap_mode="r"); also must not warn
    rows_of(take((frozen, Y), "members")).mul_(0)
    assert np.array_equal(frozen, X)


def test_units_and_layout_stay() -> None:
    images = np.arange(2 * 5 * 4 * 3, dtype=np.uint8).reshape(2, 5, 4, 3)
    found = take((images, [0, 1]), "members")
    assert rows_of(found, Box(0, 255, levels=256)).equal(torch.tensor(images).float())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "members: nothing was given"),
        ((X, Y, Y), "a tuple of 3; .x, y. or .x,. is needed"),
        (X, r"rows without labels; give \(x, y\)"),
        ((X, None), "rows without labels"),
        ((X, Y[:5]), "6 rows but 5 labels"),
        ((X[:0], Y[:0]), r"is empty .x has the shape \(0, 4\)"),
        ((X[:, :0], Y), r"is empty .x has the shape \(6, 0\)"),
        (([], []), r"shape \(0,\)"),
        (Rows([]), "is empty"),
        ((X[0], Y[:4]), r"shape \(4,\); rows with at least one feature axis .*x\[None\]"),
        ((np.where(X[2, 1] == X, np.nan, X)[:, None], Y), "1 of 6 rows hold NaN; the first is nan at row 2, feature 1"),
        ((np.where(X[3, 3] < X, -np.inf, X), Y), "2 of 6 rows hold infinity; the first is -inf at row 4, feature 0"),
        ((np.full((6, 4), 1e200), Y), "6 of 6 rows hold numbers too large.*first is 1e.200 at row 0"),
        (([[1.0, 2.0], [3.0]], [0, 1]), r"x is not rows of one shape .*tuple \(x, y\)"),
        (([X, Y], Y), r"not rows of one shape .*tuple"),
        (([torch.ones(2), torch.ones(3)], [0, 1]), r"rows of different shapes: \(2,\), \(3,\)"),
        ((np.array([[["a", "b"]]] * 6), Y), "x is an array of <U1 in 3 axes"),
        ((np.array([[[1, "b"]]] * 6, dtype=object), Y), "x is an array of object in 3 axes; give numbers"),
        ((X * 1j, Y), "complex"),
        ((torch.tensor(X) * 1j, Y), "complex64; real numbers"),
        (("rows.npy", Y), "x is a str"),
        ((3, Y), "x is a int; an array"),
        ((X, [0, 1, 2, 0, 1, 1.5]), "label 1.5 at row 5 is neither a whole number nor a string"),
        ((X, [0, 1, float("nan"), 0, 1, 2]), "label nan at row 2"),
        ((X, [0, 1, None, 0, 1, 2]), "label None at row 2"),
        ((X, [0, 1, 2, "a", 1, 2]), "label 'a' at row 3"),
        ((X, np.array([0, 1, 2, "a", 1, 2], dtype=object)), "label 'a' at row 3"),
        ((X, np.eye(6)), r"labels of shape \(6, 6\); .*argmax\(1\)"),
        ((X, [[0], [1, 2], [3], [4], [5], [6]]), "labels cannot be read"),
        ((X, 3), r"labels of shape \(\)"),
        (Rows([{"x": 1, "y": 2}]), r"items of the data set must be .* not a dict with \['x', 'y'\]"),
        (Rows([(1, 2, 3)]), "not a tuple of 3"),
    ],
)
def test_what_cannot_be_rows_is_one_clear_line(given: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        take(given, "members")
    assert str(caught.value).startswith("members: ")
    assert "\n" not in str(caught.value)


def test_a_random_transform_is_noticed() -> None:
    class Jitter(Rows):
        def __getitem__(self, i: int) -> Any:
            x, y = super().__getitem__(i)
            return x + torch.rand(4), y

    with pytest.raises(InputError, match="random transform; give it the evaluation transform"):
        take(Jitter(pairs().items), "members")


def test_labels_may_be_left_out_where_they_are_not_needed() -> None:
    for given in (X, (X,), (X, None), Rows(list(torch.tensor(X)))):
        assert take(given, "shadow", labels=False).y is None
    assert take((X, Y), "shadow", labels=False).y is not None


def test_groups_must_fit_each_other_and_the_domain() -> None:
    members, others = take((X, Y), "members"), take((X[:, :3], Y), "nonmembers")
    with pytest.raises(InputError, match=r"nonmembers: rows of shape \(3,\), but members have \(4,\)"):
        encode([members, others], Box(0, 1))
    encode([members, take((X, Y), "nonmembers")], Box(0, 1))
    with pytest.raises(InputError, match=r"nonmembers: 2 of 6 rows .* worst is 1.4375 at row 5, feature 3, allowed"):
        encode([members, take((X * 2, Y), "nonmembers")], Box(0, 1))
    with pytest.raises(InputError, match="members: 6 of 6 rows have values that are neither 0 nor 1"):
        encode([members], Binary())


def test_rows_go_where_they_are_told() -> None:
    (x,) = encode([take((X, Y), "members")], Unbounded(), device="meta").x
    assert x.device.type == "meta"
