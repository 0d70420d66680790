"""Audit and infer specs: strict YAML, checked before anything is loaded; every complaint names file, line and key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    create_model,
    model_validator,
)

from labelleaks.core import registry
from labelleaks.core.domains import Word
from labelleaks.errors import SpecError, nearest
from labelleaks.targets.http.options import Http, is_url

__all__ = [
    "AuditSpec",
    "DataSpec",
    "DomainSpec",
    "HttpSpec",
    "InferSpec",
    "KindSpec",
    "NamedSpec",
    "OtherDomainSpec",
    "RowsSpec",
    "TargetSpec",
    "load_spec",
    "parse_override",
]


class _SpecPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetSpec(_SpecPart):
    """A target: a function to import, a model's file, or recorded answers."""

    path: str
    """``module:function``; a .safetensors, .onnx or TorchScript file; .pt2 or .joblib (with --trust-pickle); or answers
    that were recorded: a .csv, .parquet or .npz of rows and labels, or a table of id and label"""
    output: str | None = None
    """of an .onnx file with several: the output that holds labels or scores"""
    factory: str | None = None
    """``module:function`` that builds the module of a .safetensors file"""
    preprocess: str | None = None
    """``module:function`` applied to each query first, e.g. normalisation"""
    classes: int | list[str | int] | None = None
    """number of classes, or their names in the order of the target's outputs"""
    device: str | None = None
    batch_rows: int | None = Field(default=None, ge=1)


class _Service(_SpecPart):
    """Keys that every service has; the others are the fields of :class:`labelleaks.targets.Http`."""

    url: str
    classes: int | list[str | int] | None = None
    """number of classes, or their names in the order of the target's outputs"""


if TYPE_CHECKING:

    class HttpSpec(_Service):
        """A target behind an address: ``target: {url: http://host:8000, protocol: v2, model: digits}``"""
else:  # its keys have one home: the fields of Http
    _HINTS = get_type_hints(Http)
    _KEYS = {f.name: (_HINTS[f.name], None) for f in fields(Http) if f.name != "url"}
    HttpSpec = create_model("HttpSpec", __base__=_Service, **_KEYS)


def _known(group: registry.PluginKind) -> AfterValidator:
    """Refuse a name that nobody registers."""

    def check(name: str) -> str:
        registry.find(group, name)
        return name

    return AfterValidator(check)


class _OfAKind(BaseModel):
    """Something by its registered name, or ``module:Class``; its other keys are its own settings."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str

    def settings(self) -> dict[str, Any]:
        """Everything but the kind."""
        return dict(self.model_extra or {})


class KindSpec(_OfAKind):
    """A target by its kind: ``target: {kind: mypackage.module:Class, path: model.bin}``"""

    kind: Annotated[str, _known("targets")]


def _kind_of_target(given: Any) -> str:
    if isinstance(given, str):
        return "str"
    if "kind" in given if isinstance(given, Mapping) else isinstance(given, KindSpec):
        return "KindSpec"
    service = "url" in given if isinstance(given, Mapping) else isinstance(given, _Service)
    return "HttpSpec" if service else "TargetSpec"


_AnyTarget = Annotated[
    Annotated[str, Tag("str")]
    | Annotated[TargetSpec, Tag("TargetSpec")]
    | Annotated[HttpSpec, Tag("HttpSpec")]
    | Annotated[KindSpec, Tag("KindSpec")],
    Discriminator(_kind_of_target),
]


class PartSpec(_SpecPart):
    """One part of a mixed domain: ``{continuous: [low, high]}`` etc. is written out for clarity."""

    part: Literal["continuous", "integer", "onehot"]
    low: float | None = None
    high: float | None = None
    width: int = 1


class DomainSpec(_SpecPart):
    """The inputs that exist."""

    kind: Literal["box", "binary", "mixed"] = "box"
    low: float | list[float] = 0.0
    high: float | list[float] = 1.0
    levels: int | None = None
    layout: Word | None = None
    """how a row is a picture, where its shape does not tell"""
    parts: list[PartSpec] = []


class OtherDomainSpec(_OfAKind):
    """A domain that is not ours: ``domain: {kind: likert, points: 5}``"""

    kind: Annotated[str, _known("domains")]


def _kind_of_domain(given: Any) -> str:
    kind = given.get("kind") if isinstance(given, Mapping) else getattr(given, "kind", None)
    other = isinstance(kind, str) and kind not in registry.names("domains")
    return "OtherDomainSpec" if other else "DomainSpec"


_AnyDomain = Annotated[
    Annotated[DomainSpec, Tag("DomainSpec")] | Annotated[OtherDomainSpec, Tag("OtherDomainSpec")],
    Discriminator(_kind_of_domain),
]


def _dataset(name: str) -> str:
    from labelleaks import data

    data.find(name)
    return name


class RowsSpec(_SpecPart):
    """A file of rows, or rows of a data set; a plain string in the YAML is a file's path."""

    path: str | None = None
    dataset: Annotated[str, AfterValidator(_dataset)] | None = None
    """a data set's name, or ``module:CARD``"""
    rows: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]] | None = None
    """first row of the data set, and the one behind the last; default: all"""
    folder: str | None = None
    """where the data set's files are; default: the cache, else downloaded"""
    labels: str | None = None
    """a .npy of labels beside a .npy of rows"""
    label_column: str | None = None
    id_column: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> RowsSpec:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either path (a file) or dataset (a data set's name)")
        keys = ("rows", "folder") if self.dataset is None else ("labels", "label_column", "id_column")
        wrong = [key for key in keys if getattr(self, key) is not None]
        if wrong:
            raise ValueError(f"{wrong[0]} does not belong to a {'file' if self.dataset is None else 'data set'}")
        return self


class ImagesSpec(_SpecPart):
    """Conversion of stored 8-bit pictures to inputs."""

    layout: Literal["chw", "hwc"] = "chw"
    scale: float = Field(default=255.0, gt=0)


class DataSpec(_SpecPart):
    """The rows of each group: files, or parts of data sets."""

    members: str | RowsSpec | None = None
    nonmembers: str | RowsSpec | None = None
    candidates: str | RowsSpec | None = None
    shadow: str | RowsSpec | None = None
    starts: str | RowsSpec | None = None
    images: ImagesSpec = ImagesSpec()


class NamedSpec(BaseModel):
    """An attack or a threshold: its name and its own settings; a plain string in the YAML is its name."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    def settings(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class _RunSpec(_SpecPart):
    target: _AnyTarget
    data: DataSpec = DataSpec()
    domain: _AnyDomain = DomainSpec()
    budget: int = Field(default=500, ge=1)
    budget_total: int | None = Field(default=None, ge=1)
    seed: int = 0
    family: str | None = None
    references: int | None = Field(default=None, ge=1)
    references_dir: str | None = None
    journal: str | None = None
    allow_noisy: bool = False
    keep_inputs: bool = True
    out: str | None = None
    name: str | None = None


def _listed(value: Any) -> Any:
    """``attacks: ladder`` is ``attacks: [ladder]``."""
    return [value] if isinstance(value, str) else value


class AuditSpec(_RunSpec):
    """``labelleaks audit audit.yaml``"""

    attacks: Annotated[list[str | NamedSpec] | None, BeforeValidator(_listed)] = None
    thresholds: list[str | NamedSpec] | None = None


class InferSpec(_RunSpec):
    """``labelleaks infer infer.yaml``"""

    attack: str | NamedSpec = "boundary"
    threshold: str | NamedSpec | float | None = None


S = TypeVar("S", bound=_RunSpec)
_Path = tuple[str | int, ...]


def parse_override(text: str) -> tuple[_Path, Any]:
    """Parse ``key.sub=value`` (the value is YAML).

    Raises:
        SpecError: no ``=``, or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    if not (equals and key):
        raise SpecError(f"--set {text!r} is not of the form key=value, for example --set budget=200")
    try:
        return tuple(key.strip().split(".")), yaml.safe_load(value)
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
    models: dict[str, type[BaseModel]] = {"target": TargetSpec, "data": DataSpec, "domain": DomainSpec}
    if place == ("target",):
        return [*HttpSpec.model_fields, *TargetSpec.model_fields, "kind"]
    if not place:
        return list(kind.model_fields)
    if place[0] == "data" and len(place) > 1:
        inner: type[BaseModel] = ImagesSpec if place[1] == "images" else RowsSpec
        return list(inner.model_fields)
    if place[0] == "domain" and len(place) > 1:
        return list(PartSpec.model_fields)
    return list(models[str(place[0])].model_fields) if place[0] in models else list(kind.model_fields)


def _first_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark is not None else str(problem)
