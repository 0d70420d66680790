"""Many small trainings at once, by whatever engine does the tasks of a run: each model with one thread.

Several models with a thread each are trained faster than one after the other with all threads, and their bytes do not
depend on who trained them or on how many threads there are. A task names a family and a seed, so only families that
have a name can be trained elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from labelleaks.core import progress
from labelleaks.engine import Engine, Local, Result, Shared, Task, Watch
from labelleaks.models import architectures
from labelleaks.models.checkpoints import Training
from labelleaks.models.training import Epoch, Recipe, train

__all__ = ["Job", "train_all", "train_one"]


@dataclass(eq=False)
class Job:
    """One model to train."""

    module: nn.Module
    """Untrained; trained in place."""
    seed: int
    training: Training | None = field(default=None, init=False)
    """What it took, once it is trained."""


def train_all(
    jobs: Sequence[Job],
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    *,
    family: str | None,
    classes: int,
    engine: Engine | None = None,
) -> None:
    """Train every job's module on (x, y).

    Args:
        family: its name, where it has one: then the engine trains, with one thread a model. None: one model after the
            other, here, as torch is set; as everything that is not on a CPU.
        classes: number of outputs of the modules.
        engine: None: this machine, with as many processes as torch has threads.

    Raises:
        InputError: training diverged. EngineError: a process died.
    """
    tell, count = progress.teller(), len(jobs)
    if family is None or x.device.type != "cpu":
        for place, job in enumerate(jobs, 1):
            tell(f"shadow model {place} of {count}")
            job.training = _train(job.module, x, y, recipe, job.seed)
        return
    rows = Shared({"x": x, "y": y}, name="shadow rows")
    about = {"family": family, "shape": list(x.shape[1:]), "classes": classes, "recipe": asdict(recipe)}
    tasks = [
        Task(
            "labelleaks.models.parallel_training:train_one",
            {**about, "seed": job.seed},
            {"rows": rows},
            name=f"shadow model {place}",
        )
        for place, job in enumerate(jobs)
    ]

    def keep(place: int, result: Result) -> None:
        left.discard(place)
        if left:
            tell(f"shadow model {count - len(left) + 1} of {count}")
        jobs[place].module.load_state_dict(dict(result.arrays))
        jobs[place].module.eval()
        jobs[place].training = Training(**result.value)

    left = set(range(count))
    if left:
        tell(f"shadow model 1 of {count}")
    (Local() if engine is None else engine).run(tasks, done=keep)


def train_one(spec: Mapping[str, Any], shared: Mapping[str, Shared], watch: Watch) -> Result:
    """Build the model of ``spec`` and train it on the shared rows: a task's work."""
    rows, recipe = shared["rows"].arrays, Recipe(**spec["recipe"])
    module = architectures.build(spec["family"], spec["shape"], spec["classes"], seed=spec["seed"])
    assert isinstance(module, nn.Module)
    training = _train(module, rows["x"], rows["y"], recipe, spec["seed"], watch.part)
    return Result(asdict(training), module.state_dict())


def _train(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    seed: int,
    part: Callable[[float], None] | None = None,
) -> Training:
    """Train one; after each epoch, ``part`` is told how much is done at least."""
    began = time.monotonic()
    epochs = 0

    def tell(epoch: Epoch) -> None:
        nonlocal epochs
        epochs = epoch.number
        if part is not None:
            part(epochs / recipe.epochs)

    train(module, x, y, recipe, seed=seed, progress=tell)
    return Training(len(x), epochs, round(time.monotonic() - began, 3))
