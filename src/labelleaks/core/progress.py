"""Progress on standard error: a bar with rate, labels and the time left, and silence where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it brings torch, which no --help waits for
    from labelleaks.engine import Note

__all__ = ["Expect", "meter"]

Expect = Callable[[int], None]
"""Sets the rows expected in all."""


@contextmanager
def meter(wanted: bool | None, unit: str = "labels") -> Iterator[tuple[Note | None, Expect]]:
    """Yield (a function to call with (phase, rows) after each answer, a function that sets the rows expected).

    ``wanted=None`` draws only where standard error is a terminal; nothing is drawn otherwise, and the first is None.
    """
    if wanted is False or (wanted is None and not sys.stderr.isatty()):
        yield None, lambda rows: None
        return

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Units a second; nothing before the first is known."""

        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:,.0f}/s", justify="right")

    columns = (
        TextColumn("{task.description:<26}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn(f"{{task.completed:,.0f}} of at most {{task.total:,.0f}} {unit}"),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1)

        def note(phase: str, rows: int) -> None:
            bar.update(task, advance=rows, description=phase)

        def expect(rows: int) -> None:
            bar.update(task, total=max(rows, 1))

        yield note, expect
