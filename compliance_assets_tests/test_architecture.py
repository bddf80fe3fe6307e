"""The layout is the architecture: imports point down, the import graph is the pipeline, the door is cheap."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from compliance_assets.policy.river import RIVER
from compliance_assets.stages import MODULES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "compliance_assets"
HEAVY = ("sklearn", "mlflow", "great_expectations", "dagster", "polars", "pandas", "fairlearn", "scipy", "fastapi", "numpy", "sqlalchemy")


def test_the_stage_modules_are_the_river_in_order() -> None:
    assert [MODULES[rule.name] for rule in RIVER] == sorted(MODULES.values())
    assert [rule.number for rule in RIVER] == list(range(1, 9))


def test_a_stage_imports_only_what_is_upstream() -> None:
    for rule in RIVER:
        text = (PACKAGE / "stages" / f"{MODULES[rule.name]}.py").read_text()
        imported = {int(number) for number in re.findall(r"compliance_assets\.stages\.s(\d)_", text)}
        assert all(number <= rule.number for number in imported), rule.name


def test_every_needed_asset_is_made_further_up() -> None:
    made: set[str] = set()
    for rule in RIVER:
        assert set(rule.needs) <= made, rule.name
        made.add(rule.makes)


@pytest.mark.slow
def test_the_import_rules_hold() -> None:
    done = subprocess.run((str(Path(sys.executable).parent / "lint-imports"), "--no-cache"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", ["compliance_assets", "compliance_assets.cli", "compliance_assets.errors", "compliance_assets.policy.river"])
def test_cheap_modules_load_none_of_the_heavy_libraries(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run((sys.executable, "-c", code), cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_module_opens_with_a_sentence() -> None:
    import ast

    for path in sorted(PACKAGE.rglob("*.py")):
        said = ast.get_docstring(ast.parse(path.read_text()))
        assert (said and said.split("\n")[0].strip().endswith((".", "?", ":", ",", "`"))) or (said and len(said) > 40), path


def test_no_machine_path_or_registry_host_is_in_the_repository() -> None:
    done = subprocess.run(("git", "ls-files"), cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    hosts = re.compile(r"https?://[a-z0-9.-]*(pypi|pythonhosted|npmjs|debian)\.[a-z]+", re.I)
    for name in done.stdout.splitlines():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".yaml", ".toml", ".lock", ".json", "") and path.is_file() and path.name != Path(__file__).name:
            text = path.read_text(errors="replace")
            assert not hosts.search(text), name
