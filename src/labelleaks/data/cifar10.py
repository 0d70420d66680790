"""CIFAR-10: 60,000 colour pictures of 10 classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labelleaks.data.cards import Card, FileSet, ParsedRows, RemoteFile, Sizes
from labelleaks.data.cifar import read_binary, read_python

__all__ = ["CARD"]

_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"
_BINARY = RemoteFile(
    name="cifar-10-binary.tar.gz",
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    checksum="sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    source="tensorflow_datasets/url_checksums/cifar10.txt of tensorflow/datasets",
)
_PYTHON = RemoteFile(
    name="cifar-10-python.tar.gz",
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
    checksum="md5:c58f30108f718f92721af3b95e74349a",
    source="torchvision/datasets/cifar.py of pytorch/vision",
)


def _read_binary(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
    folder = "cifar-10-batches-bin"
    return read_binary(
        paths[_BINARY.name],
        train=[f"{folder}/data_batch_{number}.bin" for number in range(1, 6)],
        test=f"{folder}/test_batch.bin",
        names=f"{folder}/batches.meta.txt",
        label_bytes=1,
    )


def _read_python(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
    folder = "cifar-10-batches-py"
    return read_python(
        paths[_PYTHON.name],
        train=[f"{folder}/data_batch_{number}" for number in range(1, 6)],
        test=f"{folder}/test_batch",
        meta=f"{folder}/batches.meta",
        labels="labels",
        names="label_names",
    )


CARD = Card(
    name="cifar10",
    title="CIFAR-10",
    home=_HOME,
    cite="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    licence="none stated",
    evidence="certain",
    why="in every version of the authors' code",
    rows=(50_000, 10_000),
    shape=(3, 32, 32),
    classes=10,
    sizes=Sizes((3000, 2000, 1500, 1000, 500, 100), 1000, "authors' code"),
    sets=(FileSet((_BINARY,), _read_binary), FileSet((_PYTHON,), _read_python)),
    npz=("cifar10.npz",),
)
