"""Who may import whom: a module imports from lower layers, or within its own without a circle.

So an attack cannot reach membership, and a report cannot compute. Imports under ``if TYPE_CHECKING`` are exempt;
imports inside functions and ``importlib.import_module("labelleaks. ...")`` are not.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import labelleaks

ROOT = Path(labelleaks.__file__).parent
LAYERS: dict[int, tuple[str, ...]] = {
    0: (
        "errors",
        "domain",
        "rng",
        "content",
        "engine",
        "labels",
        "near",
        "progress",
        "querykeys",
        "settings",
        "storage",
        "turns",
    ),
    1: ("types", "traffic", "ledger"),
    2: ("targets", "oracle", "journal", "journalfile", "metrics", "models", "datasets", "inputs", "randaugment"),
    3: ("search", "training", "shadowmodel", "modelfile", "crew"),
    4: ("shadows", "references", "crafting", "guidance", "reading"),
    5: ("attacks", "calibration", "planted", "conformance"),
    6: ("evaluate", "ladder"),
    7: ("flags", "record", "runlog", "decisions", "data", "defenses", "request", "shards"),
    8: ("report", "case", "costs", "planning", "entry", "running", "audit"),
    9: ("experiments",),
    10: (
        "__main__",
        "cli",
        "cliparts",
        "datacli",
        "demo",
        "failif",
        "files",
        "frontdoor",
        "journalcli",
        "probecli",
        "reproducecli",
        "spec",
        "tables",
    ),
}
LAYER = {unit: layer for layer, units in LAYERS.items() for unit in units}
FORBIDDEN = {  # beyond the layers
    "attacks": {"calibration", "targets", "journal"},  # an attack sees a target through the oracle only
    "search": {"targets", "journal"},
    "metrics": {"domain", "rng", "types", "oracle", "targets", "models"},  # pure functions of numbers
}
ONLY_TYPES = {"report": {"metrics", "evaluate"}}
"""A report may name what these define as classes, and call nothing of theirs."""


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Walk everything that can run: all but the bodies of ``if TYPE_CHECKING``."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for other in child.orelse:
                yield from _running(other)
        else:
            yield from _running(child)


def imports_of(source: str, package: str) -> Iterator[tuple[str, str, int]]:
    """Yield (unit, name, line) for each import from labelleaks; ``package`` is where relative imports start."""
    for node in _running(ast.parse(source)):
        found: list[tuple[str, str]] = []
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found = [
                (f"labelleaks.{alias.name}", "") if module == "labelleaks" else (module, alias.name)
                for alias in node.names
            ]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            found = [(arg.value, "") for arg in node.args if isinstance(arg, ast.Constant)]
        for module, name in found:
            parts = module.split(".")
            if parts[0] == "labelleaks" and len(parts) > 1 and not parts[1].startswith("_"):
                yield parts[1], name, node.lineno


def violations(unit: str, source: str, package: str = "labelleaks") -> list[str]:
    """Return what ``unit`` imports and may not, one sentence each."""
    broken = []
    for imported, name, line in imports_of(source, package):
        place = f"{unit}, line {line}"
        if imported == unit:
            continue
        if imported not in LAYER:
            broken.append(f"{place}: {imported!r} has no layer; add it to LAYERS in {Path(__file__).name}")
        elif LAYER[imported] > LAYER[unit]:
            broken.append(
                f"{place}: layer {LAYER[unit]} imports {imported!r} of layer {LAYER[imported]}; "
                "only lower or equal layers may be imported"
            )
        elif imported in FORBIDDEN.get(unit, ()):
            broken.append(f"{place}: {unit!r} may not import {imported!r}")
        elif imported in ONLY_TYPES.get(unit, ()) and not name[:1].isupper():
            broken.append(f"{place}: {unit!r} may import classes of {imported!r} only, not {name or 'all of it'!r}")
    return broken


def _sources() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        if relative != Path("__init__.py"):  # the front: it names everything and imports on demand
            found.append((relative.parts[0].removesuffix(".py"), path))
    return found


def _package(path: Path) -> str:
    return ".".join(["labelleaks", *path.relative_to(ROOT).parts[:-1]])


@pytest.mark.parametrize(("unit", "path"), [pytest.param(*s, id=str(s[1].relative_to(ROOT))) for s in _sources()])
def test_imports_keep_the_layers(unit: str, path: Path) -> None:
    assert unit in LAYER, f"{path.relative_to(ROOT)}: {unit!r} has no layer; add it to LAYERS in {Path(__file__).name}"
    broken = violations(unit, path.read_text(encoding="utf-8"), _package(path))
    assert not broken, "\n".join(broken)


def test_no_circles_between_units() -> None:
    graph: dict[str, set[str]] = {}
    for unit, path in _sources():
        for imported, _, _ in imports_of(path.read_text(encoding="utf-8"), _package(path)):
            if imported != unit:
                graph.setdefault(unit, set()).add(imported)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    ("unit", "source", "says"),
    [
        ("attacks", "from labelleaks.evaluate import evaluate", "'evaluate' of layer 6"),
        ("attacks", "from labelleaks import record", "'record' of layer 7"),
        ("attacks", "import labelleaks.targets.module", "may not import 'targets'"),
        ("attacks", "def late():\n    from labelleaks.flags import Flag", "'flags' of layer 7"),
        ("attacks", "import importlib\nimportlib.import_module('labelleaks.evaluate')", "'evaluate' of layer 6"),
        ("attacks", "from ..evaluate import evaluate", "'evaluate' of layer 6"),
        ("report", "from labelleaks.metrics import auc", "classes of 'metrics' only, not 'auc'"),
        ("report", "from labelleaks import metrics", "classes of 'metrics' only, not 'all of it'"),
        ("domain", "from labelleaks.types import Candidates", "'types' of layer 1"),
        ("oracle", "from labelleaks.novelty import x", "'novelty' has no layer"),
    ],
)
def test_a_wrong_import_is_seen(unit: str, source: str, says: str) -> None:
    package = "labelleaks.attacks" if unit == "attacks" else "labelleaks"
    assert [says in sentence for sentence in violations(unit, source, package)] == [True]


@pytest.mark.parametrize(
    ("unit", "source"),
    [
        ("types", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from labelleaks.oracle import LabelOracle"),
        ("types", "import typing\nif typing.TYPE_CHECKING:\n    import labelleaks.cli"),
        ("attacks", "from labelleaks.oracle import LabelOracle\nfrom labelleaks.attacks.gap import Gap\nimport torch"),
        ("report", "from labelleaks.metrics import Estimate\nfrom labelleaks.record import load"),
        ("entry", "from labelleaks import __version__"),
    ],
)
def test_a_right_import_is_let_through(unit: str, source: str) -> None:
    assert violations(unit, source) == []
