"""The cards are consistent, and the real rows under LABELLEAKS_DATA come out right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

import labelleaks.data as data
from labelleaks.core.domains import Binary, Box
from labelleaks.data import card, label_leaks_split, load, names
from labelleaks.errors import InputError

REAL = Path(os.environ.get("LABELLEAKS_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_real = pytest.mark.skipif(
    not REAL.is_dir() and "LABELLEAKS_DATA" not in os.environ, reason="no real data: set LABELLEAKS_DATA"
)


def test_every_card_is_complete_and_honest() -> None:
    for name in names():
        known = card(name)
        assert known.name == name and known.home and known.cite and known.licence and known.why
        for file in (file for chosen in known.sets for file in chosen.files):
            assert all(urlsplit(url).scheme == "https" for url in file.urls)
            assert bool(file.checksum) == bool(file.source), "a checksum comes with who published it"
            if file.checksum:
                assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", file.checksum)
        assert all(file.urls for file in known.sets[0].files)
    certain = [name for name in names() if card(name).evidence == "certain"]
    assert certain == ["cifar10", "cifar100", "gtsrb", "face"]
    assert [name for name in names() if card(name).evidence == "likely"] == ["tiny_imagenet"]
    unknown = [name for name in names() if any(not f.checksum for f in card(name).sets[0].files)]
    assert unknown == ["purchase100", "texas100", "location30"]


def test_names_are_forgiving_and_errors_name_the_nearest() -> None:
    assert card("CIFAR-10").name == "cifar10" and card("Tiny ImageNet").name == "tiny_imagenet"
    with pytest.raises(InputError, match="did you mean 'texas100'"):
        card("texas10")
    with pytest.raises(AttributeError, match="no attribute 'loda'"):
        data.loda  # noqa: B018
    assert data.Dataset.__name__ in dir(data)


def test_listing_needs_no_heavy_import() -> None:
    code = "import sys; from labelleaks import data; [data.card(n) for n in data.names()]; "
    code += "heavy = {'torch', 'sklearn', 'scipy', 'pandas'} & set(sys.modules); assert not heavy, heavy"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


PARTS = {
    "cifar10": (20_000, 15_000, (3, 32, 32)),
    "cifar100": (148, 148, (3, 32, 32)),
    "gtsrb": (12_000, 9_000, (3, 32, 32)),
    "face": (1867, 1867, (3, 64, 64)),
    "location30": (5010, 5010, (446,)),
    "mnist": (10_000, 8_500, (1, 28, 28)),
}


@needs_real
@pytest.mark.parametrize("name", PARTS)
def test_real_rows(name: str) -> None:
    found = load(name, folder=REAL)
    n, train, shape = PARTS[name]
    known = card(name)
    assert (len(found), int((found.split == 0).sum()), found.shape) == (n, train, shape)
    assert found.classes == known.classes and found.whole == (name in ("face", "location30"))
    assert isinstance(found.domain, Binary if known.binary else Box)
    x, y = found.rows(np.arange(0, n, max(1, n // 50)))
    found.domain.check(x, name)
    assert y.tolist() == found.y[:: max(1, n // 50)].tolist()
    described = found.describe()
    assert described["rows"] == n and described["groups"] == (1306 if name == "gtsrb" else None)
    if name == "cifar10":
        assert found.source_index is not None and len(set(found.source_index.tolist())) == n
        assert found.class_names[0] == "airplane" and 0.4 < float(x.mean()) < 0.55


@needs_real
def test_real_signs_of_one_track_stay_on_one_side() -> None:
    signs = load("gtsrb", folder=REAL)
    assert signs.groups is not None
    assert np.array_equal(signs.groups[signs.groups >= 0] // 1000, signs.y[signs.groups >= 0]), "a track has one class"
    clean = label_leaks_split(signs, protocol="clean")
    sides = [set(signs.groups[rows].tolist()) for rows in (clean.target, clean.test, clean.shadow)]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert len(set(signs.y[clean.target].tolist())) == 43 and len(clean.test) >= 2000 and len(clean.shadow) > 4000
    mixed = label_leaks_split(signs)
    twins = np.isin(signs.groups[mixed.test], signs.groups[mixed.target]).mean()
    assert twins > 0.3, "under the authors' protocol many non-members show a member's sign"


@needs_real
def test_the_real_demo_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELLEAKS_CACHE", str(tmp_path))
    places = load("location30", folder=REAL)
    split = label_leaks_split(places, protocol="clean")
    x, y = places.rows(split.members(1200))
    assert x.shape == (1200, 446) and y.shape == (1200,) and len(split.test) == 1270
    assert not list(tmp_path.iterdir()), "reading an .npz keeps nothing"
