"""What the architecture looks like from outside: ``python -m tests.structure``.

Prints the packages and modules at the top of ``src/labelleaks``, its floors (packages that import one another in a
row), files that import each other in a circle, and how many files are tracked and generated. Reads the sources with
``ast``; nothing is imported.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Import", "circles", "generated_files", "graph_of", "imports_of", "longest_chain", "modules_of", "reached",
           "tops_of", "tracked_files"]  # fmt: skip

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "labelleaks"
Graph = Mapping[str, Set[str]]
"""Whoever imports -> whom it imports."""


@dataclass(frozen=True)
class Import:
    """One import, absolute: ``from ..metrics import auc`` in ``p.a.b`` is of module ``p.metrics``, name ``auc``."""

    module: str
    name: str
    """what is taken from the module; "" for all of it"""
    line: int
    only_types: bool
    """whether it stands under ``if TYPE_CHECKING``"""


def modules_of(root: Path) -> dict[str, Path]:
    """Return the modules of the package in ``root`` by their dotted name; a package's own is its ``__init__``."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = (root.name, *path.relative_to(root).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports_of(source: str, package: str, modules: Iterable[str]) -> Iterator[Import]:
    """Yield the imports in ``source`` from any of ``modules``, wherever they stand.

    ``import_module("...")`` with a constant counts as an import.

    Args:
        package: dotted name of the package that the source lies in, from where relative imports start.
        modules: dotted names; ``from package import module`` is an import of that module.
    """
    known = frozenset(modules)
    for node, only_types in _marked(ast.parse(source), False):
        for module, name in _named(node, package):
            whole = f"{module}.{name}" if f"{module}.{name}" in known else module
            if whole in known:
                yield Import(whole, "" if whole != module else name, getattr(node, "lineno", 0), only_types)


def _marked(node: ast.AST, only_types: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it stands under ``if TYPE_CHECKING``."""
    yield node, only_types
    if isinstance(node, ast.If) and "TYPE_CHECKING" in (getattr(node.test, "id", ""), getattr(node.test, "attr", "")):
        for child in node.body:
            yield from _marked(child, True)
        for child in node.orelse:
            yield from _marked(child, only_types)
        return
    for child in ast.iter_child_nodes(node):
        yield from _marked(child, only_types)


def _named(node: ast.AST, package: str) -> list[tuple[str, str]]:
    """(module, name) of each thing that a node imports."""
    if isinstance(node, ast.Import):
        return [(alias.name, "") for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        parts = package.split(".")
        base = parts[: len(parts) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        return [(module, alias.name) for alias in node.names]
    if isinstance(node, ast.Call) and "import_module" in (getattr(node.func, "attr", ""), getattr(node.func, "id", "")):
        return [(arg.value, "") for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return []


def graph_of(root: Path, *, types: bool) -> dict[str, set[str]]:
    """Return which module of the package in ``root`` imports which others of it.

    The front, the package's own ``__init__``, is left out: it names everything and imports on demand.

    Args:
        types: whether imports for types alone count.
    """
    modules = modules_of(root)
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        found = imports_of(path.read_text(encoding="utf-8"), package, modules)
        graph[module] = {one.module for one in found if types or not one.only_types} - {module, root.name}
    del graph[root.name]
    return graph


def tops_of(graph: Graph) -> dict[str, set[str]]:
    """Return the same between the packages, and modules, at the top of the package."""

    def top(module: str) -> str:
        return module.split(".")[1]

    found: dict[str, set[str]] = {top(module): set() for module in graph}
    for module, imported in graph.items():
        found[top(module)] |= {top(other) for other in imported} - {top(module)}
    return found


def circles(graph: Graph) -> list[list[str]]:
    """Return the sets of nodes that all reach one another, sorted."""
    reach = {node: reached(node, graph) for node in graph}
    found = {frozenset(other for other in reach[node] if node in reach.get(other, ())) for node in graph}
    return sorted(sorted(circle) for circle in found if len(circle) > 1)


def reached(node: str, graph: Graph) -> set[str]:
    """Return all that a node imports, directly or not; itself only where it stands in a circle."""
    found: set[str] = set()
    todo = [node]
    while todo:
        new = graph.get(todo.pop(), set()) - found
        found |= new
        todo += new
    return found


def longest_chain(graph: Graph) -> list[str]:
    """Return the longest chain of imports, whoever imports nothing first. A circle stands in it as one node."""
    of = {node: "+".join(circle) for circle in circles(graph) for node in circle}
    whole: dict[str, set[str]] = {}
    for node, imported in graph.items():
        name = of.get(node, node)
        whole.setdefault(name, set()).update({of.get(other, other) for other in imported} - {name})
    chains: dict[str, list[str]] = {}

    def chain(node: str) -> list[str]:
        if node not in chains:
            below = [chain(other) for other in sorted(whole.get(node, ()))]
            chains[node] = [*max(below, key=len, default=[]), node]
        return chains[node]

    return max(map(chain, sorted(whole)), key=len, default=[])


def tracked_files(root: Path = ROOT) -> list[str]:
    """Return the files that git tracks in the checkout at ``root``."""
    return [name for name in _git(root, "", "ls-files", "-z").split("\0") if name]


def generated_files(root: Path = ROOT) -> list[str]:
    """Return those of them that .gitattributes calls ``linguist-generated``."""
    told = _git(root, "\0".join(tracked_files(root)), "check-attr", "-z", "--stdin", "linguist-generated").split("\0")
    return [name for name, value in zip(told[0::3], told[2::3], strict=False) if value in ("set", "true")]


def _git(root: Path, given: str, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, input=given, capture_output=True, text=True, check=True)
    return done.stdout


def report() -> Iterator[tuple[str, int, str]]:
    """Yield (what is counted, count, words)."""
    files, with_types = (graph_of(SOURCE, types=types) for types in (False, True))
    tops = sorted(tops_of(files).keys() - {"__main__"})
    packages = [name for name in tops if (SOURCE / name).is_dir()]
    modules = [name for name in tops if name not in packages]
    chain = longest_chain(tops_of(files))
    yield "packages at the top", len(packages), ", ".join(packages)
    yield "modules at the top", len(modules), ", ".join(modules)
    yield "floors: packages that import one another in a row", len(chain), " < ".join(chain)
    for words, graph in (
        ("circles of packages", tops_of(files)),
        ("circles of files", files),
        ("circles of files, imports for types alone counted", with_types),
    ):
        yield words, len(circles(graph)), "; ".join(map(" - ".join, circles(graph)))
    yield "longest chain of files", len(longest_chain(files)), " < ".join(longest_chain(files))
    yield "tracked files", len(tracked_files()), ""
    yield "generated ones among them", len(generated_files()), ""


def main() -> None:
    for what, count, words in report():
        print(f"{count:5,}  {what}{': ' if words else ''}{words}")  # noqa: T201


if __name__ == "__main__":
    main()
