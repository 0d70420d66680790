"""Every registered plug-in, ours and those of the packages that are installed here, has what it has to have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labelleaks.core import registry
from labelleaks.testing import check_plugin

DOCS = Path(__file__).parents[2] / "docs"
OURS = [plugin for kind in registry.KINDS for plugin in registry.ours(kind)]
ALL = [*OURS, *(plugin for kind in registry.KINDS for plugin in registry.installed(kind))]
PAGES: dict[registry.PluginKind, str] = {
    "attacks": "attacks/{name}.md",
    "targets": "targets.md",
    "domains": "domains.md",
    "datasets": "data.md",
    "thresholds": "thresholds.md",
    "defenses": "defenses.md",
}
"""Where a plug-in of ours is described: a page of its own, or a section or a row of a table of a shared one."""
SECTIONS = ("Threat model", "Idea", "Algorithm", "Cost", "When it fails", "Source")


@pytest.mark.parametrize("plugin", ALL, ids=str)
def test_a_plugin_has_its_members_and_says_what_it_is(plugin: registry.Plugin) -> None:
    check_plugin(plugin.kind, plugin.name)


def undocumented(docs: Path) -> list[str]:
    """Our plug-ins that have no page, or no place on the page of their kind."""
    missing = []
    for plugin in OURS:
        page = docs / PAGES[plugin.kind].format(name=plugin.name)
        text = page.read_text(encoding="utf-8") if page.is_file() else ""
        named = re.compile(rf"^(#+|\|) .*`{plugin.name}`", re.MULTILINE)  # in a heading, or in a row of a table
        if not (text if plugin.kind == "attacks" else named.search(text)):
            missing.append(f"{plugin}: {page.relative_to(docs.parent)} does not describe it")
    return missing


def test_every_plugin_of_ours_has_a_page() -> None:
    assert undocumented(DOCS) == []


def test_a_missing_page_is_seen(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "targets.md").write_text("# Targets\n\n## `http`\n\n`onnx` in passing\n")
    missing = undocumented(tmp_path / "docs")
    assert "kind of target 'onnx' of labelleaks: docs/targets.md does not describe it" in missing
    assert not any("'http'" in line for line in missing) and any("attack 'gap'" in line for line in missing)


@pytest.mark.parametrize("name", registry.names("attacks"))
def test_the_page_of_an_attack_is_whole(name: str) -> None:
    text = (DOCS / "attacks" / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# `{name}`")
    assert f"| [`{name}`](docs/attacks/{name}.md) |" in (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert [heading for heading in re.findall(r"^## (.*)$", text, re.MULTILINE) if heading in SECTIONS] == list(
        SECTIONS
    )
