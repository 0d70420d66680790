"""The search where features cannot move a little (Binary, Mixed, Text): each is moved to another value, or back.

A *group* is what moves as one: a feature, or the columns of a one-hot choice. Each group has the candidate's value and
one other value (a word of a text: none), so a query is a set M of moved groups. The steps are HopSkipJump's on that
cube: a path from the candidate to the start is bisected; groups are moved back, halves, quarters, eighths, ... of M at
a time as in RayS (Chen & Gu, KDD 2020, arXiv 2006.12792, section 3.3), while the label stays another one; then votes of
random changes around M tell which groups matter, those are added, and the others moved back, least important first.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from labelleaks.attacks.search.driver import Track, widest
from labelleaks.attacks.words import Words
from labelleaks.core import rng
from labelleaks.core.domains import Domain

__all__ = ["Pointwise", "PointwiseState"]


@dataclass(frozen=True)
class Tuning:
    """Constants of the search in Binary and Mixed domains.

    Votes are those of HopSkipJump; the others were weighed while the search was built; no table of it was kept
    (design/0002-boundary-search.md).
    """

    first_votes: int = 24
    """Votes of the second step: the first is the path."""
    most_votes: int = 300
    """Votes of one step at most."""
    growth: float = 0.5
    """Of the votes so far: what each step adds."""
    fewest_labels: int = 8
    """Labels for which a step is worth beginning."""
    shrink: int = 8
    """Labels to move numeric features part of the way back."""
    stale: int = 8
    """Steps without a nearer point after which a candidate is done."""


TUNING = Tuning()


@dataclass(eq=False)
class PointwiseState:
    """State of the search; rows for all candidates of the track."""

    other: Tensor
    """float32 (n, d), the other value of each group"""
    moved: Tensor
    """bool (n, G), M: the groups that are moved in the nearest point found"""
    able: Tensor
    """bool (n, G): the groups that can move; positions behind the end of a text cannot"""
    weight: Tensor
    """float32 (n, G), by how much a group speaks for another label, from the votes"""
    stale: Tensor
    """int64 (n,), steps since the last nearer point"""
    table: rng.NormalTable
    """what decides which groups a vote toggles"""


class Pointwise:
    """The search for domains whose features cannot move a little, such as Binary and Mixed, in the track's norm.

    Args:
        domain: of the rows.
        shape: of a row.
        iterations: steps at most.
    """

    def __init__(self, domain: Domain, shape: tuple[int, ...], *, iterations: int) -> None:
        self.iterations = iterations
        group, numeric = _groups(domain, shape)
        self._group = torch.tensor(group)
        self._numeric = torch.tensor(numeric)
        self._words = Words.of(domain, shape)
        self.G = max(group) + 1
        self._reverts = 2 * self.G + 20
        # A vote toggles one group in |M|, and one in two at most: a normal number below these thresholds.
        self._thresholds = torch.tensor([NormalDist().inv_cdf(1 / max(2, moved)) for moved in range(self.G + 1)])
        self._votes = [0, 0]  # B_1 = 0: the first step is the path
        for _ in range(iterations - 1):
            self._votes.append(min(TUNING.most_votes, TUNING.first_votes + int(TUNING.growth * sum(self._votes))))

    @property
    def most(self) -> int:
        """Labels after the start that a candidate can spend at most."""
        return sum(self._votes) + self.iterations * (self.G.bit_length() + 1 + self._reverts + TUNING.shrink)

    def cost(self, iteration: int) -> int:
        return TUNING.fewest_labels

    def init(self, track: Track, who: Tensor) -> PointwiseState:
        n, d = track.x.shape
        u = rng.uniform(track.streams("other values"), d)
        drawn = track.domain.from_uniform(u.reshape(n, *track.shape)).reshape(n, d)
        opposite = track.project(track.domain.span(track.shape).reshape(1, -1).to(drawn.device) - track.x)
        drawn = torch.where(self._spread(self._differs(track, drawn)), drawn, opposite)
        if self._words is not None:
            drawn = torch.where(self._tokens(track), self._words.without(track.x, self._tokens(track)), drawn)
        moved = self._differs(track, track.point)
        able = torch.ones_like(moved)
        if self._words is not None:
            able = self._differs(
                track, torch.where(self._words.there(track.x) | ~self._tokens(track), track.x + 1, track.x)
            )
        return PointwiseState(
            other=torch.where(self._spread(moved), track.point, drawn),
            moved=moved,
            able=able,
            weight=torch.zeros(n, self.G, device=track.x.device),
            stale=torch.zeros(n, dtype=torch.int64, device=track.x.device),
            table=rng.NormalTable(track.seed, self.G, device=track.x.device, size=1 << 20),
        )

    def step(self, track: Track, state: PointwiseState, who: Tensor, iteration: int) -> Tensor:
        before = track.best[who]
        if iteration == 1:
            rank = _ranks(rng.bits(track.streams("order")[who], self.G))
            moved = self._bisect_path(track, state, who, rank)
        else:
            self._vote(track, state, who, iteration)
            rank = _ranks(state.weight[who])  # least important first
            moved = self._add(track, state, who, rank)
        moved = self._move_back(track, state, who, moved, rank)
        self._shrink(track, state, who, moved)
        nearer = track.best[who] < before
        state.moved[who] = torch.where(nearer[:, None], moved, state.moved[who])
        state.stale[who] = torch.where(nearer, 0, state.stale[who] + 1)
        return (state.stale[who] >= TUNING.stale) | ~moved.any(1)

    def finish(self, track: Track, state: PointwiseState, who: Tensor) -> None:
        """Nothing is left to do: every point that was asked for is in the track."""

    def _bisect_path(self, track: Track, state: PointwiseState, who: Tensor, rank: Tensor) -> Tensor:
        """Move groups in order of rank; find how many of those of the start it takes."""
        start = state.moved[who]
        place = _place(start, rank)
        low = torch.zeros_like(who)
        high = start.sum(1)
        for _ in range(self.G.bit_length()):
            rows = ((high - low > 1) & (track.left[who] > 0)).nonzero().reshape(-1)
            if len(rows) == 0:
                break
            middle = (low + high) // 2
            wrong = self._ask(track, state, who[rows], (start & (place < middle[:, None]))[rows], "step")
            high[rows] = torch.where(wrong, middle[rows], high[rows])
            low[rows] = torch.where(wrong, low[rows], middle[rows])
        return start & (place < high[:, None])

    def _move_back(self, track: Track, state: PointwiseState, who: Tensor, moved: Tensor, rank: Tensor) -> Tensor:
        """Move groups back, blocks of halving size at a time, in order of rank, while the label stays another one."""
        order = torch.argsort(rank, dim=1)
        moved = moved.gather(1, order)  # in order of rank from here on
        size = moved.sum(1) // 2
        at = torch.zeros_like(size)
        for _ in range(self._reverts):
            rows = ((size > 0) & (track.left[who] > 0)).nonzero().reshape(-1)
            if len(rows) == 0:
                break
            place = moved[rows].cumsum(1) - 1
            tried = moved[rows] & ((place < at[rows, None]) | (place >= (at + size)[rows, None]))
            wrong = self._ask(track, state, who[rows], tried.gather(1, rank[rows]), "step") & tried.any(1)
            moved[rows] = torch.where(wrong[:, None], tried, moved[rows])
            at[rows] = torch.where(wrong, at[rows], (at + size)[rows])
            over = at >= moved.sum(1)
            size = torch.where(over, size // 2, size)
            at = torch.where(over, 0, at)
        return moved.gather(1, rank)

    def _vote(self, track: Track, state: PointwiseState, who: Tensor, iteration: int) -> None:
        """Toggle random groups around M; add mean((phi - mean(phi)) bit) to the weights, phi = ±1."""
        B = self._votes[iteration]
        counts = (track.left[who] - TUNING.fewest_labels).clamp(0, B)
        threshold = self._thresholds.to(who.device)[state.moved[who].sum(1)]
        first = sum(self._votes[:iteration])
        streams = track.streams("votes")[who]
        at_once = max(1, track.block_rows // max(1, B))
        for start in range(0, len(who), at_once):
            part = slice(start, start + at_once)
            toggled = state.table.vectors(streams[part], B, first=first) < threshold[part, None, None]
            masks = state.moved[who[part]][:, None, :] ^ (toggled & state.able[who[part]][:, None, :])
            cast = torch.arange(B, device=who.device)[None, :] < counts[part, None]
            voters = who[part].repeat_interleave(counts[part])
            phi = torch.zeros(cast.shape, device=who.device)
            if len(voters):
                wrong = track.vote(self._points(track, state, voters, masks[cast]), voters, "vote")
                phi[cast] = torch.where(wrong, 1.0, -1.0)
            bits = (masks & cast[:, :, None]).to(torch.float32)
            mean = phi.sum(1) / counts[part].clamp_min(1)
            voted = (phi[:, None, :] @ bits)[:, 0]  # whole numbers: exact in any order
            shared = mean[:, None] * bits.sum(1)
            state.weight[who[part]] += voted - shared

    def _add(self, track: Track, state: PointwiseState, who: Tensor, rank: Tensor) -> Tensor:
        """Move the most important groups too, half as many as are moved; M itself where the label does not stay."""
        moved = state.moved[who]
        outside = torch.where(moved | ~state.able[who], -1, rank)
        extra = (moved.sum(1) + 1) // 2
        top = _ranks(-outside) < extra[:, None]
        joined = moved | (top & ~moved)
        rows = (track.left[who] > 0).nonzero().reshape(-1)
        kept = moved.clone()
        if len(rows):
            wrong = self._ask(track, state, who[rows], joined[rows], "step")
            kept[rows] = torch.where(wrong[:, None], joined[rows], moved[rows])
        return kept

    def _shrink(self, track: Track, state: PointwiseState, who: Tensor, moved: Tensor) -> None:
        """Move the numeric features that are moved part of the way back, all by the same share."""
        numeric = self._numeric.to(who.device)
        shrinks = (self._spread(moved) & numeric[None, :]).any(1)
        if not bool(shrinks.any()):
            return
        x = track.x[who]
        point = self._points(track, state, who, moved)
        whole = track.project(point)

        def nearer(share: Tensor, i: Tensor) -> Tensor:
            step = (share.to(torch.float32)[:, None] * (x[i] - point[i])) * numeric
            sent, wrong = track.ask(point[i] + step, who[i], "shrink")
            state.other[who[i[wrong]]] = torch.where(
                self._spread(moved[i[wrong]]), sent[wrong], state.other[who[i[wrong]]]
            )
            return wrong

        def open_(low: Tensor, high: Tensor) -> Tensor:
            return shrinks & (high - low > 1e-3) & (track.left[who] > 0) & (whole != x).any(1)

        half = torch.full((len(who),), 0.5, dtype=torch.float64, device=who.device)
        widest(nearer, open_, most=1.0, guess=half, steps=TUNING.shrink)

    def _ask(self, track: Track, state: PointwiseState, who: Tensor, moved: Tensor, phase: str) -> Tensor:
        return track.ask(self._points(track, state, who, moved), who, phase)[1]

    def _points(self, track: Track, state: PointwiseState, who: Tensor, moved: Tensor) -> Tensor:
        changed = self._spread(moved)
        points = torch.where(changed, state.other[who], track.x[who])
        if self._words is None:
            return points
        return torch.where(self._tokens(track), self._words.without(track.x[who], changed), points)

    def _tokens(self, track: Track) -> Tensor:
        """bool (d,): the positions of texts."""
        assert track.counted is not None
        return track.counted

    def _spread(self, moved: Tensor) -> Tensor:
        """Groups (k, G) to features (k, d)."""
        if len(self._group) == self.G:
            return moved
        found: Tensor = moved[:, self._group.to(moved.device)]
        return found

    def _differs(self, track: Track, rows: Tensor) -> Tensor:
        """bool (n, G): groups in which the rows differ from the candidates."""
        counts = torch.zeros(len(rows), self.G, device=rows.device)
        group = self._group.to(rows.device).expand(len(rows), -1)
        return counts.scatter_add(1, group, (rows != track.x).to(torch.float32)) > 0


def _ranks(keys: Tensor) -> Tensor:
    """Number the entries of each row by size, from 0; equal ones in order of position."""
    return torch.argsort(torch.argsort(keys, dim=1, stable=True), dim=1)


def _place(moved: Tensor, rank: Tensor) -> Tensor:
    """Number the groups that are moved 0, 1, ... in order of rank: int64 (k, G); the others come after all of them."""
    key = torch.where(moved, rank, rank + moved.shape[1])
    return _ranks(key)


def _groups(domain: Domain, shape: tuple[int, ...]) -> tuple[list[int], list[bool]]:
    """For each feature, the number of its group, and whether its values lie on a line with more than two values."""
    group: list[int] = []
    numeric: list[bool] = []
    for part in domain.groups(shape):
        first = max(group) + 1 if group else 0
        group += [first] * part.width if part.kind == "one_hot" else range(first, first + part.width)
        numeric += [part.kind in ("continuous", "integer")] * part.width
    return group, numeric
