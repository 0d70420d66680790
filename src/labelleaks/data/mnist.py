"""MNIST: 70,000 handwritten digits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labelleaks.data.cards import Card, FileSet, ParsedRows, RemoteFile, Sizes
from labelleaks.data.idx import FILES, read_idx

__all__ = ["CARD"]

_NAMES = tuple("0123456789")
_SUMS = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
_MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
_REMOTES = tuple(
    RemoteFile(
        name=name,
        urls=tuple(f"{mirror}/{name}" for mirror in _MIRRORS),
        checksum=f"sha256:{sha256}",
        source="tensorflow_datasets/url_checksums/mnist.txt of tensorflow/datasets",
        most=1 << 26,
    )
    for name, sha256 in zip(FILES, _SUMS, strict=True)
)


def _read(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
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
