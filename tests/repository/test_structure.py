"""The figures of ``python -m tests.structure``, on trees small enough to count by hand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import structure
from tests.structure import Import, circles, generated_files, graph_of, imports_of, longest_chain, modules_of, tops_of

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
