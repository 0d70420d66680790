"""Runs cases with the labelleaks of one commit, in a process of its own.

``python -m benchmarks.same_bytes.child run FOLDER CASE…`` runs cases in ``FOLDER/CASE``;
``python -m benchmarks.same_bytes.child load OLD FOLDER CASE…`` reads the runs in ``OLD/CASE`` and writes record and
report again into ``FOLDER/CASE``.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

import torch


def run(folder: Path, names: list[str]) -> int:
    """Run cases; return how many failed."""
    from benchmarks.same_bytes.cases import CASES, DONE, KEPT

    failed = 0
    for name in names:
        place = folder / name
        (place / KEPT).mkdir(parents=True, exist_ok=True)
        os.chdir(place)
        began = time.monotonic()
        try:
            CASES[name]()
            DONE.touch()
        except Exception:  # the other cases go on; whatever this one raised is shown whole
            traceback.print_exc()
            failed += 1
        print(f"  {name:<10} {time.monotonic() - began:5.1f} s", flush=True)
    return failed


def load(old: Path, folder: Path, names: list[str]) -> int:
    """Read runs, write them again; return how many failed."""
    import labelleaks as ll

    failed = 0
    for name in names:
        try:
            record = ll.load(old / name)
            record.save(folder / name, overwrite=True)
            ll.write_report(record, folder / name / "report.html")
        except Exception:
            traceback.print_exc()
            failed += 1
    return failed


def main() -> int:
    import labelleaks

    tree = Path(os.environ["SAME_BYTES_TREE"])
    if not Path(labelleaks.__file__).is_relative_to(tree):
        sys.exit(f"labelleaks is imported from {labelleaks.__file__}, not from {tree}")
    torch.set_num_threads(1)
    what, first, *rest = sys.argv[1:]
    if what == "run":
        return run(Path(first), rest)
    return load(Path(first), Path(rest[0]), rest[1:])


if __name__ == "__main__":
    sys.exit(min(main(), 100))
