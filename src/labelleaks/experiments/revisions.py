"""The revision of the attack behind a measure: a number that is raised where its code changes its scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from labelleaks.attacks import Augmentation, Boundary, Gap, Noise, Transfer
from labelleaks.experiments import scorebased
from labelleaks.experiments.saltpepper import SaltAndPepper
from labelleaks.experiments.spec import MeasureSpec

__all__ = ["revision_of"]


class _Revised(Protocol):
    revision: ClassVar[int]


_ATTACKS: Mapping[str, type[_Revised]] = {
    "gap": Gap, "noise": Noise, "augmentation": Augmentation, "boundary": Boundary, "transfer": Transfer,
}  # fmt: skip


def revision_of(measure: MeasureSpec) -> int:
    """Return the revision of the attack that a measure runs."""
    if measure.attack in scorebased.REVISIONS:
        return scorebased.REVISIONS[measure.attack]
    return SaltAndPepper.revision if measure.variant == "salt_and_pepper" else _ATTACKS[measure.attack].revision
