"""Choice of an engine by its name."""

from __future__ import annotations

from labelleaks.engine.local import Local
from labelleaks.engine.ray import Ray
from labelleaks.engine.task import Engine
from labelleaks.errors import InputError, nearest

__all__ = ["NAMES", "choose"]

NAMES = ("local", "ray")


def choose(engine: str | Engine | None, *, address: str | None = None, processes: int | None = None) -> Engine:
    """Return the engine that is asked for; starts nothing.

    Args:
        engine: ``"local"``, ``"ray"``, or an engine, which is returned as it is; None: local, or Ray where there is an
            address.
        address: of a Ray cluster, ``HOST:PORT`` or ``auto``; None: a cluster of this machine, for this run.
        processes: of the local engine; None: as many as torch has threads.

    Raises:
        InputError: an unknown name, or an address for an engine that has none.
    """
    if engine is None:
        engine = "local" if address is None else "ray"
    if not isinstance(engine, str):
        if not isinstance(engine, Engine):
            raise InputError(f"engine={engine!r}: 'local', 'ray' or an engine is needed")
        return engine
    if engine not in NAMES:
        raise InputError(f"unknown engine {engine!r}{nearest(engine, NAMES)}")
    if engine == "local":
        if address is not None:
            raise InputError(f"address={address!r} belongs to engine 'ray', not to 'local'")
        return Local(processes)
    return Ray(address)
