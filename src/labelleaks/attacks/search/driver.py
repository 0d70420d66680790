"""The one loop that drives a boundary search: budget, best so far, trajectory and status of candidates in lockstep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from labelleaks.core.batch_invariant import distances
from labelleaks.core.domains import Norm, token_columns
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Status

__all__ = ["Search", "Track", "run", "widest"]


State = TypeVar("State")
_BLOCK = 1 << 22
"""Numbers in one block of probes at most (16 MB)."""


class Track:
    """Questions, budget and best points of candidates in lockstep. Rows are flat: (n, d).

    All labels of a search go through :meth:`ask` and :meth:`vote`. A search never sends a row that its candidate cannot
    pay for: it looks at ``left`` first.

    Args:
        oracle: accounts of these candidates.
        candidates: the candidates; this track is about those at ``owner``.
        owner: int64 (n,), positions of this track's candidates among ``candidates``.
        seed: of the search's random streams.
        norm: in which the best point is the nearest.
        checkpoints: label counts at which the distance is noted.
        votes: odd; answers to one question of :meth:`ask` at most, of which the majority counts.
    """

    def __init__(
        self,
        oracle: LabelOracle,
        candidates: Candidates,
        owner: Tensor,
        *,
        seed: int,
        norm: Norm,
        checkpoints: Sequence[int],
        votes: int = 1,
    ) -> None:
        n, device = len(owner), candidates.device
        self.x = candidates.x[owner].reshape(n, candidates.width)
        self.y = candidates.y[owner]
        self.shape = candidates.shape
        self.domain = candidates.domain
        self.norm: Norm = norm
        tokens = token_columns(self.domain, self.shape).to(device)
        self.counted = tokens if bool(tokens.any()) else None
        """bool (d,): the positions of texts, each of which counts 1 where it differs; None where there are none."""
        self.seed = seed
        self.everyone = torch.arange(n, device=device)
        self.votes = votes
        self._labels = oracle.remaining().to(device)[owner]  # that each candidate may still buy
        self.answers = torch.zeros(n, dtype=torch.int64, device=device)
        """int64 (n,): answers to questions of :meth:`ask`."""
        self.agreeing = torch.zeros(n, dtype=torch.int64, device=device)
        """int64 (n,): how many of them were as the majority's to that question."""
        self.spent = torch.zeros(n, dtype=torch.int64, device=device)
        """int64 (n,): labels bought."""
        self.diameter = self.domain.diameter(self.shape, norm)
        self.best = torch.full((n,), self.diameter, dtype=torch.float64, device=device)
        """float64 (n,): distance to the nearest input that got another label; the diameter where there is none."""
        self.point = self.x.clone()
        """float32 (n, d): that input; the candidate itself where there is none."""
        self.found = torch.zeros(n, dtype=torch.bool, device=device)
        """bool (n,): whether there is one."""
        self.status = torch.full((n,), int(Status.DONE), dtype=torch.int64, device=device)
        self.path = torch.full((len(checkpoints), n), self.diameter, dtype=torch.float64, device=device)
        """float64 (checkpoints, n): ``best`` as it stood after so many labels."""
        self.block_rows = max(1, min(oracle.batch_rows, _BLOCK // max(1, self.x.shape[1])))
        """Rows to build and send at a time."""
        self._checkpoints = torch.tensor(checkpoints, dtype=torch.int64, device=device)
        self._oracle = oracle
        self._owner = owner
        self._streams = candidates.streams

    @property
    def left(self) -> Tensor:
        """int64 (n,): questions that each candidate can still pay for, at ``votes`` labels each."""
        return self._labels // self.votes if self.votes > 1 else self._labels

    def streams(self, purpose: str) -> Tensor:
        """Return the int64 (n,) random streams of the candidates for ``purpose``."""
        return self._streams(self.seed, purpose)[self._owner]

    def project(self, points: Tensor) -> Tensor:
        """Return the nearest rows of the domain: flat (k, d)."""
        return self.domain.project(points.reshape(len(points), *self.shape)).reshape(len(points), self.x.shape[1])

    def ask(self, points: Tensor, who: Tensor, phase: str) -> tuple[Tensor, Tensor]:
        """Ask about one row for each candidate of ``who`` (all different), and keep what is nearer than the best.

        With several ``votes`` the majority of the answers counts, as :meth:`LabelOracle.agree` takes it.

        Args:
            points: float32 (k, d); projected to the domain first.
            who: int64 (k,), candidates with a question left.
            phase: what the ledger calls it.

        Returns:
            What was sent, float32 (k, d), and whether it got another label than the true one, bool (k,).
        """
        sent = self.project(points)
        found = self._oracle.agree(self._rows(sent), self._owner[who], self.y[who], phase=phase, votes=self.votes)
        wrong = ~found.holds
        self._labels[who] -= found.asked
        self.spent[who] += found.asked
        self.answers[who] += found.asked
        self.agreeing[who] += found.agreeing
        hit = wrong.nonzero().reshape(-1)
        if len(hit):
            self.offer(sent[hit], who[hit])
        return sent, wrong

    def vote(self, points: Tensor, who: Tensor, phase: str) -> Tensor:
        """Send any number of rows; row i is billed to ``who[i]``. Returns bool (k,): another label than the true one.

        Probes around a point are no candidates for the best: they are not compared with it.
        """
        labels = self._oracle.query(self._rows(self.project(points)), self._owner[who], phase=phase)
        rows = torch.bincount(who, minlength=len(self._labels))
        self._labels -= rows
        self.spent += rows
        return labels != self.y[who]

    def offer(self, points: Tensor, who: Tensor) -> None:
        """Take rows that are known to get another label where they are nearer than the best so far."""
        distance = distances(points, self.x[who], self.norm, self.counted)
        nearer = (distance < self.best[who]) | ~self.found[who]
        rows = nearer.nonzero().reshape(-1)
        if len(rows) == 0:
            return
        points, who, distance = points[rows], who[rows], distance[rows]
        self.best[who] = distance
        self.point[who] = points
        self.found[who] = True
        later = self._checkpoints[:, None] >= self.spent[who].clamp_min(1)[None, :]
        self.path[:, who] = torch.where(later, distance[None, :], self.path[:, who])

    def _rows(self, points: Tensor) -> Tensor:
        """The points as rows of the candidates' shape."""
        return points.reshape(len(points), *self.shape)

    def check(self) -> Tensor:
        """Spend one label on each candidate itself; return int64 (k,), those that the target gets right.

        The others are MISCLASSIFIED: at distance 0 of an input with another label, from the first label on.
        """
        _, wrong = self.ask(self.x, self.everyone, "correct")
        self.status[wrong] = int(Status.MISCLASSIFIED)
        self.best[wrong] = 0.0
        self.path[:, wrong] = 0.0
        return (~wrong).nonzero().reshape(-1)


class Search(Protocol[State]):
    """A search for a nearer input with another label. What it knows about the candidates is in its own ``State``."""

    iterations: int
    """Steps at most."""

    @property
    def most(self) -> int:
        """Labels that a candidate can spend after its start at most."""
        ...

    def init(self, track: Track, who: Tensor) -> State:
        """Begin at ``track.point``, which has another label for each of ``who``; may spend labels."""
        ...

    def cost(self, iteration: int) -> int:
        """Return the labels without which step ``iteration`` (1, 2, ...) is not begun."""
        ...

    def step(self, track: Track, state: State, who: Tensor, iteration: int) -> Tensor:
        """Make one step for ``who`` (int64 (k,)); return bool (k,), those that are at their end.

        Whatever is found reaches the track by :meth:`Track.ask` alone.
        """
        ...

    def finish(self, track: Track, state: State, who: Tensor) -> None:
        """Spend labels that are left on the last projection of ``who``."""
        ...


def run(search: Search[State], track: Track, start: Callable[[Track, Tensor], None]) -> None:
    """Measure all candidates of ``track``; the result is what the track holds afterwards.

    Args:
        search: the search.
        track: candidates that nothing was asked about yet.
        start: finds a first input with another label for the candidates it is given
            (:mod:`labelleaks.attacks.search.start`).
    """
    correct = track.check()
    start(track, correct)
    begun = correct[track.found[correct]]
    track.status[correct[~track.found[correct]]] = int(Status.NO_START)
    if len(begun) == 0:
        return
    state = search.init(track, begun)
    active = begun
    for iteration in range(1, search.iterations + 1):
        affordable = track.left[active] >= search.cost(iteration)
        track.status[active[~affordable]] = int(Status.BUDGET)
        active = active[affordable]
        if len(active) == 0:
            break
        ended = search.step(track, state, active, iteration)
        active = active[~ended]
    search.finish(track, state, begun)


def widest(
    holds: Callable[[Tensor, Tensor], Tensor],
    may_ask: Callable[[Tensor, Tensor], Tensor],
    *,
    most: float,
    guess: Tensor,
    steps: int,
    least: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Look for the largest value in [0, ``most``] for which something holds, by galloping from a guess, then bisection.

    It is known to hold at 0 (or at ``least``), and not to hold at ``most``. From the guess the value doubles while it
    holds and halves until it does; then the bracket is bisected. Every label either raises the lower end or lowers the
    upper one.

    Args:
        holds: given values (k,) and positions (k,) among the candidates, returns bool (k,). Costs one label each.
        may_ask: given the lower and upper ends (n,), returns bool (n,): which are still worth a label and can pay it.
        most: a value for which it does not hold.
        guess: float64 (n,), where to ask first, inside (0, ``most``).
        steps: labels for each candidate at most.
        least: float64 (n,), below the guess: where it is known to hold; None: 0.

    Returns:
        Lower ends, for which it holds, and upper ends, for which it does not: float64 (n,) each.
    """
    low = torch.zeros_like(guess) if least is None else least.clone()
    high = torch.full_like(guess, most)
    for asked in range(steps):
        rows = may_ask(low, high).nonzero().reshape(-1)
        if len(rows) == 0:
            break
        middle = (low + high) * 0.5
        value = guess if asked == 0 else torch.where(low > 0, torch.minimum(low * 2.0, middle), middle)
        yes = holds(value[rows], rows)
        low[rows] = torch.where(yes, value[rows], low[rows])
        high[rows] = torch.where(yes, high[rows], value[rows])
    return low, high
