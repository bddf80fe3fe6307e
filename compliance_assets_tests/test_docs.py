"""Docs are tested: what they show is what the program does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from compliance_assets_tests.test_cli import compliance

ROOT = Path(__file__).resolve().parents[1]


def blocks_under(heading: str) -> list[str]:
    text = (ROOT / "README.md").read_text()
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.S | re.M)
    assert section, heading
    return re.findall(r"```(?:bash)?\n(.*?)```", section.group(1), re.S)


@pytest.mark.parametrize("heading", ["Run it", "Test it"])
def test_the_readme_holds_one_block_of_commands_to_run_and_one_to_test(heading: str) -> None:
    assert len(blocks_under(heading)) == 1


def test_the_readmes_help_is_the_programs(tmp_path: Path) -> None:
    shown = blocks_under("Commands")[0].strip()
    said = compliance("--help", cwd=tmp_path).stdout.strip()
    assert shown == said


def test_every_command_in_the_readme_exists() -> None:
    from compliance_assets.cli import COMMANDS

    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "guide.md").read_text()
    used = set(re.findall(r"(?:^|`)compliance ([a-z-]+)", text, re.M))
    assert used and used <= set(COMMANDS)


def page_of(name: str) -> str:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return str(program.page())


@pytest.mark.parametrize("name", ["articles", "attacks"])
def test_a_page_that_a_program_makes_is_what_the_program_says(name: str) -> None:
    assert (ROOT / "docs" / f"{name}.md").read_text() == page_of(name), f"run: python docs/{name}.py > docs/{name}.md"


def test_enough_attacks_were_tried_and_each_has_a_name_of_its_own() -> None:
    rows = re.findall(r"^\| ([^|]+) \| (\*.+) \| (`.+`) \|$", page_of("attacks"), re.M)
    assert len(rows) >= 40 and len({name for name, *_ in rows}) >= 0.95 * len(rows)


def test_the_list_of_metrics_and_gates_is_what_the_code_measures() -> None:
    spec = importlib.util.spec_from_file_location("metrics_page", ROOT / "docs" / "metrics.py")
    assert spec and spec.loader
    metrics = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(metrics)
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics.page(), "run: python docs/metrics.py > docs/metrics.md"
    without = {line.split("`")[1] for line in metrics.page().splitlines() if "no interval" in line}
    counts = {"duplicate_keys", "split_key_overlap", "split_row_overlap", "group_share_deviation", "smallest_cell", "rows_known_too_late"}
    assert without == counts | {"wasserstein", "brier_reliability"}


def test_no_page_cites_the_act_as_it_no_longer_stands() -> None:
    wrong = re.compile(r"Art(?:icle|\.) ?10\(5\)|Art(?:icle|\.) ?14\(4\)\(f\)|Annex VI\(b\)")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("compliance_assets/**/*.py"), *ROOT.glob("systems/**/*.yaml")]:
        assert not wrong.search(path.read_text()), path


def test_every_linked_file_exists() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("systems/*/README.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} → {target}"


def test_the_lock_has_no_addresses_and_hashes_for_all() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    pinned = re.findall(r"^([a-z0-9._-]+)==", lock, re.M)
    assert len(pinned) > 100 and lock.count("--hash=sha256:") >= len(pinned)


def test_the_yaml_of_the_examples_reads() -> None:
    from compliance_assets.policy.definition import find_systems, load_definition

    found = find_systems(ROOT)
    assert {path.name for path in found} >= {"credit_lending", "adult_income"}
    for folder in found:
        assert yaml.safe_load((folder / "system.yaml").read_text())["system"] == folder.name
        load_definition(folder)
