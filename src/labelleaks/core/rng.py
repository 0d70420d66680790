"""One random stream for each (seed, candidate content, purpose): order, batching and shards never change a draw.

A stream is an int64 *key*. Draw number ``k`` of a stream is a hash of (key, k), so draws need no state, may be
made in any order and in any grouping, and are the same on every device (integer arithmetic only).

Normal vectors come from a shared table of Gaussian numbers, made once per seed: a stream picks the window where
its vector starts. (The shared-noise table of Salimans et al., "Evolution Strategies", 2017, section 2.1.) A window
costs one copy, where drawing afresh costs more than a small model's forward pass.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

__all__ = ["NormalTable", "bits", "content_keys", "seed_from", "signs", "streams", "uniform"]

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # as signed 64-bit numbers: torch has no unsigned arithmetic
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def _shift_right(z: Tensor, k: int) -> Tensor:
    return (z >> k) & ((1 << (64 - k)) - 1)


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014) on int64 tensors; wraps around as unsigned would."""
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


def _signed(digest: bytes) -> int:
    return int.from_bytes(digest, "little", signed=True)


def seed_from(seed: int, purpose: str) -> int:
    """Derive a non-negative 63-bit seed for something shared (a table, a training run) from ``seed``."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return _signed(digest) & ((1 << 63) - 1)


def content_keys(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Hash each row's content.

    Args:
        x: (n, *shape), any dtype. Copied to the host once.
        y: (n,) labels that are part of the content, or None.

    Returns:
        int64 (n,) on ``x``'s device: equal for equal rows, whatever their position.
    """
    if len(x) == 0:
        return torch.empty(0, dtype=torch.int64, device=x.device)
    rows = x.detach().reshape(len(x), -1).contiguous().cpu().numpy()
    labels = None if y is None else y.detach().cpu().to(torch.int64).numpy()
    keys = []
    for i in range(len(rows)):
        digest = hashlib.blake2b(rows[i].tobytes(), digest_size=8)
        if labels is not None:
            digest.update(labels[i].tobytes())
        keys.append(_signed(digest.digest()))
    return torch.tensor(keys, dtype=torch.int64, device=x.device)


def streams(keys: Tensor, seed: int, purpose: str) -> Tensor:
    """Return the int64 (n,) stream of each content key for this seed and purpose."""
    salt = _signed(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest())
    return _mix(_mix(keys ^ salt) + _GOLDEN)


def bits(stream: Tensor, count: int, *, first: int = 0) -> Tensor:
    """Return draws ``first`` … ``first + count - 1`` of each stream: int64 (n, count), all 64 bits random."""
    index = torch.arange(first + 1, first + count + 1, device=stream.device, dtype=torch.int64)
    return _mix(stream[:, None] + index[None, :] * _GOLDEN)


def uniform(stream: Tensor, count: int, *, first: int = 0) -> Tensor:
    """Return uniform draws in [0, 1): float32 (n, count), exact on every device."""
    return _shift_right(bits(stream, count, first=first), 40).to(torch.float32) / float(1 << 24)


def signs(stream: Tensor, count: int, *, first: int = 0) -> Tensor:
    """Return ±1 draws: float32 (n, count)."""
    return 1.0 - 2.0 * _shift_right(bits(stream, count, first=first), 63).to(torch.float32)


class NormalTable:
    """A table of standard normal numbers that every stream reads at windows of its own.

    Args:
        seed: which table. The numbers are drawn on the CPU, so they are equal on every device.
        width: length of the vectors that will be asked for.
        device: where the table lives.
        size: number of distinct windows (16 MB of float32 by default).
    """

    def __init__(self, seed: int, width: int, *, device: torch.device | str = "cpu", size: int = 1 << 22) -> None:
        generator = torch.Generator().manual_seed(seed_from(seed, "normal table"))
        numbers = torch.randn(size, generator=generator)
        repeats = -(-(size + width) // size)  # a window may run over the end: the table goes round
        self.width = width
        self.size = size
        self._windows = numbers.repeat(repeats)[: size + width].to(device).unfold(0, width, 1)

    def vectors(self, stream: Tensor, count: int, *, first: int = 0) -> Tensor:
        """Return vectors ``first`` … ``first + count - 1`` of each stream: float32 (n, count, width), N(0, 1)."""
        windows = _shift_right(bits(stream, count, first=first), 1) % self.size
        return self._windows[windows]
