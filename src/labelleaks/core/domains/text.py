"""Texts as rows of word codes: a query keeps a word, leaves it out, or has it written another way."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.domains.base import Group, Norm
from labelleaks.core.domains.layout import Word
from labelleaks.errors import InputError

__all__ = ["SPELLINGS", "Spelling", "Text", "Tokens", "Vocabulary"]

Spelling = Literal["lower", "upper", "bare", "spaced"]
"""Another way to write a word: in small letters, in capitals, without punctuation, with one more space behind it."""
SPELLINGS: dict[Spelling, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "bare": lambda word: "".join(c for c in word if c.isalnum() or c.isspace()) or word,
    "spaced": lambda word: word + " " if word[-1:] == " " else word,
}

_MOST_CODES = 1 << 24
"""Whole numbers that float32 tells apart."""
_MOST_PIECES = 1 << 14


@dataclass(frozen=True)
class Text:
    r"""Rows that are texts: the way they are taken apart, and what stands where a word is taken out.

    Args:
        tokens: regular expression of one word, with the white space behind it. What no word matches belongs to the word
            before it (at the beginning of a text, behind it), so that all words side by side are the text, byte for
            byte. ``r"\S+\s*"`` needs spaces between words; ``"."`` or ``r"\w"`` takes single characters.
        pieces: positions of a text at most, 2 to 16,384: in a longer one neighbouring words are merged into so many
            pieces of about equal size, each of which is kept or left out as a whole.
        mask: what is put where a word was taken out, white space included (``"[MASK] "``); None: nothing.

    Raises:
        InputError: an expression that is none or matches nothing but empty strings, or pieces out of range.
    """

    tokens: str = r"\S+\s*"
    pieces: int = 512
    mask: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.tokens, str):
            raise InputError(f"Text: tokens={self.tokens!r}: a regular expression is needed")
        try:
            re.compile(self.tokens)
        except re.error as error:
            raise InputError(f"Text: tokens={self.tokens!r} is no regular expression ({error})") from None
        whole = isinstance(self.pieces, int) and not isinstance(self.pieces, bool)
        if not whole or not 2 <= self.pieces <= _MOST_PIECES:
            raise InputError(f"Text: pieces={self.pieces!r}: a whole number from 2 to {_MOST_PIECES:,} is needed")
        if self.mask is not None and (not isinstance(self.mask, str) or not self.mask):
            raise InputError(f"Text: mask={self.mask!r}: a text is needed, such as '[MASK] ', or None")

    def split(self, text: str) -> list[str]:
        """Return the words of a text, ``pieces`` at most, of which none is empty and which joined are the text."""
        starts = [match.start() for match in re.finditer(self.tokens, text, re.DOTALL) if match.group()]
        ends = [*starts[1:], len(text)]
        words = [text[a:b] for a, b in zip([0, *starts[1:]], ends, strict=True)] if starts else [text] if text else []
        if len(words) <= self.pieces:
            return words
        cuts = np.linspace(0, len(words), self.pieces + 1).round().astype(int).tolist()
        return ["".join(words[a:b]) for a, b in itertools.pairwise(cuts)]

    def learn(self, texts: Iterable[str]) -> Tokens:
        """Return the domain of these texts: their words, and as many positions as the longest of them has."""
        words: set[str] = set()
        width = 1
        for text in texts:
            split = self.split(text)
            words.update(split)
            width = max(width, len(split))
        vocabulary = Vocabulary(tuple(sorted(words)) or ("",), self)
        if vocabulary.high >= _MOST_CODES:
            raise InputError(
                f"texts with {len(words):,} different words (or pieces of long texts): "
                f"{_MOST_CODES // (1 + len(SPELLINGS)) - 2:,} at most can be told apart; give fewer texts, or merge "
                "fewer words into one: a larger pieces= in ll.Text"
            )
        return Tokens(vocabulary, width)

    def describe(self) -> dict[str, Any]:
        """Return the settings as JSON types."""
        return {"tokens": self.tokens, "pieces": self.pieces, **({} if self.mask is None else {"mask": self.mask})}


@dataclass(frozen=True)
class Vocabulary:
    """The different words of a run's texts, and the code of each.

    0 stands for no word. Code i + 1 is ``words[i]``, the next is the mask. A word written another way has the code of
    the word plus a multiple of :attr:`stride`.
    """

    words: tuple[str, ...]
    """Sorted, so that codes do not depend on the order of the texts; at least one."""
    settings: Text

    @property
    def stride(self) -> int:
        """Codes of one spelling: none, the words, the mask."""
        return len(self.words) + 2

    @property
    def high(self) -> int:
        """The largest code."""
        return self.stride * (1 + len(SPELLINGS)) - 1

    @property
    def gone(self) -> int:
        """Code of a word that was taken out."""
        return 0 if self.settings.mask is None else len(self.words) + 1

    @cached_property
    def _strings(self) -> list[str]:
        return ["", *self.words, self.settings.mask or ""]

    @cached_property
    def _codes(self) -> Mapping[str, int]:
        return {word: i + 1 for i, word in enumerate(self.words)}

    @cached_property
    def _sizes(self) -> Tensor:
        return torch.tensor([len(word) for word in self._strings], dtype=torch.float64)

    def encode(self, texts: Sequence[str], width: int) -> NDArray[np.float32]:
        """Return the codes of texts: float32 (n, width), 0 behind the last word.

        Raises:
            InputError: a text with a word that was not learnt, or with more words than ``width``; its row is named.
        """
        codes = np.zeros((len(texts), width), np.float32)
        for row, text in enumerate(texts):
            words = self.settings.split(text)
            if len(words) > width:
                raise InputError(f"row {row} has {len(words)} words, {width} were the most when the texts were read")
            for place, word in enumerate(words):
                code = self._codes.get(word)
                if code is None:
                    raise InputError(f"row {row}: {word!r} was in no text when the texts were read")
                codes[row, place] = code
        return codes

    def decode(self, codes: NDArray[np.float32]) -> list[str]:
        """Return the texts (m) that codes (m, width) stand for: the words that are left, side by side."""
        strings, stride = self._strings, self.stride
        whole = codes.astype(np.int64)
        plain = whole < stride
        if bool(plain.all()):
            return ["".join([strings[code] for code in row]) for row in whole.tolist()]
        ways = [str, *SPELLINGS.values()]
        return ["".join([ways[code // stride](strings[code % stride]) for code in row]) for row in whole.tolist()]

    def spelt(self, codes: Tensor, spelling: Spelling) -> Tensor:
        """Return codes of the same words written another way; a word that has no other way stays."""
        way, offset = SPELLINGS[spelling], self.stride * (1 + list(SPELLINGS).index(spelling))
        flat = codes.detach().cpu().numpy().astype(np.int64)
        there = np.unique(flat[(flat > 0) & (flat <= len(self.words))])
        others = np.array([code for code in there.tolist() if way(self._strings[code]) != self._strings[code]])
        moved = torch.from_numpy(np.isin(flat, others)).to(codes.device)
        return torch.where(moved, codes + offset, codes)

    def characters(self, codes: Tensor) -> Tensor:
        """Return the number of characters of each row of codes (m, width), spellings aside: float64 (m,)."""
        return self._sizes[(codes.cpu().to(torch.int64) % self.stride)].sum(1).to(codes.device)

    def used(self, codes: NDArray[np.float32]) -> dict[str, str]:
        """Return the words that codes stand for, by code as a string."""
        there = np.unique(codes).astype(np.int64).tolist()
        return {str(code): self._strings[code] for code in there if 0 < code < self.stride}

    def digest(self) -> str:
        """Return a hash of everything that decides what a code stands for."""
        digest = hashlib.blake2b(repr(self.settings).encode(), digest_size=16)
        for word in self.words:
            held = word.encode("utf-8", "surrogatepass")
            digest.update(len(held).to_bytes(8, "little") + held)
        return digest.hexdigest()


@dataclass(frozen=True)
class Tokens:
    """Rows of word codes, what :class:`Text` becomes once the texts of a run are known; a part of ``Mixed``, too."""

    vocabulary: Vocabulary
    width: int
    """Positions of a row."""
    low: float = field(default=0.0, init=False)

    @property
    def high(self) -> float:
        """The largest code."""
        return float(self.vocabulary.high)

    @property
    def continuous(self) -> bool:
        return False

    @property
    def layout(self) -> Word | None:
        return "none"

    def bounds(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        return torch.zeros(tuple(shape)), torch.full(tuple(shape), self.high)

    def groups(self, shape: Sequence[int]) -> tuple[Group, ...]:
        return (self.group(slice(0, self.width)),)

    def group(self, columns: slice) -> Group:
        """Return these positions as a group of features."""
        return Group("token", columns, 0.0, self.high, 1.0, vocabulary=self.vocabulary)

    def project(self, x: Tensor) -> Tensor:
        x = torch.round(x).clamp(0.0, self.high)
        plain = torch.remainder(x, self.vocabulary.stride)
        nothing = (plain == 0) | (plain == self.vocabulary.stride - 1)  # no word, and the mask, have one spelling
        x = torch.where(nothing, plain, x)
        return x if self.vocabulary.settings.mask is not None else torch.where(x == self.vocabulary.stride - 1, 0.0, x)

    def check(self, x: Tensor, what: str) -> None:
        if x.dim() != 2 or x.shape[1] != self.width:
            raise InputError(f"{what}: rows of shape {tuple(x.shape[1:])}, but texts have {self.width} positions")
        wrong = (self.project(x) != x).any(1)
        if bool(wrong.any()):
            row = int(wrong.to(torch.int8).argmax())
            raise InputError(
                f"{what}: {int(wrong.sum())} of {len(x)} rows hold codes of no word; the first is row {row}"
            )

    def from_uniform(self, u: Tensor) -> Tensor:
        """Turn uniform draws (n, width) into random texts: words of the vocabulary, 1 to ``width`` of them."""
        words = len(self.vocabulary.words)
        codes = 1 + torch.floor(u * words).clamp_max(words - 1)
        length = 1 + torch.floor(torch.frac(u[:, :1] * 1024) * self.width)
        place = torch.arange(self.width, device=u.device)
        return torch.where(place < length, codes, 0.0)

    def span(self, shape: Sequence[int]) -> Tensor:
        return torch.full(tuple(shape), self.high)

    def diameter(self, shape: Sequence[int], norm: Norm) -> float:
        words = float(self.width)  # each counts one
        return {"l0": words, "l1": words, "l2": math.sqrt(words), "linf": 1.0}[norm]

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "text",
            **self.vocabulary.settings.describe(),
            "words": len(self.vocabulary.words),
            "positions": self.width,
        }

    def __repr__(self) -> str:
        return f"Tokens({len(self.vocabulary.words)} words, {self.width} positions)"
