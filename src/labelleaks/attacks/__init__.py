"""The attacks by name. An attack's module is imported when the attack is first used, never before.

``labelleaks.attacks.Boundary(norm="linf")`` and ``attacks=["boundary"]`` both end in :func:`resolve`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labelleaks.errors import InputError, nearest

if TYPE_CHECKING:
    from labelleaks.attacks.augmentation import Augmentation
    from labelleaks.attacks.boundary import Boundary
    from labelleaks.attacks.calibrated import Calibrated
    from labelleaks.attacks.chameleon import Chameleon
    from labelleaks.attacks.dhattack import DHAttack
    from labelleaks.attacks.gap import Gap
    from labelleaks.attacks.guided import Guided
    from labelleaks.attacks.noise import Noise
    from labelleaks.attacks.oslo import Oslo
    from labelleaks.attacks.transfer import Transfer
    from labelleaks.attacks.yoqo import Yoqo
    from labelleaks.core.attack import Attack

__all__ = [
    "Augmentation",
    "Boundary",
    "Calibrated",
    "Chameleon",
    "DHAttack",
    "Gap",
    "Guided",
    "Noise",
    "Oslo",
    "Transfer",
    "Yoqo",
    "load",
    "names",
    "resolve",
]

_CLASSES = {
    "gap": "Gap",
    "noise": "Noise",
    "augmentation": "Augmentation",
    "boundary": "Boundary",
    "transfer": "Transfer",
    "guided": "Guided",
    "yoqo": "Yoqo",
    "oslo": "Oslo",
    "dhattack": "DHAttack",
    "chameleon": "Chameleon",
    "calibrated": "Calibrated",
}
_MODULES = {class_name: name for name, class_name in _CLASSES.items()}


def names() -> tuple[str, ...]:
    """Return the attacks that can be asked for by name, cheapest first. Imports none of them."""
    return tuple(_CLASSES)


def load(name: str) -> Callable[..., Attack]:
    """Return the class of the attack called ``name``.

    Raises:
        InputError: there is no such attack; the message names the nearest.
    """
    if name not in _CLASSES:
        raise InputError(f"unknown attack {name!r}{nearest(name, _CLASSES)}")
    found: Callable[..., Attack] = getattr(importlib.import_module(f"labelleaks.attacks.{name}"), _CLASSES[name])
    return found


def resolve(attack: str | Attack) -> Attack:
    """Return a configured attack: a name gets its defaults, an attack object is returned as it is.

    Raises:
        InputError: an unknown name, or an object that is not an attack: what it lacks, and how to add it.
    """
    if isinstance(attack, str):
        return load(attack)()
    if inspect.isclass(attack):
        raise InputError(f"{attack.__name__} is a class: configure it, {attack.__name__}(), or give its name")
    from labelleaks.core.attack import MEMBERS, missing_members  # it imports torch, which names() does not need

    lacking = missing_members(attack)
    if len(lacking) > len(MEMBERS) // 2:
        raise InputError(
            f"{attack!r} is not an attack: it lacks {', '.join(lacking)}; give one of {', '.join(names())} "
            "or an object with the members of labelleaks.core.attack.Attack"
        )
    if lacking:
        mend = "; ".join(MEMBERS[member] for member in lacking)
        raise InputError(
            f"attack {type(attack).__name__} lacks {', '.join(lacking)} of labelleaks.core.attack.Attack: add {mend}"
        )
    return attack


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return load(_MODULES[name])
    raise AttributeError(f"module 'labelleaks.attacks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
