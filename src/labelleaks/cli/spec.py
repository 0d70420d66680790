"""Content of an audit or an infer spec, checked before anything is loaded (:mod:`labelleaks.cli.spec_file`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    create_model,
    model_validator,
)

from labelleaks.core import registry
from labelleaks.core.domains import Word
from labelleaks.targets.http.options import Http

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
    "RunSpec",
    "TargetSpec",
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


class RunSpec(_SpecPart):
    """Keys that both kinds have."""

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


class AuditSpec(RunSpec):
    """``labelleaks audit audit.yaml``"""

    attacks: Annotated[list[str | NamedSpec] | None, BeforeValidator(_listed)] = None
    thresholds: list[str | NamedSpec] | None = None


class InferSpec(RunSpec):
    """``labelleaks infer infer.yaml``"""

    attack: str | NamedSpec = "boundary"
    threshold: str | NamedSpec | float | None = None
