"""Killed at any moment: resuming does not execute finished stages again, and leaves no half record and no half artefact."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from compliance_assets.governance.verification import verify
from compliance_assets.pipeline import open_river
from compliance_assets_tests.project import SYSTEM

KILLS = 10
STAGES = ("data_preparation", "feature_engineering", "model_training", "model_evaluation", "model_registration", "integration_testing")


def started(root: Path) -> subprocess.Popen[bytes]:
    """The program, running the river, in a process group of its own so that its model server dies with it."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with (root / "said.txt").open("ab") as said:
        return subprocess.Popen((sys.executable, "-m", "compliance_assets.cli", "run", SYSTEM, "--to", "integration_testing"), cwd=root,
                                stdout=subprocess.DEVNULL, stderr=said, env=environment, start_new_session=True)


@pytest.mark.slow
def test_ten_kills_at_random_moments_of_a_run(project: Path) -> None:
    chance = random.Random(os.environ.get("KILL_SEED", "7"))
    acknowledged = 0
    for _ in range(KILLS):
        process = started(project)
        # 0.5 s is before the first stage; a whole run from nothing takes about 20 s on two cores.
        deadline = time.monotonic() + chance.uniform(0.5, 12)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        size = open_river(project, writer=False).archive.ledger.size
        assert size >= acknowledged, "an acknowledged record is gone"
        acknowledged = size
    process = started(project)
    assert process.wait(timeout=300) == 0, (project / "said.txt").read_text()
    river = open_river(project, writer=False)
    found = verify(river.archive)
    assert found, found.problems
    executed = Counter(record.body.stage for stage in STAGES for record in river.archive.made_by(SYSTEM, stage))
    assert executed == dict.fromkeys(STAGES, 1), "each stage was executed and recorded exactly once over all runs"
    parts = [path for path in (project / ".compliance" / "artefacts").rglob("*") if path.is_file() and path.suffix in (".part", ".tmp")]
    for digest in river.archive.artefacts:
        river.archive.artefacts.get_bytes(digest)
    assert len(parts) <= KILLS
