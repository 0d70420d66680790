"""MNIST: 70,000 handwritten digits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labelleaks.data.cards import Card, FileSet, Remote, Rows, Sizes
from labelleaks.data.idx import FILES, read_idx

__all__ = ["CARD"]

_NAMES = tuple("0123456789")
_SUMS = (
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)
_MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
_REMOTES = tuple(
    Remote(
        name=name,
        urls=tuple(f"{mirror}/{name}" for mirror in _MIRRORS),
        checksum=f"md5:{md5}",
        source="torchvision/datasets/mnist.py of pytorch/vision",
        most=1 << 26,
    )
    for name, md5 in zip(FILES, _SUMS, strict=True)
)


def _read(paths: Mapping[str, Path], side: int | None) -> Rows:
    return read_idx(paths, _NAMES)


CARD = Card(
    name="mnist",
    title="MNIST",
    home="http://yann.lecun.com/exdb/mnist/",
    cite="LeCun, Bottou, Bengio, Haffner, Gradient-based learning, Proc. IEEE 86, 1998",
    licence="CC BY-SA 3.0, as commonly stated",
    evidence="no evidence",
    why="not in the authors' code; here as the easy case",
    rows=(60_000, 10_000),
    shape=(1, 28, 28),
    classes=10,
    sizes=Sizes((3000, 2000, 1500, 1000, 500, 100), 1000, "ours, as CIFAR-10"),
    sets=(FileSet(_REMOTES, _read),),
    npz=("mnist.npz",),
    class_names=_NAMES,
    notes="Downloaded from two mirrors: the official site no longer serves it over https.",
)
