"""Plug-ins by kind and name: where each is, imported when it is first used.

A name is one of labelleaks' own, or an entry point of an installed package in the group ``labelleaks.attacks``,
``.targets``, ``.domains``, ``.datasets``, ``.thresholds`` or ``.defenses``; ``module:object`` needs no registration.
Two packages that claim one name are both refused by that name. One that cannot be imported breaks its own names only.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Literal, get_args

from labelleaks.core.names import import_object
from labelleaks.errors import InputError, LabelLeaksError, SpecError, nearest

__all__ = [
    "KINDS",
    "Plugin",
    "PluginKind",
    "configure",
    "find",
    "installed",
    "load",
    "load_named",
    "names",
    "ours",
    "settings_of",
]

PluginKind = Literal["attacks", "targets", "domains", "datasets", "thresholds", "defenses"]
KINDS: tuple[PluginKind, ...] = get_args(PluginKind)
_ONE: Mapping[PluginKind, str] = {
    "attacks": "attack",
    "targets": "kind of target",
    "domains": "domain",
    "datasets": "data set",
    "thresholds": "threshold",
    "defenses": "defense",
}
_OURS: Mapping[PluginKind, Mapping[str, str]] = MappingProxyType(
    {
        "attacks": {  # cheapest first
            "gap": "labelleaks.attacks.gap:Gap",
            "noise": "labelleaks.attacks.noise:Noise",
            "augmentation": "labelleaks.attacks.augmentation:Augmentation",
            "boundary": "labelleaks.attacks.boundary:Boundary",
            "transfer": "labelleaks.attacks.transfer:Transfer",
            "guided": "labelleaks.attacks.guided:Guided",
            "yoqo": "labelleaks.attacks.yoqo:Yoqo",
            "oslo": "labelleaks.attacks.oslo:Oslo",
            "dhattack": "labelleaks.attacks.dhattack:DHAttack",
            "chameleon": "labelleaks.attacks.chameleon:Chameleon",
            "calibrated": "labelleaks.attacks.calibrated:Calibrated",
        },
        "targets": {
            "http": "labelleaks.targets.http:Http",
            "onnx": "labelleaks.targets.onnx:Onnx",
        },
        "domains": {
            "box": "labelleaks.core.domains:Box",
            "binary": "labelleaks.core.domains:Binary",
            "mixed": "labelleaks.core.domains:Mixed",
        },
        "datasets": {  # those of the paper first
            "cifar10": "labelleaks.data.cifar:CIFAR10",
            "cifar100": "labelleaks.data.cifar:CIFAR100",
            "gtsrb": "labelleaks.data.gtsrb:CARD",
            "face": "labelleaks.data.face:CARD",
            "tiny_imagenet": "labelleaks.data.tiny_imagenet:CARD",
            "purchase100": "labelleaks.data.bits:PURCHASE100",
            "texas100": "labelleaks.data.bits:TEXAS100",
            "location30": "labelleaks.data.bits:LOCATION30",
            "mnist": "labelleaks.data.mnist:MNIST",
            "fashion_mnist": "labelleaks.data.mnist:FASHION_MNIST",
            "digits": "labelleaks.data.digits:CARD",
        },
        "thresholds": {
            "random_inputs": "labelleaks.auditing.thresholds.random_inputs:RandomInputs",
            "shadow_calibrated": "labelleaks.auditing.thresholds.shadow_calibrated:ShadowCalibrated",
            "hold_out": "labelleaks.auditing.thresholds.hold_out:HoldOut",
            "fixed_fpr": "labelleaks.auditing.thresholds.fixed_fpr:FixedFPR",
        },
        "defenses": {"memguard": "labelleaks.defenses.memguard:MemGuard"},
    }
)
"""What this package registers itself: kind -> name -> ``module:object``."""


@dataclass(frozen=True)
class Plugin:
    """Something that can be asked for by its name, and where it is."""

    kind: PluginKind
    name: str
    path: str
    """``module:object``"""
    package: str | None
    """Who registered it, with the version; ``"labelleaks"`` for our own, None for ``module:object``."""

    def load(self) -> Any:
        """Import it.

        Raises:
            SpecError: it cannot be imported; names the package, what was imported and what that raised.
        """
        if self.package is None:
            return import_object(self.path)
        module, _, name = self.path.partition(":")
        try:
            thing: Any = importlib.import_module(module)
            for part in name.split("."):
                thing = getattr(thing, part)
        except LabelLeaksError:
            raise
        except (Exception, SystemExit) as error:  # somebody else's module: whatever it raises is reported as its own
            raise SpecError(
                f"{self} cannot be used: importing {self.path} raised {type(error).__name__}: {error}"
            ) from error
        return thing

    def __str__(self) -> str:
        return f"{_ONE[self.kind]} {self.name!r}" + (f" of {self.package}" if self.package else "")


def names(kind: PluginKind) -> tuple[str, ...]:
    """Return our own names of a kind, in their order. Imports nothing and reads nothing."""
    return tuple(_OURS[kind])


def ours(kind: PluginKind) -> tuple[Plugin, ...]:
    """Return our own plug-ins of a kind, in their order. Imports nothing and reads nothing."""
    return tuple(Plugin(kind, name, path, "labelleaks") for name, path in _OURS[kind].items())


def installed(kind: PluginKind) -> tuple[Plugin, ...]:
    """Return what other packages register, by name. Imports nothing."""
    points = entry_points(group=f"labelleaks.{kind}")
    plugins = [Plugin(kind, point.name, point.value.partition("[")[0].strip(), _package(point)) for point in points]
    return tuple(sorted(set(plugins), key=lambda plugin: (plugin.name, plugin.package)))


def find(kind: PluginKind, name: str) -> Plugin:
    """Return the plug-in of this name; ``module:object`` stands for itself. Imports nothing.

    Raises:
        InputError: nobody registers the name (the nearest is named), or two packages do.
    """
    if ":" in name:
        return Plugin(kind, name, name, None)
    others = installed(kind)
    claimants = [plugin for plugin in (*ours(kind), *others) if plugin.name == name]
    if not claimants:
        registered = [*_OURS[kind], *(plugin.name for plugin in others)]
        raise InputError(f"unknown {_ONE[kind]} {name!r}{nearest(name, registered)}")
    if len(claimants) > 1:
        raise InputError(
            f"{_ONE[kind]} {name!r} is registered by {' and by '.join(str(plugin.package) for plugin in claimants)}: "
            f"say which, {' or '.join(plugin.path for plugin in claimants)}, or uninstall one"
        )
    return claimants[0]


def load(kind: PluginKind, name: str) -> Any:
    """Import what this name stands for.

    Raises:
        InputError: as :func:`find`. SpecError: as :meth:`Plugin.load`.
    """
    return find(kind, name).load()


def load_named(kind: PluginKind, name: str) -> Any:
    """Import what has this name, and is to say so itself (``name``): what a record or a cache calls it.

    Raises:
        InputError: as :func:`find`; or it calls itself otherwise. SpecError: as :meth:`Plugin.load`.
    """
    plugin = find(kind, name)
    thing = plugin.load()
    own = getattr(thing, "name", None)
    if plugin.package is not None and own != name:
        raise InputError(f"{plugin} cannot be used: {plugin.path} has the name {own!r}, it is to be {name!r}")
    return thing


def configure(what: str, make: Any, settings: Mapping[str, Any]) -> Any:
    """Call ``make`` (a class, a function) with settings, where lists become tuples.

    Args:
        what: names it in messages.

    Raises:
        SpecError: it cannot be called, a setting it does not have (the nearest is named), or whatever it raises.
    """
    if not callable(make):
        raise SpecError(f"{what}: a class or a function is needed, it is a {type(make).__name__}")
    own, others = settings_of(make)
    for name in settings:
        if name not in own and not others:
            raise SpecError(f"{what}: unknown setting {name!r}{nearest(name, own)}")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    try:
        return make(**values)
    except LabelLeaksError:
        raise
    except (TypeError, ValueError) as error:
        raise SpecError(f"{what}: {error}") from None
    except Exception as error:  # somebody else's code
        raise SpecError(f"{what}: {type(error).__name__}: {error}") from error


def settings_of(make: Callable[..., Any]) -> tuple[list[str], bool]:
    """Return the settings that a class or a function takes by name, and whether it takes any others."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # written in C
        return [], True
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in named], any(p.kind is p.VAR_KEYWORD for p in parameters)


def _package(point: EntryPoint) -> str:
    return "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"
