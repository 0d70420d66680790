"""The Ray engine: tasks on a Ray cluster of one machine or many (``pip install 'labelleaks[ray]'``).

What tasks share is put into the cluster's object store once, and fetched once by each worker process. A worker that is
killed costs the task that it was at: Ray does that one again, on another. Nothing else is lost, since a task's result
does not depend on who does it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import torch

from labelleaks.engine import cluster
from labelleaks.engine.task import Done, Failure, Note, Result, Shared, Task
from labelleaks.errors import EngineError, InputError, MissingExtra

__all__ = ["Ray"]

RETRIES = 3
"""How often a task is done again when its worker is lost."""
_LOOK = 0.5
"""Seconds between two looks at the progress."""


class Ray:
    """The engine of a Ray cluster.

    Args:
        address: ``HOST:PORT`` or ``"auto"``; None: a cluster of this machine that starts with the run and ends with it.
            A cluster to which this process is connected already is used and left as it is.
        cpus: CPUs of a cluster that starts with the run; None: all of this machine.
    """

    name = "ray"

    def __init__(self, address: str | None = None, *, cpus: int | None = None) -> None:
        self.address = address
        self._cpus = cpus
        self._ray: Any = None
        self._opened = 0
        self._mine = False
        self._held: dict[str, Any] = {}
        self._board: Any = None
        self._done = 0
        self._runs = 0

    @property
    def workers(self) -> int:
        """CPUs of the cluster; of one that is not open, those that it will have on this machine."""
        return sum(int(node["Resources"].get("CPU", 0)) for node in self._nodes()) or self._of_this_machine

    def __enter__(self) -> Self:
        if self._opened == 0:
            ray = _imported()
            self._mine = not ray.is_initialized()
            if self._mine:
                self._start(ray)
            self._ray = ray
        self._opened += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened -= 1
        if self._opened:
            return
        self._held.clear()
        self._board = None
        ray, self._ray = self._ray, None
        if self._mine:
            ray.shutdown()

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "cpus": self.workers, "nodes": len(self._nodes()), "tasks": self._done}

    def run(self, tasks: Sequence[Task], *, note: Note | None = None, done: Done | None = None) -> list[Result]:
        """See :meth:`labelleaks.engine.Engine.run`."""
        with self:
            self._check_threads(tasks)
            if note is not None and self._board is None:
                self._board = self._ray.remote(num_cpus=0)(cluster.Board).remote()
            self._runs += 1
            running = _Running(self._ray, self._runs, None if note is None else self._board, note, done)
            try:
                for index, task in enumerate(tasks):
                    running.add(index, task.name, self._submit(index, task, running.board))
                results = running.finish()
            except BaseException:
                running.cancel()
                raise
            self._done += len(tasks)
            return [results[i] for i in range(len(tasks))]

    @property
    def _of_this_machine(self) -> int:
        if self._cpus is not None:
            return self._cpus
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def _start(self, ray: Any) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # an audit reports to nobody
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address is None:
            settings |= {"address": "local", "num_cpus": self._of_this_machine, "include_dashboard": False}
        else:
            settings |= {"address": self.address}
        try:
            ray.init(**settings)
        except Exception as error:  # Ray raises all sorts where a cluster does not come up, plain Exception among them
            where = "on this machine" if self.address is None else f"at {self.address!r}"
            raise EngineError(
                f"no Ray cluster {where}: {str(error).splitlines()[0]}; start one with ray start --head and give "
                "--address HOST:PORT, or leave --address out"
            ) from None

    def _nodes(self) -> list[Mapping[str, Any]]:
        return [] if self._ray is None else [node for node in self._ray.nodes() if node["Alive"]]

    def _check_threads(self, tasks: Sequence[Task]) -> None:
        most = max(int(node["Resources"].get("CPU", 0)) for node in self._nodes())
        for task in tasks:
            if task.threads > most:
                raise InputError(
                    f"{task.name}: a task of this run takes {task.threads} threads, and no machine of the cluster has "
                    f"more than {most} CPUs: --threads {max(most, 1)} (torch.set_num_threads)"
                )

    def _submit(self, index: int, task: Task, board: Any) -> Any:
        wanted = {name: (shared.key, [self._put(shared)]) for name, shared in task.shared.items()}
        options = {"num_cpus": task.threads, "max_retries": RETRIES, "name": task.name}
        do = self._ray.remote(cluster.do).options(**options)
        return do.remote((self._runs, index), task.work, dict(task.spec), task.threads, wanted, sys.path, board)

    def _put(self, shared: Shared) -> Any:
        """Return the reference to a content; it goes into the object store the first time only."""
        if shared.key not in self._held:
            arrays = {name: value.detach().cpu().numpy() for name, value in shared.arrays.items()}
            self._held[shared.key] = self._ray.put((arrays, _pickled(shared), shared.name, shared.kept))
        return self._held[shared.key]


class _Running:
    """Tasks under way."""

    def __init__(self, ray: Any, run: int, board: Any, note: Note | None, done: Done | None) -> None:
        self.board = board
        self._ray, self._run, self._note, self._done = ray, run, note, done
        self._waiting: dict[Any, tuple[int, str]] = {}
        self._shown: dict[tuple[int, str], int] = {}

    def add(self, index: int, name: str, reference: Any) -> None:
        self._waiting[reference] = (index, name)

    def finish(self) -> dict[int, Result]:
        """Wait for all of them; results by position."""
        results: dict[int, Result] = {}
        while self._waiting:
            ready, _ = self._ray.wait(list(self._waiting), num_returns=1, timeout=_LOOK)
            if self.board is not None:
                for (run, index), counts in self._ray.get(self.board.take.remote()):
                    if run == self._run:  # not what came too late for the run before
                        self._show(index, counts)
            for reference in ready:
                index, name = self._waiting.pop(reference)
                results[index] = self._result(index, name, reference)
                if self._done is not None:
                    self._done(index, results[index])
        return results

    def cancel(self) -> None:
        """End what still runs."""
        for reference in self._waiting:
            self._ray.cancel(reference, force=True)

    def _result(self, index: int, name: str, reference: Any) -> Result:
        errors = self._ray.exceptions
        try:
            kind, counts, *content = self._ray.get(reference)
        except errors.RayTaskError as error:  # not raised on purpose: a fault of ours, or of a user's attack or target
            cause = error.cause if isinstance(error.cause, BaseException) else error
            raise EngineError(f"{name} failed on a worker: {type(cause).__name__}: {cause}") from error
        except errors.RayError as error:
            raise EngineError(
                f"{name} was lost {RETRIES + 1} times with its worker ({type(error).__name__}); where memory is short, "
                "smaller shards (--shard-rows) or fewer CPUs for each machine (ray start --num-cpus) need less"
            ) from None
        self._show(index, counts)
        if kind == "failed":
            failure, message, notes = content[0]
            raise Failure(failure, message, notes).error()
        value, arrays = content
        return Result(value, {label: torch.from_numpy(array.copy()) for label, array in arrays.items()})

    def _show(self, index: int, counts: Mapping[str, int]) -> None:
        """Pass on what is new in a task's counts; one that is done again is silent until it gets as far."""
        for what, count in counts.items():
            new = count - self._shown.get((index, what), 0)
            if new > 0:
                self._shown[index, what] = count
                if self._note is not None:
                    self._note(what, new)


def _imported() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise MissingExtra("engine 'ray' needs Ray: pip install 'labelleaks[ray]'") from None
    return ray


def _pickled(shared: Shared) -> bytes | None:
    if shared.thing is None:
        return None
    from ray import cloudpickle

    try:
        content: bytes = cloudpickle.dumps(shared.thing)
    except Exception as error:  # whatever somebody's object raises when it is pickled
        raise InputError(
            f"{shared.name} cannot be sent to the workers of a cluster ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no reason given'}): give a function that they can import "
            "(module:function), a torch module, a scikit-learn classifier or an ONNX file, or use engine='local'"
        ) from None
    return content
