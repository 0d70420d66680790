"""Tasks, their results and progress as plain data, and the protocol of engines."""

from __future__ import annotations

import hashlib
import importlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from labelleaks import errors
from labelleaks.errors import EngineError, LabelLeaksError

__all__ = ["Done", "Engine", "Failure", "Note", "Result", "Shared", "Task", "Watch", "perform"]

Note = Callable[[str, int], None]
"""Progress: (what, how many more of it)."""


@dataclass(frozen=True, eq=False)
class Shared:
    """Data that many tasks share. An engine passes it to each of its processes once, however many tasks name it."""

    arrays: Mapping[str, Tensor] = field(default_factory=dict)
    thing: Any = None
    """A live object besides, a user's target for example: it stays in this process, or is pickled for a cluster."""
    name: str = "shared"
    """For messages."""
    kept: bool = True
    """Whether a worker keeps it for its next tasks."""

    @cached_property
    def key(self) -> str:
        """Hash of the arrays' content; something unique where there is a live object."""
        if self.thing is not None:
            return uuid.uuid4().hex
        digest = hashlib.blake2b(digest_size=16)
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {tuple(array.shape)} {array.dtype} ".encode())
            digest.update(np.ascontiguousarray(array.detach().cpu().numpy()).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Result:
    """Result of a task."""

    value: Any = None
    """JSON types."""
    arrays: Mapping[str, Tensor] = field(default_factory=dict)
    """On the CPU."""


class Watch(Protocol):
    """Receiver of a task's progress."""

    def note(self, what: str, count: int) -> None:
        """``count`` more of ``what``: rows answered in a phase, a finished stage."""
        ...

    def part(self, share: float) -> None:
        """Report the share of the task that is done, above 0, at most 1."""
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """A piece of work. The same task gives the same result, bytes and all, wherever it is done, on like machines."""

    work: str
    """``labelleaks.module:function`` of (spec, shared by name, watch) that returns a Result."""
    spec: Mapping[str, Any]
    """JSON types."""
    shared: Mapping[str, Shared] = field(default_factory=dict)
    threads: int = 1
    """Threads of torch; a library may sum up in another order with others."""
    name: str = "task"
    """For messages."""

    @property
    def plain(self) -> bool:
        """Whether it holds no live object."""
        return all(shared.thing is None for shared in self.shared.values())


Done = Callable[[int, Result], None]
"""Called with a task's position and its result as soon as it is there, one call at a time."""


@runtime_checkable
class Engine(Protocol):
    """Runner of tasks. A context: what it starts is gone when it is left. May be entered again, also while open."""

    @property
    def name(self) -> str: ...

    @property
    def workers(self) -> int:
        """Tasks of one thread that it does at a time."""
        ...

    def run(self, tasks: Sequence[Task], *, note: Note | None = None, done: Done | None = None) -> list[Result]:
        """Do all tasks, in any order; return their results in the order of the tasks.

        Args:
            note: told of progress, the same totals whoever does the tasks.
            done: told of each result when it is there, so that an interrupted run keeps it.

        Raises:
            LabelLeaksError: what the first task to fail raised, as it raised it: the others are ended, not waited for.
            EngineError: a process was lost too often.
            InputError: a live object cannot be passed to where the task would be done.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return what run.json says: JSON types."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def perform(work: str, spec: Mapping[str, Any], shared: Mapping[str, Shared], threads: int, watch: Watch) -> Result:
    """Do a task in this process, with its own number of threads."""
    module, _, function = work.partition(":")
    if module.partition(".")[0] != "labelleaks":
        raise EngineError(f"{work} is no work of labelleaks")
    run = getattr(importlib.import_module(module), function)
    with _threads(threads):
        result: Result = run(spec, shared, watch)
    return result


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)


@dataclass(frozen=True)
class Failure:
    """An error that labelleaks raised on purpose, as plain data: it crosses to another process and is raised there."""

    kind: str
    message: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: LabelLeaksError) -> Failure:
        return cls(type(error).__name__, str(error), tuple(getattr(error, "__notes__", ())))

    def error(self) -> LabelLeaksError:
        """Return it as what it was; a kind that is not in :mod:`labelleaks.errors` as its nearest of those."""
        kind = getattr(errors, self.kind, LabelLeaksError) if self.kind in errors.__all__ else LabelLeaksError
        error: LabelLeaksError = kind(self.message)
        for text in self.notes:
            error.add_note(text)
        return error
