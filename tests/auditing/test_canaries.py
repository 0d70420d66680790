"""Canaries: what is made, sealed and found again, in Python and on the command line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import sparse
from sklearn.ensemble import RandomForestClassifier

import labelleaks as ll
from labelleaks.errors import InputError
from labelleaks.inputs.arrays import count
from labelleaks.metrics import FixedGuesses, epsilon_of_scores
from tests.support import cli, digits


def table(n=600):
    x, y = digits()
    columns = {f"p{i}": column for i, column in enumerate((16 * x[:n].flatten(1)).int().numpy().T)}
    return pd.DataFrame(columns), np.array([f"class {int(label)}" for label in y[:n]])


def forest(x, y):
    return RandomForestClassifier(60, random_state=0).fit(x, y)


KINDS = {
    "array": lambda x: x.numpy(),
    "bytes": lambda x: (16 * x).to(torch.uint8).numpy(),
    "tensor": lambda x: x,
    "frame": lambda x: pd.DataFrame(x.flatten(1).numpy(), columns=[f"p{i}" for i in range(64)]),
    "sparse": lambda x: sparse.csr_matrix(x.flatten(1).numpy()),
    "dict": lambda x: {"pixel_values": x.numpy()},
    "pictures": lambda x: [Image.fromarray((255 * row).to(torch.uint8).numpy()) for row in x],
    "texts": lambda x: [" ".join(map(str, row)) for row in (16 * x).int().flatten(1).tolist()],
}


@pytest.mark.parametrize("kind", KINDS)
def test_training_holds_the_others_and_the_canaries_that_are_inside(kind):
    x, y = digits()
    given = KINDS[kind](x[:300])
    made = ll.make_canaries(given, y[:300], count=100, seed=3)
    rows, labels = made.training
    assert len(labels) == 300 - int((~made.inside).sum())
    kept = np.setdiff1d(np.arange(300), made.places[~made.inside])
    expected = y[:300].numpy().copy()
    expected[made.places] = made.y
    np.testing.assert_array_equal(labels, expected[kept])
    values = rows["pixel_values"] if kind == "dict" else rows.toarray() if kind == "sparse" else rows
    wanted = given["pixel_values"] if kind == "dict" else given.toarray() if kind == "sparse" else given
    np.testing.assert_array_equal(np.asarray(values), np.asarray(wanted)[kept])
    assert type(rows) is type(given)
    found = ll.audit_canaries(lambda rows: np.zeros(count(rows), dtype=np.int64), made, classes=10)
    assert found.bound.canaries == 70 and found.seal == made.seal


def test_mislabelled_canaries_have_another_class_and_natural_ones_their_own():
    x, y = table()
    wrong = ll.make_canaries(x, y, count=300, seed=1)
    assert (wrong.y != y[wrong.places]).all()
    assert set(wrong.y) <= set(y)
    assert 110 < wrong.inside.sum() < 190
    natural = ll.make_canaries(x, y, count=300, kind="natural", seed=1)
    np.testing.assert_array_equal(natural.y, y[natural.places])


def test_coins_differ_each_time_and_equal_seeds_give_equal_coins():
    x, y = table(100)
    first, second = (ll.make_canaries(x, y, count=50) for _ in range(2))
    assert (first.inside != second.inside).any()
    assert first.seal != second.seal
    assert ll.make_canaries(x, y, count=50, seed=1).seal == ll.make_canaries(x, y, count=50, seed=1).seal


@pytest.fixture(scope="module")
def study():
    x, y = table()
    made = ll.make_canaries(x, y, count=200, seed=5)
    return made, forest(*made.training)


def test_labels_of_a_forest_show_its_epsilon(study):
    made, target = study
    found = ll.audit_canaries(target, made)
    assert found.attack["name"] == "gap"
    assert found.bound.epsilon > 1.5
    assert found.bound.canaries == 140
    assert found.gaussian_bound.epsilon > found.bound.epsilon
    assert found.seal == made.seal
    again = epsilon_of_scores(found.scores, made.inside, FixedGuesses(80, 80), delta=1e-5)
    assert ll.audit_canaries(target, made, guesses=FixedGuesses(80, 80)).bound == again
    json.dumps(found.describe(), allow_nan=False)


def test_a_model_that_saw_no_canary_shows_nothing(study):
    made, _ = study
    x, y = table()
    clean = np.setdiff1d(np.arange(len(y)), made.places)
    assert ll.audit_canaries(forest(x.iloc[clean], y[clean]), made).bound.epsilon < 0.2


def test_a_manifest_comes_back_and_a_changed_one_does_not(tmp_path, study):
    made, _ = study
    x, y = table()
    made.save(tmp_path / "canaries.json")
    back = ll.load_canaries(tmp_path / "canaries.json", x, y)
    assert back.seal == made.seal
    np.testing.assert_array_equal(back.training[1], made.training[1])
    pd.testing.assert_frame_equal(back.x, made.x)
    assert (tmp_path / "canaries.json").stat().st_mode & 0o077 == 0
    with pytest.raises(InputError, match="were other rows"):
        ll.load_canaries(tmp_path / "canaries.json", x.iloc[::-1].reset_index(drop=True), y)
    with pytest.raises(InputError, match="were other rows"):
        ll.load_canaries(tmp_path / "canaries.json", x.iloc[:50], y[:50])
    manifest = json.loads((tmp_path / "canaries.json").read_text())
    manifest["inside"][0] = 1 - manifest["inside"][0]
    (tmp_path / "canaries.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="was changed after it was sealed"):
        ll.load_canaries(tmp_path / "canaries.json", x, y)
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="is no manifest"):
        ll.load_canaries(tmp_path / "other.json", x, y)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"count": 0}, "count=0"),
        ({"count": 601}, "from 1 to 600"),
        ({"kind": "odd"}, "kind='odd': 'mislabelled' or 'natural' is needed"),
        ({"y": ["a"] * 600}, "all rows have the label 'a'"),
    ],
)
def test_what_cannot_be_made_is_refused(change, sentence):
    x, y = table()
    with pytest.raises(InputError, match=sentence):
        ll.make_canaries(**{"x": x, "y": y, "count": 60, **change})


def test_guesses_that_do_not_fit_are_refused_before_a_label_is_bought(study):
    made, _ = study

    def unasked(x):
        raise AssertionError("a label was bought")

    for arguments, sentence in (
        ({"guesses": FixedGuesses(150, 100)}, "250 guesses at 200 canaries"),
        ({"delta": 1.0}, "delta=1.0"),
        ({"attack": "ladder"}, "scored by one attack"),
    ):
        with pytest.raises(InputError, match=sentence):
            ll.audit_canaries(unasked, made, **arguments)


def test_a_text_of_any_length_is_written_back(tmp_path):
    texts = [f"row {i} " + "word " * 40_000 for i in range(6)]
    pd.DataFrame({"text": texts, "label": list("ababab")}).to_csv(tmp_path / "data.csv", index=False)
    done = cli("canaries", "make", tmp_path / "data.csv", "--out", tmp_path / "c", "--count", "3", "--seed", "1")
    assert done.exit_code == 0, done.output
    assert set(pd.read_csv(tmp_path / "c/canaries.csv").text) < set(texts)


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz"])
def test_the_command_line_makes_and_audits(tmp_path, ending):
    x, y = table()
    file = tmp_path / f"data.{ending}"
    if ending == "npz":
        np.savez(file, x=x.to_numpy(np.float32) / 16, y=[int(label[-1]) for label in y], weight=np.arange(3))
    else:
        frame = x.assign(label=y)
        frame.to_csv(file, index=False) if ending == "csv" else frame.to_parquet(file)
    made = cli("canaries", "make", file, "--out", tmp_path / "c", "--count", "200", "--seed", "1")
    assert made.exit_code == 0, made.output
    seal = made.output.split("seal: ")[1].strip()
    if ending == "npz":
        with np.load(tmp_path / "c/training.npz") as arrays:
            rows, labels = arrays["x"], arrays["y"]
            assert arrays["weight"].tolist() == [0, 1, 2]
    else:
        read = pd.read_csv if ending == "csv" else pd.read_parquet
        training = read(tmp_path / f"c/training.{ending}")
        rows, labels = training.drop(columns="label"), training.label
    model = forest(rows, labels)
    import joblib

    joblib.dump(model, tmp_path / "model.joblib")
    done = cli("canaries", "audit", tmp_path / "c", "--target", tmp_path / "model.joblib", "--trust-pickle")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("ε >= ")
    assert float(done.output.split()[2]) > 1.5
    assert seal in done.output


def test_the_command_line_says_what_is_wrong_in_a_line(tmp_path):
    x, y = table(60)
    x.to_csv(tmp_path / "rows.csv", index=False)
    x.assign(label=y).to_csv(tmp_path / "data.csv", index=False)
    x.assign(label=y).to_json(tmp_path / "data.jsonl", orient="records", lines=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/file").touch()
    for words, sentence in (
        (("make", tmp_path / "rows.csv", "--out", tmp_path / "d"), "--label-column NAME"),
        (("make", tmp_path / "data.csv", "--out", tmp_path / "c"), "give another folder"),
        (("make", tmp_path / "data.csv", "--out", tmp_path / "d"), "count=1000"),
        (("make", tmp_path / "data.jsonl", "--out", tmp_path / "d", "--count", "20"), "save the data as one of these"),
        (("audit", tmp_path / "c", "--target", "m.joblib"), "labelleaks canaries make"),
    ):
        done = cli("canaries", *words)
        assert done.exit_code == 2
        assert sentence in done.output
        assert not (tmp_path / "d").exists()
    cli("canaries", "make", tmp_path / "data.csv", "--out", tmp_path / "d", "--count", "20")
    done = cli("canaries", "audit", tmp_path / "d", "--target", "m.joblib", "--guesses", "many")
    assert done.exit_code == 2
    assert "two whole numbers IN,OUT" in done.output
