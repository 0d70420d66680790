"""The worlds of the leaderboard: a data set, its split, a trained target, and what the adversary has.

A world is named ``DATASET/SEED``, or ``DATASET/SEED/VARIANT`` for the tables of robustness. The seed decides the split,
the target's weights and the references. Everything that takes long is kept under a hash of what made it, in the folder
that LABELLEAKS_POWER_CACHE names (``~/.cache/labelleaks-power``): targets and references as safetensors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.power.rows import cache_folder, digest_of
from labelleaks.core import serialization
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.domains import Binary, Box, Domain
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates
from labelleaks.models import architectures, checkpoints, shadow_training, training
from labelleaks.models.randaugment import RandAugment
from labelleaks.models.training import Recipe

__all__ = ["DATASETS", "FINAL", "SEEDS", "OpenWorld", "Parts", "open_world", "split", "worlds"]

SEEDS = (0, 1, 2)
FINAL = "gtsrb"
"""Kept for the final table: nothing was chosen by it."""

TARGETS: dict[str, Recipe] = {
    "": Recipe(epochs=30),
    "target=augmented": Recipe(epochs=60),
    "target=decayed": Recipe(epochs=30, weight_decay=1e-3),
    "target=stopped": Recipe(epochs=60, stop_at_interpolation=True),
}
"""How the target is trained. The main one goes on after it has fitted all of its rows: what an attack that sees the
posteriors finds depends on that more than on anything else, and a weak ceiling would flatter the others. ``stopped``
ends with the first epoch in which every row was right."""


@dataclass(frozen=True)
class BenchmarkData:
    """Where the rows are and how many go where. What is left over measures the target's accuracy."""

    file: str | None
    """None: scikit-learn's digits, as vectors."""
    family: str
    domain: Domain
    members: int
    """Rows that the target is trained on."""
    audited: int
    """Members among the candidates."""
    nonmembers: int
    shadow: int
    side: int | None = None
    """Pixels of a picture's side, by averaging; None: as in the file."""


DATASETS = {
    "cifar10": BenchmarkData("cifar10.npz", "cnn", Box(0, 1), members=3000, audited=1000, nonmembers=4000, shadow=3000),
    "location30": BenchmarkData(
        "location30.npz", "mlp", Binary(), members=1000, audited=1000, nonmembers=1000, shadow=3000
    ),
    "faces": BenchmarkData(
        "faces_lfw19.npz", "cnn", Box(0, 1), members=380, audited=380, nonmembers=480, shadow=960, side=32
    ),
    "gtsrb": BenchmarkData("gtsrb.npz", "cnn", Box(0, 1), members=3000, audited=1000, nonmembers=4000, shadow=3000),
    "mnist": BenchmarkData("mnist.npz", "cnn", Box(0, 1), members=1000, audited=1000, nonmembers=2000, shadow=2000),
    "digits": BenchmarkData(None, "mlp", Box(0, 1), members=300, audited=300, nonmembers=500, shadow=600),
}


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """x float32 (n, *shape) in [0, 1], images channels first; y int64 (n,)."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def part(self, start: int, count: int) -> LabelledRows:
        return LabelledRows(self.x[start : start + count], self.y[start : start + count])


@dataclass(frozen=True, eq=False)
class Parts:
    """Disjoint parts of a data set, each in random order."""

    members: LabelledRows
    nonmembers: LabelledRows
    shadow: LabelledRows
    rest: LabelledRows


@dataclass(frozen=True, eq=False)
class OpenWorld:
    """A target and everything that an attack on it may be given."""

    name: str
    dataset: str
    seed: int
    variant: str
    split: Parts
    classes: int
    module: nn.Module
    train_accuracy: float
    test_accuracy: float

    @property
    def spec(self) -> BenchmarkData:
        return DATASETS[self.dataset]

    def candidates(self, most: int | None = None) -> tuple[Candidates, np.ndarray]:
        """Return the candidates (at most so many of each side) and who is a member, bool (n,): members first."""
        members = self.split.members.part(0, min(self.spec.audited, most or self.spec.audited))
        others = self.split.nonmembers.part(0, most or len(self.split.nonmembers))
        x, y = torch.cat([members.x, others.x]), torch.cat([members.y, others.y])
        return Candidates(x, y, self.spec.domain, self.classes), np.arange(len(y)) < len(members)

    def knowledge(self, setup: Any, adversary: str = "") -> Knowledge:
        """Return what the adversary of this name has (see ADVERSARIES); what it buys is billed to ``setup``."""
        shadow, family, references = ADVERSARIES[adversary](self, setup)
        folder = checkpoints.check_folder(cache_folder() / "references")
        return Knowledge(setup=setup, shadow=shadow, family=family, references=references, references_dir=folder)


Adversary = tuple[ShadowRows, str | None, int | None]


def _part(world: OpenWorld, share: float) -> ShadowRows:
    rows = world.split.shadow.part(0, round(share * len(world.split.shadow)))
    return ShadowRows(rows.x, rows.y)


def _shifted(world: OpenWorld) -> ShadowRows:
    """Rows from another camera: less contrast, darker."""
    return ShadowRows(world.split.shadow.x * 0.6 + 0.1, world.split.shadow.y)


def _own_labels(world: OpenWorld, setup: LabelOracle, bought: float) -> ShadowRows:
    """Rows with labels of their own; only the first of them are relabelled by the target."""
    rows = world.split.shadow
    count = round(bought * len(rows))
    labels = rows.y.clone()
    labels[:count] = setup.query(rows.x[:count], torch.full((count,), -1), phase="relabel")
    return ShadowRows(rows.x, rows.y, labels)


ADVERSARIES: dict[str, Callable[[OpenWorld, LabelOracle], Adversary]] = {
    "": lambda w, _: (_part(w, 1.0), None, None),
    "family=cnn3": lambda w, _: (_part(w, 1.0), "cnn3", None),
    "family=mlp": lambda w, _: (_part(w, 1.0), "mlp", None),
    "shadow=half": lambda w, _: (_part(w, 0.5), None, None),
    "shadow=third": lambda w, _: (_part(w, 1 / 3), None, None),
    "shadow=tenth": lambda w, _: (_part(w, 0.1), None, None),
    "shadow=shifted": lambda w, _: (_shifted(w), None, None),
    "relabelled=none": lambda w, setup: (_own_labels(w, setup, 0.0), None, None),
    "relabelled=tenth": lambda w, setup: (_own_labels(w, setup, 0.1), None, None),
    "training=long": lambda w, _: (_part(w, 1.0), None, None),  # with a recipe of its own, see attacks.LONG
    **{f"references={r}": (lambda w, _, r=r: (_part(w, 1.0), None, r)) for r in (2, 4, 8, 16, 32)},
}
"""What the adversary has, by the name that stands in a row's ``variant``: (shadow rows, family, references)."""


def worlds() -> list[str]:
    """Return the worlds of the main table, cheapest knowledge first: one seed of everything, then the next."""
    return [f"{dataset}/{seed}" for seed in SEEDS for dataset in DATASETS]


def open_world(name: str, *, say: Callable[[str], None] = print) -> OpenWorld:
    """Load a world; trains its target where the cache does not hold it."""
    dataset, seed, *rest = name.split("/")
    variant = rest[0] if rest else ""
    if dataset not in DATASETS or not seed.isdigit() or variant not in TARGETS:
        sys.exit(f"no world {name!r}: DATASET/SEED[/VARIANT] with {', '.join(DATASETS)}; {', '.join(TARGETS)}")
    parts, classes = split(dataset, seed=int(seed))
    module = _target(dataset, int(seed), variant, parts.members, classes, say)
    accuracies = [_accuracy(module, rows) for rows in (parts.members, _test_rows(parts))]
    return OpenWorld(name, dataset, int(seed), variant, parts, classes, module, *accuracies)


def split(dataset: str, *, seed: int) -> tuple[Parts, int]:
    """Return the parts of a data set and its number of classes. Frames of one traffic sign stay on one side."""
    spec = DATASETS[dataset]
    rows, groups = _load(spec)
    order = _by_group(groups, np.random.default_rng(seed))
    sizes = (spec.members, spec.nonmembers, spec.shadow)
    cuts, start = [], 0
    for size in sizes:
        end = min(start + size, len(order))
        while end < len(order) and groups[order[end]] == groups[order[end - 1]]:
            end -= 1  # the group goes to the next part whole
        cuts.append((start, end))
        start = end
    # Frames of a track lie side by side in this order: each part is shuffled, so that its first rows are any rows.
    mixed = [order[a:b] for a, b in (*cuts, (start, len(order)))]
    for part in mixed:
        np.random.default_rng(seed + 1).shuffle(part)
    members, nonmembers, shadow, rest = (LabelledRows(rows.x[p], rows.y[p]) for p in map(torch.from_numpy, mixed))
    audited = torch.cat([members.x[: spec.audited], nonmembers.x])
    of_no_class = torch.zeros(len(audited), dtype=torch.int64)
    shadow_rows = ShadowRows(shadow.x, shadow.y)
    kept, _ = shadow_training.drop_near_duplicates(shadow_rows, Candidates(audited, of_no_class, spec.domain, 1))
    assert kept.y is not None
    return Parts(members, nonmembers, LabelledRows(kept.x, kept.y), rest), int(rows.y.max()) + 1


def _by_group(groups: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Order rows so that groups stand in random order, each in one piece."""
    names, of_row = np.unique(groups, return_inverse=True)
    return np.argsort(generator.permutation(len(names))[of_row], kind="stable")


def _load(spec: BenchmarkData) -> tuple[LabelledRows, np.ndarray]:
    if spec.file is None:
        digits = load_digits()
        x, y = torch.from_numpy(digits.data.astype(np.float32) / 16), torch.from_numpy(digits.target.astype(np.int64))
        return LabelledRows(x, y), np.arange(len(y))
    file = Path(os.environ.get("LABELLEAKS_DATA", "../shared/data")) / spec.file
    if not file.is_file():
        sys.exit(f"{file} is missing: set LABELLEAKS_DATA to the folder that holds {spec.file}")
    with np.load(file, allow_pickle=False) as data:
        y = torch.from_numpy(data["labels"].astype(np.int64))
        groups = np.arange(len(y))
        if "track" in data:  # -1: a row of the test set, a sign of its own
            track = data["track"]
            groups = np.where(track >= 0, track, track.max() + 1 + groups)
        if "images" not in data:
            return LabelledRows(torch.from_numpy(data["features"].astype(np.float32)), y), groups
        images = torch.from_numpy(data["images"].astype(np.float32) / 255).permute(0, 3, 1, 2)
        if spec.side is not None:
            images = functional.adaptive_avg_pool2d(images, spec.side)
        return LabelledRows(images.contiguous(), y), groups


def _target(
    dataset: str, seed: int, variant: str, rows: LabelledRows, classes: int, say: Callable[[str], None]
) -> nn.Module:
    spec, recipe = DATASETS[dataset], TARGETS[variant]
    shape = tuple(rows.x.shape[1:])
    module = architectures.build(spec.family, shape, classes, seed=seed)
    key = digest_of(rows.x, rows.y, [spec.family, seed, variant, asdict(recipe)])
    file = cache_folder() / "targets" / f"{dataset}-{seed}-{key}.safetensors"
    if file.is_file():
        module.load_state_dict(load_file(file))
        return module.eval()
    augment = RandAugment.of(spec.domain, shape) if variant == "target=augmented" else None
    training.train(
        module, rows.x, rows.y, recipe, seed=seed, augment=augment,
        progress=lambda e: say(f"{dataset}/{seed} target, epoch {e.number}: loss {e.loss:.3f}, right {e.accuracy:.4f}"),
    )  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    serialization.write_atomic(file, save({k: v.contiguous() for k, v in module.state_dict().items()}), private=False)
    return module


def _test_rows(parts: Parts) -> LabelledRows:
    """Rows that nothing was trained on: the non-members, and what was left over."""
    return LabelledRows(torch.cat([parts.nonmembers.x, parts.rest.x]), torch.cat([parts.nonmembers.y, parts.rest.y]))


def _accuracy(module: nn.Module, rows: LabelledRows) -> float:
    with torch.inference_mode():
        right = [(module(x).argmax(1) == y).sum() for x, y in zip(rows.x.split(500), rows.y.split(500), strict=True)]
    return int(sum(right)) / len(rows)
