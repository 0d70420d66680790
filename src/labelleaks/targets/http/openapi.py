"""Proposals of a template from a service's OpenAPI document: FastAPI and LitServe (``/openapi.json``), BentoML
(``/docs.json``).

Sources: OpenAPI 3.0 and 3.1; what these three write into their documents (FastAPI 0.165, LitServe 0.2.19, BentoML 1.4).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Endpoint", "document_places", "operations"]

_DEEP = 12
"""Levels of a schema that are followed."""
_SCALARS = ("number", "integer", "boolean", "string")

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Endpoint:
    """One POST operation, and the request that it takes."""

    path: str
    template: str | None = None
    """None: what it takes is not known."""
    why: str = ""
    """Reason that there is no template."""
    single: bool = False
    """Whether a request has one row."""
    columns: Mapping[str, Schema] | None = None
    """Schemas of a record's values by name; {} where the document does not name them, None where rows have no names."""
    required: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    """Of a row that is an array, where the document says it."""
    whole: bool = False
    """Whether a row is an array of whole numbers."""
    texts: bool = False
    """Whether a row is a text."""
    upload: str | None = None
    """Form field that takes a picture as a file."""
    picture: bool = False
    """Whether a row is sent as a picture."""


@dataclass(frozen=True)
class _Slot:
    """A place in a body that takes rows: JSON with the expression of a template in it."""

    text: str
    operation: Endpoint


class _Unknown(Exception):
    """A schema of which no template can be made, and why."""


def document_places(path: str) -> Iterator[tuple[str, str]]:
    """Yield (prefix, path of a document) to look at for an address with this path, the nearest first."""
    parts = [part for part in path.split("/") if part]
    for length in range(len(parts), -1, -1):
        prefix = "".join(f"/{part}" for part in parts[:length])
        if prefix.endswith(("/openapi.json", "/docs.json")):
            yield prefix.rpartition("/")[0], prefix
            continue
        yield prefix, f"{prefix}/openapi.json"
        yield prefix, f"{prefix}/docs.json"


def operations(document: Any) -> list[Endpoint]:
    """Return the POST operations of a document that may answer rows, those of BentoML's infrastructure left out."""
    paths = document.get("paths") if isinstance(document, dict) else None
    found = []
    for path, methods in (paths or {}).items():
        post = methods.get("post") if isinstance(methods, dict) else None
        if isinstance(post, dict) and "Infrastructure" not in (post.get("tags") or []):
            found.append(_operation(document, str(path), post))
    return found


def _operation(document: Schema, path: str, post: Schema) -> Endpoint:
    content = (_resolved(document, post.get("requestBody") or {}).get("content")) or {}
    kinds = {kind.partition(";")[0].strip(): body for kind, body in content.items() if isinstance(body, dict)}
    try:
        if "application/json" in kinds:
            schema = kinds["application/json"].get("schema") or {}
            slot = _slot(document, _bentoml(document, post) or schema, 0)
            return _named(slot.operation, path, slot.text)
        if "multipart/form-data" in kinds:
            return _upload(document, path, kinds["multipart/form-data"].get("schema") or {})
    except _Unknown as error:
        return Endpoint(path, why=str(error))
    taken = f"a body of {', '.join(kinds)}" if kinds else "a body that the document does not describe"
    return Endpoint(path, why=f"it takes {taken}")


def _named(operation: Endpoint, path: str, text: str) -> Endpoint:
    return Endpoint(**{**vars(operation), "path": path, "template": text})


def _bentoml(document: Schema, post: Schema) -> Schema | None:
    """The schema in which BentoML tells arrays and tables apart from lists."""
    schemas = (document.get("components") or {}).get("schemas") or {}
    found = schemas.get(f"{post.get('x-bentoml-name')}__Input")
    return found if isinstance(found, dict) else None


def _resolved(document: Schema, schema: Any) -> Schema:
    """A schema with its reference followed, and without the null that it may also be."""
    for _ in range(_DEEP):
        if not isinstance(schema, dict):
            return {}
        if "$ref" in schema:
            place: Any = document
            for key in str(schema["$ref"]).removeprefix("#/").split("/"):
                place = place.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(place, dict) else None
            schema = place
            continue
        options = [o for o in schema.get("anyOf") or schema.get("oneOf") or [] if _type(o) != "null"]
        if len(options) == 1 or len(schema.get("allOf") or []) == 1:
            inner = options[0] if len(options) == 1 else schema["allOf"][0]
            rest = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf", "allOf")}
            schema = {**inner, **rest}
            continue
        return schema
    return {}


def _type(schema: Any) -> Any:
    found = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(found, list):  # ["number", "null"]
        others = [kind for kind in found if kind != "null"]
        return others[0] if len(others) == 1 else None
    return found


def _slot(document: Schema, given: Any, depth: int) -> _Slot:
    schema = _resolved(document, given)
    kind = _type(schema)
    if depth > _DEEP:
        raise _Unknown("its schema is nested too deeply")
    if kind == "tensor":  # BentoML
        sizes = tuple(schema.get("shape") or ())[1:]
        known = bool(sizes) and all(isinstance(size, int) and size > 0 for size in sizes)
        whole = "int" in str(schema.get("dtype") or "")
        return _rows(Endpoint("", shape=sizes if known else None, whole=whole), "rows")
    if kind == "dataframe":
        if schema.get("orient", "records") != "records":
            raise _Unknown(f"it takes a data frame in the form {schema['orient']!r}")
        return _rows(Endpoint("", columns={}), "records")
    if kind == "array":
        return _array(document, schema, depth)
    if kind == "string" and _is_base64(schema):
        return _rows(Endpoint("", single=True, picture=True), "image")
    if kind == "object" or "properties" in schema:
        return _object(document, schema, depth)
    if kind in _SCALARS:
        raise _Unknown(f"its body is a single {kind}")
    raise _Unknown("its document says nothing of what is in the body")


def _rows(operation: Endpoint, variable: str) -> _Slot:
    return _Slot(f"{{{{ {variable} | tojson }}}}", operation)


def _is_base64(schema: Schema) -> bool:
    return schema.get("contentEncoding") == "base64" or schema.get("format") in ("byte", "base64")


def _array(document: Schema, schema: Schema, depth: int) -> _Slot:
    inner = _resolved(document, schema.get("items"))
    kind = _type(inner)
    if kind == "string" and _is_base64(inner):
        return _rows(Endpoint("", picture=True), "images")
    if kind == "string":
        return _rows(Endpoint("", texts=True), "rows")
    if kind in ("number", "integer"):
        size = schema.get("minItems")
        shape = (size,) if isinstance(size, int) and size == schema.get("maxItems") else None
        return _rows(Endpoint("", single=True, shape=shape, whole=kind == "integer"), "row")
    if kind == "array":
        row, lowest = _nested(document, inner)
        return _rows(Endpoint("", shape=row, whole=lowest == "integer"), "rows")
    if kind == "object" or "properties" in inner:
        columns = _columns(document, inner)
        if columns is None:
            raise _Unknown("its records are nested")
        required = tuple(inner.get("required") or ())
        return _rows(Endpoint("", columns=columns, required=required), "records")
    raise _Unknown("its document says nothing of what is in its list")


def _nested(document: Schema, schema: Schema) -> tuple[tuple[int, ...] | None, Any]:
    """Sizes of an array's schema where it says all of them, and the type of its values."""
    sizes: list[int | None] = []
    for _ in range(_DEEP):
        size = schema.get("minItems")
        sizes.append(size if isinstance(size, int) and size == schema.get("maxItems") else None)
        inner = _resolved(document, schema.get("items"))
        if _type(inner) != "array":
            known = tuple(size for size in sizes if size is not None)
            return (known if len(known) == len(sizes) else None), _type(inner)
        schema = inner
    return None, None


def _columns(document: Schema, schema: Schema) -> dict[str, Schema] | None:
    """Schemas of a record's values; None where one of them is no single value."""
    columns = {name: _resolved(document, held) for name, held in (schema.get("properties") or {}).items()}
    plain = all(_type(held) in _SCALARS or "enum" in held or "const" in held for held in columns.values())
    return columns if plain and not any(map(_is_base64, columns.values())) else None


def _object(document: Schema, schema: Schema, depth: int) -> _Slot:
    properties = schema.get("properties") or {}
    if not properties:
        raise _Unknown("its document does not name what is in its object")
    columns = _columns(document, schema)
    if columns is not None:
        required = tuple(schema.get("required") or ())
        return _rows(Endpoint("", single=True, columns=columns, required=required), "record")
    return _around(document, properties, tuple(schema.get("required") or properties), depth)


def _around(document: Schema, properties: Schema, required: tuple[str, ...], depth: int) -> _Slot:
    """An object of which one value holds the rows; the others are what the document says they are."""
    parts: dict[str, str] = {}
    slots: dict[str, _Slot] = {}
    for name in required:
        held = _resolved(document, properties.get(name))
        constant = _constant(held)
        if (_type(held) in _SCALARS and not _is_base64(held)) or "enum" in held or "const" in held:
            if constant is None:
                raise _Unknown(f"its value {name!r} is not known: the document gives no example")
            parts[name] = json.dumps(constant)
        else:
            slots[name] = _slot(document, held, depth + 1)
            parts[name] = slots[name].text
    if len(slots) != 1:
        names = ", ".join(map(repr, slots)) or "none of its values"
        raise _Unknown(f"rows may be in {names}")
    text = ", ".join(f"{json.dumps(name)}: {part}" for name, part in parts.items())
    return _Slot(f"{{{text}}}", next(iter(slots.values())).operation)


def _constant(schema: Schema) -> Any:
    examples = schema.get("examples")
    listed = examples if isinstance(examples, list) else []
    for value in (schema.get("const"), schema.get("default"), schema.get("example"), *listed, *schema.get("enum", [])):
        if value is not None:
            return value
    return None


def _upload(document: Schema, path: str, given: Schema) -> Endpoint:
    schema = _resolved(document, given)
    properties = {name: _resolved(document, held) for name, held in (schema.get("properties") or {}).items()}
    files = [name for name, held in properties.items() if _is_file(document, held)]
    others = [name for name in schema.get("required") or () if name not in files]
    if len(files) != 1 or others:
        raise _Unknown(f"its form has {', '.join(map(repr, files + others)) or 'no file'}")
    single = _type(properties[files[0]]) != "array"
    return Endpoint(path, upload=files[0], single=single, picture=True)


def _is_file(document: Schema, schema: Schema) -> bool:
    if _type(schema) == "array":
        return _is_file(document, _resolved(document, schema.get("items")))
    media = str(schema.get("contentMediaType") or "")
    return _type(schema) in ("string", "file") and (schema.get("format") in ("binary", "image") or bool(media))


def made_value(schema: Schema, draw: Any) -> Any:
    """Return a value that a column's schema allows; None where that is text of which no example is given.

    Args:
        draw: a NumPy random generator.
    """
    choices = schema.get("enum") or (schema.get("examples") if isinstance(schema.get("examples"), list) else None)
    if choices:
        return choices[int(draw.integers(len(choices)))]
    kind, constant = _type(schema), _constant(schema)
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    if kind == "boolean":
        return bool(draw.integers(2))
    if kind == "integer":
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 100))
        return int(draw.integers(low, max(int(high), int(low) + 1)))
    if kind == "number":
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 1))
        return float(low + (high - low) * draw.random())
    return constant
