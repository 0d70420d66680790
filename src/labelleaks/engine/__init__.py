"""Engines: tasks of plain data, run in processes of this machine or on a Ray cluster, with byte-identical results.

Shadow models, shards of candidates and worlds of a grid all go through :meth:`Engine.run`.
"""

from __future__ import annotations

from labelleaks.engine.choose import NAMES, choose
from labelleaks.engine.local import Local
from labelleaks.engine.ray import Ray
from labelleaks.engine.task import Done, Engine, Note, Result, Shared, Task, Watch

__all__ = ["NAMES", "Done", "Engine", "Local", "Note", "Ray", "Result", "Shared", "Task", "Watch", "choose"]
