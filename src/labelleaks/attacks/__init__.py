"""The attacks by name. An attack's module is imported when the attack is first used, never before.

``labelleaks.attacks.Boundary(norm="linf")`` and ``attacks=["boundary"]`` both end in :func:`resolve`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labelleaks.core import registry
from labelleaks.errors import InputError

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

_OURS = {plugin.path.partition(":")[2]: plugin for plugin in registry.ours("attacks")}


def names() -> tuple[str, ...]:
    """Return our own attacks, cheapest first. Imports none of them."""
    return registry.names("attacks")


def load(name: str) -> Callable[..., Attack]:
    """Return the class of the attack called ``name``: ours, an installed package's, or ``module:Class``.

    Raises:
        InputError: there is no such attack (the message names the nearest), or it cannot be imported.
    """
    found: Callable[..., Attack] = registry.load_named("attacks", name)
    return found


def resolve(attack: str | Attack) -> Attack:
    """Return a configured attack: a name gets its defaults, an attack object is returned as it is.

    Raises:
        InputError: an unknown name, or an object that is not an attack: what it lacks, and how to add it.
    """
    if isinstance(attack, str):
        built: Attack = registry.configure(f"attack {attack}", load(attack), {})
        attack = built
    elif inspect.isclass(attack):
        raise InputError(f"{attack.__name__} is a class: configure it, {attack.__name__}(), or give its name")
    from labelleaks.core.attack import MEMBERS, missing_members  # it imports torch, which names() does not need

    lacking = missing_members(attack)
    if {"cost", "score"} <= set(lacking):
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
    if name in _OURS:
        return _OURS[name].load()
    raise AttributeError(f"module 'labelleaks.attacks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
