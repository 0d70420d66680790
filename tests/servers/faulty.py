"""A classification service on loopback that fails on command, and keeps exact books of what it was sent.

The true label of a row is ``floor(3 * first feature)``, clipped to 0 … 2. Faults are taken from a list, one for each
request in the order of arrival; where the list is empty, the service works.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import numpy as np
import torch

__all__ = ["FAULTS", "RESTART", "Faulty", "truth"]


def truth(x: torch.Tensor) -> torch.Tensor:
    """int64 (m,): the label that the service gives when it works."""
    first = x.reshape(len(x), -1)[:, 0].double()
    return (first * 3).floor().clamp(0, 2).to(torch.int64)


def _labels(rows: Any) -> list[int]:
    return truth(torch.tensor(rows, dtype=torch.float32)).tolist() if len(rows) else []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else an answer's body waits 40 ms for the head to be acknowledged
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.faulty.connections.add(self.connection)

    def finish(self) -> None:
        self.server.faulty.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        found = self.server.faulty.documents.get(self.path)
        self.send(200 if found is not None else 404, json.dumps(found or {"error": "not found"}).encode())

    def do_POST(self) -> None:
        faulty = self.server.faulty
        content = self.rfile.read(int(self.headers["Content-Length"]))
        fault = faulty.arrived(self, content)
        if faulty.latency:
            time.sleep(faulty.latency)
        try:
            if fault is None:
                self.answer(content)
            elif fault == RESTART:
                faulty.restart()
                self.close_connection = True
            else:
                FAULTS[fault](self, content)
        except (BrokenPipeError, ConnectionResetError):  # the client gave up: its right
            self.close_connection = True

    def answer(self, content: bytes) -> None:
        faulty = self.server.faulty
        self.send(200, faulty.encode(faulty.reply(faulty.decode(content))))

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        """Close with a TCP reset: the client sees the connection break, not end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.rfile.close()
        self.wfile.close()
        self.connection.close()


def _changed(change: Callable[[list[Any]], Any]) -> Callable[[_Handler, bytes], None]:
    """A fault that answers 200 with other labels than it should."""

    def act(handler: _Handler, content: bytes) -> None:
        document = handler.server.faulty.reply(json.loads(content))
        document["predictions"] = change(document["predictions"])
        handler.send(200, json.dumps(document).encode())

    return act


def _truncated(handler: _Handler, content: bytes) -> None:
    whole = json.dumps(handler.server.faulty.reply(json.loads(content))).encode()
    handler.send(200, whole[: len(whole) // 2])


def _cut(handler: _Handler, content: bytes) -> None:
    """Says a length and resets in the middle of it."""
    whole = json.dumps(handler.server.faulty.reply(json.loads(content))).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(whole)))
    handler.end_headers()
    handler.wfile.write(whole[: len(whole) // 2])
    handler.wfile.flush()
    handler.reset()


def _late(handler: _Handler, content: bytes) -> None:
    faulty = handler.server.faulty
    faulty.sleeping += 1
    time.sleep(faulty.patience)
    faulty.sleeping -= 1
    handler.close_connection = True


def _drip(handler: _Handler, content: bytes) -> None:
    """A byte at a time, from the status line on, each in time for a timeout that starts anew with every byte."""
    whole = b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 4000
    for i in range(len(whole)):
        handler.wfile.write(whole[i : i + 1])
        handler.wfile.flush()
        time.sleep(handler.server.faulty.patience / 8)


def _status(status: int, headers: dict[str, str] | None = None, body: bytes = b'{"error": "no"}') -> Any:
    return lambda handler, content: handler.send(status, body, headers)


FAULTS: dict[str, Callable[[_Handler, bytes], None]] = {
    "reset": lambda handler, content: handler.reset(),
    "reset mid-body": _cut,
    "timeout": _late,
    "429": _status(429),
    "429 retry-after": _status(429, {"Retry-After": "0.02"}),
    "503 retry-after date": _status(503, {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}),
    "500": _status(500, body=b"Traceback (most recent call last): boom"),
    "truncated json": _truncated,
    "wrong shape": _changed(lambda labels: [[label] * 2 for label in labels] + [[0, 0]]),
    "ragged": _changed(lambda labels: [[0.1, 0.9], *labels[1:]] if len(labels) > 1 else [[]]),
    "too many": _changed(lambda labels: [*labels, 0]),
    "too few": _changed(lambda labels: labels[:-1]),
    "one for all": _changed(lambda labels: 1),
    "unknown label": _changed(lambda labels: [*labels[:-1], 7]),
    "negative label": _changed(lambda labels: [*labels[:-1], -1]),
    "float label": _changed(lambda labels: [label + 0.5 for label in labels]),
    "text label": _changed(lambda labels: [*labels[:-1], "cat"]),
    "null": _changed(lambda labels: [*labels[:-1], None]),
    "nan": _changed(lambda labels: [*labels[:-1], float("nan")]),
    "nan scores": _changed(lambda labels: [[float("nan"), 0.5, 0.5] for _ in labels]),
    "no labels": lambda handler, content: handler.send(200, b'{"error": "the model is loading"}'),
    "html": lambda handler, content: handler.send(200, b"<html><body>Maintenance</body></html>"),
    "empty": lambda handler, content: handler.send(200, b""),
    "redirect": _status(302, {"Location": "/login?next=secret"}),
    "slow drip": _drip,
}
"""What a request may meet, by name. The rows of the request were read in full before."""

RESTART = "restart"
"""One more: the server goes down, with every connection, and is back after ``downtime``. Requests that come in the
meantime are refused; one that was on its way to it is never read."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, faulty: Faulty, port: int) -> None:
        self.faulty = faulty
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # a connection that was reset on purpose


class Faulty:
    """The service, running inside ``with``.

    Args:
        faults: what the next requests meet, in the order of arrival; None: nothing.
        patience: seconds that the fault "timeout" sleeps.
        latency: seconds before each answer.
        downtime: seconds that a restart takes.
    """

    def __init__(
        self,
        faults: Sequence[str | None] = (),
        *,
        patience: float = 0.3,
        latency: float = 0.0,
        downtime: float = 0.02,
        most_rows: int = 10**9,
    ) -> None:
        self.faults = list(faults)
        self.patience = patience
        self.latency = latency
        self.downtime = downtime
        self.restarts = 0
        self.back = 0
        """Restarts that are over."""
        self.connections: set[socket.socket] = set()
        self.most_rows = most_rows
        self.seen: list[list[list[float]]] = []
        """Rows of each request that was read in full."""
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.times: list[float] = []
        self.sleeping = 0
        """Requests that meet the fault "timeout" now."""
        self.documents: dict[str, Any] = {}
        self.reply: Callable[[Any], Any] = lambda document: {"predictions": _labels(document["instances"])}
        self.decode: Callable[[bytes], Any] = json.loads
        self.encode: Callable[[Any], bytes] = lambda answer: json.dumps(answer).encode()
        self.rows_of: Callable[[Any], list[Any]] = lambda document: document["instances"]
        self._lock = threading.Lock()
        self._going: list[threading.Thread] = []
        self._server: _Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1/models/m:predict"

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def rows(self) -> int:
        """Rows that it was sent, those of requests that failed among them."""
        return sum(len(rows) for rows in self.seen)

    def arrived(self, handler: _Handler, content: bytes) -> str | None:
        with self._lock:
            try:
                rows = self.rows_of(self.decode(content))
            except (ValueError, UnicodeDecodeError):  # a form
                rows = [[]]
            self.seen.append(rows)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            self.paths.append(handler.path)
            self.bodies.append(content)
            self.times.append(time.monotonic())
            return self.faults.pop(0) if self.faults else None

    def start(self) -> None:
        self._server = _Server(self, self._port)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True).start()

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        assert self._server is not None
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def hang_up(self) -> None:
        """Close every connection."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):  # gone by itself
                connection.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def restart(self) -> None:
        """Go down at once; be back after ``downtime``."""
        with self._lock:
            after = self._going[-1] if self._going else None
            self._going.append(threading.Thread(target=self._bounce, args=(after,), daemon=True))
            self.restarts += 1
            self._going[-1].start()

    def _bounce(self, after: threading.Thread | None) -> None:
        if after is not None:
            after.join()
        self.stop()
        self.hang_up()
        time.sleep(self.downtime)
        self.start()
        self.back += 1

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._going:
            thread.join()
        self.stop()


def rows_of(n: int, seed: int = 0, width: int = 3) -> torch.Tensor:
    """Return distinct rows whose labels are all three."""
    return torch.from_numpy(np.random.default_rng(seed).random((n, width), dtype=np.float32))
