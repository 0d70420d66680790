"""Specs: strict YAML whose complaints name file, line, key and the nearest known key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelleaks.cli import from_spec
from labelleaks.cli.spec import AuditSpec, InferSpec, NamedSpec
from labelleaks.cli.spec_file import load_spec, parse_override
from labelleaks.errors import SpecError
from labelleaks.models.training import Recipe


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
