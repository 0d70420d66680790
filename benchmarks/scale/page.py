"""The page of the scale benchmark, made of its figures; and the arithmetic of the forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.tables import markdown

__all__ = ["page"]

CANDIDATES, REFERENCES = 10**7, 10**3
CPUS = 256
"""Of the cluster in the forecast."""
PRICE = 0.04
"""Of a CPU for an hour, in US dollars: an assumption, about a list price; put in your own."""
EFFICIENCY = 0.8
"""Of the cluster in the forecast: an assumption. What was measured is two workers of one machine."""


def page(found: Mapping[str, Any]) -> str:
    """Return the page in Markdown; parts that were not measured are left out."""
    parts = [_INTRODUCTION]
    if "efficiency" in found:
        parts.append("## Two workers\n\n" + _efficiency(found["efficiency"]))
    if "candidates" in found:
        parts.append("## Candidates\n\n" + _candidates(found["candidates"]))
    if "references" in found:
        parts.append("## Reference models\n\n" + _references(found["references"]))
    if {"candidates", "references"} <= found.keys():
        parts.append("## On paper: 10⁷ candidates, 10³ reference models\n\n" + _forecast(found))
    return "\n".join(parts)


_INTRODUCTION = """# What it costs to go further

Made by `python -m benchmarks.scale`, from [results.json](results.json): everything but the forecast is measured, on two
cores of a shared machine, one thread a task. Small models on purpose: they show the overhead most.
"""


def _efficiency(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            line["work"],
            f"{line['here']:.1f}",
            f"{line['workers 1']:.1f}",
            f"{line['workers 2']:.1f}",
            f"{line['workers 1'] / line['workers 2'] / 2:.0%}",
        ]
        for line in lines
    ]
    header = ["work", "local, one process, s", "Ray, 1 worker, s", "Ray, 2 workers, s", "efficiency at 2"]
    return markdown(header, rows) + (
        "\nSeconds by the clock, the better of two runs. Efficiency: seconds at one worker / (2 x seconds at two). "
        "Workers had started before; that takes some ten seconds.\n"
    )


def _candidates(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [f"{line['n']:,}", *[f"{line[name]:.2f}" for name in ("gap", "noise", "audit")], f"{line['megabytes']:,}"]
        for line in lines
    ]
    header = ["candidates", "gap, s", "noise, 10 labels, s", "audit with both, s", "memory, MB"]
    return markdown(header, rows) + (
        "\nProcessor seconds of one process, rows of 64 features, an MLP: of `infer` (scores and decisions), and of a "
        "whole audit without a report, statistics and flags included. Memory: what the process grew by at most.\n"
    )


def _references(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            str(line["models"]),
            f"{line['seconds']:.2f}",
            f"{line['seconds'] / line['models']:.2f}",
            f"{line['megabytes']:.1f}",
        ]
        for line in lines
    ]
    return markdown(["models", "seconds", "seconds a model", "weights, MB"], rows) + (
        "\nMLPs, 20 epochs of 1,000 rows; processor seconds of one thread.\n"
    )


def slope(lines: Sequence[Mapping[str, Any]], x: str, y: str) -> float:
    """Return the rise of ``y`` for each more of ``x``, between the last two points."""
    a, b = lines[-2], lines[-1]
    return float((b[y] - a[y]) / (b[x] - a[x]))


def _forecast(found: Mapping[str, Any]) -> str:
    lines, models = found["candidates"], found["references"]
    noise, audit = slope(lines, "n", "noise"), slope(lines, "n", "audit")
    beside = max(audit - noise - slope(lines, "n", "gap"), 0.0)
    training = slope(models, "models", "seconds")
    memory = slope(lines, "n", "megabytes") * CANDIDATES / 1024
    weights = slope(models, "models", "megabytes") * REFERENCES
    shards, train = CANDIDATES * noise / 3600, REFERENCES * training / 3600
    away = (shards + train) / (CPUS * EFFICIENCY)
    here = CANDIDATES * beside / 3600
    money = PRICE * (CPUS * (away + here))
    each = slope(lines, "n", "megabytes") * 1024**2
    slow = REFERENCES * 600 / 3600
    return f"""Arithmetic from the slopes above (the last two points of each table), not a measurement:

* noise: {noise * 1e6:,.0f} µs a candidate, {shards:,.1f} CPU hours for 10⁷ candidates;
* training: {training:.2f} s a model, {train:,.2f} CPU hours for 10³ models; of ten minutes each: {slow:,.0f};
* on {CPUS} CPUs at {EFFICIENCY:.0%} efficiency (an assumption): {away * 60:,.1f} minutes for both;
* statistics and flags, in the one process of the command: {beside * 1e6:,.0f} µs a candidate, {here:,.2f} hours for
  10⁷, if they were linear. The check for near duplicates is not: it grows with members times non-members, and 10⁷
  candidates want it left out or done on a part;
* memory of the command: {memory:,.1f} GB, {each:,.0f} bytes a candidate of 64 features;
* weights of 10³ models of this size: {weights:,.0f} MB in each worker;
* money, at {PRICE:.2f} US dollars a CPU hour (an assumption), all CPUs kept until the end: {money:,.2f} dollars.

An attack that compares with 10³ models asks each of them about each candidate: its CPU hours grow with the product,
which is not in these figures. Nor is a slower target than an MLP: multiply its seconds a row by
11 labels (noise) and 10⁷.
"""
