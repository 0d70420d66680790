"""The vocabulary (candidates, domains, scores, random streams, the attack's contract) and the only door to a target.

What is exported here is what the author of an attack, a domain or a target writes with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelleaks.core.names import exports

if TYPE_CHECKING:
    from labelleaks.core import rng
    from labelleaks.core.attack import About, Attack, Cost, Knowledge, ShadowRows, prepared
    from labelleaks.core.classes import Classes
    from labelleaks.core.domains import Domain, Group, Norm, Word, check_range, distance
    from labelleaks.core.oracle.label_oracle import LabelOracle
    from labelleaks.core.types import Candidates, Scores, Status, Trajectory

__all__ = [
    "About",
    "Attack",
    "Candidates",
    "Classes",
    "Cost",
    "Domain",
    "Group",
    "Knowledge",
    "LabelOracle",
    "Norm",
    "Scores",
    "ShadowRows",
    "Status",
    "Trajectory",
    "Word",
    "check_range",
    "distance",
    "prepared",
    "rng",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "attack": ("About", "Attack", "Cost", "Knowledge", "ShadowRows", "prepared"),
        "classes": ("Classes",),
        "domains": ("Domain", "Group", "Norm", "Word", "check_range", "distance"),
        "oracle.label_oracle": ("LabelOracle",),
        "rng": ("rng",),
        "types": ("Candidates", "Scores", "Status", "Trajectory"),
    },
)
