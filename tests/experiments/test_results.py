"""Rows of a grid: what they say made them, stages and files of former versions, several processes at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labelleaks import __version__, experiments
from labelleaks.attacks import Gap
from labelleaks.core import serialization
from labelleaks.experiments import provenance, runner
from labelleaks.experiments.provenance import UNKNOWN, commit
from labelleaks.experiments.runner import GridPlan, Options
from labelleaks.experiments.spec import load_reproduction
from labelleaks.experiments.store import Results

GRID = """
about: tiny
worlds:
  digits: {model: mlp, sizes: [100], epochs: 2, shadow_rows: 80, shadow_epochs: 2}
measures:
  - {attack: gap}
  - {attack: transfer, candidates: 40}
  - {attack: boundary, variant: hopskipjump, labels: 40, candidates: 4}
studies:
  - {study: fresh, of: gap}
  - {study: memguard, of: transfer}
"""
KEYS = {
    "digits-100-s1-clean target": "66a6b755c5f1ff2f",
    "digits-100-s1-clean gap": "7d753a7bce2f537f",
    "digits-100-s1-clean-gap": "ecf3a5a532e008c1",
    "digits-100-s1-clean shadow: 1 on the target's labels": "fe74e87b359d909a",
    "digits-100-s1-clean transfer": "65ef0f6580fcaa8b",
    "digits-100-s1-clean-transfer": "088d00d5541e0469",
    "digits-100-s1-clean boundary hopskipjump 40": "4eb01126dcb10a53",
    "digits-100-s1-clean-boundary-hopskipjump-40": "0b0bd4b3babdaa71",
    "digits-100-s1-clean-fresh-gap": "e05caf7a9b27b4b4",
    "digits-100-s1-clean-memguard-transfer": "dde3cf3619e565c1",
}
"""Of every stage of the grid, as they were before attacks had revisions."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "reproductions" / "tiny"
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "smoke.yaml").write_text(GRID)
    expected = Path(__file__).parents[2] / "reproductions" / "label-leaks" / "expected.yaml"
    shutil.copy(expected, folder)
    return folder


def plan_of(home: Path) -> GridPlan:
    place = home.parent.parent
    found = load_reproduction("tiny", "smoke", home.parent)
    return experiments.plan(found, Options(store=str(place / "store"), out=str(place / "out")))


def finish(home: Path) -> int:
    plan = plan_of(home)
    done = experiments.run(plan, say=lambda text: None)
    experiments.write_page(plan.reproduction, plan.options.out)
    return done


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def as_before(home: Path) -> None:
    """Make everything that a run has left what a former version would have left: a file a stage, no provenance."""
    place = home.parent.parent
    for part in ("results", "studies"):
        (file,) = (place / "out" / part).rglob("*.jsonl")
        stages: dict[str, list[dict[str, Any]]] = {}
        for row in map(json.loads, file.read_text().splitlines()):
            name = f"smoke-{row['stage']}-{row['key']}.json"
            plain = {k: v for k, v in row.items() if k not in ("stage", "key", "version", "commit", "revision")}
            stages.setdefault(name, []).extend([plain, *plain.pop("points", [])])
        shutil.rmtree(file.parent)
        for name, rows in stages.items():
            lines = ",\n".join(json.dumps(row) for row in rows)
            (place / "out" / part / name).write_text(f"[\n{lines}\n]\n")
    for path in (place / "store" / "scores").glob("*.npz"):
        arrays, text = serialization.read_npz(path)
        document = {k: v for k, v in json.loads(text).items() if k != "made"}
        path.write_bytes(serialization.npz_bytes(arrays, json.dumps(document)))


def numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("version", "commit")} for row in rows]


def test_stages_have_the_keys_that_they_had_before_attacks_had_revisions(home: Path) -> None:
    assert {stage.name: stage.key for stage, _ in runner.forecast(plan_of(home))} == KEYS


def test_a_row_says_what_made_it(home: Path) -> None:
    finish(home)
    plan = plan_of(home)
    rows = [*plan.results.rows(), *plan.studies.rows()]
    made = {"version": __version__, "commit": commit(Path(experiments.__file__).parents[1]), "revision": 1}
    assert len(rows) == 7 and all(row.items() >= made.items() for row in rows)
    page = (Path(plan.options.out) / "smoke.md").read_text()
    assert f"What made them: 7 by labelleaks {__version__} at commit {made['commit']}." in page


def test_another_revision_is_another_stage(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(home)
    before = plan_of(home).results.rows()
    monkeypatch.setattr(Gap, "revision", 2)
    names = {(stage.kind, stage.name) for stage, _ in runner.forecast(plan_of(home))}
    world = "digits-100-s1-clean"
    assert names == {("scores", f"{world} gap"), ("evaluation", f"{world}-gap"), ("study", f"{world}-fresh-gap")}
    assert finish(home) == 3
    after = plan_of(home).results.rows()
    assert [row["revision"] for row in after if row["attack"] == "gap"] == [2]
    assert [row for row in after if row["attack"] != "gap"] == [row for row in before if row["attack"] != "gap"]
    assert len(after) == len(before) and [r["revision"] for r in plan_of(home).studies.rows()] == [2, 1]


def test_what_a_former_version_left_counts_as_done(home: Path) -> None:
    finish(home)
    plan = plan_of(home)
    rows, studies = plan.results.rows(), plan.studies.rows()
    as_before(home)
    left = contents(home.parent.parent)
    left = {name: content for name, content in left.items() if not name.endswith(".md")}
    assert finish(home) == 0
    assert {name: content for name, content in contents(home.parent.parent).items() if name in left} == left
    for now, then in ((plan.results.rows(), rows), (plan.studies.rows(), studies)):
        assert numbers(now) == numbers(then) and all(row.items() >= UNKNOWN.items() for row in now)
    page = (Path(plan.options.out) / "smoke.md").read_text()
    assert "What made them: 7 by a commit that is unknown (rows did not say it yet)." in page


def test_the_next_row_takes_over_what_a_former_version_left(home: Path) -> None:
    finish(home)
    as_before(home)
    before = plan_of(home).results.rows()
    (home / "profiles" / "smoke.yaml").write_text(GRID.replace("studies:", "  - {attack: noise, labels: 5}\nstudies:"))
    kept = contents(home.parent.parent / "store" / "weights")
    assert finish(home) == 2
    after = plan_of(home).results.rows()
    assert [row for row in after if row["attack"] != "noise"] == before and len(after) == len(before) + 1
    assert [row["version"] for row in after if row["attack"] == "noise"] == [__version__]
    out = home.parent.parent / "out"
    assert not list((out / "results").glob("*.json")) and list((out / "studies").glob("*.json"))
    assert contents(home.parent.parent / "store" / "weights") == kept


def test_scores_of_a_former_version_are_read(home: Path) -> None:
    finish(home)
    before = plan_of(home).results.rows()
    as_before(home)
    shutil.rmtree(home.parent.parent / "out" / "results")
    scores = contents(home.parent.parent / "store")
    assert finish(home) == 3
    after = plan_of(home).results.rows()
    assert numbers(after) == numbers(before) and {row["commit"] for row in after} == {"unknown"}
    assert contents(home.parent.parent / "store") == scores


def test_what_another_profile_has_measured_is_not_measured_again(home: Path) -> None:
    finish(home)
    shutil.copy(home / "profiles" / "smoke.yaml", home / "profiles" / "other.yaml")
    shutil.rmtree(home.parent.parent / "store")
    smoke = plan_of(home)
    other = experiments.plan(load_reproduction("tiny", "other", home.parent), smoke.options)
    assert {stage.kind for stage, _ in runner.forecast(other)} == {"evaluation", "study"}
    experiments.run(other, say=lambda text: None)
    assert other.results.rows() == smoke.results.rows() and other.studies.rows() == smoke.studies.rows()
    as_former = smoke.results.folder
    for path in (as_former / "smoke", as_former / "other"):
        shutil.rmtree(path)
    row = {"dataset": "digits", "target_size": 100, "seed": 1, "protocol": "clean"}
    stage = other.worlds[0].evaluations[0][1]
    (as_former / f"smoke-{stage.name}-{stage.key}.json").write_text(json.dumps([row]))
    found = other.results.elsewhere("digits", stage)
    assert found == [{"stage": stage.name, "key": stage.key, **row, **UNKNOWN, "revision": 1}]


WRITER = """
import sys, time
from pathlib import Path
from labelleaks.experiments.stages import Stage
from labelleaks.experiments.store import Results
row = {"dataset": "digits", "target_size": 1, "seed": 1, "protocol": "clean"}
row |= {"version": "0", "commit": "0", "revision": 1}
Path(sys.argv[1], f"{sys.argv[2]}.ready").touch()
end = time.monotonic() + 120  # all three begin at once, unless one of them is dead
while len(list(Path(sys.argv[1]).glob("*.ready"))) < 3 and time.monotonic() < end:
    time.sleep(0.01)
for i in range(40):
    stage = Stage("evaluation", f"digits-{i:02}-{sys.argv[2]}", {}, (), 0.0)
    Results(Path(sys.argv[1]), "smoke").write("digits", stage, [row | {"labels": 2}, row | {"labels": 1}])
"""


def test_processes_that_add_rows_at_once_lose_none(tmp_path: Path) -> None:
    start = [sys.executable, "-c", WRITER, str(tmp_path)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    several = [subprocess.Popen([*start, name], env=env) for name in "abc"]
    assert [process.wait() for process in several] == [0, 0, 0]
    rows = Results(tmp_path, "smoke").rows()
    wanted = sorted(f"digits-{i:02}-{name}" for i in range(40) for name in "abc")
    assert [row["stage"] for row in rows] == [name for name in wanted for _ in range(2)]
    assert [row["labels"] for row in rows] == [2, 1] * 120, "rows of a stage stay in the order in which they came"


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_checkout_and_says_where_code_differs_from_it(tmp_path: Path) -> None:
    package, other = tmp_path / "repo" / "package", tmp_path / "repo" / "other"
    for folder in (package, other):
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()

    def now(*folders: Path) -> str:
        commit.cache_clear()
        return commit(*(folders or (package, other)))

    assert now() == "unknown"
    git(tmp_path / "repo", "init", "-q")
    assert now() == "unknown"
    git(tmp_path / "repo", "add", ".")
    git(tmp_path / "repo", "commit", "-qm", "x")
    head = git(tmp_path / "repo", "rev-parse", "HEAD")[:12]
    assert now() == head
    (package / "rows.jsonl").touch()  # what a run writes is no code
    assert now() == head
    (package / "deep").mkdir()
    (package / "deep" / "new.py").touch()
    assert now() == f"{head}-dirty" and now(other) == head
    installed = tmp_path / "repo" / "venv" / "package"  # in a checkout, but not of it
    shutil.copytree(package, installed)
    assert now(installed) == now(package, installed) == "unknown"
    commit.cache_clear()


def test_without_git_no_commit_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    commit.cache_clear()
    assert provenance.made_by()["commit"] == "unknown"
    commit.cache_clear()


HERE = Path(__file__).parents[2] / "reproductions"
SOURCE = Path(os.environ.get("LABELLEAKS_DATA", "nowhere"))
TOLERANCE = 0.03
"""Another processor rounds otherwise, and a training of 50 epochs makes something of it."""


@pytest.mark.skipif(not (SOURCE / "location30.npz").is_file(), reason="needs location30.npz in LABELLEAKS_DATA")
@pytest.mark.parametrize("attack", ["gap", "loss_threshold", "transfer"])
def test_a_committed_row_is_recomputed_from_its_spec(tmp_path: Path, attack: str) -> None:
    options = Options(only=("location30",), seeds=1, source=str(SOURCE), store=str(tmp_path), out=str(tmp_path))
    whole = experiments.plan(load_reproduction("label-leaks", "cpu", HERE), options)
    world = next(of for of in whole.worlds if of.world.name == "location30-200-s1-clean")
    one = next((m, s) for m, s in world.evaluations if m.attack == attack)
    plan = replace(whole, worlds=(replace(world, evaluations=(one,), studies=()),))
    assert experiments.run(plan, say=lambda text: None) > 2
    made = plan.results.rows()
    key = made[0]["key"]  # a hash of spec, data and the revision of the code
    committed = [row for row in Results(HERE / "label-leaks" / "results", "cpu").rows() if row["key"] == key]
    for now, then in zip(made, committed, strict=True):
        for name, value in then.items():
            measured = name in ("auc", "tpr_at_fpr", "train_accuracy", "test_accuracy", "version", "commit")
            assert measured or now[name] == value
        for name in ("train_accuracy", "test_accuracy"):
            assert now[name] == pytest.approx(then[name], abs=TOLERANCE)
        assert now["auc"]["value"] == pytest.approx(then["auc"]["value"], abs=TOLERANCE)


@pytest.mark.skipif(not (SOURCE / "faces_lfw19.npz").is_file(), reason="needs faces_lfw19.npz in LABELLEAKS_DATA")
def test_pictures_are_as_large_as_the_profile_says(tmp_path: Path) -> None:
    grid = "about: x\nworlds: {face: {model: cnn, sizes: [100]PIXELS}}\nmeasures: [{attack: gap}]\n"
    keys = []
    for name, pixels in (("own", ""), ("small", ", pixels: 16")):
        file = tmp_path / "r" / "x" / "profiles" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(grid.replace("PIXELS", pixels))
        plan = experiments.plan(load_reproduction("x", name, tmp_path / "r"), Options(source=str(SOURCE)))
        (world,) = plan.worlds
        keys.append(world.evaluations[0][1].key)
    assert keys[0] != keys[1]  # another size is other data
    dataset, _ = runner.load("face", str(SOURCE), world.world.spec.pixels)
    assert dataset.shape == (3, 16, 16) and world.world.spec.model_words == "cnn, 16 px"
