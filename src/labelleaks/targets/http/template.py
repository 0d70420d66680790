"""Any other API: a JSON body by a sandboxed Jinja template or pictures as a form, labels by a JMESPath."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from numpy.typing import NDArray

from labelleaks.errors import InputError, MissingExtra
from labelleaks.targets.http import pictures
from labelleaks.targets.http.body import Body, Breach, rectangular
from labelleaks.targets.http.options import Http

__all__ = ["Template"]


class Template:
    """A user's own format.

    The template sees ``rows`` (nested lists; with ``pictures`` ``images`` instead, base64 texts), ``n``, ``shape``
    (of a row), ``model`` and ``version``, and must render to JSON: ``{"data": {{ rows | tojson }}}``. It runs in
    Jinja's sandbox. The JMESPath must give one label, or one list of scores, for each row; where one row is asked
    about, its value alone will do.

    Raises:
        InputError: a template or a path that cannot be read.
        MissingExtra: jmespath is not installed.
    """

    def __init__(self, options: Http) -> None:
        assert options.label is not None
        self._options = options
        self._path = _compiled(options.label)
        self._template = None
        if options.template is not None:
            environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
            try:
                self._template = environment.from_string(options.template)
            except TemplateError as error:
                raise InputError(f"template: not a Jinja template ({error})") from None

    def body(self, rows: NDArray[np.float32]) -> Body:
        options = self._options
        low, high = options.pixel_range
        files = []
        if options.pictures is not None:
            shown = (pictures.pixels(row, layout=options.layout, low=low, high=high) for row in rows)
            files = [pictures.encode(picture, options.pictures, options.quality) for picture in shown]
        if options.upload is not None:
            assert options.pictures is not None
            return pictures.form_body(options.upload, files, options.pictures, options.form)
        return Body(self._rendered(rows, files).encode(), "application/json")

    def _rendered(self, rows: NDArray[np.float32], files: list[bytes]) -> str:
        assert self._template is not None
        try:
            text = self._template.render(
                rows=[] if files else rows.tolist(),
                images=[pictures.text(file) for file in files],
                n=len(rows),
                shape=list(rows.shape[1:]),
                model=self._options.model,
                version=self._options.version,
            )
        except Exception as error:  # a template can raise whatever its expressions do
            raise InputError(f"template: it cannot be rendered ({type(error).__name__}: {error})") from None
        try:
            json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"template: what it renders to is not JSON ({error}); write {{{{ rows | tojson }}}}"
            ) from None
        return text

    def read(self, answer: Any, rows: int) -> Any:
        from jmespath.exceptions import JMESPathError

        try:
            found = self._path.search(answer)
        except JMESPathError as error:
            raise Breach(f"the path {self._options.label!r} fails on it ({' '.join(str(error).split())})") from None
        if rows == 1 and (not isinstance(found, list) or _are_scores(found)):
            found = [found]
        return rectangular(found, rows)


def _are_scores(values: list[Any]) -> bool:
    """Whether a list is the scores of one row; whole numbers could be the labels of several rows that were not sent."""
    return len(values) > 1 and all(type(value) is float for value in values)


def _compiled(expression: str) -> Any:
    try:
        import jmespath
        from jmespath.exceptions import JMESPathError
    except ImportError:
        raise MissingExtra("label: a JMESPath needs jmespath: pip install 'labelleaks[http]'") from None
    try:
        return jmespath.compile(expression)
    except JMESPathError as error:
        raise InputError(f"label: not a JMESPath ({' '.join(str(error).split())})") from None
