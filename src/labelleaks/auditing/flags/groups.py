"""Flags about the candidates: enough of them, drawn alike, distinct."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelleaks.auditing.evaluation import FPRS
from labelleaks.auditing.flags.baseline import LEVEL, blind_auc
from labelleaks.auditing.flags.evidence import Evidence, Flag, ShadowEvidence, interval
from labelleaks.core import rng
from labelleaks.core.domains import token_columns
from labelleaks.core.near_duplicates import nearly_equal, texts_of
from labelleaks.core.types import Candidates
from labelleaks.metrics import auc

_THIN = 5  # shadow rows a class below which a model learns little
_WORDS = 512  # buckets of words that the blind baseline tells apart
_FEW = 100  # rows of a group below which an interval is wider than what one wants to know


def few_rows(e: Evidence) -> list[Flag]:
    """Flag groups too small for a useful interval."""
    members, nonmembers = int(e.member.sum()), int((~e.member).sum())
    if min(members, nonmembers) >= _FEW:
        return []
    return [
        Flag(
            "few_rows",
            "serious" if min(members, nonmembers) < 20 else "warning",
            f"{members} members and {nonmembers} non-members; {_FEW} of each are the least for a useful interval",
            "Intervals are wide: a leak can hide in them, and a large figure may be luck.",
            "Audit more rows; 1,000 of each make a TPR at 1 % FPR readable.",
        )
    ]


def thin_shadow(e: Evidence) -> list[Flag]:
    """Flag shadow rows too few, or too much alike, for models trained on them."""
    return [] if e.shadow is None else list(of_shadow(e.shadow))


def of_shadow(shadow: ShadowEvidence) -> tuple[Flag, ...]:
    """Return the flags of shadow rows alone."""
    reasons = []
    if shadow.rows < _THIN * shadow.classes:
        reasons.append(
            f"{shadow.rows} shadow {'row' if shadow.rows == 1 else 'rows'} for {shadow.classes} classes; {_THIN} for "
            f"each class are the least, {_THIN * shadow.classes}"
        )
    if shadow.labels < 2 <= shadow.classes:
        reasons.append("all shadow rows have one label")
    if not reasons:
        return ()
    hardly = shadow.labels < 2 <= shadow.classes or shadow.rows < 2 * shadow.classes
    return (
        Flag(
            "thin_shadow",
            "serious" if hardly else "warning",
            "; ".join(reasons),
            "Models trained on them know little of the target: attacks and thresholds that compare with such models "
            "understate the leak.",
            "Give more shadow rows of every class, like the training data, or leave those attacks out.",
        ),
    )


def fpr_out_of_reach(e: Evidence) -> list[Flag]:
    """Flag false-positive rates that the number of non-members cannot show."""
    nonmembers = int((~e.member).sum())
    beyond = [fpr for fpr in FPRS if nonmembers < 1 / fpr]
    shaky = [fpr for fpr in FPRS if 1 / fpr <= nonmembers < 10 / fpr]
    if not beyond and not shaky:
        return []
    limits = [f"TPR at {fpr:.1%} FPR cannot be measured (needs {1 / fpr:,.0f})" for fpr in beyond]
    limits += [f"TPR at {fpr:.1%} FPR is unstable (better {10 / fpr:,.0f})" for fpr in shaky]
    return [
        Flag(
            "fpr_out_of_reach",
            "info",
            f"{nonmembers} non-members: {'; '.join(limits)}",
            "The smallest false-positive rate that can be seen is 1 / non-members; near it one row decides.",
            "Add non-members if low false-positive rates matter, and read the intervals, not the points.",
        )
    ]


def blind_baseline(e: Evidence) -> list[Flag]:
    """Flag groups that a classifier tells apart without the target."""
    c = e.candidates
    blind = blind_auc(_features(c), c.y.cpu().numpy(), e.member, c.keys.cpu().numpy(), seed=e.seed)
    if blind.value is None or blind.low is None or blind.low <= 0.5:
        return []
    best = max((a.evaluation.ranking.auc.value or 0.0 for a in e.attacks.values()), default=0.0)
    return [
        Flag(
            "blind_baseline",
            "serious" if blind.value >= min(0.6, best) else "warning",
            f"a classifier that never asks the model tells members from non-members with AUC {interval(blind)} "
            f"(99 % interval); the best attack has {best:.3f}",
            "The two groups differ in themselves (source, time, cleaning, classes), so an attack may see that "
            "difference and not a leak.",
            "Draw both groups from one pool at random; until then read no attack's figure as leakage.",
        )
    ]


def length_shift(e: Evidence) -> list[Flag]:
    """Flag groups whose texts differ in length."""
    c = e.candidates
    if not _has_texts(c) or min(int(e.member.sum()), int((~e.member).sum())) == 0:
        return []
    lengths = np.array([len(text) for text in texts_of(c.x, c.domain)], dtype=np.float64)
    difference = auc(lengths, e.member, level=LEVEL)
    value, low, high = difference.value, difference.low, difference.high
    if value is None or low is None or high is None or low <= 0.5 <= high:
        return []
    medians = [f"{np.median(lengths[side]):,.0f}" for side in (e.member, ~e.member)]
    return [
        Flag(
            "length_shift",
            "serious" if abs(value - 0.5) >= 0.1 else "warning",
            f"texts of members have {medians[0]} characters at the median, those of non-members {medians[1]}; length "
            f"alone tells the groups apart with AUC {interval(difference)} (99 % interval)",
            "A text of more words keeps its label longer while words are left out, member or not.",
            "Draw both groups from one pool at random, or match their lengths.",
        )
    ]


def _has_texts(candidates: Candidates) -> bool:
    return bool(token_columns(candidates.domain, candidates.shape).any())


def _features(candidates: Candidates) -> NDArray[np.float32]:
    """Rows as the blind baseline sees them: of texts the words, hashed, and their number, beside other columns."""
    x = candidates.x.detach().cpu()
    if not _has_texts(candidates):
        return x.numpy()
    from sklearn.feature_extraction.text import HashingVectorizer  # scikit-learn is slow to import

    texts = texts_of(x, candidates.domain)
    words = HashingVectorizer(n_features=_WORDS, alternate_sign=False, norm="l2").transform(texts)
    sizes = np.array([[len(text), len(text.split())] for text in texts], dtype=np.float32)
    rest = x.flatten(1).numpy()[:, ~token_columns(candidates.domain, candidates.shape).numpy()]
    return np.hstack([words.toarray().astype(np.float32), sizes, rest])


def shared_rows(e: Evidence) -> list[Flag]:
    """Flag rows that are both members and non-members."""
    keys = rng.content_keys(e.candidates.x).cpu().numpy()
    inside, outside = keys[e.member], keys[~e.member]
    members, nonmembers = int(np.isin(inside, outside).sum()), int(np.isin(outside, inside).sum())
    if members == 0:
        return []
    return [
        Flag(
            "shared_rows",
            "serious",
            f"{members} members are also among the non-members ({nonmembers} rows there)",
            "The same row cannot be both: every attack is wrong on one of the two, and leakage is understated.",
            "Remove the shared rows from the non-members.",
        )
    ]


def near_duplicates(e: Evidence) -> list[Flag]:
    """Flag non-members that are nearly equal to a member."""
    x, y = e.candidates.x, e.candidates.y
    keys = rng.content_keys(x).cpu().numpy()
    inside = x[np.flatnonzero(e.member)]
    fresh = np.flatnonzero(~e.member & ~np.isin(keys, keys[e.member]))  # equal rows have a flag of their own
    if len(y) == 0 or len(inside) == 0 or len(fresh) == 0:
        return []
    near = int(nearly_equal(x[fresh], inside, e.candidates.domain).sum())
    share = near / len(fresh)
    if near == 0:
        return []
    return [
        Flag(
            "near_duplicates",
            "warning" if share >= 0.01 else "info",
            f"{near} of {len(fresh)} non-members ({share:.1%}) are nearly equal to a member",
            "The model has all but seen them: they behave as members, and leakage is understated.",
            "Remove them from the non-members, or look at them and decide.",
        )
    ]


def repeated_rows(e: Evidence) -> list[Flag]:
    """Flag rows that occur twice in their group."""
    keys = e.candidates.keys.cpu().numpy()
    spare = [int(side.sum()) - len(np.unique(keys[side])) for side in (e.member, ~e.member)]
    if sum(spare) == 0:
        return []
    return [
        Flag(
            "repeated_rows",
            "warning" if sum(spare) > 0.01 * len(keys) else "info",
            f"{spare[0]} members and {spare[1]} non-members repeat another row of their own group",
            "Repeated rows get equal scores: intervals take them for independent and are too narrow.",
            "Audit each distinct row once.",
        )
    ]


def one_sided_classes(e: Evidence) -> list[Flag]:
    """Flag classes that only members, or only non-members, have."""
    y = e.candidates.y.cpu().numpy()
    lone = sorted(set(y[e.member].tolist()) ^ set(y[~e.member].tolist()))
    if not lone or min(int(e.member.sum()), int((~e.member).sum())) == 0:
        return []
    rows = int(np.isin(y, lone).sum())
    names = ", ".join(e.class_name(code) for code in lone[:5]) + (", ..." if len(lone) > 5 else "")
    return [
        Flag(
            "one_sided_classes",
            "warning" if rows >= 0.05 * len(y) else "info",
            f"{len(lone)} classes with {rows} of {len(y)} rows occur among members or non-members only: {names}",
            "Membership can be read off the class: an attack that treats classes differently gains or loses by it.",
            "Draw both groups with the same classes.",
        )
    ]
