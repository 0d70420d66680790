"""Fashion-MNIST: 70,000 pictures of clothes, in MNIST's format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labelleaks.data.cards import Card, FileSet, ParsedRows, RemoteFile, Sizes
from labelleaks.data.idx import FILES, read_idx

__all__ = ["CARD"]

_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_SUMS = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
_REMOTES = tuple(
    RemoteFile(
        name=name,
        urls=(f"https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/{name}",),
        checksum=f"sha256:{sha256}",
        source="tensorflow_datasets/url_checksums/fashion_mnist.txt of tensorflow/datasets",
        most=1 << 26,
    )
    for name, sha256 in zip(FILES, _SUMS, strict=True)
)


def _read(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
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
