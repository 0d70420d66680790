"""Face: the 19 people of Labeled Faces in the Wild with more than 40 pictures, 1,867 in all.

The crop: the middle 150 x 150 of the 250 x 250 pixels, scaled to 128 x 128 (Lanczos). The paper's code reads files that
are 128 x 128 already, and how they were made is not known. Downloaded are the funneled pictures, which have an address
that is in service and a published checksum; the deep-funneled and the original ones are read where a user has them,
with ``folder=`` each time, and kept apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from labelleaks.data.archive import members, names
from labelleaks.data.cards import Card, FileSet, ParsedRows, RemoteFile, Sizes
from labelleaks.data.pixels import decoded
from labelleaks.errors import InputError

__all__ = ["CARD"]

_SKLEARN = "sklearn/datasets/_lfw.py of scikit-learn"
_TORCHVISION = "torchvision/datasets/lfw.py of pytorch/vision"
_FUNNELED = RemoteFile(
    name="lfw-funneled.tgz",
    urls=("https://ndownloader.figshare.com/files/5976015",),
    checksum="sha256:b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a",
    source=_SKLEARN,
)
_DEEP = RemoteFile(
    name="lfw-deepfunneled.tgz", urls=(), checksum="md5:68331da3eb755a505a502b5aacb3c201", source=_TORCHVISION
)
_PLAIN = RemoteFile(
    name="lfw.tgz",
    urls=("https://ndownloader.figshare.com/files/5976018",),
    checksum="sha256:055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0",
    source=_SKLEARN,
)
_PICTURE = re.compile(r"lfw[-_a-z]*/([^/]+)/\1_\d{4}\.jpg")
_MORE_THAN = 40
_CENTRE = 150
_MOST = 1 << 24
"""bytes of a picture"""


def _set(file: RemoteFile, variant: str) -> FileSet:
    return FileSet((file,), _reader(file), variant)


def _reader(file: RemoteFile) -> Callable[[Mapping[str, Path], int | None], ParsedRows]:
    return lambda paths, side: _read(paths[file.name], side)


def _read(path: Path, side: int | None) -> ParsedRows:
    assert side is not None
    person_of = {name: match[1] for name in names(path) if (match := _PICTURE.fullmatch(name))}
    count = Counter(person_of.values())
    people = sorted(person for person in count if count[person] > _MORE_THAN)
    if not people:
        raise InputError(f"{path}: nobody with more than {_MORE_THAN} pictures in it")
    order = sorted(name for name in person_of if person_of[name] in people)
    place = {name: row for row, name in enumerate(order)}
    x = np.empty((len(order), 3, side, side), dtype=np.uint8)
    for name, stream in members(path, lambda name: name in place):
        what = f"{path}: {name}"
        x[place[name]] = decoded(stream.read(_MOST), what, kind="JPEG", side=side, centre=_CENTRE, sharp=True)
    return ParsedRows(
        x=x,
        y=np.array([people.index(person_of[name]) for name in order], dtype=np.int64),
        split=np.zeros(len(order), dtype=np.uint8),
        class_names=tuple(people),
    )


CARD = Card(
    name="face",
    title="Face (LFW)",
    home="http://vis-www.cs.umass.edu/lfw/",
    cite="Huang, Ramesh, Berg, Learned-Miller, Labeled Faces in the Wild, UMass Amherst 07-49, 2007",
    licence="none stated; news photographs, for research only",
    evidence="certain",
    why="in every version of the authors' code, with 19 classes",
    rows=(1867, 0),
    shape=(3, 128, 128),
    classes=19,
    sizes=Sizes((350, 300, 250, 200, 150, 100), 100, "authors' code"),
    sets=(_set(_FUNNELED, ""), _set(_DEEP, "deepfunneled"), _set(_PLAIN, "original")),
    npz=("faces_lfw19.npz",),
    side=128,
    notes="The 19 people with more than 40 pictures; the middle 150 x 150 of 250 x 250 pixels, scaled (Lanczos).",
)
