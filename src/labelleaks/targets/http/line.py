"""The connections to one address: the pool below httpx (httpcore), on sockets of asyncio.

httpx's client does for each request what is not wanted here (cookies, redirects, authentication, tracing), and its
sockets send the head and the body of a request apart. Without both a request takes about a third less processor time,
which is what keeps many requests at a time on time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import httpcore
import httpx

from labelleaks.targets.http.formats import Body

__all__ = ["ERRORS", "Line"]

_CLOSING = 0.5
"""Seconds that the loop is given to let a connection go."""

ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
"""What a connection may raise."""


class Line:
    """Connections that are kept and used again, at most ``connections``; through the environment's proxy if any.

    Raises:
        Exception: the address, a header or the proxy cannot be; its text may hold a secret.
    """

    def __init__(self, address: str, headers: Mapping[str, str], connections: int) -> None:
        url = httpx.URL(address)
        self._url = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        self._headers = httpx.Request("GET", url, headers=dict(headers)).headers.raw  # with the host
        self._pool = _pool(url, connections)

    async def post(self, body: Body, sent: Callable[[], None]) -> httpx.Response:
        """Send a body; return the answer when its head is there, to be read and closed.

        Args:
            sent: called as the body goes out.

        Raises:
            one of :data:`ERRORS`: no answer.
        """
        headers = [
            *self._headers,
            (b"Content-Type", body.kind.encode("ascii")),
            (b"Content-Length", b"%d" % len(body.content)),
        ]
        outgoing = _Outgoing(body.content, sent)
        request = httpcore.Request(b"POST", self._url, headers=headers, content=outgoing)
        answer = await self._pool.handle_async_request(request)
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Incoming(answer), extensions=answer.extensions
        )

    async def close(self) -> None:
        await self._pool.aclose()


class _Outgoing:
    def __init__(self, content: bytes, sent: Callable[[], None]) -> None:
        self._content = content
        self._sent = sent

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._sent()
        yield self._content


class _Incoming(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._answer.aiter_stream():
            yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


def _pool(url: httpx.URL, connections: int) -> httpcore.AsyncConnectionPool:
    shared: dict[str, Any] = {
        "ssl_context": httpx.create_ssl_context() if url.scheme == "https" else None,
        "max_connections": connections,
        "max_keepalive_connections": connections,
        "network_backend": _Sockets(),
    }
    name = _proxy_for(url)
    if name is None:
        return httpcore.AsyncConnectionPool(**shared)
    proxy = httpx.Proxy(name)
    if proxy.url.scheme not in ("http", "https"):
        raise ValueError(f"a proxy of kind {proxy.url.scheme}")
    where = httpcore.URL(
        scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target=proxy.url.raw_path
    )
    return httpcore.AsyncHTTPProxy(where, proxy_auth=proxy.raw_auth, proxy_headers=proxy.headers.raw, **shared)


def _proxy_for(url: httpx.URL) -> str | None:
    if urllib.request.proxy_bypass(url.netloc.decode("ascii")):
        return None
    found = urllib.request.getproxies()
    proxy = found.get(url.scheme) or found.get("all")
    return None if proxy is None else proxy if "://" in proxy else f"http://{proxy}"


class _Sockets(httpcore.AsyncNetworkBackend):
    """Opens connections on the running loop. Times are limited by whoever asks, for a whole exchange."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            _, protocol = await asyncio.get_running_loop().create_connection(_Socket, host, port)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        return protocol

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Socket(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """One connection. What is written goes out when an answer is waited for: head and body together."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._in = bytearray()
        self._ended = False
        self._error: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._in += data
        self._wake()

    def eof_received(self) -> bool:
        self._ended = True
        self._wake()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._ended, self._error = True, error
        self._gone.set()
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._out.append(buffer)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._flush()
        while not self._in and not self._ended:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        if not self._in and self._error is not None:
            raise httpcore.ReadError(str(self._error)) from self._error
        data = bytes(self._in[:max_bytes])
        del self._in[:max_bytes]
        return data

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            data, self._out = b"".join(self._out), []
            if not self._ended:
                self._transport.write(data)

    async def aclose(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING):
                    await self._gone.wait()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        assert self._transport is not None
        self._flush()
        try:
            made = await asyncio.get_running_loop().start_tls(
                self._transport, self, ssl_context, server_hostname=server_hostname
            )
        except (OSError, ssl.SSLError) as error:
            await self.aclose()
            raise httpcore.ConnectError(str(error)) from error
        assert made is not None
        self._transport = made
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked of an idle connection: whatever came unasked makes it useless
            return bool(self._in) or self._ended
        return None if self._transport is None else self._transport.get_extra_info(info)
