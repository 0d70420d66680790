"""Small data sets in their official formats, and a server on this machine that hands them out with faults."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from labelleaks.data.cards import Card
from labelleaks.data.download import Policy

PATIENT = Policy(attempts=3, timeout=5.0, pause=0.0)
Handler = Callable[["_Handler", bytes], None]


class Server:
    """Files by path, each with its plan: one behaviour for each request, the last one for all further requests."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, bytes] = {}
        self.plans: dict[str, list[Handler]] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []

    def put(self, name: str, content: bytes, *plan: Handler) -> str:
        self.files[name], self.plans[name] = content, list(plan) or [whole]
        return f"{self.address}/{name}"

    def asked(self, name: str) -> list[dict[str, str]]:
        """Headers of the requests for ``name``."""
        return [headers for path, headers in self.seen if path == name]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: ClassVar[Server]

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server_of.seen.append((name, dict(self.headers.items())))
        plan = self.server_of.plans.get(name, [status(404)])
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            (plan.pop(0) if len(plan) > 1 else plan[0])(self, self.server_of.files.get(name, b""))

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def head(self, code: int, length: int | None, **headers: str) -> None:
        self.send_response(code)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()


def _start(handler: _Handler, content: bytes) -> int:
    """Where a request with Range begins, 0 for the whole file."""
    asked = handler.headers.get("Range")
    if asked is None:
        return 0
    return int(asked.removeprefix("bytes=").removesuffix("-"))


def send(
    *, most: int | None = None, ranges: bool = True, length: bool = True, shift: int = 0, **headers: str
) -> Handler:
    """A behaviour: send the file, or the rest that was asked for, and break off after ``most`` bytes."""

    def behave(handler: _Handler, content: bytes) -> None:
        start = _start(handler, content) if ranges else 0
        rest = content[start + shift if start else 0 :]
        if start:
            handler.head(
                206, len(rest), Content_Range=f"bytes {start + shift}-{len(content) - 1}/{len(content)}", **headers
            )
        else:
            handler.head(200, len(rest) if length else None, **headers)
        handler.wfile.write(rest[:most])

    return behave


whole = send()


def status(code: int, **headers: str) -> Handler:
    """A behaviour: answer with a status and nothing else."""

    def behave(handler: _Handler, content: bytes) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.send_header("Connection", "close")
        handler.end_headers()

    return behave


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    """A server on a port of this machine's own choosing."""
    handler = type("Handler", (_Handler,), {})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    httpd.daemon_threads = True
    handler.server_of = server = Server(f"http://127.0.0.1:{httpd.server_address[1]}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"


def at(card: Card, server: Server, files: Mapping[str, bytes], rows: tuple[int, int], **changes: Any) -> Card:
    """``card`` with its files on ``server`` and their own checksums (none where the card has none)."""
    sets = []
    for chosen in card.sets:
        remotes = [
            dataclasses.replace(
                file,
                urls=(server.put(file.name, files[file.name]),) if file.name in files else (),
                checksum=md5(files[file.name]) if file.checksum and file.name in files else file.checksum,
            )
            for file in chosen.files
        ]
        sets.append(dataclasses.replace(chosen, files=tuple(remotes)))
    return dataclasses.replace(card, rows=rows, sets=tuple(sets), **changes)


def tgz(content: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(content: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def picture(pixels: np.ndarray[Any, Any], kind: str) -> bytes:
    """(H, W, 3) or (H, W) uint8 -> the bytes of a picture file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


def colours(n: int, side: int = 32, seed: int = 0) -> np.ndarray[Any, Any]:
    """uint8 (n, 3, side, side) random values."""
    return np.random.default_rng(seed).integers(0, 256, (n, 3, side, side), dtype=np.uint8)


def cifar10_binary(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], names: list[str]) -> bytes:
    """Six equal batches, the last one the test part."""
    held = {"cifar-10-batches-bin/batches.meta.txt": ("\n".join(names) + "\n\n").encode()}
    for number, rows in enumerate(np.split(np.arange(len(y)), 6), 1):
        name = f"data_batch_{number}.bin" if number < 6 else "test_batch.bin"
        held[f"cifar-10-batches-bin/{name}"] = b"".join(bytes([y[row]]) + x[row].tobytes() for row in rows)
    return tgz({"cifar-10-batches-bin/readme.html": b"<html>", **held})


def cifar10_python(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], names: list[str], protocol: int = 2) -> bytes:
    """The same rows as Python 3 pickles them; :func:`as_python_2` makes the official kind."""
    held = {
        "cifar-10-batches-py/batches.meta": pickle.dumps(
            {b"label_names": [n.encode() for n in names], b"num_vis": 3072}, protocol
        )
    }
    for number, rows in enumerate(np.split(np.arange(len(y)), 6), 1):
        name = f"data_batch_{number}" if number < 6 else "test_batch"
        batch = {
            b"batch_label": b"a batch",
            b"labels": [int(label) for label in y[rows]],
            b"data": np.ascontiguousarray(x[rows].reshape(len(rows), -1)),
            b"filenames": [b"a.png"] * len(rows),
        }
        held[f"cifar-10-batches-py/{name}"] = pickle.dumps(batch, protocol)
    return tgz(held)


def python_2_batch(data: np.ndarray[Any, Any], labels: list[int]) -> bytes:
    """A batch as Python 2 and an old NumPy wrote the official files: protocol 2, byte strings, numpy.core."""
    raw = data.tobytes()
    shape = b"".join(b"J" + struct.pack("<i", n) for n in data.shape)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"  # of (ndarray, (0,), 'b')
        b"(K\x01" + shape + b"\x86"  # version, shape
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"  # dtype('u1')
        b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"  # row order, bytes; build
    )
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + listed + b"u."


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """MNIST's format, packed."""
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes(), 1)
