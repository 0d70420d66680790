"""What ``make test-fast`` leaves out carries its mark: tests that kill, failing services, simulated coverage."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py"))
NAMES = {"kill": r"_kill(s|ed)?\b", "fault": r"_faults?\b", "coverage": r"_coverage\b|_interval\w*_covers?\b|_rarely_"}
"""What the name of a file, or of a test with ``coverage``, has in it."""


def _marks(given: ast.AST) -> set[str]:
    """The names behind ``pytest.mark`` in it."""
    return {
        node.attr
        for node in ast.walk(given)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "mark"
    }


def _does(function: ast.FunctionDef) -> set[str]:
    """The marks that what it calls asks for: it sends SIGKILL, or starts a service with a list of faults."""
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute):
            ends = node.attr == "kill" and ast.unparse(node.value) not in ("os", "pytest.mark")  # a process
            found |= {"kill"} if ends or node.attr == "SIGKILL" else set()
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Faulty" and node.args:
            found.add("fault")
    return found


def missing(name: str, source: str) -> Iterator[tuple[str, str]]:
    """Tests of a file, each with a mark that it should carry and does not."""
    tree = ast.parse(source)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    of_all = set().union(*(_marks(node) for node in tree.body if isinstance(node, ast.Assign)), set())
    due = {mark for mark, pattern in NAMES.items() if re.search(pattern, Path(name).stem)}
    for test, function in functions.items():
        if not test.startswith("test_"):
            continue
        used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)} & functions.keys()
        asked = due.union(_does(function), *(_does(functions[helper]) for helper in used))
        if re.search(NAMES["coverage"], test):
            asked.add("coverage")
        carried = of_all.union(*(_marks(decorator) for decorator in function.decorator_list))
        for mark in sorted(asked - carried):
            yield test, mark


@pytest.mark.parametrize("path", FILES, ids=str)
def test_kills_faults_and_coverage_carry_their_marks(path: Path) -> None:
    assert list(missing(path.name, (ROOT / path).read_text(encoding="utf-8"))) == []


def test_a_mark_that_is_missing_is_found() -> None:
    kill = "def test_a(): os.kill(1, signal.SIGKILL)\n"
    helper = "def end(): os.kill(1, signal.SIGKILL)\ndef test_a(): end()\n"
    fault = "def test_a():\n    with Faulty(['500']): pass\n"
    whole = "def test_a():\n    with Faulty(): pass\n"
    assert [list(missing("test_x.py", source)) for source in (kill, helper, fault, whole)] == [
        [("test_a", "kill")],
        [("test_a", "kill")],
        [("test_a", "fault")],
        [],
    ]
    assert list(missing("test_x.py", "pytestmark = [pytest.mark.kill]\n" + helper)) == []
    assert list(missing("test_x.py", "@pytest.mark.fault\n" + fault)) == []
    for name, mark in (("test_coverage.py", "coverage"), ("test_faults.py", "fault"), ("test_replay_kill.py", "kill")):
        assert list(missing(name, "def test_a(): pass\n")) == [("test_a", mark)]
    assert next(missing("test_x.py", "def test_the_interval_of_f1_covers(): pass\n"))[1] == "coverage"


def test_the_fast_tier_leaves_out_every_mark_that_there_is() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    marks = [line.partition(":")[0] for line in settings["markers"]]
    fast = re.search(r"^FAST\s*:= not \((.*)\)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert fast is not None and fast[1].split(" or ") == marks
