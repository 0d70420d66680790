"""Settings of a service: its address, protocol, rates and prices. Data only; no secret."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl, urlsplit

from labelleaks.core.domains import Box, Domain
from labelleaks.errors import InputError

__all__ = ["PROTOCOLS", "Http", "is_url", "protocol_of"]

ServiceProtocol = Literal["v2", "tensorflow", "mlflow", "csv", "jsonl", "template"]
PROTOCOLS: tuple[ServiceProtocol, ...] = get_args(ServiceProtocol)
Datatype = Literal[
    "FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL"
]
_TELLING = re.compile(r"auth|cookie|token|secret|passw|api.?key|signature|credential", re.IGNORECASE)
_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LEVELS = 256


@dataclass(frozen=True, kw_only=True)
class Http:
    """A classifier behind an HTTP API (``pip install 'labelleaks[http]'``); ``docs/http-targets.md`` has examples.

    Only ``url`` is always needed. Secrets are named, never given: ``auth_env`` is the *name* of an environment
    variable.

    Raises:
        InputError: a value that cannot be; says which and how to mend it.
    """

    url: str
    """The server (``http://host:8000``), or the whole address that answers."""
    protocol: ServiceProtocol | None = None
    """``"v2"`` (Open Inference Protocol), ``"tensorflow"``, ``"mlflow"``, ``"csv"`` (SageMaker), ``"jsonl"`` (a line of
    JSON a row), ``"template"``; None: as the address says."""
    model: str | None = None
    """Name of the model (v2, tensorflow) where the address does not hold it; ``model`` in a template."""
    version: str | int | None = None
    """Its version; None: the server's choice."""
    input: str | None = None
    """Name of the input tensor (v2: ``input-0`` where not given; tensorflow: instances are bare rows then)."""
    output: str | None = None
    """Name of the output that holds labels or scores, where the model has several."""
    datatype: Datatype | None = None
    """Of the numbers in input tensors (v2); None: that of the rows."""
    columns: tuple[str, ...] = ()
    """Names of the features of an array, or the order of named columns, each sent by its name (v2: as a tensor)."""
    template: str | None = None
    """Jinja template of a JSON body (jsonl: of a line); it sees ``rows``, ``records`` where columns are named, and
    others: ``docs/http-targets.md``."""
    label: str | None = None
    """JMESPath to the labels (or scores) in the answer (template, csv, jsonl): one for each row."""
    answers: Literal["scores", "ids"] | None = None
    """What several whole numbers a row are: scores in the order of the classes, or ids of classes, the best first."""
    label_map: Mapping[str | int, str | int] | None = None
    """What the service answers -> the label it stands for; an answer that is not in it is refused."""
    pictures: Literal["png", "jpeg"] | None = None
    """Rows are sent as 8-bit pictures: base64 text in ``images``, or files where ``upload`` names their field."""
    upload: str | None = None
    """Name of the form field that takes a picture as a file (multipart)."""
    form: Mapping[str, str] = field(default_factory=dict)
    """Further form fields beside the files."""
    layout: Literal["chw", "hwc"] = "chw"
    """Where a row of three dimensions has its colours."""
    pixel_range: tuple[float, float] = (0.0, 1.0)
    """What the darkest and the brightest pixel are in the domain's units."""
    quality: int = 95
    """Of JPEG, 1 to 100. JPEG loses detail: prefer PNG."""
    batch_rows: int = 32
    """Rows in one request at most: the server's limit."""
    concurrency: int = 4
    """Requests under way at a time."""
    rate: float | None = None
    """Requests a second at most; None: as fast as they are answered."""
    burst: int = 1
    """Requests that may go out at once after a pause."""
    timeout: float = 30.0
    """Seconds for one request, from its first byte to the last of its answer."""
    retries: int = 5
    """Times that a request is sent again after a failure that may pass."""
    backoff: float = 0.5
    """Seconds before the first retry; doubled each time, with jitter, at most 30."""
    wait_most: float = 120.0
    """Seconds that a ``Retry-After`` may ask for; more ends the run (run again later)."""
    auth_env: str | None = None
    """Name of the environment variable that holds the secret."""
    auth_header: str = "Authorization"
    """Header that carries it."""
    auth_scheme: str = "Bearer"
    """Word before it; ``""``: none (``x-api-key``), ``"Basic"``: the variable holds ``user:password``."""
    netrc: bool = False
    """Take user and password for this host from ``~/.netrc`` (or the file that ``NETRC`` names)."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers, which may be seen by everybody."""
    price_per_request: float = 0.0
    """In your currency; failed requests are counted as charged for."""
    price_per_row: float = 0.0
    fingerprint: str | None = None
    """Version of what is served, in your words: a journal of answers belongs to one."""

    def __post_init__(self) -> None:
        for f in fields(self):  # a spec brings lists
            if isinstance(getattr(self, f.name), list):
                object.__setattr__(self, f.name, tuple(getattr(self, f.name)))
        if isinstance(self.version, int):
            object.__setattr__(self, "version", str(self.version))
        _check_url(self.url)
        _check_choices(self)
        _check_numbers(self)
        _check_secrets(self)
        if self.protocol is None:
            object.__setattr__(self, "protocol", protocol_of(self.url))
        _check_protocol(self)

    def takes_columns(self, *, complete_numbers: bool) -> bool:
        """Whether rows of a table go out by the names of their columns; if not, as arrays of numbers.

        Args:
            complete_numbers: every column is of numbers, and none is missing.
        """
        as_array = self.protocol in ("v2", "tensorflow") and not self.columns
        return not (as_array and complete_numbers)

    def narrow(self, domain: Domain) -> Domain:
        """Return the inputs that can really be sent: of pictures, 256 levels a pixel.

        Raises:
            InputError: pictures of a domain that is not a box over ``pixel_range``.
        """
        if self.pictures is None:
            return domain
        low, high = self.pixel_range
        if not isinstance(domain, Box) or not domain.spans(low, high):
            raise InputError(
                f"pictures={self.pictures!r} are sent with pixels from {low!r} to {high!r} (pixel_range), but the "
                f"domain is {domain!r}: give Box({low!r}, {high!r}), or the pixel_range of your data"
            )
        if domain.layout in ("chw", "hwc") and domain.layout != self.layout:
            raise InputError(
                f'layout="{self.layout}" of the pictures, but the domain is {domain!r}: say the same of both, '
                f'layout="{domain.layout}"'
            )
        if domain.levels is not None and (_LEVELS - 1) % (domain.levels - 1):
            raise InputError(f"pictures have {_LEVELS} levels, which {domain!r} does not share: leave levels= away")
        return domain if domain.levels is not None else replace(domain, levels=_LEVELS)


def is_url(text: str) -> bool:
    """Whether a target's name is an address, not a file or a module."""
    return text.lower().startswith(("http://", "https://"))


def protocol_of(url: str) -> ServiceProtocol:
    """Return the protocol that an address shows by its path.

    Raises:
        InputError: it shows none.
    """
    path = urlsplit(url).path.rstrip("/")
    if path.endswith("/invocations"):
        return "mlflow"
    if re.search(r"/v1/models/[^/]+", path):
        return "tensorflow"
    if re.search(r"/v2(/models/[^/]+|$)", path):
        return "v2"
    raise InputError(
        f"target {url}: its path does not say what it speaks; give protocol: {', '.join(PROTOCOLS[:-1])} or template "
        "(labelleaks probe URL finds out)"
    )


def _check_url(url: Any) -> None:
    if not isinstance(url, str) or not is_url(url):
        raise InputError("url: an address that begins with http:// or https:// is needed")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"url: not an address ({error})") from None
    if parts.username is not None or parts.password is not None:
        raise InputError("url: holds a user or a password; take them out and use netrc: true or auth_env: NAME")
    if not host:
        raise InputError("url: names no host")
    for key, _value in parse_qsl(parts.query, keep_blank_values=True):
        if _TELLING.search(key) or key.lower() in ("key", "sig", "code"):
            raise InputError(
                f"url: the query holds {key!r}, which looks like a secret; take it out and use auth_env: NAME with "
                "auth_header:"
            )


def _check_choices(options: Http) -> None:
    for name, known in (
        ("protocol", (None, *PROTOCOLS)),
        ("datatype", (None, *get_args(Datatype))),
        ("answers", (None, "scores", "ids")),
        ("pictures", (None, "png", "jpeg")),
        ("layout", ("chw", "hwc")),
    ):
        if getattr(options, name) not in known:
            raise InputError(f"{name}={getattr(options, name)!r}: one of {', '.join(filter(None, known))} is needed")
    for name in ("model", "version", "input", "output", "template", "label", "upload", "fingerprint"):
        value = getattr(options, name)
        if value is not None and (not isinstance(value, str) or not value):
            raise InputError(f"{name}={value!r}: text is needed")
    for name in ("headers", "form", "label_map"):
        value = getattr(options, name)
        if value is not None and not isinstance(value, Mapping):
            raise InputError(f"{name}: a mapping is needed, got {type(value).__name__}")


def _check_numbers(options: Http) -> None:
    for name, least in (("batch_rows", 1), ("concurrency", 1), ("burst", 1), ("retries", 0), ("quality", 1)):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name}={value!r}: a whole number of at least {least} is needed")
    for name in ("timeout", "backoff", "wait_most", "price_per_request", "price_per_row", "rate"):
        value = getattr(options, name)
        if value is None and name == "rate":
            continue
        number = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
        positive = name in ("timeout", "rate")  # of the others, 0 means none
        if not number or value < 0 or (value == 0 and positive):
            raise InputError(f"{name}={value!r}: a number {'above 0' if positive else 'of at least 0'} is needed")
    pixels = options.pixel_range
    if len(pixels) != 2 or not all(math.isfinite(p) for p in pixels) or not pixels[0] < pixels[1]:
        raise InputError(f"pixel_range={pixels!r}: the lowest and the highest value of a pixel are needed")
    if options.quality > 100:
        raise InputError(f"quality={options.quality}: JPEG knows 1 to 100")


def _check_secrets(options: Http) -> None:
    """Refuse secrets where names belong; a message never repeats what may be one."""
    if options.auth_env is not None and not (isinstance(options.auth_env, str) and _NAME.fullmatch(options.auth_env)):
        raise InputError(
            "auth_env: the NAME of an environment variable is needed (capitals, digits and _), not the secret itself"
        )
    for header, value in options.headers.items():
        if not (_TOKEN.fullmatch(str(header)) and isinstance(value, str) and value.isascii() and value.isprintable()):
            raise InputError(f"headers: {header!r} or its value is something that no header can carry")
        if _TELLING.search(header):
            raise InputError(
                f"headers: {header!r} carries a secret; put the secret into an environment variable and say auth_env: "
                f"NAME, auth_header: {header}"
            )
    for key in options.form:
        if _TELLING.search(key):
            raise InputError(f"form: {key!r} looks like a secret; send it as a header: auth_env: NAME, auth_header: …")
    if options.netrc and options.auth_env is not None:
        raise InputError("netrc and auth_env: give one of them")


def _check_protocol(options: Http) -> None:
    path = urlsplit(options.url).path
    if options.protocol in ("v2", "tensorflow") and options.model is None and "/models/" not in path:
        raise InputError(f"protocol {options.protocol}: give model: NAME, or the whole address with /models/NAME")
    if options.protocol == "template":
        if options.label is None:
            raise InputError("protocol template: give label:, the JMESPath to the labels in the answer")
        if (options.template is None) == (options.upload is None):
            raise InputError("protocol template: give template: (a JSON body) or upload: (the form field of a picture)")
        if options.upload is not None and options.pictures is None:
            raise InputError("upload: say pictures: png (or jpeg), in which form a row is sent as a file")
        return
    allowed = {"jsonl": ("template", "label"), "csv": ("label",)}.get(str(options.protocol), ())
    for name in ("template", "label", "upload", "pictures"):
        if getattr(options, name) is not None and name not in allowed:
            raise InputError(f"{name} belongs to protocol template, this one is {options.protocol}")
