"""How much does a classifier that returns only labels leak about its training data?

    import labelleaks as ll
    record = ll.audit(model, members=(x_m, y_m), nonmembers=(x_n, y_n), domain=ll.Box(0, 1), budget=500, seed=0)
    record["boundary"].auc

Names are loaded on first use, so that ``import labelleaks`` and the command line's ``--help`` stay instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelleaks import attacks, errors, metrics, targets
    from labelleaks.calibration import FixedFPR, HoldOut, RandomInputs, ShadowCalibrated, Threshold
    from labelleaks.costs import Forecast
    from labelleaks.decisions import Decisions
    from labelleaks.domain import Binary, Box, Continuous, Domain, Integer, Mixed, OneHot
    from labelleaks.entry import audit, forecast, infer
    from labelleaks.errors import (
        BudgetExceeded,
        InputError,
        LabelLeaksError,
        MissingExtra,
        NeedsError,
        SpecError,
        TargetError,
    )
    from labelleaks.oracle import LabelOracle, Ledger
    from labelleaks.record import AttackResult, AuditRecord, load
    from labelleaks.report import write_report
    from labelleaks.targets import Recorded
    from labelleaks.training import Recipe
    from labelleaks.types import Attack, Candidates, Cost, Knowledge, Scores, ShadowRows, Status, Trajectory

__version__ = "0.1.0"

_HOMES = {
    "calibration": ("FixedFPR", "HoldOut", "RandomInputs", "ShadowCalibrated", "Threshold"),
    "costs": ("Forecast",),
    "decisions": ("Decisions",),
    "entry": ("audit", "forecast", "infer"),
    "domain": ("Binary", "Box", "Continuous", "Domain", "Integer", "Mixed", "OneHot"),
    "errors": (
        "BudgetExceeded",
        "InputError",
        "LabelLeaksError",
        "MissingExtra",
        "NeedsError",
        "SpecError",
        "TargetError",
    ),
    "oracle": ("LabelOracle", "Ledger"),
    "record": ("AttackResult", "AuditRecord", "load"),
    "report": ("write_report",),
    "targets": ("Recorded",),
    "training": ("Recipe",),
    "types": ("Attack", "Candidates", "Cost", "Knowledge", "Scores", "ShadowRows", "Status", "Trajectory"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = ("attacks", "errors", "metrics", "targets")

__all__ = [
    "Attack",
    "AttackResult",
    "AuditRecord",
    "Binary",
    "Box",
    "BudgetExceeded",
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
    "TargetError",
    "Threshold",
    "Trajectory",
    "attacks",
    "audit",
    "errors",
    "forecast",
    "infer",
    "load",
    "metrics",
    "targets",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"labelleaks.{name}")
    if name in _HOME:
        value = getattr(importlib.import_module(f"labelleaks.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'labelleaks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
