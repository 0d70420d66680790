"""HopSkipJump in L2 and L∞, rebuilt for the budget of an audit.

Source: Chen, Jordan, Wainwright, "HopSkipJumpAttack", S&P 2020 (arXiv 1904.02144): a point of the boundary, votes of
random probes for the normal there, a step, a projection back to the boundary. What differs is
explained in design/0002-boundary-search.md:

* the probes are orthogonal to each other and to what is known already
  (:mod:`labelleaks.attacks.search.normal_estimate`);
* the step is a search on the semicircle between the point and the candidate, which meets a flat boundary exactly at
  its nearest point (as in CGBA, arXiv 2308.03163); so the direction from the candidate to the point remembers all
  votes, and no label goes to a step size;
* the probes' length and the projection's precision follow the angle that is left, instead of being fixed;
* the number of probes grows with the labels spent, so the distance falls early and the budget is used to its end;
* what was found is projected once more at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from labelleaks.attacks.search.driver import Track, widest
from labelleaks.attacks.search.normal_estimate import Ballot, Signs, normal
from labelleaks.attacks.search.subspaces import Space
from labelleaks.core.batch_invariant import distances, reject, row_max, unit
from labelleaks.core.domains import Norm

__all__ = ["HopSkipJump", "HopState", "HopStep", "combine"]


@dataclass(frozen=True)
class Tuning:
    """Constants of HopSkipJump, shared by Sign-OPT and Tangent where they share its steps.

    Weighed while the search was built; no table of it was kept (design/0002-boundary-search.md).
    """

    projection: int = 12
    """Labels for a projection or a semicircle at most."""
    finish: int = 10
    """Labels kept for the last projection."""
    angle: int = 6
    """Labels for the angle of the normal (L∞)."""
    jumps: tuple[float, ...] = (2.0, 0.5, 0.125)
    """How far towards the corner of the L∞ ball, in units of the distance; one label each."""
    fewest_votes: int = 8
    """Votes for which a step is worth beginning."""
    first_votes: int = 24
    """Votes of the first step."""
    most_votes: int = 300
    """Votes of one step at most."""
    growth: float = 0.5
    """Of the votes so far: what each step adds."""
    probe: float = 0.5
    """delta in units of sin(theta) |b - x| / sqrt(d): where the curvature of a sphere costs no votes yet."""
    precision: float = 0.5
    """Of a projection, in standard deviations of a probe along the normal."""
    coarsest: float = 2e-3
    """Precision of a projection at least, relative to |b - x|."""
    inertia: float = 0.2
    """Weight of the last step's direction, which a curved boundary leaves unfinished."""
    least_sine: float = 0.02
    """Of the angle theta that is taken to be left."""


TUNING = Tuning()


@dataclass(eq=False)
class HopState:
    """State of the search; rows for all candidates of the track."""

    b: Tensor
    """float32 (n, d), a point of the boundary with another label"""
    normal: Tensor
    """float32 (n, d), L∞ only: unit estimate of the normal at b"""
    last: Tensor
    """float32 (n, d), unit direction of the last step, orthogonal to b - x (L2) or to the normal (L∞)"""
    sine: Tensor
    """float64 (n,), of the angle theta between the direction held and the true normal, as estimated"""
    tangent: Tensor
    """float64 (n,), of the last step's angle: where the next search begins"""
    signs: Signs


@dataclass(frozen=True)
class HopStep:
    """One step of a search, in which HopSkipJump, Sign-OPT and the Tangent Attack differ."""

    cost: int
    """Labels at most, votes aside."""
    take: Callable[[HopSkipJump, Track, HopState, Tensor, int], None]
    """(search, track, state, who, t): makes step t = 1, 2, … for ``who``."""


class HopSkipJump:
    """The search for continuous domains, such as a Box.

    Args:
        norm: ``"l2"`` or ``"linf"``: the distance to make small.
        space: where the probes lie (:func:`labelleaks.attacks.search.subspaces.space`).
        iterations: steps at most, T.
        step: how it moves on; None: as HopSkipJump does in this norm.
    """

    def __init__(self, norm: Norm, space: Space, *, iterations: int, step: HopStep | None = None) -> None:
        self.norm: Norm = norm
        self.iterations = iterations
        self._step = step or (SEMICIRCLE if norm == "l2" else CORNER)
        self.space = space
        self.d = self.space.width
        most = max(16, min(self.d, TUNING.most_votes))
        self._votes = [0]  # B_1, ..., B_T after a 0
        for _ in range(iterations):
            self._votes.append(min(most, TUNING.first_votes + int(TUNING.growth * sum(self._votes))))

    @property
    def most(self) -> int:
        """Labels after the start that a candidate can spend at most."""
        return TUNING.projection + sum(self._votes) + self.iterations * self._step.cost + TUNING.finish

    def cost(self, iteration: int) -> int:
        return TUNING.fewest_votes + self._step.cost + TUNING.finish

    def init(self, track: Track, who: Tensor) -> HopState:
        n = len(track.x)
        state = HopState(
            b=track.point.clone(),
            normal=torch.zeros_like(track.x),
            last=torch.zeros_like(track.x),
            sine=torch.ones(n, dtype=torch.float64, device=track.x.device),
            tangent=torch.full((n,), 0.5, dtype=torch.float64, device=track.x.device),
            signs=Signs(track.streams("probes"), self.d, track.seed),
        )
        half = torch.full((len(who),), 0.5, dtype=torch.float64, device=who.device)
        precision = TUNING.precision * TUNING.probe / self.d
        self.project(track, state, who, guess=half, precision=precision, steps=TUNING.projection)
        state.normal[who] = unit(state.b[who] - track.x[who])
        return state

    def step(self, track: Track, state: HopState, who: Tensor, iteration: int) -> Tensor:
        self._step.take(self, track, state, who, iteration)
        return torch.zeros(len(who), dtype=torch.bool, device=who.device)

    def finish(self, track: Track, state: HopState, who: Tensor) -> None:
        guess = torch.full((len(who),), 1e-3, dtype=torch.float64, device=who.device)
        self.project(track, state, who, guess=guess, precision=1e-6, steps=TUNING.finish)

    def along_semicircle(self, track: Track, state: HopState, who: Tensor, t: int) -> None:
        """Vote for the plane of the step, then search the semicircle between the point and the candidate in it."""
        x = track.x[who]
        D, e, p, delta = self.plane(track, state, who, t)

        # The semicircle x + D cos(a) (cos(a) e + sin(a) p): at a = 0 it is b, at a = 90° it is x.
        def on_circle(tangent: Tensor, i: Tensor) -> Tensor:
            cosine2 = 1.0 / (1.0 + tangent * tangent)
            along, across = D[i] * cosine2, D[i] * cosine2 * tangent
            points = combine(x[i], along, e[i], across, p[i])
            sent, wrong = track.ask(points, who[i], "step")
            state.b[who[i[wrong]]] = sent[wrong]
            return wrong

        def open_(low: Tensor, high: Tensor) -> Tensor:
            middle = (low + high) * 0.5
            sine = (middle * middle / (1.0 + middle * middle)).sqrt().clamp_min(TUNING.least_sine)
            arc = D * (high - low) / (1.0 + low * high).clamp_min(1.0)
            return (arc * sine > TUNING.precision * delta / math.sqrt(self.d)) & (track.left[who] > 0)

        tangent, _ = widest(on_circle, open_, most=1e4, guess=state.tangent[who], steps=TUNING.projection)
        cosine = (1.0 / (1.0 + tangent * tangent)).sqrt()
        state.last[who] = combine(None, -tangent * cosine, e, cosine, p)
        self.learn(state, who, tangent, t)

    def plane(self, track: Track, state: HopState, who: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Vote for the plane of the step: |b - x|, float64 (k,); the unit vectors e, from x to b, and p, in which the
        normal leans, orthogonal to e, float32 (k, d); and delta, float64 (k,)."""
        x, b = track.x[who], state.b[who]
        D = distances(b, x, "l2")
        e = unit(b - x)
        delta = self._radius(track, state.sine[who] * D)
        v = self._normal(track, state, who, b, e, delta, t)
        v = unit(reject(v, e))
        p = unit(v + TUNING.inertia * unit(reject(state.last[who], e)))
        return D, e, unit(reject(p, e)), delta

    def towards_corner(self, track: Track, state: HopState, who: Tensor, t: int) -> None:
        """Vote for the normal, measure its angle, move towards the point of the L∞ ball that lies deepest."""
        x, b, g = track.x[who], state.b[who], state.normal[who]
        length = distances(b, x, "l2")
        delta = self._radius(track, state.sine[who] * length)
        v = self._normal(track, state, who, b, g, delta, t)
        v = unit(reject(v, g))
        p = unit(v + TUNING.inertia * unit(reject(state.last[who], g)))
        p = unit(reject(p, g))

        # In the plane of g and p the boundary through b runs along cos(a) p - sin(a) g: that gives the normal.
        reach = 0.3 * length

        def beyond(tangent: Tensor, i: Tensor) -> Tensor:
            cosine = (1.0 / (1.0 + tangent * tangent)).sqrt() * reach[i]
            return track.ask(combine(b[i], cosine, p[i], -tangent * cosine, g[i]), who[i], "angle")[1]

        def affordable(low: Tensor, high: Tensor) -> Tensor:
            return track.left[who] > 0

        low, high = widest(beyond, affordable, most=8.0, guess=state.tangent[who], steps=TUNING.angle)
        tangent = (low + high) * 0.5
        cosine = (1.0 / (1.0 + tangent * tangent)).sqrt()
        state.last[who] = combine(None, -tangent * cosine, g, cosine, p)
        state.normal[who] = unit(combine(None, cosine, g, tangent * cosine, p))
        self.learn(state, who, tangent, t)
        self._jump(track, state, who)
        guess = torch.full_like(length, 0.03)
        precision = TUNING.precision * TUNING.probe * TUNING.least_sine / self.d
        self.project(track, state, who, guess=guess, precision=precision, steps=TUNING.projection)

    def _jump(self, track: Track, state: HopState, who: Tensor) -> None:
        """Move b towards x + r sign(normal), the point of the L∞ ball around x that lies deepest; the nearer to it
        the better, as far as the label allows."""
        x = track.x[who]
        offset = state.b[who] - x
        r = row_max(offset.abs())[:, None]
        w = offset / r.clamp_min(1e-30)
        tries = torch.arange(len(who), device=who.device)
        for xi in TUNING.jumps:
            tries = tries[track.left[who[tries]] > 0]
            if len(tries) == 0:
                return
            moved = (w + xi * state.normal[who].sign()).clamp(-1.0, 1.0)[tries]
            onto = (moved / row_max(moved.abs()).clamp_min(1e-30)[:, None]) * r[tries]
            sent, wrong = track.ask(x[tries] + onto, who[tries], "step")
            state.b[who[tries[wrong]]] = sent[wrong]
            tries = tries[~wrong]

    def _normal(
        self, track: Track, state: HopState, who: Tensor, b: Tensor, e: Tensor, delta: Tensor, t: int
    ) -> Tensor:
        """v, from B_t votes; a candidate that cannot pay for the step after this one spends what is left now."""
        B = self._votes[t]
        allowance = track.left[who] - self._step.cost - TUNING.finish
        last = allowance < B + self.cost(t + 1)
        counts = torch.where(last, allowance.clamp(max=2 * B), B)
        ballot = Ballot(who, b, e, delta.to(torch.float32), counts, sum(self._votes[:t]))
        return normal(track, state.signs, self.space, ballot, "normal")

    def _radius(self, track: Track, length: Tensor) -> Tensor:
        """delta: float64 (k,); with quantised features long enough that a probe moves each by a level."""
        delta = TUNING.probe * length / math.sqrt(self.d)
        level = max(group.step for group in track.domain.groups(track.shape))
        return delta.clamp_min(level * math.sqrt(track.x.shape[1])) if level else delta

    def precision(self, state: HopState, who: Tensor) -> Tensor:
        """Of a projection in L2, relative to |b - x|: what is left along the normal is ``precision`` deviations of a
        probe, or ``coarsest`` where that is less: the last projection has labels for no more. float64 (k,)."""
        sine = state.sine[who]
        cosine = (1.0 - sine * sine).clamp_min(1e-4).sqrt()
        return (TUNING.precision * TUNING.probe * sine / (self.d * cosine)).clamp(max=TUNING.coarsest)

    def learn(self, state: HopState, who: Tensor, tangent: Tensor, t: int) -> None:
        """Estimate sin(theta) from the step's angle: tan(angle) = c tan(theta), where B_t votes find the normal's
        orthogonal part up to the cosine c, c² = 2 B_t / (pi d)."""
        c2 = min(0.9, 2.0 * self._votes[t] / (math.pi * self.d))
        square = tangent * tangent / c2
        left = square / (1.0 + square) * max(0.05, 1.0 - c2)
        state.sine[who] = left.sqrt().clamp(TUNING.least_sine, 1.0)
        state.tangent[who] = tangent.clamp(1e-3, 2.0)

    def project(
        self,
        track: Track,
        state: HopState,
        who: Tensor,
        *,
        guess: Tensor,
        precision: float | Tensor,
        steps: int,
        offset: Tensor | None = None,
    ) -> None:
        """Move b towards x as far as the label stays another one, up to a relative ``precision``; or move it onto the
        way from x + ``offset``, a point with another label, to x, where that has another label too."""
        x, b = track.x[who], state.b[who]
        offset = b - x if offset is None else offset

        def nearer(share: Tensor, i: Tensor) -> Tensor:
            part = (1.0 - share).to(torch.float32)[:, None] * offset[i]
            sent, wrong = track.ask(x[i] + part, who[i], "project")
            state.b[who[i[wrong]]] = sent[wrong]
            return wrong

        def open_(low: Tensor, high: Tensor) -> Tensor:
            return (high - low > precision) & (track.left[who] > 0)

        widest(nearer, open_, most=1.0, guess=guess, steps=steps)


SEMICIRCLE = HopStep(TUNING.projection, HopSkipJump.along_semicircle)
CORNER = HopStep(TUNING.angle + len(TUNING.jumps) + TUNING.projection, HopSkipJump.towards_corner)


def combine(origin: Tensor | None, a: Tensor, u: Tensor, b: Tensor, v: Tensor) -> Tensor:
    """origin + a u + b v for rows u, v (k, d) and factors a, b (k,); each product is rounded before it is added."""
    first = a.to(torch.float32)[:, None] * u
    second = b.to(torch.float32)[:, None] * v
    total = first + second
    return total if origin is None else origin + total
