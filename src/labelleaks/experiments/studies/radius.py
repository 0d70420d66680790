"""The certified radius of randomised smoothing, from labels alone; and whether members have larger ones.

It is how far noise lets a candidate keep its class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from labelleaks import metrics
from labelleaks.core.domains import Domain
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates
from labelleaks.experiments.studies.base import StudyInput, StudyResult, difference_of_means, estimate, mean
from labelleaks.metrics import estimates

__all__ = ["ALPHA", "CHOOSE", "SIGMA", "Certified", "certified_radius", "certify"]


SIGMA = 0.25
"""Standard deviation of the noise; images in [0, 1]."""
ALPHA = 0.001
"""Probability that a candidate's radius is certified too large."""
CHOOSE = 100
_BLOCK = 1000
"""Noisy copies that are drawn and asked at a time; part of the draw, so that it never depends on memory."""


@dataclass(frozen=True, eq=False)
class Certified:
    """Certificate of the smoothed target: the class that a noisy copy of a candidate most likely gets."""

    label: Tensor
    """int64 (n,): that class."""
    probability: Tensor
    """float64 (n,): lower bound of its probability, which fails with probability ALPHA."""
    radius: Tensor
    """float64 (n,), L2 in the domain's units: within it the smoothed target keeps ``label``; 0 where it abstains, that
    is where the bound is below one half."""


def certify(
    oracle: LabelOracle,
    candidates: Candidates,
    *,
    draws: int,
    seed: int,
    sigma: float = SIGMA,
    choose: int = CHOOSE,
    inside: Domain | None = None,
) -> Certified:
    """Certify each candidate with ``choose`` + ``draws`` labels, billed to it.

    1. ``choose`` noisy copies: the class c that they get most often (of equally frequent ones the lowest).
    2. ``draws`` fresh copies: k of them get c. p = the lower Clopper-Pearson limit of k / draws at level 1 - ALPHA.
    3. p >= 1/2: radius = sigma * Phi^-1(p), else 0.

    Args:
        inside: project noisy copies into this domain: what is certified then is the target behind a client that sends
            valid inputs only, which is a classifier of the unprojected copy too. None: send them as they are.

    Source: Cohen, Rosenfeld & Kolter 2019 (1902.02918), CERTIFY; sigma 0.25, 100 and 100,000 copies, alpha 0.001, as in
    the authors' code of Li & Zhang (certified radius, hard version).
    """
    streams = candidates.streams(seed, "certified radius")
    certificates = [
        _one(oracle, candidates, i, int(streams[i]), draws, sigma, choose, inside) for i in range(len(candidates))
    ]
    label = torch.tensor([c for c, _ in certificates], dtype=torch.int64)
    counts = np.array([k for _, k in certificates], dtype=np.int64)
    p = estimates.lower_limit(counts, draws, np.full(len(counts), ALPHA))
    radius = np.where(p >= 0.5, sigma * norm.ppf(np.maximum(p, 0.5)), 0.0)
    return Certified(label, torch.from_numpy(p), torch.from_numpy(radius))


def _one(
    oracle: LabelOracle,
    candidates: Candidates,
    i: int,
    stream: int,
    draws: int,
    sigma: float,
    choose: int,
    inside: Domain | None,
) -> tuple[int, int]:
    """The class of one candidate, and how many of ``draws`` copies get it."""
    generator = torch.Generator().manual_seed(stream)

    def labels(count: int, phase: str) -> Tensor:
        parts = []
        for first in range(0, count, _BLOCK):
            noise = torch.randn(_BLOCK, *candidates.shape, generator=generator)[: min(_BLOCK, count - first)]
            rows = candidates.x[i] + sigma * noise.to(candidates.device)
            rows = rows if inside is None else inside.project(rows)
            parts.append(oracle.query(rows, torch.full((len(rows),), i), phase=phase))
        return torch.bincount(torch.cat(parts), minlength=candidates.classes)

    c = int(labels(choose, "choose").argmax())
    return c, int(labels(draws, "certify")[c])


def certified_radius(task: StudyInput) -> StudyResult:
    """Certify candidates of both sides.

    Head: ``radius`` of members and non-members, the mean over all candidates of the certified radius, 0 where the
    smoothed target abstains or errs (the average certified radius), their ``difference``; ``auc`` of that radius as a
    score; ``labels`` per candidate. Points: one a candidate.

    Under ``clean`` noisy copies are projected into the domain, as a client would; under ``authors`` they are not.
    """
    bench = task.bench
    candidates, member = bench.candidates(task.study.candidates)
    draws = task.study.draws
    oracle = bench.gate(task.need).oracle("radius", len(candidates), CHOOSE + draws)
    inside = candidates.domain if bench.world.protocol == "clean" else None
    certified = certify(oracle, candidates, draws=draws, seed=bench.world.seed, inside=inside)
    correct = (certified.label == candidates.y).numpy()
    radius = np.where(correct, certified.radius.numpy(), 0.0)
    ours, theirs = radius[member], radius[~member]
    head = {
        "sigma": SIGMA,
        "alpha": ALPHA,
        "draws": draws,
        "labels": int(oracle.spent.max()),
        "projected": inside is not None,
        "n_members": len(ours),
        "n_nonmembers": len(theirs),
        "radius": {"members": mean(ours), "nonmembers": mean(theirs)},
        "difference": difference_of_means(ours, theirs),
        "auc": estimate(metrics.auc(radius, member)),
    }
    points = [
        {"member": bool(m), "radius": round(float(r), 5), "correct": bool(c)}
        for m, r, c in zip(member, certified.radius, correct, strict=True)
    ]
    return head, points
