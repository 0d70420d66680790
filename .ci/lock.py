"""``make lock``: every version that CI installs, resolved from pyproject.toml's dev extra within constraints.txt.

Nothing is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
MADE = "Made by `make lock` from pyproject.toml and constraints.txt; not edited by hand."
HEAD = f"# Every version that CI installs. {MADE}\n"


def resolved() -> dict[str, str]:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    done = subprocess.run([*command, "-c", "constraints.txt", "-e", ".[dev]"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    report = json.loads(done.stdout[done.stdout.index("{") :])
    packages = [entry["metadata"] for entry in report["install"]]
    return {
        package["name"].lower().replace("_", "-"): package["version"].partition("+")[
            0
        ]  # a build's own mark is the host's
        for package in packages
        if package["name"] != "labelleaks"
    }


def main() -> None:
    lines = [f"{name}=={version}\n" for name, version in sorted(resolved().items())]
    (ROOT / "requirements.lock").write_text(HEAD + "".join(lines))
    sys.stdout.write(f"requirements.lock: {len(lines)} packages\n")


if __name__ == "__main__":
    main()
