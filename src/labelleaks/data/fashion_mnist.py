"""Fashion-MNIST: 70,000 pictures of clothes, in MNIST's format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labelleaks.data.cards import Card, FileSet, Remote, Rows, Sizes
from labelleaks.data.idx import FILES, read_idx

__all__ = ["CARD"]

_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_SUMS = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)
_REMOTES = tuple(
    Remote(
        name=name,
        urls=(f"https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/{name}",),
        checksum=f"md5:{md5}",
        source="README.md of zalandoresearch/fashion-mnist",
        most=1 << 26,
    )
    for name, md5 in zip(FILES, _SUMS, strict=True)
)


def _read(paths: Mapping[str, Path], side: int | None) -> Rows:
    return read_idx(paths, _NAMES)


CARD = Card(
    name="fashion_mnist",
    title="Fashion-MNIST",
    home="https://github.com/zalandoresearch/fashion-mnist",
    cite="Xiao, Rasul, Vollgraf, Fashion-MNIST, arXiv 1708.07747, 2017",
    licence="MIT",
    evidence="no evidence",
    why="not in the authors' code; here as a small one",
    rows=(60_000, 10_000),
    shape=(1, 28, 28),
    classes=10,
    sizes=Sizes((3000, 2000, 1500, 1000, 500, 100), 1000, "ours, as CIFAR-10"),
    sets=(FileSet(_REMOTES, _read),),
    npz=("fashion_mnist.npz",),
    class_names=_NAMES,
)
