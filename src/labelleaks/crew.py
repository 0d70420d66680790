"""Many small trainings at once: this process and helper processes take them from one list, each with one thread.

Several models with a thread each are trained faster than one after the other with all threads, and their bytes do not
depend on who trained them or on how many threads there are. There are as many processes as torch has threads
(``torch.set_num_threads``, ``OMP_NUM_THREADS``); helpers start only where they save more than their own start costs.

A helper is a fresh interpreter that gets a folder with the rows, and jobs as lines of JSON. So it never imports the
user's script, and trains only families that have a name.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from torch import Tensor, nn

from labelleaks import models
from labelleaks.errors import InputError, LabelLeaksError
from labelleaks.modelfile import Training
from labelleaks.training import Epoch, Recipe, train

__all__ = ["Job", "serve", "train_all"]

WORTH_HELP = 20.0
"""Seconds of training left, at most, below which no helper is started; it takes a few to start."""

_ROWS = "rows.safetensors"
_SAID = "stderr.txt"


@dataclass(eq=False)
class Job:
    """One model to train."""

    module: nn.Module
    """Untrained; trained in place."""
    seed: int
    training: Training | None = field(default=None, init=False)
    """What it took, once it is trained."""


def train_all(jobs: Sequence[Job], x: Tensor, y: Tensor, recipe: Recipe, *, family: str | None, classes: int) -> None:
    """Train every job's module on (x, y).

    Args:
        family: its name, where it has one: then one thread a model on a CPU. None: one model after the other, as torch
            is set.
        classes: number of outputs of the modules.

    Raises:
        InputError: training diverged. LabelLeaksError: a helper process died.
    """
    if family is None or x.device.type != "cpu":
        for job in jobs:
            _train(job, x, y, recipe)
        return
    waiting = deque(jobs)
    helpers = torch.get_num_threads() - 1
    with _one_thread(), _Crew(waiting, helpers, x, y, recipe, family, classes) as crew:
        while (own := _next(waiting)) is not None:
            _train(own, x, y, recipe, crew.consider)
        crew.wait()


def _train(job: Job, x: Tensor, y: Tensor, recipe: Recipe, consider: Callable[[float], None] | None = None) -> None:
    """Train one; after each epoch, ``consider`` is told the seconds that the whole training takes at most."""
    began = time.monotonic()
    epochs = 0

    def note(epoch: Epoch) -> None:
        nonlocal epochs
        epochs = epoch.number
        if consider is not None:
            consider((time.monotonic() - began) / epochs * recipe.epochs)

    train(job.module, x, y, recipe, seed=job.seed, progress=note)
    job.training = Training(len(x), epochs, round(time.monotonic() - began, 3))


def _next(waiting: deque[Job], *, last: bool = False) -> Job | None:
    try:
        return waiting.pop() if last else waiting.popleft()
    except IndexError:  # nobody waits, or somebody else was faster
        return None


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Crew:
    """Helpers of one call of :func:`train_all`. Nobody is hired before it is known to be worth it."""

    def __init__(
        self, waiting: deque[Job], most: int, x: Tensor, y: Tensor, recipe: Recipe, family: str, classes: int
    ) -> None:
        self._waiting, self._most, self._rows = waiting, most, (x, y)
        self._about = {"family": family, "shape": list(x.shape[1:]), "classes": classes, "recipe": asdict(recipe)}
        self._threads: list[threading.Thread] = []
        self._processes: list[subprocess.Popen[str]] = []
        self._errors: list[LabelLeaksError] = []
        self._decided = False

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.clear()
        for process in self._processes:
            process.kill()
        for thread in self._threads:
            thread.join()
        if self._processes:
            self._folder.cleanup()

    def consider(self, seconds: float) -> None:
        """Hire where the jobs that wait, at ``seconds`` each at most, are worth it; raise what went wrong so far."""
        self._raise()
        if self._decided:
            return
        self._decided = True
        count = min(self._most, len(self._waiting))
        if count < 1 or seconds * len(self._waiting) < WORTH_HELP or not sys.executable:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="labelleaks-")
        x, y = self._rows
        safetensors.torch.save_file({"x": x.contiguous(), "y": y.contiguous()}, Path(self._folder.name) / _ROWS)
        for _ in range(count):
            process = self._start()
            self._processes.append(process)
            self._threads.append(threading.Thread(target=self._feed, args=(process,), daemon=True))
            self._threads[-1].start()

    def wait(self) -> None:
        """Wait for the helpers' last jobs."""
        for thread in self._threads:
            thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._errors:
            raise self._errors[0]

    def _start(self) -> subprocess.Popen[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        program = "from labelleaks import crew; crew.serve()"
        with (Path(self._folder.name) / _SAID).open("a") as said:
            return subprocess.Popen(
                [sys.executable, "-c", program, self._folder.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=environment,
            )

    def _feed(self, process: subprocess.Popen[str]) -> None:
        """Give one helper jobs until none waits; runs in a thread of its own."""
        assert process.stdin is not None and process.stdout is not None
        try:
            while not self._errors and (job := _next(self._waiting, last=True)) is not None:
                self._give(job, process.stdin, process.stdout)
        except InputError as error:
            self._errors.append(error)
        except (OSError, ValueError):  # its pipe is broken, or ended in the middle of a line
            self._errors.append(_died(process, Path(self._folder.name) / _SAID))
        finally:
            with suppress(OSError):
                process.stdin.close()
            process.stdout.close()
            process.wait()

    def _give(self, job: Job, requests: IO[str], answers: IO[str]) -> None:
        out = Path(self._folder.name) / f"{job.seed}.safetensors"
        requests.write(json.dumps({**self._about, "seed": job.seed, "out": str(out)}) + "\n")
        requests.flush()
        answer = json.loads(answers.readline())
        if "error" in answer:
            raise InputError(answer["error"])
        job.module.load_state_dict(safetensors.torch.load_file(out))
        job.module.eval()
        job.training = Training(**answer)
        out.unlink()


def _died(process: subprocess.Popen[str], said: Path) -> LabelLeaksError:
    last = said.read_text("utf-8", "replace").strip().rpartition("\n")[2]
    return LabelLeaksError(
        f"a process that trained a shadow model died (exit code {process.wait()}{': ' if last else ''}{last}); where "
        "memory was short, torch.set_num_threads(1) trains all of them in this process"
    )


def serve() -> None:
    """Train what standard input asks for, a line of JSON for each model, and answer on standard output."""
    torch.set_num_threads(1)
    rows = safetensors.torch.load_file(Path(sys.argv[1]) / _ROWS)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_serve_one(json.loads(line), rows["x"], rows["y"])) + "\n")
        sys.stdout.flush()


def _serve_one(asked: dict[str, Any], x: Tensor, y: Tensor) -> dict[str, Any]:
    try:
        untrained = models.build(asked["family"], asked["shape"], asked["classes"], seed=asked["seed"])
        job = Job(untrained, asked["seed"])
        _train(job, x, y, Recipe(**asked["recipe"]))
    except InputError as error:
        return {"error": str(error)}
    safetensors.torch.save_file(
        {name: value.contiguous() for name, value in job.module.state_dict().items()}, asked["out"]
    )
    assert job.training is not None
    return asdict(job.training)
