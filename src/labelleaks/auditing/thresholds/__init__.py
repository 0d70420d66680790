"""From scores to a threshold: member iff score > tau, and where tau came from.

A rule never looks at the candidates' scores. It gets a :class:`Setting`, runs the same attack at the same budget on
rows of its own, and bills whatever it asks the target to set-up. Which rule needs what:

==================  ================================  =======================================================
rule                needs                             asks the target
==================  ================================  =======================================================
RandomInputs        nothing; a distance attack        one label and one attack for each random input
ShadowCalibrated    shadow rows                       one label for each shadow row (once a run), else nothing
HoldOut             known members and non-members     one attack for each of them
FixedFPR            held-out shadow rows              one attack for each of them
==================  ================================  =======================================================
"""

from __future__ import annotations

from typing import Any

from labelleaks.auditing.thresholds.base import (
    Setting,
    Threshold,
    ThresholdRule,
    own_oracle,
    own_scores,
    rerun_cost,
    values,
)
from labelleaks.auditing.thresholds.fixed_fpr import FixedFPR
from labelleaks.auditing.thresholds.hold_out import HoldOut
from labelleaks.auditing.thresholds.random_inputs import RandomInputs
from labelleaks.auditing.thresholds.shadow_calibrated import ShadowCalibrated
from labelleaks.core import registry
from labelleaks.errors import InputError

__all__ = [
    "FixedFPR",
    "HoldOut",
    "RandomInputs",
    "Setting",
    "ShadowCalibrated",
    "Threshold",
    "ThresholdRule",
    "load",
    "names",
    "own_oracle",
    "own_scores",
    "rerun_cost",
    "resolve",
    "values",
]

_MEMBERS = ("name", "needs", "cost", "fit", "describe")


def names() -> tuple[str, ...]:
    """Return our own rules."""
    return registry.names("thresholds")


def load(name: str) -> Any:
    """Return the class of the rule called ``name``: ours, an installed package's, or ``module:Class``.

    Raises:
        InputError: there is no such rule (the message names the nearest), or it cannot be imported.
    """
    return registry.load_named("thresholds", name)


def resolve(rule: str | ThresholdRule) -> ThresholdRule:
    """Return a configured rule: a name gets its defaults, a rule is returned as it is.

    Raises:
        InputError: an unknown name, a rule that cannot do without settings, or an object that is no rule.
    """
    if isinstance(rule, str):
        kind = load(rule)
        if kind is HoldOut:
            raise InputError("threshold 'hold_out' needs its rows: HoldOut(members=(x, y), nonmembers=(x, y))")
        built: ThresholdRule = registry.configure(f"threshold {rule}", kind, {})
        rule = built
    lacking = [member for member in _MEMBERS if not hasattr(rule, member)]
    if isinstance(rule, type) or len(lacking) == len(_MEMBERS):
        raise InputError(f"{rule!r} is not a threshold rule; known: {', '.join(sorted(names()))}")
    if lacking:
        raise InputError(
            f"{rule!r} is not a threshold rule: it lacks {', '.join(lacking)} of "
            "labelleaks.auditing.thresholds.ThresholdRule"
        )
    return rule
