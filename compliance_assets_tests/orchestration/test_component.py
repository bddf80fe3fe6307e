"""`dg` knows the component: scaffold, check and list work, and no system is loaded twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compliance_assets_tests.small_lender import write_small_lender

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as somebody has it who declares two small lenders."""
    root = tmp_path_factory.mktemp("cloned")
    shutil.copytree(REPOSITORY / "compliance_assets", root / "compliance_assets", ignore=shutil.ignore_patterns("__pycache__"))
    text = (REPOSITORY / "pyproject.toml").read_text()
    if "defs_module" not in text:
        text = text.replace('[tool.dg.project]\n', '[tool.dg.project]\ndefs_module = "compliance_assets.defs"\n')
    (root / "pyproject.toml").write_text(text)
    for name in ("small_lender", "other_lender"):
        write_small_lender(root, name)
    return root


def said(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(Path(sys.executable).parent / "dg"), *words], cwd=root, text=True, capture_output=True, timeout=180, check=False,
                          env={**os.environ, "COMPLIANCE_ROOT": str(root), "PYTHONPATH": str(root)})


def listed(root: Path) -> list[str]:
    done = said(root, "list", "defs", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    return sorted(asset["asset_key"] for asset in json.loads(done.stdout)["assets"])


def test_a_declared_system_is_found_scaffolded_checked_and_never_doubled(cloned: Path) -> None:
    found = listed(cloned)
    assert len(found) == 18  # two systems, eight stages and a monitor each
    scaffolded = said(cloned, "scaffold", "defs", "compliance_assets.orchestration.ComplianceSystem", "small_lender")
    assert scaffolded.returncode == 0, scaffolded.stderr
    declared = cloned / "compliance_assets" / "defs" / "small_lender" / "defs.yaml"
    assert "declaration: systems/small_lender/system.yaml" in declared.read_text()
    for what in ("yaml", "defs"):
        checked = said(cloned, "check", what)
        assert checked.returncode == 0, checked.stdout[-2000:] + checked.stderr[-2000:]
    assert listed(cloned) == found


def test_a_wrong_key_and_a_wrong_path_are_answered_with_the_place(cloned: Path) -> None:
    folder = cloned / "compliance_assets" / "defs" / "wrong"
    folder.mkdir()
    try:
        path = folder / "defs.yaml"
        path.write_text("type: compliance_assets.orchestration.ComplianceSystem\nattributes:\n  threshold: 0.1\n")
        # By path: of several files of one component type, dg 1.13.27 validates only the last; `dg check defs` reads them all.
        checked = said(cloned, "check", "yaml", str(folder))
        assert checked.returncode != 0 and "defs.yaml:3" in checked.stdout + checked.stderr
        path.write_text("type: compliance_assets.orchestration.ComplianceSystem\nattributes:\n  declaration: systems/nobody/system.yaml\n")
        checked = said(cloned, "check", "defs")
        assert checked.returncode != 0 and "systems/nobody/system.yaml" in checked.stdout + checked.stderr
    finally:
        shutil.rmtree(folder)
