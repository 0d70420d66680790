"""``labelleaks data``, as its user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import labelleaks.data as data
from labelleaks.data import cards
from tests.data_fixture import at, cifar10_binary, colours, serve, tgz
from tests.support import cli

NAMES = [f"class {number}" for number in range(10)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABELLEAKS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(*words: str, code: int = 0) -> str:
    done = cli("data", *words)
    assert done.exit_code == code, done.output
    return done.output


def test_list_says_which_are_certain_and_which_are_here() -> None:
    lines = {line.split()[0]: line for line in run("list").splitlines() if line.strip()}
    assert set(data.names()) <= set(lines)
    assert "certain" in lines["face"] and "likely" in lines["tiny_imagenet"] and "no evidence" in lines["mnist"]
    assert lines["digits"].endswith("yes") and lines["cifar10"].endswith("no")
    held = json.loads(run("list", "--json"))
    assert [entry["name"] for entry in held] == list(data.names()) and held[4]["name"] == "tiny_imagenet"
    assert held[0]["files"][0]["checksum"].startswith("sha256:")


def test_describe_without_the_data() -> None:
    told = run("describe", "GTSRB")
    for part in (
        "certain: in every version",
        "600, 500, 400, 300, 200, 100 (authors' code)",
        "dm_nevis",
        "Not here yet",
    ):
        assert part in told
    assert "no published checksum" in run("describe", "purchase100")
    assert json.loads(run("describe", "texas100", "--json"))["held"] is None


def test_describe_shows_both_protocols_side_by_side() -> None:
    told = run("describe", "digits")
    assert "protocol authors: targets of 600" in told and "protocol clean: targets of 600" in told
    held = json.loads(run("describe", "digits", "--json"))["splits"]
    assert held["authors"]["test"] == 400 and held["clean"]["protocol"]["failed_searches"] == "kept"


def test_get_from_a_folder_with_an_npz(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "location30.npz", features=np.eye(30, 446, dtype=np.uint8), labels=np.arange(30, dtype=np.int64)
    )
    told = run("get", "location-30", "--from", str(tmp_path))
    assert "30 rows (a part of the rows" in told and "read from location30.npz" in told
    assert json.loads(run("get", "location30", "--from", str(tmp_path), "--json"))["rows"] == 30
    assert run("get", "location30", "--from", str(tmp_path), "--quiet") == ""
    assert "200 non-members" not in run("describe", "location30", "--from", str(tmp_path))
    assert "leave nothing of 30 rows" in run("describe", "location30", "--from", str(tmp_path))


def test_get_downloads_once_and_describe_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = colours(120), np.arange(120) % 10
    with serve() as server:
        files = {"cifar-10-binary.tar.gz": cifar10_binary(x, y, NAMES)}
        small = at(data.card("cifar10"), server, files, (100, 20))
        monkeypatch.setattr(cards, "card", lambda name: small)
        assert "120 rows (all rows; 100 of the training part" in run("get", "cifar10")
        assert run("get", "cifar10") and len(server.seen) == 1
    assert "120 rows (all rows" in run("describe", "cifar10")


def test_what_is_believed_at_first_use_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as server:
        files = {"dataset_location.tgz": tgz({"bangkok": b"1,0,1\n2,1,1\n"})}
        small = at(data.card("location30"), server, files, (2, 0), shape=(2,))
        monkeypatch.setattr(cards, "card", lambda name: small)
        assert "has no published checksum: the one of this copy was recorded" in run("get", "location30")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["get", "cifar11"], "did you mean 'cifar10'"),
        (["get", "cifar10", "--from", "/nowhere/at/all"], "no such folder"),
        (["get", "digits", "--from", "/tmp"], "comes with scikit-learn: leave the folder out"),
        (["get", "mnist", "--size", "64"], "a size cannot be chosen"),
        (["describe", "nothing"], "known: "),
    ],
)
def test_errors_are_one_line(words: list[str], says: str) -> None:
    told = run(*words, code=2)
    assert says in told and len(told.strip().splitlines()) == 1 and "Traceback" not in told


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("LABELLEAKS_CACHE", str(tmp_path / "file"))
    assert "nothing can be written there" in run("get", "cifar10", code=2)
