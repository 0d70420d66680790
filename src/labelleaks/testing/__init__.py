"""Tests for the authors of plug-ins: checks of each kind, and targets whose leak is planted and known.

    from labelleaks.testing import check_attack
    check_attack(MyAttack(), "image")

No test framework is needed: a check raises :class:`NotConformant` with a line for each thing that does not hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelleaks.core.names import exports

if TYPE_CHECKING:
    from labelleaks.testing.checks import check_dataset, check_target, check_threshold
    from labelleaks.testing.conformance import check_attack
    from labelleaks.testing.domains import check_domain
    from labelleaks.testing.planted import PlantedCase, case
    from labelleaks.testing.plugins import check_plugin
    from labelleaks.testing.runner import NotConformant

__all__ = [
    "NotConformant",
    "PlantedCase",
    "case",
    "check_attack",
    "check_dataset",
    "check_domain",
    "check_plugin",
    "check_target",
    "check_threshold",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "checks": ("check_dataset", "check_target", "check_threshold"),
        "conformance": ("check_attack",),
        "domains": ("check_domain",),
        "planted": ("PlantedCase", "case"),
        "plugins": ("check_plugin",),
        "runner": ("NotConformant",),
    },
)
