"""Whatever is killed, and whenever: what a ledger acknowledged is in it afterwards, and it verifies.

`COMPLIANCE_KILLS` says how often the slow tests kill (8 if it is not set); `COMPLIANCE_KILLS=100 pytest -m slow
compliance_assets_tests/evidence/test_crashes.py compliance_assets_tests/test_kills.py` is the whole suite.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compliance_assets.evidence.ledger import Ledger, NewEntry
from compliance_assets_tests.evidence.ledger_places import KEY, ORIGIN, Place, cluster, filled, reopened

KILLS = int(os.environ.get("COMPLIANCE_KILLS", "8"))

_WRITER = """
import sys
from pathlib import Path
from compliance_assets.evidence.ledger import Ledger, NewEntry
from compliance_assets.errors import ComplianceError
from compliance_assets_tests.evidence.ledger_places import KEY, subjects_of
place = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
number = int(sys.argv[2])
ledger = Ledger.open(place, KEY.public, KEY)
while True:
    body = f"stage run-{number} credit thing-{number}".encode()
    ledger.append([NewEntry("stage", f"run-{number}", "credit", body, subjects_of(body))])
    print(f"run-{number}", flush=True)
    number += 1
"""


def writer(place: Place, first: int) -> subprocess.Popen[str]:
    """A process that appends for ever and says what was acknowledged."""
    return subprocess.Popen([sys.executable, "-c", _WRITER, str(place), str(first)], text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def said(process: subprocess.Popen[str]) -> set[str]:
    assert process.stdout is not None
    lines = {line.strip() for line in process.stdout if line.endswith("\n")}
    process.stdout.close()
    process.wait()
    return lines


def require_all(place: Place, acknowledged: set[str]) -> None:
    with reopened(place) as reader:
        reader.verify()
        lost = acknowledged - {entry.dedup for entry in reader.entries()}
        assert not lost, f"acknowledged and gone: {sorted(lost)[:5]}"


def killed(place: Place, rounds: int) -> int:
    """Kill a writer in the middle of its work, again and again; how many records it had acknowledged."""
    Ledger.create(place, ORIGIN, KEY).close()
    acknowledged: set[str] = set()
    for number in range(rounds):
        process = writer(place, number * 1_000_000)
        assert process.stdout is not None
        acknowledged.add(process.stdout.readline().strip())
        time.sleep(0.05 + 0.011 * (number % 9))
        process.send_signal(signal.SIGKILL)
        acknowledged |= said(process)
        require_all(place, acknowledged)
    assert len(acknowledged) > rounds
    return len(acknowledged)


@pytest.mark.parametrize("where", ["sqlite", "postgres"])
def test_two_kills_lose_no_acknowledged_record(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    killed(tmp_path / "ledger.db" if where == "sqlite" else request.getfixturevalue("postgres").fresh(), 2)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["sqlite", "postgres"])
def test_many_kills_lose_no_acknowledged_record(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    count = killed(tmp_path / "ledger.db" if where == "sqlite" else request.getfixturevalue("postgres").fresh(), KILLS)
    print(f"{where}: {KILLS} kills, {count} acknowledged, 0 lost")


@pytest.mark.slow
def test_a_killed_server_loses_no_acknowledged_record() -> None:
    """kill -9 to Postgres and all its processes while two writers append; it recovers from its log."""
    crashes = max(2, KILLS // 8)
    acknowledged: set[str] = set()
    with cluster() as server:
        place = server.fresh()
        Ledger.create(place, ORIGIN, KEY).close()
        for number in range(crashes):
            writers = [writer(place, (2 * number + i) * 1_000_000) for i in range(2)]
            for process in writers:
                assert process.stdout is not None
                acknowledged.add(process.stdout.readline().strip())
            time.sleep(0.1 + 0.03 * (number % 5))
            server.crash()
            for process in writers:
                # A writer may meet the server again after it restarted, or end with the refusal that it could not.
                process.send_signal(signal.SIGKILL)
                acknowledged |= said(process)
            require_all(place, acknowledged)
    print(f"postgres: {crashes} server crashes, {len(acknowledged)} acknowledged, 0 lost")


# The disk is full

def big(number: int) -> NewEntry:
    return NewEntry("stage", f"big-{number}", "credit", f"stage big-{number} credit {'x' * 60_000}".encode())


_FILLER = """
import resource, sys
from pathlib import Path
from compliance_assets.errors import ComplianceError
from compliance_assets.evidence.ledger import Ledger, NewEntry
from compliance_assets_tests.evidence.ledger_places import KEY
from compliance_assets_tests.evidence.test_crashes import big
if int(sys.argv[2]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    with Ledger.open(Path(sys.argv[1]), KEY.public, KEY) as ledger:
        for number in range(1000):
            ledger.append([big(number)])
            print(number, flush=True)
except ComplianceError as error:
    print(type(error).__name__, error.rule, error.remedy, sep=" | ")
"""


def filling(path: Path, limit: int) -> tuple[int, str]:
    """Append until there is no room any more; how many were acknowledged, and the refusal."""
    done = subprocess.run([sys.executable, "-c", _FILLER, str(path), str(limit)], text=True, capture_output=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    *numbers, refusal = done.stdout.strip().splitlines()
    assert done.returncode == 0, done.stderr
    return len(numbers), refusal


def test_a_file_that_may_not_grow_any_more_is_said_and_leaves_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    filled(path).close()
    count, refusal = filling(path, 2_000_000)
    assert count > 3 and refusal.startswith("HomeUnusable | ledger file | ") and "room" in refusal
    with Ledger.open(path, KEY.public, KEY) as after:
        assert after.verify().size == 11 + count
        after.append([big(count)])
        assert after.verify().size == 12 + count, "with room again it goes on"


def test_a_full_disk_is_said_and_leaves_what_was_acknowledged(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)), capture_output=True).returncode:
        pytest.skip("a small tmpfs cannot be mounted here; the file-size limit above asks the same")
    try:
        filled(disk / "ledger.db").close()
        count, refusal = filling(disk / "ledger.db", 0)
        assert count > 3 and refusal.startswith("HomeUnusable | ledger file | ") and "room" in refusal
        with Ledger.open(disk / "ledger.db", KEY.public) as after:
            assert after.verify().size == 11 + count
    finally:
        subprocess.run(("umount", str(disk)), check=True)
