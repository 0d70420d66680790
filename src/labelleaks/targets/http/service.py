"""Requests to one address by aiohttp, which here follows no redirect, keeps no cookie and reads no file of passwords.

aiohttp takes what came on a kept connection while nothing was asked for the answer to the next request. Here such a
connection is closed, since what came would be taken for the labels of other rows.
"""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import StreamWriter
from aiohttp.tracing import Trace
from yarl import URL

from labelleaks.errors import in_a_line
from labelleaks.targets.http.body import Body

__all__ = ["ERRORS", "Answer", "Service", "TooLong", "proxy_for", "why"]

ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What a request may raise that gets no answer."""


_KEPT = 60.0
"""Seconds that a connection is kept without use."""


def why(error: BaseException) -> str:
    """Return what went wrong by one of :data:`ERRORS`, in a line without anything that the service sent.

    What it sent may repeat a secret, and aiohttp's texts cut it somewhere: half a secret is not recognised.
    """
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection without a whole answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "its answer broke off, or its compression is broken"
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        return "what it sent is no HTTP"
    return f"{type(error).__name__}: {in_a_line(error)}"


class TooLong(Exception):
    """The content of an answer is longer than it may be."""


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    reason: str
    headers: Mapping[str, str]
    """By name in any case."""
    content: bytes


class Service:
    """As many connections as requests at a time, each kept for the next request; used inside a running loop.

    Nothing is connected before the first request.

    Raises:
        ValueError: the address or the environment's proxy cannot be; its text may hold a secret.
    """

    def __init__(self, address: str, headers: Mapping[str, str], concurrency: int) -> None:
        self._url = URL(address)
        self._headers = dict(headers)
        self._concurrency = concurrency
        self._proxy = proxy_for(self._url)
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: Body, sent: Callable[[], None], most: int) -> Answer:
        """Send a body and return the whole answer.

        Args:
            sent: called before its first byte goes out.
            most: bytes that the content of an answer may have, unpacked.

        Raises:
            one of :data:`ERRORS`: no answer.
            TooLong: a longer one.
        """
        asked = self._opened().post(self._url, data=_Outgoing(body, sent), proxy=self._proxy, allow_redirects=False)
        async with asked as answer:
            content = bytearray()
            async for piece in answer.content.iter_any():
                content += piece
                if len(content) > most:
                    raise TooLong
            return Answer(answer.status, answer.reason or "", answer.headers, bytes(content))

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            secure = ssl.create_default_context() if self._url.scheme == "https" else True
            self._session = aiohttp.ClientSession(
                connector=_Strict(limit=self._concurrency, keepalive_timeout=_KEPT, ssl=secure),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            )
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()


class _Strict(aiohttp.TCPConnector):
    """Uses a connection again only where nothing came on it unasked: that might be taken for the next answer."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()


class _Outgoing(aiohttp.Payload):
    """A body that tells when it goes out; its head goes out with it."""

    def __init__(self, body: Body, sent: Callable[[], None]) -> None:
        super().__init__(body.content, content_type=body.kind)
        self._size = len(body.content)
        self._sent = sent

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        assert isinstance(writer, StreamWriter)
        if writer.transport is None or writer.transport.is_closing():  # closed since it was chosen: nothing goes out
            raise ConnectionResetError
        self._sent()
        await writer.write(self._value)


def proxy_for(url: URL) -> URL | None:
    """Return the proxy that the environment names for an address. Raises ValueError where it is of no kind we speak."""
    if urllib.request.proxy_bypass(url.authority):
        return None
    found = urllib.request.getproxies()
    name = found.get(url.scheme) or found.get("all")
    if name is None:
        return None
    proxy = URL(name if "://" in name else f"http://{name}")
    if proxy.scheme not in ("http", "https"):
        raise ValueError(f"a proxy of kind {proxy.scheme}")
    return proxy
