"""Whether an attack's code is as it was when its revision was recorded: ``python -m tests.repository.revisions``.

``revisions.json`` beside this file holds the revision of every attack and a hash of every file that scores are made
in. The command records both as they are now. Docstrings, comments, blank lines, imports and the revision itself are not
in a hash: they change no score.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.structure import ROOT, SOURCE, graph_of, modules_of, reached

__all__ = ["RECORD", "complaints", "digest", "files", "revisions"]

RECORD = Path(__file__).with_name("revisions.json")
APART = ("src/labelleaks/experiments/baselines.py",
         "benchmarks/power/ceilings.py", "benchmarks/power/rivals.py", "benchmarks/rivals.py")  # fmt: skip
"""What scores for the grid and the leaderboard alone."""
_NO_SCORES = (ast.Import, ast.ImportFrom)
_NAMES = {"__all__", "revision", "REVISION", "REVISIONS"}


def files() -> dict[str, Path]:
    """Return the files that scores are made in, by their path in the checkout."""
    attacks = (SOURCE / "attacks").rglob("*.py")
    found = [*(path for path in attacks if path.name != "__init__.py"), *(ROOT / name for name in APART)]
    return {path.relative_to(ROOT).as_posix(): path for path in sorted(found)}


def revisions() -> dict[str, int]:
    """Return the revision of everything that has one."""
    from benchmarks.power import ceilings, rivals

    from labelleaks import attacks
    from labelleaks.experiments import baselines

    found = {name: attacks.load(name).revision for name in attacks.names()}
    found |= {"salt_and_pepper": baselines.SaltAndPepper.revision, **baselines.REVISIONS}
    return found | {"benchmarks.power.ceilings": ceilings.REVISION, "benchmarks.power.rivals": rivals.REVISION}


def digest(source: str) -> str:
    """Hash what of a file's code can change a score: 16 hexadecimal digits, the same under every version of Python."""
    return hashlib.sha256(json.dumps(_plain(ast.parse(source))).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """A syntax tree as JSON types, without what is empty: later versions of Python add fields that are."""
    if isinstance(value, list):
        return [_plain(one) for one in value if not _scores_nothing(one)]
    if isinstance(value, ast.AST):
        found = {name: _plain(child) for name, child in ast.iter_fields(value)}
        return [type(value).__name__, {name: child for name, child in found.items() if child not in (None, [])}]
    return None if value is None else repr(value)


def _scores_nothing(node: Any) -> bool:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(isinstance(one, ast.Name) and one.id in _NAMES for one in targets)
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    typing = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    return docstring or typing or isinstance(node, _NO_SCORES)


def now() -> dict[str, dict[str, Any]]:
    """Return what a record holds: ``revisions`` by attack, ``files`` with their hashes."""
    hashes = {name: digest(path.read_text("utf-8")) for name, path in files().items()}
    return {"revisions": revisions(), "files": hashes}


def complaints(recorded: dict[str, dict[str, Any]], found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield a sentence for everything that is not as it was recorded."""
    record = "run `python -m tests.repository.revisions` to record it"
    for name in sorted(recorded["files"].keys() | found["files"].keys()):
        if recorded["files"].get(name) != found["files"].get(name):
            whose = ", ".join(_made_with(name)) or "no registered attack"
            yield (
                f"{name} is not as it was recorded; used by {whose}: where scores of one can differ, raise its "
                f"`revision` by 1; then {record}"
            )
    for name in sorted(recorded["revisions"].keys() | found["revisions"].keys()):
        was, now = (one["revisions"].get(name) for one in (recorded, found))
        if was != now:
            yield f"{name} has revision {now}, recorded is {was}: {record}"


def _made_with(name: str) -> list[str]:
    """The attacks whose module is this file, or imports it, directly or not."""
    from labelleaks import attacks

    changed = next((module for module, path in modules_of(SOURCE).items() if path == ROOT / name), None)
    graph = {
        module: {other for other in imported if other.startswith("labelleaks.attacks.")}
        for module, imported in graph_of(SOURCE, types=False).items()
    }
    modules = {one: f"labelleaks.attacks.{one}" for one in attacks.names()}
    return [one for one, module in modules.items() if changed in {module, *reached(module, graph)}]


def main() -> None:
    RECORD.write_text(json.dumps(now(), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
