"""The data sets of the paper and its neighbours, by name, and the splits that the experiments stand on.

    from labelleaks.data import label_leaks_split, load
    signs = load("gtsrb")                                # downloaded once, checked, kept in the cache
    split = label_leaks_split(signs, protocol="clean")
    x, y = signs.rows(split.members(600))

``load(name, folder=...)`` reads files that are there already and downloads nothing.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelleaks.core import registry
from labelleaks.errors import InputError

if TYPE_CHECKING:
    from labelleaks.data.cards import Card, FileSet, ParsedRows, RemoteFile, Sizes
    from labelleaks.data.dataset import Dataset
    from labelleaks.data.splits import LabelLeaksSplit, label_leaks_split

__all__ = [
    "Card",
    "Dataset",
    "FileSet",
    "LabelLeaksSplit",
    "ParsedRows",
    "RemoteFile",
    "Sizes",
    "card",
    "find",
    "label_leaks_split",
    "load",
    "names",
]

_HOMES = {
    "Card": "cards",
    "Dataset": "dataset",
    "FileSet": "cards",
    "LabelLeaksSplit": "splits",
    "RemoteFile": "cards",
    "ParsedRows": "cards",
    "Sizes": "cards",
    "label_leaks_split": "splits",
}
_MARKS = str.maketrans("", "", "-_ ")


def names() -> tuple[str, ...]:
    """Return the names of our own data sets: those of the paper first."""
    return registry.names("datasets")


def find(name: str) -> registry.Plugin:
    """Return where the card of a data set is. Imports nothing.

    Raises:
        InputError: there is no such data set; the message names the nearest.
    """
    own = {known.replace("_", ""): known for known in names()}
    return registry.find("datasets", own.get(name.lower().translate(_MARKS), name))


def card(name: str) -> Card:
    """Return what is known of a data set without having it. ``CIFAR-10`` and ``cifar_10`` mean ``cifar10``.

    Args:
        name: one of :func:`names`, of an installed package, or ``module:CARD``.

    Raises:
        InputError: there is no such data set (the message names the nearest), or it cannot be imported.
    """
    from labelleaks.data.cards import Card

    found = registry.load_named("datasets", find(name).name)
    if not isinstance(found, Card):
        raise InputError(f"data set {name!r} is a {type(found).__name__}, a labelleaks.data.Card is needed")
    if ":" in name and found.name in names() and card(found.name) is not found:
        raise InputError(f"data set {name!r} calls itself {found.name!r}, which is one of labelleaks' own: rename it")
    return found


def load(
    name: str, *, folder: str | Path | None = None, size: int | None = None, show_progress: bool | None = None
) -> Dataset:
    """Load a data set.

    From ``folder`` where one is given: the official archives (checked, parsed, and kept in the cache), else an .npz of
    its rows (read as it is, and not kept: it may be a part). Otherwise from the cache, and where it is not there, from
    the official source: downloaded, checked, parsed, kept. The cache is LABELLEAKS_CACHE, else labelleaks in
    XDG_CACHE_HOME, else ~/.cache/labelleaks.

    Args:
        name: see :func:`card`.
        size: side of the pictures in pixels, for gtsrb (64 by default, as in the paper) and face (128); None: that
            default, or for an .npz the size that it holds.
        show_progress: None: where standard error is a terminal.

    Raises:
        InputError: an unknown name; a file that is missing, damaged, or not the one that it should be; a server that
            does not answer. Nothing wrong is kept, and a download goes on where it broke off.
    """
    from labelleaks.data.loading import load_card

    return load_card(card(name), folder=folder, side=size, show_progress=show_progress)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"labelleaks.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'labelleaks.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
