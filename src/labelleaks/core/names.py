"""Names of objects: ``module:attribute`` of specs, what a package exports, and names as records first had them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from labelleaks.errors import SpecError, nearest

__all__ = ["exports", "import_object", "module_of"]


def import_object(name: str) -> Any:
    """Import ``package.module:attribute`` from the caller's own Python path.

    Raises:
        SpecError: not of that form, no such module or attribute, or the module itself raised.
    """
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise SpecError(f"{name!r} is not of the form module:function, for example mymodel:predict")
    try:
        thing: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise SpecError(
            f"{name!r}: no module named {error.name!r} on the Python path; run from its folder or set PYTHONPATH"
        ) from None
    except (Exception, SystemExit) as error:  # the module is the user's: whatever it raises is reported as its own
        raise SpecError(f"{name!r}: importing {module_name} raised {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(thing, part):
            raise SpecError(f"{name!r}: {module_name} has no {attribute!r}{nearest(attribute, dir(thing))}")
        thing = getattr(thing, part)
    return thing


def exports(
    package: str, homes: Mapping[str, tuple[str, ...]], *own: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package whose names are imported when they are first used.

    Args:
        homes: module of the package -> names that it exports; a name that is the module's own is the module.
        own: names that the package defines itself.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{home_of[name]}")
        return module if name == home_of[name] else getattr(module, name)

    return get, lambda: sorted([*home_of, *own])


_RECORDED_AS = {
    "labelleaks.cli.demo": "labelleaks.demo",
    "labelleaks.models.architectures": "labelleaks.models",
    "labelleaks.models.networks": "labelleaks.models",
    "labelleaks.models.shadow_model": "labelleaks.shadowmodel",
    "labelleaks.testing.planted": "labelleaks.planted",
}
"""Modules that have moved since keys and records were first made of their names: never shortened, only added to."""


def module_of(named: Any) -> str:
    """Return the module of a class or function, under the name that it had when records first mentioned it."""
    module = getattr(named, "__module__", None) or "builtins"
    return _RECORDED_AS.get(module, module)
