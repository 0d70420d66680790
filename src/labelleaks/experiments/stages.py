"""The stages of a world, each named by a hash of everything that goes into it.

target → shadow → scores → evaluation. A stage's key holds the keys of the stages that it needs, its own settings, the
content of the data set, and a number for the code behind it that is raised by hand when that code changes what comes
out: VERSIONS for a kind of stage, an attack's own ``revision`` for its scores. Revision 1 leaves no trace in a key, so
stages that were made before attacks had revisions are found. Neither machine nor library is in a key: a finished stage
counts as done wherever it was done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

from labelleaks import data
from labelleaks.attacks import Augmentation, Boundary, Gap, Noise, Transfer
from labelleaks.experiments.baselines import REVISIONS, SaltAndPepper
from labelleaks.experiments.provenance import FIRST
from labelleaks.experiments.spec import POSTERIORS, MeasureSpec, StudySpec, WorldSpec

__all__ = ["Stage", "World", "revision_of", "stages_of"]


StageKind = Literal["target", "shadow", "scores", "evaluation", "study"]

VERSIONS: Mapping[str, int] = {"target": 1, "shadow": 1, "scores": 1, "evaluation": 1, "study": 1}
"""Raise a number where the code of that stage changes its results; where that of an attack does, its revision."""


@dataclass(frozen=True, eq=False)
class Stage:
    """Something that is done once."""

    kind: StageKind
    name: str
    """For people, and part of a file's name."""
    what: Mapping[str, Any]
    """Its own inputs, JSON types."""
    needs: tuple[Stage, ...]
    seconds: float
    """Forecast, at most; what it needs is not in it."""

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits."""
        content = [self.kind, VERSIONS[self.kind], dict(self.what), [need.key for need in self.needs]]
        return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class World:
    """A target of one size, seed and protocol, on one data set."""

    dataset: str
    size: int
    seed: int
    protocol: Literal["authors", "clean"]
    spec: WorldSpec
    images: bool

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.size}-s{self.seed}-{self.protocol}"

    def takes(self, measure: MeasureSpec | StudySpec) -> bool:
        """Whether ``measure``, or a study, is run here."""
        return (
            measure.rows in ("all", "images" if self.images else "bits")
            and (measure.sizes is None or self.size in measure.sizes)
            and (measure.seeds is None or self.seed <= measure.seeds)
            and (measure.only is None or self.dataset in measure.only)
            and self.protocol in measure.protocols
        )


def stages_of(
    world: World, measures: Sequence[MeasureSpec], digest: str, shadow_rows: int
) -> Iterator[tuple[MeasureSpec, Stage]]:
    """Yield each measure of this world with its evaluation, at whose roots the other stages hang.

    Args:
        digest: of the data set's content.
        shadow_rows: that there are.
    """
    spec = world.spec
    what = {"dataset": world.dataset, "digest": digest, "protocol": world.protocol, "seed": world.seed}
    what |= {"size": world.size, "largest": data.card(world.dataset).sizes.targets[0]}  # what the split hangs on
    what |= {"model": spec.model, "epochs": spec.epochs}
    if world.images:
        what["asked"] = "batch norms folded"
    target = Stage("target", f"{world.name} target", what, (), spec.epochs * world.size * spec.train_ms / 1000)
    for measure in measures:
        if world.takes(measure):
            shadows = _shadows(world, measure, target, shadow_rows)
            yield measure, _evaluation(world, measure, _scores(world, measure, (target, *shadows)))


def _shadows(world: World, measure: MeasureSpec, target: Stage, there: int) -> tuple[Stage, ...]:
    if measure.attack not in ("transfer", "salem", "lira_offline"):
        return ()
    spec = world.spec
    most = [n for n in (spec.shadow_rows, measure.shadow_rows) if n is not None]
    what: dict[str, Any] = {"rows": min(most) if most else None, "model": measure.shadow_model or spec.model}
    what |= {"labels": "true" if measure.attack == "salem" else "target's", "epochs": spec.shadow_epochs}
    what["count"] = spec.references if measure.attack == "lira_offline" else 1
    share = 0.5 if measure.attack == "salem" else 0.9
    new = max(1, what["count"] - 1)  # LiRA's first is the transfer attack's
    passes = new * spec.shadow_epochs * share * min([there, *most])
    kind = "half, true labels" if measure.attack == "salem" else f"{what['count']} on the target's labels"
    return (Stage("shadow", f"{world.name} shadow: {kind}", what, (target,), passes * spec.train_ms / 1000),)


def _scores(world: World, measure: MeasureSpec, needs: tuple[Stage, ...]) -> Stage:
    what: dict[str, Any] = {"attack": measure.attack, "variant": measure.variant, "labels": measure.labels}
    what |= {"iterations": measure.iterations, "candidates": measure.candidates}
    revision = revision_of(measure)
    if revision != FIRST:
        what["revision"] = revision
    if measure.noted:
        what["noted"] = list(measure.noted)
    trained = 0.0
    if measure.relabel:
        what["relabel"] = measure.relabel
        rows = measure.shadow_rows or world.spec.shadow_rows or 0
        trained = measure.relabel * rows * (world.spec.train_ms + world.spec.ask_ms)
    labels = 1 if measure.attack in POSTERIORS else measure.labels
    asked = labels * (min(world.size, measure.candidates) + measure.candidates)
    return Stage("scores", f"{world.name} {_words(measure)}", what, needs, (asked * world.spec.ask_ms + trained) / 1000)


def _evaluation(world: World, measure: MeasureSpec, scores: Stage) -> Stage:
    words = _words(measure).replace(", ", "-").replace(" ", "-").replace("=", "-")
    what = {"read": list(measure.read), "norms": measure.norms}
    return Stage("evaluation", f"{world.name}-{words}", what, (scores,), 0.0)


def _words(measure: MeasureSpec) -> str:
    words = [measure.attack, measure.variant, "" if measure.labels == 1 else str(measure.labels)]
    if measure.shadow_rows:
        words.append(f"shadow={measure.shadow_rows}")
    if measure.shadow_model:
        words.append(f"model={measure.shadow_model}")
    if measure.relabel:
        words.append(f"relabel={measure.relabel}")
    return " ".join(word for word in words if word)


class _Revised(Protocol):
    revision: ClassVar[int]


_ATTACKS: Mapping[str, type[_Revised]] = {
    "gap": Gap, "noise": Noise, "augmentation": Augmentation, "boundary": Boundary, "transfer": Transfer,
}  # fmt: skip


def revision_of(measure: MeasureSpec) -> int:
    """Return the revision of the attack that a measure runs."""
    if measure.attack in REVISIONS:
        return REVISIONS[measure.attack]
    return SaltAndPepper.revision if measure.variant == "salt_and_pepper" else _ATTACKS[measure.attack].revision
