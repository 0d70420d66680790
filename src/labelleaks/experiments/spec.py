"""The grid as data: strict YAML, checked before any row is loaded; a complaint names the file and the key."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labelleaks import data
from labelleaks.core.types import CHECKPOINTS
from labelleaks.errors import InputError, SpecError, nearest
from labelleaks.models.networks import FAMILIES

__all__ = [
    "POSTERIORS",
    "STUDIED",
    "AttackName",
    "Grid",
    "MeasureSpec",
    "Reproduction",
    "StudyName",
    "StudySpec",
    "WorldSpec",
    "load_reproduction",
]


AtLeast1 = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """A frozen part of a specification, without keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AttackName = Literal[
    "gap", "noise", "augmentation", "boundary", "transfer", "salem", "loss_threshold", "lira_offline"
]  # fmt: skip
POSTERIORS = ("salem", "loss_threshold", "lira_offline")
"""Attacks that see every posterior of the target: the paper's baselines, not label-only."""
BOUNDARY = ("hopskipjump", "qeba", "salt_and_pepper", "pointwise")
"""How the boundary is searched; pointwise: rows of bits, which the paper does not have."""

Ms = Annotated[float, Field(gt=0)]
P = TypeVar("P", bound=BaseModel)


class MeasureSpec(Strict):
    """One attack on every world of the grid that it fits."""

    attack: AttackName
    variant: str = ""
    """boundary: how it is searched, one of BOUNDARY"""
    labels: AtLeast1 = 1
    """labels per candidate at most"""
    read: tuple[AtLeast1, ...] = ()
    """label counts at which the score is read, from one run; none: at its end"""
    iterations: AtLeast1 | None = None
    """boundary: steps of the search at most"""
    norms: bool = False
    """boundary: a row for each of L0, L1, L2 and L∞ of the same points"""
    candidates: AtLeast1 = 1000
    """of each side, at most"""
    shadow_rows: AtLeast1 | None = None
    """fewer shadow rows than the world has: an ablation"""
    shadow_model: str | None = None
    """another family for the shadow model: an ablation"""
    relabel: AtLeast1 | None = None
    """transfer on images: train the shadow for so many epochs on augmented rows that the target labels anew in each of
    them, as the authors do; a label a row and epoch"""
    rows: Literal["all", "images", "bits"] = "all"
    """kinds of data that it fits"""
    sizes: tuple[AtLeast1, ...] | None = None
    """training-set sizes at which it is run; None: all of the world's"""
    seeds: AtLeast1 | None = None
    """seeds at most; None: all"""
    only: tuple[str, ...] | None = None
    """data sets; None: all"""
    protocols: tuple[Literal["authors", "clean"], ...] = ("authors", "clean")
    """protocols under which it is run"""

    @property
    def noted(self) -> tuple[int, ...]:
        """Label counts that the boundary attack notes because they are read, beside those that it always notes."""
        return tuple(sorted(set(self.read) - {*CHECKPOINTS, self.labels})) if self.attack == "boundary" else ()

    @model_validator(mode="after")
    def _fits(self) -> MeasureSpec:
        if (self.attack == "boundary") != (self.variant in BOUNDARY):
            raise ValueError(f"variant of boundary must be one of {', '.join(BOUNDARY)}, other attacks take none")
        if max(self.read, default=0) > self.labels:
            raise ValueError(f"read at {max(self.read)} labels, but only {self.labels} are bought")
        if (self.shadow_rows or self.shadow_model or self.relabel) and self.attack != "transfer":
            raise ValueError("shadow_rows, shadow_model and relabel are ablations of transfer")
        if self.shadow_model is not None and self.shadow_model not in FAMILIES:
            raise ValueError(f"unknown model {self.shadow_model!r}{nearest(self.shadow_model, FAMILIES)}")
        return self


class WorldSpec(Strict):
    """A data set with its targets."""

    model: str
    """family of the target and of its shadows"""
    sizes: tuple[AtLeast1, ...] = Field(min_length=1)
    """training sets: some of the data set's six (``labelleaks data describe``)"""
    protocols: tuple[Literal["authors", "clean"], ...] = ("clean",)
    epochs: AtLeast1 = 200
    """of the target; Adam, 1e-3, batch 128 as in the authors' code"""
    shadow_rows: AtLeast1 | None = None
    """shadow rows at most; None: all"""
    shadow_epochs: AtLeast1 = 30
    """of a shadow at most: it stops where it fits all of its rows"""
    references: AtLeast1 = 4
    """shadow models of LiRA; the first of them is the transfer attack's"""
    train_ms: Ms = 1.0
    """milliseconds a row and epoch of training, for forecasts only"""
    ask_ms: Ms = 0.4
    """milliseconds a label, for forecasts only"""
    pixels: Annotated[int, Field(ge=8, le=512)] | None = None
    """side of the pictures, of a data set that has a choice; None: the data set's own"""
    authors_sizes: tuple[AtLeast1, ...] | None = None
    """training sets under the authors' protocol; None: all of ``sizes``"""
    authors_seeds: AtLeast1 | None = None
    """seeds under the authors' protocol at most; None: all"""

    @property
    def model_words(self) -> str:
        """The model as a row names it: pictures smaller than the paper's are said."""
        return self.model if self.pixels is None else f"{self.model}, {self.pixels} px"

    def sizes_of(self, protocol: str) -> tuple[int, ...]:
        """Training sets under a protocol, largest first."""
        some = self.authors_sizes if protocol == "authors" else None
        return tuple(sorted(self.sizes if some is None else some, reverse=True))


StudyName = Literal["radius", "percentile", "distribution", "regions", "fresh", "memguard", "paired"]
_ALL = (
    "gap", "noise", "augmentation", "transfer", "hopskipjump", "qeba", "salt_and_pepper", "pointwise",
    "loss_threshold", "salem", "lira_offline",
)  # fmt: skip
STUDIED: dict[str, tuple[str, ...]] = {
    "radius": (),
    "percentile": ("hopskipjump", "qeba", "pointwise"),
    "distribution": ("transfer", "hopskipjump", "qeba", "pointwise"),
    "regions": (),
    "fresh": _ALL,
    "paired": _ALL,
    "memguard": _ALL,
}
"""For each study whose scores it may read: an attack, or a way to search the boundary."""


class StudySpec(Strict):
    """One study on every world of the grid that it fits."""

    study: StudyName
    of: str = ""
    """all but radius and regions: whose scores, an attack or search that the grid measures too"""
    candidates: AtLeast1 = 200
    """radius, regions: of each side, at most; the others have those of the scores they read"""
    draws: AtLeast1 = 100_000
    """radius: noisy copies of a candidate that bound the probability; 100 more choose the class"""
    inputs: AtLeast1 = 100
    """percentile: random inputs whose distance is found"""
    rows: Literal["all", "images", "bits"] = "all"
    """kinds of data that it fits"""
    sizes: tuple[AtLeast1, ...] | None = None
    """training-set sizes at which it is done; None: all of the world's"""
    seeds: AtLeast1 | None = None
    """seeds at most; None: all"""
    only: tuple[str, ...] | None = None
    """data sets; None: all"""
    protocols: tuple[Literal["authors", "clean"], ...] = ("clean", "authors")

    @model_validator(mode="after")
    def _fits(self) -> StudySpec:
        readable = STUDIED[self.study]
        if readable and self.of not in readable:
            raise ValueError(f"{self.study} is of one of {', '.join(readable)}, got {self.of!r}")
        if not readable and self.of:
            raise ValueError(f"{self.study} is of no attack, got {self.of!r}")
        if self.study == "radius" and self.rows != "images":
            raise ValueError("radius adds Gaussian noise, for images only: say rows: images")
        return self


class Grid(Strict):
    """A profile: which worlds, which measures."""

    about: str
    """one line, printed on the page"""
    seeds: AtLeast1 = 1
    """seeds 1, 2, …; the authors' split is that of seed 1"""
    worlds: dict[str, WorldSpec] = Field(min_length=1)
    measures: tuple[MeasureSpec, ...] = Field(min_length=1)
    studies: tuple[StudySpec, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> Grid:
        for name, world in self.worlds.items():
            sizes = data.card(name).sizes.targets
            if not set(world.sizes) <= set(sizes):
                raise ValueError(f"{name}: its training sets have {', '.join(map(str, sizes))} rows, not all you ask")
            if world.model not in FAMILIES:
                raise ValueError(f"{name}: unknown model {world.model!r}{nearest(world.model, FAMILIES)}")
            if not set(world.authors_sizes or ()) <= set(world.sizes):
                raise ValueError(f"{name}: authors_sizes names a training set that sizes does not")
            if world.pixels is not None and data.card(name).side is None:
                raise ValueError(f"{name}: pixels cannot be chosen, its rows have one size")
        return self


@dataclass(frozen=True)
class Reproduction:
    """A paper's folder: its profiles, its expected findings, its results."""

    name: str
    folder: Path
    profile: str
    grid: Grid


def load_reproduction(name: str, profile: str, folder: str | Path = "reproductions") -> Reproduction:
    """Read ``folder``/``name``/profiles/``profile``.yaml.

    Raises:
        InputError: there is no such reproduction or profile. SpecError: the file is wrong; it is named, and the key.
    """
    home = Path(folder) / name
    profiles = sorted(path.stem for path in (home / "profiles").glob("*.yaml"))
    if not profiles:
        names = sorted({path.parent.parent.name for path in Path(folder).glob("*/profiles/*.yaml")})
        also = nearest(name, names) if names else ""
        raise InputError(f"{home}: no reproduction there{also}; run it in a checkout of labelleaks, or give --folder")
    if profile not in profiles:
        raise InputError(f"{home}: no profile {profile!r}{nearest(profile, profiles)}")
    return Reproduction(name, home, profile, read_yaml(Grid, home / "profiles" / f"{profile}.yaml"))


def read_yaml(kind: type[P], path: Path) -> P:
    """Read and check a YAML file. Raises SpecError, naming file and key."""
    try:
        content: Any = yaml.load(path.read_text("utf-8"), Loader=_NoTwice)
        return kind.model_validate(content)
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file") from None
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, c['loc'])) or 'the whole'}: {c['msg']}" for c in error.errors()]
        raise SpecError(f"{path}: {'; '.join(faults)}") from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


class _NoTwice(yaml.SafeLoader):
    """YAML in which a key may stand once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if key.value != "<<"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)
