"""From a checked spec to the arguments of `audit` and `infer`: files read, modules imported, settings made objects."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labelleaks import attacks
from labelleaks import data as datasets
from labelleaks.auditing import thresholds
from labelleaks.auditing.decisions import Decisions
from labelleaks.auditing.ladder import LADDER
from labelleaks.cli.rows import bring, labelled, names_of, read_one
from labelleaks.cli.spec import (
    AuditSpec,
    BoundsSpec,
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
    TextSpec,
)
from labelleaks.core import registry
from labelleaks.core.classes import Classes
from labelleaks.core.domains import Binary, Box, Continuous, Domain, Integer, Mixed, OneHot, Text, need_domain
from labelleaks.core.names import import_object
from labelleaks.errors import InputError, SpecError
from labelleaks.inputs.files import FileRows
from labelleaks.inputs.row_format import Table, is_frame
from labelleaks.models.training import Recipe
from labelleaks.targets.files import answers_by_id, load_target, recorded_by_id, recorded_rows
from labelleaks.targets.http import Http, is_url

__all__ = ["attack_names", "audit_arguments", "infer_arguments", "loaded", "threshold_for_fdr", "write_decisions"]

_CANDIDATES = ("members", "nonmembers", "candidates")
_OF_ANY_TARGET = ("classes", "preprocess", "device", "batch_rows")


def audit_arguments(spec: AuditSpec, *, trust_pickle: bool = False) -> dict[str, Any]:
    """Return the keyword arguments of :func:`labelleaks.audit` (``target`` among them) but for the output's.

    Raises:
        InputError: a file or a module that cannot be used, settings that do not exist.
    """
    for side in ("members", "nonmembers"):
        if getattr(spec.data, side) is None:
            raise SpecError(f"data.{side} is missing: give the file of {side} (--{side} FILE, or data: in the spec)")
    arguments, groups = _shared(spec, trust_pickle, ["members", "nonmembers"], spec.thresholds or [])
    return {
        **arguments,
        **{side: (groups[side].x, groups[side].y) for side in ("members", "nonmembers")},
        "attacks": None
        if spec.attacks is None
        else [item if item == LADDER else _attack(item) for item in spec.attacks],
        "thresholds": None if spec.thresholds is None else [_threshold(item, groups) for item in spec.thresholds],
        "ids": names_of({side: groups[side] for side in ("members", "nonmembers")}),
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
    arguments, groups = _shared(spec, trust_pickle, ["candidates"], [spec.threshold])
    rows = groups["candidates"]
    threshold = spec.threshold
    return {
        **arguments,
        "x": rows.x,
        "y": rows.y,
        "attack": _attack(spec.attack),
        "threshold": threshold if threshold is None or isinstance(threshold, float) else _threshold(threshold, groups),
        "ids": names_of({"candidates": rows}),
    }


def threshold_for_fdr(fdr: float, threshold: Any) -> Any:
    """Return the threshold rule that calls at a false-discovery rate need: the one given, else ``"fixed_fpr"``.

    Raises:
        SpecError: a rule that scores no known non-members, or a rate that is none.
    """
    if not 0 < fdr <= 1:
        raise SpecError(f"--fdr {fdr:g}: a share of false calls above 0 and at most 1 is needed (10 % is 0.1)")
    rule = thresholds.FixedFPR(fpr=0.1) if threshold is None else threshold
    if not isinstance(rule, thresholds.FixedFPR | thresholds.HoldOut):
        raise SpecError("--fdr needs known non-members: --threshold fixed_fpr with --shadow, or hold_out in the spec")
    return rule


def write_decisions(decisions: Decisions, path: Path | None, *, as_json: bool) -> None:
    """Write a row for each candidate as CSV, or everything as JSON, to a file or standard output."""
    if as_json:
        document = {
            "attack": dict(decisions.attack),
            "threshold": asdict(replace(decisions.threshold, nonmember_scores=None)),
            "ledger": decisions.ledger.describe(),
            "candidates": decisions.rows(),
        }
        _write(path, json.dumps(document, indent=2, allow_nan=False) + "\n")
        return
    lines = [list(row.values()) for row in decisions.rows()]
    header = decisions.columns
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


def _shared(
    spec: AuditSpec | InferSpec, trust_pickle: bool, sides: Sequence[str], rules: Sequence[Any]
) -> tuple[dict[str, Any], dict[str, FileRows]]:
    """Return what both commands give: the target and all but the candidates, and the rows by group."""
    groups = {side: labelled(side, read_one(getattr(spec.data, side), spec.data)) for side in sides}
    for side in ("shadow", "starts"):
        if getattr(spec.data, side) is not None:
            groups[side] = read_one(getattr(spec.data, side), spec.data)
    groups |= _rows_of_rules(rules, spec.data)
    domain = _domain_of(spec)
    target, groups = _target(spec, trust_pickle, groups, domain)
    shadow, starts = groups.get("shadow"), groups.get("starts")
    arguments = {
        **target,
        "shadow": None if shadow is None else ((shadow.x,) if shadow.y is None else (shadow.x, shadow.y)),
        "starts": None if starts is None else (starts.x,),
        "domain": domain,
        "budget": spec.budget,
        "budget_total": spec.budget_total,
        "seed": spec.seed,
        "family": _family(spec.family),
        "references": spec.references,
        "references_dir": spec.references_dir,
        "journal": spec.journal,
        "allow_noisy": spec.allow_noisy,
    }
    return arguments, groups


def _target(
    spec: AuditSpec | InferSpec, trust_pickle: bool, groups: dict[str, FileRows], domain: Domain | Table | Text | None
) -> tuple[dict[str, Any], dict[str, FileRows]]:
    """The target and its options, and the rows as it is asked with."""
    target = spec.target
    if isinstance(target, str):
        target = HttpSpec(url=target) if is_url(target) else TargetSpec(path=target)
    if isinstance(target, TargetSpec) and Path(target.path).suffix.lower() in (".csv", ".parquet", ".npz"):
        return _recorded(target, groups, spec.data, domain)
    options = loaded(target, trust_pickle=trust_pickle)
    return options, bring(groups, options["target"], spec.data, domain)


def loaded(spec: TargetSpec | HttpSpec | KindSpec, *, trust_pickle: bool = False) -> dict[str, Any]:
    """Return the target of a spec, but for recorded answers, and its options for :func:`labelleaks.audit`."""
    if isinstance(spec, KindSpec):
        return _of_a_kind(spec)
    if isinstance(spec, HttpSpec):
        options = spec.model_dump(exclude_unset=True, exclude={"classes", "threshold"})
        return {"target": Http(**options), "classes": _classes(spec)}
    return {
        "target": load_target(spec.path, factory=spec.factory, output=spec.output, trust_pickle=trust_pickle),
        "preprocess": None if spec.preprocess is None else import_object(spec.preprocess),
        "device": spec.device,
        "batch_rows": spec.batch_rows,
        "classes": _classes(spec),
    }


def _classes(spec: TargetSpec | HttpSpec) -> Any:
    """The classes of a spec, with the number above which a lone score means the second one."""
    if spec.threshold is None:
        return spec.classes
    names = tuple(spec.classes) if isinstance(spec.classes, list) else tuple(range(spec.classes or 2))
    return Classes(names, threshold=spec.threshold)


def _recorded(
    spec: TargetSpec, groups: dict[str, FileRows], data: DataSpec, domain: Domain | Table | Text | None
) -> tuple[dict[str, Any], dict[str, FileRows]]:
    labels = answers_by_id(spec.path)
    if labels is not None:
        groups = bring(groups, None, data, domain)
        asked = [groups[what] for what in (*_CANDIDATES, "shadow") if what in groups]
        return {"target": recorded_by_id(spec.path, labels, asked, spec.threshold), "classes": spec.classes}, groups
    answers = read_one(spec.path, data)
    groups = bring({**groups, "recorded answers": answers}, None, data, domain)
    recorded = recorded_rows(spec.path, groups.pop("recorded answers"), spec.threshold)
    return {"target": recorded, "classes": spec.classes}, groups


def _of_a_kind(spec: KindSpec) -> dict[str, Any]:
    """A target of a registered kind. What its kind has no setting for and ``audit`` has is given to that."""
    make, settings = registry.load("targets", spec.kind), spec.settings()
    own, _ = registry.settings_of(make)
    shared = {key: settings.pop(key) for key in _OF_ANY_TARGET if key in settings and key not in own}
    if isinstance(shared.get("preprocess"), str):
        shared["preprocess"] = import_object(shared["preprocess"])
    return {"target": registry.configure(f"target {spec.kind}", make, settings), **shared}


def _family(name: str | None) -> Any:
    return import_object(name) if name is not None and ":" in name else name


def _domain_of(spec: AuditSpec | InferSpec) -> Domain | Table | Text | None:
    """The domain that the spec names, else that of the data set whose rows are in question, else None."""
    if "domain" not in spec.model_fields_set:
        for rows in (spec.data.members, spec.data.candidates):
            if isinstance(rows, RowsSpec) and rows.dataset is not None:
                return datasets.card(rows.dataset).inputs
        return None
    return _domain(spec.domain)


def _domain(spec: DomainSpec | OtherDomainSpec) -> Domain | Table | Text:
    if isinstance(spec, OtherDomainSpec):
        make = registry.load("domains", spec.kind)
        return need_domain(registry.configure(f"domain {spec.kind}", make, spec.settings()))
    if spec.kind == "table":
        columns = spec.columns.items()
        return Table({name: _column(given) for name, given in columns})
    if spec.kind == "text":
        return Text(spec.tokens, spec.pieces, spec.mask)
    if "kind" in spec.model_fields_set:
        registry.find("domains", spec.kind)  # nobody else has the name
    if spec.kind == "binary":
        return Binary(layout=spec.layout)
    if spec.kind == "mixed":
        return Mixed(*[_part(part) for part in spec.parts])
    return Box(spec.low, spec.high, levels=spec.levels, layout=spec.layout)


def _column(column: BoundsSpec | TextSpec | list[Any]) -> Any:
    if isinstance(column, TextSpec):
        return column.made()
    return Continuous(column.low, column.high) if isinstance(column, BoundsSpec) else column


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
    return attacks.resolve(registry.configure(f"attack {item.name}", attacks.load(item.name), _settings(item)))


def _settings(item: NamedSpec) -> dict[str, Any]:
    """Return an attack's or a threshold's settings, a recipe among them as an object."""
    settings = item.settings()
    if isinstance(settings.get("recipe"), dict):
        settings["recipe"] = registry.configure("recipe", Recipe, settings["recipe"])
    return settings


def _threshold(item: str | NamedSpec, groups: Mapping[str, FileRows]) -> Any:
    name = item if isinstance(item, str) else item.name
    if isinstance(item, str):
        try:
            return float(item)
        except ValueError:
            pass
    settings = {} if isinstance(item, str) else _settings(item)
    kind = thresholds.load(name)
    if kind is thresholds.HoldOut:
        missing = {"members", "nonmembers"} - set(settings)
        if missing:
            raise SpecError(f"threshold hold_out: give the files {' and '.join(sorted(missing))}")
        assert isinstance(item, NamedSpec)  # a name alone has no settings
        settings |= {side: _numbers_of(groups[_group_of(item, side)]) for side in ("members", "nonmembers")}
    return thresholds.resolve(registry.configure(f"threshold {name}", kind, settings))


def _group_of(item: NamedSpec, side: str) -> str:
    return f"threshold {item.name}: {side} ({item.settings()[side]})"


def _rows_of_rules(items: Sequence[Any], data: DataSpec) -> dict[str, FileRows]:
    """Rows and labels that thresholds name: a file's path, or the keys of a file or a data set."""
    groups = {}
    for item in items:
        if not isinstance(item, NamedSpec) or thresholds.load(item.name) is not thresholds.HoldOut:
            continue
        for side, value in item.settings().items():
            if side not in ("members", "nonmembers"):
                continue
            try:
                rows = value if isinstance(value, str) else RowsSpec.model_validate(value)
            except ValidationError as error:
                wrong = error.errors()[0]
                key = ".".join(map(str, (side, *wrong["loc"])))
                raise SpecError(f"threshold hold_out: {key}: {wrong['msg'].removeprefix('Value error, ')}") from None
            groups[_group_of(item, side)] = labelled(side, read_one(rows, data))
    return groups


def _numbers_of(rows: FileRows) -> tuple[Any, Any]:
    if is_frame(rows.x):
        raise InputError(
            "threshold hold_out: takes rows of numbers in the units of domain:, not a table: say data.as: array and "
            "domain: (kind: box or mixed), or another threshold: shadow_calibrated, fixed_fpr"
        )
    return rows.x, rows.y
