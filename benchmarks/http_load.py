"""How close HTTP targets come to what a service allows: ``python -m benchmarks.http_load``.

A loopback server (a process of its own, 20 ms before each answer) is asked without a limit and at 200 requests a
second. Ideal without a limit: rows / (concurrency * batch) * latency. A busy machine makes all of it worse.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time

import torch

from labelleaks.targets import Http, wrap

LATENCY = 0.02
PORT = 18765


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


def _seconds(options: Http, x: torch.Tensor) -> float:
    truth = (x[:, 0].double() * 3).floor().clamp(0, 2).to(torch.int64)
    with wrap(options, numpy=True, classes=3, width=x.shape[1]) as target:
        target(x[: options.batch_rows * options.concurrency])  # connections are open
        began = time.perf_counter()
        answers = target(x)
        taken = time.perf_counter() - began
    assert answers.equal(truth)
    return taken


def _measure() -> None:
    url = f"http://127.0.0.1:{PORT}/v1/models/m:predict"
    x = torch.rand(4096, 16, generator=torch.Generator().manual_seed(0))
    for concurrency, batch in ((2, 32), (4, 32), (8, 32), (8, 8)):
        taken = _seconds(Http(url=url, batch_rows=batch, concurrency=concurrency), x)
        ideal = len(x) / (concurrency * batch) * LATENCY
        print(f"concurrency {concurrency}, batch {batch}: {taken:.3f} s, {taken / ideal:.2f} x ideal")
    for concurrency in (8, 16):
        taken = _seconds(Http(url=url, batch_rows=4, concurrency=concurrency, rate=200.0), x)
        print(f"limit 200/s, concurrency {concurrency}: {1024 / taken:.1f} requests/s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", action="store_true")
    if parser.parse_args().serve:
        asyncio.run(_serve())
        return
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        _measure()
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
