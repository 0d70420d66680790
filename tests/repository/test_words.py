"""Words of the code: a name means one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import labelleaks

SOURCE = Path(labelleaks.__file__).parent
SHARED = {
    "Tuning": "each attack's own tuned constants",
}
"""Names that several files define on purpose, and what all of them mean."""


def definitions(module: ast.Module) -> Iterator[str]:
    """Yield the names of the classes and type aliases of a module."""
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id.lstrip("_")[:1].isupper() and not target.id.isupper():
                    yield target.id


def test_a_class_or_type_has_a_name_of_its_own() -> None:
    """Two things of one name make a reader follow imports to know which is meant."""
    found = defaultdict(list)
    for path in sorted(SOURCE.rglob("*.py")):
        for name in definitions(ast.parse(path.read_text(encoding="utf-8"))):
            found[name].append(str(path.relative_to(SOURCE)))
    twice = {name: files for name, files in found.items() if len(files) > 1 and name not in SHARED}
    assert not twice
