"""Lines to one address: to the service itself, or through the environment's proxy.

httpx's client does for each request what is not wanted here (cookies, redirects, authentication, tracing), and the pool
below it looks for a connection where each asker has its own. So it is asked for what is set once (addresses, headers,
certificates); requests go out on connections of our own, and through a proxy by httpcore, which knows its ways.
"""

from __future__ import annotations

import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

import httpcore
import httpx

from labelleaks.targets.http.body import Body
from labelleaks.targets.http.connection import Answer, Direct, TooLong, head_of

__all__ = ["ERRORS", "Line", "lines"]

ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
"""What a connection may raise."""


class Line(Protocol):
    """One request at a time; a connection is kept and used again."""

    async def post(self, body: Body, sent: Callable[[], None], most: int) -> Answer:
        """Send a body and return the whole answer.

        Args:
            sent: called before its first byte goes out.
            most: bytes that the content of an answer may have.

        Raises:
            one of :data:`ERRORS`: no answer.
            TooLong: a longer one.
        """
        ...

    async def close(self) -> None:
        """Close its connection, if there is one."""
        ...


def lines(address: str, headers: Mapping[str, str], count: int) -> list[Line]:
    """Return ``count`` lines to an address. Nothing is connected.

    Raises:
        Exception: the address, a header or the proxy cannot be; its text may hold a secret.
    """
    url = httpx.URL(address)
    raw = httpx.Request("GET", url, headers=dict(headers)).headers.raw  # with the host
    head = head_of(url.raw_path, raw)
    secure = httpx.create_ssl_context() if url.scheme == "https" else None
    if secure is not None:
        secure.set_alpn_protocols(["http/1.1"])
    name = _proxy_for(url)
    if name is None:
        host, port = url.raw_host.decode("ascii"), url.port or (80 if secure is None else 443)
        return [Direct(host, port, secure, head) for _ in range(count)]
    connect = _through(httpx.Proxy(name), secure)
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    return [_Proxied(connect, target, raw) for _ in range(count)]


class _Proxied:
    def __init__(
        self, connect: Callable[[], httpcore.AsyncHTTPProxy], url: httpcore.URL, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self._connect = connect
        self._url = url
        self._headers = headers
        self._pool: httpcore.AsyncHTTPProxy | None = None
        self._usable = True

    async def post(self, body: Body, sent: Callable[[], None], most: int) -> Answer:
        if not self._usable:
            await self.close()
        if self._pool is None:
            self._pool, self._usable = self._connect(), True
        about = [(b"Content-Type", body.kind.encode("ascii")), (b"Content-Length", b"%d" % len(body.content))]
        request = httpcore.Request(
            b"POST", self._url, headers=[*self._headers, *about], content=_Outgoing(body.content, sent)
        )
        try:
            return await _whole(await self._pool.handle_async_request(request), most)
        except BaseException:  # a pool that is interrupted may count on a connection that is lost
            self._usable = False
            raise

    async def close(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.aclose()


class _Outgoing:
    def __init__(self, content: bytes, sent: Callable[[], None]) -> None:
        self._content = content
        self._sent = sent

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._sent()
        yield self._content


async def _whole(response: httpcore.Response, most: int) -> Answer:
    content = bytearray()
    try:
        async for part in response.aiter_stream():
            content += part
            if len(content) > most:
                raise TooLong
    finally:
        await response.aclose()
    reason: Any = response.extensions.get("reason_phrase", b"")
    return Answer(response.status, reason.decode("latin-1"), tuple(response.headers), bytes(content))


def _through(proxy: httpx.Proxy, secure: Any) -> Callable[[], httpcore.AsyncHTTPProxy]:
    """Return what makes a pool of one connection through a proxy, not yet connected."""
    if proxy.url.scheme not in ("http", "https"):
        raise ValueError(f"a proxy of kind {proxy.url.scheme}")
    where = httpcore.URL(
        scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target=proxy.url.raw_path
    )
    return lambda: httpcore.AsyncHTTPProxy(
        where, proxy_auth=proxy.raw_auth, proxy_headers=proxy.headers.raw, ssl_context=secure, max_connections=1
    )


def _proxy_for(url: httpx.URL) -> str | None:
    if urllib.request.proxy_bypass(url.netloc.decode("ascii")):
        return None
    found = urllib.request.getproxies()
    proxy = found.get(url.scheme) or found.get("all")
    return None if proxy is None else proxy if "://" in proxy else f"http://{proxy}"
