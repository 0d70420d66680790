"""Provenance of result rows: version of labelleaks, commit of its code, revision of the attack."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["FIRST", "UNKNOWN", "Made", "commit", "made_by", "words"]

Made = Mapping[str, str]
"""``version`` of labelleaks, ``commit`` of its code."""
UNKNOWN: Made = {"version": "unknown", "commit": "unknown"}
"""Of what was made before rows said it."""
FIRST = 1
"""The revision of every attack when revisions began; stages of it have the keys that they had before."""
_PACKAGE = Path(__file__).parents[1]


def made_by(*also: Path) -> Made:
    """Return the ``version`` and ``commit`` of the code that is running.

    Args:
        also: folders of code that takes part, beside labelleaks itself.
    """
    from labelleaks import __version__

    return {"version": __version__, "commit": commit(_PACKAGE, *also)}


@lru_cache
def commit(*folders: Path) -> str:
    """Return the commit of the checkout that these folders of code lie in, as it was when this was first called.

    12 hexadecimal digits, and "-dirty" where a Python file of theirs differs from it; "unknown" where a folder is not
    tracked (an installed package, no git), or where they belong to several checkouts.
    """
    heads = {_git(folder, "rev-parse", "HEAD") for folder in folders}
    tracked = all(_git(folder, "ls-files", "--error-unmatch", "__init__.py") for folder in folders)
    head = heads.pop()
    if head is None or heads or not tracked:
        return UNKNOWN["commit"]
    changed = (_git(folder, "status", "--porcelain", "--untracked-files=all", "--", "*.py") for folder in folders)
    return head[:12] + ("-dirty" if any(found != "" for found in changed) else "")


def words(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a sentence that says how many of the rows each version and commit has made, most first."""
    counts = Counter((row["version"], row["commit"]) for row in rows)
    makers = [
        f"{count:,} by {_who(*made)}" for made, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    ]
    return f"What made them: {'; '.join(makers)}."


def _who(version: str, commit: str) -> str:
    if (version, commit) == tuple(UNKNOWN.values()):
        return "a commit that is unknown (rows did not say it yet)"
    return f"labelleaks {version} at commit {commit}"


def _git(folder: Path, *words: str) -> str | None:
    """Return the output of a git command; None where it fails, or git is not there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, env=environment, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
