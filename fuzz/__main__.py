"""``python -m fuzz --runs 20000``: each harness under atheris where it is there, else with damaged files by chance.

``make fuzz`` installs atheris (guided by coverage) into an environment of its own. What breaks a promise is left in the
current folder as ``crash-NAME-HASH``, and ``python -m fuzz NAME FILE`` runs it again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

if "--inner" in sys.argv:  # before anything of labelleaks is there
    import atheris

    with atheris.instrument_imports(include=["labelleaks"]):
        from fuzz.harness import HARNESSES, SEEDS, damaged
else:
    from fuzz.harness import HARNESSES, SEEDS, damaged


def by_chance(name: str, runs: int, seed: int) -> None:
    source = random.Random(seed)
    for _ in range(runs):
        content = damaged(name, source)
        try:
            HARNESSES[name](content)
        except BaseException:
            crash = Path(f"crash-{name}-{hashlib.sha256(content).hexdigest()[:12]}")
            crash.write_bytes(content)
            traceback.print_exc()
            sys.exit(f"{name}: a promise is broken by {crash}")


def guided(name: str, runs: int, seed: int) -> None:
    """In this process, which ends with it."""
    import atheris

    with tempfile.TemporaryDirectory() as corpus:
        for i, content in enumerate(SEEDS[name]):
            Path(corpus, str(i)).write_bytes(content)
        harness = HARNESSES[name]
        options = [f"-runs={runs}", f"-seed={seed + 1}", "-timeout=60", f"-artifact_prefix=crash-{name}-", corpus]
        atheris.Setup([sys.argv[0], *options], lambda content: harness(bytes(content)))
        atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=HARNESSES)
    parser.add_argument("file", nargs="?", type=Path, help="run this file alone")
    parser.add_argument("--runs", type=int, default=20_000, help="of each harness")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="by chance, even where atheris is installed")
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.file is not None:
        HARNESSES[arguments.name](arguments.file.read_bytes())
    elif arguments.inner:
        guided(arguments.name, arguments.runs, arguments.seed)
    else:
        for name in [arguments.name] if arguments.name else HARNESSES:
            began = time.perf_counter()
            how = run(name, arguments)
            print(
                f"{name}: {arguments.runs:,} runs {how}, {time.perf_counter() - began:.0f} s, no promise broken",
                flush=True,
            )


def run(name: str, arguments: argparse.Namespace) -> str:
    try:
        if arguments.plain:
            raise ImportError
        import atheris  # noqa: F401
    except ImportError:
        by_chance(name, arguments.runs, arguments.seed)
        return "by chance"
    command = [sys.executable, "-m", "fuzz", name, "--inner", f"--runs={arguments.runs}", f"--seed={arguments.seed}"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if done.returncode != 0:
        sys.exit(f"{name}: a promise is broken\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return "guided by coverage"


if __name__ == "__main__":
    main()
