"""From a checked spec to the arguments of `audit` and `infer`: files read, modules imported, settings made objects."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labelleaks import attacks
from labelleaks import data as datasets
from labelleaks.auditing import thresholds
from labelleaks.auditing.decisions import Decisions
from labelleaks.auditing.ladder import LADDER
from labelleaks.cli.spec import (
    AuditSpec,
    DataSpec,
    DomainSpec,
    HttpSpec,
    InferSpec,
    KindSpec,
    NamedSpec,
    OtherDomainSpec,
    PartSpec,
    RowsSpec,
    TargetSpec,
)
from labelleaks.core import registry
from labelleaks.core.domains import Binary, Box, Continuous, Domain, Integer, Mixed, OneHot, need_domain
from labelleaks.core.imports import import_object
from labelleaks.errors import InputError, SpecError
from labelleaks.inputs.files import FileRows, ImageFormat, read_rows
from labelleaks.models.training import Recipe
from labelleaks.targets.files import load_target, read_answers
from labelleaks.targets.http import Http, is_url

__all__ = ["attack_names", "audit_arguments", "infer_arguments", "write_decisions"]

_OF_ANY_TARGET = ("classes", "preprocess", "device", "batch_rows")


def audit_arguments(spec: AuditSpec, *, trust_pickle: bool = False) -> dict[str, Any]:
    """Return the keyword arguments of :func:`labelleaks.audit` (``target`` among them) but for the output's.

    Raises:
        InputError: a file or a module that cannot be used, settings that do not exist.
    """
    for side in ("members", "nonmembers"):
        if getattr(spec.data, side) is None:
            raise SpecError(f"data.{side} is missing: give the file of {side} (--{side} FILE, or data: in the spec)")
    members, nonmembers = (
        _labelled(side, _rows(getattr(spec.data, side), spec.data)) for side in ("members", "nonmembers")
    )
    ids = None
    if members.ids is not None and nonmembers.ids is not None:
        ids = [*members.ids, *nonmembers.ids]
    return {
        **_shared(spec, trust_pickle, [members, nonmembers]),
        "members": (members.x, members.y),
        "nonmembers": (nonmembers.x, nonmembers.y),
        "attacks": None
        if spec.attacks is None
        else [item if item == LADDER else _attack(item) for item in spec.attacks],
        "thresholds": None if spec.thresholds is None else [_threshold(item) for item in spec.thresholds],
        "ids": ids,
    }


def attack_names(spec: AuditSpec) -> list[str]:
    """Return what the results of the spec's attacks will be called, but for settings in brackets.

    Raises:
        InputError: there is no such attack.
    """
    if spec.attacks is None:
        return list(attacks.names())
    asked = [item if isinstance(item, str) else item.name for item in spec.attacks]
    named = [str(registry.load("attacks", name).name) if ":" in name else name for name in asked]
    return [*attacks.names(), *named] if LADDER in asked else named


def infer_arguments(spec: InferSpec, *, trust_pickle: bool = False) -> dict[str, Any]:
    """Return the keyword arguments of :func:`labelleaks.infer`. Raises as :func:`audit_arguments`."""
    if spec.data.candidates is None:
        raise SpecError("data.candidates is missing: give the file of candidates (--candidates FILE)")
    rows = _labelled("candidates", _rows(spec.data.candidates, spec.data))
    threshold = spec.threshold
    return {
        **_shared(spec, trust_pickle, [rows]),
        "x": rows.x,
        "y": rows.y,
        "attack": _attack(spec.attack),
        "threshold": threshold if threshold is None or isinstance(threshold, float) else _threshold(threshold),
        "ids": rows.ids,
    }


def write_decisions(decisions: Decisions, path: Path | None, *, as_json: bool) -> None:
    """Write a row for each candidate as CSV, or everything as JSON, to a file or standard output."""
    if as_json:
        document = {
            "attack": dict(decisions.attack),
            "threshold": vars(decisions.threshold),
            "ledger": decisions.ledger.describe(),
            "candidates": decisions.rows(),
        }
        _write(path, json.dumps(document, indent=2, allow_nan=False) + "\n")
        return
    lines = [list(row.values()) for row in decisions.rows()]
    header = ["id", "member", "score", "status", "queries"]
    if path is None:
        csv.writer(sys.stdout, lineterminator="\n").writerows([header, *lines])
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *lines])


def _write(path: Path | None, text: str) -> None:
    if path is None:
        sys.stdout.write(text)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _shared(spec: AuditSpec | InferSpec, trust_pickle: bool, groups: list[FileRows]) -> dict[str, Any]:
    target = spec.target
    if isinstance(target, str):
        target = HttpSpec(url=target) if is_url(target) else TargetSpec(path=target)
    shadow = None if spec.data.shadow is None else _rows(spec.data.shadow, spec.data)
    starts = None if spec.data.starts is None else _rows(spec.data.starts, spec.data)
    return {
        **_target(target, trust_pickle, [*groups, *([shadow] if shadow else [])], spec.data),
        "shadow": None if shadow is None else ((shadow.x,) if shadow.y is None else (shadow.x, shadow.y)),
        "starts": None if starts is None else (starts.x,),
        "domain": _domain_of(spec),
        "budget": spec.budget,
        "budget_total": spec.budget_total,
        "seed": spec.seed,
        "family": _family(spec.family),
        "references": spec.references,
        "references_dir": spec.references_dir,
        "journal": spec.journal,
        "allow_noisy": spec.allow_noisy,
    }


def _target(
    spec: TargetSpec | HttpSpec | KindSpec, trust_pickle: bool, rows: list[FileRows], data: DataSpec
) -> dict[str, Any]:
    if isinstance(spec, KindSpec):
        return _of_a_kind(spec)
    if isinstance(spec, HttpSpec):
        options = spec.model_dump(exclude_unset=True, exclude={"classes"})
        return {"target": Http(**options), "classes": spec.classes}
    if Path(spec.path).suffix.lower() in (".csv", ".parquet", ".npz"):
        images = ImageFormat(layout=data.images.layout, scale=data.images.scale)
        return {"target": read_answers(spec.path, rows, images), "classes": spec.classes}
    return {
        "target": load_target(spec.path, factory=spec.factory, output=spec.output, trust_pickle=trust_pickle),
        "preprocess": None if spec.preprocess is None else import_object(spec.preprocess),
        "device": spec.device,
        "batch_rows": spec.batch_rows,
        "classes": spec.classes,
    }


def _of_a_kind(spec: KindSpec) -> dict[str, Any]:
    """A target of a registered kind. What its kind has no setting for and ``audit`` has is given to that."""
    make, settings = registry.load("targets", spec.kind), spec.settings()
    known, _ = registry.settings_of(make)
    shared = {key: settings.pop(key) for key in _OF_ANY_TARGET if key in settings and key not in known}
    if isinstance(shared.get("preprocess"), str):
        shared["preprocess"] = import_object(shared["preprocess"])
    return {"target": registry.configure(f"target {spec.kind}", make, settings), **shared}


def _rows(given: str | RowsSpec, data: DataSpec) -> FileRows:
    images = ImageFormat(layout=data.images.layout, scale=data.images.scale)
    if isinstance(given, str):
        path, _, labels = given.partition(",")  # rows.npy,labels.npy
        return read_rows(path, labels=labels or None, images=images)
    if given.dataset is not None:
        return _from_dataset(given)
    assert given.path is not None  # the spec was checked
    return read_rows(
        given.path, labels=given.labels, label_column=given.label_column, id_column=given.id_column, images=images
    )


def _from_dataset(given: RowsSpec) -> FileRows:
    """Rows of a data set, with their codes for labels and the set's name and their number for ids."""
    assert given.dataset is not None
    found = datasets.load(given.dataset, folder=given.folder)
    first, stop = given.rows or (0, len(found))
    if not first < stop <= len(found):
        raise SpecError(
            f"data: rows [{first}, {stop}] of {found.name}: there are {len(found)}, [0, {len(found)}] is all"
        )
    x, y = found.rows(range(first, stop))
    return FileRows(x.numpy(), y.numpy(), tuple(f"{found.name}-{i}" for i in range(first, stop)))


def _labelled(side: str, rows: FileRows) -> FileRows:
    if rows.y is None:
        raise InputError(
            f"{side}: no labels; an .npz needs y or labels, a table a column label (or label_column: in the spec), "
            f"rows.npy its labels (--{side} rows.npy,labels.npy)"
        )
    return rows


def _family(name: str | None) -> Any:
    return import_object(name) if name is not None and ":" in name else name


def _domain_of(spec: AuditSpec | InferSpec) -> Domain:
    """The domain that the spec names, else that of the data set whose rows are in question, else [0, 1]."""
    if "domain" not in spec.model_fields_set:
        for given in (spec.data.members, spec.data.candidates):
            if isinstance(given, RowsSpec) and given.dataset is not None:
                return datasets.card(given.dataset).inputs
    return _domain(spec.domain)


def _domain(spec: DomainSpec | OtherDomainSpec) -> Domain:
    if isinstance(spec, OtherDomainSpec):
        make = registry.load("domains", spec.kind)
        return need_domain(registry.configure(f"domain {spec.kind}", make, spec.settings()))
    if "kind" in spec.model_fields_set:
        registry.find("domains", spec.kind)  # nobody else has the name
    if spec.kind == "binary":
        return Binary(layout=spec.layout)
    if spec.kind == "mixed":
        return Mixed(*[_part(part) for part in spec.parts])
    return Box(spec.low, spec.high, levels=spec.levels, layout=spec.layout)


def _part(part: PartSpec) -> Continuous | Integer | OneHot:
    if part.part == "onehot":
        return OneHot(part.width)
    if part.low is None or part.high is None:
        raise SpecError(f"domain.parts: a part {part.part!r} needs low and high")
    if part.part == "integer":
        return Integer(int(part.low), int(part.high), part.width)
    return Continuous(part.low, part.high, part.width)


def _attack(item: str | NamedSpec) -> Any:
    if isinstance(item, str):
        return attacks.resolve(item)
    settings = item.settings()
    if isinstance(settings.get("recipe"), dict):
        settings["recipe"] = registry.configure("recipe", Recipe, settings["recipe"])
    return attacks.resolve(registry.configure(f"attack {item.name}", attacks.load(item.name), settings))


def _labelled_pair(side: str, value: Any) -> tuple[Any, Any]:
    """Read rows and labels that a threshold names: a file's path, or the keys of a file or a data set."""
    try:
        given = value if isinstance(value, str) else RowsSpec.model_validate(value)
    except ValidationError as error:
        wrong = error.errors()[0]
        key = ".".join(map(str, (side, *wrong["loc"])))
        raise SpecError(f"threshold hold_out: {key}: {wrong['msg'].removeprefix('Value error, ')}") from None
    rows = _labelled(side, _rows(given, DataSpec()))
    return rows.x, rows.y


def _threshold(item: str | NamedSpec) -> Any:
    name = item if isinstance(item, str) else item.name
    if isinstance(item, str):
        try:
            return float(item)
        except ValueError:
            pass
    settings = {} if isinstance(item, str) else item.settings()
    kind = thresholds.load(name)
    if kind is thresholds.HoldOut:
        missing = {"members", "nonmembers"} - set(settings)
        if missing:
            raise SpecError(f"threshold hold_out: give the files {' and '.join(sorted(missing))}")
        settings |= {side: _labelled_pair(side, settings[side]) for side in ("members", "nonmembers")}
    return thresholds.resolve(registry.configure(f"threshold {name}", kind, settings))
