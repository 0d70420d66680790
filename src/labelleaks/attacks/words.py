"""Changes of texts that attacks make: words taken out, written another way, or exchanged with their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from labelleaks.core.domains import Domain, Group, Spelling
from labelleaks.core.types import Candidates
from labelleaks.errors import NeedsError

__all__ = ["Words", "refuse_texts"]


@dataclass(frozen=True, eq=False)
class Words:
    """Token groups of a domain, for flattened rows (n, d). A text of which words are left out keeps one at least."""

    groups: tuple[Group, ...]

    @classmethod
    def of(cls, domain: Domain, shape: Sequence[int]) -> Words | None:
        """Return the positions of texts in rows of ``shape``; None where there are none."""
        groups = tuple(group for group in domain.groups(shape) if group.kind == "token")
        return cls(groups) if groups else None

    def there(self, x: Tensor) -> Tensor:
        """Return where rows have a word: bool (n, d)."""
        found = torch.zeros_like(x, dtype=torch.bool)
        for group in self.groups:
            block = x[:, group.columns]
            found[:, group.columns] = (block != 0) & (block != _gone(group))
        return found

    def without(self, x: Tensor, out: Tensor) -> Tensor:
        """Return rows (n, d) without the words at ``out``, bool (n, d) or (d,); one word stays at least."""
        made, out = x.clone(), out.expand_as(x)
        for group in self.groups:
            block, gone = x[:, group.columns], _gone(group)
            there = (block != 0) & (block != gone)
            taken = out[:, group.columns] & there
            if gone == 0:
                none_left = ~(there & ~taken).any(1)
                first = there & (there.cumsum(1) == 1)
                taken = taken & ~(first & none_left[:, None])
            made[:, group.columns] = torch.where(taken, float(gone), block)
        return made

    def each_left_out(self, x: Tensor) -> Tensor:
        """Return what stands at each position of rows (n, d) where it alone is left out; a text's only word stays."""
        made = x.clone()
        for group in self.groups:
            there = Words((group,)).there(x)[:, group.columns]
            several = (there.sum(1) > 1)[:, None]
            made[:, group.columns] = torch.where(there & several, float(_gone(group)), x[:, group.columns])
        return made

    def characters(self, x: Tensor) -> Tensor:
        """Return the characters of each row's texts: float64 (n,)."""
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for group in self.groups:
            assert group.vocabulary is not None
            total = total + group.vocabulary.characters(x[:, group.columns])
        return total

    def spelt(self, x: Tensor, spelling: Spelling) -> Tensor:
        """Return rows with every word written another way."""
        made = x.clone()
        for group in self.groups:
            assert group.vocabulary is not None
            made[:, group.columns] = group.vocabulary.spelt(x[:, group.columns], spelling)
        return made

    def exchanged(self, x: Tensor, draws: Tensor) -> Tensor:
        """Return rows with one word of each text and its right neighbour exchanged, at a place that ``draws`` decide.

        Args:
            x: (n, d), texts as they were given.
            draws: float32 (n,), uniform. The last word, which has no space behind it, keeps its place, so texts of
                fewer than three words stay as they are.
        """
        made = x.clone()
        rows = torch.arange(len(x), device=x.device)
        for group in self.groups:
            block = made[:, group.columns]
            places = (block != 0).sum(1) - 2
            left = (draws * places.clamp_min(1)).to(torch.int64)
            change = places > 0
            rows_, at = rows[change], left[change]
            first, second = block[rows_, at].clone(), block[rows_, at + 1].clone()
            block[rows_, at], block[rows_, at + 1] = second, first
        return made


def _gone(group: Group) -> int:
    assert group.vocabulary is not None
    return group.vocabulary.gone


def refuse_texts(attack: str, candidates: Candidates, why: str) -> None:
    """Refuse rows with texts, before a label is bought.

    Raises:
        NeedsError: naming the attack, the reason and what to use.
    """
    if Words.of(candidates.domain, candidates.shape) is not None:
        raise NeedsError(f"{attack} is not made for texts: {why}; use guided, boundary or noise")
