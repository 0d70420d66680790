"""Names of classes and functions as records, journals and kept models have them: they outlive a change of modules."""

from __future__ import annotations

from typing import Any

__all__ = ["module_of"]

_RECORDED_AS = {
    "labelleaks.cli.demo": "labelleaks.demo",
    "labelleaks.models.architectures": "labelleaks.models",
    "labelleaks.models.shadow_model": "labelleaks.shadowmodel",
    "labelleaks.testing.planted": "labelleaks.planted",
}
"""Modules that have moved since keys and records were first made of their names: never shortened, only added to."""


def module_of(named: Any) -> str:
    """Return the module of a class or function, under the name that it had when records first mentioned it."""
    module = getattr(named, "__module__", None) or "builtins"
    return _RECORDED_AS.get(module, module)
