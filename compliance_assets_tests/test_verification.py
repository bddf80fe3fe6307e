"""What `verify` finds: every edit, removal, reordering and cut of the ledger, every swapped artefact; and it names what it does not cover."""

from __future__ import annotations

import json
import shutil
import sqlite3
from itertools import groupby
from pathlib import Path

import pytest

from compliance_assets.errors import ComplianceError, LedgerCorrupt
from compliance_assets.evidence.lookup import chained, tree_of
from compliance_assets.evidence.provenance import trace
from compliance_assets.governance.verification import verify
from compliance_assets.pipeline import open_river
from compliance_assets.trust.merkle import Checkpoint
from compliance_assets_tests.project import GOVERNANCE, OWNER, SYSTEM, decide, run_to, step


@pytest.fixture(scope="module")
def two_stages(founded_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a dataset and features."""
    root = tmp_path_factory.mktemp("two") / "world"
    shutil.copytree(founded_world, root)
    run_to(open_river(root), "feature_engineering")
    return root


@pytest.fixture
def world(two_stages: Path, tmp_path: Path) -> Path:
    shutil.copytree(two_stages, tmp_path / "w")
    return tmp_path / "w"


def unlocked(root: Path) -> sqlite3.Connection:
    """The ledger file in the hands of somebody who may write it and drops its triggers first."""
    database = sqlite3.connect(root / ".compliance" / "ledger.db", isolation_level=None)
    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        database.execute(f"DROP TRIGGER {name}")
    return database


def triggers(root: Path) -> list[str]:
    database = sqlite3.connect(root / ".compliance" / "ledger.db")
    found = [sql for (sql,) in database.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")]
    database.close()
    return found


def relocked(database: sqlite3.Connection, sql: list[str]) -> None:
    for statement in sql:
        database.execute(statement)
    database.close()


def test_a_home_that_nobody_touched_verifies(world: Path) -> None:
    found = verify(open_river(world, writer=False).archive)
    assert found, found.problems
    assert found.chains == 2 and found.by_kind["stage"] == 2 and found.signatures >= found.entries
    assert found.unreferenced == [] and len(found.not_covered) == 3


@pytest.mark.parametrize("attack", ["changed", "removed", "reordered", "cut", "added"])
def test_a_doctored_ledger_is_refused(world: Path, attack: str) -> None:
    sql = triggers(world)
    database = unlocked(world)
    last = database.execute("SELECT max(idx) FROM entry").fetchone()[0]
    if attack == "changed":
        body = database.execute("SELECT body FROM entry WHERE idx = ?", (last,)).fetchone()[0]
        database.execute("UPDATE entry SET body = ? WHERE idx = ?", (body.replace(b"a", b"b", 1), last))
    elif attack == "removed":
        database.execute("DELETE FROM entry WHERE idx = ?", (last - 1,))
    elif attack == "reordered":
        one, two = (database.execute("SELECT body, leaf FROM entry WHERE idx = ?", (index,)).fetchone() for index in (last - 1, last))
        database.execute("UPDATE entry SET body = ?, leaf = ? WHERE idx = ?", (*two, last - 1))
        database.execute("UPDATE entry SET body = ?, leaf = ? WHERE idx = ?", (*one, last))
    elif attack == "cut":
        database.execute("DELETE FROM entry WHERE idx = ?", (last,))
        database.execute("DELETE FROM subject WHERE idx = ?", (last,))
    else:
        database.execute("INSERT INTO entry SELECT idx + 1, kind, 'ab' || dedup, system, body, leaf FROM entry WHERE idx = ?", (last,))
    relocked(database, sql)
    with pytest.raises((LedgerCorrupt, AssertionError)):
        found = verify(open_river(world, writer=False).archive)
        assert found, found.problems


def test_a_tail_cut_with_its_checkpoint_is_found_by_a_head_kept_elsewhere(world: Path) -> None:
    river = open_river(world, writer=False)
    head = river.archive.ledger.head()
    kept = Checkpoint(head.origin, head.size, head.root)
    river.archive.ledger.close()
    sql = triggers(world)
    database = unlocked(world)
    for table, column in (("entry", "idx"), ("subject", "idx")):
        database.execute(f"DELETE FROM {table} WHERE {column} >= ?", (head.size - 1,))
    database.execute("DELETE FROM checkpoint WHERE size = ?", (head.size,))
    database.execute("DELETE FROM node WHERE ((idx + 1) << level) > ?", (head.size - 1,))
    # The look-up table's seal of that moment is signed too, and its nodes follow from the rows that were left.
    left = database.execute("SELECT bucket, digest, role, idx FROM subject ORDER BY bucket, digest, role, idx").fetchall()
    nodes = tree_of({bucket: chained(found) for bucket, found in groupby(left, key=lambda row: row[0])})
    database.execute("DELETE FROM seal")
    database.executemany("INSERT INTO seal VALUES (?, ?)", nodes.items())
    relocked(database, sql)
    shorter = open_river(world, writer=False)
    assert shorter.archive.ledger.size == head.size - 1
    assert verify(shorter.archive), "nothing inside the file can show it"
    found = verify(open_river(world, writer=False).archive, (kept,))
    assert not found and "cut off" in found.problems[0]


@pytest.mark.slow
def test_a_tail_cut_is_found_by_the_head_inside_an_approval(in_review: Path) -> None:
    river = open_river(in_review)
    earlier = in_review.parent / "earlier.db"
    river.archive.ledger.close()
    shutil.copy(in_review / ".compliance" / "ledger.db", earlier)
    for suffix in ("-wal", "-shm"):
        if (in_review / ".compliance" / f"ledger.db{suffix}").exists():
            shutil.copy(in_review / ".compliance" / f"ledger.db{suffix}", f"{earlier}{suffix}")
    river = open_river(in_review)
    assert step(river, "dataset", run="later").reused
    decide(river, OWNER)
    decide(river, GOVERNANCE)
    arrived = sorted((in_review / ".compliance" / "inbox").glob("*.json"))
    contents = {path.name: path.read_bytes() for path in arrived}
    river.archive.ledger.close()
    for suffix in ("", "-wal", "-shm"):
        (in_review / ".compliance" / f"ledger.db{suffix}").unlink(missing_ok=True)
        if Path(f"{earlier}{suffix}").exists():
            shutil.copy(f"{earlier}{suffix}", in_review / ".compliance" / f"ledger.db{suffix}")
    restored = open_river(in_review)
    for name, content in contents.items():
        (in_review / ".compliance" / "inbox" / name).write_bytes(content)
    with pytest.raises(ComplianceError, match="cut off"):
        step(restored, "approval")


def test_a_swapped_artefact_is_named(world: Path) -> None:
    archive = open_river(world, writer=False).archive
    record = archive.made_by(SYSTEM, "feature_engineering")[-1]
    name, digest = sorted(record.body.files.items())[0]
    path = archive.artefacts.open_path(type(archive.organisation.digest)(digest))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = verify(open_river(world, writer=False).archive)
    assert not found and any(digest[:12] in problem and name in problem for problem in found.problems)


def test_a_trace_goes_down_to_the_raw_source_and_up(world: Path) -> None:
    river = open_river(world, writer=False)
    dataset, features = river.head(SYSTEM, "dataset"), river.head(SYSTEM, "features")
    assert dataset and features
    up = trace(river.archive, features)
    assert [node.what for node in up.upstream] == ["dataset", "features"] and len(up.source) == 64
    down = trace(river.archive, dataset[:10])
    assert [node.what for node in down.downstream] == ["features"]
    by_run = trace(river.archive, "test-run")
    assert {node.what for node in by_run.upstream} == {"dataset", "features"}


def test_a_verification_can_be_read_by_a_machine(world: Path) -> None:
    body = verify(open_river(world, writer=False).archive).as_json()
    assert json.loads(json.dumps(body))["verified"] is True
