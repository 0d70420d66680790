"""What an owner may put before or into a model against membership inference."""

from __future__ import annotations

from labelleaks.defenses.memguard import MemGuard, memguard

__all__ = ["MemGuard", "memguard"]
