"""A home that cannot be written, entered or trusted is refused in words, and nothing is half done."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from compliance_assets.pipeline import open_river
from compliance_assets_tests.project import SYSTEM

PR_CAPBSET_DROP = 24
OVERRIDES = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: what lets root ignore permissions


def bound_by_permissions() -> None:
    """In the child, before it becomes the program: root too must keep to what the permissions say."""
    library = ctypes.CDLL(None)
    for capability in OVERRIDES:
        library.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def compliance_as_owner(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    return subprocess.run((sys.executable, "-m", "compliance_assets.cli", *arguments), cwd=root, capture_output=True, text=True, timeout=120,
                          env=environment, preexec_fn=bound_by_permissions)


def test_a_home_that_cannot_be_entered_is_refused_in_words(project: Path) -> None:
    (project / ".compliance").chmod(0o000)
    done = compliance_as_owner(project, "run", SYSTEM)
    (project / ".compliance").chmod(0o700)
    assert done.returncode == 1 and "cannot be entered" in done.stderr and "Traceback" not in done.stderr


def test_a_home_that_can_be_read_but_not_written_is_refused_before_anything_starts(project: Path) -> None:
    home = project / ".compliance"
    with open_river(project, writer=False).archive.ledger as ledger:
        size = ledger.size
    everything = [home, *home.rglob("*")]
    before = {path: path.stat().st_mtime_ns for path in everything if path.is_file()}
    for path in reversed(everything):
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = compliance_as_owner(project, "run", SYSTEM)
    assert done.returncode == 1 and done.stderr.startswith("Refused") and "Traceback" not in done.stderr, done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    for path in everything:
        path.chmod(0o755 if path.is_dir() else 0o644)
    with open_river(project, writer=False).archive.ledger as ledger:
        assert ledger.verify().size == size, "and the ledger verifies as before"


def test_a_ledger_that_is_no_ledger_is_refused(project: Path) -> None:
    for suffix in ("-wal", "-shm"):
        (project / ".compliance" / f"ledger.db{suffix}").unlink(missing_ok=True)
    (project / ".compliance" / "ledger.db").write_bytes(b"not a database at all" * 100)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run((sys.executable, "-m", "compliance_assets.cli", "status"), cwd=project, capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "Refused" in done.stderr
