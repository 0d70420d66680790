"""One self-contained HTML page from a record: no network, no library, equal bytes for equal records.

The page's content security policy lets in nothing but its own style, its own script (both by hash) and inlined images.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from labelleaks.auditing.record import AuditRecord, RunLog
from labelleaks.auditing.report.view_model import build
from labelleaks.core import serialization

__all__ = ["render", "write_report"]


def render(record: AuditRecord, run: RunLog | None = None) -> str:
    """Return the page.

    Args:
        record: whole or incomplete; everything that comes from data is escaped.
        run: times and host, shown if given. They differ between equal runs, and so then does the page.
    """
    style, script = _asset("report.css"), _asset("report.js")
    page = _template().render(
        build(record, run),
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    return page + "\n"


def write_report(record: AuditRecord, path: str | Path, *, run: RunLog | None = None) -> Path:
    """Write the page to ``path``, a file, or ``report.html`` in a folder; return the file.

    For the owner only (0600) where candidates can be read from the record.
    """
    given = Path(path)
    file = given if given.suffix.lower() in (".html", ".htm") else given / "report.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    serialization.write_atomic(file, render(record, run), private=record.holds_inputs)
    return file


@cache
def _asset(name: str) -> str:
    return resources.files("labelleaks.auditing.report").joinpath("templates", name).read_text("utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(_asset("report.html.j2"))


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
