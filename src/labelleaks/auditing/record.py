"""Record of an audit: scores, truth, figures, ledger and provenance, in memory and on disk.

A run's folder holds ``record.json`` and ``arrays.npz`` (the record), ``candidates.csv`` (a row for each candidate, for
people), ``run.json`` (times and host: all that differs between two equal runs) and ``report.html``.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.auditing.attack_result import AttackResult, short
from labelleaks.auditing.evaluation import PairComparison
from labelleaks.auditing.flags import Flag
from labelleaks.auditing.run_folder import SCHEMA_VERSION, check_folder, csv_of, read_folder, write_folder
from labelleaks.auditing.run_log import LedgerSummary, RunLog
from labelleaks.auditing.texts import holds_words, without_words
from labelleaks.core import serialization
from labelleaks.core.types import Status
from labelleaks.errors import InputError, MissingExtra
from labelleaks.metrics.estimates import Bools, Floats, Ints

if TYPE_CHECKING:
    import pandas

    from labelleaks.auditing.report.plots import Plot


__all__ = ["AttackResult", "AuditRecord", "LedgerSummary", "RunLog", "load"]


@dataclass(frozen=True, eq=False, kw_only=True)
class AuditRecord:
    """One audit. Rows = candidates: members as given, then non-members as given.

    Two equal runs give equal records, byte for byte on disk.
    """

    name: str
    spec: Mapping[str, Any]
    """What was asked for: budget, attacks, thresholds, … JSON types."""
    seed: int
    versions: Mapping[str, str]
    """Of labelleaks, Python and the packages that the figures hang on."""
    target: Mapping[str, Any]
    """Its description, ``fingerprint`` among it."""
    domain: Mapping[str, Any]
    """What ``Domain.describe()`` says."""
    classes: tuple[str, ...]
    """Names of the classes; ``y`` counts into them."""
    member: Bools
    """(n,)"""
    y: Ints
    """(n,): true labels, 0 … classes - 1."""
    ids: tuple[str, ...]
    """(n,): names for people."""
    attacks: Mapping[str, AttackResult]
    """Finished attacks by name, in the order of the run."""
    ledger: LedgerSummary
    inputs: NDArray[np.float32] | None = None
    """(n, *shape) in the domain's units, or None where they are kept out of the record."""
    comparisons: tuple[PairComparison, ...] = ()
    flags: tuple[Flag, ...] = ()
    shadow: Mapping[str, Any] = field(default_factory=dict)
    """Shadow rows: ``given``, ``dropped`` as (near) equal to candidates, …; ``models``: rows and epochs of each one."""
    complete: bool = True
    """False: the run stopped early, and ``attacks`` holds what was finished."""
    notes: tuple[str, ...] = ()
    """Sentences for the reader: a lowered budget, why the run stopped, …"""
    schema_version: int = SCHEMA_VERSION

    def __getitem__(self, attack: str) -> AttackResult:
        """Return an attack's result. KeyError names the attacks that there are."""
        if attack not in self.attacks:
            raise KeyError(f"no attack {attack!r} in this record; there are: {', '.join(self.attacks) or 'none'}")
        return self.attacks[attack]

    def __iter__(self) -> Iterator[str]:
        """Names of the finished attacks, in the order of the run."""
        return iter(self.attacks)

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.member)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AuditRecord):
            return NotImplemented
        (mine, my_arrays), (theirs, their_arrays) = self._pack(), other._pack()
        return mine == theirs and serialization.digest(my_arrays) == serialization.digest(their_arrays)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        found = ", ".join(f"{name} {short(result.auc)}" for name, result in self.attacks.items())
        members = int(self.member.sum())
        known = self.accuracy
        right = "" if known is None else f"; accuracy {known[0]:.3f} on members, {known[1]:.3f} on non-members"
        serious = [flag.name for flag in self.flags if flag.severity == "serious"]
        return (
            f"AuditRecord({self.name!r}: {members} members, {len(self) - members} non-members, "
            f"{self.ledger.rows} labels{right}; AUC: {found or 'no attack finished'}"
            f"{'' if self.complete else '; incomplete'}{'; SERIOUS: ' + ', '.join(serious) if serious else ''})"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the report's top, with serious flags and charts."""
        from labelleaks.auditing.report import record_html

        return record_html(self)

    def plot(self) -> Plot:
        """Return the ROC on both axes and, where there are any, AUC against labels: an SVG, shown by notebooks.

        The colours are the report's. ``record.plot().save("roc.svg")`` writes it to a file; for another figure
        ``record["boundary"].roc`` and ``.curve`` hold the numbers.
        """
        from labelleaks.auditing.report.plots import plot

        return plot(self)

    @property
    def accuracy(self) -> tuple[float, float] | None:
        """The target's accuracy on members and on non-members; None where no attack asked for the candidates."""
        for result in self.attacks.values():
            if not (result.status == int(Status.UNASKED)).any():
                right = result.status != int(Status.MISCLASSIFIED)
                return float(right[self.member].mean()), float(right[~self.member].mean())
        return None

    @property
    def holds_inputs(self) -> bool:
        """Whether candidates can be read from it: inputs themselves, or perturbed ones, which are nearly the same."""
        perturbed = any("adversarial" in r.details for r in self.attacks.values())
        return self.inputs is not None or perturbed or holds_words(self.domain)

    @property
    def missing(self) -> tuple[str, ...]:
        """Attacks that were asked for (``spec["attacks"]``) and are not in the record."""
        asked = [a.get("name") if isinstance(a, Mapping) else a for a in self.spec.get("attacks", ())]
        return tuple(name for name in asked if isinstance(name, str) and name not in self.attacks)

    def without_inputs(self) -> AuditRecord:
        """Return a record without inputs and without their perturbed copies."""
        attacks = {
            name: replace(r, details={key: value for key, value in r.details.items() if key != "adversarial"})
            for name, r in self.attacks.items()
        }
        return replace(self, inputs=None, attacks=attacks, domain=without_words(self.domain))

    def fpr_needed(self, attack: str) -> Floats:
        """Return how exposed each candidate is: the share of non-members that score at least as high, (n,) in [0, 1].

        It is the false-positive rate that must be accepted to call the candidate a member: 0 = it stands above every
        non-member, and nothing protects it from being found.
        """
        scores = self[attack].scores
        others = np.sort(scores[~self.member])
        above = len(others) - np.searchsorted(others, scores, side="left")
        return np.asarray(above / max(len(others), 1), dtype=np.float64)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the table of candidates: id, group, label, and for each attack score, status, queries, decision."""
        groups = np.where(self.member, "member", "non-member")
        table: dict[str, NDArray[Any]] = {"id": _texts(self.ids), "group": _texts(groups.tolist())}
        table["label"] = _texts([self.classes[label] for label in self.y.tolist()])
        for name, result in self.attacks.items():
            table[f"{name}.score"] = result.scores
            table[f"{name}.status"] = _texts([Status(s).name for s in result.status.tolist()])
            table[f"{name}.queries"] = result.queries
            table[f"{name}.decided"] = _texts(np.where(result.decided, "member", "non-member").tolist())
            table[f"{name}.fpr_needed"] = self.fpr_needed(name)
        return table

    def to_frame(self) -> pandas.DataFrame:
        """Return :meth:`columns` as a pandas DataFrame.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtra("to_frame() needs pandas: pip install 'labelleaks[tables]'") from error
        return pandas.DataFrame(self.columns())

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write record.json, arrays.npz and candidates.csv into the folder ``path``; return it.

        Each file is whole or not there. Where candidates can be read from the record, its files are for the owner only
        (0600, and 0700 for a folder made here).

        Raises:
            InputError: the folder holds another run (and ``overwrite`` is False), or something is NaN or infinite.
        """
        folder = check_folder(path, overwrite=overwrite)
        document, arrays = self._pack()
        write_folder(folder, document, arrays, csv_of(self.columns()), private=self.holds_inputs)
        return folder

    def _pack(self) -> tuple[dict[str, Any], serialization.Arrays]:
        arrays: serialization.Arrays = {}
        document = {f.name: getattr(self, f.name) for f in fields(self)}
        document = {"schema_version": document.pop("schema_version"), **document}
        document["attacks"] = list(self.attacks.values())
        document["ids"] = np.frombuffer(json.dumps(list(self.ids)).encode(), dtype=np.uint8)
        return {name: serialization.encode(value, arrays, name) for name, value in document.items()}, arrays


def load(path: str | Path) -> AuditRecord:
    """Read a record from a run's folder or its record.json.

    Raises:
        InputError: nothing there, not a record, of an unknown schema version, or text and arrays of different runs.
    """
    return _unpack(*read_folder(path))


def _unpack(document: dict[str, Any], arrays: serialization.Arrays, path: Path) -> AuditRecord:
    document = {name: value for name, value in document.items() if name != "arrays"}
    try:
        results = [serialization.decode(AttackResult, item, arrays) for item in document.pop("attacks")]
        ids = json.loads(arrays[document.pop("ids")["array"]].tobytes())
        hints = typing.get_type_hints(AuditRecord)
        rest = {name: serialization.decode(hints[name], item, arrays) for name, item in document.items()}
        return AuditRecord(attacks={r.name: r for r in results}, ids=tuple(ids), **rest)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a whole record: {type(error).__name__}: {error}") from error


def _texts(values: Any) -> NDArray[Any]:
    return np.array(list(values), dtype=object)
