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
from labelleaks.core.domains import Text, Word
from labelleaks.targets.http.options import Http

__all__ = [
    "AuditSpec",
    "BoundsSpec",
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
    "TextSpec",
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
    threshold: float | None = None
    """of a target that answers one number a row: the second class lies above it (0.5 of probabilities, 0 of logits)"""
    device: str | None = None
    batch_rows: int | None = Field(default=None, ge=1)


class _Service(_SpecPart):
    """Keys that every service has; the others are the fields of :class:`labelleaks.targets.Http`."""

    url: str
    classes: int | list[str | int] | None = None
    """number of classes, or their names in the order of the target's outputs"""
    threshold: float | None = None
    """of a service that answers one number a row: the second class lies above it (0.5 of probabilities, 0 of logits)"""


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


class BoundsSpec(_SpecPart):
    """Bounds of a column of numbers: ``age: {low: 0, high: 120}``"""

    low: float
    high: float

    @model_validator(mode="after")
    def _in_order(self) -> BoundsSpec:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}")
        return self


class TextSpec(_SpecPart):
    """Texts in a column: ``body: {kind: text}``, and how they are taken apart (:class:`labelleaks.Text`)"""

    kind: Literal["text"]
    tokens: str = Text.tokens
    pieces: int = Text.pieces
    mask: str | None = Text.mask

    def made(self) -> Text:
        """Return what it says."""
        return Text(self.tokens, self.pieces, self.mask)


def _kind_of_column(given: Any) -> str:
    if isinstance(given, (list, tuple)):
        return "values"
    return "text" if isinstance(given, TextSpec) or (isinstance(given, Mapping) and "kind" in given) else "bounds"


_AnyColumn = Annotated[
    Annotated[list[Any], Field(min_length=1), Tag("values")]
    | Annotated[BoundsSpec, Tag("bounds")]
    | Annotated[TextSpec, Tag("text")],
    Discriminator(_kind_of_column),
]


class DomainSpec(_SpecPart):
    """The inputs that exist."""

    kind: Literal["box", "binary", "mixed", "table", "text"] = "box"
    low: float | list[float] = 0.0
    high: float | list[float] = 1.0
    levels: int | None = None
    layout: Word | None = None
    """how a row is a picture, where its shape does not tell"""
    parts: list[PartSpec] = []
    columns: dict[str, _AnyColumn] = {}
    """of a table, by name: bounds, the list of a column's values, kind: text; what is not said is read off the rows"""
    tokens: str = Text.tokens
    pieces: int = Text.pieces
    mask: str | None = Text.mask

    @model_validator(mode="after")
    def _only_its_own(self) -> DomainSpec:
        if self.columns and self.kind != "table":
            raise ValueError(f"columns belong to kind: table, not to {self.kind}")
        if self.kind == "table" and self.model_fields_set - {"kind", "columns"}:
            raise ValueError("of a table, columns are said by name: columns: {age: {low: 0, high: 120}}")
        own = {"tokens", "pieces", "mask"}
        strange = self.model_fields_set - {"kind"} - own if self.kind == "text" else self.model_fields_set & own
        if strange:
            whose = (
                "only tokens, pieces and mask belong to" if self.kind == "text" else f"{sorted(strange)[0]} belongs to"
            )
            raise ValueError(f"{whose} kind: text")
        return self


class OtherDomainSpec(_OfAKind):
    """A domain that is not ours: ``domain: {kind: likert, points: 5}``"""

    kind: Annotated[str, _known("domains")]


def _kind_of_domain(given: Any) -> str:
    kind = given.get("kind") if isinstance(given, Mapping) else getattr(given, "kind", None)
    other = isinstance(kind, str) and kind not in ("table", "text") and kind not in registry.names("domains")
    return "OtherDomainSpec" if other else "DomainSpec"


_AnyDomain = Annotated[
    Annotated[DomainSpec, Tag("DomainSpec")] | Annotated[OtherDomainSpec, Tag("OtherDomainSpec")],
    Discriminator(_kind_of_domain),
]


def _dataset(name: str) -> str:
    from labelleaks import data

    data.find(name)
    return name


def _name(given: Any) -> Any:
    """A column that is called 4 is named by the number, too."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


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
    label_column: Annotated[str | None, BeforeValidator(_name)] = None
    id_column: Annotated[str | None, BeforeValidator(_name)] = None
    text_column: Annotated[str | None, BeforeValidator(_name)] = None
    """the column whose texts are the rows; default: data.text"""

    @model_validator(mode="after")
    def _one_source(self) -> RowsSpec:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either path (a file) or dataset (a data set's name)")
        keys = ("rows", "folder") if self.dataset is None else ("labels", "label_column", "id_column", "text_column")
        wrong = [key for key in keys if getattr(self, key) is not None]
        if wrong:
            raise ValueError(f"{wrong[0]} does not belong to a {'file' if self.dataset is None else 'data set'}")
        return self


class ImagesSpec(_SpecPart):
    """Conversion of stored pictures to inputs."""

    layout: Literal["chw", "hwc"] = "chw"
    """of a row that the target gets"""
    scale: float | None = Field(default=None, gt=0)
    """what pixels are divided by; 1 keeps whole numbers; default: 255 (8 bits), 65535 (16 bits)"""
    stored: Word | None = None
    """how rows lie in an .npz or .npy, none: no pictures; default: by their shape, refused where it does not tell"""
    mode: Literal["grey", "rgb", "rgba"] | None = None
    """what pictures of a folder are converted to; default: they stay as they are, all of one mode"""


class DataSpec(_SpecPart):
    """The rows of each group: files, or parts of data sets."""

    members: str | RowsSpec | None = None
    nonmembers: str | RowsSpec | None = None
    candidates: str | RowsSpec | None = None
    shadow: str | RowsSpec | None = None
    starts: str | RowsSpec | None = None
    images: ImagesSpec = ImagesSpec()
    as_: Literal["frame", "columns", "array", "float32", "float64"] | None = Field(default=None, alias="as")
    """what the target gets of a table: a DataFrame, a dict of arrays, an array of numbers that holds all of them
    exactly, or one of a dtype; default: what the target was fitted on, else an array where all columns are numbers"""
    text: str | None = None
    """the column of the tables whose texts are the rows, a list of strings for the target; default: a table's only
    column, where it holds texts"""
    header: bool | None = None
    """whether the first line of a CSV names its columns; default: yes, and one that looks like a row is refused"""


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
    """of reference models: trees, mlp, cnn, … or module:function; default: cnn (pictures), trees (tables), else mlp"""
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
