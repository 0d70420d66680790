"""From YAML to a checked spec: every complaint names file, line and key, and the nearest key that is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from labelleaks.cli.spec import (
    BoundsSpec,
    DataSpec,
    DomainSpec,
    HttpSpec,
    ImagesSpec,
    PartSpec,
    RowsSpec,
    RunSpec,
    TargetSpec,
)
from labelleaks.errors import SpecError, nearest
from labelleaks.targets.http.options import is_url

__all__ = ["load_spec", "parse_override"]

S = TypeVar("S", bound=RunSpec)
_Path = tuple[str | int, ...]


_WRITTEN = tuple((*inside, name) for inside in ((), ("target",)) for name in ("template", "label"))
"""Keys of text that is often no YAML, or YAML of something else."""


def parse_override(text: str) -> tuple[_Path, Any]:
    """Parse ``key.sub=value``. The value is YAML, but for a template and a path to labels, which are taken as they are.

    Raises:
        SpecError: no ``=``, or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    if not (equals and key):
        raise SpecError(f"--set {text!r} is not of the form key=value, for example --set budget=200")
    path = tuple(key.strip().split("."))
    if path in _WRITTEN:
        return path, value
    try:
        return path, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SpecError(f"--set {text!r}: the value is not YAML ({_first_line(error)})") from None


def load_spec(kind: type[S], path: str | Path | None, overrides: Mapping[_Path, Any]) -> S:
    """Read a spec file (None: an empty one), lay the overrides over it and check it.

    Raises:
        SpecError: names the file, the line, the key, what is wrong and the nearest known key.
    """
    content: Any = {}
    lines: dict[_Path, int] = {}
    where = "the command line"
    if path is not None:
        where = str(path)
        content, lines = _read(Path(path))
    for key, value in overrides.items():
        _put(content, key, value, where)
        lines = {known: line for known, line in lines.items() if known[: len(key)] != key}
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise SpecError("; ".join(_complaints(error, where, lines, kind))) from None


def _read(path: Path) -> tuple[dict[str, Any], dict[_Path, int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read ({error})") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not YAML: {_first_line(error)}") from None
    except RecursionError:
        raise SpecError(f"{path}: nested too deeply") from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise SpecError(f"{path}: a mapping of keys is expected, found {type(content).__name__}")
    lines: dict[_Path, int] = {}
    if root is not None:
        _note_lines(root, (), lines, path, set())
    return content, lines


def _note_lines(node: yaml.Node, place: _Path, lines: dict[_Path, int], path: Path, open_nodes: set[int]) -> None:
    if id(node) in open_nodes:
        raise SpecError(f"{path}, line {node.start_mark.line + 1}: an alias refers to itself")
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                raise SpecError(f"{path}, line {key.start_mark.line + 1}: key {name!r} is given twice")
            seen.add(name)
            lines[(*place, name)] = key.start_mark.line + 1
            _note_lines(value, (*place, name), lines, path, open_nodes | {id(node)})
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _note_lines(value, (*place, i), lines, path, open_nodes | {id(node)})


def _put(content: dict[str, Any], key: _Path, value: Any, where: str) -> None:
    if key == ("target", "path") and isinstance(value, str) and is_url(value):
        key = ("target", "url")
        if isinstance(content.get("target"), dict):  # it was a file: what was said of that does not hold for a service
            of_file = TargetSpec.model_fields.keys() - HttpSpec.model_fields.keys()
            content["target"] = {k: v for k, v in content["target"].items() if k not in of_file}
    for part in key[:-1]:
        inner = content.get(str(part))
        if inner is None:
            inner = content[str(part)] = {}
        if isinstance(inner, str) and part == "target":
            inner = content["target"] = {"url" if is_url(inner) else "path": inner}
        if not isinstance(inner, dict):
            raise SpecError(f"{where}: --set {'.'.join(map(str, key))}: {part!r} is not a mapping")
        content = inner
    content[str(key[-1])] = value


def _complaints(error: ValidationError, where: str, lines: dict[_Path, int], kind: type[BaseModel]) -> list[str]:
    """One sentence for each key that is wrong; of a union's several complaints the one that got furthest."""
    furthest: dict[_Path, tuple[tuple[int, bool], str]] = {}
    for complaint in error.errors():
        place = tuple(p for p in complaint["loc"] if isinstance(p, int) or not _is_branch(str(p)))
        line = next((lines[place[:k]] for k in range(len(place), -1, -1) if place[:k] in lines), None)
        at = f"{where}, line {line}" if line is not None else where
        key = ".".join(str(p) for p in place)
        if complaint["type"] == "extra_forbidden":
            text = f"{at}: unknown key {key!r}{nearest(str(place[-1]), _siblings(kind, place[:-1]))}"
        elif complaint["type"] == "missing":
            text = f"{at}: key {key!r} is missing"
        else:
            got = "" if _may_be_secret(place) else f", got {complaint['input']!r}"
            text = f"{at}: {key}: {complaint['msg'].removeprefix('Value error, ')}{got}"
        top = place[:1]
        reached = (len(complaint["loc"]), complaint["type"] == "value_error")  # our own checks say more than a type's
        if top not in furthest or reached > furthest[top][0]:
            furthest[top] = (reached, text)
    return [text for _, text in furthest.values()]


def _may_be_secret(place: _Path) -> bool:
    return place[:1] == ("target",) and len(place) > 1 and place[1] in ("url", "auth_env", "headers", "form")


def _is_branch(part: str) -> bool:
    """Whether pydantic put this part into a place only to say which branch of a union it tried."""
    return part in ("str", "int", "float", "none") or part.startswith(("list[", "function-")) or part.endswith("Spec")


def _siblings(kind: type[BaseModel], place: _Path) -> list[str]:
    """The keys that are known where ``place`` is."""
    if place == ("target",):
        return [*HttpSpec.model_fields, *TargetSpec.model_fields, "kind"]
    models: dict[str, type[BaseModel]] = {"target": TargetSpec, "data": DataSpec, "domain": DomainSpec}
    model = models.get(str(place[0]), kind) if place else kind
    if place[:1] == ("data",) and len(place) > 1:
        model = ImagesSpec if place[1] == "images" else RowsSpec
    if place[:1] == ("domain",) and len(place) > 1:
        model = BoundsSpec if place[1] == "columns" else PartSpec
    return [field.alias or name for name, field in model.model_fields.items()]


def _first_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark is not None else str(problem)
