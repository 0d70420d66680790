"""Progress: a bar at a terminal or in a notebook, lines elsewhere where they are wanted, else silence.

:func:`meter` opens it; whoever works says so with :func:`stage` (something else begins) and :func:`beat` (a part of it
is done), whatever lies between. Both do nothing where no meter is open.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from labelleaks.errors import InputError

if TYPE_CHECKING:  # it brings torch, which no --help waits for
    from labelleaks.engine import Note

__all__ = ["VARIABLE", "Expect", "beat", "listening", "meter", "stage", "teller"]

Expect = Callable[[int], None]
"""Sets the rows expected in all."""

VARIABLE = "LABELLEAKS_PROGRESS"
"""Environment variable: 0 is silence, 1 is progress anywhere; unset: where somebody looks."""

_OFTEN = 0.2  # seconds between two pictures of a bar in a notebook

_listener: ContextVar[Note | None] = ContextVar("progress", default=None)


def stage(what: str) -> None:
    """Say that ``what`` begins."""
    note = _listener.get()
    if note is not None:
        note(what, 0)


def beat() -> None:
    """Say that a part of what is under way is done."""
    note = _listener.get()
    if note is not None:
        note("", 0)


def teller() -> Callable[[str], None]:
    """Return :func:`stage` for another thread: who listens is a matter of the thread that began."""
    note = _listener.get()
    return (lambda what: None) if note is None else (lambda what: note(what, 0))


@contextmanager
def listening(note: Note | None) -> Iterator[None]:
    """Hand stages and beats of this thread to ``note`` for the time: (stage, 0), and ("", 0) for a beat."""
    token = _listener.set(note)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def meter(wanted: bool | None, unit: str = "labels") -> Iterator[tuple[Note | None, Expect]]:
    """Yield (a function to call with (phase, rows) after each answer, a function that sets the rows expected).

    Args:
        wanted: None: as :data:`VARIABLE` says, else where standard error is a terminal or in a notebook. True: where it
            is neither, a line for each stage.
    """
    shown = _shown(wanted, unit)
    if shown is None:
        yield None, lambda rows: None
        return
    with shown as (note, expect), listening(note):
        yield note, expect


def _shown(wanted: bool | None, unit: str) -> AbstractContextManager[tuple[Note, Expect]] | None:
    if wanted is None:
        setting = os.environ.get(VARIABLE, "")
        if setting not in ("", "0", "1"):
            raise InputError(f"{VARIABLE}={setting!r}: 0 is silence, 1 is progress; unset it to decide by the terminal")
        wanted = None if setting == "" else setting == "1"
    if wanted is False:
        return None
    display = _notebook()
    if display is not None:
        return _in_notebook(display, unit)
    if sys.stderr.isatty():
        return _at_terminal(unit)
    return _in_lines() if wanted else None


def _notebook() -> Any:
    """IPython's ``display`` where code runs in a notebook; None elsewhere, a terminal's IPython among it."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if ipython is None or shell is None or "IPKernelApp" not in getattr(shell, "config", {}):
        return None
    return ipython.display.display


@contextmanager
def _at_terminal(unit: str) -> Iterator[tuple[Note, Expect]]:
    """A bar that turns and counts seconds whatever is done: it is drawn by a thread of its own."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Units a second; nothing before the first is known."""

        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:,.0f}/s", justify="right")

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<26}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn(f"{{task.completed:,.0f}} of at most {{task.total:,.0f}} {unit}"),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1)

        def note(phase: str, rows: int) -> None:
            if rows:
                bar.update(task, advance=rows, description=phase)
            elif phase:
                bar.update(task, description=phase)

        def expect(rows: int) -> None:
            bar.update(task, total=max(rows, 1))

        yield note, expect


@contextmanager
def _in_notebook(display: Any, unit: str) -> Iterator[tuple[Note, Expect]]:
    """One line of text under the cell, drawn anew when something is said, and gone at the end."""
    what, done, total = "starting", 0, 1
    began = drawn = time.monotonic()

    def picture() -> dict[str, str]:
        full = round(20 * min(done / total, 1))
        bar = "█" * full + "░" * (20 - full)
        seconds = time.monotonic() - began
        return {"text/plain": f"{what}  {bar}  {done:,} of at most {total:,} {unit}  {seconds:.0f} s"}

    handle = display(picture(), raw=True, display_id=True)

    def note(phase: str, rows: int) -> None:
        nonlocal what, done, drawn
        what, done = phase or what, done + rows
        if time.monotonic() - drawn >= _OFTEN:
            drawn = time.monotonic()
            handle.update(picture(), raw=True)

    def expect(rows: int) -> None:
        nonlocal total
        total = max(rows, 1)

    try:
        yield note, expect
    finally:
        handle.update({"text/plain": ""}, raw=True)


@contextmanager
def _in_lines() -> Iterator[tuple[Note, Expect]]:
    """A line for each stage, for the log of a script."""
    last = ""

    def note(phase: str, rows: int) -> None:
        nonlocal last
        if phase and phase != last:
            last = phase
            sys.stderr.write(f"labelleaks: {phase}\n")

    yield note, lambda rows: None
