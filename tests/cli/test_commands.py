"""The command line, run as its user runs it: in a process of its own where that can make a difference."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_model
from typer.testing import Result

from labelleaks.cli import demo
from labelleaks.cli.gate import first_that_holds, parse
from labelleaks.errors import SpecError
from tests.record_fixture import make_record
from tests.support import cli

Here = Callable[..., Result]

MODULE = """
import time
import torch
from torch import nn


def build():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def slow(x):
    time.sleep(0.05)
    return torch.zeros(len(x), dtype=torch.int64)


calls = 0


def fails(x):
    global calls
    calls += 1
    if calls > 6:
        raise ConnectionError("the service went away")
    return torch.zeros(len(x), dtype=torch.int64)


def floats(x):
    return torch.rand(len(x))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, a module and rows, as a user would have them."""
    made = tmp_path_factory.mktemp("user")
    case = demo.build()
    save_model(case.target, str(made / "model.safetensors"))
    (made / "mymodel.py").write_text(MODULE)
    for side, rows in (("members", case.members), ("nonmembers", case.nonmembers)):
        np.savez(made / f"{side}.npz", x=rows[0][:40].numpy(), y=rows[1][:40].numpy())
    np.savez(made / "shadow.npz", x=case.shadow[0][:120].numpy())
    (made / "audit.yaml").write_text(
        "target: {path: model.safetensors, factory: 'mymodel:build'}\n"
        "data: {members: members.npz, nonmembers: nonmembers.npz}\n"
        "attacks: [gap, {name: boundary, norm: l2}]\n"
        "thresholds: [{name: random_inputs, n: 10}]\n"
        "budget: 60\n"
    )
    return made


def run(folder: Path, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "labelleaks", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "100", **(env or {})},
    )


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """Run a command in this process, where Python need not start first."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "mymodel", raising=False)
    return cli


def test_an_audit_from_a_spec(folder: Path, here: Here) -> None:
    done = run(folder, "audit", "audit.yaml", "--out", "runs/a")
    assert done.returncode == 0, done.stderr
    assert "boundary" in done.stdout and "report.html" in done.stdout
    assert "\r" not in done.stderr and "\x1b" not in done.stderr + done.stdout  # no bars, no colours in a pipe
    assert {p.name for p in (folder / "runs/a").iterdir()} >= {
        "record.json",
        "report.html",
        "candidates.csv",
        "run.json",
    }
    again = here("audit", "audit.yaml", "--out", "runs/a")
    assert again.exit_code == 2 and "holds another run" in again.stderr
    shown = here("report", "runs/a", "--json")
    assert shown.exit_code == 0 and json.loads(shown.stdout)["attacks"]["boundary"]["auc"]["value"] > 0.5


def test_flags_alone_are_enough_and_gates_have_their_own_code(folder: Path, here: Here) -> None:
    words = ["audit", "--target", "model.safetensors", "--factory", "mymodel:build", "--members", "members.npz"]
    words += ["--nonmembers", "nonmembers.npz", "--attacks", "gap", "--json"]
    done = run(folder, *words, "--fail-if", "gap.auc>0.99", "--fail-if", "gap.auc>0.55")
    assert done.returncode == 4 and "gate failed: gap auc is" in done.stderr
    assert json.loads(done.stdout)["attacks"]["gap"]["labels_per_candidate"] == {"mean": 1.0, "most": 1}
    assert here(*words, "--fail-if", "gap.auc>0.999").exit_code == 0
    other = here(*words, "--fail-if", "boundary.auc>0.5")  # said before the run, not after it
    assert other.exit_code == 2 and "no attack 'boundary' in this run" in other.stderr and not other.stdout


def test_infer_writes_decisions(folder: Path, here: Here) -> None:
    words = ["infer", "--target", "model.safetensors", "--factory", "mymodel:build", "--candidates", "members.npz"]
    done = run(folder, *words, "--attack", "gap")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "id,member,score,status,queries" and len(lines) == 41
    assert "40 of 40 candidates are called members" in done.stderr
    written = here(*words, "--attack", "gap", "--out", "new/folder/decisions.csv")
    assert written.exit_code == 0 and len((folder / "new/folder/decisions.csv").read_text().splitlines()) == 41
    nowhere = here(*words, "--attack", "gap", "--out", "/proc/labelleaks/decisions.csv")
    assert nowhere.exit_code == 2 and "nothing can be written there" in nowhere.stderr
    assert isinstance(nowhere.exception, SystemExit)
    as_json = here(*words, "--attack", "boundary", "--budget", "40", "--json", "--set", "threshold=0.5", "--quiet")
    assert json.loads(as_json.stdout)["threshold"]["tau"] == 0.5


def test_infer_calls_at_a_false_discovery_rate(folder: Path, here: Here) -> None:
    words = ["infer", "--target", "model.safetensors", "--factory", "mymodel:build", "--candidates", "members.npz"]
    for more, says in (
        (("--fdr", "2"), "--fdr 2"),
        (("--fdr", "0.1", "--threshold", "0.5"), "--threshold fixed_fpr with --shadow"),
    ):
        refused = here(*words, "--attack", "noise", *more)
        assert refused.exit_code == 2 and says in refused.stderr
    made = here(*words, "--attack", "noise", "--budget", "8", "--fdr", "0.5", "--shadow", "nonmembers.npz", "--json")
    assert made.exit_code == 0, made.stderr
    assert "Benjamini-Hochberg" in json.loads(made.stdout)["threshold"]["source"]
    assert 0 < json.loads(made.stdout)["candidates"][0]["p_value"] <= 1


def test_forecast_says_rows_and_time(folder: Path, here: Here) -> None:
    done = run(folder, "forecast", "audit.yaml")
    assert done.returncode == 0 and "at most" in done.stdout and "inside the target" in done.stdout
    free = here("forecast", "audit.yaml", "--no-probe", "--json")
    found = json.loads(free.stdout)
    assert found["probe_rows"] == 0 and found["seconds"] is None and found["rows"] > 80 * 60
    assert found["local_seconds"] > 0 and "training" in done.stdout and "in all about" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    dry = here("audit", "audit.yaml", "--dry-run", "--out", "never")
    assert dry.exit_code == 0 and "at most" in dry.stdout and not (folder / "never").exists()


def test_attacks_are_listed(here: Here) -> None:
    done = here("attacks", "--json")
    assert [a["name"] for a in json.loads(done.stdout)][:2] == ["gap", "noise"]
    assert all(a["what"] and a["source"] for a in json.loads(done.stdout))
    listed = here("attacks").stdout
    assert "needs shadow" in listed
    assert "Raises" not in listed and ":mod:" not in listed and ":class:" not in listed


def test_the_source_of_an_attack_is_a_citation(here: Here) -> None:
    """Tuning and deviations stand in the docstring; the list names the paper, or whose it is."""
    for attack in json.loads(here("attacks", "--json").stdout):
        assert 0 < len(attack["source"]) <= 200, attack["name"]
        assert not re.search(r"AUC|best|defaults", attack["source"]), attack["name"]


def test_help_imports_nothing_heavy(folder: Path) -> None:
    code = "import sys; sys.argv = ['labelleaks', '--help']\nfrom labelleaks.cli.main import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass\n"
    code += "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'pydantic', 'matplotlib', 'pandas'} & set(sys.modules)\n"
    code += "assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    for command in ("demo", "audit", "infer", "forecast", "attacks", "report"):
        assert command in done.stdout
        assert run(folder, command, "--help").returncode == 0


BAD: list[tuple[list[str], int, str]] = [
    (["audit", "none.yaml"], 2, "no such file"),
    (["audit", "audit.yaml", "--attacks", "gap,bondary"], 2, "did you mean 'boundary'"),
    (["audit", "audit.yaml", "--budget", "2"], 2, "at least"),
    (["audit", "audit.yaml", "--members", "none.npz"], 2, "none.npz"),
    (["audit", "audit.yaml", "--set", "target.factory=mymodel:built"], 2, "did you mean 'build'"),
    (["audit", "audit.yaml", "--set", "domain.high=0.1"], 2, "outside the domain"),
    (["audit", "audit.yaml", "--set", "bugdet=3"], 2, "did you mean 'budget'"),
    (["audit", "audit.yaml", "--fail-if", "nonsense"], 2, "not of the form"),
    (["audit", "audit.yaml", "--target", "mymodel:floats", "--set", "target.factory=null"], 2, "float"),
    (["audit", "audit.yaml", "--target", "mymodel:fails", "--set", "target.factory=null"], 3, "went away"),
    (["audit", "--no-such-flag"], 2, "No such option"),
    (["audit", "audit.yaml", "--set", "attacks=[{name: boundary, nrom: l2}]"], 2, "did you mean 'norm'"),
    (["report", "nowhere"], 2, "nowhere"),
    (["infer", "--target", "mymodel:slow"], 2, "candidates is missing"),
]


@pytest.mark.parametrize(("words", "code", "says"), BAD, ids=[" ".join(w)[:60] for w, _, _ in BAD])
def test_errors_are_one_line_with_an_exit_code(here: Here, words: list[str], code: int, says: str) -> None:
    done = here(*words)
    assert done.exit_code == code, (done.exit_code, done.stderr)
    assert isinstance(done.exception, SystemExit)
    assert says in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    if code != 2 or "No such option" not in says:
        assert len([line for line in done.stderr.splitlines() if line.strip()]) <= 2, done.stderr


def heed_control_c() -> None:
    """A suite that runs in the background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_control_c_keeps_what_was_finished(folder: Path) -> None:
    words = ["audit", "audit.yaml", "--target", "mymodel:slow", "--set", "target.factory=null", "--out", "runs/slow"]
    words += ["--set", "attacks=[gap, noise]", "--set", "target.batch_rows=1", "--set", "target.classes=10"]
    words += ["--set", "thresholds=[]"]
    process = subprocess.Popen(
        [sys.executable, "-m", "labelleaks", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_control_c,
    )
    deadline = time.monotonic() + 120
    while not (folder / "runs/slow/report.html").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr and "gap" in stderr and "Traceback" not in stderr
    kept: dict[str, Any] = json.loads((folder / "runs/slow/record.json").read_text())
    assert kept["complete"] is False


def test_the_demo_shows_a_leak(tmp_path: Path) -> None:
    done = run(tmp_path, "demo", "--budget", "100", "--out", "runs/demo")
    assert done.returncode == 0, done.stderr
    from labelleaks.auditing.record import load

    record = load(tmp_path / "runs/demo")
    assert tuple(record.attacks) == demo.ATTACKS
    low = record["boundary"].auc.low
    assert low is not None and low > 0.7
    assert (tmp_path / "runs/demo/report.html").stat().st_size > 50_000


def test_a_condition_reads_the_record() -> None:
    record = make_record()
    auc = record["boundary"].auc.value
    assert auc is not None
    assert parse(f"boundary.auc>{auc - 0.01}").holds(record)
    assert parse(f"boundary.auc>{auc + 0.01}").holds(record) is None
    assert parse("boundary.auc.low>0.99").holds(record) is None
    assert parse("any.auc>=0.5").holds(record)
    assert parse("boundary.tpr@10% > 0.1%").holds(record)
    assert "tpr@5%" in (parse("boundary.tpr@5% > 0.1%").holds(record) or "")
    assert first_that_holds([parse("gap.auc<0.1"), parse("gap.auc>0.1")], record)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("boundary", "not of the form"),
        ("boundary.auc=0.5", "not of the form"),
        ("boundary.auk>0.5", "did you mean 'auc'"),
        ("boundary.tpr@0%>0.5", "needs a rate between 0 and 100 %"),
        ("boundary.tpr@100%>0.5", "needs a rate between 0 and 100 %"),
        ("boundary.tpr>0.5", "unknown metric"),
        ("boundary.auc>1.2.3", "is not a number"),
    ],
)
def test_a_bad_expression_is_refused(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        parse(text)


def test_a_gate_that_cannot_be_decided_does_not_pass() -> None:
    record = make_record()
    with pytest.raises(SpecError, match="did you mean 'boundary'"):
        parse("bondary.auc>0.5").holds(record)
    undecided = parse("boundary.tpr@0.1%>0.5")
    with pytest.raises(SpecError, match="cannot be decided"):
        undecided.holds(record)  # 300 non-members cannot tell 0.1 %
    with pytest.raises(SpecError, match="cannot be decided"):
        first_that_holds([undecided, parse("gap.auc<0.1")], record)


def test_a_gate_that_fails_is_not_hidden_by_one_that_cannot_be_decided() -> None:
    sentence = first_that_holds([parse("boundary.tpr@0.1%>0.5"), parse("gap.auc>0.1")], make_record())
    assert sentence is not None and sentence.startswith("gap auc")
