"""The perturbation-based attack: how far a candidate is from the decision boundary, found with labels alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from labelleaks.attacks.search.driver import Search, Track, run
from labelleaks.attacks.search.rays import Rays
from labelleaks.attacks.search.registry import SEARCHES, SearchName, make
from labelleaks.attacks.search.start import TRIES, from_pool, from_trials
from labelleaks.attacks.words import Words
from labelleaks.core.attack import About, Cost, Knowledge
from labelleaks.core.batch_invariant import distances
from labelleaks.core.domains import Norm
from labelleaks.core.oracle.label_oracle import SETUP, LabelOracle
from labelleaks.core.types import Candidates, Scores, Status, Trajectory, checkpoints_up_to
from labelleaks.core.validation import choice, whole
from labelleaks.errors import InputError

__all__ = ["Boundary", "check_search"]

NORMS: tuple[Norm, ...] = ("l0", "l1", "l2", "linf")
_POOL = "pool"
"""In Knowledge.prepared: rows to start from, float32 (p, *shape), and their labels by the target, int64 (p,)."""
_GROUP = 1 << 22
"""Numbers in the candidates that are searched in lockstep (16 MB); the search keeps some twenty arrays of that size."""


@dataclass(frozen=True)
class Boundary:
    """Members lie farther from the decision boundary: the score is the distance to the nearest input that was found to
    get another label, in the domain's units.

    Misclassified candidates take one label and score 0. A candidate for which no input with another label is found
    (NO_START) scores the domain's diameter, the censored largest distance. All others score an upper bound of their
    distance, which falls with every label (``trajectory``).

    Args:
        norm: the distance that is made small, and scored. ``"l2"`` or ``"linf"`` for Box; any of ``"l0"``, ``"l1"``,
            ``"l2"`` and ``"linf"`` for Binary and Mixed, where features are moved one by one. Of texts words are taken
            out, and each counts one; ``"l2"`` is then read as ``"l0"``, their number.
        subspace: ``"resize"`` or ``"dct"``: probe along smooth images only (QEBA); images in a Box.
        factor: how much smaller the subspace's images are, along each side.
        max_iterations: steps of the search at most: votes and a projection, or 16 directions of SurFree, or 64 flips of
            RayS.
        search: how a Box is searched. ``"hopskipjump"``, in L2 or L∞: the nearest where there are 1,000 labels or more.
            ``"surfree"``, L2: fewer labels than that, best with ``subspace="dct"`` on images. ``"rays"``, L∞: at any
            number of labels on images, needs no start. ``"signopt"`` and ``"tangent"``, L2: HopSkipJump's votes with
            other steps, for comparison. Binary and Mixed rows have one search of their own.
        votes: odd; for a target whose labels change. Each question that moves a point is asked (votes + 1) / 2 times,
            and ``votes`` times where the answers differ, within the budget; the majority counts. Probes for a normal
            are sent once: their mean is over many anyway.

    ``details``: ``distance_l0``, ``distance_l1``, ``distance_l2``, ``distance_linf``, float64 (n,), of the same point
    (0 where misclassified, the diameter where there was no start), and ``adversarial``, float32 (n, *shape), that
    point (the candidate itself where misclassified or without a start). With several votes ``agreement``, float64 (n,):
    the share of answers that were the majority's to their question; 1 where no label ever changed. Of texts, too,
    ``characters_left_out``, float64 (n,).

    Needs no knowledge. A text is tried without half of its words, and other shares of them. Given starts or shadow
    rows, their labels are bought once, as set-up, and each candidate begins at the nearest with another label;
    otherwise at random, constant, inverted or blurred inputs, at one label each.

    Source: Li & Zhang, "Membership Leakage in Label-Only Exposures", CCS 2021, boundary attack (arXiv 2007.15528v1:
    perturbation-based attack); each search names its own paper (:mod:`labelleaks.attacks.search`).

    Raises:
        InputError: an unknown norm, subspace or search, numbers below 1, or an even number of votes.
    """

    norm: Norm = "l2"
    subspace: Literal["resize", "dct"] | None = None
    factor: int = 2
    max_iterations: int = 50
    search: SearchName = "hopskipjump"
    votes: int = 1

    name: ClassVar[str] = "boundary"
    needs: ClassVar[frozenset[str]] = frozenset()
    is_distance: ClassVar[bool] = True
    anytime: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About(
        "Searches for the smallest change that flips the label; members need a larger one.",
        "distance to the decision boundary",
    )

    def __post_init__(self) -> None:
        check_search(self)

    def norm_in(self, candidates: Candidates) -> Norm:
        """Return the norm of the distances: words are counted where there are any."""
        words = Words.of(candidates.domain, candidates.shape)
        return "l0" if words is not None and self.norm == "l2" else self.norm

    def _search(self, candidates: Candidates) -> Search[Any]:
        return make(
            self.search,
            candidates.domain,
            candidates.shape,
            norm=self.norm,
            iterations=self.max_iterations,
            subspace=self.subspace,
            factor=self.factor,
        )

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """Set-up: the labels of the rows to start from, unless they were bought before."""
        search = self._search(candidates)
        least = self.votes * (2 + search.cost(1))
        most = max(least, min(budget, self.votes * (1 + TRIES + search.most)))
        rows, shadow = self._starts(knowledge, candidates), knowledge.shadow
        if _POOL in knowledge.prepared or Words.of(candidates.domain, candidates.shape) is not None:
            setup = 0
        elif rows is not None:
            setup = self.votes * len(rows)
        else:
            setup = 0 if shadow is None or shadow.labelled else len(shadow)
        return Cost(least=least, most=most, setup=setup)

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Buy the labels of the rows to start from: given starts, else shadow rows."""
        rows = self._starts(knowledge, candidates)
        if _POOL in knowledge.prepared or Words.of(candidates.domain, candidates.shape) is not None:
            return knowledge
        if rows is None:
            if knowledge.shadow is not None:
                knowledge.shadow.labels(knowledge.setup)
            return knowledge
        rows = candidates.domain.project(rows.to(candidates.device))
        owner = torch.full((len(rows),), SETUP, dtype=torch.int64, device=rows.device)
        labels = knowledge.setup.query(rows, owner, phase="starts", votes=self.votes)
        return replace(knowledge, prepared={_POOL: (rows, labels)})

    def _starts(self, knowledge: Knowledge, candidates: Candidates) -> Tensor | None:
        """The rows to start from whose labels are bought for this attack alone; None: the shadow rows, if any.

        Raises:
            InputError: starts for texts, which begin at themselves.
        """
        if knowledge.starts is not None and Words.of(candidates.domain, candidates.shape) is not None:
            raise InputError(
                "boundary: a text is searched by leaving out its words, other texts are no starts: leave starts out"
            )
        if knowledge.starts is not None and len(knowledge.starts):
            return knowledge.starts
        if self.votes > 1 and knowledge.shadow is not None and len(knowledge.shadow):
            return knowledge.shadow.x  # labels that were bought once are not enough
        return None

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        return self.distances(oracle, candidates, knowledge, seed=seed)

    def distances(
        self,
        oracle: LabelOracle,
        candidates: Candidates,
        knowledge: Knowledge,
        *,
        seed: int,
        noted: Sequence[int] = (),
    ) -> Scores:
        """Return :meth:`score`'s scores, their trajectory at the label counts ``noted`` too."""
        n = len(candidates)
        search, norm = self._search(candidates), self.norm_in(candidates)
        words = Words.of(candidates.domain, candidates.shape)
        pool = None if words is not None else _pool(self.prepare(knowledge, candidates, seed=seed), candidates)
        most = self.votes * (1 + TRIES + search.most)
        if n:
            most = max(1, min(most, int(oracle.remaining().max())))
        checkpoints = tuple(sorted({*checkpoints_up_to(most), *(labels for labels in noted if labels < most)}))

        def start(track: Track, who: Tensor) -> None:
            if pool is not None:
                from_pool(track, who, *pool)
            if isinstance(search, Rays):
                search.start(track, who)
            else:
                from_trials(track, who)

        tracks = []
        everyone = torch.arange(n, device=candidates.device)
        for owner in everyone.split(max(1, _GROUP // max(1, candidates.width))):
            track = Track(
                oracle,
                candidates,
                owner,
                seed=seed,
                norm=norm,
                checkpoints=checkpoints,
                votes=self.votes,
            )
            run(search, track, start)
            tracks.append(_Found(track))
        found = _scores(tracks, candidates, checkpoints)
        if words is not None:
            point = found.details["adversarial"].flatten(1)
            left_out = words.characters(candidates.x.flatten(1)) - words.characters(point)
            found = replace(found, details={**found.details, "characters_left_out": left_out})
        if self.votes == 1:
            return found
        return replace(found, details={**found.details, "agreement": torch.cat([t.agreement for t in tracks])})


def check_search(settings: Any) -> None:
    """Refuse settings of a boundary search that are of a wrong kind or out of their range."""
    choice(settings, "norm", NORMS)
    if settings.subspace is not None:
        choice(settings, "subspace", ("resize", "dct"), "None")
    choice(settings, "search", SEARCHES)
    whole(settings, "factor", 1)
    whole(settings, "max_iterations", 1)
    whole(settings, "votes", 1, odd=True)


class _Found:
    """Results of a track whose candidates are done."""

    def __init__(self, track: Track) -> None:
        self.value, self.status, self.spent, self.path = track.best, track.status, track.spent, track.path
        self.agreement = track.agreeing.double() / track.answers.clamp_min(1).double()
        self.adversarial = track.point.reshape(len(track.x), *track.shape)
        self.distances = {norm: distances(track.point, track.x, norm, track.counted) for norm in NORMS}
        for norm, found in self.distances.items():
            found[self.status == int(Status.NO_START)] = track.domain.diameter(track.shape, norm)


def _scores(tracks: list[_Found], candidates: Candidates, checkpoints: tuple[int, ...]) -> Scores:
    def joined(parts: list[Tensor], dim: int = 0) -> Tensor:
        return torch.cat(parts, dim)

    return Scores(
        value=joined([t.value for t in tracks]),
        status=joined([t.status for t in tracks]),
        queries=joined([t.spent for t in tracks]),
        trajectory=Trajectory(checkpoints, joined([t.path for t in tracks], 1)),
        details={
            **{f"distance_{norm}": joined([t.distances[norm] for t in tracks]) for norm in NORMS},
            "adversarial": joined([t.adversarial for t in tracks]),
        },
    )


def _pool(knowledge: Knowledge, candidates: Candidates) -> tuple[Tensor, Tensor] | None:
    """Rows to start from and their labels by the target, which are there already; None: there are none."""
    shadow = knowledge.shadow
    if _POOL in knowledge.prepared:
        rows, labels = knowledge.prepared[_POOL]
    elif shadow is not None and len(shadow):
        rows, labels = shadow.x, shadow.labels(knowledge.setup)
    else:
        return None
    return rows.to(candidates.device), labels.to(candidates.device)
