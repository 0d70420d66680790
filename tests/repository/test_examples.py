"""Examples run as they stand, skeletons of plug-ins work, pictures are what their scripts draw."""

from __future__ import annotations

import ast
import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import labelleaks as ll
from labelleaks.core import registry
from labelleaks.testing import check_attack, check_dataset, check_domain, check_plugin, check_target, check_threshold

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "AUC" in done.stdout


class Pipeline:
    """Marks and answers of an image-classification pipeline."""

    __module__ = "transformers.pipelines.base"
    task = "image-classification"

    def __init__(self, task: str, model: str) -> None:
        self.model = nn.Linear(1, 2)
        self.model.config = SimpleNamespace(id2label={0: "cat", 1: "dog"}, num_labels=2)  # type: ignore[assignment]

    def __call__(self, pictures: list[Any], batch_size: int) -> list[list[dict[str, Any]]]:
        dogs = [float(np.mean(picture) > 127.5) for picture in pictures]
        return [[{"label": "dog", "score": dog}, {"label": "cat", "score": 1 - dog}] for dog in dogs]


def test_the_recipe_for_a_pipeline_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of docs/targets.md as it stands, with a stand-in for transformers."""
    text = (Path(__file__).parents[2] / "docs" / "targets.md").read_text()
    recipe = re.search(r"## A Hugging Face image classifier.*?```python\n(.*?)```", text, re.DOTALL)
    assert recipe
    transformers = ModuleType("transformers")
    transformers.pipeline = Pipeline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    levels = np.random.default_rng(0).integers(80, 180, 40)
    pictures = [Image.fromarray(np.full((6, 6, 3), level, dtype=np.uint8)) for level in levels]
    labels = ["dog" if level > 127.5 else "cat" for level in levels]
    names: dict[str, Any] = {"pictures_m": pictures[:20], "labels_m": labels[:20]}
    names |= {"pictures_n": pictures[20:], "labels_n": labels[20:]}
    exec(recipe[1], names)
    assert (names["record"]["gap"].scores == 1).all()


def test_the_domain_of_the_docs_keeps_the_contract_and_is_audited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of docs/domains.md as it stands."""
    text = (Path(__file__).parents[2] / "docs" / "domains.md").read_text()
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found
    module = ModuleType("likert")
    monkeypatch.setitem(sys.modules, "likert", module)
    exec(found[1], module.__dict__)
    likert = module.Likert()
    check_domain(likert, (20,))
    x = np.random.default_rng(0).integers(1, 6, (24, 20)).astype(np.float32)
    y = (x.mean(1) > 3).astype(int)
    record = ll.audit(
        lambda rows: (rows.mean(1) > 3).astype(int),
        members=(x[:12], y[:12]), nonmembers=(x[12:], y[12:]), domain=likert, budget=40, show_progress=False,
    )  # fmt: skip
    assert list(record.attacks) == ["gap", "noise", "boundary"] and record.domain == {"kind": "likert", "points": 5}
    says = "search='surfree' needs a continuous domain, such as Box, not Likert: "
    assert says in text
    with pytest.raises(ll.InputError, match=says):
        ll.audit(
            lambda rows: rows[:, 0], members=(x, y), nonmembers=(x, y), domain=likert, show_progress=False,
            attacks=[ll.attacks.Boundary(search="surfree")],
        )  # fmt: skip


ROOT = Path(__file__).parents[2]
SKELETONS = ROOT / "examples" / "skeletons"
WRITTEN_ABROAD = sorted([*SKELETONS.glob("*.py"), *(ROOT / "examples" / "plugin").rglob("*.py")])
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


KINDS: dict[str, tuple[registry.PluginKind, str]] = {
    "attack": ("attacks", "attack:Yours"),
    "target": ("targets", "target:Yours"),
    "domain": ("domains", "domain:Yours"),
    "dataset": ("datasets", "dataset:CARD"),
    "threshold": ("thresholds", "threshold:Yours"),
}


@pytest.fixture(autouse=True)
def skeletons_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skeletons are modules of their own, as in a package; they are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(SKELETONS))
    for name in KINDS:
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_there_is_one_of_each_kind() -> None:
    assert {path.stem for path in SKELETONS.glob("*.py")} == set(KINDS)
    for name in KINDS:
        assert f"examples/skeletons/{name}.py" in PAGE


@pytest.mark.parametrize("name", KINDS)
def test_a_skeleton_has_what_a_plugin_has_to_have(name: str) -> None:
    check_plugin(*KINDS[name])


@pytest.mark.parametrize("case", ["vector", "image", "binary", "mixed"])
def test_the_attack(case: str) -> None:
    share = {"binary": 1.0, "mixed": 1.0}.get(case, 0.3)  # halfway there and rounded: some features change
    check_attack(registry.load("attacks", "attack:Yours")(share=share), case)


def test_the_target() -> None:
    rows = torch.rand(30, 6, generator=torch.Generator().manual_seed(1))
    check_target(lambda: registry.load("targets", "target:Yours")(3.0), rows)


def test_the_domain() -> None:
    check_domain(registry.load("domains", "domain:Yours")(2.0), (3, 8, 8))


def test_the_data_set(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    table = np.concatenate([draw.integers(0, 2, (100, 8)), draw.integers(0, 3, (100, 1))], 1)
    np.savetxt(tmp_path / "people.csv", table, delimiter=",", fmt="%d", header="a,b,c,d,e,f,g,h,label", comments="")
    check_dataset(registry.load("datasets", "dataset:CARD"), folder=tmp_path)


def test_the_rule() -> None:
    check_threshold(registry.load("thresholds", "threshold:Yours")())


def test_they_work_together() -> None:
    x = torch.rand(60, 4, generator=torch.Generator().manual_seed(2)) * 2 - 1
    y = np.where(x.sum(1) > 0, "above", "below")
    record = ll.audit(
        registry.load("targets", "target:Yours")(0.0),
        members=(x[:10], y[:10]),
        nonmembers=(x[10:20], y[10:20]),
        shadow=(x[20:], y[20:]),
        domain=registry.load("domains", "domain:Yours")(1.0),
        attacks=["attack:Yours"],
        thresholds=["threshold:Yours"],
        budget=10,
    )
    assert list(record.attacks) == ["yours"] and record.target["kind"] == "yours"


def _documented() -> dict[str, set[str]]:
    """The table of docs/plugins.md: the names that a package is said to export; none where it is told in words."""
    lines = re.findall(r"^\| `(labelleaks[a-z_.]*)` \| (.*) \|$", PAGE, re.MULTILINE)
    return {package: set(re.findall(r"`(\w+)`", names)) for package, names in lines}


def test_public_names_for_authors_are_pinned() -> None:
    """What the page says is there; core and testing, which are for authors, export nothing else."""
    named = {package: names for package, names in _documented().items() if names}
    assert len(named) == 5
    for package, names in named.items():
        module = importlib.import_module(package)
        assert names <= set(module.__all__), package
        assert all(getattr(module, name) is not None for name in names)
        assert set(dir(module)) >= names
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            module.nothing  # noqa: B018
    for package in ("labelleaks.core", "labelleaks.testing"):
        assert set(importlib.import_module(package).__all__) == named[package]


def _imports(path: Path) -> set[tuple[str, str]]:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {(str(node.module), alias.name) for alias in node.names}
    return {(module, name) for module, name in imported if module.split(".")[0] == "labelleaks"}


@pytest.mark.parametrize("path", WRITTEN_ABROAD, ids=lambda path: path.stem)
def test_an_example_imports_only_what_is_documented(path: Path) -> None:
    documented = _documented()
    for module, name in _imports(path):
        package = f"{module}.{name}" if f"{module}.{name}" in documented else module
        assert package in documented, f"{package} is not among the packages of docs/plugins.md"
        if package == module and name:
            assert name in importlib.import_module(module).__all__, f"{module} does not export {name}"
            assert not documented[module] or name in documented[module], f"docs/plugins.md does not name {name}"
    private = re.findall(r"\b(?:ll|labelleaks|oracle|candidates|knowledge|setting|domain)\._[a-z]\w*", path.read_text())
    assert private == []


PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


@pytest.mark.parametrize("script", sorted(PICTURES.glob("*.py")), ids=lambda path: path.stem)
def test_the_picture_is_what_its_script_draws(script: Path) -> None:
    """After a change of a constant that a picture shows: run the script again."""
    drawn = runpy.run_path(str(script))["picture"]()
    assert script.with_suffix(".svg").read_text(encoding="utf-8") == drawn
