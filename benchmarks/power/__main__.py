"""The leaderboard, one command: ``python -m benchmarks.power``; it runs what is missing and writes the page.

    python -m benchmarks.power prepare                        train all targets and references (hours; kept)
    python -m benchmarks.power --only cifar10/0 --attacks guided,gap
    python -m benchmarks.power --robustness                   the adversaries and targets of the second table
    python -m benchmarks.power pairs                          compare again what is kept (every run does at its end)
    python -m benchmarks.power page                           the page alone, from the results

Needs the data files in the folder that LABELLEAKS_DATA names (default ../shared/data). What takes long is kept in the
folder that LABELLEAKS_POWER_CACHE names (default ~/.cache/labelleaks-power).
"""

from __future__ import annotations

import argparse
import time
from itertools import groupby

from benchmarks.power.attacks import ROBUSTNESS, AttackRun, plans
from benchmarks.power.worlds import FINAL, worlds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("run", "prepare", "pairs", "page"), default="run")
    parser.add_argument("--only", help="worlds, as cifar10/0,faces/1 or cifar10")
    parser.add_argument("--attacks", help="attacks, as guided,gap")
    parser.add_argument("--most", type=int, default=10**6, help="only runs with at most so many labels")
    parser.add_argument("--robustness", action="store_true", help="the second table in place of the first")
    parser.add_argument("--again", action="store_true", help="run also what is there")
    parser.add_argument("--final", action="store_true", help=f"also {FINAL}, which nothing was developed on")
    parser.add_argument("--list", action="store_true", help="only say what is missing")
    arguments = parser.parse_args()
    if arguments.what != "page":
        work(arguments)
    if not arguments.list:
        from benchmarks.power.page import write

        write()


def work(arguments: argparse.Namespace) -> None:
    """Prepare or run the chosen worlds."""
    from benchmarks.power import run  # with torch and everything

    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    if arguments.what == "prepare":
        for world in worlds():
            if _chosen(world, arguments.only):
                run.prepare(world, say=say)
        return
    if arguments.what == "pairs":
        for world in worlds():
            if _chosen(world, arguments.only):
                run.pairs(world)
        return
    for world, wanted in chosen(arguments):
        todo = run.missing(world, wanted, again=arguments.again)
        if arguments.list:
            say(f"{world}: {', '.join(plan.key for plan in todo) or 'nothing'}")
        else:
            run.run(world, todo, say=say)


def chosen(arguments: argparse.Namespace) -> list[tuple[str, list[AttackRun]]]:
    """Return the plans of each world that the arguments ask for."""
    if arguments.robustness:
        grouped = groupby(sorted(ROBUSTNESS(), key=lambda pair: pair[0]), key=lambda pair: pair[0])
        everything = [(world, [plan for _, plan in group]) for world, group in grouped]
    else:
        everything = [(world, plans(world)) for world in worlds()]
    names = arguments.attacks.split(",") if arguments.attacks else None
    return [
        (world, [p for p in wanted if (names is None or p.attack in names) and p.budget <= arguments.most])
        for world, wanted in everything
        if _chosen(world, arguments.only) and (arguments.final or not world.startswith(FINAL))
    ]


def _chosen(world: str, only: str | None) -> bool:
    return only is None or any(world == name or world.startswith(f"{name}/") for name in only.split(","))


if __name__ == "__main__":
    main()
