"""The skeletons of plug-ins work as they stand, and no example looks behind what is documented."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import labelleaks as ll
from labelleaks.core import registry
from labelleaks.testing.conformance import check_attack
from labelleaks.testing.datasets import check_dataset
from labelleaks.testing.domains import check_domain
from labelleaks.testing.plugins import check_plugin
from labelleaks.testing.targets import check_target
from labelleaks.testing.thresholds import check_threshold

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
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
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


def _imports(path: Path) -> set[tuple[str, str]]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(str(node.module), alias.name) for alias in node.names}
    return {(module, name) for module, name in found if module.split(".")[0] == "labelleaks"}


@pytest.mark.parametrize("path", WRITTEN_ABROAD, ids=lambda path: path.stem)
def test_an_example_imports_only_what_is_documented(path: Path) -> None:
    documented = set(re.findall(r"^\| `(labelleaks[a-z_.]*)` \|", PAGE, re.MULTILINE))
    assert len(documented) > 8
    for module, name in _imports(path):
        module_of_name = f"{module}.{name}"
        home = module_of_name if importlib.util.find_spec(module) and module_of_name in documented else module
        assert home in documented, f"{home} is not among the modules of docs/plugins.md"
        assert not any(part.startswith("_") for part in [*module.split("."), name])
        public = getattr(importlib.import_module(module), "__all__", None)
        assert home != module or not name or public is None or name in public, f"{module} does not export {name}"
    private = re.findall(r"\b(?:ll|labelleaks|oracle|candidates|knowledge|setting|domain)\._[a-z]\w*", path.read_text())
    assert private == []
