"""What goes out is what the user's own client would send: whole numbers, texts, gaps, by protocol and row format."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import torch

import labelleaks as ll
from labelleaks.errors import InputError
from labelleaks.inputs.row_format import Columns, learn
from labelleaks.targets import Http, wrap
from labelleaks.targets.http.formats import format_of
from labelleaks.targets.http.rows import Rows, decoded
from tests.servers.faulty import Faulty
from tests.support import cli

BIG = 2**53 + 1
FRAME = pd.DataFrame(
    {
        "age": [31, 64, 17],
        "account": [BIG, BIG + 2, 7],
        "income": [0.1, np.nan, 2.5],
        "city": ["Oslo", None, 'a "b", c'],
        "kind": pd.Categorical(["x", "y", "x"], categories=["y", "x", "z"]),
        "member": [True, False, True],
        "visits": pd.array([3, None, 4], dtype="Int64"),
        "ratio": np.array([0.1, 0.25, 1e-7], np.float32),
    }
)
RECORDS = [
    {"age": 31, "account": BIG, "income": 0.1, "city": "Oslo", "kind": "x", "member": True, "visits": 3,
     "ratio": float(np.float32(0.1))},
    {"age": 64, "account": BIG + 2, "income": None, "city": None, "kind": "y", "member": False, "visits": None,
     "ratio": 0.25},
    {"age": 17, "account": 7, "income": 2.5, "city": 'a "b", c', "kind": "x", "member": True, "visits": 4,
     "ratio": float(np.float32(1e-7))},
]  # fmt: skip
V2 = {"url": "http://h/v2/models/m"}
TF = {"url": "http://h/v1/models/m"}
ML = {"url": "http://h/invocations"}
ANY = {"url": "http://h/p", "protocol": "template", "label": "y"}


def outgoing(rows: Any) -> Rows:
    """Rows as they go out after they were encoded and decoded, as in a run."""
    form = learn({"rows": rows})
    return decoded(form, form.encode(rows, "rows"))


def content(rows: Any, **options: Any) -> bytes:
    return format_of(Http(**options)).body(outgoing(rows)).content


def body(rows: Any, **options: Any) -> Any:
    return json.loads(content(rows, **options))


def same(found: Any, expected: Any) -> bool:
    """Equal in value and in kind: 1 is not 1.0, and neither is True."""
    return json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)


FRAMES = {
    "pandas": FRAME,
    "pandas, numpy types": FRAME.convert_dtypes(dtype_backend="numpy_nullable").astype({"ratio": np.float32}),
    "pyarrow": pa.Table.from_pandas(FRAME),
}


@pytest.mark.parametrize("name", FRAMES)
def test_named_columns_go_out_as_records(name: str) -> None:
    frame = FRAMES[name]
    template = '{"data": {{ records | tojson }}, "names": {{ columns | tojson }}, "n": {{ n }}}'
    found = body(frame, **ANY, template=template)
    assert same(found, {"data": RECORDS, "names": list(FRAME.columns), "n": 3})
    split = {"columns": list(FRAME.columns), "data": [list(record.values()) for record in RECORDS]}
    assert same(body(frame, **ML), {"dataframe_split": split})
    assert same(body(frame, **TF), {"instances": RECORDS})
    lines = content(frame, url="http://h/p", protocol="jsonl").splitlines()
    assert same([json.loads(line) for line in lines], RECORDS)
    assert same(body(frame, **ANY, template="{{ rows | tojson }}"), split["data"])


def test_one_record_at_a_time() -> None:
    one = body(
        FRAME[:1].assign(age=[31], x=[1]), **ANY, template='{"c": {{ record | tojson }}, "r": {{ row | tojson }}}'
    )
    assert same(one["c"], {**RECORDS[0], "x": 1}) and one["r"] == list(one["c"].values())


def test_columns_of_a_file_need_no_pandas() -> None:
    columns = Columns({
        "age": np.array([31, 64]), "income": np.array([0.1, np.nan]), "city": np.array(["Oslo", "Rome"], object),
        "member": np.array([True, False]),
    })  # fmt: skip
    found = body(columns, **ANY, template="{{ records | tojson }}")
    assert same(found[1], {"age": 64, "income": None, "city": "Rome", "member": False})


def test_the_order_of_named_columns_can_be_said() -> None:
    names = list(reversed(FRAME.columns))
    found = body(FRAME, **ML, columns=names)["dataframe_split"]
    assert found["columns"] == names and same(found["data"][0], list(RECORDS[0].values())[::-1])
    for odd in (names[1:], [*names, "size"]):
        with pytest.raises(InputError, match=r"column '(ratio|size)'"):
            body(FRAME, **ML, columns=odd)


def test_open_inference_has_a_tensor_for_each_column() -> None:
    found = body(FRAME, **V2)
    assert found["parameters"] == {"content_type": "pd"}
    tensors = {tensor["name"]: tensor for tensor in found["inputs"]}
    assert list(tensors) == list(FRAME.columns) and all(t["shape"] == [3, 1] for t in tensors.values())
    assert {name: t["datatype"] for name, t in tensors.items()} == {
        "age": "INT64", "account": "INT64", "income": "FP64", "city": "BYTES", "kind": "BYTES", "member": "BOOL",
        "visits": "INT64", "ratio": "FP32",
    }  # fmt: skip
    for name, tensor in tensors.items():
        assert same(tensor["data"], [record[name] for record in RECORDS])


ARRAYS: dict[str, Any] = {
    "uint8": np.array([[0, 255, 3]], np.uint8),
    "int16": np.array([[-7, 300, 3]], np.int16),
    "int64": np.array([[2**60 + 1, -5, 3], [2, 3, 4]]),
    "float64": np.array([[0.1, 1.0, 1e-17]]),
    "float32": np.array([[0.1, 1.0, 2.5]], np.float32),
    "bool": np.array([[True, False, True]]),
    "float16": np.array([[0.1, 1.0, 2.5]], np.float16),
    "torch int64": torch.tensor([[5, 2**40 + 1, 3]]),
    "torch uint8": torch.tensor([[5, 7, 3]], dtype=torch.uint8),
    "sparse": scipy.sparse.csr_matrix(np.array([[0, 2, 0], [1, 0, 3]])),
    "pictures": np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3),
}
DATATYPES = {
    "uint8": "UINT8", "int16": "INT16", "int64": "INT64", "float64": "FP64", "float32": "FP32", "bool": "BOOL",
    "float16": "FP16", "torch int64": "INT64", "torch uint8": "UINT8", "sparse": "INT64", "pictures": "UINT8",
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_go_out_in_their_own_numbers(name: str) -> None:
    rows = ARRAYS[name]
    listed = (rows.toarray() if name == "sparse" else rows).tolist()
    tensor = body(rows, **V2)["inputs"][0]
    assert tensor["datatype"] == DATATYPES[name] and tensor["shape"] == list(rows.shape)
    assert same(tensor["data"], np.array(listed, dtype=object).reshape(-1).tolist())
    assert same(body(rows, **TF), {"instances": listed})
    assert same(body(rows, **TF, input="x"), {"instances": [{"x": row} for row in listed]})
    assert same(body(rows, **ML), {"inputs": listed})
    assert same(body(rows, **ANY, template="{{ rows | tojson }}"), listed)
    if np.ndim(listed) == 2:
        text = content(rows, url="http://h/p", protocol="csv").decode()
        assert [[str(value) for value in row] for row in listed] == list(csv.reader(io.StringIO(text)))
        assert same(
            [json.loads(line) for line in content(rows, url="http://h/p", protocol="jsonl").splitlines()], listed
        )


TEXTS = ["good film", "bad, long film"]


@pytest.mark.parametrize("rows", [TEXTS, np.array(TEXTS), pd.Series(TEXTS)])
def test_texts_go_out_as_texts(rows: Any) -> None:
    assert same(body(rows, **TF), {"instances": TEXTS})
    assert same(body(rows, **TF, input="text"), {"instances": [{"text": text} for text in TEXTS]})
    assert same(body(rows, **ML), {"inputs": TEXTS})
    assert same(body(rows, **ANY, template='{"texts": {{ rows | tojson }}}'), {"texts": TEXTS})
    assert same(body(rows, **V2)["inputs"][0]["data"], TEXTS) and body(rows, **V2)["inputs"][0]["datatype"] == "BYTES"
    assert content(rows, url="http://h/p", protocol="csv").decode() == 'good film\n"bad, long film"\n'
    assert [json.loads(line) for line in content(rows, url="http://h/p", protocol="jsonl").splitlines()] == TEXTS


def test_arrays_with_gaps_and_words_go_out_as_they_are() -> None:
    gaps = np.array([[1.5, np.nan], [2.0, 3.0]])
    assert same(body(gaps, **TF), {"instances": [[1.5, None], [2.0, 3.0]]})
    assert same(body(gaps, **V2)["inputs"][0]["data"], [1.5, None, 2.0, 3.0])
    assert body(gaps, **V2)["inputs"][0]["datatype"] == "FP64"
    words = np.array([[1, "oslo"], [2, None]], dtype=object)
    assert same(body(words, **ML), {"inputs": [[1, "oslo"], [2, None]]})
    with pytest.raises(InputError, match="'input-0' holds int and str: a tensor is of one kind"):
        body(words, **V2)
    with pytest.raises(InputError, match="has no type in JSON"):
        dates = np.array([[1, pd.Timestamp("2020-01-01")], [2, pd.Timestamp("2020-01-02")]], dtype=object)
        wrap(Http(**ML), form=learn({"rows": dates}), classes=2)


@pytest.mark.parametrize(
    ("datatype", "values", "sent"),
    [
        ("INT8", [[1.0, -128.0]], [1, -128]),
        ("INT32", [[7, 2**31 - 1]], [7, 2**31 - 1]),
        ("UINT64", [[7, 2**60]], [7, 2**60]),
        ("FP32", [[7, 1]], [7.0, 1.0]),
        ("FP32", [[0.1, 0.5]], [float(np.float32(0.1)), 0.5]),
        ("FP64", [[7, 1]], [7.0, 1.0]),
        ("FP16", [[0.1, 0.5]], [float(np.float16(0.1)), 0.5]),
        ("BOOL", [[1, 0]], [True, False]),
    ],
)
def test_the_datatype_that_the_service_takes_can_be_said(datatype: Any, values: Any, sent: Any) -> None:
    tensor = body(np.array(values), **V2, datatype=datatype)["inputs"][0]
    assert tensor["datatype"] == datatype and same(tensor["data"], sent)


@pytest.mark.parametrize(
    ("datatype", "values", "wrong"),
    [("INT8", [[1, 128]], "128"), ("UINT8", [[-1, 3]], "-1"), ("FP32", [[2**24 + 1, 3]], "16777217"),
     ("INT64", [[0.5, 1.0]], "0.5"), ("BOOL", [[2, 1]], "2")],
)  # fmt: skip
def test_what_a_datatype_does_not_hold_is_refused(datatype: Any, values: Any, wrong: str) -> None:
    with pytest.raises(InputError, match=f"datatype: {datatype} does not hold {wrong}"):
        body(np.array(values), **V2, datatype=datatype)


def test_frames_of_numbers_are_one_tensor_unless_columns_are_named() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 3.0]})
    assert body(frame, **V2)["inputs"] == [
        {"name": "input-0", "shape": [2, 2], "datatype": "FP64", "data": [1.0, 0.5, 2.0, 3.0]}
    ]
    assert same(body(frame, **TF), {"instances": [[1.0, 0.5], [2.0, 3.0]]})
    assert same(body(frame, **TF, columns=["b", "a"]), {"instances": [{"b": 0.5, "a": 1}, {"b": 3.0, "a": 2}]})
    assert [t["name"] for t in body(frame, **V2, columns=["b", "a"])["inputs"]] == ["b", "a"]
    whole = pd.DataFrame({"a": [1, 2], "b": [BIG, 3]})
    assert same(body(whole, **TF), {"instances": [[1, BIG], [2, 3]]})
    mixed = pd.DataFrame({"a": [BIG, 2], "b": [0.5, 3]})
    with pytest.raises(InputError, match=f"column 'a': {BIG} beside fractions.*columns:"):
        body(mixed, **TF)
    assert same(body(mixed, **TF, columns=["a", "b"])["instances"][0], {"a": BIG, "b": 0.5})


def test_named_arrays_go_out_by_their_names() -> None:
    rows = {"input_ids": np.array([[5, 6], [7, 8]]), "pixels": np.ones((2, 1, 2), np.uint8)}
    records = [{"input_ids": [5, 6], "pixels": [[1, 1]]}, {"input_ids": [7, 8], "pixels": [[1, 1]]}]
    assert same(body(rows, **TF), {"instances": records})
    assert same(body(rows, **ML), {"inputs": {"input_ids": [[5, 6], [7, 8]], "pixels": [[[1, 1]], [[1, 1]]]}})
    tensors = body(rows, **V2)["inputs"]
    assert [(t["name"], t["datatype"], t["shape"]) for t in tensors] == [
        ("input_ids", "INT64", [2, 2]), ("pixels", "UINT8", [2, 1, 2]),
    ]  # fmt: skip
    assert same(body(rows, **ANY, template="{{ records | tojson }}"), records)


@pytest.mark.parametrize(
    "column",
    [
        pd.to_datetime(["2020-01-01", "2021-05-05"]),
        pd.Series([b"a", b"b"]),
        pd.to_timedelta([1, 2], unit="D"),
        pd.Series(["a", pd.Timestamp("2020-01-01")], dtype=object),
    ],
)
def test_what_json_has_no_type_for_is_refused_before_the_first_label_and_the_mend_works(column: Any) -> None:
    frame = pd.DataFrame({"age": [1, 2], "when": column})
    with pytest.raises(InputError, match=r"column 'when': .* has no type in JSON.*\.astype\(str\)"):
        wrap(Http(**ML), form=learn({"rows": frame}), classes=2)
    mended = frame.assign(when=frame["when"].astype(str))
    wrap(Http(**ML), form=learn({"rows": mended}), classes=2)
    assert body(mended, **ML)["dataframe_split"]["data"][1][1] == mended["when"][1]


def test_a_template_for_names_needs_names() -> None:
    with pytest.raises(InputError, match="'record': the rows have no names; bring a table with named columns"):
        body(np.ones((2, 3)), **ANY, template="{{ record | tojson }}")


# --- whole audits -----------------------------------------------------------------------------------------------------


def people(n: int, seed: int) -> tuple[pd.DataFrame, list[str]]:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "income": np.where(rng.random(n) < 0.2, np.nan, rng.normal(30_000.5, 9000, n).round(2)),
            "city": rng.choice(["oslo", "rome", "bonn"], n),
        }
    )
    return frame, [decide(record) for record in frame.to_dict("records")]


def decide(record: Any) -> str:
    rich = record["income"] is not None and record["income"] > 30_000
    return "yes" if (record["age"] > 45) != (rich and record["city"] != "rome") else "no"


class People(Faulty):
    """A service of records that refuses whatever its own user would not send."""

    asked: list[str]

    def __enter__(self) -> People:
        super().__enter__()
        self.asked = []
        self.rows_of = lambda document: document["people"]
        self.reply = self._answer
        return self

    def _answer(self, document: Any) -> Any:
        for record in document["people"]:
            assert list(record) == ["age", "income", "city"] and type(record["age"]) is int
            assert record["income"] is None or type(record["income"]) is float
            assert record["city"] in ("oslo", "rome", "bonn")
            self.asked.append(json.dumps(record))
        return {"answers": [{"label": decide(record), "score": 0.5} for record in document["people"]]}


def service_of(server: Faulty, **options: Any) -> Http:
    return Http(
        url=f"{server.base}/people", protocol="template", template='{"people": {{ records | tojson }}}',
        label="answers[*].label", **options,
    )  # fmt: skip


def audited(target: Any, **options: Any) -> Any:
    (x, y), (x_, y_) = people(40, 0), people(40, 1)
    return ll.audit(
        target, members=(x, y), nonmembers=(x_, y_), classes=["no", "yes"], attacks=["gap", "noise", "boundary"],
        budget=12, thresholds=[], show_progress=False, **options,
    )  # fmt: skip


def local(frame: pd.DataFrame) -> list[str]:
    return [decide({**record, "income": None if record["income"] != record["income"] else record["income"]})
            for record in frame.to_dict("records")]  # fmt: skip


def test_an_audit_over_http_of_a_frame_is_that_of_a_function_of_the_frame(tmp_path: Path) -> None:
    with People() as server:
        remote = audited(service_of(server, batch_rows=7, concurrency=3), out=tmp_path / "run")
        log = json.loads((tmp_path / "run" / "run.json").read_text())
        assert server.rows == len(server.asked) == remote.ledger.rows - log["cached"] and log["retries"] == 0
        sent = server.rows
        again = audited(service_of(server, batch_rows=5), journal=tmp_path / "run" / "answers.journal")
        assert server.rows == sent + 8  # canaries; all else is the journal's, asked for in requests of another size
    here = audited(local)
    for name in ("gap", "noise", "boundary"):
        assert remote[name].scores.tolist() == here[name].scores.tolist() == again[name].scores.tolist()


@pytest.mark.fault
def test_what_fails_is_asked_again_and_billed_once(tmp_path: Path) -> None:
    with People(["429", None, "500", "reset mid-body", None, "truncated json"]) as server:
        target = service_of(server, batch_rows=16, backoff=0.01)
        remote = audited(target, out=tmp_path / "run")
        log = json.loads((tmp_path / "run" / "run.json").read_text())
        assert log["retries"] > 0 and server.rows == remote.ledger.rows - log["cached"] + log["retries"]
    assert remote["boundary"].scores.tolist() == audited(local)["boundary"].scores.tolist()


def test_two_row_formats_never_share_answers(tmp_path: Path) -> None:
    x = np.array([[1, 2], [3, 4]])
    forms = [
        learn({"x": rows})
        for rows in (x, x.astype(np.uint8), x.astype(np.float32), pd.DataFrame(x, columns=["a", "b"]))
    ]
    marks = {wrap(Http(**ML), form=form, classes=2).fingerprint for form in forms}
    assert len(marks) == len(forms)
    others = ({}, {"answers": "scores"}, {"columns": ("b", "a")}, {"label_map": {0: 1, 1: 0}})
    assert len({wrap(Http(**ML, **o), form=forms[0], classes=2).fingerprint for o in others}) == len(others)


def test_a_file_with_words_and_gaps_is_audited_over_http_by_a_spec(tmp_path: Path) -> None:
    for name, seed in (("members", 0), ("nonmembers", 1)):
        x, y = people(40, seed)
        x.assign(label=y).to_csv(tmp_path / f"{name}.csv", index=False)
    with People() as server:
        spec = f"""
target:
  url: {server.base}/people
  protocol: template
  template: '{{"people": {{{{ records | tojson }}}}}}'
  label: answers[*].label
  classes: ["no", "yes"]
data: {{members: {tmp_path}/members.csv, nonmembers: {tmp_path}/nonmembers.csv}}
attacks: [gap, noise, boundary]
budget: 12
thresholds: []
out: {tmp_path}/run
"""
        (tmp_path / "audit.yaml").write_text(spec)
        done = cli("audit", str(tmp_path / "audit.yaml"), "--quiet")
        assert done.exit_code == 0, done.output
    record = ll.load(tmp_path / "run")
    assert record["boundary"].scores.tolist() == audited(local)["boundary"].scores.tolist()
