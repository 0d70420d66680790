"""Plug-ins by name: ours, installed packages' and module:object; what is broken breaks itself only."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import labelleaks as ll
from labelleaks import attacks, data
from labelleaks.auditing import thresholds
from labelleaks.cli.spec import AuditSpec
from labelleaks.cli.spec_file import load_spec
from labelleaks.core import registry
from labelleaks.errors import InputError, SpecError
from tests.support import cli

MODULE = '''
"""What the packages of these tests hold."""
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from labelleaks import Box
from labelleaks.attacks import Gap
from labelleaks.data import Card, FileSet, ParsedRows
from labelleaks.auditing.thresholds import FixedFPR
from labelleaks.targets import Classes


@dataclass(frozen=True)
class Mine(Gap):
    """Asks as gap does."""

    strength: int = 1
    name: ClassVar[str] = "mine"


@dataclass(frozen=True)
class Strict(FixedFPR):
    """One in ten."""

    fpr: float = 0.1
    name: ClassVar[str] = "strict"


class Sheet(Box):
    """A box from 0 to ``top``."""

    def __init__(self, top: float):
        super().__init__(0, top)

    def describe(self):
        return {**super().describe(), "kind": "sheet"}


@dataclass
class Stub:
    """Label 1 above ``cut``."""

    cut: float
    classes: Classes = field(default=Classes((0, 1)))
    name = "stub"
    batch_rows = 64

    def __post_init__(self):
        self.fingerprint = f"stub {self.cut}"
        self.open = False

    def describe(self):
        return {"kind": "stub", "name": self.name, "fingerprint": self.fingerprint}

    def __enter__(self):
        self.open = True
        return self

    def __exit__(self, *_):
        self.open = False

    def __call__(self, x):
        assert self.open
        return (x.mean(1) > self.cut).to(torch.int64)


def _read(paths, side):
    x = np.random.default_rng(0).uniform(0, 4, (40, 5)).astype(np.float32)
    return ParsedRows(x, (x.mean(1) > 2).astype(np.int64), np.zeros(40, np.uint8), ("low", "high"))


CARD = Card(
    name="sheets", title="Sheets", home="these tests", cite="none", licence="none", rows=(40, 0), shape=(5,), classes=2,
    sets=(FileSet((), _read),), scale=None, domain=Sheet(4),
)
'''


def install(folder: Path, package: str, entries: Mapping[str, Mapping[str, str]], source: str = MODULE) -> None:
    """Lay down what pip would: a module and its metadata."""
    (folder / f"{package}.py").write_text(source)
    about = folder / f"{package}-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    groups = [
        f"[labelleaks.{kind}]\n" + "".join(f"{name} = {path}\n" for name, path in named.items())
        for kind, named in entries.items()
    ]
    (about / "entry_points.txt").write_text("\n".join(groups))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def package(site: Path) -> Path:
    install(
        site,
        "sheetpack",
        {
            "attacks": {"mine": "sheetpack:Mine [extra]"},
            "thresholds": {"strict": "sheetpack:Strict"},
            "domains": {"sheet": "sheetpack:Sheet"},
            "targets": {"stub": "sheetpack:Stub"},
            "datasets": {"sheets": "sheetpack:CARD"},
        },
    )
    return site


def test_every_name_of_ours_can_be_loaded() -> None:
    for kind in registry.KINDS:
        for plugin in registry.ours(kind):
            assert registry.find(kind, plugin.name) == plugin and plugin.load() is registry.load(kind, plugin.path)


def test_what_a_package_registers_has_its_name(package: Path) -> None:
    assert type(attacks.resolve("mine")).__name__ == "Mine" and thresholds.resolve("strict").name == "strict"
    assert "mine" not in attacks.names(), "a ladder does not hang on what else is installed"
    assert data.card("sheets").title == "Sheets"
    rows, labels = data.load("sheets").rows([0, 1])
    assert rows.dtype == torch.float32 and rows.max() > 1 and labels.tolist() in ([0, 0], [0, 1], [1, 0], [1, 1])
    (plugin,) = registry.installed("attacks")
    assert (plugin.name, plugin.package, str(plugin)) == ("mine", "sheetpack 1.2", "attack 'mine' of sheetpack 1.2")


@pytest.mark.parametrize("prefix", ["", "sheetpack:"], ids=["names", "module:object"])
def test_an_audit_by_spec(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.chdir(tmp_path)
    say = {
        "stub": "Stub", "sheet": "Sheet", "mine": "Mine", "strict": "Strict", "sheets": "CARD"
    }  # fmt: skip
    names = {name: f"sheetpack:{thing}" if prefix else name for name, thing in say.items()}
    Path("audit.yaml").write_text(
        f"target: {{kind: '{names['stub']}', cut: 2}}\n"
        f"domain: {{kind: '{names['sheet']}', top: 4}}\n"
        f"data:\n  members: {{dataset: '{names['sheets']}', rows: [0, 10]}}\n"
        f"  nonmembers: {{dataset: '{names['sheets']}', rows: [10, 20]}}\n"
        f"  shadow: {{dataset: '{names['sheets']}', rows: [20, 40]}}\n"
        f"attacks: [{{name: '{names['mine']}', strength: 3}}]\n"
        f"thresholds: [{{name: '{names['strict']}', fpr: 0.2}}]\nout: run\n"
    )
    done = cli("audit", "audit.yaml", "--fail-if", "mine.auc<0.1", "--quiet")
    assert done.exit_code == 0, done.output
    record = ll.load("run")
    assert record.spec["attacks"] == [{"name": "mine", "attack": "mine", "strength": 3}]
    assert record.target["kind"] == "stub" and record.domain["kind"] == "sheet" and record.ids[0] == "sheets-0"
    assert record.spec["thresholds"]["mine"][0] == {"name": "strict", "fpr": 0.2, "n": None}


def test_rows_of_a_data_set_bring_its_domain(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("audit.yaml").write_text(
        "target: {kind: stub, cut: 2}\nattacks: [gap]\nout: run\ndata:\n"
        "  members: {dataset: sheets, rows: [0, 10]}\n  nonmembers: {dataset: sheets, rows: [10, 20]}\n"
    )
    done = cli("audit", "audit.yaml", "--quiet")
    assert done.exit_code == 0, done.output
    assert ll.load("run").domain["kind"] == "sheet"


def test_an_inference_by_spec(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "{dataset: sheets, rows: [%d, %d]}"
    text = (
        "target: {kind: stub, cut: 2}\ndata:\n"
        f"  candidates: {rows % (0, 10)}\n  shadow: {rows % (10, 40)}\n"
        "attack: {name: mine, strength: 2}\nthreshold: {name: strict, fpr: 0.2}\n"
    )
    Path("infer.yaml").write_text(text)
    done = cli("infer", "infer.yaml", "--quiet")
    assert done.exit_code == 0 and "sheets-9,False" in done.output, done.output
    known = text.replace("{name: strict, fpr: 0.2}", f"{{name: hold_out, members: {rows % (10, 20)}, nonmembers: %s}}")
    for nonmembers, says in (
        (rows % (20, 30), "sheets-9,"),
        (
            "{dataset: sheet}",
            "threshold hold_out: nonmembers.dataset: unknown data set 'sheet'; did you mean 'sheets'?",
        ),
        ("{rows: [1, 2]}", "threshold hold_out: nonmembers: give either path (a file) or dataset"),
        ("3", "threshold hold_out: nonmembers: Input should be"),
        (f"{rows % (20, 30)}, n: 3", "threshold hold_out: unknown setting 'n'; known: members, nonmembers"),
    ):
        Path("infer.yaml").write_text(known % nonmembers)
        done = cli("infer", "infer.yaml", "--quiet")
        assert says in done.output and done.exit_code == (0 if says == "sheets-9," else 2), done.output


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("target: {kind: stubb, cut: 2}", "line 1: target.kind: unknown kind of target 'stubb'; did you mean 'stub'?"),
        ("target: 'sheetpack:Stub'", "give the class with its settings as target: {kind: 'sheetpack:Stub', …}"),
        ("target: {kind: stub, cutt: 2}", "target stub: unknown setting 'cutt'; did you mean 'cut'?"),
        ("target: {kind: stub}", "target stub: Stub.__init__() missing 1 required positional argument: 'cut'"),
        ("target: {kind: 'sheetpack:Gap', cut: 2}", "target sheetpack:Gap: unknown setting 'cut'"),
        ("domain: {kind: sheets, top: 4}", "line 2: domain.kind: unknown domain 'sheets'; did you mean 'sheet'?"),
        ("domain: {kind: sheet, top: 0}", "Box: low must be below high"),
        ("domain: {kind: 'sheetpack:Stub', cut: 1}", "domain=Stub is not a whole domain"),
        ("attacks: [mime]", "unknown attack 'mime'; did you mean 'mine'?"),
        ("attacks: [{name: mine, strenght: 1}]", "attack mine: unknown setting 'strenght'; did you mean 'strength'?"),
        ("attacks: ['sheetpack:CARD']", "attack sheetpack:CARD: a class or a function is needed, it is a Card"),
        ("attacks: ['sheetpack:Stub']", "missing 1 required positional argument: 'cut'"),
        ("attacks: ['sheetpack:Nothing']", "'sheetpack:Nothing': sheetpack has no 'Nothing'"),
        ("thresholds: [strickt]", "unknown threshold 'strickt'; did you mean 'strict'?"),
        ("thresholds: ['sheetpack:Mine']", "is not a threshold rule: it lacks fit"),
        ("data: {members: {dataset: sheet, rows: [0, 9]}}", "unknown data set 'sheet'; did you mean 'sheets'?"),
        ("data: {members: {dataset: sheets, rows: [30, 60]}}", "data: rows [30, 60] of sheets: there are 40"),
        ("data: {members: {dataset: sheets, labels: y.npy}}", "labels does not belong to a data set"),
        ("data: {members: {path: a.npz, rows: [0, 1]}}", "rows does not belong to a file"),
        ("data: {members: {label_column: y}}", "give either path (a file) or dataset (a data set's name)"),
    ],
)  # fmt: skip
def test_a_wrong_spec_gets_one_line(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = {
        "target": "target: {kind: stub, cut: 2}",
        "domain": "domain: {kind: sheet, top: 4}",
        "data": "data: {members: {dataset: sheets, rows: [0, 9]}, nonmembers: {dataset: sheets, rows: [9, 20]}}",
        "attacks": "attacks: [mine]",
    }
    key = change.partition(":")[0]
    if key == "data":
        change = change[:-1] + ", nonmembers: {dataset: sheets, rows: [9, 20]}}"
    Path("audit.yaml").write_text("\n".join({**spec, key: change}.values()))
    done = cli("audit", "audit.yaml", "--quiet")
    assert done.exit_code == 2 and says in done.output and done.output.count("\n") == 1, done.output


def test_two_packages_with_one_name_are_both_refused(package: Path) -> None:
    install(package, "rival", {"attacks": {"mine": "rival:Mine", "gap": "rival:Mine"}})
    with pytest.raises(
        InputError,
        match=r"'mine' is registered by rival 1\.2 and by sheetpack 1\.2: say which, rival:Mine or sheetpack:Mine",
    ):
        attacks.resolve("mine")
    with pytest.raises(InputError, match=r"'gap' is registered by labelleaks and by rival 1.2: .*attacks\.gap:Gap or"):
        attacks.resolve("gap")
    assert attacks.resolve("labelleaks.attacks.gap:Gap") == attacks.Gap()
    assert attacks.resolve("sheetpack:Mine").name == "mine"


@pytest.mark.parametrize(("kind", "refused"), [("domain: {kind: box, low: 0, high: 4}", True), ("budget: 3", False)])
def test_a_domain_that_two_claim(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, refused: bool
) -> None:
    install(package, "rival", {"domains": {"box": "rival:Sheet"}})
    monkeypatch.chdir(tmp_path)
    rows = "{members: {dataset: digits, rows: [0, 9]}, nonmembers: {dataset: digits, rows: [9, 20]}}"
    Path("audit.yaml").write_text(
        f"target: {{kind: stub, cut: 2, classes: 10}}\nattacks: [gap]\ndata: {rows}\n{kind}\n"
    )
    done = cli("audit", "audit.yaml", "--quiet")
    assert ("domain 'box' is registered by labelleaks and by rival 1.2" in done.output) is refused, done.output


def test_our_own_kinds_of_targets_have_names_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "data: {members: {dataset: digits, rows: [0, 9]}, nonmembers: {dataset: digits, rows: [9, 20]}}"
    for target, says in (
        ("{kind: onnx, path: none.onnx}", "target 'none.onnx': no such file"),
        (
            "{kind: http, url: 'http://127.0.0.1:1', protocl: v2}",
            "target http: unknown setting 'protocl'; did you mean",
        ),
    ):
        Path("audit.yaml").write_text(f"target: {target}\n{rows}\n")
        done = cli("audit", "audit.yaml")
        assert done.exit_code == 2 and says in done.output, done.output


def test_checking_a_spec_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text("raise AssertionError('imported')")
    path = tmp_path / "audit.yaml"
    path.write_text(
        "target: {kind: 'loud:Target'}\ndomain: {kind: 'loud:Domain'}\ndata: {members: {dataset: 'loud:CARD'}}\n"
        "attacks: ['loud:Attack']\nthresholds: ['loud:Rule']\n"
    )
    spec = load_spec(AuditSpec, path, {})
    assert "loud" not in sys.modules and spec.data.members.dataset == "loud:CARD"


def test_a_name_that_differs_is_refused(site: Path) -> None:
    install(site, "alias", {"attacks": {"other": "alias:Mine"}, "datasets": {"others": "alias:CARD"}})
    with pytest.raises(InputError, match="alias:Mine has the name 'mine', it is to be 'other'"):
        attacks.load("other")
    with pytest.raises(InputError, match="alias:CARD has the name 'sheets', it is to be 'others'"):
        data.card("others")


def test_nobody_takes_the_cache_of_our_own_data_sets(site: Path) -> None:
    install(site, "taker", {}, MODULE.replace('name="sheets"', 'name="mnist"'))
    with pytest.raises(InputError, match="calls itself 'mnist', which is one of labelleaks' own"):
        data.card("taker:CARD")
    assert data.card("labelleaks.data.mnist:MNIST").name == "mnist"


BROKEN = {
    "raises": 'raise RuntimeError("half installed")',
    "leaves": "import sys; sys.exit(0)",
    "lacks": "import a_module_that_nobody_has",
    "syntax": "def",
    "empty": "",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_package_breaks_itself_only(package: Path, how: str) -> None:
    every = {kind: {f"bad_{kind}": "broken:Thing"} for kind in registry.KINDS}
    install(package, "broken", every, BROKEN[how])
    assert cli("--help").exit_code == 0
    assert attacks.resolve("mine").name == "mine" and attacks.resolve("gap").name == "gap"
    for kind in registry.KINDS:
        says = f"'bad_{kind}' of broken 1.2 cannot be used: importing broken:Thing raised"
        with pytest.raises(SpecError, match=says) as caught:
            registry.load(kind, f"bad_{kind}")
        assert "\n" not in str(caught.value)
    listed = cli("attacks")
    assert listed.exit_code == 0 and "importing broken:Thing raised" in " ".join(listed.output.split())
    assert "mine  (needs nothing but the candidates), from sheetpack 1.2" in listed.output
    known = json.loads(cli("attacks", "--json").output)
    assert [entry["name"] for entry in known if "error" in entry] == ["bad_attacks"]
    sets = cli("data", "list")
    assert sets.exit_code == 0 and "sheets" in sets.output and "broken 1.2 cannot be used" in sets.output
    assert "sheets" in cli("data", "describe", "sheets").output


def test_help_reads_no_entry_points(tmp_path: Path) -> None:
    code = (
        "import importlib.metadata as m\n"
        "def read(*a, **k): raise SystemExit('entry points were read')\n"
        "m.entry_points = read\n"
        "from typer.testing import CliRunner\n"
        "from labelleaks.cli import main\n"
        "for words in ([], ['audit'], ['attacks'], ['data']):\n"
        "    assert CliRunner().invoke(main.app, [*words, '--help']).exit_code == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_settings_and_what_they_raise() -> None:
    def make(a: int, *, b: tuple[int, ...] = ()) -> Any:
        if a < 0:
            raise KeyError("below")
        return a, b

    assert registry.configure("thing", make, {"a": 1, "b": [2, 3]}) == (1, (2, 3))
    with pytest.raises(SpecError, match="thing: unknown setting 'c'; there are none"):
        registry.configure("thing", lambda: None, {"c": 1})
    with pytest.raises(SpecError, match="thing: unknown setting 'c'; known: a, b"):
        registry.configure("thing", make, {"c": 1})
    with pytest.raises(SpecError, match="thing: KeyError: 'below'"):
        registry.configure("thing", make, {"a": -1})
    assert registry.configure("thing", lambda **given: given, {"x": 1}) == {"x": 1}
    assert registry.settings_of(make) == (["a", "b"], False)
