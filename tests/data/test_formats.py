"""Every official format, from small files: downloaded from a server on this machine, checked, parsed, kept."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelleaks.core.domains import Binary, Box
from labelleaks.data import card, load
from labelleaks.data.cards import Card
from labelleaks.data.loading import is_kept, load_card
from labelleaks.errors import InputError
from tests.data_fixture import (
    PATIENT,
    Server,
    at,
    cifar10_binary,
    cifar10_python,
    colours,
    idx,
    md5,
    picture,
    python_2_batch,
    send,
    serve,
    tgz,
    whole,
    zipped,
)

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
X = colours(12)
Y = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], dtype=np.int64)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABELLEAKS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def get(small: Card, **kwargs: Any) -> Any:
    return load_card(small, show_progress=False, policy=PATIENT, **kwargs)


def cifar10(server: Server) -> Card:
    return at(card("cifar10"), server, {"cifar-10-binary.tar.gz": cifar10_binary(X, Y, NAMES)}, (10, 2))


def test_cifar10_binary(server: Server, cache: Path) -> None:
    small = cifar10(server)
    assert not is_kept(small)
    found = get(small)
    assert np.array_equal(found.x, X) and found.y.tolist() == Y.tolist()
    assert found.split.tolist() == [0] * 10 + [1] * 2 and list(found.class_names) == NAMES
    assert found.source_index.tolist() == list(range(12)) and found.groups is None and found.whole
    assert isinstance(found.domain, Box) and found.origin == "cifar-10-binary.tar.gz"
    x, y = found.rows([11, 0])
    assert x.shape == (2, 3, 32, 32) and y.tolist() == [8, 3]
    assert np.array_equal((x.numpy() * 255).round().astype(np.uint8), X[[11, 0]])
    found.domain.check(x, "rows")
    held = json.loads((cache / "data/cifar10/checksums.json").read_text())
    assert set(held) == {"cifar-10-binary.tar.gz"} and len(held["cifar-10-binary.tar.gz"]["sha256"]) == 64
    assert is_kept(small)


def test_what_is_kept_is_not_downloaded_again(server: Server, cache: Path) -> None:
    small = cifar10(server)
    first = get(small)
    asked = len(server.seen)
    again = get(small)
    assert len(server.seen) == asked and again.digest() == first.digest()
    with pytest.raises(ValueError, match="read-only"):
        again.x[0] = 0
    for file in (cache / "data/cifar10/rows").iterdir():
        file.write_bytes(b"\0" * 10)
    with pytest.raises(InputError, match=r"rows is damaged .*: delete it"):
        get(small)


def test_a_broken_download_is_resumed_and_then_parsed(server: Server) -> None:
    small = cifar10(server)
    file = small.sets[0].files[0]
    server.put(file.name, server.files[file.name], send(most=5000), whole)
    start = len(server.asked(file.name))
    assert np.array_equal(get(small).x, X)
    assert [headers.get("Range") for headers in server.asked(file.name)[start:]] == [None, "bytes=5000-"]


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar10_python_is_the_same_without_its_pickles(server: Server, tmp_path: Path, protocol: int) -> None:
    name = "cifar-10-python.tar.gz"
    small = at(card("cifar10"), server, {name: cifar10_python(X, Y, NAMES, protocol)}, (10, 2))
    (tmp_path / name).write_bytes(server.files[name])
    found = get(small, folder=tmp_path)
    assert np.array_equal(found.x, X) and found.y.tolist() == Y.tolist() and list(found.class_names) == NAMES


@pytest.mark.parametrize("version", ["binary", "python"])
def test_cifar100_has_fine_labels(server: Server, tmp_path: Path, version: str) -> None:
    names = [f"class {number}" for number in range(100)]
    fine, coarse = Y * 11, Y
    if version == "binary":
        rows = [bytes([c, f]) + x.tobytes() for c, f, x in zip(coarse, fine, X, strict=True)]
        held = {"train.bin": b"".join(rows[:8]), "test.bin": b"".join(rows[8:])}
        texts = {"fine_label_names.txt": "\n".join(names).encode(), "coarse_label_names.txt": b"animals\n"}
        content = tgz({f"cifar-100-binary/{name}": data for name, data in {**held, **texts}.items()})
    else:
        flat = X.reshape(12, -1)
        batches = [
            python_2_batch(flat[rows], fine[rows].tolist()).replace(b"U\x06labels", b"U\x0bfine_labels")
            for rows in (slice(8), slice(8, None))
        ]
        meta = (
            b"\x80\x02}(U\x10fine_label_names](" + b"".join(b"U" + bytes([len(n)]) + n.encode() for n in names) + b"eu."
        )
        content = tgz(
            {f"cifar-100-python/{n}": d for n, d in zip(("train", "test", "meta"), (*batches, meta), strict=True)}
        )
    name = f"cifar-100-{version}.tar.gz"
    (tmp_path / name).write_bytes(content)
    found = get(at(card("cifar100"), server, {name: content}, (8, 4)), folder=tmp_path)
    assert np.array_equal(found.x, X) and found.y.tolist() == fine.tolist()
    assert found.class_names[99] == "class 99" and found.split.tolist() == [0] * 8 + [1] * 4


def gtsrb_files() -> dict[str, bytes]:
    """Frames of other sizes; two tracks of class 3, one of class 41; two test frames."""
    random = np.random.default_rng(0)
    root = "GTSRB/Final_Training/Images"
    frames = {
        f"{root}/000{c}/000{t}_0000{f}.ppm": 0 for c, t in (("03", "00"), ("03", "01"), ("41", "00")) for f in (0, 1)
    }
    train: dict[str, bytes] = {f"{root}/00003/GT-00003.csv": b"Filename;Width\n", "GTSRB/Readme-Images.txt": b"..."}
    for name in reversed(frames):
        side = int(random.integers(20, 90))
        train[name] = picture(random.integers(0, 256, (side, side + 3, 3), dtype=np.uint8), "PPM")
    test = {
        f"GTSRB/Final_Test/Images/0000{i}.ppm": picture(np.full((40, 40, 3), 90 * i, np.uint8), "PPM") for i in (1, 0)
    }
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";")
    writer.writerow(["Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId"])
    writer.writerow(["00000.ppm", 40, 40, 5, 5, 35, 35, 16])
    writer.writerow(["00001.ppm", 40, 40, 5, 5, 35, 35, 1])
    return {
        "GTSRB_Final_Training_Images.zip": zipped(train),
        "GTSRB_Final_Test_Images.zip": zipped(test),
        "GTSRB_Final_Test_GT.zip": zipped({"GT-final_test.csv": text.getvalue().encode()}),
    }


def test_gtsrb_frames_sizes_and_tracks(server: Server) -> None:
    small = at(card("gtsrb"), server, gtsrb_files(), (6, 2))
    found = get(small)
    assert found.shape == (3, 64, 64) and found.classes == 43
    assert found.y.tolist() == [3, 3, 3, 3, 41, 41, 16, 1]
    assert found.groups.tolist() == [3000, 3000, 3001, 3001, 41000, 41000, -1, -1]
    assert found.x[6].max() == 0 and set(np.unique(found.x[7])) == {90}
    assert get(small, side=32).shape == (3, 32, 32)
    with pytest.raises(InputError, match="8 to 512"):
        get(small, side=4)


def test_face_people_with_more_than_40_pictures_and_the_crop(server: Server) -> None:
    def face(shade: int) -> bytes:
        pixels = np.zeros((250, 250, 3), dtype=np.uint8)
        pixels[50:200, 50:200] = shade  # what the crop keeps
        return picture(pixels, "JPEG")

    held = {"lfw_funneled/pairs.txt": b"10"}
    for person, count, shade in (("Zoe_Z", 41, 200), ("Amy_B", 42, 100), ("Few_F", 40, 50)):
        content = face(shade)
        held |= {f"lfw_funneled/{person}/{person}_{i:04d}.jpg": content for i in range(count, 0, -1)}
    small = at(card("face"), server, {"lfw-funneled.tgz": tgz(held)}, (83, 0), classes=2)
    assert small.sets[0].files[0].checksum is not None and small.sets[0].files[0].checksum.startswith("md5:")
    found = get(small)
    assert found.class_names == ("Amy_B", "Zoe_Z") and np.bincount(found.y).tolist() == [42, 41]
    assert found.shape == (3, 128, 128) and found.y.tolist() == sorted(found.y.tolist())
    assert abs(int(found.x[0].min()) - 100) < 3 and abs(int(found.x[0].max()) - 100) < 3, "all of it is the middle"


def test_other_versions_of_the_faces_are_kept_apart(server: Server, tmp_path: Path) -> None:
    def archive(folder: str, shade: int) -> bytes:
        content = picture(np.full((250, 250, 3), shade, np.uint8), "JPEG")
        return tgz({f"{folder}/Amy_B/Amy_B_{number:04d}.jpg": content for number in range(1, 42)})

    files = {"lfw-funneled.tgz": archive("lfw_funneled", 50), "lfw-deepfunneled.tgz": archive("lfw-deepfunneled", 200)}
    small = at(card("face"), server, files, (41, 0), classes=1)
    (tmp_path / "lfw-deepfunneled.tgz").write_bytes(files["lfw-deepfunneled.tgz"])
    assert int(get(small, folder=tmp_path).x.max()) == 200 and not is_kept(small)
    assert int(get(small).x.max()) == 50, "the version that everybody gets"
    assert int(get(small, folder=tmp_path).x.max()) == 200


def test_tiny_imagenet(server: Server) -> None:
    wnids = ["n02000002", "n01000001"]
    shades = {"n01000001": 50, "n02000002": 200}
    root = "tiny-imagenet-200"
    held = {
        f"{root}/wnids.txt": "\n".join(wnids).encode(),
        f"{root}/words.txt": b"n01000001\tgoldfish\nn02000002\tcrane",
    }
    for wnid, shade in shades.items():
        flat = np.full((64, 64), shade, dtype=np.uint8)
        held |= {f"{root}/train/{wnid}/images/{wnid}_{i}.JPEG": picture(flat, "JPEG") for i in (1, 0)}
        held[f"{root}/train/{wnid}/{wnid}_boxes.txt"] = b""
    held[f"{root}/val/images/val_0.JPEG"] = picture(np.full((64, 64, 3), 200, np.uint8), "JPEG")
    held[f"{root}/val/val_annotations.txt"] = b"val_0.JPEG\tn02000002\t0\t0\t63\t63\n"
    held[f"{root}/test/images/test_0.JPEG"] = picture(np.full((64, 64, 3), 0, np.uint8), "JPEG")
    small = at(card("tiny_imagenet"), server, {"tiny-imagenet-200.zip": zipped(held)}, (4, 1), classes=2)
    found = get(small)
    assert found.class_names == ("n01000001 goldfish", "n02000002 crane")
    assert found.y.tolist() == [0, 0, 1, 1, 1] and found.split.tolist() == [0, 0, 0, 0, 1]
    assert [int(row.mean()) for row in found.x] == [50, 50, 200, 200, 200]


BITS = np.random.default_rng(0).integers(0, 2, (6, 9), dtype=np.uint8)


@pytest.mark.parametrize("spelling", ["plain", "quoted", "spaced", "decimal", "windows"])
def test_location30_and_its_spellings(server: Server, spelling: str) -> None:
    join = {"spaced": ", ", "decimal": ".0,"}.get(spelling, ",")
    end = ".0\n" if spelling == "decimal" else "\r\n" if spelling == "windows" else "\n"
    label = '"{}"' if spelling == "quoted" else "{}"
    text = "".join(f"{label.format(i + 1)},{join.join(map(str, row))}{end}" for i, row in enumerate(BITS))
    files = {"dataset_location.tgz": tgz({"bangkok": text.encode()})}
    found = get(at(card("location30"), server, files, (6, 0), shape=(9,)))
    assert np.array_equal(found.x, BITS) and found.y.tolist() == list(range(6)) and isinstance(found.domain, Binary)
    x, _ = found.rows()
    assert set(x.unique().tolist()) == {0.0, 1.0}


def test_purchase100_and_texas100(server: Server) -> None:
    lines = [",".join(map(str, row)) for row in BITS]
    classes = [100, 1, 50, 2, 2, 7]
    purchase = "\n".join(f"{c},{line}" for c, line in zip(classes, lines, strict=True)).encode()
    texas = {"texas/100/feats": "\n".join(lines).encode(), "texas/100/labels": "\n".join(map(str, classes)).encode()}
    files = {
        "dataset_purchase.tgz": tgz({"dataset_purchase": purchase}),
        "dataset_texas.tgz": tgz({**texas, "texas/10/feats": b"9"}),
    }
    for name in ("purchase100", "texas100"):
        found = get(at(card(name), server, files, (6, 0), shape=(9,)))
        assert np.array_equal(found.x, BITS) and found.y.tolist() == [c - 1 for c in classes]


def test_without_a_published_checksum_the_first_copy_counts(server: Server, cache: Path, tmp_path: Path) -> None:
    def location(rows: np.ndarray[Any, Any]) -> bytes:
        return tgz({"bangkok": "\n".join(f"{i + 1},{','.join(map(str, row))}" for i, row in enumerate(rows)).encode()})

    small = at(card("location30"), server, {"dataset_location.tgz": location(BITS)}, (6, 0), shape=(9,))
    get(small)
    for folder in ("rows", "dataset_location.tgz"):
        target = cache / "data/location30" / folder
        target.unlink() if target.is_file() else [file.unlink() for file in target.iterdir()]
    server.put("dataset_location.tgz", location(1 - BITS))
    with pytest.raises(InputError, match="recorded when it first came here"):
        get(small)
    (tmp_path / "dataset_location.tgz").write_bytes(location(1 - BITS))
    with pytest.raises(InputError, match="recorded when it first came here"):
        get(small, folder=tmp_path)


def test_a_damaged_first_download_is_not_recorded(server: Server, cache: Path) -> None:
    good = tgz({"bangkok": b"1,0,1\n2,1,1\n"})
    small = at(card("location30"), server, {"dataset_location.tgz": good[:-20]}, (2, 0), shape=(2,))
    with pytest.raises(InputError, match=r"damaged or cut short.*deleted from the cache"):
        get(small)
    assert not (cache / "data/location30/checksums.json").exists()
    server.put("dataset_location.tgz", good)
    assert get(small).y.tolist() == [0, 1]


def mnist_files() -> dict[str, bytes]:
    x = colours(5, 28)[:, 0]
    return {
        "train-images-idx3-ubyte.gz": idx(x[:3]),
        "train-labels-idx1-ubyte.gz": idx(np.array([7, 0, 9])),
        "t10k-images-idx3-ubyte.gz": idx(x[3:]),
        "t10k-labels-idx1-ubyte.gz": idx(np.array([1, 2])),
    }


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_and_fashion_mnist(server: Server, name: str) -> None:
    found = get(at(card(name), server, mnist_files(), (3, 2)))
    assert np.array_equal(found.x[:, 0], colours(5, 28)[:, 0]) and found.shape == (1, 28, 28)
    assert found.y.tolist() == [7, 0, 9, 1, 2] and found.split.tolist() == [0, 0, 0, 1, 1]


def test_digits_are_at_hand() -> None:
    found = load("digits")
    x, y = found.rows()
    assert x.shape == (1797, 1, 8, 8) and float(x.max()) == 1.0 and y.bincount().tolist()[0] == 178 and found.whole


BAD_MNIST = {
    "magic": ("train-images-idx3-ubyte.gz", gzip.compress(b"\0\0\x0d\x03" + bytes(12)), "not an IDX file of 3 axes"),
    "short": (
        "train-images-idx3-ubyte.gz",
        gzip.compress(gzip.decompress(idx(colours(3, 28)[:, 0]))[:-1]),
        "its head says",
    ),
    "labels": ("t10k-labels-idx1-ubyte.gz", idx(np.array([1])), "2 pictures, but"),
    "class": ("t10k-labels-idx1-ubyte.gz", idx(np.array([1, 10])), "labels 0 … 10"),
    "count": ("train-labels-idx1-ubyte.gz", None, r"3 \+ 2"),
}


@pytest.mark.parametrize("fault", BAD_MNIST)
def test_mnist_files_that_do_not_fit(server: Server, fault: str) -> None:
    name, content, says = BAD_MNIST[fault]
    files = mnist_files() | ({} if content is None else {name: content})
    small = at(card("mnist"), server, files, (4, 2) if content is None else (3, 2))
    with pytest.raises(InputError, match=says):
        get(small)


BAD_LINES = [
    (b"1,0,1\n2,0,2\n", "line 2: not a list of 0 and 1"),
    (b"1,0,1\n2,0\n", "line 2: 1 features, but the first line has 2"),
    (b"x,0,1\n", "line 1: a class number is expected"),
    (b"1,0,1\n31,0,1\n", "labels 0 … 30"),
    (b"1,0,1\n0,0,1\n", "labels -1 … 0"),
    (b"", "is empty"),
    (b"1," + b"0," * 600_000 + b"0\n", "longer than"),
]


@pytest.mark.parametrize(("text", "says"), BAD_LINES, ids=[says for _, says in BAD_LINES])
def test_lines_that_are_no_rows(server: Server, text: bytes, says: str) -> None:
    rows = text.count(b"\n")
    small = at(card("location30"), server, {"dataset_location.tgz": tgz({"bangkok": text})}, (rows, 0), shape=(2,))
    with pytest.raises(InputError, match=says):
        get(small)


def test_archives_without_what_belongs_in_them(server: Server) -> None:
    empty = tgz({"something": b"else"})
    for name, says in (("cifar10", "data_batch_1.bin"), ("face", "nobody"), ("purchase100", "dataset_purchase is not"),
                       ("texas100", "texas/100/feats is not"), ("location30", "bangkok is not")):  # fmt: skip
        small = at(card(name), server, {file.name: empty for file in card(name).sets[0].files}, (1, 0))
        with pytest.raises(InputError, match=says):
            get(small)
    nothing = zipped({"something": b"else"})
    for name, says in (("gtsrb", "no frames"), ("tiny_imagenet", "wnids.txt")):
        small = at(card(name), server, {file.name: nothing for file in card(name).sets[0].files}, (1, 0))
        with pytest.raises(InputError, match=says):
            get(small)


def test_pictures_that_are_none(server: Server) -> None:
    files = gtsrb_files()
    for bad, says in (
        (b"P6\n5000 5000\n255\n" + bytes(100), "5000 x 5000 pixels: refused"),
        (b"P6\n20 20\n255\n" + bytes(100), "not a readable PPM"),
        (picture(np.zeros((20, 20, 3), np.uint8), "JPEG"), "not a readable PPM"),
    ):
        train = zipped({"GTSRB/Final_Training/Images/00000/00000_00000.ppm": bad})
        small = at(card("gtsrb"), server, {**files, "GTSRB_Final_Training_Images.zip": train}, (1, 2))
        with pytest.raises(InputError, match=says):
            get(small)


def test_files_of_one_s_own_are_checked_and_left_alone(server: Server, tmp_path: Path, cache: Path) -> None:
    small = cifar10(server)
    mine = tmp_path / "mine" / "cifar10"
    mine.mkdir(parents=True)
    archive = mine / "cifar-10-binary.tar.gz"
    archive.write_bytes(server.files[archive.name])
    asked = len(server.seen)
    assert np.array_equal(get(small, folder=tmp_path / "mine").x, X)
    assert len(server.seen) == asked and is_kept(small), "nothing was downloaded, and it is kept"
    assert np.array_equal(get(small, folder=tmp_path / "mine").x, X), "read from the cache"
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"is not the file that it should be.*published"):
        get(small, folder=tmp_path / "mine")
    assert archive.exists()
    with pytest.raises(
        InputError, match=r"no complete copy of CIFAR-10.*cifar-10-binary.tar.gz; cifar-10-python.tar.gz"
    ):
        get(small, folder=cache)
    with pytest.raises(InputError, match="no such folder"):
        get(small, folder=tmp_path / "nowhere")


def test_a_wrong_file_in_the_cache_is_deleted(server: Server, cache: Path) -> None:
    small = cifar10(server)
    place = cache / "data/cifar10/cifar-10-binary.tar.gz"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"left over")
    with pytest.raises(InputError, match="deleted from the cache: get it again"):
        get(small)
    assert np.array_equal(get(small).x, X)


def test_another_version_of_the_parser_makes_the_rows_anew(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from labelleaks.data import cache as kept_rows

    small = cifar10(server)
    first = get(small).digest()
    monkeypatch.setattr(kept_rows, "_VERSION", 2)
    assert not is_kept(small)
    asked = len(server.seen)
    assert get(small).digest() == first and len(server.seen) == asked, "from the archive in the cache"


def npz(path: Path, **arrays: Any) -> Path:
    good = {"images": X.transpose(0, 2, 3, 1), "labels": Y, "class_names": np.array(NAMES)}
    np.savez(path, **{name: array for name, array in {**good, **arrays}.items() if array is not None})
    return path


def test_an_npz_of_some_rows(tmp_path: Path, cache: Path) -> None:
    npz(tmp_path / "cifar10.npz", split=np.array([0] * 9 + [1] * 3, np.uint8), source_index=np.arange(12) * 2, more=Y)
    found = load("cifar10", folder=tmp_path)
    assert np.array_equal(found.x, X) and found.split.sum() == 3 and not found.whole and found.source_index is not None
    assert found.source_index[1] == 2 and not cache.exists(), "a part of the rows is never kept as the data set"


BAD_NPZ: list[tuple[dict[str, Any], str]] = [
    ({"images": None}, "no array 'images'"),
    ({"labels": Y[:-1]}, "12 rows but 11"),
    ({"labels": Y + 5}, "labels 6 … 14"),
    ({"labels": Y.astype(float)}, "whole numbers"),
    ({"labels": np.array([str(y) for y in Y])}, "whole numbers"),
    ({"images": X.transpose(0, 2, 3, 1).astype(np.float32)}, "uint8"),
    ({"images": X}, r"uint8 \(n, height, width, 3\) is expected"),
    ({"images": colours(12, 16).transpose(0, 2, 3, 1)}, "pictures of"),
    ({"class_names": np.array(NAMES[:9])}, "9 class names"),
    ({"split": np.full(12, 2)}, "split must be"),
    ({"labels": np.array([object()] * 12)}, "not a plain .npz"),
]


@pytest.mark.parametrize(("arrays", "says"), BAD_NPZ, ids=[says for _, says in BAD_NPZ])
def test_an_npz_that_does_not_fit(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    npz(tmp_path / "cifar10.npz", **arrays)
    with pytest.raises(InputError, match=says):
        load("cifar10", folder=tmp_path)


def test_an_npz_that_is_damaged_or_not_binary(tmp_path: Path) -> None:
    whole = npz(tmp_path / "cifar10.npz").read_bytes()
    for content in (whole[:-100], b"", b"text", whole[:3000] + bytes(50) + whole[3050:]):
        (tmp_path / "cifar10.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"not a plain \.npz"):
            load("cifar10", folder=tmp_path)
    np.savez(tmp_path / "location30.npz", features=np.full((2, 446), 2, np.uint8), labels=np.array([0, 1]))
    with pytest.raises(InputError, match="0 and 1"):
        load("location30", folder=tmp_path)


def test_a_size_only_where_there_is_a_choice(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a size cannot be chosen"):
        get(cifar10(server), side=16)
    np.savez(tmp_path / "gtsrb.npz", images=np.zeros((2, 32, 32, 3), np.uint8), labels=np.array([0, 42]))
    assert load("gtsrb", folder=tmp_path).shape == (3, 32, 32)
    assert load("gtsrb", folder=tmp_path, size=64).shape == (3, 64, 64)


def test_the_fixture_s_checksums_are_used(server: Server) -> None:
    small = cifar10(server)
    wrong = dataclasses.replace(small.sets[0].files[0], checksum=md5(b"other"))
    small = dataclasses.replace(small, sets=(dataclasses.replace(small.sets[0], files=(wrong,)),))
    with pytest.raises(InputError, match=r"could not be downloaded.*published"):
        get(small)
