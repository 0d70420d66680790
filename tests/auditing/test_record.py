"""The record: equal runs give equal bytes, what is saved is what is loaded, a kill leaves a whole run."""

from __future__ import annotations

import csv
import json
import os
import stat
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labelleaks import metrics
from labelleaks.auditing.record import AuditRecord, load
from labelleaks.auditing.run_folder import SCHEMA_VERSION
from labelleaks.auditing.run_log import LedgerSummary, RunLog
from labelleaks.core import serialization
from labelleaks.core.oracle.label_oracle import Ledger
from labelleaks.errors import InputError, MissingExtra
from labelleaks.metrics import Estimate
from tests.record_fixture import make_record


@pytest.fixture
def record() -> AuditRecord:
    return make_record(n=40)


def test_names_that_others_rely_on(record: AuditRecord) -> None:
    r = record["boundary"]
    n = len(record)
    assert r.scores.shape == r.status.shape == r.queries.shape == r.decided.shape == (n,)
    assert record.member.tolist() == [True] * 40 + [False] * 40
    assert r.auc.low < r.auc.value < r.auc.high
    assert set(r.tpr_at_fpr) == {0.1, 0.01, 0.001}
    assert r.tpr_at_fpr[0.001].value is None and "non-members" in r.tpr_at_fpr[0.001].reason
    for estimate in (r.balanced_accuracy, r.advantage, r.precision, r.given_correct.auc):
        assert isinstance(estimate, Estimate)
    assert "cross-fitted" in r.threshold.source
    assert [point.labels for point in r.curve] == list(r.checkpoints)
    assert r.roc.tpr[-1] == 1.0
    assert record.ledger.rows == record.ledger.setup_rows + int(record.ledger.by_candidate.sum())


def test_unknown_attack_names_those_there_are(record: AuditRecord) -> None:
    with pytest.raises(KeyError, match="boundary, transfer"):
        record["bondary"]


def test_save_and_load_give_an_equal_record(record: AuditRecord, tmp_path: Path) -> None:
    folder = record.save(tmp_path / "run")
    for path in (folder, folder / "record.json", str(folder)):
        loaded = load(path)
        assert loaded == record
    r, back = record["boundary"], loaded["boundary"]
    np.testing.assert_array_equal(back.scores, r.scores)
    np.testing.assert_array_equal(back.details["adversarial"], r.details["adversarial"])
    np.testing.assert_array_equal(back.roc.thresholds, r.roc.thresholds)
    assert back.auc == r.auc and back.tpr_at_fpr == r.tpr_at_fpr and back.threshold == r.threshold
    assert back.curve == r.curve and back.evaluation.given_correct == r.evaluation.given_correct
    assert loaded.flags == record.flags and loaded.comparisons == record.comparisons
    assert list(loaded.attacks) == list(record.attacks)
    assert loaded.inputs is not None and loaded.inputs.dtype == np.float32


@pytest.mark.parametrize("change", ["score", "flag", "seed", "id"])
def test_equality_sees_a_change(record: AuditRecord, change: str) -> None:
    if change == "score":
        r = record["noise"]
        scores = r.scores.copy()
        scores[3] = np.nextafter(scores[3], 2)
        other = replace(record, attacks={**record.attacks, "noise": replace(r, scores=scores)})
    else:
        changes: dict[str, Any] = {"flag": {"flags": ()}, "seed": {"seed": 9}, "id": {"ids": ("x", *record.ids[1:])}}
        other = replace(record, **changes[change])
    assert other != record and replace(record) == record


def test_equal_runs_give_equal_bytes(record: AuditRecord, tmp_path: Path) -> None:
    one, two = record.save(tmp_path / "one"), make_record(n=40).save(tmp_path / "two")
    os.utime(one / "arrays.npz", (0, 0))
    for name in ("record.json", "arrays.npz", "candidates.csv"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    with zipfile.ZipFile(one / "arrays.npz") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_json_is_strict_and_tells_where_it_comes_from(record: AuditRecord, tmp_path: Path) -> None:
    text = (record.save(tmp_path / "run") / "record.json").read_text()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    data = json.loads(text, parse_constant=refuse)
    assert data["schema_version"] == SCHEMA_VERSION and next(iter(data)) == "schema_version"
    assert data["target"]["fingerprint"] and data["versions"]["torch"] and data["seed"] == 0
    assert data["attacks"][3]["spec"]["norm"] == "l2"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float64("-inf")])
def test_nan_and_infinity_are_refused_with_their_place(record: AuditRecord, tmp_path: Path, bad: float) -> None:
    broken = replace(record, spec={"budget": {"per_candidate": bad}})
    with pytest.raises(InputError, match=r"spec\.budget\.per_candidate"):
        broken.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_foreign_objects_are_named_without_addresses() -> None:
    class Family:
        pass

    given = {"a": Family(), "b": make_record, "c": {3, 1}, "d": np.int32(4), "e": np.bool_(True)}
    found = serialization.encode(given, {}, "x")
    assert "0x" not in json.dumps(found)
    assert found["b"] == f"{make_record.__module__}:make_record"
    assert found["c"] == [1, 3] and found["d"] == 4 and found["e"] is True


def test_another_run_is_not_overwritten_unless_told(record: AuditRecord, tmp_path: Path) -> None:
    folder = record.save(tmp_path / "run")
    with pytest.raises(InputError, match="holds another run"):
        record.save(folder)
    later = replace(record, seed=5)
    later.save(folder, overwrite=True)
    assert load(folder).seed == 5
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        record.save(tmp_path / "file")


def test_unknown_schema_version(record: AuditRecord, tmp_path: Path) -> None:
    file = record.save(tmp_path / "run") / "record.json"
    file.write_text(file.read_text().replace('"schema_version": 1', '"schema_version": 7', 1))
    with pytest.raises(InputError, match=r"schema version 7.* reads version 1"):
        load(file)


@pytest.mark.parametrize(
    ("content", "says"), [("{", "is not JSON"), ("[1]", "holds a list"), ('{"a": 1}', "not the record of an audit")]
)
def test_not_a_record(record: AuditRecord, tmp_path: Path, content: str, says: str) -> None:
    file = record.save(tmp_path / "run") / "record.json"
    file.write_text(content)
    with pytest.raises(InputError, match=says):
        load(file)


def test_missing_and_damaged_files(record: AuditRecord, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        load(tmp_path / "nowhere")
    folder = record.save(tmp_path / "run")
    arrays = folder / "arrays.npz"
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"damaged"):
        load(folder)
    arrays.unlink()
    with pytest.raises(InputError, match=r"arrays\.npz is not there"):
        load(folder)


@pytest.mark.parametrize("stop", ["record.json", "candidates.csv"])
def test_a_kill_between_the_files_leaves_a_whole_run(
    record: AuditRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    first = replace(record, attacks={"gap": record["gap"]}, complete=False)
    folder = first.save(tmp_path / "run")
    write = serialization.write_atomic

    def killed(path: Path, content: bytes | str, *, private: bool) -> None:
        if path.name == stop:
            raise KeyboardInterrupt
        write(path, content, private=private)

    monkeypatch.setattr(serialization, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        record.save(folder, overwrite=True)
    assert load(folder) == record  # the later one: its arrays carry its text
    (folder / "record.json").unlink()
    assert load(folder) == record


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "record.json"
    serialization.write_atomic(file, "old", private=False)

    def die(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        serialization.write_atomic(file, "new and longer", private=False)
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["record.json"]


def test_files_that_show_inputs_are_for_the_owner(record: AuditRecord, tmp_path: Path) -> None:
    private = record.save(tmp_path / "private")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert {stat.S_IMODE(f.stat().st_mode) for f in private.iterdir()} == {0o600}
    RunLog(started="2026-01-01T00:00:00+00:00").save(private)
    assert stat.S_IMODE((private / "run.json").stat().st_mode) == 0o600

    bare = record.without_inputs()
    assert record.holds_inputs and not bare.holds_inputs
    assert replace(record, inputs=None).holds_inputs  # the perturbed copies are nearly the inputs
    open_to_all = bare.save(tmp_path / "open")
    assert stat.S_IMODE((open_to_all / "record.json").stat().st_mode) & 0o400
    with zipfile.ZipFile(open_to_all / "arrays.npz") as archive:
        assert not [name for name in archive.namelist() if "inputs" in name or "adversarial" in name]
    assert load(open_to_all) == bare and load(open_to_all).inputs is None


def test_candidates_csv(record: AuditRecord, tmp_path: Path) -> None:
    hostile = replace(record, ids=('=HYPERLINK("x")', "-3", 'a,b\n"c"', "\ud800", *record.ids[4:]))
    with open(hostile.save(tmp_path / "run") / "candidates.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(record)
    assert [row["id"] for row in rows[:3]] == ['\'=HYPERLINK("x")', "-3", 'a,b\n"c"']
    assert rows[0]["group"] == "member" and rows[-1]["group"] == "non-member"
    assert rows[5]["label"] == record.classes[record.y[5]]
    for name, r in record.attacks.items():
        assert [float(row[f"{name}.score"]) for row in rows] == r.scores.tolist()
        assert [int(row[f"{name}.queries"]) for row in rows] == r.queries.tolist()
        assert [row[f"{name}.decided"] == "member" for row in rows] == r.decided.tolist()
    assert {row["boundary.status"] for row in rows} == {"DONE", "NO_START", "MISCLASSIFIED"}


def test_ids_of_any_text_come_back(record: AuditRecord, tmp_path: Path) -> None:
    odd = ("\x00", "a\x00", "\ud800", "</script>", "ß\u2028", *record.ids[5:])
    strange = replace(record, ids=odd)
    assert load(strange.save(tmp_path / "run")).ids == odd


def test_fpr_needed_is_the_share_of_nonmembers_at_least_as_high(record: AuditRecord) -> None:
    for name, r in record.attacks.items():
        others = r.scores[~record.member]
        slow = [np.mean(others >= score) for score in r.scores]
        np.testing.assert_array_equal(record.fpr_needed(name), slow)


def test_to_frame(record: AuditRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = record.to_frame()
    assert list(frame["id"]) == list(record.ids) and list(frame["group"].unique()) == ["member", "non-member"]
    assert frame["boundary.score"].dtype == np.float64 and frame["boundary.queries"].dtype == np.int64
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"labelleaks\[tables\]"):
        record.to_frame()


def test_incomplete_record_loads_and_says_what_is_missing(record: AuditRecord, tmp_path: Path) -> None:
    part = replace(record, attacks={"gap": record["gap"]}, comparisons=(), complete=False)
    loaded = load(part.save(tmp_path / "run"))
    assert not loaded.complete and loaded.missing == ("noise", "augmentation", "boundary", "transfer")
    assert "incomplete" in repr(loaded)
    nothing = replace(part, attacks={})
    assert load(nothing.save(tmp_path / "none")) == nothing


def test_ledger_summary_counts_what_the_ledger_did() -> None:
    ledger = Ledger()
    ledger.bill(torch.tensor([-1, -1, -1]), "transfer.relabel", 4)
    ledger.bill(torch.tensor([0, 2, 2, 3]), "boundary.start", 4)
    ledger.bill(torch.tensor([-1, 1]), "gap.correct", 4)
    found = LedgerSummary.of(ledger, 4)
    assert (found.rows, found.setup_rows) == (ledger.rows, 4) == (9, 4)
    assert found.by_candidate.tolist() == [1, 1, 2, 1]
    assert found.by_phase == ledger.by_phase()


def test_run_log_comes_back(tmp_path: Path) -> None:
    assert RunLog.load(tmp_path) is None
    log = RunLog(started="2026-01-01T00:00:00+00:00", seconds=1.5, calls=3, attack_seconds={"gap": 0.25})
    log.save(tmp_path)
    assert RunLog.load(tmp_path) == log


@pytest.mark.parametrize("name", ["gap", "noise", "boundary"])
@pytest.mark.parametrize("fpr", [0.003, 0.02, 0.05, 0.5, 0.97, 0.1])
def test_any_false_positive_rate_can_be_asked_for(record: AuditRecord, name: str, fpr: float) -> None:
    result = record[name]
    assert result.tpr_at_fpr[fpr] == metrics.tpr_at_fpr(result.scores, record.member, fpr)
    assert list(result.tpr_at_fpr) == [0.1, 0.01, 0.001]


@pytest.mark.parametrize("fpr", [5, 0, 1.0, -0.1, "5%", None])
def test_what_is_no_rate_is_said(record: AuditRecord, fpr: Any) -> None:
    with pytest.raises(KeyError, match=r"a fraction between 0 and 1 is needed, 0\.05 for 5 %"):
        record["gap"].tpr_at_fpr[fpr]
