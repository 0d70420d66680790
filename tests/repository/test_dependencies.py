"""Dependencies: what is locked and installed, whose licence it has, and what runs without any extra."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = {
    canonicalize_name(name): version
    for name, version in (
        line.split("==") for line in (ROOT / "requirements.lock").read_text().split("\n") if line and line[0] != "#"
    )
}


def named() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    found = [Requirement(line) for group in groups for line in group]
    return [requirement for requirement in found if requirement.name != "labelleaks"]


def locked_and_here() -> list[str]:
    installed = {canonicalize_name(d.metadata["Name"]) for d in metadata.distributions()}
    return sorted(installed & set(LOCK))


@pytest.mark.parametrize("requirement", named(), ids=str)
def test_every_dependency_is_locked_within_its_range(requirement: Requirement) -> None:
    assert requirement.specifier.contains(LOCK[canonicalize_name(requirement.name)], prereleases=True), "run make lock"


def test_what_they_need_is_locked_too() -> None:
    here = locked_and_here()
    assert len(here) > 40
    for name in here:
        for line in metadata.requires(name) or []:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert canonicalize_name(need.name) in LOCK, f"{name} needs {need}: run make lock"


def test_torch_is_the_constrained_version() -> None:
    wanted = re.search(r"torch==(\S+)", (ROOT / "constraints.txt").read_text())
    assert wanted is not None and LOCK[canonicalize_name("torch")] == wanted[1]


def test_what_is_installed_fits_together() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    broken = [line for line in done.stdout.splitlines() if any(canonicalize_name(line.split()[0]) == n for n in LOCK)]
    assert done.returncode == 0 or not broken, broken


COPYLEFT = re.compile(r"\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)


@pytest.mark.parametrize("name", locked_and_here())
def test_no_licence_binds_who_uses_it(name: str) -> None:
    held = metadata.metadata(name)
    told = [held.get("License-Expression", ""), *held.get_all("Classifier", [])]
    if not told[0]:
        told.append((held.get("License") or "")[:100])
    licences = [line for line in told if line and ("::" not in line or line.startswith("License"))]
    assert not any(COPYLEFT.search(line) and "Lesser" not in line and "LGPL" not in line for line in licences), licences


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
