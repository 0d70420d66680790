"""One function for each thing that is read: bytes in, nothing out, an AssertionError where a promise is broken.

The promises: what is raised is labelleaks' own error, in one line that names the file; reading ends within
:data:`SECONDS` of processor time, and :data:`HANG` seconds by the clock (a machine may be busy or paused); no file
outside the run's folder is opened for writing. Python tells of every file that it opens (``sys.addaudithook``); SQLite
tells of the databases that it opens only, and their folder is listed.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelleaks.cli.spec import AuditSpec, InferSpec
from labelleaks.cli.spec_file import load_spec
from labelleaks.core.oracle.journal import Journal
from labelleaks.core.oracle.journal_file import read, verify
from labelleaks.core.oracle.query_keys import keys_of
from labelleaks.data import archive, bits, mnist, pickles
from labelleaks.errors import LabelLeaksError
from labelleaks.inputs.files import read_rows
from labelleaks.targets import Http, wrap
from labelleaks.targets.files import read_answers
from labelleaks.targets.http.attempt import Fault, parsed
from labelleaks.targets.http.body import Breach
from labelleaks.targets.http.formats import format_of

__all__ = ["HARNESSES", "SEEDS", "damaged"]

SECONDS = 20
HANG = 600
_X = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_CHANGING = frozenset(f"os.{name}" for name in ("mkdir", "rename", "remove", "symlink", "link", "rmdir", "truncate"))
_ACTING = frozenset(("subprocess.Popen", "os.system", "os.exec", "socket.connect"))
_folder: str | None = None
_elsewhere: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _folder is None:
        return
    written: Any = None
    if (event == "open" and (arguments[2] or 0) & _WRITING) or event in _CHANGING | _ACTING:
        written = arguments[0]
    elif event == "sqlite3.connect":
        written = str(arguments[0]).removeprefix("file://").partition("?")[0]
    if written is not None and not os.path.realpath(str(written)).startswith(_folder):
        _elsewhere.append(f"{event} {written}")


sys.addaudithook(_watch)


@contextmanager
def _promised(name: str, content: bytes) -> Iterator[Path]:
    """A folder with the file; on leaving, what was raised and written is judged."""
    global _folder
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        _elsewhere.clear()
        _folder = os.path.realpath(folder)
        for number in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(number, _late)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(HANG)
        try:
            yield path
        except LabelLeaksError as error:
            assert "\n" not in str(error), f"more than a line: {error!s}"
            assert str(path) in str(error), f"does not name {path}: {error!s}"
        finally:
            signal.alarm(0)
            signal.setitimer(signal.ITIMER_PROF, 0)
            _folder = None
        assert not _elsewhere, _elsewhere


def _late(*_: Any) -> None:
    raise AssertionError(f"not done after {SECONDS} s of processor time, or {HANG} s by the clock")


def spec(content: bytes) -> None:
    """The spec loader."""
    for kind in (AuditSpec, InferSpec):
        with _promised("run.yaml", content) as path:
            load_spec(kind, path, {})


def rows(content: bytes) -> None:
    """The readers of ``--members`` and of recorded answers; the first byte says as which file."""
    ending = (".npz", ".npy", ".csv", ".parquet")[content[0] % 4] if content else ".csv"
    with _promised(f"rows{ending}", content[1:]) as path:
        read_rows(path)
    with _promised(f"answers{ending}", content[1:]) as path:
        read_answers(path, [])


def picture(content: bytes) -> None:
    """A folder of pictures with one in it."""
    with _promised("note.txt", b"") as path:
        (path.parent / "cat").mkdir()
        file = path.parent / "cat" / "1.png"
        file.write_bytes(content)
        try:
            read_rows(path.parent)
        except LabelLeaksError as error:
            assert str(file) in str(error) and "\n" not in str(error), str(error)


def packed(content: bytes) -> None:
    """Archives of data sets; the first byte says as which."""
    ending = (".zip", ".tar.gz", ".gz")[content[0] % 3] if content else ".zip"
    with _promised(f"data{ending}", content[1:]) as path:
        if ending == ".gz":
            archive.gunzip(path, 1 << 20)
            return
        limits = archive.Limits(members=1000, member=1 << 20, total=1 << 22)
        for name, stream in archive.members(path, lambda name: True, limits):
            assert ".." not in name.split("/") and not name.startswith("/")
            stream.read()


def inside(content: bytes) -> None:
    """What is in the archives: IDX files, pickles of CIFAR, lines of numbers."""
    for axes in (1, 3):
        with _promised("data.gz", gzip.compress(content, 0)) as path:
            mnist._array(path, axes)
    with _promised("batch", content) as path:
        pickles.read_pickle(content, str(path))
    for labelled in (True, False):
        with _promised("lines", content) as path:
            bits.read_bits(io.BytesIO(content), str(path), labelled=labelled)


def journal(content: bytes) -> None:
    """A file that is said to be a journal: looked at, checked, used."""
    with _promised("j", content) as path:
        read(path)
    with _promised("j", content) as path:
        verify(path)
    with _promised("j", content) as path, Journal(path, "t") as opened:
        labels = opened.lookup(keys_of(_X))
        assert bool((labels >= -1).all())
        opened.record(keys_of(_X), torch.zeros(len(_X), dtype=torch.int64))


def answer(content: bytes) -> None:
    """What a service answers: labels that are known, one for each row, or it is refused."""
    for options in _SERVICES:
        form = format_of(options)
        target = wrap(options, numpy=True, classes=3)
        try:
            labels = target._codes(form.read(parsed(content, form.parse), 4, target.classes), 4)
        except (Breach, Fault):
            continue
        assert labels.shape == (4,) and bool(((labels >= 0) & (labels < 3)).all())


_SERVICES = (
    Http(url="http://h/v2/models/m"),
    Http(url="http://h/v1/models/m"),
    Http(url="http://h/invocations"),
    Http(url="http://h/", protocol="template", template="{}", label="a[*].b"),
)

HARNESSES: dict[str, Callable[[bytes], None]] = {
    "spec": spec, "rows": rows, "picture": picture, "packed": packed, "inside": inside, "journal": journal,
    "answer": answer,
}  # fmt: skip


# --- where to start from: whole files ---------------------------------------------------------------------------------


def _saved(save: Callable[[io.BytesIO], Any]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


def _a_journal() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j"
        with Journal(path, "t") as opened:
            opened.record(keys_of(_X), torch.arange(12) % 3)
            opened.begin(keys_of(-_X))
        return path.read_bytes()


def _archives() -> list[bytes]:
    import tarfile
    import zipfile

    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a/b.txt", b"content " * 30)
    with tarfile.open(fileobj=tarred, mode="w:gz") as tar:
        entry = tarfile.TarInfo("a/b.txt")
        entry.size = 240
        tar.addfile(entry, io.BytesIO(b"content " * 30))
    return [b"\0" + zipped.getvalue(), b"\1" + tarred.getvalue(), b"\2" + gzip.compress(b"content")]


def _a_parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return _saved(lambda stream: pq.write_table(pa.table({"id": ["a", "b"], "x": [1.0, 2.0], "label": [0, 1]}), stream))


def _a_picture() -> bytes:
    from PIL import Image

    return _saved(lambda stream: Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(stream, "png"))


def _seeds() -> dict[str, list[bytes]]:
    import pickle

    x = _X.numpy()
    idx_head = bytes((0, 0, 8, 1)) + (5).to_bytes(4, "big")
    return {
        "spec": [
            b"target: {url: 'http://h/invocations', auth_env: TOKEN, classes: 3}\nbudget: 20\n"
            b"attacks: [gap, {name: noise}]\n",
            b"target: m.safetensors\ndata: {members: m.npz, images: {scale: 255}}\ndomain: {kind: box, high: [1, 2]}\n",
        ],
        "rows": [
            b"\0" + _saved(lambda stream: np.savez(stream, x=x, y=np.arange(12) % 3)),
            b"\1" + _saved(lambda stream: np.save(stream, x)),
            b"\2id,x,label\na,1.5,0\nb,2,1\n",
            b"\3" + _a_parquet(),
        ],
        "picture": [_a_picture()],
        "packed": _archives(),
        "inside": [
            idx_head + b"\1\2\3\4\5", pickle.dumps({b"data": np.zeros((2, 3), np.uint8), b"labels": [0, 1]}, 2),
            b"0,1,1,0\n1,0,0,1\n",
        ],
        "journal": [_a_journal()],
        "answer": [
            b'{"predictions": [0, 1, 2, 0]}', b'{"a": [{"b": 0}, {"b": 1}, {"b": 2}, {"b": 0}]}',
            b'{"outputs": [{"name": "y", "shape": [4], "datatype": "INT64", "data": [0, 1, 2, 0]}]}',
        ],
    }  # fmt: skip


SEEDS = _seeds()


def damaged(name: str, source: random.Random) -> bytes:
    """A whole file with a few pieces cut out, written over, doubled or put in."""
    content = bytearray(source.choice(SEEDS[name]))
    for _ in range(source.randint(0, 6)):
        at = source.randrange(len(content) + 1)
        length = source.choice((1, 1, 2, 4, 8, 40))
        how = source.randrange(4)
        if how == 0:
            del content[at : at + length]
        elif how == 1:
            content[at : at + length] = source.randbytes(length)
        elif how == 2:
            content[at:at] = content[at : at + length]
        else:
            content[at:at] = source.choice(
                (b"\0", b"\xff", b"9" * 20, b"[" * 500, b"-1", b"nan", b": ", b"\n", b'"', b"&a *a")
            )
    return bytes(content)
