"""Flags: what makes a result doubtful, found automatically and said with figures and the mend.

Each flag is one function of the :class:`Evidence`. None asks the target anything, none raises, and equal evidence
gives equal flags. (The form, raised because / meaning / what to do, follows the flags of AutoAttack.)
"""

from __future__ import annotations

from collections.abc import Callable

from labelleaks.auditing.flags import answers, decisions, groups
from labelleaks.auditing.flags.decisions import of_decisions
from labelleaks.auditing.flags.evidence import AttackEvidence, Evidence, Flag, Severity, ShadowEvidence
from labelleaks.auditing.flags.groups import of_shadow
from labelleaks.core import progress

__all__ = [
    "FLAGS",
    "AttackEvidence",
    "Evidence",
    "Flag",
    "Severity",
    "ShadowEvidence",
    "find_flags",
    "of_decisions",
    "of_shadow",
]

FLAGS: tuple[Callable[[Evidence], list[Flag]], ...] = (
    groups.few_rows,
    groups.thin_shadow,
    groups.blind_baseline,
    groups.length_shift,
    groups.shared_rows,
    groups.near_duplicates,
    groups.repeated_rows,
    groups.one_sided_classes,
    answers.constant_labels,
    answers.randomised_labels,
    answers.at_chance,
    answers.members_misread,
    answers.below_chance,
    answers.cheap_attack_wins,
    answers.no_start,
    groups.fpr_out_of_reach,
    answers.audited_threshold,
    decisions.unreachable_threshold,
    decisions.accusing_threshold,
    decisions.one_sided_decision,
    answers.only_the_gap,
    answers.out_of_budget,
)
"""Every check, in the order of a report."""


def find_flags(evidence: Evidence) -> tuple[Flag, ...]:
    """Return the raised flags, the serious first, then in the order of :data:`FLAGS`."""
    found: list[Flag] = []
    for check in FLAGS:
        progress.stage(f"flags: {check.__name__.replace('_', ' ')}")
        found += check(evidence)
    order = {"serious": 0, "warning": 1, "info": 2}
    return tuple(sorted(found, key=lambda flag: order[flag.severity]))
