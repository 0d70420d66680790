"""Doing a study: its head and its points, JSON types, from a world opened for work."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.provenance import FIRST
from labelleaks.experiments.revisions import revision_of
from labelleaks.experiments.spec import MeasureSpec
from labelleaks.experiments.stages import Stage
from labelleaks.experiments.studies import certified, fresh, guarded, histogram, paired, percentile, regions
from labelleaks.experiments.studies.base import StudyInput, StudyResult
from labelleaks.experiments.studies.spec import StudyName, StudySpec
from labelleaks.experiments.work import Bench

__all__ = ["do"]

_DO: Mapping[StudyName, Callable[[StudyInput], StudyResult]] = {
    "radius": certified.study,
    "percentile": percentile.study,
    "distribution": histogram.study,
    "regions": regions.study,
    "paired": paired.study,
    "fresh": fresh.study,
    "memguard": guarded.study,
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
    made = {**bench.made, "revision": FIRST if measure is None else revision_of(measure)}
    return head | more | {"points": points} | made
