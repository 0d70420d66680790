"""Any other API: JSON or lines of it by a sandboxed Jinja template, or pictures as a form; labels by a path."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from jinja2 import StrictUndefined, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from labelleaks.core.classes import Classes
from labelleaks.errors import InputError, MissingExtra
from labelleaks.targets.http import pictures
from labelleaks.targets.http.answers import per_row, searched
from labelleaks.targets.http.body import Body, parse
from labelleaks.targets.http.options import Http
from labelleaks.targets.http.rows import Rows

__all__ = ["JsonLines", "Template", "compiled"]


class Template:
    """A user's own format.

    The template sees ``rows`` (nested lists) and, where rows have names, ``records`` (objects) and ``columns``; the
    first of each as ``row`` and ``record``; with ``pictures`` ``images``, base64 texts, and ``image``; ``n``,
    ``shape`` (of a row), ``model`` and ``version``. It must render to JSON: ``{"data": {{ rows | tojson }}}``. It runs
    in Jinja's sandbox. The JMESPath must give one label, or one list of scores, for each row; where one row is asked
    about, its value alone will do.

    Raises:
        InputError: a template or a path that cannot be read.
        MissingExtra: jmespath is not installed.
    """

    def __init__(self, options: Http) -> None:
        self._options = options
        self._path = compiled(options.label or "@")
        self._render = None if options.template is None else renderer(options)

    def parse(self, content: bytes) -> Any:
        """Return a parsed answer; where ``label`` is the whole of it, a line of text is a label, too."""
        try:
            return parse(content)
        except ValueError:
            text = content.decode("utf-8", "replace").strip()
            if self._options.label != "@" or not text or "\n" in text or text[0] in "<{[":
                raise
            return text

    def body(self, rows: Rows) -> Body:
        options = self._options
        files = [] if options.pictures is None else _files(rows, options)
        if options.upload is not None:
            assert options.pictures is not None
            return pictures.form_body(options.upload, files, options.pictures, options.form)
        assert self._render is not None
        return Body(self._render(rows, [pictures.text(file) for file in files]).encode(), "application/json")

    def read(self, answer: Any, rows: int, classes: Classes | None) -> Any:
        return per_row(searched(self._path, answer, rows), rows, self._options, classes)


class JsonLines:
    """A line of JSON for each row: an object where rows have names, else a list, or a template of one line.

    Raises:
        InputError: a template or a path that cannot be read.
        MissingExtra: jmespath is not installed.
    """

    parse = staticmethod(parse)

    def __init__(self, options: Http) -> None:
        self._options = options
        self._path = compiled(options.label or "@")
        self._render = None if options.template is None else renderer(options)

    def body(self, rows: Rows) -> Body:
        if self._render is None:
            values = rows.records() if rows.columns else rows.lists()
            lines = [json.dumps(value, allow_nan=False) for value in values]
        else:  # a template may be written over several lines
            shown = [self._render(rows[i : i + 1], []) for i in range(len(rows))]
            lines = [json.dumps(json.loads(line), allow_nan=False) for line in shown]
        return Body("".join(f"{line}\n" for line in lines).encode(), "application/jsonlines")

    def read(self, answer: Any, rows: int, classes: Classes | None) -> Any:
        listed = answer if rows > 1 or isinstance(answer, list) else [answer]
        return per_row(searched(self._path, listed, rows), rows, self._options, classes)


def _files(rows: Rows, options: Http) -> list[bytes]:
    assert options.pictures is not None
    if rows.array is None:
        raise InputError(f"pictures: {options.pictures}: rows of named columns are no pictures")
    low, high = options.pixel_range
    shown = (pictures.pixels(row, layout=options.layout, low=low, high=high) for row in rows.array)
    return [pictures.encode(picture, options.pictures, options.quality) for picture in shown]


def renderer(options: Http) -> Callable[[Rows, list[str]], str]:
    """Return a function of rows and pictures that renders the template of the options to JSON.

    Raises:
        InputError: it is no template.
    """
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    assert options.template is not None
    try:
        template = environment.from_string(options.template)
        used = meta.find_undeclared_variables(environment.parse(options.template))
    except TemplateError as error:
        raise InputError(f"template: not a Jinja template ({error})") from None

    def render(rows: Rows, images: list[str]) -> str:
        nameless = sorted(used & {"columns", "record", "records"}) if rows.array is not None else []
        if nameless:
            raise InputError(
                f"template: {nameless[0]!r}: the rows have no names; bring a table with named columns, or write rows"
            )
        try:
            text = template.render(_variables(rows, images, used, options))
        except Exception as error:  # a template can raise whatever its expressions do
            raise InputError(f"template: it cannot be rendered ({type(error).__name__}: {error})") from None
        try:
            json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"template: what it renders to is not JSON ({error}); write {{{{ rows | tojson }}}}"
            ) from None
        return text

    return render


def _variables(rows: Rows, images: list[str], used: set[str], options: Http) -> dict[str, Any]:
    """Variables that the template looks at."""
    seen: dict[str, Any] = {"n": len(rows), "model": options.model, "version": options.version, "images": images}
    if rows.array is not None:
        seen["shape"] = list(rows.array.shape[1:])
    else:
        seen |= {"shape": [len(rows.parts)], "columns": [str(name) for name in rows.names]}
    if used & {"rows", "row"}:
        seen["rows"] = [] if images else rows.lists()
    if used & {"records", "record"} and rows.parts:
        seen["records"] = rows.records()
    singles = {"row": "rows", "record": "records", "image": "images"}
    return seen | {one: seen[many][0] for one, many in singles.items() if one in used and seen.get(many)}


def compiled(expression: str) -> Any:
    """Return a JMESPath. InputError: it is none; MissingExtra: jmespath is not installed."""
    try:
        import jmespath
        from jmespath.exceptions import JMESPathError
    except ImportError:
        raise MissingExtra("label: a JMESPath needs jmespath: pip install 'labelleaks[http]'") from None
    try:
        return jmespath.compile(expression)
    except JMESPathError as error:
        raise InputError(f"label: not a JMESPath ({' '.join(str(error).split())})") from None
