"""Words of the code: first sentences of docstrings, and names that mean one thing."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import labelleaks

SOURCE = Path(labelleaks.__file__).parent
Definition = ast.Module | ast.ClassDef | ast.FunctionDef

QUESTIONS = {"how", "what", "whatever", "where", "which", "who", "whoever", "whose", "why"}
"""A first sentence that begins so only announces: it is to be: a noun, or a verb (Return, Ask, Refuse, ...)."""
OF_TORCH = {"extra_repr", "forward"}
PRIVATE_WORDS = {
    "council": "split",
    "crew": "helpers, workers",
    "frontdoor": "from_spec",
    "ground": "start points",
    "guidance": "directions",
    "lead": "perturb",
    "said": "the thing itself: labels, text, reasons",
    "told": "the thing itself: settings, summary",
    "traffic": "remote, requests",
}
"""Words of the project's own that names are not made of, and what to write in their place."""


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def where(path: Path) -> str:
    return str(path.relative_to(SOURCE))


PATHS = sorted(SOURCE.rglob("*.py"))
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def definitions(module: ast.Module) -> Iterator[tuple[str, Definition]]:
    """Yield a module, its classes, functions and methods, with dotted names."""
    yield "", module
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    yield f"{node.name}.{inner.name}", inner


def is_declaration(node: Definition) -> bool:
    """Whether the body is ``...``: a member that a protocol lists."""
    return len(node.body) == 1 and ast.unparse(node.body[0]) == "..."


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def methods_explained() -> set[str]:
    """Names of methods that some class explains: those of a protocol need not be explained by each that has them."""
    return {
        name.rpartition(".")[2]
        for path in PATHS
        for name, node in definitions(parsed(path))
        if "." in name and ast.get_docstring(node)
    }


def test_all_that_is_public_has_a_docstring() -> None:
    explained = methods_explained() | OF_TORCH
    silent = [
        f"{where(path)} {name}"
        for path in PATHS
        for name, node in definitions(parsed(path))
        if is_public(name)
        and not is_declaration(node)
        and not ast.get_docstring(node)
        and name.rpartition(".")[2] not in explained
    ]
    assert not silent


@pytest.mark.parametrize("path", PATHS, ids=where)
def test_first_sentences_are_nouns_or_verbs(path: Path) -> None:
    """``Rows of a file.`` and ``Return the rows.``, not ``What a file holds.``"""
    for name, node in definitions(parsed(path)):
        text = ast.get_docstring(node)
        if text is None:
            continue
        first = re.split(r"\s", text, maxsplit=1)[0].strip(",.:").lower()
        assert first not in QUESTIONS, f"{name}: {text.splitlines()[0]}"


@pytest.mark.parametrize("path", PATHS, ids=where)
def test_names_are_not_made_of_private_words(path: Path) -> None:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.NAME:
            words = set(re.sub(r"([a-z])([A-Z])", r"\1_\2", token.string).lower().split("_"))
            for word in sorted(words & PRIVATE_WORDS.keys()):
                pytest.fail(f"line {token.start[0]}: {token.string}: rather {PRIVATE_WORDS[word]}")


@pytest.mark.parametrize("path", PATHS, ids=where)
def test_parameters_say_what_they_are(path: Path) -> None:
    """``found`` may be a result on its way out of a function; what is handed to one has a name."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef):
            given = {parameter.arg for parameter in (*node.args.args, *node.args.kwonlyargs)}
            assert "found" not in given, f"line {node.lineno}: {node.name}"


SHARED = {
    "Tuning": "each attack's own tuned constants",
}
"""Names that several files define on purpose, and what all of them mean."""


def types_of(module: ast.Module) -> Iterator[str]:
    """Yield the names of the classes and type aliases of a module."""
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id.lstrip("_")[:1].isupper() and not target.id.isupper():
                    yield target.id


def homes(paths: Iterable[Path]) -> dict[str, list[str]]:
    """The files that define each class or type."""
    files: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        for name in types_of(parsed(path)):
            files[name].append(path.name)
    return files


def test_a_class_or_type_has_a_name_of_its_own() -> None:
    """Two things of one name make a reader follow imports to know which is meant."""
    twice = {name: files for name, files in homes(PATHS).items() if len(files) > 1 and name not in SHARED}
    assert not twice


def test_benchmarks_name_their_types_otherwise_than_the_package() -> None:
    ours, theirs = homes(PATHS), homes(sorted(BENCHMARKS.rglob("*.py")))
    assert not ours.keys() & theirs.keys()
    assert not {name: files for name, files in theirs.items() if len(files) > 1}
