"""``labelleaks probe``: what a service speaks, in a few billed queries and no more."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import Result

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
        said = yaml.safe_load(found.output.partition("in a spec:\n")[2])["target"]
        assert said == {"url": server.base, "protocol": "v2", "model": "digits", "input": "x", "batch_rows": 16}


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
