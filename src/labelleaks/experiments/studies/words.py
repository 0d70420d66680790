"""Title and explanation of each study's section on the page, in the order of the page."""

from __future__ import annotations

from labelleaks.experiments.studies.spec import StudyName

__all__ = ["WORDS"]


def _line(text: str) -> str:
    return " ".join(text.split())


WORDS: dict[StudyName, tuple[str, str]] = {
    "distribution": (
        "Where members and non-members lie",
        _line("""
            What the two attacks see, by side. *Transfer*: the loss of the true label on the shadow model; who gets a
            wrong label from the target counts as a non-member, whatever the loss. *Boundary*: the distance to the
            nearest input with another label that the search has found (for rows of bits the root of the number of
            changed bits); with a wrong label it is 0.
        """),
    ),
    "percentile": (
        "A threshold without members",
        _line("""
            The boundary attack's threshold from random inputs alone: attack them as the candidates were attacked, take
            the percentile t of their distances, call a candidate a member where it lies farther. *FakeData*: the
            authors' images, Gaussian numbers that become bytes (which makes all values alike) and pass through
            RandAugment. Who calls everybody a member has a balanced accuracy of 0.5, and with as many members as
            non-members an F1 of 0.667. The last row of a target is fitted on the candidates themselves, which no
            attacker can do.
        """),
    ),
    "radius": (
        "Certified radius",
        _line("""
            Randomised smoothing (sigma 0.25, alpha 0.001): within its certified radius a candidate keeps its label
            under the smoothed target, which answers what most noisy copies get. 100 copies choose the label, the others
            bound its share. Abstentions and wrong labels count as radius 0. An analysis rather than an attack, at that
            many labels. Under `clean` noisy copies are moved back into the valid range, as a client must; under
            `authors` they are sent as they are.
        """),
    ),
    "regions": (
        "Decision regions",
        _line("""
            Candidates in a plane, by t-SNE of the target's posteriors: an owner's view, no attack sees them. Left as in
            the authors' code, sorted, so that classes are lost and what is left is how sure the target is; right with
            all posteriors in their places. The boundary attack has something to see where members lie inside regions
            and non-members where regions meet.
        """),
    ),
    "fresh": (
        "Self-check: no gap, no signal",
        _line("""
            Non-members against non-members: the same scores cannot tell rows that the target never saw from rows that
            it never saw either. Of twenty such intervals one misses 0.5 by chance. Exchanging the sides gives 1 − AUC.
        """),
    ),
    "memguard": (
        "Self-check: MemGuard",
        _line("""
            MemGuard, idealised (`labelleaks.defenses.MemGuard`): every posterior is changed, no label is. The
            same attack on the same target behind it should give every label-only score bit by bit, and an attack on
            posteriors what the label says.
        """),
    ),
}
