"""The data sets of the paper and its neighbours, by name, and the splits that the experiments stand on.

    from labelleaks.data import label_leaks_split, load
    signs = load("gtsrb")                                # downloaded once, checked, kept in the cache
    split = label_leaks_split(signs, protocol="clean")
    x, y = signs.rows(split.members(600))

``load(name, folder=...)`` reads files that are there already and downloads nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labelleaks.core.names import exports

if TYPE_CHECKING:
    from labelleaks.data.cards import Card, FileSet, ParsedRows, RemoteFile, Sizes, card, find, names
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


def load(
    name: str, *, folder: str | Path | None = None, size: int | None = None, show_progress: bool | None = None
) -> Dataset:
    """Load a data set.

    From ``folder`` where one is given: the official archives (checked, parsed, and kept in the cache), else an .npz of
    its rows (read as it is, and not kept: it may be a part). Otherwise from the cache, and where it is not there, from
    the official source: downloaded, checked, parsed, kept. The cache is LABELLEAKS_CACHE, else labelleaks in
    XDG_CACHE_HOME, else ~/.cache/labelleaks.

    Args:
        name: see :func:`labelleaks.data.card`.
        size: side of the pictures in pixels, for gtsrb (64 by default, as in the paper) and face (128); None: that
            default, or for an .npz the size that it holds.
        show_progress: None: where standard error is a terminal.

    Raises:
        InputError: an unknown name; a file that is missing, damaged, or not the one that it should be; a server that
            does not answer. Nothing wrong is kept, and a download goes on where it broke off.
    """
    from labelleaks.data.cards import card
    from labelleaks.data.loading import load_card

    return load_card(card(name), folder=folder, side=size, show_progress=show_progress)


__getattr__, __dir__ = exports(
    __name__,
    {
        "cards": ("Card", "FileSet", "ParsedRows", "RemoteFile", "Sizes", "card", "find", "names"),
        "dataset": ("Dataset",),
        "splits": ("LabelLeaksSplit", "label_leaks_split"),
    },
    "load",
)
