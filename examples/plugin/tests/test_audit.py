"""Audits by spec with everything that the package registers: each way of running one gives the same record."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import labelleaks as ll

SPEC = Path(__file__).parents[1] / "audit.yaml"
HOMES = {
    "kind: neighbours": "kind: 'labelleaks_survey.target:Neighbours'",
    "kind: likert": "kind: 'labelleaks_survey.domain:Likert'",
    "dataset: survey, rows: [0, 60]": "dataset: 'labelleaks_survey.dataset:CARD', rows: [0, 60]",
    "name: nudge": "name: 'labelleaks_survey.attack:Nudge'",
    "name: deviations": "name: 'labelleaks_survey.threshold:Deviations'",
}
WAYS: dict[str, list[str]] = {
    "at once": [],
    "in shards": ["--shard-rows", "17"],
    "with a journal": ["--set", "journal=answers.journal"],
    "on Ray": ["--shard-rows", "17", "--engine", "ray"],
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audits")


def labelleaks(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "labelleaks", *words], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@cache
def audit(folder: Path, way: str, spec: Path = SPEC) -> dict[str, bytes]:
    """Run it, once; return what a record is made of."""
    out = folder / way
    labelleaks(folder, "audit", str(spec), "--out", str(out), "--quiet", "--threads", "1", *WAYS.get(way, ()))
    return {name: (out / name).read_bytes() for name in ("record.json", "arrays.npz", "candidates.csv")}


def log(folder: Path, way: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / way / "run.json").read_text())
    return content


def test_the_leak_is_found(folder: Path) -> None:
    audit(folder, "at once")
    record = ll.load(folder / "at once")
    assert record.spec["attacks"][1] == {"name": "nudge", "attack": "nudge", "copies": 24, "votes": 3}
    assert record.domain == {"kind": "likert", "points": 5} and record.target["kind"] == "neighbours"
    assert record.classes == ("content", "worried", "undecided") and record.ids[60] == "survey-150"
    assert record["gap"].scores[:60].all(), "a nearest neighbour knows its own rows by heart"
    assert record["nudge"].auc.value > record["gap"].auc.value > 0.6
    (rule,) = record.spec["thresholds"]["nudge"]
    assert rule == {"name": "deviations", "count": 1.5}
    assert any("held-out shadow rows" in row.threshold.source for row in record["nudge"].evaluation.decisions)


def test_the_forecast_holds(folder: Path) -> None:
    forecast = json.loads(labelleaks(folder, "forecast", str(SPEC), "--json"))
    gap, nudge = forecast["lines"]
    audit(folder, "at once")
    record = ll.load(folder / "at once")
    ledger, shadow = record.ledger, record.shadow
    assert ledger.candidates["gap.correct"] == gap["rows"] == 120
    asked = sum(rows for phase, rows in ledger.candidates.items() if phase.startswith("nudge"))
    assert 120 < asked <= nudge["rows"] == 120 * nudge["labels"]
    setup = {phase: rows for phase, rows in ledger.setup.items() if phase.startswith("nudge")}
    assert setup["nudge.relabel"] == shadow["given"] - shadow["dropped"] - shadow["held_out"] > 0
    assert sum(setup.values()) <= nudge["setup_rows"]
    # A target that never changes its label is asked (votes + 1) / 2 times: 2 of 3.
    right = int((record["nudge"].queries > 1).sum())
    assert asked == 120 + right * 24 * 2


@pytest.mark.parametrize("way", [way for way in WAYS if way != "at once"])
def test_every_way_gives_the_same_record(folder: Path, way: str) -> None:
    assert audit(folder, way) == audit(folder, "at once")
    engine = log(folder, way)["engine"]
    assert engine["name"] == ("ray" if way == "on Ray" else "local")
    assert engine["shards"] == (8 if "--shard-rows" in WAYS[way] else 1)


def test_a_journal_answers_everything_again(folder: Path) -> None:
    audit(folder, "with a journal")
    words = ["--set", "journal=answers.journal", "--replay-only", "--quiet", "--threads", "1"]
    labelleaks(folder, "audit", str(SPEC), "--out", "again", *words)
    assert (folder / "again" / "record.json").read_bytes() == audit(folder, "at once")["record.json"]
    assert log(folder, "again")["calls"] == 0


def test_module_and_class_stand_for_a_name(folder: Path) -> None:
    text = SPEC.read_text()
    for name, home in HOMES.items():
        assert name in text
        text = text.replace(name, home)
    spec = folder / "homes.yaml"
    spec.write_text(text)
    audit(folder, "at once")
    audit(folder, "by module:Class", spec)
    by_name, by_home = (ll.load(folder / way) for way in ("at once", "by module:Class"))
    assert (by_home["nudge"].scores == by_name["nudge"].scores).all() and by_home.spec == by_name.spec


def test_lists_say_whose_it_is(folder: Path) -> None:
    attacks = {attack["name"]: attack for attack in json.loads(labelleaks(folder, "attacks", "--json"))}
    assert attacks["nudge"]["package"] == "labelleaks-survey 0.1.0" and attacks["gap"]["package"] == "labelleaks"
    assert attacks["nudge"]["settings"] == {"copies": "24", "votes": "1"}
    assert "900 rows" in labelleaks(folder, "data", "describe", "survey")
