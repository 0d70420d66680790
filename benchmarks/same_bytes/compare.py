"""What differs between two folders of one case: place, both values, and the reason where it was changed on purpose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.same_bytes.cases import MADE_BY

__all__ = ["ARTEFACTS", "ON_PURPOSE", "Difference", "OnPurpose", "differences"]

ARTEFACTS = ("record", "ledger", "arrays", "candidates", "report", "other")
"""Columns of the table. ``ledger`` is that of record.json, ``other`` what a case writes beside a run."""

_FILES = {"record.json": "record", "arrays.npz": "arrays", "candidates.csv": "candidates", "report.html": "report"}
_NOT_COMPARED = "run.json"  # times and host: all that differs between two equal runs
_INSIDE = "record.json"  # the record as text, which rides along in arrays.npz and is compared as itself
_ABSENT = "(not there)"
_NO_PICTURES = r"augmentation needs images, \(C, H, W\).* -> .*augmentation needs images: rows of shape"


@dataclass(frozen=True)
class OnPurpose:
    """A difference that is meant."""

    artefact: str
    """One of ARTEFACTS."""
    where: str
    """Regular expression of the whole place, for example ``\\$\\.schema_version``."""
    reason: str
    case: str = "*"
    """Glob of the case."""
    text: str = ""
    """Regular expression that is found in ``old -> new``."""

    def names(self, case: str, found: Difference) -> bool:
        return (
            self.artefact == found.artefact
            and fnmatch(case, self.case)
            and re.fullmatch(self.where, found.where) is not None
            and re.search(self.text, f"{found.old} -> {found.new}", re.DOTALL) is not None
        )


ON_PURPOSE: tuple[OnPurpose, ...] = (
    OnPurpose(
        "other", rf"\$\[\d+\]\.({'|'.join(MADE_BY)})", "rows of a grid say what made them: version, commit, revision",
        case="grid", text=rf"^({re.escape(_ABSENT)}|\"unknown\") ->",
    ),
    OnPurpose(
        "other", r"bytes|\$\.ledger\..*relabel", case="decisions",
        reason="infer sets an attack up before it fits a threshold: set-up comes first in the ledger, under its name",
    ),
    OnPurpose(
        "record", r"\$\.attacks\[\d+\]\.about", "an attack says in the record what a report says of it",
        text=rf"^{re.escape(_ABSENT)} ->",
    ),
    OnPurpose(
        "other", "bytes", "set-up of an attack comes before that of its thresholds in the order of the ledger",
        case="decisions", text="equal content",
    ),
    *[
        OnPurpose("report", r"piece \d+", "the target's accuracy stands among the first figures", text=text)
        for text in ("style-src 'sha256-", r"repeat\(auto-fit", "The model is right about", "Serious flags, warn")
    ],
    *[
        OnPurpose(artefact, where, "why rows are no pictures is said in other words", case="ladder", text=_NO_PICTURES)
        for artefact, where in (("record", r"\$\.notes\[0\]"), ("report", r"piece \d+"))
    ],
    *[
        OnPurpose("report", r"piece \d+", reason, text=text)
        for reason, text in (
            ("an attack has one colour in every report", r"\bs\d+\b.* -> .*\bs\d+\b|swatch|\.s12\b"),
            ("accuracy first, serious flags counted alone", "wrongly accused|Serious flags|for information"),
            ("flags are called flags", "[Rr]ed flags"),
            ("labels of a journal are told from those asked for", "labels</b>|Nothing else was asked|in the journal"),
        )
    ],
    *[
        OnPurpose(
            "record", rf"\$\.attacks\[\d+\]\.evaluation\.decisions\[\d+\]\.threshold\.{key}",
            "a threshold says which false-positive rate is to be expected, and what is doubtful about it",
            text=rf"^{re.escape(_ABSENT)} ->",
        )
        for key in ("expected_fpr", "doubt")
    ],
    OnPurpose(
        "record", r"\$\.flags.*", text="unreachable_threshold|accusing_threshold|thin_shadow",
        reason="thresholds that hardly a score, or most non-members, can pass are flagged; few shadow rows too",
    ),
)  # fmt: skip
"""What may differ from the commit before the new layout, and why."""


@dataclass(frozen=True)
class Difference:
    """One place where two artefacts are not the same."""

    artefact: str
    file: str
    where: str
    """A JSON path, the name of an array with the first index, or a line."""
    old: str
    new: str
    reason: str = ""
    """Of ON_PURPOSE; empty: nobody meant it."""

    def __str__(self) -> str:
        old, new = _window(self.old, self.new)
        return f"{self.file} {self.where}: {old} -> {new}"


def differences(case: str, old: Path, new: Path) -> list[Difference]:
    """Compare the files of two folders, but for run.json and what lies in their folders."""
    names = {path.name for folder in (old, new) for path in folder.glob("*") if path.is_file()} - {_NOT_COMPARED}
    found = [one for name in sorted(names) for one in _of_file(name, old / name, new / name)]
    meant = [next((known.reason for known in ON_PURPOSE if known.names(case, one)), "") for one in found]
    return [replace(one, reason=reason) for one, reason in zip(found, meant, strict=True)]


def _of_file(name: str, old: Path, new: Path) -> Iterator[Difference]:
    artefact = _FILES.get(name, "other")
    if not (old.exists() and new.exists()):
        yield Difference(artefact, name, "file", *("there" if path.exists() else _ABSENT for path in (old, new)))
        return
    if old.read_bytes() == new.read_bytes():
        return
    compare = {".json": _json, ".npz": _arrays}.get(old.suffix, _lines)
    found = list(compare(old, new))
    if not found and not (compare is _arrays and _carries_its_record(old) and _carries_its_record(new)):
        found = [("bytes", "equal content", "other bytes")]
    for where, before, after in found:
        ledger = artefact == "record" and re.match(r"\$\.ledger\b", where) is not None
        yield Difference("ledger" if ledger else artefact, name, where, before, after)


def _json(old: Path, new: Path) -> Iterator[tuple[str, str, str]]:
    return _values(json.loads(old.read_text("utf-8")), json.loads(new.read_text("utf-8")), "$")


def _values(old: Any, new: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            place = f"{path}.{key}"
            if key in old and key in new:
                yield from _values(old[key], new[key], place)
            else:
                before, after = (json.dumps(side[key]) if key in side else _ABSENT for side in (old, new))
                yield place, before, after
        return
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _values(before, after, f"{path}[{i}]")
        return
    before, after = json.dumps(old), json.dumps(new)
    if before != after:
        yield path, before, after


def _arrays(old: Path, new: Path) -> Iterator[tuple[str, str, str]]:
    with np.load(old) as before, np.load(new) as after:
        for name in dict.fromkeys((*before.files, *after.files)):
            if name == _INSIDE:
                continue
            if name not in before.files or name not in after.files:
                here, there = ("there" if name in side.files else _ABSENT for side in (before, after))
                yield name, here, there
                continue
            a, b = before[name], after[name]
            if (a.dtype, a.shape) != (b.dtype, b.shape):
                yield name, f"{a.dtype}{a.shape}", f"{b.dtype}{b.shape}"
            elif a.tobytes() != b.tobytes():
                width = a.dtype.itemsize
                raw = (np.frombuffer(side.tobytes(), np.uint8).reshape(-1, width) for side in (a, b))
                places = np.flatnonzero((next(raw) != next(raw)).any(1))
                first = int(places[0])
                where = f"{name}[{', '.join(str(i) for i in np.unravel_index(first, a.shape))}]"
                yield where, repr(a.flat[first]), f"{b.flat[first]!r} ({len(places)} of {a.size} differ)"


def _carries_its_record(path: Path) -> bool:
    """Whether the text in arrays.npz is the record.json beside it, where that is compared."""
    with np.load(path) as arrays:
        return _INSIDE in arrays.files and bytes(arrays[_INSIDE]) == path.with_name("record.json").read_bytes()


def _lines(old: Path, new: Path) -> Iterator[tuple[str, str, str]]:
    before, after = (re.split(r"(?<=>)|\n", path.read_text("utf-8")) for path in (old, new))
    least = min(len(before), len(after))
    head = next((i for i in range(least) if before[i] != after[i]), least)
    tail = next((i for i in range(least - head) if before[-1 - i] != after[-1 - i]), least - head)
    a, b = before[head : len(before) - tail], after[head : len(after) - tail]
    for kind, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind != "equal":
            yield f"piece {head + i + 1}", "\n".join(a[i:j]) or _ABSENT, "\n".join(b[k:m]) or _ABSENT


def _window(old: str, new: str, width: int = 90) -> tuple[str, str]:
    """Both values around the first character that differs, on one line."""
    first = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, first - width // 3)
    shown = (" ".join(value[start : start + width].split()) for value in (old, new))
    before, after = (
        f"{'…' if start else ''}{text}{'…' if len(value) > start + width else ''}"
        for text, value in zip(shown, (old, new), strict=True)
    )
    return before, after
