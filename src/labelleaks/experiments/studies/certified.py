"""The certified-radius analysis: do members have larger radii?"""

from __future__ import annotations

import numpy as np

from labelleaks import metrics
from labelleaks.experiments.studies.base import StudyInput, StudyResult, difference_of_means, estimate, mean
from labelleaks.experiments.studies.radius import ALPHA, CHOOSE, SIGMA, certify

__all__ = ["study"]


def study(given: StudyInput) -> StudyResult:
    """Certify candidates of both sides.

    Head: ``radius`` of members and non-members, the mean over all candidates of the certified radius, 0 where the
    smoothed target abstains or errs (the average certified radius), their ``difference``; ``auc`` of that radius as a
    score; ``labels`` per candidate. Points: one a candidate.

    Under ``clean`` noisy copies are projected into the domain, as a client would; under ``authors`` they are not.
    """
    bench = given.bench
    candidates, member = bench.candidates(given.study.candidates)
    draws = given.study.draws
    oracle = bench.gate(given.need).oracle("radius", len(candidates), CHOOSE + draws)
    inside = candidates.domain if bench.world.protocol == "clean" else None
    found = certify(oracle, candidates, draws=draws, seed=bench.world.seed, inside=inside)
    correct = (found.label == candidates.y).numpy()
    radius = np.where(correct, found.radius.numpy(), 0.0)
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
        for m, r, c in zip(member, found.radius, correct, strict=True)
    ]
    return head, points
