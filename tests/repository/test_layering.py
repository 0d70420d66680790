"""Who may import whom: a package imports from those before it in ``ORDER``, and no two files import each other.

So an attack cannot reach membership, and a report cannot compute. Imports under ``if TYPE_CHECKING`` are exempt;
imports inside functions and ``importlib.import_module("labelleaks. ...")`` are not.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import labelleaks
from tests import structure
from tests.structure import Import, circles, generated_files, graph_of, imports_of, longest_chain, modules_of, tops_of

ROOT = Path(labelleaks.__file__).parent
MODULES = modules_of(ROOT)
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


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def violations(importer: str, source: str, package: str) -> list[str]:
    """Return what the module ``importer`` imports and may not, one sentence each."""
    broken = []
    here = importer.split(".")[0]
    for one in imports_of(source, package, MODULES):
        imported, name, place = one.module.removeprefix("labelleaks."), one.name, f"{importer}, line {one.line}"
        if one.only_types or one.module == "labelleaks":
            continue
        there = imported.split(".")[0]
        if ORDER.index(there) > ORDER.index(here):
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
    """All but the front, which names everything and imports on demand."""
    return [(name.removeprefix("labelleaks."), path) for name, path in MODULES.items() if name != "labelleaks"]


def _package(path: Path) -> str:
    return ".".join(["labelleaks", *path.relative_to(ROOT).parts[:-1]])


def test_every_package_has_a_place() -> None:
    assert set(ORDER) == set(tops_of(graph_of(ROOT, types=False))), f"add it to ORDER of {Path(__file__).name}"


@pytest.mark.parametrize(("module", "path"), [pytest.param(*s, id=s[0]) for s in _sources()])
def test_imports_keep_the_order(module: str, path: Path) -> None:
    broken = violations(module, path.read_text(encoding="utf-8"), _package(path))
    assert not broken, "\n".join(broken)


def test_no_circles_between_files() -> None:
    assert circles(graph_of(ROOT, types=False)) == []


def test_no_chain_of_packages_is_long() -> None:
    longest = longest_chain(tops_of(graph_of(ROOT, types=False)))
    assert len(longest) <= LONGEST_CHAIN, " < ".join(longest)


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


FILES = {
    "__init__.py": "from p.high import door",
    "low.py": "import torch",
    "middle/__init__.py": "from p.middle.a import one",
    "middle/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.high import door\n"
    "else:\n    from p import low\n",
    "middle/b.py": "from .a import one\nfrom .. import low",
    "high/__init__.py": "",
    "high/door.py": "def late():\n    from p.middle import b, one\nimport importlib\nimportlib.import_module('p.low')",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).write_text(content)
    return tmp_path / "p"


def test_modules_have_their_dotted_names(root: Path) -> None:
    assert list(modules_of(root)) == ["p", "p.high", "p.high.door", "p.low", "p.middle", "p.middle.a", "p.middle.b"]


def test_imports_are_found_wherever_they_stand() -> None:
    source = "from .b import x\nfrom . import b\nimport p.c\nfrom q import z\nif typing.TYPE_CHECKING:\n    import p.a"
    assert list(imports_of(source, "p.a", ["p.a", "p.a.b", "p.c"])) == [
        Import("p.a.b", "x", 1, False),
        Import("p.a.b", "", 2, False),
        Import("p.c", "", 3, False),
        Import("p.a", "", 6, True),
    ]


def test_the_graph_with_and_without_imports_for_types(root: Path) -> None:
    plain = {
        "p.low": set(),
        "p.middle": {"p.middle.a"},
        "p.middle.a": {"p.low"},
        "p.middle.b": {"p.middle.a", "p.low"},
        "p.high": set(),
        "p.high.door": {"p.middle", "p.middle.b", "p.low"},
    }
    assert graph_of(root, types=False) == plain
    assert graph_of(root, types=True) == plain | {"p.middle.a": {"p.low", "p.high.door"}}
    assert tops_of(plain) == {"low": set(), "middle": {"low"}, "high": {"middle", "low"}}


def test_circles_and_chains(root: Path) -> None:
    plain, typed = graph_of(root, types=False), graph_of(root, types=True)
    assert circles(plain) == [] and longest_chain(tops_of(plain)) == ["low", "middle", "high"]
    assert circles(typed) == [["p.high.door", "p.middle", "p.middle.a", "p.middle.b"]]
    assert longest_chain(typed) == ["p.low", "p.high.door+p.middle+p.middle.a+p.middle.b"]
    assert circles({"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"c"}, "e": {"a", "c"}}) == [["a", "b"], ["c", "d"]]
    assert longest_chain({}) == []


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_generated_files_are_those_that_are_marked_and_tracked(tmp_path: Path) -> None:
    for name in ("a.py", "rows/a b.jsonl", "rows/new.jsonl", "rows/kept.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".gitattributes").write_text("rows/* linguist-generated\nrows/kept.md -linguist-generated\n")
    for words in (["init", "-q"], ["add", "a.py", "rows/a b.jsonl", "rows/kept.md"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert generated_files(tmp_path) == ["rows/a b.jsonl"]
    assert structure.tracked_files(tmp_path) == ["a.py", "rows/a b.jsonl", "rows/kept.md"]


needs_checkout = pytest.mark.skipif(
    not (structure.ROOT / ".git").exists() or shutil.which("git") is None, reason="needs a checkout"
)


@needs_checkout
def test_what_is_generated_is_marked_and_stays_little() -> None:
    generated = set(generated_files())
    made = {name for name in structure.tracked_files() if name.endswith((".jsonl", ".svg"))}
    assert made <= generated, "mark them in .gitattributes"
    assert len(generated) <= 100


@needs_checkout
def test_the_report_counts_this_package(capsys: pytest.CaptureFixture[str]) -> None:
    structure.main()
    told = capsys.readouterr().out
    assert "errors" in told and "circles of files" in told and "tracked files" in told
