"""GTSRB: 51,839 frames of German traffic signs, 43 classes, the whole frame scaled to a square.

The training part is the archive of the final competition. (A smaller one with a similar name, GTSRB-Training_fixed.zip,
holds the 26,640 frames of the online competition only.) Its file names, class/track_frame.ppm, tell which frames show
one physical sign: up to 30 of them, nearly equal. ``groups`` is class x 1000 + track; test frames have none (-1), their
order is random and their tracks were not published.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from labelleaks.data.archive import members, names
from labelleaks.data.cards import Card, FileSet, ParsedRows, Pixels, RemoteFile, Sizes
from labelleaks.data.pixels import decoded
from labelleaks.errors import InputError

__all__ = ["CARD"]

_BASE = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"
_TORCHVISION = "torchvision/datasets/gtsrb.py of pytorch/vision"
_TRAIN = RemoteFile(
    name="GTSRB_Final_Training_Images.zip",
    urls=(f"{_BASE}/GTSRB_Final_Training_Images.zip",),
    checksum="md5:f33fd80ac59bff73c82d25ab499e03a3",
    source="dm_nevis/datasets_storage/handlers/german_tsr.py of google-deepmind/dm_nevis",
)
_TEST = RemoteFile(
    name="GTSRB_Final_Test_Images.zip",
    urls=(f"{_BASE}/GTSRB_Final_Test_Images.zip",),
    checksum="md5:c7e4e6327067d32654124b0fe9e82185",
    source=_TORCHVISION,
)
_TRUTH = RemoteFile(
    name="GTSRB_Final_Test_GT.zip",
    urls=(f"{_BASE}/GTSRB_Final_Test_GT.zip",),
    checksum="md5:fe31e9c9270bbcd7b84b7f21a9d9d9e5",
    source=_TORCHVISION,
)
_FRAME = re.compile(r"GTSRB/Final_Training/Images/(\d{5})/(\d{5})_\d{5}\.ppm")
_TEST_FRAME = re.compile(r"GTSRB/Final_Test/Images/(\d{5}\.ppm)")
_MOST = 1 << 24
"""bytes of a frame; the largest has about 0.2 MB"""
_NAMES = (
    "Speed limit 20", "Speed limit 30", "Speed limit 50", "Speed limit 60", "Speed limit 70", "Speed limit 80",
    "End of speed limit 80", "Speed limit 100", "Speed limit 120", "No passing", "No passing for trucks",
    "Right of way at next intersection", "Priority road", "Yield", "Stop", "No vehicles", "No trucks", "No entry",
    "General caution", "Dangerous curve left", "Dangerous curve right", "Double curve", "Bumpy road", "Slippery road",
    "Road narrows on the right", "Road work", "Traffic signals", "Pedestrians", "Children crossing",
    "Bicycles crossing", "Ice or snow", "Wild animals crossing", "End of all limits", "Turn right ahead",
    "Turn left ahead", "Ahead only", "Straight or right", "Straight or left", "Keep right", "Keep left",
    "Roundabout mandatory", "End of no passing", "End of no passing for trucks",
)  # fmt: skip


def _read(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
    assert side is not None
    train = sorted(name for name in names(paths[_TRAIN.name]) if _FRAME.fullmatch(name))
    test = sorted(name for name in names(paths[_TEST.name]) if _TEST_FRAME.fullmatch(name))
    if not train or not test:
        raise InputError(f"{paths[(_TEST if train else _TRAIN).name]}: no frames where GTSRB has them")
    x = np.empty((len(train) + len(test), 3, side, side), dtype=np.uint8)
    _decode(paths[_TRAIN.name], train, x[: len(train)], side)
    _decode(paths[_TEST.name], test, x[len(train) :], side)
    frames = [_FRAME.fullmatch(name) for name in train]
    pairs = np.array([(int(match[1]), int(match[2])) for match in frames if match is not None], dtype=np.int64)
    truth = _truth(paths[_TRUTH.name])
    missing = [name for name in test if Path(name).name not in truth]
    if missing:
        raise InputError(f"{paths[_TRUTH.name]}: no class for {missing[0]} and {len(missing) - 1} other frames")
    return ParsedRows(
        x=x,
        y=np.concatenate([pairs[:, 0], np.array([truth[Path(name).name] for name in test], dtype=np.int64)]),
        split=np.repeat(np.array([0, 1], dtype=np.uint8), [len(train), len(test)]),
        class_names=_NAMES,
        groups=np.concatenate([pairs[:, 0] * 1000 + pairs[:, 1], np.full(len(test), -1, dtype=np.int64)]),
    )


def _decode(path: Path, order: list[str], out: Pixels, side: int) -> None:
    place = {name: row for row, name in enumerate(order)}
    for name, stream in members(path, lambda name: name in place):
        out[place[name]] = decoded(stream.read(_MOST), f"{path}: {name}", kind="PPM", side=side)


def _truth(path: Path) -> dict[str, int]:
    for _, stream in members(path, lambda name: name.endswith("GT-final_test.csv")):
        lines = io.StringIO(stream.read(_MOST).decode("ascii", "replace"))
        try:
            return {line["Filename"]: int(line["ClassId"]) for line in csv.DictReader(lines, delimiter=";")}
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path}: GT-final_test.csv does not hold Filename;…;ClassId") from None
    raise InputError(f"{path}: GT-final_test.csv is not in it")


CARD = Card(
    name="gtsrb",
    title="GTSRB",
    home="https://benchmark.ini.rub.de/",
    cite="Stallkamp, Schlipsing, Salmen, Igel, Man vs. computer, Neural Networks 32, 2012",
    licence="none stated",
    evidence="certain",
    why="in every version of the authors' code",
    rows=(39_209, 12_630),
    shape=(3, 64, 64),
    classes=43,
    sizes=Sizes((600, 500, 400, 300, 200, 100), 500, "authors' code"),
    sets=(FileSet((_TRAIN, _TEST, _TRUTH), _read),),
    npz=("gtsrb.npz",),
    class_names=_NAMES,
    side=64,
    notes="The whole frame, no crop, scaled to 64 x 64 (bilinear). Up to 30 frames show one physical sign.",
)
