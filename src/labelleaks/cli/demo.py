"""``labelleaks demo``: a small network on scikit-learn's embedded digits, in a regime where the leak is plain to see.

Clean digits are too easy to leak much (a network trained on 200 of them reaches 93 % on unseen ones, gap AUC 0.53).
So every picture gets fixed Gaussian pixel noise (standard deviation 0.5 of the range, clipped to it) and the network
trains on 200 of them until it knows them by heart: 100 % on its members, about 57 % on others. That is the regime of a
model with too much capacity for too little data, chosen so that the effect is large; it says nothing of others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from labelleaks.cli.options import Commands, Out, Quiet, Threads, set_threads, show

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["ATTACKS", "COMMANDS", "DemoCase", "build", "demo"]

ATTACKS = ("gap", "noise", "augmentation", "boundary", "transfer", "guided")

_MEMBERS = 200
_PIXEL_NOISE = 0.5
_EPOCHS = 300


@dataclass(frozen=True, eq=False)
class DemoCase:
    """A trained target and rows on both sides of its training set."""

    target: nn.Module
    members: tuple[Tensor, Tensor]
    """((200, 1, 8, 8) float32 in [0, 1], (200,) int64)"""
    nonmembers: tuple[Tensor, Tensor]
    shadow: tuple[Tensor]
    """The other digits, without labels."""


def build(*, seed: int = 0) -> DemoCase:
    """Make the noisy digits, deal them out and train the target on its members."""
    import torch
    from sklearn.datasets import load_digits

    from labelleaks.core import rng

    digits = load_digits()
    generator = torch.Generator().manual_seed(rng.seed_from(seed, "demo"))
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    x = (x + _PIXEL_NOISE * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    y = torch.tensor(digits.target, dtype=torch.int64)
    order = torch.randperm(len(x), generator=generator)
    member, nonmember, rest = order[:_MEMBERS], order[_MEMBERS : 2 * _MEMBERS], order[2 * _MEMBERS :]
    return DemoCase(
        target=_train(x[member], y[member], seed),
        members=(x[member], y[member]),
        nonmembers=(x[nonmember], y[nonmember]),
        shadow=(x[rest],),
    )


def _train(x: Tensor, y: Tensor, seed: int) -> nn.Module:
    import torch
    from torch import nn

    from labelleaks.core import rng

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.seed_from(seed, "demo target"))
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(_EPOCHS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def demo(
    out: Out = Path("runs/demo"),
    seed: int = 0,
    budget: int = 500,
    quiet: Quiet = False,
    threads: Threads = None,
) -> None:
    """Train a small target on embedded digits, audit it with six attacks, write a report."""
    from labelleaks.auditing.api import audit
    from labelleaks.core.domains import Box

    set_threads(threads)
    if not quiet:
        typer.echo(
            "Training a small network on 200 noisy digits until it knows them by heart (a regime chosen so that the "
            "leak is large), then auditing it with six attacks ...",
            err=True,
        )
    case = build(seed=seed)
    record = audit(
        case.target,
        members=case.members,
        nonmembers=case.nonmembers,
        shadow=case.shadow,
        attacks=ATTACKS,
        domain=Box(0, 1),
        budget=budget,
        seed=seed,
        name="demo: 200 noisy digits",
        out=out,
        overwrite=True,
        show_progress=False if quiet else None,
    )
    show(record, out, as_json=False, quiet=quiet)


COMMANDS: Commands = {"demo": demo}
