"""Do two commits leave the same bytes, and does the newer one read what the older one made?

    python -m benchmarks.same_bytes                      the commit before the new layout against this working tree
    python -m benchmarks.same_bytes OLD NEW              any two commits
    python -m benchmarks.same_bytes --keep FOLDER        keep what OLD made outside the repository, and use it again
    python -m benchmarks.same_bytes --only demo,guided   some cases

Both run in processes of their own, with one thread and the same interpreter; the cases are in ``cases.py``. First every
artefact of every case is compared: record, ledger, arrays (scores among them), candidates, report, decisions, rows of a
grid; run.json is not, since it holds times. Then NEW goes on from what OLD left: runs are loaded and written again,
journals replayed, kept reference models and stages of a grid used. What is meant to differ is in
``compare.ON_PURPOSE``; any other difference is shown with its place and both values, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.same_bytes.cases import CASES, FOLDERS, JOURNALS
from benchmarks.same_bytes.compare import ARTEFACTS, Difference, differences
from benchmarks.tables import markdown

ROOT = Path(__file__).parents[2]
BEFORE = "bd58244"
"""The last commit before the new layout."""


@dataclass(frozen=True)
class Tree:
    """One commit, checked out."""

    name: str
    folder: Path

    def run(self, *arguments: str | Path) -> None:
        """Run ``child.py`` with the labelleaks of this commit."""
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        path = os.pathsep.join((str(self.folder / "src"), str(ROOT)))
        environment = os.environ | one | {"PYTHONPATH": path, "SAME_BYTES_TREE": str(self.folder)}
        with tempfile.TemporaryDirectory() as cache:
            command = [sys.executable, "-m", "benchmarks.same_bytes.child", *map(str, arguments)]
            subprocess.run(command, env=environment | {"LABELLEAKS_CACHE": cache}, cwd=cache, check=False)


@contextmanager
def checkout(commit: str | None) -> Iterator[Tree]:
    """A commit in a working tree of its own; None: this one."""
    if commit is None:
        yield Tree("working tree", ROOT)
        return
    name = _git("rev-parse", "--short", f"{commit}^{{commit}}")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder).resolve() / "tree"
        _git("worktree", "add", "--detach", str(tree), name)
        try:
            yield Tree(name, tree)
        finally:
            _git("worktree", "remove", "--force", str(tree))


def make(tree: Tree, folder: Path, cases: Sequence[str]) -> None:
    """Run cases in ``folder``, but for those that are there, made by the same commit, cases and libraries."""
    stamp = _stamp(tree.name)
    missing = [case for case in cases if not _made(folder / case, stamp)]
    for case in missing:
        if (folder / case).exists() and not (folder / case / "kept").exists():
            sys.exit(f"{folder / case} is not of this script: give --keep a folder of its own")
        shutil.rmtree(folder / case, ignore_errors=True)
    print(f"{tree.name}: {', '.join(missing) or 'nothing to run'}", flush=True)
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        tree.run("run", folder, *missing)
    for case in missing:
        if _ended(folder / case):
            (folder / case / "kept" / "done").write_text(stamp)


def first_part(old: Path, new: Path, cases: Sequence[str]) -> list[str]:
    """Compare every artefact of every case; print the table; return what nobody meant."""
    wrong: list[str] = []
    lines, told = [], []
    for case in cases:
        if not (_ended(old / case) and _ended(new / case)):
            wrong.append(f"{case}: did not run to its end")
            lines.append([case, *["failed" if not _ended(new / case) else "failed in OLD"] * len(ARTEFACTS)])
            continue
        found = differences(case, old / case, new / case)
        lines.append([case, *[_cell(found, artefact, new / case) for artefact in ARTEFACTS]])
        told += _told(case, found)
        wrong += [f"{case}: {one}" for one in found if not one.reason]
    print("\n" + markdown(["case", *ARTEFACTS], lines) + "".join(f"\n{line}" for line in told), flush=True)
    return wrong


def second_part(tree: Tree, old: Path, new: Path, again: Path, cases: Sequence[str]) -> list[str]:
    """Let NEW read what OLD made, and go on from it; print the table; return what nobody meant."""
    runs = [case for case in cases if (old / case / "record.json").exists()]
    tree.run("load", old, again / "loaded", *runs)
    kept = [case for case in cases if case in JOURNALS or case in FOLDERS]
    for case in kept:
        shutil.copytree(old / case / "kept", again / case / "kept", ignore=shutil.ignore_patterns("done", "rows.sent"))
    before = {case: _files(again / case / "kept" / FOLDERS.get(case, "none")) for case in kept}
    if kept:
        tree.run("run", again, *kept)
    wrong: list[str] = []
    lines, told = [], []
    for case in runs:
        found = differences(case, again / "loaded" / case, new / case)
        found = [one for one in found if one.artefact != "other"]
        lines.append([f"run of {case}", "loaded and written again", _verdict(found)])
        told += _told(f"run of {case}", found)
        wrong += [f"run of {case}: {one}" for one in found if not one.reason]
    for case in kept:
        what, fault = _used(case, again / case / "kept", before[case])
        found = differences(case, again / case, new / case) if _ended(again / case) else []
        verdict = _verdict(found) if _ended(again / case) else "failed"
        lines.append([f"{FOLDERS.get(case, 'journal')} of {case}", what, verdict])
        told += _told(f"again {case}", found)
        wrong += [f"again {case}: {one}" for one in found if not one.reason]
        wrong += [f"again {case}: {what}"] * fault + [f"again {case}: failed"] * (verdict == "failed")
    print("\n" + markdown(["made by OLD", "in NEW", "artefacts"], lines) + "".join(f"\n{line}" for line in told))
    return wrong


def _used(case: str, kept: Path, before: dict[str, tuple[int, int]]) -> tuple[str, bool]:
    """What a later run did beyond using what was kept, and whether that is too much."""
    if case in JOURNALS:
        file = kept / "rows.sent"
        sent = int(file.read_text()) if file.exists() else -1
        return f"replayed, {sent} rows sent", not 0 <= sent <= JOURNALS[case]
    after = _files(kept / FOLDERS[case])
    written = [name for name, state in after.items() if before.get(name) != state]
    shown = f" ({', '.join(written[:3])})" if written else ""
    return f"{len(before)} files used, {len(written)} written{shown}", bool(written) or not before


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Files of a folder, with what changes when one is written again."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def _cell(found: Sequence[Difference], artefact: str, folder: Path) -> str:
    here = [one for one in found if one.artefact == artefact]
    if here:
        return _verdict(here)
    runs = (folder / "record.json").exists()
    others = {path.name for path in folder.glob("*") if path.is_file()}
    others -= {"record.json", "arrays.npz", "candidates.csv", "report.html", "run.json"}
    return "same" if (others if artefact == "other" else runs) else "–"


def _verdict(found: Sequence[Difference]) -> str:
    if not found:
        return "same"
    unmeant = sum(not one.reason for one in found)
    return f"DIFFERS ({unmeant})" if unmeant else "on purpose"


def _told(case: str, found: Sequence[Difference], most: int = 3) -> list[str]:
    """The first differences that nobody meant of each artefact; of those that were meant one for each reason."""
    told = []
    for artefact in ARTEFACTS:
        here = [one for one in found if one.artefact == artefact and not one.reason]
        told += [f"{case}: {one}" for one in here[:most]]
        told += [f"{case}: {len(here) - most} more differences in {artefact}"] * (len(here) > most)
    for reason in dict.fromkeys(one.reason for one in found if one.reason):
        here = [one for one in found if one.reason == reason]
        told.append(f"{case}: {len(here)} times on purpose, {reason}; first: {here[0]}")
    return told


def _stamp(commit: str) -> str:
    """What decides the bytes of a case: commit, libraries, and the cases themselves but for layout and comments."""
    here = Path(__file__).parent
    texts = [ast.dump(ast.parse((here / name).read_text())) for name in ("cases.py", "worlds.py")]
    versions = [f"{name} {version(name)}" for name in ("torch", "numpy", "scikit-learn")]
    return hashlib.sha256("\n".join([commit, sys.version, *versions, *texts]).encode()).hexdigest()


def _ended(folder: Path) -> bool:
    return (folder / "kept" / "done").exists()


def _made(folder: Path, stamp: str) -> bool:
    return _ended(folder) and (folder / "kept" / "done").read_text() == stamp


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", nargs="?", default=BEFORE, help=f"a commit; default: {BEFORE}")
    parser.add_argument("new", nargs="?", help="a commit; default: this working tree")
    parser.add_argument("--keep", type=Path, help="folder for what OLD makes, used again where it is there")
    parser.add_argument("--only", help=f"cases, comma separated, of {', '.join(CASES)}")
    arguments = parser.parse_args()
    cases = tuple(CASES if arguments.only is None else arguments.only.split(","))
    if unknown := set(cases) - set(CASES):
        parser.error(f"unknown cases {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        old = work / "old" if arguments.keep is None else arguments.keep.resolve()
        old_tree, new_tree = (stack.enter_context(checkout(which)) for which in (arguments.old, arguments.new))
        make(old_tree, old, cases)
        make(new_tree, work / "new", cases)
        wrong = first_part(old, work / "new", cases)
        wrong += second_part(new_tree, old, work / "new", work / "again", cases)
    print(f"\n{len(wrong)} differences that nobody meant" if wrong else "\nThe same, but for what is meant.")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
