"""Real servers on loopback: MLServer, ``mlflow models serve``, FastAPI, LitServe and BentoML (``make servers``).

Where the environments are not there these tests are skipped, but not in CI: with LABELLEAKS_NEED_SERVERS set they fail.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

import labelleaks as ll
from labelleaks.targets import Http, Onnx, wrap
from tests.support import cli, digits
from tests.targets.test_model_files import save_network, save_onnx

ROOT = Path(__file__).parents[3] / ".venv-servers"
START = 120.0


def _binaries(server: str) -> Path:
    found = ROOT / server / "bin"
    if not (found / "python").exists():
        if os.environ.get("LABELLEAKS_NEED_SERVERS"):
            pytest.fail(f"{found / server} is not there: run make servers")
        pytest.skip(f"{found / server} is not there: run make servers")
    return found


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _train(server: str, folder: Path) -> dict[str, Any]:
    _make(server, server, folder)
    with np.load(folder / "truth.npz") as held:
        return {name: held[name] for name in held.files}


def _make(server: str, what: str, folder: Path) -> None:
    script = Path(__file__).parents[2] / "servers" / "train.py"
    subprocess.run([_binaries(server) / "python", script, what, folder], check=True, timeout=300, env=_env(server))


def _env(server: str) -> dict[str, str]:
    path = f"{_binaries(server)}{os.pathsep}{os.environ['PATH']}"
    quiet = {"BENTOML_DO_NOT_TRACK": "1", "BENTOML_HOME": str(ROOT / "bentoml-home")}
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1", **quiet}


@contextmanager
def _served(server: str, command: list[str], ready: str, folder: Path, *, program: str | None = None) -> Iterator[None]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(_binaries(server) / (program or server)), *command], cwd=folder, stdout=log, stderr=log,
            env=_env(server), start_new_session=True,
        )  # fmt: skip
        try:
            _wait(process, ready, folder / "server.log")
            yield
        finally:
            os.killpg(process.pid, 15)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


def _wait(process: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"the server ended: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(ready, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"the server was not ready within {START:.0f} s: {log.read_text()[-2000:]}")


def _audited(options: Http, truth: dict[str, Any], folder: Path) -> None:
    """The labels are the model's, the books are right, and an audit over HTTP is the audit of the recorded labels."""
    x, y = truth["x"], truth["y"]
    with wrap(options, numpy=True, classes=10, width=64) as target:
        assert target(torch.from_numpy(x)).tolist() == truth["labels"].tolist()
    rows = {
        "members": (x[:40], y[:40]), "nonmembers": (x[40:80], y[40:80]), "classes": 10, "attacks": ["gap", "noise"],
        "budget": 20, "thresholds": [], "show_progress": False,
    }  # fmt: skip
    record = ll.audit(options, **rows, out=folder / "run")
    run = json.loads((folder / "run" / "run.json").read_text())
    assert run["retries"] == 0 and record.ledger.rows > 40 * 20
    found = record["gap"].scores == 1
    assert found.tolist() == (truth["labels"][:80] == y[:80]).tolist()


def _network(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """A small network for images, trained on 100 of the digits and saved as ONNX; rows, classes and its labels."""
    images, classes = digits()
    images = images[:, None]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(images[:100]), classes[:100]).backward()
        optimiser.step()
    save_network(folder / "pictures.onnx", net)
    with torch.no_grad():
        labels = net(images[:400]).argmax(1)
    return {"x": images[:400].numpy(), "y": classes[:400].numpy(), "labels": labels.numpy()}


def _scores(folder: Path) -> None:
    """A second model, in ONNX, that answers scores."""
    folder.mkdir()
    model = save_onnx(folder / "model.onnx")
    shutil.copy(Path(__file__).parents[2] / "servers" / "scores.py", folder)
    settings = {"name": "scores", "implementation": "scores.Scores", "parameters": {"uri": str(model)}}
    (folder / "model-settings.json").write_text(json.dumps(settings))


@pytest.mark.servers
def test_mlserver(tmp_path: Path) -> None:
    truth = _train("mlserver", tmp_path)
    port = _port()
    settings = {
        "host": "127.0.0.1", "http_port": port, "grpc_port": _port(), "metrics_port": _port(), "parallel_workers": 0,
    }  # fmt: skip
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    _scores(tmp_path / "onnx")
    base = f"http://127.0.0.1:{port}"
    with _served("mlserver", ["start", "."], f"{base}/v2/health/ready", tmp_path):
        _audited(Http(url=base, protocol="v2", model="digits", batch_rows=50), truth, tmp_path)
        named = Http(url=f"{base}/v2/models/digits", version="v1", input="x", output="predict", datatype="FP64")
        with wrap(named, numpy=True, classes=10, width=64) as target:
            assert target(torch.from_numpy(truth["x"][:30])).tolist() == truth["labels"][:30].tolist()
        with pytest.raises(ll.TargetError, match=r"answered 404.*model:"):
            wrap(Http(url=base, protocol="v2", model="nothing"), numpy=True, classes=10)(torch.rand(3, 64))
        scores = Http(url=base, protocol="v2", model="digits", output="predict_proba")
        with wrap(scores, numpy=True, classes=10) as target:
            assert target(torch.from_numpy(truth["x"])).tolist() == truth["labels"].tolist()
        probed = cli("probe", f"{base}/v2/models/digits", "--shape", "64")
        assert probed.exit_code == 0, probed.output
        assert "speaks    v2" in probed.output and "labels: whole numbers" in probed.output
        asked = cli("probe", base, "--shape", "64")
        assert asked.exit_code == 2 and "it has" in asked.output and "digits" in asked.output
        x = torch.rand(100, 4, generator=torch.Generator().manual_seed(0))
        local = wrap(Onnx(tmp_path / "onnx" / "model.onnx"), numpy=True, classes=3)(x)
        scored = Http(url=f"{base}/v2/models/scores", input="x", batch_rows=7, concurrency=3)
        assert wrap(scored, numpy=True, classes=3)(x).equal(local)


@pytest.mark.servers
def test_mlflow(tmp_path: Path) -> None:
    truth = _train("mlflow", tmp_path)
    port = _port()
    base = f"http://127.0.0.1:{port}"
    command = ["models", "serve", "-m", "model", "-h", "127.0.0.1", "-p", str(port), "--env-manager", "local"]
    with _served("mlflow", command, f"{base}/ping", tmp_path):
        _audited(Http(url=f"{base}/invocations", batch_rows=50), truth, tmp_path)
        named = Http(url=base, protocol="mlflow", columns=tuple(f"p{i}" for i in range(64)))
        with wrap(named, numpy=True, classes=10, width=64) as target:
            assert target(torch.from_numpy(truth["x"][:30])).tolist() == truth["labels"][:30].tolist()
        with pytest.raises(ll.TargetError, match="answered 400"):
            wrap(Http(url=f"{base}/invocations", retries=1), numpy=True, classes=10)(torch.rand(3, 5))
        probed = cli("probe", base, "--shape", "64")
        assert probed.exit_code == 0, probed.output
        assert "speaks    mlflow (it answers GET /ping and /version)" in probed.output


@pytest.mark.servers
def test_mlflow_with_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX model behind MLflow that takes images, audited as its user would: by what the probe says."""
    truth = _network(tmp_path)
    _make("mlflow", "pictures", tmp_path)
    monkeypatch.chdir(tmp_path)  # a spec's files are found from there
    for name, rows in (("members", slice(0, 100)), ("nonmembers", slice(100, 200)), ("shadow", slice(200, 300))):
        np.savez(tmp_path / f"{name}.npz", x=truth["x"][rows], **({} if name == "shadow" else {"y": truth["y"][rows]}))
    port = _port()
    base = f"http://127.0.0.1:{port}"
    command = ["models", "serve", "-m", "model", "-h", "127.0.0.1", "-p", str(port), "--env-manager", "local"]
    with _served("mlflow", command, f"{base}/ping", tmp_path):
        probed = cli("probe", base, "--shape", "1,8,8")
        assert probed.exit_code == 0, probed.output
        assert "speaks    mlflow" in probed.output and "scores for 10 classes" in probed.output
        Path("audit.yaml").write_text(
            probed.output.partition("in a spec:\n")[2].partition("data:")[0]
            + "data: {members: members.npz, nonmembers: nonmembers.npz, shadow: shadow.npz}\n"
            "domain: {kind: box, low: 0, high: 1}\nattacks: [gap, noise, transfer]\nbudget: 10\nout: run\n"
        )
        audited = cli("audit", str(tmp_path / "audit.yaml"), "--quiet")
        assert audited.exit_code == 0, audited.output
        with wrap(Http(url=f"{base}/invocations", batch_rows=16), numpy=True, classes=10) as target:
            assert target(torch.from_numpy(truth["x"])).tolist() == truth["labels"].tolist()
    record = ll.load(tmp_path / "run")
    assert (record["gap"].scores == 1).tolist() == (truth["labels"][:200] == truth["y"][:200]).tolist()
    assert record["transfer"].auc.value is not None and record.ledger.rows > 200 * 10


SERVICES = Path(__file__).parents[2] / "servers" / "services.py"
FRAMEWORKS = {
    "litserve": [["uvicorn", "services:app", "--host", "127.0.0.1", "--port"], ["python", "services.py", "digits"]],
    "bentoml": [
        ["bentoml", "serve", f"services:{name}", "--host", "127.0.0.1", "--port"] for name in ("Customers", "Digits")
    ],
}
"""By environment: the command that serves customers, and the one that serves digits; a port comes behind each."""


@contextmanager
def _framework(server: str, place: int, folder: Path) -> Iterator[str]:
    program, *command = FRAMEWORKS[server][place]
    port = _port()
    ready = {"litserve": ["docs", "health"][place], "bentoml": "readyz"}[server]
    url = f"http://127.0.0.1:{port}"
    with _served(server, [*command, str(port)], f"{url}/{ready}", folder, program=program):
        yield url


@pytest.mark.servers
@pytest.mark.parametrize(
    ("server", "path"), [("litserve", "/decide"), ("litserve", "/decide_all"), ("bentoml", ""), ("bentoml", "/decide")]
)
def test_customers_in_a_file_are_audited_by_the_spec_that_the_probe_writes(
    server: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FastAPI and BentoML: named columns, words and gaps; nothing is written by hand but the paths."""
    shutil.copy(SERVICES, tmp_path)
    monkeypatch.chdir(tmp_path)
    subprocess.run([_binaries(server) / "python", "services.py", "customers"], check=True, env=_env(server))
    with _framework(server, 0, tmp_path) as url:
        words = ["--rows", "members.csv", "--nonmembers", "nonmembers.csv", "--spec", "audit.yaml"]
        probed = cli("probe", f"{url}{path}", *words)
        assert probed.exit_code == 0, probed.output
        assert "labels: text, for example 'no', 'yes'" in probed.output
        few = ["--set", "attacks=[gap, noise]", "--set", "budget=5", "--set", "thresholds=[]"]
        audited = cli("audit", "audit.yaml", "--quiet", *few)
        assert audited.exit_code == 0, audited.output
    record = ll.load(tmp_path / "run")
    true, served = (
        np.concatenate([pd.read_csv(f"{side}{how}.csv")["label"] for side in ("members", "nonmembers")])
        for how in ("", "_as_served")
    )
    right = true == served
    assert (record["gap"].scores == 1).tolist() == right.tolist() and 0.6 < right.mean() < 1


@pytest.mark.servers
@pytest.mark.parametrize("server", ["litserve", "bentoml"])
def test_digits_behind_litserve_and_bentoml(server: str, tmp_path: Path) -> None:
    """A list of numbers a request, answered by scores; an array of numbers, answered by labels."""
    shutil.copy(SERVICES, tmp_path)
    pixels, y = load_digits(return_X_y=True)
    x = torch.from_numpy((pixels / 16).astype(np.float32))
    with _framework(server, 1, tmp_path) as url:
        probed = cli("probe", url, "--shape", "64")
        assert probed.exit_code == 0, probed.output
        answers = {"litserve": "scores for 10 classes", "bentoml": "labels: whole numbers"}[server]
        assert f"answers   {answers}" in probed.output
        said = yaml.safe_load(probed.output.partition("in a spec:\n")[2])["target"]
        with wrap(Http(**said), numpy=True, classes=10) as target:
            served = target(x[:60])
    expected = LogisticRegression(max_iter=300).fit(x[:600].numpy(), y[:600])
    assert served.tolist() == expected.predict(x[:60].numpy()).tolist()
