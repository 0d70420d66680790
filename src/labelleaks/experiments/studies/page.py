"""Tables and figures of studies for a page, from the committed studies alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from labelleaks import data
from labelleaks.core import serialization
from labelleaks.experiments.figures import panels
from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.spec import StudyName
from labelleaks.experiments.studies import figures
from labelleaks.experiments.studies.base import Interval, Study
from labelleaks.experiments.studies.percentile import balanced_accuracy, f1
from labelleaks.models.checkpoints import check_folder

__all__ = ["WORDS", "sections"]


def sections(studies: Sequence[Study], folder: Path, profile: str) -> Iterator[str]:
    """Yield a section for each kind of study that there is; draw its figures into ``folder``/figures."""
    for name, (title, words) in WORDS.items():
        table, draw = _SHOWN[name]
        mine = [study for study in studies if study.name == name]
        if mine:
            parts = [f"## {title}\n\n{words}\n", "\n".join(table(mine)) + "\n" if table else ""]
            parts += [_figure(name, [(study, draw(study)) for study in mine], folder, profile)] if draw else []
            yield "\n".join(part for part in parts if part)


def _figure(name: str, drawn: Sequence[tuple[Study, str]], folder: Path, profile: str) -> str:
    """One file for a kind of study: what it found of one target below what it found of another."""
    path = check_folder(folder / "figures") / f"{profile}-{name}.svg"
    serialization.write_atomic(path, panels([[figure] for _, figure in drawn]), private=False)
    captions = [f"{study.head['of']} on {figures.title_of(study)}".removeprefix(" on ") for study, _ in drawn]
    return f"![{name}: {'; '.join(captions)}](figures/{path.name})\n"


def _radius_table(studies: Sequence[Study]) -> Iterator[str]:
    yield "| target | candidates | labels each | mean radius: members | non-members | difference | AUC of the radius |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for study in studies:
        head = study.head
        cells = [_world(study), f"{head['n_members']} + {head['n_nonmembers']}", f"{head['labels']:,}"]
        cells += [_cell(figures.mean_radius(study, side)) for side in ("members", "nonmembers")]
        yield _line([*cells, _cell(head["difference"]), _cell(head["auc"])])


def _percentile_table(studies: Sequence[Study]) -> Iterator[str]:
    yield "| target | threshold | random inputs: changed / tried | member iff above | balanced accuracy | F1 |"
    yield "| --- | --- | ---: | ---: | ---: | ---: |"
    for study in studies:
        for kind, about in study.head["inputs"].items():
            rows = [point for point in study.points if point["inputs"] == kind]
            tried = f"{about['changed']} / {about['tried']}"
            if not rows:
                yield _line([_world(study), figures.KINDS[kind][0], tried, "none could be changed", "", ""])
                continue
            by_f1 = max(rows, key=lambda row: f1(figures.called(study, row))["value"])
            for row, words in ((rows[49], "t = 50"), (by_f1, f"t = {by_f1['t']}, the best F1")):
                yield _line([_world(study), f"{figures.KINDS[kind][0]}, {words}", tried, *_scores(study, row)])
        yield _line(
            [_world(study), "best on these candidates (an upper bound)", "", *_scores(study, study.head["best"])]
        )


def _scores(study: Study, row: Row) -> list[str]:
    called = figures.called(study, row)
    return [f"{row['tau']:.3f}", _cell(balanced_accuracy(called)), _cell(f1(called))]


def _fresh_table(studies: Sequence[Study]) -> Iterator[str]:
    yield "| target | scores | non-members | AUC, half against half | holds 0.5 | with sides exchanged, sum |"
    yield "| --- | --- | ---: | ---: | --- | ---: |"
    for study in studies:
        for point in study.points:
            auc = point["auc"]
            inside = "yes" if auc["low"] <= 0.5 <= auc["high"] else "no"
            both = f"{auc['value'] + point['swapped']:.4f}"
            yield _line(
                [_world(study), _attack(study, point), str(study.head["n_nonmembers"]), _cell(auc), inside, both]
            )


def _memguard_table(studies: Sequence[Study]) -> Iterator[str]:
    yield "| target | scores | the same bit by bit | AUC without MemGuard | behind MemGuard |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for study in studies:
        for point in study.points:
            same = f"{point['identical']:,} of {point['scores']:,}"
            yield _line([_world(study), _attack(study, point), same, _cell(point["without"]), _cell(point["behind"])])


def _world(study: Study) -> str:
    dataset, protocol, size, seed = study.world
    return f"{data.card(dataset).title}, {size:,}, {protocol}, seed {seed}"


def _attack(study: Study, point: Row) -> str:
    attack, variant = study.head["of"], point["variant"]
    words = variant if variant.startswith(attack) or not variant else f"{attack}, {variant}"
    return (words or attack).replace("_", " ")


def _cell(interval: Interval) -> str:
    return f"{interval['value']:.3f} ({interval['low']:.3f}–{interval['high']:.3f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


_Table = Callable[[Sequence[Study]], Iterator[str]] | None
_Draw = Callable[[Study], str] | None
_SHOWN: Mapping[StudyName, tuple[_Table, _Draw]] = {
    "distribution": (None, figures.distribution),
    "percentile": (_percentile_table, figures.percentiles),
    "radius": (_radius_table, figures.radii),
    "regions": (None, figures.regions),
    "fresh": (_fresh_table, None),
    "memguard": (_memguard_table, None),
}


def _one_line(text: str) -> str:
    return " ".join(text.split())


WORDS: dict[StudyName, tuple[str, str]] = {
    "distribution": (
        "Where members and non-members lie",
        _one_line("""
            What the two attacks see, by side. *Transfer*: the loss of the true label on the shadow model; who gets a
            wrong label from the target counts as a non-member, whatever the loss. *Boundary*: the distance to the
            nearest input with another label that the search has found (for rows of bits the root of the number of
            changed bits); with a wrong label it is 0.
        """),
    ),
    "percentile": (
        "A threshold without members",
        _one_line("""
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
        _one_line("""
            Randomised smoothing (sigma 0.25, alpha 0.001): within its certified radius a candidate keeps its label
            under the smoothed target, which answers what most noisy copies get. 100 copies choose the label, the others
            bound its share. Abstentions and wrong labels count as radius 0. An analysis rather than an attack, at that
            many labels. Under `clean` noisy copies are moved back into the valid range, as a client must; under
            `authors` they are sent as they are.
        """),
    ),
    "regions": (
        "Decision regions",
        _one_line("""
            Candidates in a plane, by t-SNE of the target's posteriors: an owner's view, no attack sees them. Left as in
            the authors' code, sorted, so that classes are lost and what is left is how sure the target is; right with
            all posteriors in their places. The boundary attack has something to see where members lie inside regions
            and non-members where regions meet.
        """),
    ),
    "fresh": (
        "Self-check: no gap, no signal",
        _one_line("""
            Non-members against non-members: the same scores cannot tell rows that the target never saw from rows that
            it never saw either. Of twenty such intervals one misses 0.5 by chance. Exchanging the sides gives 1 − AUC.
        """),
    ),
    "memguard": (
        "Self-check: MemGuard",
        _one_line("""
            MemGuard, idealised (`labelleaks.defenses.MemGuard`): every posterior is changed, no label is. The
            same attack on the same target behind it should give every label-only score bit by bit, and an attack on
            posteriors what the label says.
        """),
    ),
}
