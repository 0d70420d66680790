"""Gate expressions: ``boundary.tpr@1%>0.05`` is true or false of a record.

Grammar: ``ATTACK.METRIC[.low|.high] OP NUMBER``. ``any`` stands for every attack: true if true of one.
Metrics: ``auc``, ``given_correct.auc``, ``tpr@5%`` at any false-positive rate, ``balanced_accuracy``, ``advantage``,
``precision``. OP: ``>``, ``>=``, ``<``, ``<=``. NUMBER is a fraction, or a percentage with its sign.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import typer

from labelleaks.auditing.record import AttackResult, AuditRecord
from labelleaks.errors import SpecError, nearest
from labelleaks.metrics import Estimate

__all__ = ["Condition", "enforce", "parse"]

GATE_FAILED = 4
"""Exit code."""

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_METRICS: dict[str, Callable[[AttackResult], Estimate]] = {
    "auc": lambda r: r.auc,
    "given_correct.auc": lambda r: r.given_correct.auc,
    "balanced_accuracy": lambda r: r.balanced_accuracy,
    "advantage": lambda r: r.advantage,
    "precision": lambda r: r.precision,
}
METRICS = ("auc", "given_correct.auc", "tpr@10%", "tpr@1%", "tpr@0.1%", *list(_METRICS)[2:])
"""Names to choose from; ``tpr@`` takes any rate."""
_FORM = re.compile(
    r"^\s*(?P<attack>.+?)\.(?P<metric>given_correct\.auc|tpr@[\d.]+%|[a-z_]+)(?:\.(?P<bound>low|high))?"
    r"\s*(?P<op>>=|<=|>|<)\s*(?P<number>[-+]?[\d.]+(?:[eE][-+]?\d+)?)(?P<percent>\s*%)?\s*$"
)


@dataclass(frozen=True)
class Condition:
    """One parsed expression."""

    text: str
    attack: str
    metric: str
    bound: str
    op: str
    number: float

    def holds(self, record: AuditRecord) -> str | None:
        """Return a sentence that says what held, or None where the condition does not hold.

        Raises:
            SpecError: the record has no such attack, or its number could not be computed (the reason is said). A gate
                that cannot be decided must not pass in silence.
        """
        if self.attack != "any" and self.attack not in record.attacks:
            raise SpecError(f"--fail-if {self.text!r}: no attack {self.attack!r}{nearest(self.attack, record.attacks)}")
        names = list(record.attacks) if self.attack == "any" else [self.attack]
        undecided = []
        for name in names:
            estimate = self._estimate(record.attacks[name])
            value = getattr(estimate, self.bound)
            if value is None:
                undecided.append(f"{name}: {estimate.reason or 'no interval'}")
            elif _OPERATORS[self.op](value, self.number):
                bound = "" if self.bound == "value" else f" ({self.bound} end of the interval)"
                return f"{name} {self.metric}{bound} is {value:.4g}, and {self.op} {self.number:g} fails the gate"
        if undecided:
            raise SpecError(f"--fail-if {self.text!r} cannot be decided: {'; '.join(undecided)}")
        return None

    def _estimate(self, result: AttackResult) -> Estimate:
        rate = _rate(self.metric)
        return _METRICS[self.metric](result) if rate is None else result.tpr_at_fpr[rate]


def _rate(metric: str) -> float | None:
    """The false-positive rate of ``tpr@5%``; None: it is another metric, or no rate."""
    try:
        rate = round(float(metric.removeprefix("tpr@").removesuffix("%")) / 100, 12)
    except ValueError:
        return None
    return rate if metric.startswith("tpr@") and 0 < rate < 1 else None


def parse(text: str) -> Condition:
    """Parse one expression.

    Raises:
        SpecError: it is not of the form, or names an unknown metric.
    """
    match = _FORM.match(text)
    if match is None:
        raise SpecError(f"--fail-if {text!r} is not of the form ATTACK.METRIC>NUMBER, for example boundary.tpr@1%>0.05")
    metric = match["metric"]
    if metric.startswith("tpr@"):
        if not _rate(metric):
            raise SpecError(f"--fail-if {text!r}: {metric!r} needs a rate between 0 and 100 %, for example tpr@1%")
    elif metric not in _METRICS:
        raise SpecError(f"--fail-if {text!r}: unknown metric {metric!r}{nearest(metric, METRICS)}")
    try:
        number = float(match["number"]) / (100.0 if match["percent"] else 1.0)
    except ValueError:
        raise SpecError(f"--fail-if {text!r}: {match['number']!r} is not a number") from None
    return Condition(text, match["attack"], metric, match["bound"] or "value", match["op"], number)


def check_attacks(conditions: Iterable[Condition], kinds: Iterable[str]) -> None:
    """Refuse a condition on an attack that will not run, before the run.

    Args:
        kinds: names of the attacks to come; ``boundary(norm=linf)`` is of the kind ``boundary``.

    Raises:
        SpecError: a condition names another one.
    """
    names = list(kinds)
    for condition in conditions:
        if condition.attack != "any" and condition.attack.partition("(")[0] not in names:
            raise SpecError(
                f"--fail-if {condition.text!r}: no attack {condition.attack!r} in this run"
                f"{nearest(condition.attack, names)}"
            )


def first_that_holds(conditions: Iterable[Condition], record: AuditRecord) -> str | None:
    """Return the sentence of the first condition that holds, or None.

    Raises:
        SpecError: none holds, and one cannot be decided.
    """
    undecided: SpecError | None = None
    for condition in conditions:
        try:
            sentence = condition.holds(record)
        except SpecError as error:
            undecided = undecided or error
        else:
            if sentence is not None:
                return sentence
    if undecided is not None:
        raise undecided
    return None


def enforce(conditions: Iterable[Condition], record: AuditRecord) -> None:
    """End the command with exit code 4 where a condition holds; say which.

    Raises:
        SpecError: as :func:`first_that_holds`.
    """
    sentence = first_that_holds(conditions, record)
    if sentence is not None:
        typer.echo(f"gate failed: {sentence}", err=True)
        raise typer.Exit(GATE_FAILED)
