"""Bodies and answers of each protocol, options and what is refused, pictures, templates, pacing: without a network."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email
import email.policy
import io
import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from yarl import URL

from labelleaks.core.domains import Binary, Box
from labelleaks.errors import InputError, TargetError
from labelleaks.targets import Http, sendable, wrap
from labelleaks.targets.http import pictures
from labelleaks.targets.http.body import Breach, parse
from labelleaks.targets.http.formats import address_of, format_of
from labelleaks.targets.http.pacing import Pace, backoff, retry_after
from labelleaks.targets.http.rows import Rows
from labelleaks.targets.http.secrets import credentials
from labelleaks.targets.http.service import proxy_for
from tests.servers.faulty import Faulty, rows_of, truth

ROWS = np.array([[0.1, 0.5], [1.0, 0.0], [0.25, 0.75]], dtype=np.float32)


def sent(rows: Any, **options: Any) -> Any:
    rows = rows if isinstance(rows, Rows) else Rows(len(rows), rows)
    return json.loads(format_of(Http(**options)).body(rows).content)


def read(answer: Any, rows: int, **options: Any) -> Any:
    return np.asarray(format_of(Http(**options)).read(parse(json.dumps(answer).encode()), rows, None)).tolist()


V2 = {"url": "http://h/v2/models/m"}
TF = {"url": "http://h/v1/models/m:predict"}
ML = {"url": "http://h/invocations"}


def test_every_number_is_read_as_what_was_hashed() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 60_000, dtype=np.uint32)
    odd = [0.0, -0.0, 1.0, 1e-45, 3.4028235e38, 1.1754944e-38, 16777216.0]
    rows = np.concatenate([bits.view(np.float32), np.array(odd, np.float32)])
    rows = rows[np.isfinite(rows)].reshape(-1, 1)
    for options, found in (
        (V2, lambda d: d["inputs"][0]["data"]),
        (TF, lambda d: d["instances"]),
        (ML, lambda d: d["inputs"]),
    ):
        content = format_of(Http(**options)).body(Rows(len(rows), rows)).content
        read = np.array(found(json.loads(content)), dtype=np.float64).reshape(-1, 1)
        assert (read == rows).all() and (np.signbit(read) == np.signbit(rows)).all()  # by who computes in float64
        assert read.astype(np.float32).tobytes() == rows.tobytes()  # and in float32, read in one step or in two
        texts = np.array(content.translate(None, b"[]{}").replace(b":", b",").split(b","))
        assert {float(np.float32(text)) for text in texts[-1000:]} == set(rows[-1000:, 0].tolist())
        assert all(b"." in text or b"e" in text for text in texts[-1000:])  # a float where a server looks at the kind


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("options", [V2, TF, {**TF, "input": "x"}, ML, {**ML, "columns": ["a", "b"]}])
def test_what_json_has_no_number_for_is_not_written(options: dict[str, Any], value: float) -> None:
    with pytest.raises(ValueError, match="NaN or an infinity"):
        format_of(Http(**options)).body(Rows(1, np.array([[0.5, value]], dtype=np.float32)))


@pytest.mark.parametrize(
    ("options", "address"),
    [
        ({"url": "http://h:8", "protocol": "v2", "model": "m"}, "http://h:8/v2/models/m/infer"),
        ({"url": "http://h/v2", "model": "m", "version": 3}, "http://h/v2/models/m/versions/3/infer"),
        ({"url": "http://h/a/v2/models/m/"}, "http://h/a/v2/models/m/infer"),
        ({"url": "http://h/v2/models/m/infer"}, "http://h/v2/models/m/infer"),
        ({"url": "http://h/v2/models/m/versions/2", "version": "3"}, "http://h/v2/models/m/versions/2/infer"),
        ({"url": "http://h", "protocol": "tensorflow", "model": "a/b"}, "http://h/v1/models/a%2Fb:predict"),
        ({"url": "http://h/v1/models/m", "version": "7"}, "http://h/v1/models/m/versions/7:predict"),
        ({"url": "http://h/v1/models/m:predict"}, "http://h/v1/models/m:predict"),
        ({"url": "http://h", "protocol": "mlflow"}, "http://h/invocations"),
        ({"url": "http://h/x/invocations?a=1"}, "http://h/x/invocations?a=1"),
        ({"url": "http://h/p/", "protocol": "template", "label": "y", "template": "{}"}, "http://h/p/"),
    ],
)
def test_addresses(options: dict[str, Any], address: str) -> None:
    assert address_of(Http(**options)) == address


def test_the_numbers_that_are_sent_are_the_exact_float32_values() -> None:
    for options, find in (
        (V2, lambda d: d["inputs"][0]["data"]),
        (TF, lambda d: d["instances"]),
        (ML, lambda d: d["inputs"]),
    ):
        found = np.array(find(sent(ROWS, **options)), dtype=np.float64).reshape(ROWS.shape)
        assert (found == ROWS.astype(np.float64)).all()


def test_open_inference_bodies() -> None:
    images = np.zeros((2, 1, 3, 3), dtype=np.float32)
    body = sent(images, **V2, input="x", output="y", datatype="FP64")
    assert body["inputs"][0] == {"name": "x", "shape": [2, 1, 3, 3], "datatype": "FP64", "data": [0.0] * 18}
    assert body["outputs"] == [{"name": "y"}]
    assert "outputs" not in sent(images, **V2)


def test_the_other_bodies() -> None:
    assert sent(ROWS[1:2], **TF) == {"instances": [[1.0, 0.0]]}
    assert sent(ROWS[1:2], **TF, input="x") == {"instances": [{"x": [1.0, 0.0]}]}
    assert sent(ROWS[1:2], **ML) == {"inputs": [[1.0, 0.0]]}
    assert sent(ROWS[1:2], **ML, columns=["a", "b"]) == {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 0]]}}
    with pytest.raises(InputError, match="1 names for rows of 2 features"):
        sent(ROWS, **ML, columns=("a",))


def output(datatype: str, shape: list[int], data: list[Any], name: str = "y") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def test_open_inference_answers() -> None:
    assert read({"outputs": [output("INT64", [3], [2, 0, 1])]}, 3, **V2) == [2, 0, 1]
    assert read({"outputs": [output("INT32", [3, 1], [[2], [0], [1]])]}, 3, **V2) == [[2], [0], [1]]
    assert read({"outputs": [output("BYTES", [2, 1], ["cat", "dog"])]}, 2, **V2) == [["cat"], ["dog"]]
    assert read({"outputs": [output("FP32", [2, 2], [0, 1.0, 0.5, 0.25])]}, 2, **V2) == [[0, 1], [0.5, 0.25]]
    two = [output("INT64", [1], [4]), output("FP32", [1, 2], [0.5, 0.5], name="p")]
    assert read({"outputs": two}, 1, **V2, output="y") == [4]
    assert read({"outputs": two}, 1, **V2, output="p") == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"error": "no"}, "with 'error', not an object with 'outputs'"),
        ([1, 2, 3], "it is a list"),
        ({"outputs": []}, "has 0 outputs"),
        ({"outputs": [3]}, "no list of tensors"),
        ({"outputs": [{"name": "y", "shape": [3]}]}, "not an output with 'datatype'"),
        ({"outputs": [output("INT64", [3], [1, 2])]}, "2 values and says shape"),
        ({"outputs": [output("INT64", [2], [1, 2])]}, r"shape \[2\] for 3 rows"),
        ({"outputs": [output("INT64", [1, 3], [1, 2, 0])]}, r"shape \[1, 3\] for 3 rows"),
        ({"outputs": [output("INT64", [3], [1, 2, 0.5])]}, "INT64 output holds a number"),
        ({"outputs": [output("INT64", [3], [1, 2, True])]}, "INT64 output holds a truth value"),
        ({"outputs": [output("FP32", [3, 2], [1, 2, 3, 4, 5, None])]}, "FP32 output holds null"),
        ({"outputs": [output("BYTES", [3], ["a", "b", 3])]}, "BYTES output holds a number"),
        ({"outputs": [output("WORDS", [3], [1, 2, 3])]}, "none of the protocol's"),
        ({"outputs": [output("INT64", [3], [[1], [2, 3]])]}, "nested unevenly"),
        ({"outputs": [output("INT64", [3, -1], [1])]}, "no shape"),
        ({"outputs": [output("INT64", [3], [1, 2, 3], "a"), output("INT64", [3], [1, 2, 3], "b")]}, "say output"),
    ],
)
def test_open_inference_answers_that_are_refused(answer: Any, says: str) -> None:
    with pytest.raises(Breach, match=says):
        read(answer, 3, **V2)


def test_list_answers() -> None:
    assert read({"predictions": [1, 0, 2]}, 3, **TF) == [1, 0, 2]
    assert read([1, 0, 2], 3, **ML) == [1, 0, 2]
    assert read({"predictions": ["a", "b"]}, 2, **ML) == ["a", "b"]
    assert read({"predictions": [True, False]}, 2, **ML) == [True, False]
    assert read({"predictions": [[0.5, 0.5], [1, 0]]}, 2, **TF) == [[0.5, 0.5], [1.0, 0.0]]
    assert read({"predictions": [{"y": 1}, {"y": 2}]}, 2, **TF) == [1, 2]
    assert read({"predictions": [{"y": 1, "p": 0.5}]}, 1, **TF, output="y") == [1]


@pytest.mark.parametrize(
    ("predictions", "says"),
    [
        ([1, 2], "2 labels for 3 rows"),
        ([[1, 2, 3]], "1 labels for 3 rows"),
        ({"a": 1}, "an object, not a list"),
        ([1, 2, None], "a number and null"),
        ([1, 2, "3"], "a number and text"),
        ([1, 2, True], "a number and a truth value"),
        ([[1, 2], [3, 4], [5]], "unequal length"),
        ([[1, 2], [3, 4], 5], "unequal length"),
        ([[[1, 2]], [[1, 2]], [[1, 2]]], "a list"),
        ([{"a": 1, "b": 2}] * 3, "say output"),
        ([{"a": 1}, {"a": 1}, 3], "it is a number for one row and an object for another"),
        ([{}, {}, {}], "say output"),
        ([[], [], []], "null"),
    ],
)
def test_list_answers_that_are_refused(predictions: Any, says: str) -> None:
    with pytest.raises(Breach, match=says):
        read({"predictions": predictions}, 3, **TF)


def test_numbers_that_json_does_not_have_are_refused() -> None:
    for word in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(Breach, match=word):
            parse(f"[{word}]".encode())
    for broken in (b"", b"[1, 2", b"<html>", b"\xff\xfe", b"[" * 100_000):
        with pytest.raises(ValueError):
            parse(broken)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.sampled_from([0, 1, 2]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "y", "data"]), inner, max_size=2)
    ),
    max_leaves=12,
)
TENSOR = st.fixed_dictionaries(
    {
        "name": st.just("y"),
        "datatype": st.sampled_from(["INT64", "FP32", "BYTES", "BOOL", "X"]) | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | JSON,
        "data": st.lists(st.integers(-1, 4), max_size=6) | JSON,
    }
)


@given(
    st.sampled_from([V2, TF, ML, {**V2, "output": "y"}, {**TF, "output": "y"}, {**TF, "label_map": {0: 1, "a": 2}}]),
    JSON
    | st.fixed_dictionaries({"predictions": JSON | st.lists(st.integers(0, 3), min_size=3, max_size=3)})
    | st.fixed_dictionaries({"outputs": JSON | st.lists(TENSOR, max_size=2)}),
    st.integers(1, 3),
)
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
def test_whatever_is_answered_is_labels_for_the_rows_or_a_breach(options: Any, answer: Any, rows: int) -> None:
    target = wrap(Http(**options), numpy=True, classes=3)
    form = format_of(Http(**options))
    try:
        labels = target._codes(form.read(parse(json.dumps(answer).encode()), rows, target.classes), rows)
    except Breach:
        return
    assert labels.shape == (rows,) and labels.dtype == torch.int64
    assert ((labels >= 0) & (labels < 3)).all()


# --- templates and pictures -------------------------------------------------------------------------------------------

ANY = {"url": "http://h/score", "protocol": "template"}


def test_a_template_makes_the_body_and_a_path_finds_the_labels() -> None:
    options = {
        **ANY,
        "model": "m",
        "template": '{"model": "{{ model }}", "n": {{ n }}, "data": [{% for row in rows %}{"x": {{ row | tojson }}}'
        "{{ ', ' if not loop.last }}{% endfor %}]}",
        "label": "result[*].best.name",
    }
    assert sent(ROWS[1:], **options) == {"model": "m", "n": 2, "data": [{"x": [1.0, 0.0]}, {"x": [0.25, 0.75]}]}
    answer = {"result": [{"best": {"name": "cat"}}, {"best": {"name": "dog"}}]}
    assert read(answer, 2, **options) == ["cat", "dog"]
    with pytest.raises(Breach, match="1 labels for 2 rows"):  # a JMESPath drops what is missing: the count shows it
        read({"result": [{"best": {"name": "cat"}}, {"best": {}}]}, 2, **options)
    with pytest.raises(Breach, match="null"):
        read({"other": 1}, 2, **options)


def test_one_row_needs_no_list() -> None:
    options = {**ANY, "template": "{{ rows[0] | tojson }}", "label": "y"}
    assert read({"y": 2}, 1, **options) == [2]
    assert read({"y": "cat"}, 1, **options) == ["cat"]
    assert read({"y": [0.25, 0.75]}, 1, **options) == [[0.25, 0.75]]
    assert read({"y": [1]}, 1, **options) == [1]
    with pytest.raises(Breach, match="3 labels for 1 rows"):  # labels of rows that were never sent
        read({"y": [0, 1, 2]}, 1, **options)
    with pytest.raises(Breach, match="2 labels for 1 rows"):
        read({"y": ["a", "b"]}, 1, **options)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for %}", "not a Jinja template"),
        ("{{ nothing }}", "cannot be rendered.*'nothing' is undefined"),
        ("{{ rows }", "not a Jinja template|is not JSON"),
        ("rows", "renders to is not JSON"),
        ("{{ ().__class__.__bases__[0].__subclasses__() }}", "SecurityError"),
        ("{{ rows.append(1) }}", "SecurityError"),
    ],
)
def test_a_template_that_cannot_be_is_refused_before_anything_is_sent(template: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        sent(ROWS, **ANY, template=template, label="y")


def test_a_path_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="label: not a JMESPath"):
        format_of(Http(**ANY, template="1", label="a[[["))
    with pytest.raises(Breach, match="fails on it"):
        read({"y": 3}, 1, **ANY, template="1", label="length(y)")


def test_pictures_are_the_exact_levels() -> None:
    levels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    row = (levels.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)
    assert (pictures.pixels(row, layout="chw", low=0, high=1) == levels).all()
    assert (pictures.pixels(levels.astype(np.float32), layout="hwc", low=0, high=255) == levels).all()
    assert pictures.pixels(row[:1], layout="chw", low=0, high=1).shape == (4, 4)
    assert pictures.pixels(np.float32([[-1.0, 1.0], [0.0, 2.0]]), layout="chw", low=-1, high=1).tolist() == [
        [0, 255],
        [128, 255],
    ]
    png = Image.open(io.BytesIO(pictures.encode(levels, "png", 95)))
    assert (np.asarray(png) == levels).all()
    jpeg = np.asarray(Image.open(io.BytesIO(pictures.encode(levels, "jpeg", 100)))).astype(int)
    assert np.abs(jpeg - levels).max() < 12
    for shape in ((3,), (2, 4, 4), (4, 4, 4), (1, 3, 4, 4)):
        with pytest.raises(InputError, match="is no picture"):
            pictures.pixels(np.zeros(shape, np.float32), layout="chw", low=0, high=1)


def test_pictures_as_base64_and_as_files() -> None:
    rows = np.float32([[[[0.0, 1.0], [0.2, 0.4]]], [[[1.0, 1.0], [0.0, 0.6]]]])  # (2, 1, 2, 2)
    shown = [[[0, 255], [51, 102]], [[255, 255], [0, 153]]]
    body = sent(
        rows, **ANY, template='{"i": {{ images | tojson }}, "r": {{ rows | tojson }}}', label="y", pictures="png"
    )
    assert body["r"] == []
    found = [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).tolist() for text in body["i"]]
    assert found == shown
    form = format_of(Http(**ANY, upload="file", form={"top": "1"}, label="y", pictures="png")).body(
        Rows(len(rows), rows)
    )
    whole = b"Content-Type: " + form.kind.encode() + b"\r\n\r\n" + form.content
    parts = list(email.message_from_bytes(whole, policy=email.policy.HTTP).iter_parts())  # type: ignore[attr-defined]
    assert [part.get_param("name", header="content-disposition") for part in parts] == ["file", "file", "top"]
    files = [np.asarray(Image.open(io.BytesIO(part.get_payload(decode=True)))).tolist() for part in parts[:2]]
    assert files == shown and parts[2].get_payload() == "1"
    assert [part.get_content_type() for part in parts] == ["image/png", "image/png", "text/plain"]


def test_the_domain_of_pictures_has_256_levels() -> None:
    png = Http(**ANY, upload="f", label="y", pictures="png")
    narrowed = sendable(png, Box(0, 1))
    assert narrowed.describe()["levels"] == 256
    x = narrowed.project(torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
    again = [pictures.pixels(row.numpy(), layout="chw", low=0, high=1) for row in x]
    assert torch.tensor(np.stack(again)).div(255).equal(x[:, 0])  # what is sent is what is measured, bit for bit
    assert sendable(png, Box(0, 1, levels=2)).describe()["levels"] == 2
    assert sendable(Http(**TF), Box(0, 1)).describe()["levels"] is None
    assert sendable(lambda x: x, Box(0, 1)).describe()["levels"] is None
    for wrong in (Box(0, 255), Binary(), Box([0.0, 0.0], [1.0, 2.0])):
        with pytest.raises(InputError, match="pixel_range"):
            sendable(png, wrong)
    with pytest.raises(InputError, match="does not share"):
        sendable(png, Box(0, 1, levels=100))


@pytest.mark.parametrize("bounds", [(0.1, 0.9), (-2.1179, 2.64), (-1.123456789, 2.987654321), (0, 255)])
def test_bounds_that_no_float32_is_are_those_of_the_pixels(bounds: tuple[float, float]) -> None:
    """The domain keeps float32, options what was written: they are compared as what can be sent."""
    png = Http(**ANY, upload="f", label="y", pictures="png", pixel_range=bounds)
    narrowed = sendable(png, Box(*bounds))
    assert narrowed.describe() == Box(*bounds, levels=256).describe()
    assert sendable(png, Box([bounds[0]] * 4, [bounds[1]] * 4)).describe()["levels"] == 256  # a bound for each feature
    wrong = Box(bounds[0], bounds[1] + 0.5)
    with pytest.raises(InputError) as refused:
        sendable(png, wrong)
    mend = str(refused.value).partition("give ")[2].partition(", or")[0]
    assert sendable(png, eval(mend, {"Box": Box})).describe() == narrowed.describe()  # what the message says works


def test_pictures_and_domain_agree_on_the_layout() -> None:
    png = Http(**ANY, upload="f", label="y", pictures="png", layout="hwc")
    assert sendable(png, Box(0, 1, layout="hwc")).describe()["layout"] == "hwc"
    with pytest.raises(InputError, match=r'layout="hwc" of the pictures, but .*layout=.chw.*say the same of both'):
        sendable(png, Box(0, 1, layout="chw"))


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "ftp://h"}, "http://"),
        ({"url": 3}, "http://"),
        ({"url": "http://"}, "no host"),
        ({"url": "http://h:99999/invocations"}, "not an address"),
        ({"url": "http://user:hunter2@h/invocations"}, "netrc"),
        ({"url": "http://h/invocations?api_key=hunter2"}, "'api_key', which looks like a secret"),
        ({"url": "http://h/score"}, "labelleaks probe"),
        ({"url": "http://h/v2"}, "give model"),
        ({"url": "http://h", "protocol": "tensorflow"}, "give model"),
        ({"url": "http://h", "protocol": "grpc"}, "protocol='grpc': one of v2, tensorflow"),
        ({**ML, "batch_rows": 0}, "batch_rows=0"),
        ({**ML, "concurrency": True}, "concurrency=True"),
        ({**ML, "retries": -1}, "retries=-1"),
        ({**ML, "rate": 0}, "rate=0"),
        ({**ML, "timeout": 0}, r"timeout=0: a number above 0 is needed$"),
        ({**ML, "backoff": -1}, r"backoff=-1: a number of at least 0 is needed$"),
        ({**ML, "timeout": float("nan")}, "timeout=nan"),
        ({**ML, "timeout": "1"}, "timeout='1'"),
        ({**ML, "price_per_row": -1}, "price_per_row=-1"),
        ({**ML, "headers": {"X-Api-Key": "hunter2"}}, "auth_env: NAME, auth_header: X-Api-Key"),
        ({**ML, "headers": {"Cookie": "hunter2"}}, "Cookie"),
        ({**ML, "headers": "hunter2"}, "headers: a mapping"),
        ({**ML, "headers": {"X-A": "hunter2\r\nX-B: 1"}}, "no header can carry"),
        ({**ML, "headers": {"X A": "1"}}, "no header can carry"),
        ({**ML, "headers": {"X-A": 1}}, "no header can carry"),
        ({**ML, "auth_env": "hunter2"}, "NAME of an environment variable"),
        ({**ML, "auth_env": "TOKEN", "netrc": True}, "one of them"),
        ({**ML, "label": "y"}, "label belongs to protocol template"),
        ({**ML, "pictures": "png"}, "pictures belongs to protocol template"),
        ({**ANY, "template": "1"}, "give label"),
        ({**ANY, "label": "y"}, "give template"),
        ({**ANY, "label": "y", "upload": "f"}, "say pictures"),
        ({**ANY, "label": "y", "upload": "f", "template": "1", "pictures": "png"}, "give template"),
        ({**ANY, "label": "y", "upload": "f", "pictures": "gif"}, "png, jpeg"),
        ({**ANY, "label": "y", "upload": "f", "pictures": "png", "quality": 101}, "1 to 100"),
        ({**ANY, "label": "y", "upload": "f", "pictures": "png", "pixel_range": (1, 0)}, "pixel_range"),
        ({**ANY, "label": "y", "upload": "f", "pictures": "png", "form": {"token": "hunter2"}}, "auth_env"),
    ],
)
def test_options_that_cannot_be_are_refused_and_secrets_not_repeated(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        Http(**options)
    assert "hunter2" not in str(caught.value)


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", " se/cret\n")
    assert credentials(Http(**ML)).headers == {}
    found = credentials(Http(**ML, auth_env="TOKEN"))
    assert found.headers == {"Authorization": "Bearer se/cret"}
    assert found.scrub("a se/cret b se%2Fcret") == "a *** b ***"
    assert found.scrub("se%2fcret c2UvY3JldA== c2UvY3JldA") == "*** ***== ***"
    assert "cret" not in repr(found)
    assert credentials(Http(**ML, auth_env="TOKEN", auth_header="x-api-key", auth_scheme="")).headers == {
        "x-api-key": "se/cret"
    }
    monkeypatch.setenv("TOKEN", "me:hunter2")
    basic = credentials(Http(**ML, auth_env="TOKEN", auth_scheme="Basic"))
    coded = base64.b64encode(b"me:hunter2").decode()
    assert basic.headers == {"Authorization": f"Basic {coded}"}
    assert basic.scrub(f"{coded} hunter2") == "*** ***"
    monkeypatch.setenv("TOKEN", "a\nb")
    with pytest.raises(InputError, match="no header can carry") as caught:
        credentials(Http(**ML, auth_env="TOKEN"))
    assert "a\nb" not in str(caught.value)
    monkeypatch.delenv("TOKEN")
    with pytest.raises(InputError, match="TOKEN is not set"):
        credentials(Http(**ML, auth_env="TOKEN"))


def test_secrets_come_from_a_netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(path))
    options = Http(url="http://h:80/invocations", netrc=True)
    with pytest.raises(InputError, match="cannot be read"):
        credentials(options)
    path.write_text("machine h login me password hunter2\n")
    assert base64.b64decode(credentials(options).headers["Authorization"].split()[1]) == b"me:hunter2"
    with pytest.raises(InputError, match="no password for other"):
        credentials(Http(url="http://other/invocations", netrc=True))
    path.write_text("machine h\nlogin me passwort hunter2\n")
    with pytest.raises(InputError, match="line") as caught:
        credentials(options)
    assert "hunter2" not in str(caught.value) and "passwort" not in str(caught.value)


# --- pacing -----------------------------------------------------------------------------------------------------------


def test_tokens_are_given_at_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0

    async def sleep(seconds: float, stop: asyncio.Event) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("labelleaks.targets.http.pacing.pause", sleep)

    async def times(pace: Pace, n: int) -> list[float]:
        nonlocal now
        stop, found = asyncio.Event(), []
        for _ in range(n):
            await pace.turn(stop)
            found.append(round(now, 6))
        return found

    assert asyncio.run(times(Pace(10.0, 1, lambda: now), 4)) == [100.0, 100.1, 100.2, 100.3]
    now = 200.0
    burst = Pace(10.0, 3, lambda: now)
    now = 300.0  # a long pause saves three tokens, not a hundred
    assert asyncio.run(times(burst, 5)) == [300.0, 300.0, 300.0, 300.1, 300.2]
    held = Pace(10.0, 1, lambda: now)
    held.hold(5.0)
    start = now
    assert asyncio.run(times(held, 2)) == [round(start + 5.0, 6), round(start + 5.1, 6)]
    free = Pace(None, 1, lambda: now)
    start = now
    assert asyncio.run(times(free, 3)) == [round(start, 6)] * 3


def test_waits_grow_and_are_bounded() -> None:
    for attempt, most in ((0, 0.5), (1, 1.0), (3, 4.0), (20, 30.0), (10_000, 30.0)):
        waits = {backoff(attempt, 0.5) for _ in range(20)}
        assert len(waits) > 1 and all(most / 2 <= wait <= most for wait in waits)


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("3") == 3.0
    assert retry_after("0.5") == 0.5
    assert retry_after("-1") == 0.0
    assert retry_after("Sun, 06 Nov 1994 08:49:37 GMT") == 0.0
    began = datetime.now(UTC)
    soon = retry_after(format_datetime(began + timedelta(seconds=90), usegmt=True))  # whole seconds
    assert soon is not None and 89 - (datetime.now(UTC) - began).total_seconds() <= soon <= 90
    for nothing in (None, "", "soon", "nan", "inf", "Sun, 99 Nov 1994 08:49:37 GMT"):
        assert retry_after(nothing) is None


def test_a_pause_ends_when_it_is_told_to() -> None:
    async def run() -> list[bool]:
        stop, pace, ended = asyncio.Event(), Pace(None, 1), []
        pace.hold(3600.0)
        turn = asyncio.create_task(pace.turn(stop))
        for told in (False, True):
            if told:
                stop.set()
            for _ in range(10):  # turns of the loop, not seconds
                await asyncio.sleep(0)
            ended.append(turn.done())
        return ended

    assert asyncio.run(run()) == [False, True]


# --- proxies ----------------------------------------------------------------------------------------------------------


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    assert proxy_for(URL("http://host/")) is None
    monkeypatch.setenv("http_proxy", "proxy:3128")
    monkeypatch.setenv("https_proxy", "http://user:word@proxy:3129")
    monkeypatch.setenv("no_proxy", "127.0.0.1,inner.example")
    assert proxy_for(URL("http://host/")) == URL("http://proxy:3128")
    assert proxy_for(URL("https://host:8443/")) == URL("http://user:word@proxy:3129")
    assert proxy_for(URL("http://127.0.0.1:8000/")) is None
    assert proxy_for(URL("http://inner.example/")) is None


def test_a_proxy_is_asked_for_the_address_and_a_strange_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with Faulty() as server:
        monkeypatch.setenv("http_proxy", server.base)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        x = rows_of(3)
        with wrap(Http(url="http://service.invalid/v1/models/m:predict"), numpy=True, classes=3) as target:
            assert target(x).equal(truth(x))
        assert server.paths == ["http://service.invalid/v1/models/m:predict"]
        monkeypatch.setenv("http_proxy", "socks5://user:hunter2@proxy:1")
        with (
            pytest.raises(InputError, match=r"check HTTP_PROXY") as caught,
            wrap(Http(url="http://service.invalid/v1/models/m:predict"), numpy=True, classes=3),
        ):
            pass
        assert "hunter2" not in str(caught.value)


def certified(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS as localhost, and the certificate to trust."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


class Tunnel(socketserver.ThreadingTCPServer):
    """A proxy that leads each CONNECT with the right password to one port, whatever it names."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[list[bytes]] = []
        super().__init__(("127.0.0.1", 0), _Tunnelled)


class _Tunnelled(socketserver.StreamRequestHandler):
    server: Tunnel

    def handle(self) -> None:
        head = list(iter(lambda: self.rfile.readline().strip(), b""))
        self.server.asked.append(head)
        if b"Proxy-Authorization: Basic dXNlcjpodW50ZXIy" not in head:
            self.wfile.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
            return
        self.wfile.write(b"HTTP/1.1 200 Established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self.server.port)) as inner:
            back = threading.Thread(target=_pump, args=(inner, self.connection), daemon=True)
            back.start()
            _pump(self.connection, inner)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(1 << 16):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")


@needs_openssl
def test_https_goes_through_the_tunnel_of_a_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTPS_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    context, certificate = certified(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    x = rows_of(30)
    with Faulty() as server, Tunnel(int(server.base.rpartition(":")[2])) as proxy:
        server.encrypt(context)
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        options = Http(url="https://localhost:1/invocations", batch_rows=4, concurrency=2, retries=0)
        monkeypatch.setenv("https_proxy", f"http://user:hunter2@127.0.0.1:{proxy.server_address[1]}")
        server.rows_of = lambda document: document["inputs"]
        server.reply = lambda document: {"predictions": truth(torch.tensor(document["inputs"])).tolist()}
        with wrap(options, numpy=True, classes=3) as target:
            assert target(x).equal(truth(x)) and target(x).equal(truth(x))
        assert [head[0] for head in proxy.asked] == [b"CONNECT localhost:1 HTTP/1.1"] * 2, "tunnels are kept"
        monkeypatch.setenv("https_proxy", f"http://user:wrong-hunter3@127.0.0.1:{proxy.server_address[1]}")
        with (
            wrap(options, numpy=True, classes=3) as target,
            pytest.raises(TargetError, match="the proxy answered 407") as caught,
        ):
            target(x)
        assert "hunter" not in str(caught.value)
        proxy.shutdown()


@needs_openssl
def test_https_is_spoken_and_a_certificate_that_nobody_trusts_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    context, certificate = certified(tmp_path)
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setenv("NO_PROXY", "localhost")
    x = rows_of(30)
    with Faulty() as server:
        server.encrypt(context)
        address = server.url.replace("http://127.0.0.1", "https://localhost")
        options = Http(url=address, batch_rows=4, concurrency=3, backoff=0.001)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with wrap(options, numpy=True, classes=3) as target:
            assert target(x).equal(truth(x)) and target(x).equal(truth(x))
        sent = server.rows
        monkeypatch.delenv("SSL_CERT_FILE")
        with wrap(options, numpy=True, classes=3) as target, pytest.raises(TargetError, match=r"(?i)certificate"):
            target(x)
        assert server.rows == sent
