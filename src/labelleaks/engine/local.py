"""The local engine: this process and helper processes take tasks from one queue.

Several tasks with a thread each are done faster than one after the other with all threads. There are as many processes
as torch has threads (``torch.set_num_threads``, ``OMP_NUM_THREADS``), or as many as asked for; helpers start only where
they save more than their own start costs. A task that holds a live object (a user's target) is done in this process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import safetensors.torch
import torch

from labelleaks.engine.helper import place
from labelleaks.engine.task import Done, Failure, Note, Result, Task, perform
from labelleaks.errors import EngineError, LabelLeaksError

__all__ = ["WORTH_HELP", "Local"]

WORTH_HELP = 20.0
"""Seconds of work left, at most, below which no helper is started; it takes a few to start."""

_STDERR = "stderr.txt"


class Local:
    """The engine of this machine.

    Args:
        processes: this one among them; None: as many as torch has threads.
        eager: start helpers at once: the work is known to be worth it.
    """

    name = "local"

    def __init__(self, processes: int | None = None, *, eager: bool = False) -> None:
        self._processes = processes
        self._eager = eager

    @property
    def workers(self) -> int:
        """Processes."""
        return torch.get_num_threads() if self._processes is None else self._processes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}

    def run(self, tasks: Sequence[Task], *, note: Note | None = None, done: Done | None = None) -> list[Result]:
        """See :meth:`labelleaks.engine.Engine.run`. A helper that dies is an error: it is this machine that is short
        of something."""
        with _Helpers(tasks, self.workers - 1, note, done) as helpers:
            if self._eager:
                helpers.hire()
            while (index := helpers.next()) is not None:
                task = tasks[index]
                watch = _Here(helpers, note)
                helpers.keep(index, perform(task.work, task.spec, task.shared, task.threads, watch))
            helpers.wait()
            return [helpers.results[i] for i in range(len(tasks))]


class _Here:
    """Watches a task in this process: how long it takes tells whether help is worth its start."""

    def __init__(self, helpers: _Helpers, note: Note | None) -> None:
        self._helpers, self._note, self._began = helpers, note, time.monotonic()

    def note(self, what: str, count: int) -> None:
        self._helpers.check()
        if self._note is not None:
            self._note(what, count)

    def part(self, share: float) -> None:
        self._helpers.consider((time.monotonic() - self._began) / share)


class _Helpers:
    """The helpers of one call of :meth:`Local.run`."""

    def __init__(self, tasks: Sequence[Task], most: int, note: Note | None, done: Done | None) -> None:
        self.results: dict[int, Result] = {}
        self._tasks, self._most, self._note, self._done = tasks, most, note, done
        self._waiting = deque(range(len(tasks)))
        self._threads: list[threading.Thread] = []
        self._processes: list[subprocess.Popen[str]] = []
        self._errors: list[LabelLeaksError] = []
        self._decided = False
        self._one_at_a_time = threading.Lock()

    def __enter__(self) -> _Helpers:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.clear()
        for process in self._processes:
            process.kill()
        for thread in self._threads:
            thread.join()
        if self._processes:
            self._folder.cleanup()

    def next(self) -> int | None:
        """Take the next task for this process."""
        self.check()
        try:
            return self._waiting.popleft()
        except IndexError:  # nobody waits, or somebody else was faster
            return None

    def _last(self) -> int | None:
        """Take the last task, for a helper, unless it holds a live object."""
        try:
            index = self._waiting.pop()
        except IndexError:
            return None
        if self._tasks[index].plain:
            return index
        self._waiting.append(index)
        return None

    def keep(self, index: int, result: Result) -> None:
        """Take in a result."""
        with self._one_at_a_time:
            self.results[index] = result
            if self._done is not None:
                self._done(index, result)

    def consider(self, seconds: float) -> None:
        """Hire where the tasks that wait, at ``seconds`` each at most, are worth it; raise what went wrong so far."""
        self.check()
        if not self._decided:
            self._decided = True
            if seconds * len(self._waiting) >= WORTH_HELP:
                self.hire()

    def hire(self) -> None:
        """Start helpers: one for each task that will wait for this process, as many as there may be."""
        self._decided = True
        count = min(self._most, len(self._waiting))
        if count < 1 or not sys.executable or not all(self._tasks[i].plain for i in self._waiting):
            return
        self._folder = tempfile.TemporaryDirectory(prefix="labelleaks-")
        for shared in {s.key: s for i in self._waiting for s in self._tasks[i].shared.values()}.values():
            arrays = {name: array.detach().cpu().contiguous() for name, array in shared.arrays.items()}
            safetensors.torch.save_file(arrays, place(Path(self._folder.name), shared.key))
        for _ in range(count):
            process = self._start()
            self._processes.append(process)
            self._threads.append(threading.Thread(target=self._feed, args=(process,), daemon=True))
            self._threads[-1].start()

    def wait(self) -> None:
        """Wait for the helpers' last tasks."""
        for thread in self._threads:
            thread.join()
        self.check()

    def check(self) -> None:
        """Raise what went wrong with a helper."""
        if self._errors:
            raise self._errors[0]

    def _start(self) -> subprocess.Popen[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        program = "from labelleaks.engine import helper; helper.main()"
        with (Path(self._folder.name) / _STDERR).open("a") as stderr:
            return subprocess.Popen(
                [sys.executable, "-c", program, self._folder.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
            )

    def _feed(self, process: subprocess.Popen[str]) -> None:
        """Give one helper tasks until none waits; runs in a thread of its own."""
        assert process.stdin is not None and process.stdout is not None
        try:
            while not self._errors and (index := self._last()) is not None:
                self.keep(index, self._give(index, process.stdin, process.stdout))
        except LabelLeaksError as error:
            self._errors.append(error)
        except (OSError, ValueError):  # its pipe is broken, or ended in the middle of a line
            self._errors.append(_died(process, Path(self._folder.name) / _STDERR))
        finally:
            with suppress(OSError):
                process.stdin.close()
            process.stdout.close()
            process.wait()

    def _give(self, index: int, requests: IO[str], answers: IO[str]) -> Result:
        task, out = self._tasks[index], Path(self._folder.name) / f"result-{index}.safetensors"
        shared = {name: shared.key for name, shared in task.shared.items()}
        asked = {"work": task.work, "spec": dict(task.spec), "shared": shared, "threads": task.threads, "out": str(out)}
        requests.write(json.dumps(asked) + "\n")
        requests.flush()
        while True:
            kind, *content = json.loads(answers.readline())
            if kind == "note":
                if self._note is not None:
                    self._note(*content)
            elif kind == "failed":
                raise Failure(*content).error()
            else:
                value, has_arrays = content
                arrays = safetensors.torch.load_file(out) if has_arrays else {}
                out.unlink(missing_ok=True)
                return Result(value, arrays)


def _died(process: subprocess.Popen[str], stderr: Path) -> EngineError:
    last = stderr.read_text("utf-8", "replace").strip().rpartition("\n")[2]
    return EngineError(
        f"a helper process died (exit code {process.wait()}{': ' if last else ''}{last}); where memory was short, "
        "fewer processes need less: --threads 1 (torch.set_num_threads(1)), --jobs 1 of a grid"
    )
