"""Tables and figures of studies for a page, from the committed studies alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from labelleaks import data
from labelleaks.core import serialization
from labelleaks.experiments.figures import stacked
from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.studies import figures, plane
from labelleaks.experiments.studies.base import Interval
from labelleaks.experiments.studies.percentile import balanced_accuracy, f1
from labelleaks.experiments.studies.reading import Study
from labelleaks.experiments.studies.spec import StudyName
from labelleaks.experiments.studies.words import WORDS
from labelleaks.models.checkpoints import check_folder

__all__ = ["sections"]


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
    serialization.write_atomic(path, stacked([figure for _, figure in drawn]), private=False)
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
    "regions": (None, plane.regions),
    "fresh": (_fresh_table, None),
    "memguard": (_memguard_table, None),
}
