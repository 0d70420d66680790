"""Audits of how much a classifier that returns only labels leaks about its training data.

    import labelleaks as ll
    record = ll.audit(model, members=(x_m, y_m), nonmembers=(x_n, y_n), domain=ll.Box(0, 1), budget=500, seed=0)
    record["boundary"].auc

Names are loaded on first use, so that ``import labelleaks`` and the command line's ``--help`` stay instant.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelleaks import attacks, data, errors, metrics, targets
    from labelleaks.auditing.api import audit, forecast, infer
    from labelleaks.auditing.canaries import Canaries, CanaryAudit, audit_canaries, load_canaries, make_canaries
    from labelleaks.auditing.decisions import Decisions
    from labelleaks.auditing.forecast import Forecast
    from labelleaks.auditing.record import AttackResult, AuditRecord, load
    from labelleaks.auditing.report import write_report
    from labelleaks.auditing.thresholds import FixedFPR, HoldOut, RandomInputs, ShadowCalibrated, Threshold
    from labelleaks.core.attack import About, Attack, Cost, Knowledge, ShadowRows
    from labelleaks.core.domains import Binary, Box, Continuous, Domain, Integer, Mixed, OneHot, Text
    from labelleaks.core.oracle.label_oracle import LabelOracle, Ledger
    from labelleaks.core.types import Candidates, Scores, Status, Trajectory
    from labelleaks.errors import (
        BudgetExceeded,
        InputError,
        LabelLeaksError,
        MissingExtra,
        NeedsError,
        SpecError,
        TargetError,
    )
    from labelleaks.inputs.row_format import Table
    from labelleaks.models.training import Recipe
    from labelleaks.targets import Recorded

_HOMES = {
    "auditing.thresholds": ("FixedFPR", "HoldOut", "RandomInputs", "ShadowCalibrated", "Threshold"),
    "auditing.forecast": ("Forecast",),
    "auditing.decisions": ("Decisions",),
    "auditing.api": ("audit", "forecast", "infer"),
    "auditing.canaries": ("Canaries", "CanaryAudit", "audit_canaries", "load_canaries", "make_canaries"),
    "core.domains": ("Binary", "Box", "Continuous", "Domain", "Integer", "Mixed", "OneHot", "Text"),
    "errors": (
        "BudgetExceeded",
        "InputError",
        "LabelLeaksError",
        "MissingExtra",
        "NeedsError",
        "SpecError",
        "TargetError",
    ),
    "core.oracle.label_oracle": ("LabelOracle", "Ledger"),
    "auditing.record": ("AttackResult", "AuditRecord", "load"),
    "auditing.report": ("write_report",),
    "inputs.row_format": ("Table",),
    "targets": ("Recorded",),
    "models.training": ("Recipe",),
    "core.attack": ("About", "Attack", "Cost", "Knowledge", "ShadowRows"),
    "core.types": ("Candidates", "Scores", "Status", "Trajectory"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = ("attacks", "data", "errors", "metrics", "targets")

__all__ = [
    "About",
    "Attack",
    "AttackResult",
    "AuditRecord",
    "Binary",
    "Box",
    "BudgetExceeded",
    "Canaries",
    "CanaryAudit",
    "Candidates",
    "Continuous",
    "Cost",
    "Decisions",
    "Domain",
    "FixedFPR",
    "Forecast",
    "HoldOut",
    "InputError",
    "Integer",
    "Knowledge",
    "LabelLeaksError",
    "LabelOracle",
    "Ledger",
    "MissingExtra",
    "Mixed",
    "NeedsError",
    "OneHot",
    "RandomInputs",
    "Recipe",
    "Recorded",
    "Scores",
    "ShadowCalibrated",
    "ShadowRows",
    "SpecError",
    "Status",
    "Table",
    "TargetError",
    "Text",
    "Threshold",
    "Trajectory",
    "attacks",
    "audit",
    "audit_canaries",
    "data",
    "errors",
    "forecast",
    "infer",
    "load",
    "load_canaries",
    "make_canaries",
    "metrics",
    "targets",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("labelleaks")
    if name in _MODULES:
        return importlib.import_module(f"labelleaks.{name}")
    if name in _HOME:
        value = getattr(importlib.import_module(f"labelleaks.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'labelleaks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
