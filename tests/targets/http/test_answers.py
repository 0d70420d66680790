"""Forms in which services answer: maps, ranked lists, Triton's classification, JSON in a string, lines of JSON, CSV."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from labelleaks.targets import Classes, Http, wrap
from labelleaks.targets.http.body import Breach
from tests.servers.faulty import Faulty, rows_of

WORDS = ["cat", "dog", "eel"]
URL = "http://h/p"
CUT = Classes((0, 1), threshold=0.5)


def codes(answer: Any, rows: int, *, classes: Any = None, raw: bool = False, **options: Any) -> list[int]:
    """Class codes that a target reads in an answer."""
    given = {"url": URL, "protocol": "template", "template": "{{ rows | tojson }}", "label": "@", **options}
    given = {key: value for key, value in given.items() if value is not None}
    target: Any = wrap(Http(**given), numpy=True, classes=classes or WORDS)
    form = target._format
    content = answer if raw else json.dumps(answer).encode()
    found: list[int] = target._codes(form.read(form.parse(content), rows, target.classes), rows).tolist()
    return found


V2 = {"url": "http://h/v2/models/m", "protocol": None, "template": None, "label": None}
ML = {"url": "http://h/invocations", "protocol": None, "template": None, "label": None}


def bytes_output(data: list[str], shape: list[int]) -> Any:
    return {"outputs": [{"name": "y", "datatype": "BYTES", "shape": shape, "data": data}]}


@pytest.mark.parametrize(
    ("answer", "rows", "options", "expected"),
    [
        # a map of class to score
        ([{"cat": 0.1, "dog": 0.7, "eel": 0.2}, {"eel": 1, "cat": 0, "dog": 0}], 2, {}, [1, 2]),
        ({"cat": 0.1, "dog": 0.7, "eel": 0.2}, 1, {}, [1]),
        ({"result": {"cat": 0.1, "dog": 0.7}}, 1, {"label": "result"}, [1]),  # those above a cut only
        ([{"eel": 0.5, "dog": 0.5}], 1, {}, [1]),  # equal: the first class
        ([{"eel": 0.5, "cat": 0.5}], 1, {"classes": Classes(("eel", "cat"))}, [0]),
        ([{"0": 0.1, "1": 0.9}], 1, {"classes": 2}, [1]),
        ([{"good": 0.9, "bad": 0.1}], 1, {"classes": 2, "label_map": {"good": 1, "bad": 0}}, [1]),
        ({"predictions": [{"cat": 0.1, "dog": 0.9, "eel": 0}] * 2}, 2, ML, [1, 1]),  # columns of classes
        # ranked lists
        ([[{"label": "dog", "score": 0.7}, {"label": "cat", "score": 0.3}]] * 2, 2, {}, [1, 1]),
        ([{"label": "dog", "score": 0.3}, {"label": "cat", "score": 0.7}], 1, {}, [0]),
        ([{"label": "dog", "score": 0.7}, {"label": "cat", "score": 0.6}], 2, {}, [1, 0]),  # the best one a row
        ([[{"class": "eel", "probability": 0.9, "id": 7}]], 1, {}, [2]),
        ([[{"label": "LABEL_1", "score": 0.9}]], 1, {"classes": 2, "label_map": {"LABEL_0": 0, "LABEL_1": 1}}, [1]),
        # Triton's classification
        (bytes_output(["0.7:1:dog", "0.9:2:eel"], [2, 1]), 2, V2, [1, 2]),
        (bytes_output(["0.7:1", "0.2:0", "0.9:2", "0.1:1"], [2, 2]), 2, {**V2, "classes": 3}, [1, 2]),
        (bytes_output(["0.7:1:hund", "0.2:0:katze"], [1, 2]), 1, {**V2, "classes": 3}, [1]),
        (bytes_output(["-1.5e-1:1:a:b", "0.2:0:c"], [2, 1]), 2, {**V2, "classes": ["c", "a:b"]}, [1, 0]),
        # JSON in a string
        (json.dumps(["dog", "cat"]), 2, {}, [1, 0]),
        (json.dumps({"result": [2, 0]}), 2, {"classes": 3, "label": "result"}, [2, 0]),
        ({"body": json.dumps({"y": [2, 0]})}, 2, {"classes": 3, "label": "body.y"}, [2, 0]),
        (bytes_output([json.dumps({"label": "dog", "score": 0.9})], [1, 1]), 1, V2, [1]),
        ({"predictions": [json.dumps([0.1, 0.9, 0.0])]}, 1, ML, [1]),
    ],
)
def test_a_label_is_found_in(answer: Any, rows: int, options: Any, expected: list[int]) -> None:
    assert codes(answer, rows, **options) == expected


@pytest.mark.parametrize(
    ("content", "rows", "options", "expected"),
    [
        (b'{"label": "dog"}\n{"label": "eel"}\n', 2, {"label": "[*].label"}, [1, 2]),
        (b'{"label": "dog"}\n', 1, {"label": "[*].label", "protocol": "jsonl", "template": None}, [1]),
        (b'{"SageMakerOutput": {"p": [0.1, 0.9, 0]}}\n{"SageMakerOutput": {"p": [1, 0, 0]}}', 2,
         {"label": "[*].SageMakerOutput.p", "protocol": "jsonl", "template": None}, [1, 0]),
        (b"dog", 1, {}, [1]),  # text/plain, as BentoML answers one string
        (b"cat\ndog\n", 2, {"protocol": "csv", "template": None, "label": None}, [0, 1]),
        (b"cat,dog", 2, {"protocol": "csv", "template": None, "label": None}, [0, 1]),
        (b"0.1,0.9,0\n1,0,0\n", 2, {"protocol": "csv", "template": None, "label": None}, [1, 0]),
        (b"0.1,0.9,0.0\n", 1, {"protocol": "csv", "template": None, "label": None}, [1]),
        (b"0.25\n0.75", 2, {"protocol": "csv", "template": None, "label": None, "classes": CUT}, [0, 1]),
        (b'{"predictions": [{"score": 0.9, "predicted_label": 1.0}]}', 1,
         {"protocol": "csv", "template": None, "label": "predictions[*].predicted_label", "classes": 2}, [1]),
        (b"1,0", 2, {"protocol": "csv", "template": None, "label": None, "classes": 2}, [1, 0]),
    ],
)  # fmt: skip
def test_lines_are_read(content: bytes, rows: int, options: Any, expected: list[int]) -> None:
    assert codes(content, rows, raw=True, **options) == expected


@pytest.mark.parametrize(
    ("answer", "rows", "options", "says"),
    [
        ([{"a": 1, "b": 2}], 1, {}, "say output: NAME.*classes:.*label_map:"),
        ([{"label": "dog", "score": "high"}], 1, {}, "one label and one score"),
        ([[{"label": "dog", "score": 0.5}, "cat"]], 1, {}, "its ranked list holds text"),
        (["dog", {"dog": 0.5, "cat": 0.5}], 2, {}, "text for one row and an object for another"),
        ([{"dog": 0.5, "cat": None}], 1, {}, "say output"),
        (["0.5:1:dog", "cat"], 2, {}, "none of the 3 classes"),
        (["wolf"], 1, {}, r"none of the 3 classes.*say label_map: \{its label: yours"),
    ],
)
def test_answers_that_are_refused_say_what_mends_them(answer: Any, rows: int, options: Any, says: str) -> None:
    with pytest.raises(Breach, match=says):
        codes(answer, rows, **options)


def test_the_mends_of_an_answer_of_several_things_work() -> None:
    predictions = {"predictions": [{"kind": "dog", "weight": 7}, {"kind": "eel", "weight": 1}]}
    with pytest.raises(Breach, match="'kind', 'weight': say output: NAME"):
        codes(predictions, 2, **ML)
    assert codes(predictions, 2, **ML, output="kind") == [1, 2]
    scores = {"predictions": [{"chat": 0.2, "chien": 0.8}]}
    with pytest.raises(Breach, match=r"name them with classes: \[…\], or with label_map:"):
        codes(scores, 1, **ML, classes=["cat", "dog"])
    assert codes(scores, 1, **ML, classes=["chat", "chien"]) == [1]
    assert codes(scores, 1, **ML, classes=["cat", "dog"], label_map={"chat": "cat", "chien": "dog"}) == [1]


def test_an_answer_is_that_of_its_row_alone() -> None:
    """Whatever else is in the request, for each form of answer."""
    rng = np.random.default_rng(0)
    scores = rng.random((40, 3)).round(1)
    forms = [
        [dict(zip(WORDS, map(float, row), strict=True)) for row in scores],
        [[{"label": w, "score": float(s)} for w, s in zip(WORDS, row, strict=True)] for row in scores],
        [[f"{s}:{i}:{w}" for i, (w, s) in enumerate(zip(WORDS, row, strict=True))] for row in scores],
        [json.dumps(dict(zip(WORDS, map(float, row), strict=True))) for row in scores],
    ]
    for answers in forms:
        whole = codes(answers, 40)
        assert whole == scores.argmax(1).tolist() == [codes([one], 1)[0] for one in answers]


@pytest.mark.parametrize("protocol", ["csv", "jsonl"])
def test_lines_go_out_and_labels_come_back_over_http(protocol: Any) -> None:
    x = rows_of(50)
    with Faulty() as server:
        server.decode = lambda body: [json.loads(b"[%b]" % line.strip(b"[]")) for line in body.splitlines()]
        server.rows_of = lambda rows: rows
        server.reply = lambda rows: [int(min(3 * row[0], 2)) for row in rows]
        server.encode = lambda labels: "\n".join(map(str, labels)).encode()
        target = wrap(Http(url=f"{server.base}/invocations", protocol=protocol, batch_rows=7), classes=3)
        assert target(x).tolist() == [int(min(3 * value, 2)) for value in x[:, 0].double().tolist()]
        kind = {"csv": "text/csv", "jsonl": "application/jsonlines"}[protocol]
        assert server.rows == 50 and {head["content-type"] for head in server.headers} == {kind}
