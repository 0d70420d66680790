"""What comes by file reaches the target as it is, row by row, or is refused in one line: kinds of content x doors."""

from __future__ import annotations

import csv
import io
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from sklearn.tree import DecisionTreeClassifier
from torch import nn

import labelleaks as ll
from labelleaks.cli import from_spec
from labelleaks.cli.spec import AuditSpec, DataSpec, ImagesSpec
from labelleaks.cli.spec_file import load_spec
from labelleaks.errors import InputError, LabelLeaksError
from labelleaks.inputs.csv_tables import typed
from labelleaks.inputs.files import ImageFormat, read_rows
from labelleaks.inputs.pictures import scaled
from labelleaks.inputs.tables import to_table
from labelleaks.targets.files import read_answers
from labelleaks.targets.tables import takes_table
from tests.support import cli

WIDE = {"kind": "box", "low": -1e12, "high": 1e12}


class Door:
    """Runs audits from files and holds what their target was sent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[Any] = []

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def csv(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text, encoding="utf-8", newline="")
        return self.path(name)

    def audit(self, members: Any, nonmembers: Any, *, target: str = "door:plain", **keys: Any) -> Any:
        """Audit with the gap attack alone, which sends the candidates and nothing else; ``data__as`` is ``data.as``."""
        self.seen.clear()
        said: dict[tuple[str, ...], Any] = {
            ("target",): {"path": target, "classes": [0, 1]}, ("attacks",): ["gap"], ("budget",): 3,
            ("data", "members"): members, ("data", "nonmembers"): nonmembers,
        }  # fmt: skip
        said |= {tuple(key.split("__")): value for key, value in keys.items()}
        spec = load_spec(AuditSpec, None, said)
        return ll.audit(**from_spec.audit_arguments(spec, trust_pickle=True), show_progress=False)

    def refused(self, *files: Any, **keys: Any) -> str:
        """What is said, in one line, before the target is asked."""
        with pytest.raises(LabelLeaksError) as caught:
            self.audit(*files, **keys)
        message = str(caught.value)
        assert "\n" not in message and not self.seen, message
        return message


def _plain(self: Door) -> Callable[..., Any]:
    def predict(rows):  # type: ignore[no-untyped-def]
        self.seen.append(rows.copy())
        return np.zeros(len(rows), int)

    return predict


def _annotated(self: Door) -> Callable[..., Any]:
    def predict(frame: pd.DataFrame) -> Any:
        self.seen.append(frame.copy())
        return np.zeros(len(frame), int)

    return predict


def _dict(self: Door) -> Callable[..., Any]:
    def predict(columns: dict[str, Any]) -> Any:
        self.seen.append(dict(columns))
        return np.zeros(len(columns["value"]), int)

    return predict


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
    made = Door(tmp_path)
    module = types.ModuleType("door")
    module.plain, module.frame, module.columns = _plain(made), _annotated(made), _dict(made)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "door", module)
    return made


def cells(rows: Any) -> set[tuple[Any, ...]]:
    """Rows as tuples of type and value, whatever their kind."""
    if isinstance(rows, pd.DataFrame):
        columns = [[(type(v).__name__, repr(v)) for v in rows[name].tolist()] for name in rows]
        return set(zip(*columns, strict=True))
    return {(row.dtype.str, row.shape, np.ascontiguousarray(row).tobytes()) for row in np.asarray(rows)}


def same(seen: Sequence[Any], users: Any) -> None:
    """Assert that the target saw the user's rows and no others, of the same kind, order of columns and dtypes."""
    assert seen
    for batch in seen:
        assert type(batch) is type(users)
        if isinstance(users, pd.DataFrame):
            assert list(batch.columns) == list(users.columns)
            assert batch.dtypes.tolist() == users.dtypes.tolist()
        else:
            assert batch.dtype == users.dtype and batch.shape[1:] == users.shape[1:]
    assert set().union(*map(cells, seen)) == cells(users)


# --- columns of tables ------------------------------------------------------------------------------------------------

COLUMNS: dict[str, list[str]] = {
    "whole": ["3", "-4", "0", "17"],
    "whole beyond float32": ["20180131", "20180201", "20180202", "16777217"],
    "unix time": ["1700000001", "1700000002", "1700000003", "1700000005"],
    "whole beyond float64": ["9007199254740993", "9007199254740995", "1", "2"],
    "cents": ["123456.78", "123456.79", "0.01", "99999999.99"],
    "fractions of 17 digits": [repr(v) for v in np.random.default_rng(0).random(4)],
    "tiny and large": ["1e-30", "-2.5e30", "0.0", "3"],
    "one digit": ["0.1", "0.2", "0.3", "0.7"],
    "exponents": ["1e3", "2E-2", "+5", ".5"],
    "spaces around": [" 5", "6 ", " 7 ", "8"],
    "gaps": ["1.5", "", "2.5", "NA"],
    "whole with gaps": ["1", "", "3", "4"],
    "always missing": ["", "", "", ""],
    "text": ["rome", "oslo", "rome", "bern"],
    "text with gaps": ["rome", "", "oslo", "null"],
    "text of numbers and words": ["12", "twelve", "13", "7"],
    "text with commas": ["a,b", 'say "no"', "x\ny", "plain"],
    "accents": ["é", "東京", "ß", "🙂"],
    "dates": ["2018-01-31", "2019-02-28", "2020-02-29", "2018-01-31"],
    "leading zeros": ["007", "010", "123", "001"],
    "truth": ["True", "False", "True", "False"],
    "truth in capitals": ["TRUE", "FALSE", "TRUE", "TRUE"],
    "truth with gaps": ["True", "", "False", "True"],
    "yes and no": ["yes", "no", "no", "yes"],
    "one value": ["5", "5", "5", "5"],
    "one word": ["x", "x", "x", "x"],
    "long whole": ["123456789012345678901234567890", "1", "2", "3"],
}
TEXT_SPLIT = {"fraction here, whole there": (["1.5", "2.5"], ["3", "4"]), "gap there": (["1", "2"], ["", "4"]),
    "words there": (["1", "2"], ["x", "4"]), "truth and a gap": (["True", "False"], ["", "True"])}  # fmt: skip


def table_text(column: Sequence[str], labels: Sequence[Any] = (0, 1, 0, 1)) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["b", "value", "label"])
    writer.writerows([[f"{0.25 * i}", text, label] for i, (text, label) in enumerate(zip(column, labels, strict=True))])
    return stream.getvalue()


def halves(door: Door, column: Sequence[str]) -> tuple[str, str, pd.DataFrame]:
    """Two CSV files of two rows each, and all rows as the user's own code reads them."""
    text = table_text(column)
    whole = pd.read_csv(io.StringIO(text))
    stream = list(csv.reader(io.StringIO(text)))
    paths = []
    for name, rows in (("m.csv", stream[1:3]), ("n.csv", stream[3:])):
        with open(door.path(name), "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([stream[0], *rows])
        paths.append(door.path(name))
    return paths[0], paths[1], whole[["b", "value"]]


@pytest.mark.parametrize("kind", COLUMNS)
def test_csv_to_a_function_of_frames(door: Door, kind: str) -> None:
    members, nonmembers, users = halves(door, COLUMNS[kind])
    door.audit(members, nonmembers, target="door:frame")
    same(door.seen, users)


@pytest.mark.parametrize("kind", COLUMNS)
def test_csv_to_any_function(door: Door, kind: str) -> None:
    """Complete numbers are an array, of float32 where that holds all of them; anything else is a frame."""
    members, nonmembers, users = halves(door, COLUMNS[kind])
    if kind == "whole beyond float64":
        assert "data.as: frame" in door.refused(members, nonmembers)  # the mend is tried below
        return
    door.audit(members, nonmembers)
    if all(dtype.kind in "iuf" for dtype in users.dtypes) and not users.isna().any().any():
        exact = [np.float32, np.float64]
        array = next((users.to_numpy().astype(t) for t in exact if (users.astype(t) == users).all().all()), None)
        assert array is not None
        same(door.seen, array)
    else:
        same(door.seen, users)


def test_numbers_that_no_array_holds_are_refused_with_a_mend(door: Door) -> None:
    members, nonmembers, users = halves(door, COLUMNS["whole beyond float64"])
    assert "data.as: frame" in door.refused(members, nonmembers)
    door.audit(members, nonmembers, data__as="frame")
    same(door.seen, users)
    door.audit(members, nonmembers, data__as="float64")  # rounded, since it is said
    assert door.seen[0].dtype == np.float64


@pytest.mark.parametrize("kind", COLUMNS)
def test_parquet_to_a_function_of_frames(door: Door, kind: str) -> None:
    if kind == "long whole":
        pytest.skip("no .parquet holds it")
    _, _, users = halves(door, COLUMNS[kind])
    for name, part in (("m", users[:2]), ("n", users[2:])):
        part.assign(label=[0, 1]).reset_index(drop=True).to_parquet(door.path(f"{name}.parquet"))
    door.audit(door.path("m.parquet"), door.path("n.parquet"), target="door:frame")
    read = [pd.read_parquet(door.path(f"{name}.parquet")).drop(columns="label") for name in "mn"]
    same(door.seen, pd.concat(read))


PARQUET: dict[str, Any] = {
    "nullable whole": pd.array([1, None, 2**60, 4], dtype="Int64"),
    "nullable truth": pd.array([True, None, False, True], dtype="boolean"),
    "categories": pd.Categorical(["a", "b", None, "a"], categories=["b", "a", "c"]),
    "ordered categories": pd.Categorical(["lo", "hi", "lo", "hi"], categories=["lo", "hi"], ordered=True),
    "times": pd.to_datetime(["2018-01-31", "2019-01-01", None, "2020-02-29"]),
    "times of a zone": pd.to_datetime(["2018-01-31", "2019-01-01", "2020-02-28", "2020-02-29"]).tz_localize(
        "Asia/Tokyo"
    ),
    "float32": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
    "int8": np.array([1, -2, 3, 4], np.int8),
    "text": pd.array(["a", None, "b", "c"], dtype="string"),
}


@pytest.mark.parametrize("kind", PARQUET)
def test_parquet_keeps_the_types_of_its_columns(door: Door, kind: str) -> None:
    users = pd.DataFrame({"b": [0.0, 0.5, 1.0, 1.5], "value": PARQUET[kind]})
    for name, part in (("m", users[:2]), ("n", users[2:])):
        part.assign(label=[0, 1]).reset_index(drop=True).to_parquet(door.path(f"{name}.parquet"))
    door.audit(door.path("m.parquet"), door.path("n.parquet"), target="door:frame")
    back = pd.read_parquet(door.path("m.parquet"))["value"].dtype
    same(door.seen, users.astype({"value": back}))


@pytest.mark.parametrize("kind", COLUMNS)
def test_texts_are_typed_as_pandas_does(kind: str) -> None:
    text = table_text(COLUMNS[kind])
    users = pd.read_csv(io.StringIO(text))[["value"]]
    pd.testing.assert_frame_equal(to_table({"value": typed(COLUMNS[kind])}), users)


FIELDS = [
    *["1", "-3", "+4", "007", "1.5", "1e5", "1E-3", ".5", "5.", "0.1", "-0", "-0.0", "1e400", "1e-400"],
    *[
        "",
        "NA",
        "nan",
        "None",
        "<NA>",
        "n/a",
        "Nan",
        "NONE",
        "N/A ",
        "True",
        "False",
        "TRUE",
        "true",
        "TRUE ",
        "yes",
        "x",
    ],
    *[" 5", "5 ", "\t3", "  7.5 ", "9007199254740993", "inf", "-inf", "+inf", "Infinity"],
    *["1_000", "0x10", "1,5", "٣", "e5", "-", "--1", "1.2.3", "1 2"],
]


@given(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_texts_are_typed_as_pandas_does(texts: list[str]) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerows([["b", "value"], *[[i, text] for i, text in enumerate(texts)]])
    try:
        ours = to_table({"value": typed(texts)})
    except InputError as error:  # pandas rounds it
        assert "9007199254740993 beside" in str(error)
        return
    pd.testing.assert_frame_equal(ours, pd.read_csv(io.StringIO(stream.getvalue()))[["value"]], check_exact=True)


@pytest.mark.parametrize("kind", TEXT_SPLIT)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_both_files_are_typed_together(door: Door, kind: str, ending: str) -> None:
    here, there = TEXT_SPLIT[kind]
    members, nonmembers, users = halves(door, [*here, *there])
    if ending == "parquet":
        if kind in ("words there", "truth and a gap"):
            pytest.skip("a type for each file is what a .parquet says")
        for path in (members, nonmembers):
            pd.read_csv(path).to_parquet(path.replace(".csv", ".parquet"))
        members, nonmembers = (path.replace(".csv", ".parquet") for path in (members, nonmembers))
    door.audit(members, nonmembers, target="door:frame")
    same(door.seen, users)


def test_a_whole_number_that_a_gap_would_round_is_refused(door: Door) -> None:
    members, nonmembers, _ = halves(door, ["9007199254740993", "2", "", "4"])
    message = door.refused(members, nonmembers, target="door:frame")
    assert "column 'value'" in message and "9007199254740993" in message and ".parquet" in message
    users = pd.DataFrame({"b": [0.0, 0.5], "value": pd.array([9007199254740993, None], dtype="Int64"), "label": [0, 1]})
    users.to_parquet(door.path("m.parquet"))
    users.to_parquet(door.path("n.parquet"))
    door.audit(door.path("m.parquet"), door.path("n.parquet"), target="door:frame")
    same(door.seen, users[["b", "value"]])


# --- names of columns -------------------------------------------------------------------------------------------------


def test_another_order_of_columns_is_put_right(door: Door) -> None:
    members = door.csv("m.csv", "a,b,c,label\n0.25,0.5,1,0\n0.5,0.5,0,1\n")
    nonmembers = door.csv("n.csv", "c,label,a,b\n1,0,0,0.75\n0,1,1,0.5\n")
    for target in ("door:plain", "door:frame"):
        door.audit(members, nonmembers, target=target)
        users = pd.DataFrame({"a": [0.25, 0.5, 0, 1], "b": [0.5, 0.5, 0.75, 0.5], "c": [1, 0, 1, 0]})
        same(door.seen, users if target == "door:frame" else users.to_numpy().astype(np.float32))


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("a,d,label", "'b' is missing; known: d"),
        ("a,b,z,label", "column 'z' is in no other rows"),
        ("a,label", "'b' is"),
    ],
)
def test_other_columns_are_refused_by_name(door: Door, header: str, says: str) -> None:
    members = door.csv("m.csv", "a,b,label\n1,2,0\n3,4,1\n")
    fields = header.count(",")
    nonmembers = door.csv("n.csv", f"{header}\n{'5,' * fields}0\n{'6,' * fields}1\n")
    for target in ("door:plain", "door:frame"):
        assert says in door.refused(members, nonmembers, target=target)


def test_columns_are_matched_through_python_too(tmp_path: Path) -> None:
    """A target that is never wrong does not look leaky because one file has its columns in another order."""
    draw = np.random.default_rng(0)
    table = pd.DataFrame(np.round(draw.uniform(0, 1, (400, 3)), 3), columns=list("abc"))
    table["label"] = (table["a"] > 0.5).astype(int)
    table[:200].to_csv(tmp_path / "m.csv", index=False)
    table[200:][["c", "a", "b", "label"]].to_csv(tmp_path / "n.csv", index=False)
    members, nonmembers = read_rows(tmp_path / "m.csv"), read_rows(tmp_path / "n.csv")
    record = ll.audit(
        lambda x: (np.asarray(x)[:, 0] > 0.5).astype(int),
        members=(members.x, members.y), nonmembers=(nonmembers.x, nonmembers.y), attacks=["gap"], budget=5,
    )  # fmt: skip
    assert record["gap"].auc.value == 0.5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5.1,3.5,0\n4.9,3.0,1\n", "looks like a row"),
        ("5.1,rome,0\n4.9,oslo,1\n", "looks like a row"),
        ("red,rome,yes\nblue,oslo,no\nred,rome,yes\n", "looks like a row"),
        (",a,label\n0,1,0\n1,2,1\n", "column 0 has no name"),
        ("a,a,label\n1,2,0\n", "names a column twice"),
        ("a;b;label\n1;2;0\n", "separated by ';'"),
        ("a\tb\tlabel\n1\t2\t0\n", "separated by"),
        ("a,b,label\n1,2,0\n1,2\n", "row 3 has 2 fields"),
        ("a,b,label\n", "at least one row"),
        ("", "at least one row"),
        ("a,label\n1,\n", "no label"),
        ("a,b\n1,2\n", "no labels"),
        ("label\n1\n", "no feature column"),
        ("id,a,label\n7,1,0\n7,2,1\n", "id '7' is there twice"),
        ("a,b,label\ninf,1,0\n2,3,1\n", "infinity"),
    ],
)
def test_a_csv_that_cannot_be_carried_is_refused(door: Door, text: str, says: str) -> None:
    good = door.csv("n.csv", "a,b,label\n1,2,0\n3,4,1\n" if "id" not in text else "id,a,label\n1,2,0\n3,4,1\n")
    assert says in door.refused(door.csv("m.csv", text), good, target="door:frame")


def test_the_mends_for_a_first_line_that_looks_like_a_row(door: Door) -> None:
    first, second = "5.1,3.5,0\n4.9,3.0,1\n", "6.1,2.5,1\n5.5,2.0,0\n"
    files = door.csv("m.csv", first), door.csv("n.csv", second)
    message = door.refused(*files)
    assert "header: false" in message and "line of names" in message
    users = np.array([[5.1, 3.5], [4.9, 3.0], [6.1, 2.5], [5.5, 2.0]])
    door.audit(*[{"path": path, "label_column": 2} for path in files], data__header=False)
    same(door.seen, users)
    door.audit(door.csv("m.csv", "a,b,label\n" + first), door.csv("n.csv", "a,b,label\n" + second))
    same(door.seen, users)
    named = [door.csv(name, f"2019,2020,label\n{text}") for name, text in (("m.csv", first), ("n.csv", second))]
    assert "true if these are names" in door.refused(*named)
    door.audit(*named, data__header=True)
    same(door.seen, users)


def test_columns_called_by_their_number_are_names(door: Door) -> None:
    door.audit(door.csv("m.csv", "0,1,label\n5,6,0\n"), door.csv("n.csv", "0,1,label\n7,8,1\n"))
    same(door.seen, np.array([[5, 6], [7, 8]], np.float32))


@pytest.mark.parametrize(("mark", "end"), [("\ufeff", "\n"), ("", "\r\n"), ("\ufeff", "\r\n")])
def test_marks_and_ends_of_lines(door: Door, mark: str, end: str) -> None:
    files = [door.csv(n, f"{mark}a,b,label{end}{v},2,0{end}{v},3,1{end}") for n, v in (("m.csv", 4), ("n.csv", 5))]
    door.audit(*files)
    same(door.seen, np.array([[4, 2], [4, 3], [5, 2], [5, 3]], np.float32))


@pytest.mark.parametrize(
    ("labels", "found"),
    [(["0", "1"], [0, 1]), (["0.0", "1.0"], [0, 1]), (["True", "False"], [True, False]), (["no", "yes"], ["no", "yes"]),
     (["None", "NA"], ["None", "NA"])],
)  # fmt: skip
def test_labels_of_a_csv(door: Door, labels: list[str], found: list[Any]) -> None:
    rows = read_rows(door.csv("m.csv", f"a,label\n1,{labels[0]}\n2,{labels[1]}\n"))
    assert rows.y is not None and rows.y.tolist() == found


# --- what the target is asked with ------------------------------------------------------------------------------------


def people(count: int) -> pd.DataFrame:
    draw = np.random.default_rng(3)
    frame = pd.DataFrame({"age": draw.integers(18, 90, count), "city": draw.choice(["rome", "oslo", "bern"], count)})
    frame["income"] = np.round(draw.uniform(1e4, 1e5, count), 2)
    frame.loc[::7, "income"] = np.nan
    return frame.assign(label=((frame["age"] > 50) ^ (frame["city"] == "rome")).astype(int))


def fitted(frame: pd.DataFrame) -> Any:
    encode = make_column_transformer((OrdinalEncoder(), ["city"]), remainder="passthrough")
    model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2, random_state=0))
    return model.fit(frame[["age", "city", "income"]], frame["label"])


def test_the_command_on_a_table_with_words_and_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline with its own encoder, on CSV files as they are: the answers are those of the user's own code."""
    frame = people(60)
    model = fitted(frame[:30])
    joblib.dump(model, tmp_path / "model.joblib")
    frame[:30].to_csv(tmp_path / "m.csv", index=False)
    frame[30:][["label", "income", "city", "age"]].to_csv(tmp_path / "n.csv", index=False)
    monkeypatch.chdir(tmp_path)
    words = ["audit", "--target", "model.joblib", "--trust-pickle", "--members", "m.csv", "--nonmembers", "n.csv"]
    done = cli(*words, "--attacks", "gap,noise", "--budget", "5", "--out", "run", "-q")
    assert done.exit_code == 0, done.output
    right = (model.predict(frame[["age", "city", "income"]]) == frame["label"]).to_numpy()
    record = ll.load(tmp_path / "run")
    assert np.array_equal(record["gap"].scores > 0.5, right)
    assert record.domain["kind"] == "mixed"


def test_an_array_goes_to_a_model_that_was_fitted_on_one(door: Door) -> None:
    frame = people(40)[["age", "income", "label"]].fillna(5.0)
    model = DecisionTreeClassifier(random_state=0).fit(frame[["age", "income"]].to_numpy(), frame["label"])
    joblib.dump(model, door.path("model.joblib"))
    for name, part in (("m.csv", frame[:20]), ("n.csv", frame[20:])):
        part.to_csv(door.path(name), index=False)
    record = door.audit(door.path("m.csv"), door.path("n.csv"), target=door.path("model.joblib"))
    right = model.predict(frame[["age", "income"]].to_numpy()) == frame["label"]
    assert np.array_equal(record["gap"].scores > 0.5, right)


def test_a_target_with_other_columns_is_refused_by_name(door: Door) -> None:
    joblib.dump(fitted(people(20)), door.path("model.joblib"))
    for name in ("m.csv", "n.csv"):
        people(20).rename(columns={"age": "years"}).to_csv(door.path(name), index=False)
    message = door.refused(door.path("m.csv"), door.path("n.csv"), target=door.path("model.joblib"))
    assert "'age'" in message


@pytest.mark.parametrize(
    ("model", "numbers", "table"),
    [
        (lambda x: x, True, False),
        (lambda x: x, False, True),
        (nn.Linear(2, 2), True, False),
        (fitted(people(20)), True, True),
        (DecisionTreeClassifier().fit(np.eye(2), [0, 1]), True, False),
        (DecisionTreeClassifier().fit(pd.DataFrame(np.eye(2), columns=["a", "b"]), [0, 1]), True, True),
        (types.SimpleNamespace(predict=len, feature_name=lambda: ["Column_0", "Column_1"]), True, False),
        (types.SimpleNamespace(predict=len, feature_name=lambda: ["age", "city"]), True, True),
        (types.SimpleNamespace(predict=len, feature_names=["f0", "f1"]), True, False),
        (types.SimpleNamespace(predict=len, feature_names_=["age"]), True, True),
    ],
)
def test_what_a_target_shows_decides(model: Any, numbers: bool, table: bool) -> None:
    assert takes_table(model, complete_numbers=numbers) is table


@pytest.mark.parametrize(
    ("word", "kind", "dtype"),
    [("frame", pd.DataFrame, None), ("array", np.ndarray, np.float64), ("float32", np.ndarray, np.float32),
     ("float64", np.ndarray, np.float64), ("columns", dict, None)],
)  # fmt: skip
def test_the_users_word_decides(door: Door, word: str, kind: type, dtype: Any) -> None:
    members, nonmembers, users = halves(door, COLUMNS["cents"])
    door.audit(members, nonmembers, data__as=word, target="door:columns" if word == "columns" else "door:plain")
    assert all(isinstance(batch, kind) for batch in door.seen)
    if kind is np.ndarray:
        same(door.seen, users.to_numpy().astype(dtype))
    elif kind is dict:
        assert {float(v) for batch in door.seen for v in batch["value"]} == set(users["value"])
    else:
        same(door.seen, users)


@pytest.mark.parametrize("kind", ["text", "truth with gaps", "gaps", "whole beyond float32"])
def test_columns_need_no_pandas(door: Door, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    members, nonmembers, users = halves(door, COLUMNS[kind])
    monkeypatch.setitem(sys.modules, "pandas", None)
    if kind == "whole beyond float32":
        door.audit(members, nonmembers)
        same(door.seen, users.to_numpy().astype(np.float64))
        return
    message = door.refused(members, nonmembers)
    assert "labelleaks[tables]" in message and "data.as: columns" in message
    door.audit(members, nonmembers, target="door:columns", data__as="columns")
    got = {repr(v) for batch in door.seen for v in batch["value"].tolist()}
    assert got == {repr(v) for v in users["value"].tolist()}


def test_words_where_numbers_are_asked_for_are_refused(door: Door) -> None:
    members, nonmembers, users = halves(door, COLUMNS["text"])
    message = door.refused(members, nonmembers, data__as="array")
    assert "column 'value'" in message and "data.as: frame" in message
    door.audit(members, nonmembers, data__as="frame")
    same(door.seen, users)


def test_a_function_that_takes_another_kind_is_told_the_mend(door: Door) -> None:
    weights = nn.Linear(2, 2)
    door_module = sys.modules["door"]
    door_module.torch = lambda x: weights(torch.from_numpy(x)).argmax(1)  # type: ignore[attr-defined]
    door_module.position = lambda x: (x[:, 0] > 0).astype(int)  # type: ignore[attr-defined]
    small = [door.csv(n, "a,b,label\n0.1,0.3,0\n0.2,0.5,1\n") for n in ("m.csv", "n.csv")]
    assert "data.as: float32" in door.refused(*small, target="door:torch")
    door.audit(*small, target="door:torch", data__as="float32")
    truth = [door.csv(n, "a,b,label\nTrue,0.3,0\nFalse,0.5,1\n") for n in ("m.csv", "n.csv")]
    assert "data.as: array" in door.refused(*truth, target="door:position")
    door.audit(*truth, target="door:position", data__as="array")


def test_a_threshold_of_known_rows_takes_numbers(door: Door) -> None:
    """From files whose columns are in another order; of a table it is refused, and the mend works."""
    files = [door.csv(n, "a,b,label\n0.1,0.3,0\n0.2,0.5,1\n0.3,0.1,0\n") for n in ("m.csv", "n.csv")]
    known = door.csv("known.csv", "b,a,label\n7,0.1,0\n9,0.2,1\n")
    rule = {"name": "hold_out", "members": known, "nonmembers": known}
    wide = {"kind": "box", "low": 0, "high": [0.5, 10]}
    message = door.refused(*files, target="door:frame", thresholds=[rule])
    assert "data.as: array and domain:" in message
    door.audit(*files, target="door:frame", thresholds=[rule], data__as="array", domain=wide)
    sent = set().union(*map(cells, door.seen))
    assert cells(np.array([[0.1, 7], [0.2, 9]])) <= sent


def test_a_file_may_have_a_comma_in_its_name(door: Door) -> None:
    door.audit(door.csv("m,1.csv", "a,label\n1,0\n2,1\n"), door.csv("n,1.csv", "a,label\n3,0\n4,1\n"))
    same(door.seen, np.array([[1], [2], [3], [4]], np.float32))


# --- domains ----------------------------------------------------------------------------------------------------------


def test_a_table_in_a_spec_says_what_columns_may_hold(door: Door) -> None:
    frame = people(20)
    for name, part in (("m.csv", frame[:10]), ("n.csv", frame[10:])):
        part.to_csv(door.path(name), index=False)
    files = door.path("m.csv"), door.path("n.csv")
    said = {"kind": "table", "columns": {"age": {"low": 0, "high": 120}, "city": ["rome", "oslo", "bern", "nice"]}}
    record = door.audit(*files, target="door:frame", domain=said)
    same(door.seen, frame[["age", "city", "income"]])
    parts = record.domain["parts"]
    assert parts[0]["low"] == 0 and parts[0]["high"] == 120 and parts[1]["width"] == 4
    for columns, says in (
        ({"ages": {"low": 0, "high": 1}}, "did you mean 'age'"),
        ({"age": {"low": 0, "high": 30}}, "column 'age'"),
        ({"city": ["rome"]}, "is none of"),
    ):
        assert says in door.refused(*files, target="door:frame", domain={"kind": "table", "columns": columns})
    for wrong, says in (
        ({"kind": "table", "columns": {"age": {"low": 9, "high": 1}}}, "low must be below high"),
        ({"kind": "box", "columns": {"age": [1]}}, "belong to kind: table"),
        ({"kind": "table", "low": 3}, "are said by name"),
    ):
        with pytest.raises(InputError, match=says):
            door.audit(*files, domain=wrong)


def test_without_a_domain_it_is_read_off_a_table_and_zero_to_one_elsewhere(door: Door) -> None:
    assert door.audit(*halves(door, COLUMNS["cents"])[:2]).domain["kind"] == "mixed"
    assert door.audit(*halves(door, COLUMNS["cents"])[:2], domain=WIDE).domain["kind"] == "box"
    small = [door.csv(n, "a,b,label\n0.5,0.25,0\n1,0,1\n") for n in ("m.csv", "n.csv")]
    assert door.audit(*small).domain == {**ll.Box(0, 1).describe()}


# --- arrays -----------------------------------------------------------------------------------------------------------


def arrays(door: Door, x: np.ndarray[Any, Any], *, key: str = "x", ending: str = "npz") -> tuple[str, str]:
    half, y = len(x) // 2, np.arange(len(x)) % 2
    made = []
    for name, part in (("m", slice(0, half)), ("n", slice(half, None))):
        if ending == "npz":
            np.savez(door.path(f"{name}.npz"), **{key: x[part], "y": y[part]})
            made.append(door.path(f"{name}.npz"))
        else:
            np.save(door.path(f"{name}.npy"), x[part])
            np.save(door.path(f"{name}-y.npy"), y[part])
            made.append(f"{door.path(f'{name}.npy')},{door.path(f'{name}-y.npy')}")
    return made[0], made[1]


DTYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool"]


@pytest.mark.parametrize("ending", ["npz", "npy"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_keep_their_dtype(door: Door, dtype: str, ending: str) -> None:
    values = np.random.default_rng(1).random((6, 4)) * (1 if dtype == "bool" else 100)
    x = (values > 0.5) if dtype == "bool" else values.astype(dtype)
    door.audit(*arrays(door, x, ending=ending), domain=WIDE)
    same(door.seen, x)


@pytest.mark.parametrize("shape", [(5,), (3, 7), (12, 16), (2, 3, 4, 5), (4, 6, 8), (13, 8, 8), (8, 8, 13), (9, 9, 2)])
@pytest.mark.parametrize("high", [2, 256])
def test_eight_bit_rows_that_are_no_photographs(door: Door, shape: tuple[int, ...], high: int) -> None:
    """Bits, bands, volumes: as they are; where a picture is as likely, the user is asked."""
    x = np.random.default_rng(2).integers(0, high, (6, *shape)).astype(np.uint8)
    unclear = len(shape) == 2 or shape == (4, 6, 8)
    if high == 256 and unclear:
        message = door.refused(*arrays(door, x), domain=WIDE)
        assert "data.images.stored" in message and "none" in message
        door.audit(*arrays(door, x), domain=WIDE, data__images__stored="none")
        same(door.seen, x)
        return
    door.audit(*arrays(door, x), domain=WIDE)
    same(door.seen, x)


@pytest.mark.parametrize(
    ("shape", "stored"),
    [((8, 9, 3), "hwc"), ((8, 9, 1), "hwc"), ((8, 9, 4), "hwc"), ((3, 8, 9), "chw"), ((1, 8, 8), "chw")],
)
@pytest.mark.parametrize("layout", ["chw", "hwc"])
@pytest.mark.parametrize("scale", [None, 1])
def test_eight_bit_pictures(door: Door, shape: tuple[int, ...], stored: str, layout: str, scale: int | None) -> None:
    x = np.random.default_rng(3).integers(0, 256, (6, *shape)).astype(np.uint8)
    wanted = x.transpose(
        {("hwc", "chw"): (0, 3, 1, 2), ("chw", "hwc"): (0, 2, 3, 1)}.get((stored, layout), (0, 1, 2, 3))
    )
    keys = {} if scale is None else {"data__images__scale": scale}
    door.audit(*arrays(door, x), data__images__layout=layout, domain={"kind": "box", "low": 0, "high": 255}, **keys)
    same(door.seen, wanted if scale == 1 else wanted.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("shape", [(3, 8, 3), (1, 28, 1), (4, 6, 8), (28, 28)])
def test_pictures_whose_layout_does_not_tell_take_the_users_word(door: Door, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(4).integers(0, 256, (6, *shape)).astype(np.uint8)
    files = arrays(door, x)
    message = door.refused(*files)
    word = "hw" if len(shape) == 2 else "chw"
    assert word in message
    door.audit(*files, data__images__stored=word)
    same(door.seen, x.astype(np.float32) / np.float32(255))
    if len(shape) == 2:
        door.audit(*arrays(door, x, key="images"))  # the file says what they are
        same(door.seen, x.astype(np.float32) / np.float32(255))


def test_pictures_of_zeros_and_ones_take_the_users_word(door: Door) -> None:
    x = np.random.default_rng(5).integers(0, 2, (6, 8, 8, 1)).astype(np.uint8)
    assert "0 and 1 only" in door.refused(*arrays(door, x))
    door.audit(*arrays(door, x), data__images__stored="none")
    same(door.seen, x)
    door.audit(*arrays(door, x), data__images__scale=1)
    same(door.seen, x.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.array([[["a", "b"]], [["c", "d"]]]), "give numbers"),
        (np.array([[[1.0, np.nan]], [[0, 1]]]), "NaN"),
        (np.array([[1.0, np.inf], [0, 1]]), "infinity"),
        (np.array([1.0, 2.0]), "feature axis"),
        (np.zeros((2, 0)), "is empty"),
        (np.array([[1 + 2j], [0]]), "x is an array of complex128"),
    ],
)
def test_an_array_that_cannot_be_carried_is_refused(door: Door, x: Any, says: str) -> None:
    np.savez(door.path("m.npz"), x=x, y=np.zeros(len(x), int))
    np.savez(door.path("n.npz"), x=x, y=np.zeros(len(x), int))
    assert says in door.refused(door.path("m.npz"), door.path("n.npz"))


@pytest.mark.parametrize(
    "x", [np.array([["a", "b"], ["c", "d"]]), np.array([[1.0, np.nan], [0, 1]])], ids=["words", "gaps"]
)
def test_flat_arrays_of_words_and_with_gaps(door: Door, x: Any) -> None:
    door.audit(*arrays(door, np.concatenate([x, x])))
    assert all(batch.dtype == x.dtype for batch in door.seen)
    same(door.seen, x)


# --- folders of pictures ----------------------------------------------------------------------------------------------


def pictures(door: Door, made: Mapping[str, Any]) -> str:
    for name, picture in made.items():
        path = door.folder / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(path)
    return door.path("set")


def drawn(shape: tuple[int, ...], dtype: Any = np.uint8, high: int = 256) -> Any:
    return np.random.default_rng(sum(shape)).integers(0, high, shape).astype(dtype)


FOLDERS: dict[str, tuple[Any, Any]] = {
    "grey": (drawn((4, 5)), None),
    "grey of 16 bits": (drawn((4, 5), np.uint16, 65536), None),
    "RGB": (drawn((4, 5, 3)), None),
    "RGBA, opaque": (np.dstack([drawn((4, 5, 3)), np.full((4, 5), 255, np.uint8)]), drawn((4, 5, 3))),
    "palette": (Image.fromarray(drawn((4, 5, 3), high=3) * 100).convert("P", palette=Image.Palette.ADAPTIVE), None),
    "black and white": (Image.fromarray(drawn((4, 5), high=2) * 255).convert("1"), drawn((4, 5), high=2) * 255),
}


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour(door: Door, mode: str, tmp_path: Path) -> None:
    """One that no pixel has changes nothing; one that a pixel has is refused."""
    pixels = drawn((4, 5)) if mode == "L" else drawn((4, 5, 3))
    absent = next(v for v in range(256) if v not in pixels)
    for value, refused in ((absent, False), (int(pixels[0, 0]) if mode == "L" else None, True)):
        value = value if mode == "L" else ((absent,) * 3 if value is not None else tuple(map(int, pixels[0, 0])))
        Image.fromarray(pixels).save(tmp_path / "1.png", transparency=value)
        folder = pictures(door, {"a/1.png": Image.open(tmp_path / "1.png")})
        if refused:
            with pytest.raises(InputError, match="transparent"):
                read_rows(folder)
        else:
            x = read_rows(folder, images=ImageFormat(layout="hwc", scale=1)).x
            assert np.array_equal(x.squeeze(), pixels)


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("scale", [None, 1])
def test_pixels_are_those_of_the_files(door: Door, kind: str, scale: float | None) -> None:
    picture, pixels = FOLDERS[kind]
    folder = pictures(door, {"cat/1.png": picture, "dog/1.png": picture})
    rows = read_rows(folder, images=ImageFormat(scale=scale))
    if pixels is None:
        pixels = np.asarray(picture.convert("RGB")) if isinstance(picture, Image.Image) else picture
    wanted = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    most = np.float32(np.iinfo(pixels.dtype).max)
    wanted = wanted.astype(np.float32) / most if scale is None else wanted
    assert rows.x.dtype == wanted.dtype and np.array_equal(rows.x, np.stack([wanted] * 2))
    assert rows.y is not None and rows.y.tolist() == ["cat", "dog"]


def test_sixteen_bits_are_not_white(door: Door) -> None:
    rows = read_rows(
        pictures(door, {f"{c}/{i}.png": drawn((32, 32), np.uint16, 65536) for c in "ab" for i in range(3)})
    )
    assert (rows.x == 1).mean() < 0.01 and 0.4 < rows.x.mean() < 0.6


def test_hidden_folders_and_files_are_no_classes(door: Door) -> None:
    folder = pictures(door, {n: drawn((4, 4, 3)) for n in ("cat/1.png", "dog/1.png", ".ipynb_checkpoints/1.png",
        "__MACOSX/1.png", "cat/.2.png", "__MACOSX/cat/1.png")})  # fmt: skip
    (door.folder / "set" / "cat" / "Thumbs.db").write_text("x")
    rows = read_rows(folder)
    assert rows.y is not None and rows.y.tolist() == ["cat", "dog"]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"a/1.png": drawn((4, 4, 3)), "b/2.png": drawn((4, 4))}, "2.png: 4 x 4 grey 8-bit"),
        ({"a/1.png": drawn((4, 4, 3)), "b/2.png": drawn((4, 5, 3))}, "2.png: 4 x 5 RGB 8-bit"),
        ({"a/1.png": drawn((4, 4)), "b/2.png": drawn((4, 4), np.uint16, 65536)}, "2.png: 4 x 4 grey 16-bit"),
        ({"a/1.png": drawn((4, 4, 4)), "b/2.png": drawn((4, 4, 4))}, "transparent"),
        ({"a/1.jpg": Image.fromarray(drawn((8, 8, 3))).convert("CMYK")}, "is of mode CMYK"),
        ({"a/1.png": drawn((4, 4, 3)), "2.png": drawn((4, 4, 3))}, "2.png: is not in a folder of its class"),
        ({"a/1.png": drawn((4, 4, 3)), "a/b/2.png": drawn((4, 4, 3))}, "2.png: is not in a folder of its class"),
    ],
)
def test_folders_that_cannot_be_carried_are_refused(door: Door, made: Mapping[str, Any], says: str) -> None:
    folder = pictures(door, made)
    with pytest.raises(InputError) as caught:
        read_rows(folder)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_the_mends_for_folders(door: Door) -> None:
    mixed = pictures(door, {"a/1.png": drawn((4, 4, 3)), "b/2.png": drawn((4, 4)), "b/3.png": drawn((4, 4, 4))})
    for mode, channels in (("grey", 1), ("rgb", 3), ("rgba", 4)):
        assert read_rows(mixed, images=ImageFormat(mode=mode)).x.shape == (3, channels, 4, 4)  # type: ignore[arg-type]


def test_sixteen_bits_are_not_converted(door: Door) -> None:
    folder = pictures(door, {"a/1.png": drawn((4, 4), np.uint16, 65536)})
    with pytest.raises(InputError, match="would keep 8: say grey"):
        read_rows(folder, images=ImageFormat(mode="rgb"))
    x = read_rows(folder, images=ImageFormat(mode="grey", scale=1)).x
    assert np.array_equal(x[0, 0], drawn((4, 4), np.uint16, 65536))


def test_class_folders_may_be_links(door: Door, tmp_path: Path) -> None:
    pictures(door, {"cat/1.png": drawn((4, 4, 3))})
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "cat").symlink_to(tmp_path / "set" / "cat", target_is_directory=True)
    assert len(read_rows(tmp_path / "linked")) == 1


def test_colours_of_sixteen_bits_are_refused(door: Door) -> None:
    """Pillow reads 8 of the 16 bits of a colour: a header that says 16 is enough to refuse."""
    folder = pictures(door, {"a/1.png": drawn((4, 4, 3))})
    path = Path(folder) / "a" / "1.png"
    data = bytearray(path.read_bytes())
    data[24] = 16
    path.write_bytes(data)
    with pytest.raises(InputError, match="16 bits a colour"):
        read_rows(folder)
    x = drawn((4, 6, 6, 3), np.uint16, 65536)
    door.audit(*arrays(door, x, key="images"), data__images__stored="hwc")  # the mend
    same(door.seen, x.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(65535))


# --- ids and recorded answers -----------------------------------------------------------------------------------------


def numbered(door: Door) -> tuple[str, str, pd.DataFrame]:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(np.round(draw.random((40, 3)), 3), columns=list("abc"))
    frame["label"] = (frame["a"] > 0.5).astype(int)
    for name, part in (("m.csv", frame[:20]), ("n.csv", frame[20:])):
        part.reset_index(drop=True).rename_axis("id").to_csv(door.path(name))
    return door.path("m.csv"), door.path("n.csv"), frame


def test_ids_that_name_two_rows_answer_for_none(door: Door) -> None:
    members, nonmembers, frame = numbered(door)
    answers = door.csv("ans.csv", "id,label\n" + "".join(f"{i},{v}\n" for i, v in enumerate(frame["label"][:20])))
    message = door.refused(members, nonmembers, target=answers)
    assert "id '0' names more than one of the rows" in message
    with pytest.raises(InputError, match="names more than one"):
        read_answers(answers, [read_rows(members), read_rows(nonmembers)])


def test_the_mends_for_ids(door: Door) -> None:
    members, nonmembers, frame = numbered(door)
    frame.to_csv(door.path("rows.csv"), index=False)
    record = door.audit(members, nonmembers, target=door.path("rows.csv"))  # by content
    assert record["gap"].auc.value == 0.5
    frame[:20].rename_axis("id").to_csv(members)
    frame[20:].rename_axis("id").to_csv(nonmembers)
    answers = door.csv("ans.csv", "id,label\n" + "".join(f"{i},{v}\n" for i, v in enumerate(frame["label"])))
    assert door.audit(members, nonmembers, target=answers)["gap"].auc.value == 0.5


def test_two_files_that_count_alike_have_ids_of_their_own(door: Door) -> None:
    members, nonmembers, _ = numbered(door)
    record = door.audit(members, nonmembers)
    assert len(set(record.ids)) == 40 and record.ids[0] == "member-0" and record.ids[20] == "nonmember-0"


@pytest.mark.parametrize("kind", ["text", "gaps", "truth", "whole beyond float32", "one digit", "dates"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_recorded_answers_are_matched_by_content(door: Door, kind: str, ending: str) -> None:
    """In another order of rows and columns, and of any kind."""
    members, nonmembers, users = halves(door, COLUMNS[kind])
    answers = users.assign(label=[0, 1, 1, 0])[::-1][["value", "label", "b"]]
    path = door.path(f"ans.{ending}")
    answers.to_csv(path, index=False) if ending == "csv" else answers.reset_index(drop=True).to_parquet(path)
    record = door.audit(members, nonmembers, target=path)
    assert record["gap"].scores.tolist() == [1, 1, 0, 0]


# --- the page ---------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text(encoding="utf-8")


def test_the_page_says_of_eight_bit_rows_what_happens_to_them() -> None:
    """The table of shapes in docs/inputs.md, row by row."""
    table = PAGE[PAGE.index("| shape of a row |") :].split("\n\n")[0].splitlines()[2:]
    assert len(table) == 5
    for line in table:
        shapes, said = (cell.strip() for cell in line.strip("| ").split(" | "))
        for shape in re.findall(r"\([\d, ]+\)", shapes):
            size = tuple(int(part) for part in re.findall(r"\d+", shape))
            x = np.random.default_rng(0).integers(0, 256, (3, *size)).astype(np.uint8)
            if "refused" in said:
                with pytest.raises(InputError):
                    scaled(Path("a.npz"), x, ImageFormat(), named_images=False)
                continue
            got = scaled(Path("a.npz"), x, ImageFormat(), named_images=False)
            assert (got.dtype == np.float32) == said.startswith("pictures"), shape
            assert got.shape == (x.transpose(0, 3, 1, 2).shape if said.endswith("last") else x.shape)


def test_every_key_of_data_is_on_the_page() -> None:
    for model in (DataSpec, ImagesSpec):
        for name, field in model.model_fields.items():
            key = field.alias or name
            assert key in ("nonmembers", "candidates", "starts", "shadow") or f"{key}:" in PAGE, key
