"""Plan a grid and do what is missing of it, world by world; each world in one process, several side by side.

Nobody does a stage twice: what a world's process has finished when it dies is in the store, and whoever does the world
next goes on from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from labelleaks import data
from labelleaks.data import Dataset, LabelLeaksSplit, label_leaks_split
from labelleaks.engine import Engine, Local, Result, Shared, Task, Watch
from labelleaks.errors import InputError, nearest
from labelleaks.experiments.spec import MeasureSpec, Reproduction, StudySpec, load_reproduction
from labelleaks.experiments.stages import Stage, World, stages_of
from labelleaks.experiments.store import Results, Store
from labelleaks.experiments.studies import stages as studies
from labelleaks.experiments.work import Bench, rows_of

__all__ = ["GridPlan", "Options", "WorldPlan", "do_world", "plan", "run", "run_world"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """Options of a run beside its grid; JSON types, so that another process can be given the same."""

    only: tuple[str, ...] | None = None
    """data sets; None: all of the profile's"""
    seeds: int | None = None
    """seeds 1 … this; None: the profile's"""
    source: str | None = None
    """a folder with the data sets' files; None: the cache, else the official source"""
    store: str = ""
    """folder of targets, shadows and scores"""
    out: str = ""
    """folder of results and page"""


@dataclass(frozen=True, eq=False)
class WorldPlan:
    """A world and what it is to be measured with."""

    world: World
    evaluations: tuple[tuple[MeasureSpec, Stage], ...]
    studies: tuple[tuple[StudySpec, Stage], ...] = ()

    def measure_of(self, scores: Stage) -> MeasureSpec | None:
        """Return what a scores stage of this world measures; None for a stage of another kind."""
        return next((m for m, evaluation in self.evaluations if evaluation.needs[0].key == scores.key), None)


@dataclass(frozen=True, eq=False)
class GridPlan:
    """Everything that a run would do."""

    reproduction: Reproduction
    options: Options
    worlds: tuple[WorldPlan, ...]

    @property
    def store(self) -> Store:
        """Store of targets, shadows and scores."""
        return Store(Path(self.options.store))

    @property
    def results(self) -> Results:
        """Committed rows of evaluations."""
        return Results(Path(self.options.out) / "results", self.reproduction.profile)

    @property
    def studies(self) -> Results:
        """Committed rows of studies."""
        return Results(Path(self.options.out) / "studies", self.reproduction.profile)

    def missing(self, of: WorldPlan) -> list[tuple[MeasureSpec | StudySpec, Stage]]:
        """Return the stages of a world that are not finished, each after those that it needs; those that no missing
        evaluation needs are left out."""
        stages: dict[str, tuple[MeasureSpec | StudySpec, Stage]] = {}

        def visit(measure: MeasureSpec | StudySpec, stage: Stage) -> None:
            if stage.key in stages or self.store.has(stage):
                return
            for need in stage.needs:
                visit(measure, need)
            stages[stage.key] = (measure, stage)

        dataset = of.world.dataset
        measured, studied = self.results.keys(dataset), self.studies.keys(dataset)
        for measure, evaluation in of.evaluations:
            if evaluation.key in measured:
                continue
            if self.results.elsewhere(dataset, evaluation) is None:
                for need in evaluation.needs:  # scores, which name all that they need
                    visit(measure, need)
            stages[evaluation.key] = (measure, evaluation)
        for study, stage in of.studies:
            if stage.key in studied:
                continue
            if self.studies.elsewhere(dataset, stage) is None:
                for need in stage.needs:
                    visit(of.measure_of(need) or study, need)
            stages[stage.key] = (study, stage)
        return list(stages.values())


def plan(reproduction: Reproduction, options: Options) -> GridPlan:
    """Say what there is to do. Loads the data sets (a stage is named after their content), trains nothing.

    Raises:
        InputError: an unknown data set in ``only``, or data that are not there.
    """
    grid = reproduction.grid
    for name in options.only or ():
        if name not in grid.worlds:
            raise InputError(f"--only {name}: not in profile {reproduction.profile!r}{nearest(name, grid.worlds)}")
    worlds = []
    for world in _worlds(reproduction, options):
        dataset, digest = load(world.dataset, options.source, world.spec.pixels)
        shadow = len(split_of(world, options.source).shadow)
        worlds.append(WorldPlan(replace(world, images=len(dataset.shape) > 1), ()))
        evaluations = tuple(stages_of(worlds[-1].world, grid.measures, digest, shadow))
        stages = tuple(studies.studies_of(worlds[-1].world, grid.studies, evaluations))
        worlds[-1] = replace(worlds[-1], evaluations=evaluations, studies=stages)
    return GridPlan(reproduction, options, tuple(worlds))


def _worlds(reproduction: Reproduction, options: Options) -> Iterator[World]:
    """All worlds: seed by seed, so that every data set has a first seed before any has a second."""
    grid = reproduction.grid
    for seed in range(1, (options.seeds or grid.seeds) + 1):
        for name, spec in grid.worlds.items():
            if options.only is None or name in options.only:
                for protocol in spec.protocols:
                    if protocol == "authors" and seed > (spec.authors_seeds or seed):
                        continue
                    for size in spec.sizes_of(protocol):
                        yield World(name, size, seed, protocol, spec, False)


@lru_cache(maxsize=2)
def load(name: str, source: str | None, pixels: int | None = None) -> tuple[Dataset, str]:
    """Load a data set, its pictures ``pixels`` a side where that is said, and hash its content."""
    inside = not data.card(name).sets[0].files
    dataset = data.load(name, folder=None if inside else source, size=pixels)
    return dataset, dataset.digest()


@lru_cache(maxsize=4)
def _split(name: str, seed: int, protocol: str, source: str | None, pixels: int | None) -> LabelLeaksSplit:
    return label_leaks_split(load(name, source, pixels)[0], seed=seed, protocol=protocol)  # type: ignore[arg-type]


def split_of(world: World, source: str | None) -> LabelLeaksSplit:
    """Return the parts of a world: targets of one seed and protocol share them."""
    return _split(world.dataset, world.seed, world.protocol, source, world.spec.pixels)


def run(planned: GridPlan, *, jobs: int = 1, engine: Engine | None = None, say: Say = print) -> int:
    """Do everything that is missing; return how many stages that was.

    Args:
        jobs: processes of this machine; each does whole worlds, with one thread.
        engine: who does the worlds, in place of this machine. Its machines need the folders of store, results and data
            at the same place. Results have the same bytes whoever does them.

    Raises:
        InputError: jobs below 1. EngineError: a process died; what it had finished is kept.
    """
    if jobs < 1:
        raise InputError(f"--jobs must be at least 1, got {jobs}")
    todo = [of for of in planned.worlds if planned.missing(of)]
    if engine is None and (jobs == 1 or len(todo) < 2):
        return sum(run_world(planned, of, say=say) for of in todo)
    tasks = [_task(planned, of.world.name) for of in todo]
    with Local(min(jobs, len(todo)), eager=True) if engine is None else engine as doing:
        return sum(result.value for result in doing.run(tasks, note=lambda line, _: say(line)))


def _task(planned: GridPlan, world: str) -> Task:
    home, options = planned.reproduction, planned.options
    source = None if options.source is None else str(Path(options.source).resolve())
    there = replace(options, source=source, store=str(Path(options.store).resolve()))
    there = replace(there, out=str(Path(options.out).resolve()))
    named = {"name": home.name, "profile": home.profile, "folder": str(home.folder.parent.resolve())}
    named["grid"] = home.grid.model_dump_json()  # a plan that is kept is one of this grid
    return Task(
        "labelleaks.experiments.runner:do_world", {"world": world, "of": named, "options": asdict(there)}, name=world
    )


def do_world(spec: Mapping[str, Any], shared: Mapping[str, Shared], watch: Watch) -> Result:
    """Do what is missing of one world: a task's work. Says how many stages that was."""
    planned = _planned(json.dumps([spec["of"], spec["options"]]))
    of = next(of for of in planned.worlds if of.world.name == spec["world"])
    return Result(run_world(planned, of, say=lambda line: watch.note(line, 1)))


@lru_cache(maxsize=1)
def _planned(key: str) -> GridPlan:
    named, options = json.loads(key)
    only = options["only"]
    options["only"] = None if only is None else tuple(only)
    return plan(load_reproduction(named["name"], named["profile"], named["folder"]), Options(**options))


def run_world(planned: GridPlan, of: WorldPlan, *, say: Say) -> int:
    """Do what is missing of one world, in this process, with one thread: bytes do not depend on the machine's cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        missing = planned.missing(of)
        source = planned.options.source
        dataset, _ = load(of.world.dataset, source, of.world.spec.pixels)
        bench = Bench(of.world, dataset, split_of(of.world, source), planned.store)
        for measure, stage in missing:
            began = time.monotonic()
            if isinstance(measure, MeasureSpec) and stage.kind == "evaluation":
                _evaluate(planned, of, measure, stage)
                continue
            if isinstance(measure, StudySpec) and stage.kind == "study":
                rows = planned.studies.elsewhere(of.world.dataset, stage) or [
                    studies.do(bench, stage, measure, of.measure_of(stage.needs[0]))
                ]
                planned.studies.write(of.world.dataset, stage, rows)
            else:
                bench.do(stage, measure)
            say(f"{stage.name}: {time.monotonic() - began:.1f} s")
        return len(missing)
    finally:
        torch.set_num_threads(threads)


def _evaluate(planned: GridPlan, of: WorldPlan, measure: MeasureSpec, stage: Stage) -> None:
    rows = planned.results.elsewhere(of.world.dataset, stage)
    if rows is None:
        rows = rows_of(of.world, measure, planned.store.scored(stage.needs[0]))
    planned.results.write(of.world.dataset, stage, rows)


def forecast(planned: GridPlan) -> Sequence[tuple[Stage, float]]:
    """Return each stage that is missing, with the seconds that it takes at most by the profile's own rates."""
    return [(stage, stage.seconds) for of in planned.worlds for _, stage in planned.missing(of)]


def seconds_with(planned: GridPlan, jobs: int) -> float:
    """Return the seconds that everything that is missing takes at most with ``jobs`` processes, a core each.

    Whoever is free takes the next world, as in :func:`run`.
    """
    free = [0.0] * jobs
    for of in planned.worlds:
        free[free.index(min(free))] += sum(stage.seconds for _, stage in planned.missing(of))
    return max(free)
