"""One request and what became of it: the labels, or a fault that says whether it is worth asking again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labelleaks.targets.http.body import Body, Breach
from labelleaks.targets.http.pacing import retry_after

if TYPE_CHECKING:
    from labelleaks.targets.http.service import Answer, Service

__all__ = ["Fault", "exchange", "parsed"]

_MOST_BYTES = 1 << 26
"""Of an answer; a larger one is broken off."""
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529})
_MEND = {
    401: "; give the secret: auth_env: NAME or netrc: true",
    403: "; the secret may lack the right to this model",
    404: "; check url:, model: and version:",
    405: "; check protocol: and url:",
    407: "; the proxy wants a password",
    413: "; lower batch_rows:",
    415: "; check protocol:",
    400: "; check the shape and the type of the rows: labelleaks probe URL says what it takes",
    422: "; check protocol:, input: and the shape and the type of the rows: labelleaks probe URL says what it takes",
}


class Fault(Exception):
    """No good answer. ``passing``: it may go away; ``odd``: it may, but the server looks misconfigured."""

    def __init__(
        self,
        text: str,
        *,
        passing: bool,
        odd: bool = False,
        excerpt: str = "",
        wait: float | None = None,
        busy: bool = False,
    ) -> None:
        super().__init__(text)
        self.excerpt = excerpt
        """What the server wrote, whole: shortened only after it was scrubbed."""
        self.passing = passing
        self.odd = odd
        self.wait = wait
        """Seconds that the server asked for."""
        self.busy = busy
        """Whether all requests should wait, not this one alone."""


async def exchange(service: Service, body: Body, *, timeout: float, sent: Callable[[], None]) -> bytes:
    """Post a body and return the content of a good answer.

    Args:
        sent: called before its first byte goes out.

    Raises:
        Fault: anything but a whole 2xx answer within ``timeout`` seconds. Its text is not scrubbed yet.
    """
    from labelleaks.targets.http.service import ERRORS, TooLong, why

    try:
        async with asyncio.timeout(timeout):
            answer = await service.post(body, sent, _MOST_BYTES)
    except TimeoutError:
        raise Fault(f"no whole answer within {timeout:g} s", passing=True) from None
    except TooLong:
        raise Fault(f"its answer is longer than {_MOST_BYTES} bytes", passing=True, odd=True) from None
    except ERRORS as error:
        text = f"the connection failed ({why(error)})"
        raise Fault(text, passing="certificate" not in text.lower()) from None
    _check_status(answer)
    return answer.content


def _check_status(answer: Answer) -> None:
    status = answer.status
    if 200 <= status < 300:
        return
    status_line = f"it answered {status} {answer.reason}".rstrip()
    if 300 <= status < 400:
        place = (answer.headers.get("Location") or "nowhere").partition("?")[0]
        raise Fault(
            f"{status_line} (redirect to {place}; redirects are not followed: give the final url:)",
            passing=True,
            odd=True,
        )
    raise Fault(
        f"{status_line}{_MEND.get(status, '')}",
        excerpt=_words(answer.content),
        passing=status in _PASSING,
        wait=retry_after(answer.headers.get("Retry-After")) if status in _PASSING else None,
        busy=status in (429, 503, 529),
    )


def parsed(content: bytes, parse: Callable[[bytes], Any]) -> Any:
    """Parse an answer.

    Raises:
        Fault: it is no JSON (cut off, a web page), or holds NaN.
    """
    try:
        return parse(content)
    except ValueError:
        words = _words(content)
        raise Fault("its answer is no JSON" if words else "its answer is empty", excerpt=words, passing=True) from None
    except Breach as error:
        raise Fault(f"its answer is wrong: {error}", passing=True, odd=True) from None


def _words(content: bytes) -> str:
    return " ".join(content.decode("utf-8", "replace").split())
