"""Cards of data sets, by name: where a set lies, how to check it, what the paper does with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from labelleaks.core import registry
from labelleaks.errors import InputError

if TYPE_CHECKING:
    from labelleaks.core.domains import Domain


__all__ = [
    "Card",
    "EvidenceLevel",
    "FileSet",
    "Labels",
    "ParsedRows",
    "Pixels",
    "RemoteFile",
    "Sizes",
    "Values",
    "card",
    "find",
    "names",
]

Pixels = NDArray[np.uint8]
Values = NDArray[np.uint8] | NDArray[np.float32]
Labels = NDArray[np.int64]

EvidenceLevel = Literal["certain", "likely", "no evidence"]
"""How sure it is that the first version of the paper used a data set (its text was not at hand, its code was)."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of the official distribution."""

    name: str
    urls: tuple[str, ...]
    """https, tried in this order; none: the file is read where a user has it, never downloaded."""
    checksum: str | None
    """``"md5:..."`` or ``"sha256:..."``; None: nobody citable published one, so the first download is recorded and
    every later one must be equal to it."""
    source: str
    """Who published the checksum; "" where there is none."""
    most: int = 1 << 30
    """Bytes; a larger file is refused."""


@dataclass(frozen=True, eq=False)
class ParsedRows:
    """Rows of the official files, parsed: all of them, the training part first."""

    x: Values
    """uint8 (n, channels, height, width) pixel values, or (n, features) of 0 and 1; of a card without scale: uint8 or
    float32 (n, *shape), in its domain's units"""
    y: Labels
    """int64 (n,), 0 … classes - 1"""
    split: NDArray[np.uint8]
    """(n,): 0 in the official training part, 1 in the official test part"""
    class_names: tuple[str, ...]
    groups: Labels | None = None
    """int64 (n,): rows that belong together, such as frames of one physical sign; -1 where that is unknown."""


@dataclass(frozen=True)
class FileSet:
    """Files that hold the whole data set together, and their parser."""

    files: tuple[RemoteFile, ...]
    read: Callable[[Mapping[str, Path], int | None], ParsedRows]
    """(path by file name, side of the pictures in pixels or None) -> rows. Raises InputError where a file is damaged or
    is not of its format."""
    variant: str = ""
    """A name where the rows differ from those of the first set; they are kept apart, and read by ``folder=`` only."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the target's training sets and of the non-members."""

    targets: tuple[int, ...]
    """M-0 … M-5: six sizes, largest first."""
    test: int
    source: str
    """Where these numbers come from."""


@dataclass(frozen=True)
class Card:
    """A data set by name.

    Raises:
        InputError: nothing to read it with, or no domain where its values are in a domain's units.
    """

    name: str
    title: str
    home: str
    cite: str
    licence: str
    rows: tuple[int, int]
    """Rows of the official training part and test part; a complete set must have exactly these."""
    shape: tuple[int, ...]
    """Shape of a row."""
    classes: int
    sets: tuple[FileSet, ...]
    """The first is the one that is downloaded; the others are read where a user has them. One without files comes with
    an installed package."""
    sizes: Sizes = Sizes((), 0, "none given")
    evidence: EvidenceLevel = "no evidence"
    why: str = ""
    """What the evidence is."""
    npz: tuple[str, ...] = ()
    """Names of .npz files that may hold rows of this data set (see :mod:`labelleaks.data.npz`)."""
    class_names: tuple[str, ...] = ()
    """Where the official files hold none."""
    scale: int | None = 255
    """Stored values are whole numbers 0 … scale, and become 0 … 1; None: they are in the units of ``domain``."""
    domain: Domain | None = None
    """The inputs that exist; None: bits for flat rows, else [0, 1]."""
    side: int | None = None
    """Side of the pictures where it can be chosen: the default; None: fixed."""
    notes: str = ""

    def __post_init__(self) -> None:
        if not self.sets:
            raise InputError(f"card {self.name!r}: sets is empty: nothing says how its rows are read")
        if self.scale is None and self.domain is None:
            raise InputError(f"card {self.name!r}: without a scale its values are in a domain's units: give domain=")
        if self.domain is not None and self.npz:
            raise InputError(f"card {self.name!r}: npz is for pictures or bits, not for a domain of its own")

    @property
    def binary(self) -> bool:
        """Whether a row is a set of bits, no picture."""
        return len(self.shape) == 1 and self.domain is None

    @property
    def inputs(self) -> Domain:
        """The inputs that exist, in the units of :meth:`labelleaks.data.Dataset.rows`."""
        from labelleaks.core.domains import Binary, Box  # torch, which a list of data sets can do without

        if self.domain is not None:
            return self.domain
        return Binary() if self.binary else Box(0.0, 1.0)  # no normalisation: paper, section 1.5


_MARKS = str.maketrans("", "", "-_ ")


def names() -> tuple[str, ...]:
    """Return the names of our own data sets: those of the paper first."""
    return registry.names("datasets")


def find(name: str) -> registry.Plugin:
    """Return where the card of a data set is. Imports nothing.

    Raises:
        InputError: there is no such data set; the message names the nearest.
    """
    own = {ours.replace("_", ""): ours for ours in names()}
    return registry.find("datasets", own.get(name.lower().translate(_MARKS), name))


def card(name: str) -> Card:
    """Return what is known of a data set without having it. ``CIFAR-10`` and ``cifar_10`` mean ``cifar10``.

    Args:
        name: one of :func:`names`, of an installed package, or ``module:CARD``.

    Raises:
        InputError: there is no such data set (the message names the nearest), or it cannot be imported.
    """
    named = registry.load_named("datasets", find(name).name)
    if not isinstance(named, Card):
        raise InputError(f"data set {name!r} is a {type(named).__name__}, a labelleaks.data.Card is needed")
    if ":" in name and named.name in names() and card(named.name) is not named:
        raise InputError(f"data set {name!r} calls itself {named.name!r}, which is one of labelleaks' own: rename it")
    return named
