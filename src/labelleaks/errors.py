"""Everything that labelleaks raises on purpose.

::

    LabelLeaksError
    ├── InputError (ValueError)        exit 2   something given is wrong; said before an attack spends a query
    │   ├── SpecError                  exit 2   a spec file or a command-line value, with its place
    │   └── NeedsError                 exit 2   an attack lacks knowledge or budget that it cannot do without
    ├── TargetError (RuntimeError)     exit 3   the target raised, or broke its contract in the middle of a run
    ├── BudgetExceeded (RuntimeError)  exit 3   a query would have gone over a budget; nothing was sent
    ├── EngineError (RuntimeError)     exit 3   a process or a machine that did part of a run was lost
    └── MissingExtra (ImportError)     exit 2   an optional dependency is needed and not installed

    DoubtWarning (UserWarning)         a finished audit has a serious flag

A message names the value, the place and the mend, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BudgetExceeded",
    "DoubtWarning",
    "EngineError",
    "InputError",
    "LabelLeaksError",
    "MissingExtra",
    "NeedsError",
    "SpecError",
    "TargetError",
    "in_a_line",
    "nearest",
]


class DoubtWarning(UserWarning):
    """A finished audit has a serious flag: its figures may be about something else than a leak."""


class LabelLeaksError(Exception):
    """Base of all errors that labelleaks raises on purpose."""

    exit_code = 2


class InputError(LabelLeaksError, ValueError):
    """Something that was given cannot be used. Raised before any attack query."""


class SpecError(InputError):
    """A spec file or a command-line value is wrong."""


class NeedsError(InputError):
    """An attack was asked for without the knowledge or the budget that it needs."""


class TargetError(LabelLeaksError, RuntimeError):
    """The target raised, or answered something that is not one label for each row."""

    exit_code = 3


class BudgetExceeded(LabelLeaksError, RuntimeError):
    """A query would have gone over the budget. Nothing of it was sent."""

    exit_code = 3


class EngineError(LabelLeaksError, RuntimeError):
    """A process or a machine that did part of a run was lost; what was finished is kept."""

    exit_code = 3


class MissingExtra(LabelLeaksError, ImportError):
    """An optional dependency is needed. The message names the extra to install."""


def in_a_line(error: BaseException) -> str:
    """Return what a foreign error says, in one line of at most 300 characters; its kind where it says nothing."""
    text = " ".join(str(error).split())
    return (text if len(text) <= 300 else f"{text[:299]}…") or type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of ``known``, or the whole list where none is close."""
    known = sorted(set(known))
    if not known:
        return "; there are none"
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
