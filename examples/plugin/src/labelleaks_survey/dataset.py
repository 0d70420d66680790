"""Survey: 900 questionnaires of 12 answers from people of three kinds, made up by this module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from labelleaks.data import Card, FileSet, ParsedRows, Sizes
from labelleaks_survey.domain import Likert

__all__ = ["CARD"]

_KINDS = ("content", "worried", "undecided")


def _read(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
    """Each kind has a usual answer to each question; a person's are up to two points away from it."""
    draw = np.random.default_rng(12)
    usual = draw.integers(1, 6, (len(_KINDS), 12))
    kind = draw.integers(0, len(_KINDS), 900)
    answers = np.clip(usual[kind] + draw.integers(-2, 3, (900, 12)), 1, 5)
    stated = np.where(draw.random(900) < 0.3, draw.integers(0, len(_KINDS), 900), kind)  # three in ten say anything
    return ParsedRows(answers.astype(np.uint8), stated.astype(np.int64), np.zeros(900, np.uint8), _KINDS)


CARD = Card(
    name="survey",
    title="Survey",
    home="labelleaks-survey",
    cite="made up for this package",
    licence="Apache-2.0",
    rows=(900, 0),
    shape=(12,),
    classes=len(_KINDS),
    sets=(FileSet((), _read),),
    sizes=Sizes((150, 125, 100, 75, 50, 25), 150, "this package"),
    class_names=_KINDS,
    scale=None,
    domain=Likert(5),
)
