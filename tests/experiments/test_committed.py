"""Committed rows can be had again from their specs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from labelleaks import experiments
from labelleaks.experiments import runner
from labelleaks.experiments.runner import Options
from labelleaks.experiments.spec import load_reproduction
from labelleaks.experiments.store import Results

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
