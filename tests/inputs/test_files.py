"""Rows and targets from files; what cannot be read becomes one line that says what is expected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_model
from torch import nn

from labelleaks.core.names import import_object
from labelleaks.errors import InputError, SpecError
from labelleaks.inputs.files import ImageFormat, read_rows
from labelleaks.targets.files import load_target


def build() -> nn.Module:
    """A factory that specs can name."""
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))


def test_npz_rows_labels_and_ids(tmp_path: Path) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.savez(tmp_path / "a.npz", x=x, y=np.array([0, 1, 2]), ids=np.array(["a", "b", "c"]))
    rows = read_rows(tmp_path / "a.npz")
    assert np.array_equal(rows.x, x) and rows.y is not None and rows.y.tolist() == [0, 1, 2]
    assert rows.ids == ("a", "b", "c")


def test_eight_bit_pictures_become_channels_first_in_zero_to_one(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([1, 0]))
    rows = read_rows(tmp_path / "a.npz")
    assert rows.x.shape == (2, 3, 5, 6) and rows.x.dtype == np.float32
    assert np.array_equal(rows.x, images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    kept = read_rows(tmp_path / "a.npz", images=ImageFormat(layout="hwc", scale=1))
    assert np.array_equal(kept.x, images.astype(np.float32))


def test_npy_with_labels_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    np.save(tmp_path / "y.npy", np.array([4, 5]))
    rows = read_rows(tmp_path / "x.npy", labels=tmp_path / "y.npy")
    assert rows.x.shape == (2, 3) and rows.y is not None and rows.y.tolist() == [4, 5]


def test_csv_and_parquet_agree(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": ["p", "q"], "age": [31.5, 40.0], "paid": [1, 0], "label": ["yes", "no"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        rows = read_rows(tmp_path / name)
        pandas.testing.assert_frame_equal(rows.x, frame[["age", "paid"]])
        assert rows.y is not None and rows.y.tolist() == ["yes", "no"]
        assert rows.ids == ("p", "q")


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    for kind, value in (("cat", 0), ("dog", 255)):
        (tmp_path / kind).mkdir()
        Image.fromarray(np.full((4, 4, 3), value, dtype=np.uint8)).save(tmp_path / kind / "1.png")
    rows = read_rows(tmp_path)
    assert rows.x.shape == (2, 3, 4, 4) and rows.y is not None and rows.y.tolist() == ["cat", "dog"]
    assert rows.ids == ("cat/1.png", "dog/1.png") and rows.x[1].min() == 1.0


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.npz", b"not a zip", "not a plain NumPy file"),
        ("a.npy", b"", "not a plain NumPy file"),
        ("a.csv", b"x,label\n1\n", "row 2 has 1 fields, the header has 2"),
        ("a.csv", b"1.5,2,0\n3,4,1\n", "looks like a row"),
        ("a.csv", b",x,label\n0,3,4\n", "column 0 has no name"),
        ("a.csv", b"x;label\n3;4\n", "separated by ';'"),
        ("a.csv", b"x,label\n3,\n", "column 'label', row 0: no label"),
        ("a.csv", b"x,x,label\n1,2,1\n", "names a column twice"),
        ("a.csv", b"\xff\xfe\x00", "not a UTF-8 CSV file"),
        ("a.csv", b"x,label\n", "at least one row"),
        ("a.txt", b"1", "unknown ending"),
        ("a.parquet", b"1234", "not a parquet file"),
    ],
)
def test_a_bad_file_gets_one_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_rows(tmp_path / name)
    assert says in str(caught.value) and name in str(caught.value) and "\n" not in str(caught.value)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError):
        read_rows(tmp_path / "a.npz")


def test_missing_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_rows(tmp_path / "none.npz")
    np.savez(tmp_path / "a.npz", rows=np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"holds \['rows'\]"):
        read_rows(tmp_path / "a.npz")
    (tmp_path / "t.csv").write_text("a,kind\n1,x\n")
    with pytest.raises(InputError, match="did you mean 'kind'"):
        read_rows(tmp_path / "t.csv", label_column="kinds")


def test_safetensors_with_a_factory(tmp_path: Path) -> None:
    model = build()
    save_model(model, str(tmp_path / "m.safetensors"))
    found = load_target(str(tmp_path / "m.safetensors"), factory="tests.inputs.test_files:build")
    x = torch.rand(5, 4)
    assert torch.equal(found(x), model(x))
    with pytest.raises(SpecError, match="name the factory"):
        load_target(str(tmp_path / "m.safetensors"))
    with pytest.raises(SpecError, match="do not fit"):
        load_target(str(tmp_path / "m.safetensors"), factory="torch.nn:Identity")


def test_torchscript_and_joblib(tmp_path: Path) -> None:
    import joblib
    from sklearn.linear_model import LogisticRegression

    with pytest.warns(DeprecationWarning):
        torch.jit.trace(build(), torch.rand(2, 4)).save(str(tmp_path / "m.pt"))
    with pytest.warns(DeprecationWarning):
        assert load_target(str(tmp_path / "m.pt"))(torch.rand(2, 4)).shape == (2, 3)
    joblib.dump(LogisticRegression(), tmp_path / "m.joblib")
    with pytest.raises(SpecError, match="--trust-pickle"):
        load_target(str(tmp_path / "m.joblib"))
    assert isinstance(load_target(str(tmp_path / "m.joblib"), trust_pickle=True), LogisticRegression)


def test_functions_are_imported_by_name() -> None:
    assert import_object("math:sqrt")(4) == 2
    for name, says in (
        ("math", "not of the form"),
        ("no_such_module_x:f", "no module named"),
        ("math:sqrtt", "did you mean 'sqrt'"),
        ("nowhere.npz", "not of the form"),
    ):
        with pytest.raises(SpecError, match=says):
            import_object(name)
    with pytest.raises(SpecError, match="no such file"):
        load_target("nothing.safetensors")
    with pytest.raises(SpecError, match="is a class"):
        load_target("torch.nn:Linear")
