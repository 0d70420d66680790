"""How close HTTP targets come to what a service allows: ``python -m benchmarks.http_load`` (a minute).

A loopback server answers each request 20 ms after its last byte came: no earlier (what it took is measured there, and
is in the result), and no later than its process is given a core; reading the rows is part of the 20 ms. It is asked
without a limit and at 200 requests a second. Ideal without a limit: rows / (concurrency * batch) * latency. What server
and machine allow is measured in the same run, by turns with ours: a bare socket client that sends the same bytes, made
before, and reads nothing of the answer. "With the books" is the same through the gate of an audit: every row is billed
to a candidate, marked, and its answer kept in a journal on disk. Of several tries (``--tries``) the best one counts:
the machine may be shared. Where it is busy, ``chrt -f 5 python -m benchmarks.http_load`` keeps other work out of the
figures (server and client go ahead of it); the page then says so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import orjson
import torch

ROOT = Path(__file__).parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # started as a file, for the server

LATENCY = 0.02
PORT = 18765
URL = f"http://127.0.0.1:{PORT}/v1/models/m:predict"
BAR, SHARE = 1.15, 0.95
SHAPES = ((1, 32), (2, 32), (4, 32), (8, 32), (8, 8))
"""(requests at a time, rows in each)"""


class _LoadService(asyncio.Protocol):
    """Answers after :data:`LATENCY`; GET tells how long that took, from the last byte of a request on."""

    taken: list[float] = []  # noqa: RUF012 (of all connections)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.held = transport, b""

    def data_received(self, data: bytes) -> None:
        came = time.perf_counter()
        self.held += data
        head, end, rest = self.held.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if not end or len(rest) < size:
            return
        self.held = b""
        if head.startswith(b"GET"):
            self._answer(orjson.dumps(self.taken))
            self.taken.clear()
            return
        rows = orjson.loads(rest)["instances"]
        body = orjson.dumps({"predictions": [min(2, int(row[0] * 3)) for row in rows]})
        asyncio.get_running_loop().call_later(LATENCY - (time.perf_counter() - came), self._in_time, body, came)

    def _in_time(self, body: bytes, came: float) -> None:
        left = came + LATENCY - time.perf_counter()
        if left > 0:
            asyncio.get_running_loop().call_later(left, self._in_time, body, came)
            return
        self._answer(body)
        self.taken.append(time.perf_counter() - came)

    def _answer(self, body: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_LoadService, "127.0.0.1", PORT)
    async with server:
        print("ready", flush=True)
        await server.serve_forever()


def _to_the_microsecond() -> asyncio.AbstractEventLoop:
    """A loop whose timers are not rounded up to whole milliseconds, as epoll's are."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def _served() -> list[float]:
    """Seconds that the server took for each request since it was asked last."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/") as answer:
        return [float(seconds) for seconds in orjson.loads(answer.read())]


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


def _ours(x: torch.Tensor, *, books: bool = False, **options: Any) -> tuple[float, float]:
    """Seconds, and seconds of processor time, of a target; ``books``: asked through the gate, with a journal."""
    from labelleaks.core.oracle.gate import Gate
    from labelleaks.core.oracle.journal import Journal
    from labelleaks.targets import Http, wrap

    truth = (x[:, 0].double() * 3).floor().clamp(0, 2).to(torch.int64)
    chosen = Http(url=URL, **options)
    with (
        tempfile.TemporaryDirectory() as folder,
        Journal(f"{folder}/j", "t") as journal,
        wrap(chosen, numpy=True, classes=3, width=x.shape[1]) as target,
    ):
        gate = Gate(target, batch_rows=target.batch_rows, journal=journal)
        oracle, owner = gate.oracle("load", accounts=64, budget=None), torch.arange(len(x)) % 64
        target(x[: chosen.batch_rows * chosen.concurrency])  # connections are open
        began, worked = time.perf_counter(), time.process_time()
        answers = oracle.query(x, owner, phase="rows") if books else target(x)
        taken = time.perf_counter() - began, time.process_time() - worked
    assert answers.equal(truth)
    return taken


def without_limit(x: torch.Tensor, tries: int) -> list[dict[str, Any]]:
    found = []
    for concurrency, batch in SHAPES:
        parts = x.split(batch)
        bodies = [json.dumps({"instances": part.tolist()}).encode() for part in parts]
        ideal = len(x) / (concurrency * batch) * LATENCY
        bare, ours, booked = [], [], []
        _served()
        for _ in range(tries):
            bare.append(asyncio.run(_bare(bodies, concurrency)))
            ours.append(_ours(x, batch_rows=batch, concurrency=concurrency))
            booked.append(_ours(x, books=True, batch_rows=batch, concurrency=concurrency)[0])
        served = _served()
        wall, work = min(ours)
        found.append(
            {
                "concurrency": concurrency,
                "batch": batch,
                "times ideal": round(wall / ideal, 3),
                "all tries": [round(seconds / ideal, 3) for seconds, _ in ours],
                "with the books": round(min(booked) / ideal, 3),
                "with the books, all tries": [round(seconds / ideal, 3) for seconds in booked],
                "bare client, times ideal": round(min(bare) / ideal, 3),
                "processor ms a request": round(work / len(parts) * 1e3, 2),
                "labels a second": round(len(x) / wall),
                "server ms, least": round(min(served) * 1e3, 2),
                "server ms, median": round(statistics.median(served) * 1e3, 2),
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


def _is_ahead() -> bool:
    """Whether this process and its server are scheduled before all usual ones."""
    scheduled = getattr(os, "sched_getscheduler", None)
    return scheduled is not None and scheduled(0) in (os.SCHED_FIFO, os.SCHED_RR)


def _met(result: dict[str, Any]) -> str:
    """In how many settings the bar is met, in words."""
    times = [line["times ideal"] for line in result["without a limit"]]
    return f"met in {sum(one <= BAR for one in times)} of {len(times)} settings"


def page(result: dict[str, Any]) -> str:
    from benchmarks.tables import markdown

    names = ["times ideal", "with the books", "bare client, times ideal", "processor ms a request", "labels a second"]
    free = [
        [f"{r['concurrency']} x {r['batch']}", *[str(r[name]) for name in names]] for r in result["without a limit"]
    ]
    held = [[str(r["concurrency"]), str(r["requests a second"])] for r in result["limit of 200"]]
    served = [r["server ms, median"] for r in result["without a limit"]]
    shared = "shared machine"
    if result["ahead of other work"]:
        shared += " whose other work waited meanwhile (`chrt -f 5`)"
    least = min(r["server ms, least"] for r in result["without a limit"])
    return (
        "# HTTP targets under load\n\n"
        f"A loopback server, in a process of its own on the same cores, answers {LATENCY * 1e3:.0f} ms after the last\n"
        f"byte of a request: it never took less than {least} ms, and {min(served)} to {max(served)} ms in the median. "
        f"{result['rows']:,} rows of\n16 features. Ideal: rows / (concurrency x batch) x latency; bar: {BAR}, "
        f"{_met(result)}. The bare\nclient sends bytes made before and reads no answer: what server and machine allow. "
        "With the books:\nthrough the gate of an audit, every row billed and its answer in a journal on disk. Best of "
        f"{result['tries']} tries, by turns,\non a {shared}; all of them are in the JSON. Written by\n"
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
        with asyncio.Runner(loop_factory=_to_the_microsecond) as runner:
            runner.run(_serve())
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
            "ahead of other work": _is_ahead(),
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
