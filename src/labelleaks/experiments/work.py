"""Doing a stage: train a target, train shadows, score candidates, make rows of scores."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labelleaks import metrics
from labelleaks.core import rng
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates
from labelleaks.data import Dataset, LabelLeaksSplit
from labelleaks.defenses import MemGuard, memguard
from labelleaks.experiments import measures
from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.provenance import Made, made_by
from labelleaks.experiments.spec import MeasureSpec, StudySpec
from labelleaks.experiments.stages import Stage, World, revision_of
from labelleaks.experiments.store import Reading, Scored, Store
from labelleaks.metrics import Estimate
from labelleaks.models import architectures, checkpoints, networks, reference_models, shadow_training
from labelleaks.models.checkpoints import Training
from labelleaks.models.shadow_model import Network, ShadowModel
from labelleaks.models.training import Epoch, Recipe, train
from labelleaks.targets import wrap

__all__ = ["Bench", "read_at", "rows_of"]

FPR = 0.01
LEAST_NONMEMBERS = 100
"""Below these a TPR at 1 % FPR is not judged."""


@dataclass(eq=False)
class Bench:
    """A world opened for work. Data and models are loaded when they are first needed."""

    world: World
    dataset: Dataset
    split: LabelLeaksSplit
    store: Store
    made: Made = field(default_factory=made_by)
    """what does the work; found out before it begins"""
    _measured: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)

    def do(self, stage: Stage, measure: MeasureSpec | StudySpec) -> None:
        """Do a target, shadow or scores stage whose needs are finished."""
        if stage.kind == "target":
            self._train_target(stage)
        elif stage.kind == "shadow":
            shadows = self._shadow_of(stage, self._knowledge(stage, self.gate(stage.needs[0])))
            self.store.finish(stage, {"name": stage.name, "models": len(shadows)})
        else:
            assert isinstance(measure, MeasureSpec)
            self._score(stage, measure)

    # target

    def _train_target(self, stage: Stage) -> None:
        """Train, unless a killed run has, and say what came out."""
        x, y = self.dataset.rows(self.split.members(self.world.size))
        test = self.dataset.rows(self.split.nonmembers())
        own = rng.seed_from(self.world.seed, f"target {self.world.name}")
        module = architectures.build(self.world.spec.model, x.shape[1:], self.dataset.classes, seed=own)
        folder = self.store.place("weights")
        if checkpoints.load(folder, stage.key, module) is None:
            recipe, began = Recipe(epochs=self.world.spec.epochs), time.monotonic()
            self._fit(module, (x, y), test, recipe, own)
            training = Training(len(x), recipe.epochs, round(time.monotonic() - began, 3))
            checkpoints.save(folder, stage.key, module, training, {"name": stage.name, "recipe": asdict(recipe)})
        module.eval()
        accuracies = {"train_accuracy": _accuracy(module, x, y), "test_accuracy": _accuracy(module, *test)}
        self.store.finish(stage, accuracies)

    def _fit(
        self, module: nn.Module, rows: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], recipe: Recipe, seed: int
    ) -> None:
        """Keep the last epoch, or under the authors' protocol the best one on the non-members."""
        best = _Best(module, *test) if self.split.protocol.checkpoint != "last" else None
        train(module, *rows, recipe, seed=seed, progress=best)
        if best is not None:
            module.load_state_dict(best.state)

    def target(self, stage: Stage) -> Network:
        """Return the model that a target stage has trained, as it is deployed: everybody is given the same."""
        if self._loaded is None or self._loaded[0] != stage.key:
            shape = self.dataset.shape
            module = architectures.build(self.world.spec.model, shape, self.dataset.classes, seed=0)
            training = checkpoints.load(self.store.place("weights"), stage.key, module)
            assert training is not None
            deployed = networks.folded(module.eval())
            self._loaded = stage.key, Network(deployed, self.dataset.classes, shape, training)
        return self._loaded[1]

    _loaded: tuple[str, Network] | None = None

    def gate(self, stage: Stage) -> Gate:
        """Open the door to the target of a target stage."""
        return self._gate_to(self.target(stage).module)

    def _gate_to(self, module: nn.Module) -> Gate:
        width = int(np.prod(self.dataset.shape))
        target = wrap(module, numpy=False, classes=self.dataset.classes, width=width)
        return Gate(target, batch_rows=target.batch_rows)

    # shadow

    @cached_property
    def _shadow_rows(self) -> tuple[Tensor, Tensor]:
        """The world's shadow rows; under ``clean`` without near twins of candidates."""
        rows = ShadowRows(*self.dataset.rows(self.split.shadow[: self.world.spec.shadow_rows]))
        if self.split.protocol.name == "clean":
            rows, _ = shadow_training.drop_near_duplicates(rows, self.candidates(None)[0])
        assert rows.y is not None
        return rows.x, rows.y

    def _knowledge(self, stage: Stage | None, gate: Gate) -> Knowledge:
        setup = gate.setup_oracle("shadow")
        if stage is None:
            return Knowledge(setup=setup)
        x, y = (part[: stage.what["rows"]] for part in self._shadow_rows)
        folder = self.store.place("models")
        return Knowledge(
            setup, ShadowRows(x, y), family=stage.what["model"], references=stage.what["count"], references_dir=folder
        )

    def _shadow_of(self, stage: Stage, knowledge: Knowledge) -> tuple[ShadowModel, ...]:
        """Train a stage's models, or find them where they are kept."""
        recipe = Recipe(epochs=stage.what["epochs"], stop_at_interpolation=True)
        if stage.what["labels"] == "true":
            return (self._salem(stage, knowledge, recipe)[0],)
        references = reference_models.references(knowledge, self.dataset.classes, seed=self.world.seed, recipe=recipe)
        return references.models

    def _salem(self, stage: Stage, knowledge: Knowledge, recipe: Recipe) -> tuple[ShadowModel, Tensor, Tensor]:
        """Salem's shadow model: trained on one half of the shadow rows, with their true labels."""
        assert knowledge.shadow is not None and knowledge.shadow.y is not None
        inside, outside = shadow_training.split_shadow(knowledge.shadow, 0.5, self.world.seed)
        assert inside.y is not None
        model = shadow_training.train_shadow(
            inside.x, inside.y, self.dataset.classes, knowledge.family, recipe,
            seed=rng.seed_from(self.world.seed, "salem shadow"), folder=knowledge.references_dir,
        )  # fmt: skip
        return model, inside.x, outside.x

    # scores

    def candidates(self, most: int | None) -> tuple[Candidates, np.ndarray[Any, np.dtype[np.bool_]]]:
        """Return at most so many candidates of each side, members first, and which of them are members."""
        members, others = self.split.candidates(self.world.size, most)
        x, y = self.dataset.rows(np.concatenate([members, others]))
        candidates = Candidates(x, y, self.dataset.domain, self.dataset.classes)
        return candidates, np.arange(len(y)) < len(members)

    def _score(self, stage: Stage, measure: MeasureSpec) -> None:
        readings = self.readings(stage, measure)
        member = self.candidates(measure.candidates)[1]
        self.store.keep(stage, Scored(member, readings, *self._accuracies(stage.needs[0]), made=self.made))

    def _accuracies(self, target: Stage) -> tuple[float, float]:
        """Of the deployed target, on all members and all non-members."""
        if target.key not in self._measured:
            module = self.target(target).module
            parts = self.split.members(self.world.size), self.split.nonmembers()
            train, test = (_accuracy(module, *self.dataset.rows(rows)) for rows in parts)
            self._measured[target.key] = train, test
        return self._measured[target.key]

    def readings(self, stage: Stage, measure: MeasureSpec, *, guarded: bool = False) -> tuple[Reading, ...]:
        """Run the attack of a scores stage, on the target as it is or behind MemGuard."""
        shadow = stage.needs[1] if len(stage.needs) > 1 else None
        target = self.target(stage.needs[0])
        gate = self._gate_to(MemGuard(target.module).eval() if guarded else target.module)
        candidates, _ = self.candidates(measure.candidates)
        ask = measures.Asked(gate, candidates, self._knowledge(shadow, gate), self.world.seed)
        ask.drop_failed = self.split.protocol.failed_searches == "dropped"
        if measure.attack in ("salem", "loss_threshold", "lira_offline"):
            log_p = target.log_posteriors(ask.candidates.x)
            return self._score_based(measure.attack, memguard(log_p) if guarded else log_p, ask, shadow)
        recipe = None if shadow is None else Recipe(epochs=shadow.what["epochs"], stop_at_interpolation=True)
        return measures.label_only(measure, ask, recipe)

    def _score_based(
        self, attack: str, log_p: Tensor, ask: measures.Asked, shadow: Stage | None
    ) -> tuple[Reading, ...]:
        labels = ask.labels()
        if shadow is None:
            return measures.loss_threshold(log_p, labels, ask)
        recipe = Recipe(epochs=shadow.what["epochs"], stop_at_interpolation=True)
        if attack == "salem":
            model, inside, outside = self._salem(shadow, ask.knowledge, recipe)
            return measures.salem(log_p, labels, model, inside, outside, ask)
        return measures.lira_offline(log_p, labels, self._shadow_of(shadow, ask.knowledge), ask)


def rows_of(world: World, measure: MeasureSpec, scored: Scored) -> list[Row]:
    """Make result rows of scores: one for each variant and each label count that is read."""
    rows = []
    for reading in scored.readings:
        if ", norm=" in reading.variant and not measure.norms:
            continue
        member = scored.member[reading.kept]
        for at in read_at(reading, measure.read):
            value = reading.path[at][reading.kept]
            rows.append(_row(world, measure, reading.variant, reading.checkpoints[at], value, member, scored))
    return rows


def read_at(reading: Reading, wanted: tuple[int, ...]) -> list[int]:
    """Return for each label count the last checkpoint that it pays for; the end where none is named."""
    if not wanted or len(reading.checkpoints) == 1:
        return [len(reading.checkpoints) - 1]
    last = [max((i for i, c in enumerate(reading.checkpoints) if c <= labels), default=None) for labels in wanted]
    return sorted({i for i in last if i is not None})


def _row(
    world: World,
    measure: MeasureSpec,
    variant: str,
    labels: int,
    value: np.ndarray[Any, np.dtype[np.float64]],
    member: np.ndarray[Any, np.dtype[np.bool_]],
    scored: Scored,
) -> Row:
    members, others = int(member.sum()), int((~member).sum())
    at = _plain(metrics.tpr_at_fpr(value, member, FPR)) if others >= LEAST_NONMEMBERS else None
    words = [variant, f"shadow={measure.shadow_rows}" if measure.shadow_rows else ""]
    words.append(f"model={measure.shadow_model}" if measure.shadow_model else "")
    words.append(f"relabel={measure.relabel}" if measure.relabel else "")
    return {
        "dataset": world.dataset,
        "target_size": world.size,
        "seed": world.seed,
        "protocol": world.protocol,
        "model": world.spec.model_words,
        "attack": measure.attack,
        "variant": ", ".join(word for word in words if word),
        "labels": labels,
        "n_members": members,
        "n_nonmembers": others,
        "auc": _plain(metrics.auc(value, member)),
        "tpr_at_fpr": {str(FPR): at},
        "train_accuracy": round(scored.train_accuracy, 5),
        "test_accuracy": round(scored.test_accuracy, 5),
        **scored.made,
        "revision": revision_of(measure),
    }


def _plain(estimate: Estimate) -> dict[str, float] | None:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return None
    return {key: round(float(getattr(estimate, key)), 5) for key in ("value", "low", "high")}


class _Best:
    """Told after each epoch: remembers the weights of the best accuracy on (x, y), as the authors' code does."""

    def __init__(self, module: nn.Module, x: Tensor, y: Tensor) -> None:
        self.module, self.x, self.y = module, x, y
        self.accuracy = -1.0
        self.state: dict[str, Tensor] = {}

    def __call__(self, epoch: Epoch) -> None:
        self.module.eval()
        accuracy = _accuracy(self.module, self.x, self.y)
        self.module.train()
        if accuracy > self.accuracy:
            self.accuracy = accuracy
            self.state = {name: value.detach().clone() for name, value in self.module.state_dict().items()}


def _accuracy(module: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.inference_mode():
        right = [(module(a).argmax(1) == b).sum() for a, b in zip(x.split(500), y.split(500), strict=True)]
    return int(sum(right)) / len(x)
