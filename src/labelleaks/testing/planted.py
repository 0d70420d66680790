"""Targets whose leak is planted and known, to try attacks on: half-space, ball, memory; and cases made with them.

All answer in float64 with sums that go feature by feature in a fixed tree, so a row's label never depends on the rows
beside it: what differs between two runs is the attack's doing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from labelleaks.core.domains import Binary, Box, Continuous, Domain, Integer, Mixed, OneHot, Text, token_columns
from labelleaks.core.types import Candidates
from labelleaks.errors import InputError

__all__ = [
    "CASES",
    "Ball",
    "Counted",
    "HalfSpace",
    "Memory",
    "PlantedCase",
    "Remembering",
    "WordWeights",
    "case",
    "remembered",
]

Decide = Callable[[Tensor], Tensor]


def row_sums(terms: Tensor) -> Tensor:
    """Sum each row of (m, d) by halves, elementwise: the bits of a row's sum do not depend on m."""
    while terms.shape[1] > 1:
        if terms.shape[1] % 2:
            terms = torch.cat([terms, torch.zeros_like(terms[:, :1])], 1)
        terms = terms[:, ::2] + terms[:, 1::2]
    return terms[:, 0]


@dataclass(frozen=True, eq=False)
class HalfSpace:
    """Label 1 where <normal, x> > offset, else 0. The boundary is a plane.

    Args:
        normal: (d,), any length.
        offset: a number.
    """

    normal: Tensor
    offset: float

    def _excess(self, x: Tensor) -> Tensor:
        terms = x.reshape(len(x), -1).to(torch.float64) * self.normal.to(torch.float64)
        return row_sums(terms) - self.offset

    def __call__(self, x: Tensor) -> Tensor:
        return (self._excess(x) > 0).to(torch.int64)

    def distance(self, x: Tensor) -> Tensor:
        """Return each row's L2 distance to the boundary, float64 (m,), bounds of the domain left aside."""
        return self._excess(x).abs() / float(torch.linalg.vector_norm(self.normal.to(torch.float64)))


@dataclass(frozen=True, eq=False)
class WordWeights:
    """Label 1 where the weights of a text's words sum to more than ``offset``, else 0; spellings weigh alike.

    Args:
        weights: (codes,), of no word, of each word and of the mask.
        offset: a number.
    """

    weights: Tensor
    offset: float

    def _excess(self, x: Tensor) -> Tensor:
        codes = x.reshape(len(x), -1).to(torch.int64) % len(self.weights)
        return row_sums(self.weights[codes].to(torch.float64)) - self.offset

    def __call__(self, x: Tensor) -> Tensor:
        return (self._excess(x) > 0).to(torch.int64)

    def distance(self, x: Tensor) -> Tensor:
        """Return by how much each row's weights miss the offset, float64 (m,)."""
        return self._excess(x).abs()


@dataclass(frozen=True, eq=False)
class Ball:
    """Label 1 inside the sphere, else 0.

    Args:
        centre: (d,).
        radius: in the domain's units.
    """

    centre: Tensor
    radius: float

    def _from_centre(self, x: Tensor) -> Tensor:
        return row_sums((x.reshape(len(x), -1).to(torch.float64) - self.centre.to(torch.float64)) ** 2).sqrt()

    def __call__(self, x: Tensor) -> Tensor:
        return (self._from_centre(x) < self.radius).to(torch.int64)

    def distance(self, x: Tensor) -> Tensor:
        """Return each row's L2 distance to the sphere, float64 (m,), bounds of the domain left aside."""
        return (self._from_centre(x) - self.radius).abs()


@dataclass(frozen=True, eq=False)
class Memory:
    """A target that remembers records: it gives a record's label within the record's radius, elsewhere ``default``.

    Args:
        x: (r, *shape), the records.
        y: int64 (r,), their labels.
        radius: float64 (r,), L2, in the domain's units; where several reach, the relatively nearest one answers.
        default: the label of every other input.
        counted: features are codes of words, of which those that differ are counted.
    """

    x: Tensor
    y: Tensor
    radius: Tensor
    default: int
    counted: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([self._labels(part) for part in x.split(64)])

    def _labels(self, x: Tensor) -> Tensor:
        rows = x.reshape(len(x), 1, -1).to(torch.float64)
        records = self.x.reshape(len(self.x), -1).to(torch.float64)
        apart = (rows != records).to(torch.float64) if self.counted else (rows - records) ** 2
        away = row_sums(apart.flatten(0, 1)).sqrt().reshape(len(x), -1) / self.radius
        nearest = away.argmin(1)  # the first of equals
        reached = away.gather(1, nearest[:, None])[:, 0] < 1
        return torch.where(reached, self.y[nearest], self.default)


@dataclass(frozen=True, eq=False)
class Remembering:
    """A target that learned a rule and remembers some records besides.

    Args:
        memory: the records; its ``default`` is negative.
        rule: answers where no record reaches.
    """

    memory: Memory
    rule: Decide

    def __call__(self, x: Tensor) -> Tensor:
        label = self.memory(x)
        return torch.where(label < 0, self.rule(x), label)


class Counted:
    """A target that counts the rows it sees and notes every query that breaks the contract.

    Args:
        decide: the target.
        domain: what it may be sent.
        shape: of one row.
    """

    def __init__(self, decide: Decide, domain: Domain, shape: tuple[int, ...]) -> None:
        self.rows = 0
        self.calls = 0
        self.broken: list[str] = []
        self._decide = decide
        self._domain = domain
        self._shape = shape

    def __call__(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        self.calls += 1
        self.broken += self._faults(x)
        return self._decide(x)

    def _faults(self, x: Tensor) -> list[str]:
        if len(x) == 0 or tuple(x.shape[1:]) != self._shape or x.dtype != torch.float32:
            return [f"a query of shape {tuple(x.shape)}, {x.dtype}"]
        if x.requires_grad:
            return ["a query that requires grad"]
        if not bool(torch.isfinite(x).all()):
            return ["a query with NaN or infinity"]
        try:
            self._domain.check(x, "query")
        except InputError as error:
            return [str(error)]
        return []


@dataclass(frozen=True, eq=False)
class PlantedCase:
    """Candidates with a planted leak: members lie farther from the boundary, and are misclassified less often.

    ``candidates.y`` are true labels; where they differ from the target's, the row is misclassified.
    """

    name: str
    decide: Decide
    candidates: Candidates
    member: Tensor
    """bool (n,)"""
    shadow: Tensor
    """float32 (s, *shape): rows of the attacker's own."""

    def target(self) -> Counted:
        """Return the target with a fresh counter."""
        return Counted(self.decide, self.candidates.domain, self.candidates.shape)


CASES = ("vector", "image", "binary", "mixed", "text", "memory")
_MIXED = Mixed(Continuous(-2, 2, width=4), Integer(0, 20, width=2), OneHot(4), OneHot(3))
_TEXTS = Text().learn([" ".join(f"word{(7 * i + j) % 40}" for j in range(24)) + " " for i in range(40)])
_DOMAINS: dict[str, tuple[Domain, tuple[int, ...]]] = {
    "vector": (Box(-1, 3), (16,)),
    "image": (Box(0, 1, levels=256), (1, 8, 8)),
    "binary": (Binary(), (40,)),
    "mixed": (_MIXED, (_MIXED.width,)),
    "text": (_TEXTS, (_TEXTS.width,)),
    "memory": (Box(0, 1), (1, 8, 8)),
}


def case(name: str, *, members: int = 16, nonmembers: int = 16, seed: int = 0) -> PlantedCase:
    """Make a case: ``"vector"`` (Box), ``"image"`` (8-bit), ``"binary"``, ``"mixed"``, ``"text"`` or ``"memory"``.

    All but the last are half-spaces (of a text's words: sums of weights). Of many random inputs the farthest from the
    boundary become members, the nearest non-members. One member in eight and one non-member in four carry a wrong
    label. ``"memory"`` gives random images their labels within a radius: a large one for members, a small one for
    non-members.
    """
    domain, shape = _DOMAINS[name]
    generator = torch.Generator().manual_seed(seed)
    n = members + nonmembers
    pool = _pool(domain, shape, max(256, 8 * n), generator)
    member = torch.arange(n) < members
    if name == "memory":
        x, shadow = pool[:n], pool[n:]
        labels = torch.arange(n) % 2
        radius = torch.where(member, 0.8, 0.25) * (1 + torch.rand(n, generator=generator)) * 2
        decide: Decide = Memory(x, labels, radius.to(torch.float64), default=2)
        classes = 3
    else:
        decide, classes = _half_space(pool, domain, shape), 2
        order = decide.distance(pool).argsort()
        x = torch.cat([pool[order[-members:]], pool[order[:nonmembers]]])
        shadow = pool[order[nonmembers:-members]]
    y = decide(x)
    wrong = torch.where(member, torch.arange(n) % 8 == 3, torch.arange(n) % 4 == 1)
    y = torch.where(wrong, (y + 1) % classes, y)
    return PlantedCase(name, decide, Candidates(x, y, domain, classes), member, shadow[:128].clone())


def remembered(name: str, *, members: int = 16, nonmembers: int = 16, seed: int = 0) -> PlantedCase:
    """Make a case, ``name`` as for :func:`case` but not ``"memory"``, whose leak is memory and nothing else.

    All candidates are random inputs near the plane of a half-space, which models that never saw them can learn. Within
    half the typical distance of two candidates around a member, but not as far as a non-member, the target gives the
    member's label; a quarter of those labels are wrong by the plane. One member in eight is not remembered and has a
    wrong label, as one non-member in four has. So an attack that compares the target with reference models finds
    members here, and not by distance alone.
    """
    domain, shape = _DOMAINS[name]
    generator = torch.Generator().manual_seed(seed)
    n = members + nonmembers
    pool = _pool(domain, shape, max(256, 8 * n), generator)
    rule = _half_space(pool, domain, shape)
    order = rule.distance(pool).argsort()
    taken = torch.zeros(n, dtype=torch.bool)
    taken[torch.linspace(0, n - 1, members).round().to(torch.int64)] = True  # members and others by turns
    x = pool[torch.cat([order[:n][taken], order[:n][~taken]])]
    member = torch.arange(n) < members
    place = torch.arange(n)
    forgotten = place % 8 == 3
    wrong = torch.where(member, forgotten | (place % 4 == 2), place % 4 == 1)
    y = torch.where(wrong, 1 - rule(x), rule(x))
    kept = (member & ~forgotten).nonzero().reshape(-1)
    words = bool(token_columns(domain, shape).any())
    typical, free = _apart(x.reshape(n, -1).to(torch.float64), kept, ~member, counted=words)
    memory = Memory(x[kept], y[kept], torch.minimum(0.5 * typical, 0.9 * free), default=-1, counted=words)
    others = pool[order[n:]][torch.randperm(len(pool) - n, generator=generator)]
    shadow = others[memory(others) < 0][:128]  # the rest would give the members away
    target = Remembering(memory, rule)
    return PlantedCase(f"remembered {name}", target, Candidates(x, y, domain, 2), member, shadow)


def _pool(domain: Domain, shape: tuple[int, ...], count: int, generator: torch.Generator) -> Tensor:
    """Random inputs; texts, of which short ones would be the same, once each."""
    pool = domain.from_uniform(torch.rand(count, *shape, generator=generator))
    return pool.unique(dim=0) if bool(token_columns(domain, shape).any()) else pool


def _apart(flat: Tensor, some: Tensor, others: Tensor, *, counted: bool) -> tuple[Tensor, Tensor]:
    """Return the median distance of two rows, and each of some rows' distance to the nearest of others."""
    if not counted:
        return torch.pdist(flat).median(), torch.cdist(flat[some], flat[others]).amin(1)
    apart = (flat[:, None] != flat).to(torch.float64).sum(2).sqrt()
    return apart[torch.ones_like(apart).triu(1) > 0].median(), apart[some][:, others].amin(1)


def _half_space(pool: Tensor, domain: Domain, shape: tuple[int, ...]) -> HalfSpace | WordWeights:
    """A plane through the middle of the pool, every column's weight in units of its span.

    The weights of an image rise from the left to the right, so that small moves of the picture change little.
    """
    d = int(torch.tensor(shape).prod())
    vocabulary = domain.groups(shape)[0].vocabulary
    if vocabulary is not None:
        codes = torch.arange(vocabulary.stride)
        own = torch.where(codes % 2 == 0, 1.0, -1.0) * (1 + codes % 3)
        own[[0, -1]] = 0.0
        return WordWeights(own, float(WordWeights(own, 0.0)._excess(pool).median()))
    if len(shape) == 3:
        weights = torch.linspace(-1, 1, shape[-1]).expand(shape).reshape(-1)
    else:
        weights = torch.where(torch.arange(d) % 2 == 0, 1.0, -1.0) * (1 + torch.arange(d) % 3)
    normal = (weights / domain.span(shape).reshape(-1)).to(torch.float64)
    middle = HalfSpace(normal, 0.0)._excess(pool).median()
    return HalfSpace(normal, float(middle))
