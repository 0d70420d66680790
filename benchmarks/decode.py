"""What does it cost to turn queries back into the user's own table? Decoding beside a LightGBM target, in turns.

    python -m benchmarks.decode    a minute; needs lightgbm

1,024 queries a call of frames with 20 columns, three in ten features of each query moved; medians over the turns, one
thread each.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.table_targets import people
from benchmarks.tables import environment, markdown, write
from labelleaks.inputs import arrays

ROWS, QUERIES, TURNS = 4000, 1024, 100


def numbers(n: int) -> pd.DataFrame:
    """20 columns of float64."""
    r = np.random.default_rng(0)
    return pd.DataFrame({f"f{j}": r.normal(size=n) for j in range(20)})


def mixed(n: int) -> pd.DataFrame:
    """Ten columns of float64, five of int64, three with missing values, two categories."""
    r = np.random.default_rng(1)
    frame = pd.DataFrame({f"f{j}": r.normal(size=n) for j in range(10)})
    for j in range(5):
        frame[f"i{j}"] = r.integers(0, 1000, n)
    for j in range(3):
        frame[f"m{j}"] = np.where(r.random(n) < 0.1, np.nan, r.normal(size=n))
    for j in range(2):
        frame[f"c{j}"] = pd.Categorical.from_codes(r.integers(0, 8, n), list("abcdefgh"))
    return frame


def census(n: int) -> pd.DataFrame:
    """Nine columns of a census-like table, text as categories, and eleven numbers more."""
    frame, _ = people(n, 2)
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    frame = frame.assign(**{name: frame[name].astype("category") for name in texts})
    return pd.concat([frame, numbers(n).iloc[:, :11]], axis=1)


FRAMES: dict[str, Callable[[int], pd.DataFrame]] = {"numbers": numbers, "mixed": mixed, "census": census}


def measured(frame: pd.DataFrame) -> dict[str, float]:
    """Return milliseconds of decoding and of the target, and their ratio."""
    y: NDArray[np.int64] = (frame["f0"] + frame["f1"] * frame["f2"] > 0).to_numpy().astype(np.int64)
    model = lightgbm.LGBMClassifier(verbose=-1, n_jobs=1).fit(frame, y)
    encoded = arrays.encode([arrays.take((frame, y), "members")])
    x, generator = encoded.x[0], torch.Generator().manual_seed(0)
    order = torch.randperm(len(x), generator=generator)
    moved = torch.rand(x.shape, generator=generator) < 0.3
    queries = encoded.domain.project(torch.where(moved, 1.1 * x[order], x))[:QUERIES]
    times: dict[str, list[float]] = {"decode": [], "target": []}
    for _ in range(TURNS):
        began = time.perf_counter()
        rows: Any = encoded.form.decode(queries)
        between = time.perf_counter()
        model.predict(rows)
        times["decode"].append(between - began)
        times["target"].append(time.perf_counter() - between)
    decode, target = (1000 * median(times[part]) for part in ("decode", "target"))
    return {"decode_ms": decode, "target_ms": target, "ratio": decode / target}


def main() -> None:
    torch.set_num_threads(1)
    frames = {name: measured(make(ROWS)) for name, make in FRAMES.items()}
    rows = [[name, f"{f['decode_ms']:.2f}", f"{f['target_ms']:.2f}", f"{f['ratio']:.0%}"] for name, f in frames.items()]
    page = f"# Decoding of tables beside a LightGBM target\n\n{QUERIES:,} queries a call, 20 columns, 100 trees.\n\n"
    page += markdown(["columns", "decode, ms", "target, ms", "ratio"], rows)
    write("decode", {"environment": environment(), "frames": frames}, page)


if __name__ == "__main__":
    main()
