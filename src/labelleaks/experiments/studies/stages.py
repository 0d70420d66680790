"""A study as a stage: it hangs at the target, or at the scores that it reads; and doing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.provenance import FIRST
from labelleaks.experiments.spec import MeasureSpec, StudyName, StudySpec
from labelleaks.experiments.stages import Stage, World, revision_of
from labelleaks.experiments.studies.base import StudyInput, StudyResult
from labelleaks.experiments.studies.of_scores import distribution, fresh, memguard, paired
from labelleaks.experiments.studies.percentile import percentile
from labelleaks.experiments.studies.radius import CHOOSE, certified_radius
from labelleaks.experiments.studies.regions import regions
from labelleaks.experiments.work import Bench

__all__ = ["do", "studies_of"]


VERSIONS: Mapping[str, int] = {
    "radius": 1, "percentile": 1, "distribution": 1, "regions": 1, "fresh": 1, "memguard": 1, "paired": 1,
}  # fmt: skip
"""Raise a number where the code of that study changes its results."""

Evaluations = Sequence[tuple[MeasureSpec, Stage]]


def studies_of(
    world: World, studies: Sequence[StudySpec], evaluations: Evaluations
) -> Iterator[tuple[StudySpec, Stage]]:
    """Yield each study of this world with its stage.

    Args:
        evaluations: of this world; the scores that they hang at are those that studies read.
    """
    scores = [(measure, evaluation.needs[0]) for measure, evaluation in evaluations]
    for study in studies:
        if world.takes(study):
            read = _read(study, scores)
            if read:
                yield study, _stage(world, study, *read)


def _read(study: StudySpec, scores: Evaluations) -> tuple[MeasureSpec, Stage] | None:
    """The scores that a study reads; for one of the target alone any, for the target that they hang at."""
    plain = ((m, s) for m, s in scores if m.shadow_rows is None and m.shadow_model is None)
    return next((pair for pair in plain if not study.of or study.of in (pair[0].attack, pair[0].variant)), None)


def _stage(world: World, study: StudySpec, measure: MeasureSpec, scores: Stage) -> Stage:
    need = scores
    what: dict[str, Any] = {"study": study.study, "version": VERSIONS[study.study], "of": study.of}
    seconds = 0.0
    if study.study in ("radius", "regions"):
        need = scores.needs[0]
        what["candidates"] = study.candidates
    if study.study == "radius":
        what["draws"] = study.draws
        seconds = 2 * study.candidates * (CHOOSE + study.draws) * world.spec.ask_ms / 1000
    if study.study == "paired":
        what |= {"read": list(measure.read), "norms": measure.norms}
    if study.study == "memguard":
        seconds = scores.seconds
    if study.study == "percentile":
        what["inputs"] = study.inputs
        seconds = 2 * study.inputs * measure.labels * world.spec.ask_ms / 1000
    words = "-".join(word for word in (study.study, study.of) if word)
    return Stage("study", f"{world.name}-{words}", what, (need,), seconds)


_DO: Mapping[StudyName, Callable[[StudyInput], StudyResult]] = {
    "radius": certified_radius,
    "percentile": percentile,
    "distribution": distribution,
    "regions": regions,
    "paired": paired,
    "fresh": fresh,
    "memguard": memguard,
}


def do(bench: Bench, stage: Stage, study: StudySpec, measure: MeasureSpec | None) -> Row:
    """Return a study whose needs are finished: a row with its ``points``.

    Args:
        measure: whose scores it reads; None: it is of the target alone.
    """
    world = bench.world
    head: Row = {"study": study.study, "of": study.of, "dataset": world.dataset, "target_size": world.size}
    head |= {"seed": world.seed, "protocol": world.protocol, "model": world.spec.model}
    more, points = _DO[study.study](StudyInput(bench, stage.needs[0], study, measure))
    provenance = {**bench.made, "revision": FIRST if measure is None else revision_of(measure)}
    return head | more | {"points": points} | provenance
