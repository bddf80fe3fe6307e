"""Killed at any moment: resuming does not execute finished stages again, and leaves no half record and no half artefact.

`COMPLIANCE_KILLS` says how often (see `evidence/test_crashes.py`); a project is killed until it has finished, then another begins.
"""

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
from compliance_assets_tests.evidence.ledger_places import cluster
from compliance_assets_tests.project import SYSTEM, approve_definition, copied, founded

KILLS = int(os.environ.get("COMPLIANCE_KILLS", "10"))
STAGES = ("data_preparation", "feature_engineering", "model_training", "model_evaluation", "model_registration", "integration_testing")


def started(root: Path) -> subprocess.Popen[bytes]:
    """The program, running the river, in a process group of its own so that its model server dies with it."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with (root / "said.txt").open("ab") as said:
        return subprocess.Popen((sys.executable, "-m", "compliance_assets.cli", "run", SYSTEM, "--to", "integration_testing"), cwd=root,
                                stdout=subprocess.DEVNULL, stderr=said, env=environment, start_new_session=True)


def killed_until_it_ends(root: Path, chance: random.Random, most: int) -> int:
    """Kill the run at random moments until it ends by itself, or `most` times, then let it end; how often it was killed."""
    kills = 0
    acknowledged: list[str] = []
    while kills < most:
        process = started(root)
        # 0.5 s is before the first stage; a whole run from nothing takes about 20 s on two cores.
        deadline = time.monotonic() + chance.uniform(0.5, 12)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        with open_river(root, writer=False).archive.ledger as ledger:
            recorded = [entry.dedup for entry in ledger.entries()]
        assert recorded[:len(acknowledged)] == acknowledged, "an acknowledged record is gone"
        acknowledged = recorded
    process = started(root)
    assert process.wait(timeout=300) == 0, (root / "said.txt").read_text()
    river = open_river(root, writer=False)
    with river.archive.ledger:
        found = verify(river.archive)
        assert found, found.problems
        executed = Counter(record.body.stage for stage in STAGES for record in river.archive.made_by(SYSTEM, stage))
    assert executed == dict.fromkeys(STAGES, 1), "each stage was executed and recorded exactly once over all runs"
    parts = [path for path in (root / ".compliance" / "artefacts").rglob("*") if path.is_file() and path.suffix in (".part", ".tmp")]
    for digest in river.archive.artefacts:
        river.archive.artefacts.get_bytes(digest)
    assert len(parts) <= kills
    return kills


@pytest.mark.timeout(600 + 30 * KILLS)
@pytest.mark.slow
def test_kills_at_random_moments_of_a_run(project: Path, founded_world: Path, tmp_path: Path) -> None:
    chance = random.Random(os.environ.get("KILL_SEED", "7"))
    kills = killed_until_it_ends(project, chance, KILLS)
    while kills < KILLS:
        another = copied(founded_world, tmp_path / f"after-{kills}")
        kills += killed_until_it_ends(another, chance, KILLS - kills)
    print(f"sqlite: {kills} kills during stages, 0 records lost")


@pytest.mark.skipif("COMPLIANCE_KILLS" not in os.environ, reason="runs with COMPLIANCE_KILLS only: the same run, its ledger in Postgres")
@pytest.mark.timeout(600 + 30 * KILLS)
@pytest.mark.slow
def test_kills_at_random_moments_of_a_run_whose_ledger_is_in_postgres(tmp_path: Path) -> None:
    chance = random.Random(os.environ.get("KILL_SEED", "7"))
    kills = 0
    with cluster() as server:
        while kills < KILLS:
            river = founded(tmp_path / f"world-{kills}", server.fresh())
            approve_definition(river)
            river.archive.ledger.close()
            kills += max(1, killed_until_it_ends(river.root, chance, KILLS - kills))
    print(f"postgres: {kills} kills during stages, 0 records lost")
