"""One self-contained HTML page from a record: no network, no library, equal bytes for equal records.

The page's content security policy lets in nothing but its own style, its own script (both by hash) and inlined images.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup, escape

from labelleaks.auditing.report.view_model import build, decisions_look, first_look
from labelleaks.core import serialization

if TYPE_CHECKING:  # a record shows itself by its report
    from labelleaks.auditing.decisions import Decisions
    from labelleaks.auditing.record import AuditRecord, RunLog

__all__ = ["asset", "decisions_html", "record_html", "render", "write_report"]


def render(record: AuditRecord, run: RunLog | None = None) -> str:
    """Return the page.

    Args:
        record: whole or incomplete; everything that comes from data is escaped.
        run: times and host, shown if given. They differ between equal runs, and so then does the page.
    """
    page = _page(str(record.versions.get("labelleaks", "")), asset("report.js"))
    return _template("report.html.j2").render(build(record, run), page=page) + "\n"


def record_html(record: AuditRecord) -> str:
    """Return the page's top for a notebook: the answer, the first figures, serious flags, curves. No script."""
    page = _page(str(record.versions.get("labelleaks", "")))
    height = 1500 + 190 * sum(flag.severity == "serious" for flag in record.flags)
    return _framed(_template("report.html.j2").render(first_look(record), page=page), height)


def decisions_html(decisions: Decisions) -> str:
    """Return decisions for a notebook: how many are called members, by which threshold, its flags, the first rows."""
    shown = _template("decisions.html.j2").render(decisions_look(decisions), page=_page(""))
    return _framed(shown, 560 + 190 * len(decisions.flags))


def _framed(page: str, height: int) -> str:
    """A page inside a page: what it holds runs nothing, and neither page's style reaches the other."""
    held = str(escape(page))
    style = f"width:100%;height:{height}px;border:0;resize:vertical"
    return f'<iframe sandbox="" title="labelleaks" style="{style}" srcdoc="{held}"></iframe>'


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
def asset(name: str) -> str:
    """Return the text of a file that comes with the page."""
    return resources.files("labelleaks.auditing.report").joinpath("templates", name).read_text("utf-8")


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def _page(version: str, script: str = "") -> dict[str, str]:
    """Style and script of a page, with their hashes for its content security policy."""
    style = asset("report.css")
    shown = {"style": Markup(style), "script": Markup(script), "version": version}
    return shown | {"style_hash": _hash(style), "script_hash": _hash(script)}


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
