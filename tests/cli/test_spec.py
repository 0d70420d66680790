"""Specs: strict YAML whose complaints name file, line, key and the nearest known key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelleaks.auditing.forecast import money
from labelleaks.cli import from_spec
from labelleaks.cli.spec import AuditSpec, HttpSpec, InferSpec, NamedSpec, TargetSpec
from labelleaks.cli.spec_file import load_spec, parse_override
from labelleaks.errors import InputError, SpecError
from labelleaks.models.training import Recipe
from labelleaks.targets import Http
from tests.servers.faulty import Faulty, rows_of, truth
from tests.support import cli


def written(folder: Path, text: str) -> Path:
    path = folder / "audit.yaml"
    path.write_text(text)
    return path


def test_a_whole_spec_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "target: {path: model.safetensors, factory: 'mine:build', classes: [cat, dog]}\n"
        "data:\n  members: m.npz\n  nonmembers: {path: n.csv, label_column: kind}\n"
        "domain: {kind: box, low: 0, high: 255, levels: 256, layout: hwc}\n"
        "attacks: [gap, {name: boundary, norm: linf}]\n"
        "budget: 200\n",
    )
    spec = load_spec(AuditSpec, path, {})
    assert spec.budget == 200
    assert spec.domain.high == 255 and spec.domain.levels == 256 and spec.domain.layout == "hwc"
    assert spec.attacks is not None
    assert spec.attacks[0] == "gap"
    assert isinstance(spec.attacks[1], NamedSpec) and spec.attacks[1].settings() == {"norm": "linf"}


def test_one_attack_needs_no_list(tmp_path: Path) -> None:
    assert load_spec(AuditSpec, written(tmp_path, "target: a:b\nattacks: ladder\n"), {}).attacks == ["ladder"]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("target: a:b\nbudgets: 3\n", 2, "did you mean 'budget'"),
        ("target: a:b\ndata:\n  members: m.npz\n  nonmember: n.npz\n", 4, "did you mean 'nonmembers'"),
        ("target: a:b\nbudget: many\n", 2, "'many'"),
        ("target: a:b\nbudget: 0\n", 2, "greater than or equal to 1"),
        ("target: a:b\ndomain: {kind: bux}\n", 2, "bux"),
        ("target: a:b\ndomain: {layout: nhwc}\n", 2, "nhwc"),
        ("target: a:b\nseed: 1\nseed: 2\n", 3, "given twice"),
        ("target:\n  path: a:b\n  factry: c:d\n", 3, "did you mean 'factory'"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        load_spec(AuditSpec, path, {})
    assert f"line {line}" in str(caught.value), caught.value
    assert says in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


def test_what_is_no_yaml_mapping_is_refused(tmp_path: Path) -> None:
    for text in ("- a\n- b\n", "a: [1\n", "just words"):
        with pytest.raises(SpecError, match=r"audit\.yaml"):
            load_spec(AuditSpec, written(tmp_path, text), {})
    with pytest.raises(SpecError, match="no such file"):
        load_spec(AuditSpec, tmp_path / "none.yaml", {})


def test_yaml_cannot_construct_objects(tmp_path: Path) -> None:
    path = written(tmp_path, "target: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(SpecError, match="not YAML"):
        load_spec(AuditSpec, path, {})


def test_a_missing_target_is_named() -> None:
    with pytest.raises(SpecError, match="'target' is missing"):
        load_spec(AuditSpec, None, {})


def test_overrides_win_and_may_reach_inside(tmp_path: Path) -> None:
    path = written(tmp_path, "target: a:b\nbudget: 3\n")
    overrides = dict(
        [parse_override("budget=7"), parse_override("domain.high=255"), parse_override("target.classes=4")]
    )
    spec = load_spec(AuditSpec, path, overrides)
    assert spec.budget == 7 and spec.domain.high == 255
    assert not isinstance(spec.target, str) and spec.target.path == "a:b" and spec.target.classes == 4
    with pytest.raises(SpecError, match="not of the form"):
        parse_override("budget")


def test_infer_takes_a_number_for_a_threshold(tmp_path: Path) -> None:
    spec = load_spec(InferSpec, written(tmp_path, "target: a:b\nthreshold: 0.25\n"), {})
    assert spec.threshold == 0.25


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_spec_or_one_clear_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "spec.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        load_spec(AuditSpec, path, {})
    except SpecError as error:
        assert str(path) in str(error)


def test_a_recipe_is_one_object_for_attacks_and_for_thresholds() -> None:
    for read, named in (
        (from_spec._attack, NamedSpec(name="transfer", recipe={"epochs": 5})),
        (lambda item: from_spec._threshold(item, {}), NamedSpec(name="shadow_calibrated", recipe={"epochs": 5})),
    ):
        assert read(named).recipe == Recipe(epochs=5)
        with pytest.raises(SpecError, match="recipe: unknown setting 'epoch'"):
            read(NamedSpec(name=named.name, recipe={"epoch": 5}))


def load(tmp_path: Path, text: str, overrides: dict[tuple[str | int, ...], Any] | None = None) -> Any:
    path = tmp_path / "audit.yaml"
    path.write_text(text)
    return load_spec(AuditSpec, path, overrides or {}).target


def made(target: Any) -> dict[str, Any]:
    return from_spec.loaded(target)


def test_every_option_is_a_key(tmp_path: Path) -> None:
    target = load(
        tmp_path,
        "target:\n  url: http://h/invocations\n  version: 2\n  columns: [a, b]\n  rate: 3\n"
        "  label_map: {0: cat, x: 1}\n  pixel_range: [0, 255]\n  classes: [cat, dog]\n  auth_env: TOKEN\n",
    )
    assert isinstance(target, HttpSpec)
    assert made(target)["target"] == Http(
        url="http://h/invocations", version="2", columns=("a", "b"), rate=3.0, label_map={0: "cat", "x": 1},
        pixel_range=(0.0, 255.0), auth_env="TOKEN",
    )  # fmt: skip
    assert target.classes == ["cat", "dog"]


@pytest.mark.parametrize(
    ("text", "overrides", "url"),
    [
        ("target: http://a/invocations", {}, None),
        ("target: http://a/invocations", {("target", "rate"): 2}, "http://a/invocations"),
        ("budget: 3", {("target", "path"): "https://b/invocations"}, "https://b/invocations"),
        ("target: {path: model.onnx, output: y}", {("target", "path"): "HTTP://b/invocations"}, "HTTP://b/invocations"),
        ("target: {url: 'http://a/invocations'}", {("target", "path"): "http://b/invocations"}, "http://b/invocations"),
    ],
)
def test_the_flag_and_the_spec_go_together(tmp_path: Path, text: str, overrides: Any, url: str | None) -> None:
    target = load(tmp_path, text, overrides)
    if url is None:
        assert target == "http://a/invocations"
    else:
        assert isinstance(target, HttpSpec) and target.url == url
        made(target)


def test_a_flag_does_not_hide_an_unknown_key(tmp_path: Path) -> None:
    address = {("target", "path"): "http://h/invocations"}
    for text, overrides in (("budget: 3", {("target", "rat"): 2}), ("target: {path: m.onnx, rat: 3}", {})):
        with pytest.raises(SpecError, match=r"unknown key 'target\.rat'; did you mean 'rate'"):
            load(tmp_path, text, {**overrides, **address})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("target:\n  url: http://h/invocations\n  rat: 3", r"line 3: unknown key 'target\.rat'; did you mean 'rate'"),
        ("target:\n  url: http://h/invocations\n  headers: hunter2", r"line 3: target\.headers: [^']*dictionary$"),
        ("target:\n  url: http://h/invocations\n  auth_env: [hunter2]", r"line 3: target\.auth_env: [^']*string$"),
        ("target:\n  url: http://h/invocations\n  concurrency: many", r"line 3: .*integer.*'many'"),
        ("target:\n  url: http://h/invocations\n  device: cpu", r"unknown key 'target\.device'"),
        ("target: {}", r"'target\.path' is missing"),
        ("target: 3", "target"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_no_secret(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        load(tmp_path, text)
    assert "hunter2" not in str(caught.value)


def test_values_that_cannot_be_are_refused_when_the_target_is_made(tmp_path: Path) -> None:
    target = load(tmp_path, "target: {url: 'http://h/invocations', rate: -1}")
    with pytest.raises(InputError, match="rate=-1"):
        made(target)
    assert isinstance(load(tmp_path, "target: {path: model.pt}"), TargetSpec)


def test_audit_and_forecast_of_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    x = rows_of(24)
    for side, part in (("members", slice(12)), ("nonmembers", slice(12, 24))):
        np.savez(tmp_path / f"{side}.npz", x=x[part].numpy(), y=truth(x[part]).numpy())
    given = ["--members", f"{tmp_path}/members.npz", "--nonmembers", f"{tmp_path}/nonmembers.npz", "--attacks", "gap"]
    keys = ["--set", "target.classes=3", "--set", "target.batch_rows=5", "--set", "target.price_per_row=0.01"]
    with Faulty() as server:
        asked = cli("forecast", "--target", server.url, *given, *keys)
        assert asked.exit_code == 0, asked.output
        assert "costs 0.40 to 0.40 without retries" in asked.output
        done = cli("audit", "--target", server.url, *given, *keys, "--out", f"{tmp_path}/run", "-q")
        assert done.exit_code == 0, done.output
        record = json.loads((tmp_path / "run" / "record.json").read_text())
        assert record["target"]["protocol"] == "tensorflow" and record["target"]["batch_rows"] == 5
        for name in ("again", "again"):  # the second time from the first one's journal
            words = ["audit", "--target", server.url, *given, *keys, "--out", f"{tmp_path}/{name}", "--overwrite"]
            again = cli(*words)
            assert again.exit_code == 0, again.output
        said = " ".join(again.output.split())
        assert "40 of these labels were in the journal, 0 were asked for now" in said
        server.faults = ["500"] * 999
        failed = cli("audit", "--target", server.url, *given, *keys, "--set", "target.retries=0")
        assert failed.exit_code == 3
        assert "answered 500" in failed.output and "run it again to go on" in failed.output


def test_recorded_answers_from_a_file(tmp_path: Path) -> None:
    x = rows_of(24)
    y = truth(x).tolist()
    lines = [f"{i},{','.join(map(repr, x[i].tolist()))},{y[i]}" for i in range(24)]
    header = "id,a,b,c,label"
    (tmp_path / "members.csv").write_text("\n".join([header, *lines[:12]]))
    (tmp_path / "nonmembers.csv").write_text("\n".join([header, *lines[12:]]))
    (tmp_path / "rows.csv").write_text("\n".join([header, *lines]))
    (tmp_path / "ids.csv").write_text("\n".join(["id,label", *[f"{i},{label}" for i, label in enumerate(y)]]))
    np.savez(tmp_path / "rows.npz", x=x.numpy(), y=np.array(y))
    given = ["--members", f"{tmp_path}/members.csv", "--nonmembers", f"{tmp_path}/nonmembers.csv", "--attacks", "gap"]
    for name in ("rows.csv", "ids.csv", "rows.npz"):
        done = cli("audit", "--target", str(tmp_path / name), *given, "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["ledger"]["rows"] > 24
    for name, text, says in (
        ("ids.csv", "id,label\n0,1\n0,2\n", "1 ids are there twice"),
        ("ids.csv", "id,label\n77,1\n78,2\n", "none of its 2 ids"),
        ("rows.csv", "a,b,c\n0,0,0\n", "need labels"),
    ):
        (tmp_path / name).write_text(text)
        refused = cli("audit", "--target", str(tmp_path / name), *given)
        assert refused.exit_code == 2 and says in refused.output


@pytest.mark.parametrize(
    ("amount", "written"),
    [(0.0, "0.00"), (0.001, "0.0010"), (0.0000234, "0.000023"), (0.099, "0.099"), (0.1, "0.10"), (4321.5, "4,321.50")],
)
def test_a_small_price_is_not_written_as_nothing(amount: float, written: str) -> None:
    assert money(amount) == written
