"""Experiment grids: each stage is done once, a killed run goes on, the bytes are those of a run that was not killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelleaks import data, experiments
from labelleaks.core import rng, serialization
from labelleaks.data import label_leaks_split
from labelleaks.errors import InputError, SpecError
from labelleaks.experiments import runner, stages
from labelleaks.experiments.runner import GridPlan, Options
from labelleaks.experiments.spec import load_reproduction
from labelleaks.experiments.store import Results
from labelleaks.models import architectures, training
from labelleaks.models.training import Recipe
from tests.support import cli

HERE = Path(__file__).parents[2] / "reproductions"
GRID = """
about: tiny
worlds:
  digits:
    model: mlp
    sizes: [200, 100]
    protocols: [authors, clean]
    epochs: 4
    shadow_rows: 150
    shadow_epochs: 3
    references: 2
measures:
  - {attack: gap}
  - {attack: loss_threshold, candidates: 100}
  - {attack: transfer, candidates: 60}
  - {attack: lira_offline, candidates: 60, sizes: [100]}
  - {attack: boundary, variant: hopskipjump, labels: 60, read: [20, 60], norms: true, candidates: 5, sizes: [200]}
"""
STUDIES = """
studies:
  - {study: radius, rows: images, candidates: 2, draws: 20, sizes: [100]}
  - {study: percentile, of: hopskipjump, inputs: 2}
  - {study: memguard, of: transfer, sizes: [100]}
"""


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "reproductions" / "tiny"
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "smoke.yaml").write_text(GRID)
    shutil.copy(HERE / "label-leaks" / "expected.yaml", folder)
    return folder


def plan_of(home: Path, where: str = "a") -> GridPlan:
    place = home.parent.parent / where
    found = load_reproduction("tiny", "smoke", home.parent)
    return experiments.plan(found, Options(store=str(place / "store"), out=str(place / "out")))


def finish(plan: GridPlan, jobs: int = 1) -> int:
    done = experiments.run(plan, jobs=jobs, say=lambda text: None)
    experiments.write_page(plan.reproduction, plan.options.out)
    return done


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows_of(plan: GridPlan, stage: str) -> list[dict[str, Any]]:
    """The rows of one stage, without what the file adds to name it."""
    rows = [row for row in plan.results.rows() if row["stage"] == stage]
    assert rows, stage
    return [{name: value for name, value in row.items() if name not in ("stage", "key")} for row in rows]


def forget(results: Results, stage: str) -> None:
    """Take the rows of one stage out of its file."""
    (file,) = results.folder.glob(f"{results.profile}/*.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    left = [line for line in lines if json.loads(line)["stage"] != stage]
    assert len(left) < len(lines)
    file.write_text("".join(left))


def weights(plan: GridPlan) -> dict[Path, tuple[int, int]]:
    """Trained models by file, with what changes when one is written again."""
    files = [p for p in Path(plan.options.store).rglob("*.safetensors") if p.with_suffix(".json").is_file()]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.mark.kill
def test_killed_at_random_points_it_gives_the_same_bytes_and_trains_nothing_twice(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "profiles" / "smoke.yaml").write_text(GRID + STUDIES)
    whole = plan_of(home, "whole")
    assert finish(whole) > 20
    expected = contents(Path(whole.options.out))
    assert len(whole.results.rows()) > 16 and len(whole.studies.rows()) == 6
    assert len(weights(whole)) == 4 + 2 * (2 + 1)  # targets; shadows of size 100, of 200

    plan, write = plan_of(home, "killed"), serialization.write_atomic
    draw = np.random.default_rng(0)
    left, known, kills = 0, {}, 0

    def mortal(path: Path, content: bytes | str, *, private: bool) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        write(path, content, private=private)

    monkeypatch.setattr(serialization, "write_atomic", mortal)
    while True:
        left = int(draw.integers(0, 12))
        try:
            finish(plan)
            break
        except Killed:
            kills += 1
        now = weights(plan)
        assert known.items() <= now.items()  # what was trained stays as it is
        known = now
    assert kills > 5
    assert contents(Path(plan.options.out)) == expected
    assert {p.name for p in weights(plan)} == {p.name for p in weights(whole)}


def running(group: int) -> bool:
    """Whether a process of the group is alive; a zombie that nobody has buried is not."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it went away just now
            continue
        if int(of) == group and state not in "ZX":
            return True
    return False


@pytest.mark.kill
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_real_kill_of_two_processes_leaves_nobody_behind(home: Path) -> None:
    whole, plan = plan_of(home, "whole"), plan_of(home, "killed")
    finish(whole)
    store = Path(plan.options.store)
    command = [sys.executable, "-m", "labelleaks", "reproduce", "tiny", "--profile", "smoke", "--jobs", "2"]
    command += ["--folder", str(home.parent), "--store", str(store), "--out", plan.options.out, "-q"]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True) as process:
        while not weights(plan) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    while running(process.pid):  # the processes that it started end by themselves
        time.sleep(0.1)
    known = weights(plan)
    assert known and finish(plan) > 0
    assert known.items() <= weights(plan).items()
    mine, theirs = contents(Path(plan.options.out)), contents(Path(whole.options.out))
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if mine[name] != theirs[name]] == []


def test_a_second_run_does_nothing_and_an_added_row_costs_only_itself(home: Path) -> None:
    plan = plan_of(home)
    finish(plan)
    before = contents(Path(plan.options.out)) | contents(Path(plan.options.store))
    assert finish(plan_of(home)) == 0
    assert contents(Path(plan.options.out)) | contents(Path(plan.options.store)) == before
    spec = home / "profiles" / "smoke.yaml"
    spec.write_text(GRID + "  - {attack: noise, labels: 5, candidates: 20, sizes: [100]}\n")
    assert [stage.kind for stage, _ in runner.forecast(plan_of(home))] == ["scores", "evaluation"] * 2
    spec.write_text(GRID.replace("read: [20, 60]", "read: [37, 60]"))  # labels that the search did not note
    assert [stage.kind for stage, _ in runner.forecast(plan_of(home))] == ["scores", "evaluation"] * 2
    spec.write_text(GRID.replace("read: [20, 60]", "read: [10, 60]"))
    assert [stage.kind for stage, _ in runner.forecast(plan_of(home))] == ["evaluation"] * 2
    assert finish(plan_of(home)) == 2
    keys = {(row["stage"], row["key"]) for row in plan.results.rows()}
    assert len(keys) == len({stage for stage, _ in keys}) == sum(len(of.evaluations) for of in plan.worlds)


def test_a_committed_result_counts_as_done_without_its_scores(home: Path) -> None:
    plan = plan_of(home)
    finish(plan)
    shutil.rmtree(plan.options.store)
    assert not runner.forecast(plan_of(home))
    forget(plan.results, "digits-100-s1-clean-gap")
    assert [stage.kind for stage, _ in runner.forecast(plan_of(home))] == ["target", "scores", "evaluation"]


def test_new_code_makes_a_stage_and_all_after_it_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(plan_of(home))
    monkeypatch.setattr(stages, "VERSIONS", {**stages.VERSIONS, "shadow": 2})
    kinds = {(stage.kind, stage.name.rpartition("clean")[2].strip(" -")) for stage, _ in runner.forecast(plan_of(home))}
    assert {kind for kind, _ in kinds} == {"shadow", "scores", "evaluation"}
    assert not any("gap" in name or "boundary" in name for _, name in kinds)


def test_a_row_is_what_its_spec_says(home: Path) -> None:
    """The gap row of the smallest clean target, by hand: split, training, accuracies."""
    plan = plan_of(home)
    finish(plan)
    (row,) = rows_of(plan, "digits-100-s1-clean-gap")
    digits = data.load("digits")
    split = label_leaks_split(digits, seed=1, protocol="clean")
    own = rng.seed_from(1, "target digits-100-s1-clean")
    model = architectures.build("mlp", (1, 8, 8), 10, seed=own)
    x, y = digits.rows(split.members(100))
    training.train(model, x, y, Recipe(epochs=4), seed=own)
    right = {}
    for name, index in (("train", split.members(100)), ("test", split.nonmembers())):
        x, y = digits.rows(index)
        right[name] = float((model(x).argmax(1) == y).float().mean())
    assert row["train_accuracy"] == pytest.approx(right["train"], abs=1e-5)
    assert row["test_accuracy"] == pytest.approx(right["test"], abs=1e-5)
    assert row["auc"]["value"] == pytest.approx(0.5 + (right["train"] - right["test"]) / 2, abs=1e-5)
    assert (row["n_members"], row["n_nonmembers"], row["labels"]) == (100, len(split.nonmembers()), 1)
    assert row["tpr_at_fpr"].keys() == {"0.01"} and row["protocol"] == "clean" and row["model"] == "mlp"
    one_hot = rows_of(plan, "digits-100-s1-clean-loss_threshold")[1]
    assert one_hot["variant"] == "one_hot" and one_hot["n_nonmembers"] == 100


def test_the_authors_keep_the_epoch_that_is_best_on_the_non_members(home: Path) -> None:
    plan = plan_of(home)
    finish(plan)
    split = label_leaks_split(data.load("digits"), seed=1, protocol="authors")
    x, y = data.load("digits").rows(split.members(100))
    tx, ty = data.load("digits").rows(split.nonmembers())
    own = rng.seed_from(1, "target digits-100-s1-authors")
    model = architectures.build("mlp", (1, 8, 8), 10, seed=own)
    seen: list[float] = []
    training.train(
        model, x, y, Recipe(epochs=4), seed=own,
        progress=lambda epoch: seen.append(float((model(tx).argmax(1) == ty).float().mean())),
    )  # fmt: skip
    (row,) = rows_of(plan, "digits-100-s1-authors-gap")
    assert row["test_accuracy"] == pytest.approx(max(seen), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("model: mlp", "model: mpl"), "did you mean 'mlp'"),
        (("sizes: [200, 100]", "sizes: [200, 150]"), "600, 500, 400"),
        (("digits:", "digitz:"), "did you mean 'digits'"),
        (("epochs: 4", "epoch: 4"), "epoch: Extra"),
        (("variant: hopskipjump, ", ""), "variant of boundary"),
        (("read: [20, 60]", "read: [20, 90]"), "only 60 are bought"),
        (("epochs: 4", "epochs: 4\n    authors_sizes: [300]"), "authors_sizes names"),
        (("epochs: 4", "epochs: 4\n    pixels: 32"), "pixels cannot be chosen"),
        (("about: tiny", "about: tiny\nabout: twice"), "given twice"),
    ],
)
def test_a_wrong_spec_is_named(home: Path, change: tuple[str, str], says: str) -> None:
    file = home / "profiles" / "smoke.yaml"
    assert change[0] in GRID
    file.write_text(GRID.replace(*change))
    with pytest.raises(SpecError, match=r"smoke\.yaml") as caught:
        load_reproduction("tiny", "smoke", home.parent)
    assert says in str(caught.value)


def test_unknown_names_are_refused(home: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'smoke'"):
        load_reproduction("tiny", "smoky", home.parent)
    with pytest.raises(InputError, match="--folder"):
        load_reproduction("label-leaks", "cpu", home)
    (home / "profiles" / "other.yaml").write_text(GRID)
    with pytest.raises(InputError, match="known: tiny;"):
        load_reproduction("label-leaks", "cpu", home.parent)
    with pytest.raises(InputError, match="--only"):
        experiments.plan(load_reproduction("tiny", "smoke", home.parent), Options(only=("mnist",)))


def test_what_is_run_under_the_authors_protocol_can_be_limited(home: Path) -> None:
    grid = GRID.replace("epochs: 4", "epochs: 4\n    authors_sizes: [100]\n    authors_seeds: 1")
    grid = grid.replace("candidates: 60}", "candidates: 60, protocols: [clean]}") + "seeds: 2\n"
    (home / "profiles" / "smoke.yaml").write_text(grid)
    found = {of.world.name: {m.attack for m, _ in of.evaluations} for of in plan_of(home).worlds}
    clean = {f"digits-{size}-s{seed}-clean" for size in (200, 100) for seed in (1, 2)}
    assert found.keys() == clean | {"digits-100-s1-authors"}
    assert "transfer" in found["digits-100-s1-clean"] and "transfer" not in found["digits-100-s1-authors"]


def test_the_boundary_attack_is_read_at_the_labels_that_are_named(home: Path) -> None:
    """One run that notes 37 labels says there what a run of 37 labels says."""
    (home / "profiles" / "smoke.yaml").write_text(
        GRID.split("  - {attack: gap}")[0]
        + "  - {attack: boundary, variant: hopskipjump, labels: 60, read: [37, 60], candidates: 5, sizes: [100]}\n"
        + "  - {attack: boundary, variant: hopskipjump, labels: 37, candidates: 5, sizes: [100]}\n"
    )
    plan = plan_of(home)
    finish(plan)
    long, short = (rows_of(plan, f"digits-100-s1-clean-boundary-hopskipjump-{n}") for n in (60, 37))
    assert [row["labels"] for row in long] == [37, 60] and long[:1] == short


def test_two_processes_take_as_long_as_the_busier_of_them(home: Path) -> None:
    found = plan_of(home)
    each = [sum(stage.seconds for _, stage in found.missing(of)) for of in found.worlds]
    assert runner.seconds_with(found, 1) == pytest.approx(sum(each))
    assert runner.seconds_with(found, len(each) + 1) == pytest.approx(max(each))
    assert max(each) <= runner.seconds_with(found, 2) < sum(each)


def test_a_wrong_engine_is_refused_before_any_data_are_looked_for(home: Path) -> None:
    said = cli("reproduce", "nothing", "--engine", "spark", "--folder", str(home.parent))
    assert said.exit_code == 2 and "unknown engine 'spark'" in said.output


def test_a_dry_run_says_what_it_would_cost_and_does_nothing(home: Path) -> None:
    place = home.parent.parent / "dry"
    command = ["reproduce", "tiny", "--profile", "smoke", "--folder", str(home.parent), "--store", str(place)]
    said = cli(*command, "--out", str(place), "--dry-run")
    assert said.exit_code == 0, said.output
    assert "digits-200-s1-authors target" in said.output and "0 evaluations are finished" in said.output
    assert not place.exists()
    two = cli(*command, "--out", str(place), "--dry-run", "--jobs", "2")
    assert two.exit_code == 0 and "with --jobs 2" in two.output and "--jobs" not in said.output
    wrong = cli(*command, "--only", "minst", "--dry-run")
    assert wrong.exit_code == 2 and "--only minst" in wrong.output


@pytest.mark.parametrize("profile", ["smoke", "quick", "cpu", "paper"])
def test_the_profiles_of_the_paper_can_be_read(profile: str) -> None:
    grid = load_reproduction("label-leaks", profile, HERE).grid
    assert {measure.attack for measure in grid.measures} >= {"gap", "salem", "transfer", "boundary", "lira_offline"}


def test_a_shadow_that_is_labelled_anew_in_every_epoch_is_another_row(home: Path) -> None:
    (home / "profiles" / "smoke.yaml").write_text(
        GRID.split("  - {attack: gap}")[0]
        + "  - {attack: transfer, candidates: 20, sizes: [100], protocols: [clean]}\n"
        + "  - {attack: transfer, candidates: 20, sizes: [100], protocols: [clean], relabel: 2}\n"
    )
    plan = plan_of(home)
    finish(plan)
    plain, anew = (rows_of(plan, f"digits-100-s1-clean-transfer{also}") for also in ("", "-relabel-2"))
    assert [row["variant"] for row in anew] == [f"{row['variant']}, relabel=2" for row in plain]
    assert [row["auc"] for row in anew] != [row["auc"] for row in plain]
    assert len(weights(plan)) == 2  # the target, and the shadow that is kept
