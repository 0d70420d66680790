"""Connections to a service that speaks HTTP in every way that is allowed, and in some that are not."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import pytest
import torch

from labelleaks.core.oracle.gate import Gate
from labelleaks.errors import InputError, TargetError
from labelleaks.targets import Http, wrap
from tests.servers.faulty import rows_of, truth

X = rows_of(12)
ANYONE = torch.zeros(12, dtype=torch.int64)


class Scripted:
    """A service that answers each request with bytes of the script, and closes the connection where it says so.

    Args:
        speak: bytes of an answer by its JSON content; None at the end of the pieces: close the connection behind them.
    """

    def __init__(self, speak: Callable[[bytes], Iterable[bytes | None]]) -> None:
        self.speak = speak
        self.requests = self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1/models/m:predict"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wake the thread that accepts and wait for it: left alone it goes on by the number of the socket, and takes
        connections from whatever server gets that number next."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _accept(self) -> None:
        try:
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        except OSError:
            return

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # the client hung up
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for rows in self._asked(connection):
                self.requests += 1
                labels = truth(torch.tensor(rows, dtype=torch.float32)).tolist()
                for piece in self.speak(json.dumps({"predictions": labels}).encode()):
                    if piece is None:
                        return
                    connection.sendall(piece)

    @staticmethod
    def _asked(connection: socket.socket) -> Iterator[Any]:
        held = b""
        while True:
            while b"\r\n\r\n" not in held:
                if not (came := connection.recv(1 << 16)):
                    return
                held += came
            head, _, held = held.partition(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while len(held) < size:
                held += connection.recv(1 << 16)
            yield json.loads(held[:size])["instances"]
            held = held[size:]


def answer(content: bytes, head: bytes = b"", status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"%b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, head, len(content), content)


def chunked(content: bytes) -> bytes:
    parts = [content[i : i + 7] for i in range(0, len(content), 7)]
    body = b"".join(b"%x;x=1\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\nX-Trailer: 1\r\n\r\n"


def target_of(service: Scripted, **changes: Any) -> Any:
    options = {"url": service.url, "batch_rows": 3, "concurrency": 1, "backoff": 0.001, "timeout": 10.0, "retries": 0}
    return wrap(Http(**{**options, **changes}), numpy=True, classes=3)


GOOD: dict[str, tuple[Callable[[bytes], list[bytes | None]], int]] = {
    "kept": (lambda c: [answer(c)], 1),
    "a byte at a time": (lambda c: [bytes([byte]) for byte in answer(c)], 1),
    "in chunks": (lambda c: [chunked(c)], 1),
    "chunks, a byte at a time": (lambda c: [bytes([byte]) for byte in chunked(c)], 1),
    "no reason": (lambda c: [answer(c, status=b"HTTP/1.1 200")], 1),
    "continue first": (lambda c: [b"HTTP/1.1 100 Continue\r\n\r\n" + answer(c)], 1),
    "hints first": (lambda c: [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", answer(c)], 1),
    "gzip": (lambda c: [answer(gzip.compress(c), b"Content-Encoding: gzip\r\n")], 1),
    "deflate": (lambda c: [answer(zlib.compress(c), b"Content-Encoding: deflate\r\n")], 1),
    "identity": (lambda c: [answer(c, b"content-encoding: identity\r\n")], 1),
    "says close": (lambda c: [answer(c, b"Connection: close\r\n")], 4),
    "HTTP/1.0": (lambda c: [answer(c, status=b"HTTP/1.0 200 OK"), None], 4),
    "HTTP/1.0 kept": (lambda c: [answer(c, b"Connection: keep-alive\r\n", b"HTTP/1.0 200 OK")], 1),
    "ends with the connection": (lambda c: [b"HTTP/1.1 200 OK\r\n\r\n", c, None], 4),
    "closes unsaid": (lambda c: [answer(c), None], 4),
}


@pytest.mark.parametrize("way", GOOD)
def test_whatever_way_of_http_an_answer_comes(way: str) -> None:
    speak, connections = GOOD[way]
    retries = 3 if way == "closes unsaid" else 0  # it may be seen as a reset, as any other
    with Scripted(speak) as service, target_of(service, retries=retries) as target:
        gate = Gate(target)
        assert gate.ask(X, ANYONE, "a.b", 1).equal(truth(X))
        assert (gate.ledger.rows, service.requests, service.connections) == (12, 4, connections)
        # a request that goes out as the connection closes goes out again, and that is told
        assert gate.ledger.retries in (0, 3, 6, 9) if way == "closes unsaid" else gate.ledger.retries == 0


NO_HTTP, BROKEN, CLOSED = "is no HTTP", "broke off, or its compression is broken", "without a whole answer"
BAD: dict[str, tuple[Callable[[bytes], list[bytes | None]], str]] = {
    "no HTTP": (lambda c: [b"SSH-2.0-OpenSSH_9.6\r\n"], NO_HTTP),
    "two lengths": (lambda c: [answer(c, b"Content-Length: 3\r\n")], NO_HTTP),
    "length and chunks": (lambda c: [answer(c, b"Transfer-Encoding: chunked\r\n")], NO_HTTP),
    "a head without end": (lambda c: [b"HTTP/1.1 200 OK\r\n" + b"X-Filler: abc\r\n" * 10_000], NO_HTTP),
    "a line without end": (lambda c: [b"HTTP/1.1 200 OK\r\nX-Filler: " + b"a" * 100_000], NO_HTTP),
    "cut in the head": (lambda c: [b"HTTP/1.1 200 OK\r\nConte", None], CLOSED),
    "cut in the content": (lambda c: [answer(c)[:-3], None], BROKEN),
    "cut in a chunk": (lambda c: [chunked(c)[:-9], None], BROKEN),
    "nothing": (lambda c: [None], CLOSED),
    "broken gzip": (lambda c: [answer(b"1" + gzip.compress(c), b"Content-Encoding: gzip\r\n")], BROKEN),
    "another protocol": (lambda c: [b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"], "101 Go"),
}


@pytest.mark.parametrize("way", BAD)
def test_what_is_no_answer_is_said(way: str) -> None:
    speak, said = BAD[way]
    with Scripted(speak) as service, target_of(service) as target:
        gate = Gate(target)
        with pytest.raises(TargetError, match=said) as caught:
            gate.ask(X, ANYONE, "a.b", 1)
        assert "\n" not in str(caught.value)
        assert (gate.ledger.rows, service.requests) == (3, 1)


def test_what_unpacks_without_end_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelleaks.targets.http.attempt._MOST_BYTES", 1 << 16)
    bomb = answer(gzip.compress(bytes(1 << 22)), b"Content-Encoding: gzip\r\n")
    with (
        Scripted(lambda c: [bomb]) as service,
        target_of(service) as target,
        pytest.raises(TargetError, match="longer than 65536 bytes"),
    ):
        target(X)


@pytest.mark.parametrize("apart", [False, True])
def test_an_answer_that_nobody_asked_for_is_never_taken(apart: bool) -> None:
    """A second answer behind the first one would be taken for that to the next rows."""
    wrong = answer(json.dumps({"predictions": [1, 1, 1]}).encode())

    def speak(content: bytes) -> Iterator[bytes]:
        if not apart:
            content = answer(content) + wrong
        else:
            yield answer(content)
            time.sleep(0.02)  # the first one was read by now, and nothing is asked
            content = wrong
        yield content

    with Scripted(speak) as service, target_of(service) as target:
        rows = X[:3] if apart else X
        for _ in range(5):
            assert target(rows).equal(truth(rows))
            time.sleep(0.05 * apart)  # within the next request it could not be told from the answer to that
        assert service.connections == service.requests


def test_a_header_that_cannot_be_sent_is_refused_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hunter2\r\nX-Other: 1")
    with Scripted(lambda c: [answer(c)]) as service:
        with pytest.raises(InputError) as caught:
            target_of(service, auth_env="TOKEN")(X)
        assert "hunter2" not in str(caught.value) and service.connections == 0
