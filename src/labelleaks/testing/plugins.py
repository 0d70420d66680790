"""Checks of what every plug-in has to have, yours included: members, a first sentence, a source.

    from labelleaks.testing import check_plugin
    check_plugin("attacks", "yours")

Nothing is run: that is what the checks beside this one are for. No test framework is needed.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from labelleaks.auditing.thresholds import ThresholdRule
from labelleaks.core import registry
from labelleaks.core.attack import About, Attack
from labelleaks.core.domains import Domain
from labelleaks.data import Card
from labelleaks.errors import LabelLeaksError
from labelleaks.targets import is_target
from labelleaks.testing.runner import NotConformant

__all__ = ["check_plugin", "first_sentence"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def check_plugin(kind: registry.PluginKind, name: str) -> None:
    """Check one plug-in, by its registered name or as ``module:object``.

    Raises:
        NotConformant: with a line for each thing that is missing. InputError: there is none, or it cannot be imported.
    """
    plugin = registry.find(kind, name)
    faults = [f"{plugin}: {fault}" for fault in _faults(plugin, plugin.load())]
    if faults:
        raise NotConformant("\n".join(faults))


def first_sentence(text: str | None) -> str:
    """Return the first paragraph of a docstring on one line; "" where there is none."""
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())


def _faults(plugin: registry.Plugin, thing: Any) -> Iterator[str]:
    if plugin.package is not None and not _NAME.fullmatch(plugin.name):
        yield f"a name is lower-case letters, digits and _, {plugin.name!r} is not"
    text = thing.__doc__ if plugin.kind != "datasets" else sys.modules[plugin.path.partition(":")[0]].__doc__
    sentence = first_sentence(text)
    if len(sentence.split()) < 3 or not sentence.endswith("."):
        where = "the module" if plugin.kind == "datasets" else plugin.path
        yield f"the first sentence of the docstring of {where} says what it is, and ends with a full stop: {sentence!r}"
    yield from _CHECKS[plugin.kind](thing)


def _attack(kind: Any) -> Iterator[str]:
    faults = list(_class(kind, Attack, by_name=True))
    yield from faults
    yield from _sourced(kind)
    if faults:
        return
    if not (isinstance(kind.revision, int) and kind.revision >= 1):
        yield f"revision is {kind.revision!r}, a whole number of at least 1 is needed"
    if not (isinstance(kind.about, About) and kind.about.summary.endswith(".") and kind.about.axis):
        yield f"about says in one sentence what the attack asks, and what its score is: {kind.about!r}"


def _threshold(kind: Any) -> Iterator[str]:
    yield from _class(kind, ThresholdRule, by_name=False)
    yield from _sourced(kind)


def _domain(kind: Any) -> Iterator[str]:
    yield from _class(kind, Domain, by_name=False)


def _target(make: Any) -> Iterator[str]:
    if not callable(make):
        yield f"a class or a function is needed, it is a {type(make).__name__}"
    elif is_target(make):
        yield "a target is registered as its class, not as an object: its settings come from the spec"


def _dataset(card: Any) -> Iterator[str]:
    if not isinstance(card, Card):
        yield f"a labelleaks.data.Card is needed, it is a {type(card).__name__}"
        return
    for what in ("title", "home", "cite", "licence"):
        if not getattr(card, what).strip():
            yield f"{what} is empty"


def _class(kind: Any, protocol: type, *, by_name: bool) -> Iterator[str]:
    """A class that has the protocol's members: on itself, or as fields that its constructor sets."""
    if not inspect.isclass(kind):
        yield f"a class is needed, it is a {type(kind).__name__}"
        return
    fields = {name for base in kind.__mro__ for name in getattr(base, "__annotations__", {})}
    for member in _members(protocol):
        if not hasattr(kind, member) and member not in fields:
            yield f"it lacks {member} of {protocol.__module__}.{protocol.__qualname__}"
    if by_name:
        try:
            kind()
        except (LabelLeaksError, TypeError, ValueError) as error:
            yield f"without settings it cannot be made, as its name alone asks: {error}"


def _members(protocol: type) -> list[str]:
    named = [*protocol.__annotations__, *vars(protocol)]
    return sorted({name for name in named if not name.startswith("_")})


def _sourced(kind: Any) -> Iterator[str]:
    if "Source:" not in (kind.__doc__ or ""):
        yield "the docstring does not say where it comes from: Source: paper and section, or 'this package'"


def _any(_: Any) -> Iterator[str]:
    yield from ()


_CHECKS: dict[registry.PluginKind, Callable[[Any], Iterator[str]]] = {
    "attacks": _attack,
    "targets": _target,
    "domains": _domain,
    "datasets": _dataset,
    "thresholds": _threshold,
    "defenses": _any,
}
