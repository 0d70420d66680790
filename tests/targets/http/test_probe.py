"""``labelleaks probe``: what a service speaks, in a few billed queries and no more."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import Result

import labelleaks as ll
from labelleaks.cli.spec_file import parse_override
from labelleaks.targets.http import PROTOCOLS
from labelleaks.targets.http.openapi import operations
from tests.servers.faulty import FAULTS, Faulty, rows_of, truth
from tests.support import cli

V2 = {
    "name": "digits",
    "platform": "sklearn",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1]}],
}


def run(*words: str) -> Result:
    return cli("probe", *words)


def proposal(found: Result) -> Any:
    """The spec that a probe proposes."""
    assert found.exit_code == 0, found.output
    return yaml.safe_load(found.output.partition("in a spec:\n")[2])


def open_inference(server: Faulty) -> None:
    def rows(document: Any) -> list[Any]:
        held = document["inputs"][0]
        return np.reshape(held["data"], held["shape"]).tolist()

    def reply(document: Any) -> Any:
        labels = truth(rows_of(0).new_tensor(rows(document))).tolist()
        return {"outputs": [{"name": "y", "datatype": "INT64", "shape": [len(labels), 1], "data": labels}]}

    server.documents = {"/v2": {"name": "triton"}, "/v2/models/digits": V2}
    server.rows_of, server.reply = rows, reply


def test_it_finds_an_open_inference_server() -> None:
    with Faulty() as server:
        open_inference(server)
        found = run(server.base, "--set", "model=digits")
        assert found.exit_code == 0, found.output
        assert "speaks    v2 (it answers GET /v2)" in found.output
        assert "answers   labels: whole numbers, for example 0, 1, 2" in found.output
        assert "billed    23 rows in 5 requests" in found.output and server.rows == 23
        said = proposal(found)["target"]
        named = {"url": server.base, "protocol": "v2", "model": "digits", "input": "x", "datatype": "FP32"}
        assert said == {**named, "batch_rows": 16}


@pytest.mark.fault
def test_it_says_json_and_finds_the_limit(tmp_path: Path) -> None:
    FAULTS["too large"] = lambda handler, content: handler.send(413, b"4 rows at most")
    np.save(tmp_path / "rows.npy", rows_of(40).numpy())
    try:
        with Faulty([None] * 4 + ["too large"]) as server:
            found = run(server.url, "--rows", str(tmp_path / "rows.npy"), "--json", "--set", "price_per_row=0.5")
            assert found.exit_code == 0, found.output
            told = json.loads(found.output)
            assert told["spoken"]["protocol"] == "tensorflow" and told["spoken"]["how"] == "by the address"
            assert told["found"]["refused"][0] == 16 and "4 rows at most" in told["found"]["refused"][1]
            assert told["found"]["rows"] == server.rows == 1 + 1 + 1 + 4 + 16
            assert told["found"]["cost"] == 11.5
            assert [rows for rows, _ in told["found"]["seconds"]] == [1, 1, 1, 4]
    finally:
        del FAULTS["too large"]


def test_it_sees_scores_and_answers_that_change() -> None:
    with Faulty() as server:
        flip = iter(range(1000))
        server.reply = lambda document: {"predictions": [[next(flip) % 2, 0.5] for _ in document["instances"]]}
        found = run(server.url, "--shape", "3")
        assert "answers   scores for 2 classes" in found.output
        assert "noisy" in found.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--shape", "3"], "it is not known what it speaks"),
        (["--set", "protocol=v2", "--set", "model=m"], "--shape 64"),
        (["--set", "protocol=v2", "--shape", "3"], "--set model=NAME"),
        (["--set", "protocol=mlflow", "--shape", "x"], "sizes are needed"),
        (["--set", "protocl=mlflow", "--shape", "3"], "did you mean 'protocol'"),
        (["--set", "protocol=mlflow", "--shape", "3", "--set", "auth_env=NO_SUCH_TOKEN"], "NO_SUCH_TOKEN is not set"),
    ],
)
def test_what_cannot_be_known_is_asked_for_and_nothing_billed(words: list[str], says: str) -> None:
    with Faulty() as server:
        found = run(server.base, *words)
        assert found.exit_code == 2 and says in found.output
        assert server.rows == 0


def test_a_server_that_is_not_there_is_the_target_s_fault() -> None:
    server = Faulty()
    server.start()
    server.stop()
    found = run(server.base, "--shape", "3")
    assert found.exit_code == 3 and "cannot be reached" in found.output


def test_help_needs_no_extra_and_use_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "orjson", None)
    monkeypatch.setitem(sys.modules, "jmespath", None)
    assert run("--help").exit_code == 0
    found = run("http://127.0.0.1:1/invocations", "--shape", "3")
    assert found.exit_code == 2 and "labelleaks[http]" in found.output
    found = run(
        "http://127.0.0.1:1/a", "--shape", "3", "--set", "protocol=template", "--set", "label=y", "--set", "template=1"
    )
    assert found.exit_code == 2 and "labelleaks[http]" in found.output


@pytest.mark.parametrize(("datatype", "kind"), [("INT64", int), ("UINT8", int), ("FP64", float)])
def test_what_the_metadata_say_of_the_input_is_what_goes_out(datatype: str, kind: type) -> None:
    with Faulty() as server:
        open_inference(server)
        server.documents["/v2/models/digits"] = {
            **V2,
            "inputs": [{"name": "x", "datatype": datatype, "shape": [-1, 3]}],
        }
        found = run(server.base, "--set", "model=digits", "--high", "9")
        assert proposal(found)["target"]["datatype"] == datatype
        for content in server.bodies:
            tensor = json.loads(content)["inputs"][0]
            assert tensor["datatype"] == datatype and {type(value) for value in tensor["data"]} == {kind}


# --- OpenAPI documents ------------------------------------------------------------------------------------------------

PERSON = {
    "type": "object",
    "title": "Person",
    "required": ["age", "city"],
    "properties": {
        "age": {"type": "integer", "minimum": 18, "maximum": 90},
        "income": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "city": {"type": "string"},
        "member": {"type": "boolean", "default": True},
    },
}
REF = {"$ref": "#/components/schemas/Person"}
VECTOR = {"type": "array", "items": {"type": "number"}}
MATRIX = {"type": "array", "items": VECTOR}


def document(schema: Any, path: str = "/predict", *, kind: str = "application/json", name: str = "") -> dict[str, Any]:
    """An OpenAPI document with one operation, as FastAPI writes it."""
    post = {"requestBody": {"content": {kind: {"schema": schema}}}, "x-bentoml-name": path.strip("/")}
    schemas = {"Person": PERSON, **({name: schema} if name else {})}
    return {"openapi": "3.1.0", "paths": {path: {"post": post}}, "components": {"schemas": schemas}}


def inside(schema: Any, name: str = "data", **others: Any) -> dict[str, Any]:
    return {"type": "object", "required": [name, *others], "properties": {name: schema, **others}}


@pytest.mark.parametrize(
    ("schema", "template", "single"),
    [
        (REF, "{{ record | tojson }}", True),
        (inside(REF), '{"data": {{ record | tojson }}}', True),
        ({"type": "array", "items": REF}, "{{ records | tojson }}", False),
        (inside({"type": "array", "items": REF}), '{"data": {{ records | tojson }}}', False),
        (inside(inside({"allOf": [REF]}, "inner")), '{"data": {"inner": {{ record | tojson }}}}', True),
        (VECTOR, "{{ row | tojson }}", True),
        (inside(VECTOR, "input"), '{"input": {{ row | tojson }}}', True),
        (MATRIX, "{{ rows | tojson }}", False),
        (inside(MATRIX, "a b", top={"type": "integer", "default": 3}, mode={"enum": ["fast", "slow"]}),
         '{"a b": {{ rows | tojson }}, "top": 3, "mode": "fast"}', False),
        (inside({"anyOf": [MATRIX, {"type": "null"}]}), '{"data": {{ rows | tojson }}}', False),
        (inside({"type": "array", "items": {"type": "string"}}), '{"data": {{ rows | tojson }}}', False),
        (inside({"type": "tensor", "format": "numpy-array"}), '{"data": {{ rows | tojson }}}', False),
        (inside({"type": "dataframe", "orient": "records"}), '{"data": {{ records | tojson }}}', False),
        (inside({"type": "string", "contentEncoding": "base64"}), '{"data": {{ image | tojson }}}', True),
    ],
)  # fmt: skip
def test_a_template_is_proposed_for(schema: Any, template: str, single: bool) -> None:
    (operation,) = operations(document(schema))
    assert (operation.template, operation.single, operation.why) == (template, single, "")


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({}, "says nothing of what is in the body"),
        ({"type": "object"}, "does not name what is in its object"),
        (inside(MATRIX, "a", b=MATRIX), "rows may be in 'a', 'b'"),
        (inside(MATRIX, "a", key={"type": "string"}), "value 'key' is not known"),
        ({"type": "string"}, "a single string"),
        ({"$ref": "#/components/schemas/Nothing"}, "says nothing"),
        (inside({"type": "array", "items": inside(VECTOR, "deep")}), "its records are nested"),
        (inside({"type": "dataframe", "orient": "split"}), "in the form 'split'"),
    ],
)
def test_what_is_not_known_is_not_guessed(schema: Any, why: str) -> None:
    (operation,) = operations(document(schema))
    assert operation.template is None and why in operation.why


def test_a_form_with_one_file_takes_pictures() -> None:
    file = {"type": "string", "format": "binary"}
    (operation,) = operations(document(inside(file, "file"), kind="multipart/form-data"))
    assert (operation.upload, operation.single, operation.picture) == ("file", True, True)
    (operation,) = operations(document(inside(file, "a", b=file), kind="multipart/form-data"))
    assert operation.upload is None and "its form has 'a', 'b'" in operation.why
    recursive = {"type": "object", "properties": {"a": {"$ref": "#/components/schemas/Loop"}}}
    (operation,) = operations(document(recursive, name="Loop"))
    assert operation.template is None and "nested too deeply" in operation.why


def people(server: Faulty, *, single: bool = True, answer: Any = None) -> None:
    """A FastAPI service of records on loopback, at ``/api/predict``."""
    server.documents = {"/api/openapi.json": document(REF if single else inside({"type": "array", "items": REF}))}
    server.rows_of = lambda body: [body] if single else body["data"]
    label = answer or (lambda record: {"label": "yes" if record["age"] > 50 else "no", "score": 0.75})
    server.reply = lambda body: label(body) if single else [label(record) for record in body["data"]]


def write_people(path: Path, rows: int, *, label: bool = True) -> str:
    lines = [f"{20 + 60 * i // rows},{'' if i % 3 else 100 * i + 0.5},{['rome', 'oslo'][i % 2]}" for i in range(rows)]
    labels = [f",{'yes' if 20 + 60 * i // rows > 50 else 'no'}" if label else "" for i in range(rows)]
    head = "age,income,city" + (",label" if label else "")
    path.write_text("\n".join([head, *(a + b for a, b in zip(lines, labels, strict=True))]) + "\n")
    return str(path)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("at", ["", "/api", "/api/predict", "/api/predict/", "/api/openapi.json"])
def test_the_spec_that_is_proposed_for_named_columns_works_as_it_is(single: bool, at: str, tmp_path: Path) -> None:
    members = write_people(tmp_path / "m.csv", 30)
    others = write_people(tmp_path / "n.csv", 31)
    with Faulty() as server:
        people(server, single=single)
        if at == "":
            server.documents["/openapi.json"] = document(
                REF if single else inside({"type": "array", "items": REF}), "/api/predict"
            )
        words = ["--rows", members, "--nonmembers", others, "--spec", str(tmp_path / "audit.yaml")]
        found = run(f"{server.base}{at}", *words)
        assert found.exit_code == 0, found.output
        assert "columns   age, income (may be left out), city, member (may be left out)" in found.output
        assert set(server.paths) == {"/api/predict"} and server.rows == (10 if single else 23)
        assert f"billed    {server.rows} rows" in found.output
        sets = ["attacks=[gap, noise]", "budget=5", "thresholds=[]", f"out={tmp_path / 'run'}"]
        audited = cli("audit", str(tmp_path / "audit.yaml"), "--quiet", *(w for s in sets for w in ("--set", s)))
        assert audited.exit_code == 0, audited.output
        sent = [json.loads(content) for content in server.bodies]
    records = sent if single else [record for body in sent for record in body["data"]]
    assert all(type(r["age"]) is int and (r["income"] is None or type(r["income"]) is float) for r in records)
    assert ll.load(tmp_path / "run")["gap"].scores.mean() == 1


def test_columns_that_the_service_does_not_take_are_named_before_anything_is_billed(tmp_path: Path) -> None:
    with Faulty() as server:
        people(server)
        for text, says in (
            ("age,town,label\n1,rome,yes\n", "has no column 'city', which the service needs"),
            ("age,city,size,label\n1,rome,3,yes\n", "column 'size' is none of what the service takes"),
        ):
            (tmp_path / "m.csv").write_text(text)
            found = run(f"{server.base}/api", "--rows", str(tmp_path / "m.csv"))
            assert found.exit_code == 2 and says in found.output
        found = run(f"{server.base}/api")
        assert found.exit_code == 2 and "no example is known of column 'city': give --rows FILE" in found.output
        assert server.rows == 0


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        (lambda r: {"label": "a", "score": 0.75}, "label"),
        (
            lambda r: {"result": {"class": r["age"] % 2, "p": [[0.75, 0.25], [0.25, 0.75]][r["age"] % 2]}},
            "result.class",
        ),
        (lambda r: {"yes": 0.75, "no": 0.25}, "@"),
        (lambda r: {"probabilities": {"yes": 0.75, "no": 0.25}, "seconds": 0.5}, "probabilities"),
        (lambda r: ["yes"], "@"),
        (lambda r: {"predictions": [1]}, "predictions"),
        (lambda r: {"odd key": True}, '"odd key"'),
        (lambda r: {"prediction": 1.0, "probability": 0.875}, "prediction"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("single", [True, False])
def test_the_labels_are_found_in_the_answers(answer: Any, label: str, single: bool, tmp_path: Path) -> None:
    with Faulty() as server:
        people(server, single=single, answer=answer)
        found = run(f"{server.base}/api", "--rows", write_people(tmp_path / "m.csv", 20))
        path = proposal(found)["target"]["label"]
        assert path == (label if single else label if label == "@" else f"[*].{label}")


@pytest.mark.parametrize(
    ("answer", "says", "mend"),
    [
        (lambda r: {"model": "v1", "label": "yes"}, "model (v1, v1, v1, …), label (yes,", ["label=label"]),
        (
            lambda r: {"p": 0.75 if r["age"] > 50 else 0.25},
            "--set label=p --set threshold=0.5",
            ["label=p", "threshold=0.5"],
        ),
        (lambda r: {"done": None}, 'no labels are found in its answer {"done": null}', None),
    ],
)
def test_what_may_be_labels_is_listed_and_not_guessed(answer: Any, says: str, mend: Any, tmp_path: Path) -> None:
    members = write_people(tmp_path / "m.csv", 20)
    with Faulty() as server:
        people(server, answer=answer)
        found = run(f"{server.base}/api", "--rows", members)
        assert found.exit_code == 2 and says in found.output
        if mend:
            again = proposal(run(f"{server.base}/api", "--rows", members, *(w for m in mend for w in ("--set", m))))
            assert again["target"]["label"] == mend[0].removeprefix("label=")
            assert again["target"].get("threshold") == (0.5 if len(mend) > 1 else None)


def test_several_operations_are_listed() -> None:
    with Faulty() as server:
        both = document(VECTOR)
        both["paths"]["/score"] = both["paths"]["/predict"]
        both["paths"]["/clean"] = {"post": {"tags": ["Infrastructure"]}}
        server.documents = {"/openapi.json": both}
        found = run(server.base, "--shape", "3")
        assert (
            found.exit_code == 2 and f"has {server.base}/predict, {server.base}/score: give the address" in found.output
        )


def test_a_body_that_is_not_described_is_asked_for_and_what_is_typed_is_taken_as_it_is() -> None:
    with Faulty() as server:
        server.documents = {"/openapi.json": {"openapi": "3.1.0", "paths": {"/predict": {"post": {}}}}}
        server.rows_of = lambda body: [body["input"]]
        server.reply = lambda body: {"output": int(3 * body["input"][0])}
        found = run(server.base, "--shape", "3")
        assert found.exit_code == 2 and "a body that the document does not describe" in found.output
        mend = re.search(r"--set '(template=.*?)' for one row", found.output)
        assert mend is not None
        again = run(f"{server.base}/predict", "--shape", "3", "--set", mend[1], "--set", "batch_rows=1")
        assert proposal(again)["target"]["template"] == '{"input": {{ row | tojson }}}'


def test_a_template_on_the_command_line_of_an_audit_is_taken_as_it_is() -> None:
    for text in ('{"x": {{ rows | tojson }}}', "[{{ row | tojson }}]", "{{ rows }}", "'a': # b"):
        assert parse_override(f"target.template={text}") == (("target", "template"), text)
    assert parse_override("target.label=[*].a") == (("target", "label"), "[*].a")
    assert parse_override("target.batch_rows=3") == (("target", "batch_rows"), 3)


def test_the_table_of_servers_has_every_protocol_and_every_command_is_one() -> None:
    text = (Path(__file__).parents[3] / "docs" / "http-targets.md").read_text(encoding="utf-8")
    table = [line.split(" | ") for line in text.partition("## Your server")[2].splitlines() if line.startswith("| ")][
        2:10
    ]
    assert {cells[-1].strip("` |") for cells in table} == set(PROTOCOLS)
    for cells in table:
        typed = re.search(r"`(labelleaks probe .*?)`( \(|$)", " | ".join(cells[1:-1]))
        assert typed is not None, cells
        words = shlex.split(typed[1].replace("\\|", "|"))[2:]
        assert run(words[0], *words[1:], "--help").exit_code == 0
    seen = set(re.findall(r"^\| `(\w+)` \| ", text, re.MULTILINE))
    assert set(PROTOCOLS) <= seen
