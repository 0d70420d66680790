"""Addresses that a download may go to: https, also where it is sent on to; plain http on this machine only."""

from __future__ import annotations

import ipaddress
import urllib.parse
import urllib.request
from typing import Any

__all__ = ["Refused", "check_address", "opener"]


class Refused(Exception):
    """This address does not have the file, or is none that is gone to."""


def check_address(url: str) -> None:
    """Raise :class:`Refused` where ``url`` is neither https nor on this machine."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname)):
        return
    raise Refused(f"{parts.scheme}:// is not safe on the way; https is needed")


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows to https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_address(newurl)
        here, there = (_is_loopback(urllib.parse.urlsplit(url).hostname) for url in (req.full_url, newurl))
        if there and not here:
            raise Refused("the server points back into this machine")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opener(url: str) -> urllib.request.OpenerDirector:
    """Return what opens ``url``: https through the proxy that the environment names, this machine without one."""
    handlers: list[urllib.request.BaseHandler] = [_SafeRedirects()]
    if _is_loopback(urllib.parse.urlsplit(url).hostname):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)
