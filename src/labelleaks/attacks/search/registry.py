"""The searches by name, and which domains and norms each of them is made for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from labelleaks.attacks.search.driver import Search
from labelleaks.attacks.search.hopskipjump import HopSkipJump
from labelleaks.attacks.search.pointwise import Pointwise
from labelleaks.attacks.search.rays import Rays
from labelleaks.attacks.search.signopt import SIGN_OPT
from labelleaks.attacks.search.subspaces import Subspace, space
from labelleaks.attacks.search.surfree import SurFree
from labelleaks.attacks.search.tangent import TANGENT
from labelleaks.core.domains import Domain, Norm
from labelleaks.errors import InputError

__all__ = ["SEARCHES", "SearchName", "make"]

SearchName = Literal["hopskipjump", "surfree", "rays", "signopt", "tangent"]
SEARCHES: tuple[str, ...] = get_args(SearchName)
_NORMS: dict[str, tuple[Norm, ...]] = {
    "hopskipjump": ("l2", "linf"),
    "surfree": ("l2",),
    "rays": ("linf",),
    "signopt": ("l2",),
    "tangent": ("l2",),
}
"""In which norms of a continuous domain each search looks for the nearest point."""


def make(
    name: SearchName,
    domain: Domain,
    shape: Sequence[int],
    *,
    norm: Norm,
    iterations: int,
    subspace: Subspace | None,
    factor: int,
) -> Search[Any]:
    """Return the search ``name`` for rows of ``shape`` in ``domain``.

    Raises:
        InputError: the search, the norm or the subspace does not fit the domain.
    """
    shape = tuple(shape)
    if not domain.continuous:
        _refuse_settings(name, subspace, type(domain).__name__)
        return Pointwise(domain, shape, iterations=iterations)
    if norm not in _NORMS[name]:
        raise InputError(_other_norm(name, norm, type(domain).__name__))
    if name == "rays":
        if subspace is not None:
            raise InputError(f"boundary: search='rays' moves along signs of features, not in subspace={subspace!r}")
        return Rays(shape, iterations=iterations)
    probes = space(shape, subspace, factor, domain.layout)
    if name == "surfree":
        return SurFree(probes, iterations=iterations)
    step = {"hopskipjump": None, "signopt": SIGN_OPT, "tangent": TANGENT}[name]
    return HopSkipJump(norm, probes, iterations=iterations, step=step)


def _refuse_settings(name: str, subspace: Subspace | None, domain: str) -> None:
    """Refuse what only features that can move a little allow; ``domain`` has others."""
    if subspace is not None:
        raise InputError(
            f"boundary: subspace={subspace!r} needs images in a continuous domain, such as Box, not {domain}: leave "
            "subspace out"
        )
    if name != "hopskipjump":
        raise InputError(
            f"boundary: search={name!r} needs a continuous domain, such as Box, not {domain}: leave search out, such "
            "rows have a search of their own"
        )


def _other_norm(name: str, norm: Norm, domain: str) -> str:
    if norm in ("l0", "l1"):
        return (
            f"boundary: norm={norm!r} is searched only where features change one at a time, as in Binary and Mixed; in "
            f"{domain} use 'l2' or 'linf', and read details['distance_{norm}']"
        )
    (only,) = _NORMS[name]
    return f"boundary: search={name!r} makes the {only} distance small, not {norm}: use norm={only!r} or another search"
