"""How close HTTP targets come to what a service allows: ``python -m benchmarks.http_load`` (half a minute).

A loopback server (a process of its own, 20 ms before each answer) is asked without a limit and at 200 requests a
second. Ideal without a limit: rows / (concurrency * batch) * latency. What the server itself and the machine allow is
measured in the same run: a bare socket client that sends the same bytes, made before, and reads nothing of the answer.
Of several tries the best one counts: the machine may be shared. ``--tries`` says how many.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # started as a file, for the server

LATENCY = 0.02
PORT = 18765
URL = f"http://127.0.0.1:{PORT}/v1/models/m:predict"
BAR, SHARE = 1.2, 0.95
SHAPES = ((1, 32), (2, 32), (4, 32), (8, 32), (8, 8))
"""(requests at a time, rows in each)"""


async def _handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            rows = json.loads(await reader.readexactly(size))["instances"]
            await asyncio.sleep(LATENCY)
            body = json.dumps({"predictions": [min(2, int(row[0] * 3)) for row in rows]}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _serve() -> None:
    server = await asyncio.start_server(_handle, "127.0.0.1", PORT)
    async with server:
        print("ready", flush=True)
        await server.serve_forever()


async def _bare(bodies: list[bytes], concurrency: int) -> float:
    """Seconds that a client without any work of its own needs."""
    left = iter(bodies)

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for body in left:
            writer.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
        writer.close()

    opened = [await asyncio.open_connection("127.0.0.1", PORT) for _ in range(concurrency)]
    began = time.perf_counter()
    await asyncio.gather(*[connection(*one) for one in opened])
    return time.perf_counter() - began


def _ours(x: torch.Tensor, **options: Any) -> tuple[float, float]:
    """Seconds, and seconds of processor time, of a target."""
    from labelleaks.targets import Http, wrap

    truth = (x[:, 0].double() * 3).floor().clamp(0, 2).to(torch.int64)
    chosen = Http(url=URL, **options)
    with wrap(chosen, numpy=True, classes=3, width=x.shape[1]) as target:
        target(x[: chosen.batch_rows * chosen.concurrency])  # connections are open
        began, worked = time.perf_counter(), time.process_time()
        answers = target(x)
        taken = time.perf_counter() - began, time.process_time() - worked
    assert answers.equal(truth)
    return taken


def without_limit(x: torch.Tensor, tries: int) -> list[dict[str, Any]]:
    found = []
    for concurrency, batch in SHAPES:
        parts = x.split(batch)
        bodies = [json.dumps({"instances": part.tolist()}).encode() for part in parts]
        ideal = len(x) / (concurrency * batch) * LATENCY
        bare, ours = [], []
        for _ in range(tries):
            bare.append(asyncio.run(_bare(bodies, concurrency)))
            ours.append(_ours(x, batch_rows=batch, concurrency=concurrency))
        wall, work = min(ours)
        found.append(
            {
                "concurrency": concurrency,
                "batch": batch,
                "times ideal": round(wall / ideal, 3),
                "all tries": [round(seconds / ideal, 3) for seconds, _ in ours],
                "bare client, times ideal": round(min(bare) / ideal, 3),
                "processor ms a request": round(work / len(parts) * 1e3, 2),
                "labels a second": round(len(x) / wall),
            }
        )
    return found


def with_limit(x: torch.Tensor, tries: int) -> list[dict[str, Any]]:
    found = []
    for concurrency in (8, 16):
        options = {"batch_rows": 4, "concurrency": concurrency, "rate": 200.0}
        rates = [len(x) / 4 / _ours(x, **options)[0] for _ in range(tries)]
        found.append({"concurrency": concurrency, "requests a second": round(max(rates), 1), "limit": 200})
    return found


def _met(result: dict[str, Any]) -> str:
    """In how many settings the bar is met, in words."""
    times = [line["times ideal"] for line in result["without a limit"]]
    return f"met in {sum(one <= BAR for one in times)} of {len(times)} settings"


def page(result: dict[str, Any]) -> str:
    from benchmarks.tables import markdown

    names = ["times ideal", "bare client, times ideal", "processor ms a request", "labels a second"]
    free = [
        [f"{r['concurrency']} x {r['batch']}", *[str(r[name]) for name in names]] for r in result["without a limit"]
    ]
    held = [[str(r["concurrency"]), str(r["requests a second"])] for r in result["limit of 200"]]
    return (
        "# HTTP targets under load\n\n"
        f"A loopback server that takes {LATENCY * 1e3:.0f} ms, in a process of its own; {result['rows']:,} rows of 16\n"
        f"features. Ideal: rows / (concurrency x batch) x latency; bar: {BAR}, {_met(result)}. The bare client sends\n"
        "bytes made before and reads no answer: what server and machine allow. Best of "
        f"{result['tries']} tries, on a shared\nmachine (all of them are in the JSON). Written by "
        "`python -m benchmarks.http_load`.\n\n"
        + markdown(["concurrency x batch", *names], free)
        + f"\nWith a limit of 200 requests a second (bar: {SHARE:.0%} of it):\n\n"
        + markdown(["concurrency", "requests a second"], held)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", action="store_true", help="be the server")
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(_serve())
        return
    from benchmarks.tables import environment, write

    torch.set_num_threads(1)
    x = torch.rand(4096, 16, generator=torch.Generator().manual_seed(0))
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, env=os.environ)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        result = {
            "environment": environment(),
            "rows": len(x),
            "tries": arguments.tries,
            "without a limit": without_limit(x, arguments.tries),
            "limit of 200": with_limit(x, min(arguments.tries, 2)),
        }
    finally:
        server.kill()
        server.wait()
    text = page(result)
    print(text)
    if not arguments.dry:
        write("http_load", result, text)


if __name__ == "__main__":
    main()
