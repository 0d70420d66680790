"""Defenses against membership inference, before a model or in its training."""

from __future__ import annotations

from labelleaks.defenses.memguard import MemGuard, memguard

__all__ = ["MemGuard", "memguard"]
