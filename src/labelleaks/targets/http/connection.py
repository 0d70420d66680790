"""One connection to a service, without any layer between: HTTP/1.1 on a socket of asyncio, parsed by httptools.

httptools is llhttp, the parser of Node.js; it costs a tenth of a parser written in Python, and a request of 20 ms
notices that. What a connection may be used for again is decided strictly: whatever came unasked, or was left over when
an answer was complete, could be taken for the answer to other rows, so such a connection is not used again.

Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import h11
import httpcore
import httptools

from labelleaks.targets.http.body import Body

__all__ = ["Answer", "Direct", "TooLong", "head_of"]

_CLOSING = 0.5
"""Seconds that the loop is given to let a connection go."""
_PIECE = 1 << 16
"""Bytes that are read at a time."""
_MOST_HEAD = 100 * 1024
"""Bytes of an answer's head."""


class TooLong(Exception):
    """The content of an answer is longer than it may be."""


class _Closed(httpcore.RemoteProtocolError):
    """A connection ended in good order before the first byte of an answer."""


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    reason: str
    headers: tuple[tuple[bytes, bytes], ...]
    content: bytes
    """As it was sent: decoded only where ``Content-Encoding`` says nothing."""

    def header(self, name: bytes) -> str | None:
        """Return the value of the first header of this name (lower case)."""
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == name), None)


def head_of(target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the head of a POST, checked, without the two headers that say what its body is and without its end.

    Raises:
        h11.LocalProtocolError: a header that cannot be sent.
    """
    request = h11.Request(method=b"POST", target=target, headers=headers)
    head = h11.Connection(our_role=h11.CLIENT).send(request)
    assert head is not None and head.endswith(b"\r\n\r\n")
    return head[:-2]


class Direct:
    """Connects when there is something to send, and keeps the connection for the next request. One at a time."""

    def __init__(self, host: str, port: int, secure: ssl.SSLContext | None, head: bytes) -> None:
        self._host = host
        self._port = port
        self._secure = secure
        self._head = head
        self._connection: _Connection | None = None

    async def post(self, body: Body, sent: Callable[[], None], most: int) -> Answer:
        """See :meth:`labelleaks.targets.http.line.Line.post`.

        A kept connection may be closed as a request goes out on it: the request then goes out a second time, on a new
        one, and ``sent`` is called again, for nobody can tell whether the first was read.
        """
        about = b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n" % (body.kind.encode("ascii"), len(body.content))
        data = b"".join((self._head, about, body.content))
        kept = await self._connect()
        try:
            return await self._ask(data, sent, most)
        except _Closed:
            if not kept:
                raise
        await self._connect()
        return await self._ask(data, sent, most)

    async def _ask(self, data: bytes, sent: Callable[[], None], most: int) -> Answer:
        assert self._connection is not None
        sent()
        try:
            return await self._connection.ask(data, most)
        except BaseException:  # a timeout among them: what may still come is not for the next rows
            self._connection.abort()
            raise

    async def _connect(self) -> bool:
        """Connect, and return whether there was a connection already."""
        if self._connection is not None and not self._connection.usable:
            await self.close()
        if self._connection is not None:
            return True
        name = self._host if self._secure is not None else None
        try:
            _, self._connection = await asyncio.get_running_loop().create_connection(
                _Connection, self._host, self._port, ssl=self._secure, server_hostname=name
            )
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        return False

    async def close(self) -> None:
        """See :meth:`labelleaks.targets.http.line.Line.close`."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING):
                    await connection.gone.wait()


class _Connection(asyncio.BufferedProtocol):
    """A socket and the parser of what comes in; the methods ``on_...`` are called by the parser."""

    def __init__(self) -> None:
        self.usable = True
        """Whether a request may be sent on it."""
        self.gone = asyncio.Event()
        self._parser = httptools.HttpResponseParser(self)
        self._buffer = memoryview(bytearray(_PIECE))
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._begin(0)

    def _begin(self, most: int) -> None:
        self._most = most
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._has_head = False
        self._head_size = 0
        self._content = bytearray()

    async def ask(self, data: bytes, most: int) -> Answer:
        """Send a request and return the answer to it.

        Raises:
            httpcore.ReadError: the connection broke.
            httpcore.RemoteProtocolError: it was closed before the answer was whole, or what came is no HTTP.
            TooLong: its content is longer than ``most`` bytes.
        """
        assert self._transport is not None
        self._begin(most)
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        try:
            return await self._waiting
        finally:
            self._waiting = None

    def abort(self) -> None:
        """Close at once."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    @property
    def _asker(self) -> asyncio.Future[Answer] | None:
        """Whoever still waits for an answer."""
        return None if self._waiting is None or self._waiting.done() else self._waiting

    @property
    def _wanted(self) -> bool:
        return self._asker is not None

    def _fail(self, error: Exception) -> None:
        self.usable = False
        if (asker := self._asker) is not None:
            asker.set_exception(error)

    def _complete(self) -> None:
        if (asker := self._asker) is not None:
            reason = self._reason.decode("latin-1")
            status = self._parser.get_status_code()
            asker.set_result(Answer(status, reason, tuple(self._headers), bytes(self._content)))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, size: int) -> None:
        if not self._wanted:
            self.usable = False
            return
        if not self._has_head:
            self._head_size += size
        try:
            self._parser.feed_data(self._buffer[:size])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(httpcore.RemoteProtocolError(f"what it sent is no HTTP: {error}"))
        if not self._has_head and self._head_size > _MOST_HEAD:
            self._fail(httpcore.RemoteProtocolError("its head has no end"))

    def on_message_begin(self) -> None:
        if not self._wanted:  # behind a whole answer: of what?
            self.usable = False

    def on_status(self, part: bytes) -> None:
        if self._wanted:
            self._reason += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._wanted and not self._has_head:  # those behind a body in chunks are not looked at
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, part: bytes) -> None:
        if self._wanted:
            self._content += part
            if len(self._content) > self._most:
                self._fail(TooLong())

    def on_message_complete(self) -> None:
        if not self._wanted:
            return
        if self._parser.get_status_code() < 200:  # not yet the answer (100 Continue, 103 Early Hints)
            self._reason, self._headers, self._has_head = b"", [], False
            return
        assert self._transport is not None
        if not self._parser.should_keep_alive() or self._transport.get_write_buffer_size():
            self.usable = False
        self._complete()

    def eof_received(self) -> bool:
        self.usable = False
        if self._has_head and self._wanted and not _has_length(self._headers):
            self._complete()  # the end of the connection is the end of the answer
        if self._head_size:
            self._fail(httpcore.RemoteProtocolError("it closed the connection in the middle of its answer"))
        self._fail(_Closed("it closed the connection without an answer"))
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(httpcore.ReadError("" if error is None else str(error)))
        self.gone.set()


def _has_length(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether an answer says where it ends."""
    for name, value in headers:
        if name.lower() == b"content-length":
            return True
        if name.lower() == b"transfer-encoding" and value.lower().rstrip().endswith(b"chunked"):
            return True
    return False
