"""Who may import whom: a package imports from those before it in ``ORDER``, and no two files import each other.

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
ORDER = (
    "errors",
    "metrics",
    "engine",
    "core",
    "inputs",
    "targets",
    "models",
    "attacks",
    "auditing",
    "data",
    "defenses",
    "experiments",
    "testing",
    "cli",
    "__main__",
)
"""The packages, each of which may import those before it."""
FORBIDDEN = {  # beyond the order: (importer, imported), the longest name that fits
    ("attacks", "targets"): "an attack sees a target through the oracle only",
    ("attacks", "inputs"): "an attack sees candidates",
    ("attacks", "core.oracle.journal"): "an attack sees a target through the oracle only",
    ("metrics", "engine"): "metrics are pure functions of numbers",
    ("auditing.report", "auditing.evaluation"): "a report reads a record and computes nothing",
    ("auditing.report", "metrics"): "a report reads a record and computes nothing",
    ("auditing.thresholds", "auditing.evaluation"): "a threshold is fitted without the truth",
}
ONLY_TYPES = {("auditing.report", "metrics"), ("auditing.report", "auditing.evaluation")}
"""Where classes may be named all the same."""
LONGEST_CHAIN = 10
"""Packages that import one another in a row, at most."""


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
    """Yield (module below labelleaks, name, line) for each import; ``package`` is where relative imports start."""
    for node in _running(ast.parse(source)):
        found: list[tuple[str, str]] = []
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found = [(module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            found = [(arg.value, "") for arg in node.args if isinstance(arg, ast.Constant)]
        for module, name in found:
            whole = f"{module}.{name}" if _is_module(f"{module}.{name}") else module
            if whole.startswith("labelleaks.") and not whole.startswith("labelleaks.__"):
                yield whole.removeprefix("labelleaks."), "" if whole != module else name, node.lineno


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split(".")[1:])
    return name.startswith("labelleaks.") and (path.is_dir() or path.with_suffix(".py").is_file())


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def violations(importer: str, source: str, package: str) -> list[str]:
    """Return what the module ``importer`` imports and may not, one sentence each."""
    broken = []
    here = importer.split(".")[0]
    for imported, name, line in imports_of(source, package):
        place = f"{importer}, line {line}"
        there = imported.split(".")[0]
        if there not in ORDER:
            broken.append(f"{place}: {there!r} has no place in ORDER of {Path(__file__).name}")
        elif ORDER.index(there) > ORDER.index(here):
            broken.append(
                f"{place}: {here!r} imports {there!r}, which comes after it; only earlier ones may be imported"
            )
        for (who, what), why in FORBIDDEN.items():
            if not (_within(importer, who) and _within(imported, what)):
                continue
            if (who, what) not in ONLY_TYPES:
                broken.append(f"{place}: {who!r} may not import {what!r}: {why}")
            elif not name[:1].isupper():
                broken.append(f"{place}: {who!r} may import classes of {what!r} only, not {name or 'all of it'!r}")
    return broken


def _sources() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        if relative != Path("__init__.py"):  # the front: it names everything and imports on demand
            found.append((".".join(relative.with_suffix("").parts).removesuffix(".__init__"), path))
    return found


def _package(path: Path) -> str:
    return ".".join(["labelleaks", *path.relative_to(ROOT).parts[:-1]])


@pytest.mark.parametrize(("module", "path"), [pytest.param(*s, id=s[0]) for s in _sources()])
def test_imports_keep_the_order(module: str, path: Path) -> None:
    broken = violations(module, path.read_text(encoding="utf-8"), _package(path))
    assert not broken, "\n".join(broken)


def _graph() -> dict[str, set[str]]:
    return {
        module: {imported for imported, _, _ in imports_of(path.read_text(encoding="utf-8"), _package(path))} - {module}
        for module, path in _sources()
    }


def test_no_circles_between_files() -> None:
    try:
        graphlib.TopologicalSorter(_graph()).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"files import each other in a circle: {' -> '.join(error.args[1])}")


def test_no_chain_of_packages_is_long() -> None:
    packages: dict[str, set[str]] = {}
    for module, imported in _graph().items():
        here = module.split(".")[0]
        packages.setdefault(here, set()).update({other.split(".")[0] for other in imported} - {here})
    chain: dict[str, list[str]] = {}
    for package in graphlib.TopologicalSorter(packages).static_order():
        chain[package] = [package, *max((chain[p] for p in packages.get(package, ())), key=len, default=[])]
    longest = max(chain.values(), key=len)
    assert len(longest) <= LONGEST_CHAIN, " -> ".join(longest)


def test_the_top_holds_packages_only() -> None:
    top = {p.name for p in ROOT.iterdir() if p.suffix == ".py"}
    assert top == {"__init__.py", "__main__.py", "errors.py"}


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("attacks.new", "from labelleaks.auditing.evaluation import evaluate", "imports 'auditing'"),
        ("attacks.new", "from labelleaks.auditing import record", "imports 'auditing'"),
        ("attacks.new", "import labelleaks.targets.module", "may not import 'targets'"),
        ("attacks.new", "def late():\n    from labelleaks.auditing.flags import Flag", "imports 'auditing'"),
        ("attacks.new", "import importlib\nimportlib.import_module('labelleaks.auditing.flags')", "imports 'auditing'"),
        ("attacks.new", "from ..auditing.evaluation import evaluate", "imports 'auditing'"),
        ("attacks.new", "from labelleaks.core.oracle import journal", "may not import 'core.oracle.journal'"),
        ("auditing.report.charts", "from labelleaks.metrics import auc", "classes of 'metrics' only, not 'auc'"),
        (
            "auditing.report.charts",
            "from labelleaks.metrics import ranking",
            "classes of 'metrics' only, not 'all of it'",
        ),
        ("core.domains", "from labelleaks.models.training import Recipe", "imports 'models'"),
        ("core.types", "from labelleaks.novelty import x", "'novelty' has no place"),
    ],
)
def test_a_wrong_import_is_seen(module: str, source: str, says: str) -> None:
    assert [says in sentence for sentence in violations(module, source, "labelleaks.attacks")] == [True]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.types", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from labelleaks.cli.main import x"),
        ("core.types", "import typing\nif typing.TYPE_CHECKING:\n    import labelleaks.cli.main"),
        ("attacks.new", "from labelleaks.core.oracle.ledger import SETUP\nfrom labelleaks.attacks.gap import Gap"),
        (
            "auditing.report.charts",
            "from labelleaks.metrics import Estimate\nfrom labelleaks.auditing.record import load",
        ),
        ("auditing.api", "from labelleaks import __version__"),
    ],
)
def test_a_right_import_is_let_through(module: str, source: str) -> None:
    assert violations(module, source, "labelleaks") == []
