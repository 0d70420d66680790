"""Studies as data: what a profile says about them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["OF", "StudyName", "StudySpec"]

StudyName = Literal["radius", "percentile", "distribution", "regions", "fresh", "memguard", "paired"]
_ALL = (
    "gap", "noise", "augmentation", "transfer", "hopskipjump", "qeba", "salt_and_pepper", "pointwise",
    "loss_threshold", "salem", "lira_offline",
)  # fmt: skip
OF: dict[str, tuple[str, ...]] = {
    "radius": (),
    "percentile": ("hopskipjump", "qeba", "pointwise"),
    "distribution": ("transfer", "hopskipjump", "qeba", "pointwise"),
    "regions": (),
    "fresh": _ALL,
    "paired": _ALL,
    "memguard": _ALL,
}
"""For each study whose scores it may read: an attack, or a way to search the boundary."""

AtLeast1 = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """A frozen part of a specification, without keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
        known = OF[self.study]
        if known and self.of not in known:
            raise ValueError(f"{self.study} is of one of {', '.join(known)}, got {self.of!r}")
        if not known and self.of:
            raise ValueError(f"{self.study} is of no attack, got {self.of!r}")
        if self.study == "radius" and self.rows != "images":
            raise ValueError("radius adds Gaussian noise, for images only: say rows: images")
        return self
