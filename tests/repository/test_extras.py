"""Without any extra every command shows its help, and what needs an extra names it in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys

for name in ("aiohttp", "orjson", "jmespath", "onnxruntime", "pandas", "pyarrow", "ray", "onnx"):
    sys.modules[name] = None
from typer.testing import CliRunner
from labelleaks.cli.main import app

for words in ([], *map(str.split, ["audit", "infer", "forecast", "attacks", "report", "probe", "reproduce", "data",
              "data get", "journal", "journal info", "demo"])):
    assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0, words
service, rows = "http://127.0.0.1:1/invocations", ["--members", "m.csv", "--nonmembers", "m.csv"]
for words, extra in (
    (["probe", service, "--shape", "3"], "http"),
    (["audit", "--target", service, *rows], "http"),
    (["audit", "--target", "m.onnx", *rows], "onnx"),
    (["audit", "--target", "json:dumps", "--members", "m.parquet", "--nonmembers", "m.csv"], "tables"),
    (["audit", "--engine", "ray", "--target", "json:dumps", *rows], "ray"),
):
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2 and f"labelleaks[{extra}]" in found.output, (words, found.output)
    assert found.output.count("\\n") == 1, found.output
"""


def test_help_needs_no_extra_and_use_names_it(tmp_path: Path) -> None:
    for name in ("m.csv", "m.parquet"):
        (tmp_path / name).write_text("x,label\n0.1,0\n0.2,1\n")
    (tmp_path / "m.onnx").touch()
    done = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
