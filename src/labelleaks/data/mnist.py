"""MNIST and Fashion-MNIST: 70,000 handwritten digits, 70,000 pictures of clothes, in one format.

That is IDX: two zero bytes, the type (8 = uint8), the number of axes, their lengths as four bytes each, the highest
first, then the values. Source: http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelleaks.data.archive import gunzip
from labelleaks.data.cards import Card, FileSet, ParsedRows, RemoteFile, Sizes
from labelleaks.errors import InputError

__all__ = ["FASHION_MNIST", "FILES", "MNIST", "read_idx"]

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_MOST = 1 << 28
"""bytes, unpacked; the largest official file has 47 MB"""


def read_idx(paths: Mapping[str, Path], class_names: tuple[str, ...]) -> ParsedRows:
    """Read the four files: uint8 (n, 1, 28, 28). Raises InputError where one is damaged or two do not fit."""
    parts = []
    for pictures, labels in (FILES[:2], FILES[2:]):
        x, y = _array(paths[pictures], 3), _array(paths[labels], 1)
        if len(x) != len(y):
            raise InputError(f"{paths[pictures]}: {len(x)} pictures, but {paths[labels].name} has {len(y)} labels")
        parts.append((x[:, None], y.astype(np.int64)))
    return ParsedRows(
        x=np.concatenate([x for x, _ in parts]),
        y=np.concatenate([y for _, y in parts]),
        split=np.repeat(np.array([0, 1], dtype=np.uint8), [len(y) for _, y in parts]),
        class_names=class_names,
    )


def _array(path: Path, axes: int) -> NDArray[np.uint8]:
    content = gunzip(path, _MOST)
    start = 4 + 4 * axes
    if len(content) < start or content[:4] != bytes((0, 0, 8, axes)):
        raise InputError(f"{path}: not an IDX file of {axes} axes: it begins with {content[:4]!r}")
    shape = struct.unpack(f">{axes}I", content[4:start])
    values = np.frombuffer(content, dtype=np.uint8, offset=start)
    if values.size != np.prod(shape, dtype=np.uint64):
        raise InputError(f"{path}: {values.size:,} values, but its head says {shape}")
    return values.reshape(shape)


def _set(mirrors: Sequence[str], sums: Sequence[str], source: str, class_names: tuple[str, ...]) -> FileSet:
    """The four files, each with its SHA-256."""
    files = tuple(
        RemoteFile(name, tuple(f"{mirror}/{name}" for mirror in mirrors), f"sha256:{sha256}", source, most=1 << 26)
        for name, sha256 in zip(FILES, sums, strict=True)
    )
    return FileSet(files, lambda paths, side: read_idx(paths, class_names))


_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

MNIST = Card(
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
    sets=(
        _set(
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist",
                "https://storage.googleapis.com/cvdf-datasets/mnist",
            ),
            (
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
            "tensorflow_datasets/url_checksums/mnist.txt of tensorflow/datasets",
            _DIGITS,
        ),
    ),
    npz=("mnist.npz",),
    class_names=_DIGITS,
    notes="Downloaded from two mirrors: the official site no longer serves it over https.",
)

FASHION_MNIST = Card(
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
    sets=(
        _set(
            ("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",),
            (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
            "tensorflow_datasets/url_checksums/fashion_mnist.txt of tensorflow/datasets",
            _CLOTHES,
        ),
    ),
    npz=("fashion_mnist.npz",),
    class_names=_CLOTHES,
)
