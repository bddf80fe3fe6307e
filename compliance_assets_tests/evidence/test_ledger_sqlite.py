"""A ledger in one SQLite file: what only a file, its triggers and its authorizer can be asked."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from compliance_assets.errors import HomeUnusable, LedgerCorrupt
from compliance_assets.evidence import ledger_sqlite
from compliance_assets.evidence.ledger import Ledger, NewEntry
from compliance_assets_tests.evidence.ledger_places import KEY, ORIGIN, filled, new, reopened, subjects_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with filled(path) as made:
        yield made


def test_a_ledger_is_never_overwritten_and_a_missing_one_is_not_made_by_opening(ledger: Ledger, path: Path) -> None:
    with pytest.raises(HomeUnusable):
        Ledger.create(path, ORIGIN, KEY)
    for missing in (path.parent / "none.db", path.parent / "no folder" / "none.db"):
        with pytest.raises(HomeUnusable):
            Ledger.open(missing, KEY.public)
        assert not missing.exists()
    with pytest.raises(HomeUnusable):
        Ledger.create(path.parent / "no folder" / "new.db", ORIGIN, KEY)
    assert sorted(p.name for p in path.parent.iterdir() if not p.name.startswith(path.name)) == []


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough to be one" * 100])
def test_a_file_that_is_no_ledger_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LedgerCorrupt):
        Ledger.open(path, KEY.public)


def test_another_applications_database_is_refused(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(LedgerCorrupt):
        Ledger.open(path, KEY.public)


def test_it_syncs_fully_and_writes_ahead(ledger: Ledger) -> None:
    raw = sqlite3.connect(ledger.store.path)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()
    database = ledger.store.connection()
    database.set_authorizer(None)
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert database.execute("PRAGMA recursive_triggers").fetchone() == (1,)


def test_a_full_disk_is_said_and_leaves_the_ledger_as_it_was(ledger: Ledger) -> None:
    database = ledger.store.connection()
    database.set_authorizer(None)
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(HomeUnusable, match="full"):
        ledger.append([NewEntry("stage", f"big-{i}", "credit", f"stage big-{i} credit {'x' * 60_000}".encode(),
                                subjects_of(f"stage big-{i} credit {'x' * 60_000}".encode())) for i in range(4)])
    ledger.close()
    assert ledger.verify().size == 11


@pytest.mark.parametrize("statement", [
    "UPDATE entry SET body = x'00'", "DELETE FROM entry", "DROP TABLE entry", "DROP TRIGGER entry_no_update",
    "ALTER TABLE entry RENAME TO e", "ATTACH ':memory:' AS m", "CREATE TABLE t (x)", "PRAGMA synchronous = OFF",
    "CREATE TEMP TRIGGER t BEFORE INSERT ON entry BEGIN SELECT RAISE(IGNORE); END", "VACUUM",
])
def test_this_programs_connections_may_not_even_ask(ledger: Ledger, path: Path, statement: str) -> None:
    with reopened(path) as reader:
        for each in (ledger, reader):
            with pytest.raises(sqlite3.DatabaseError):
                each.store.connection().execute(statement)


@pytest.mark.parametrize("statement", [
    "DROP TRIGGER entry_no_update", "CREATE VIEW v AS SELECT 1", "CREATE TABLE t (x)",
    "CREATE TRIGGER t AFTER INSERT ON entry BEGIN SELECT 1; END",
])
def test_a_ledger_whose_tables_or_triggers_were_changed_is_not_opened(
        ledger: Ledger, path: Path, statement: str) -> None:
    ledger.close()
    raw = sqlite3.connect(path)
    raw.execute(statement)
    raw.close()
    with pytest.raises(LedgerCorrupt, match="tables or triggers"):
        reopened(path)


@pytest.mark.parametrize("offset", [0, 20, 100, 4096, 9000, -1])
def test_overwritten_bytes_of_the_file_are_found_or_harmless(ledger: Ledger, path: Path, offset: int) -> None:
    before = ledger.verify()
    ledger.close()
    content = bytearray(path.read_bytes())
    start = offset % len(content)
    content[start:start + 40] = b"\xa5" * len(content[start:start + 40])
    path.write_bytes(content)
    with contextlib.suppress(LedgerCorrupt, HomeUnusable):
        assert reopened(path).verify() == before


def test_a_restored_backup_is_caught_too(ledger: Ledger, path: Path, tmp_path: Path) -> None:
    ledger.close()
    shutil.copy(path, tmp_path / "backup.db")
    ledger.append([new(11)])
    kept = ledger.head()
    with pytest.raises(LedgerCorrupt, match="beyond"):
        reopened(tmp_path / "backup.db").verify([kept])
    assert ledger.verify([kept]).size == 12


def test_appending_does_not_slow_down_as_the_ledger_grows(path: Path) -> None:
    """The work per append is a few rows: counted in statements that touch the tree, not in seconds."""
    with Ledger.create(path, ORIGIN, KEY) as made:
        for size in (1, 1000):
            made.append([NewEntry("a", f"{size}-{i}", "s", b"x%d" % i) for i in range(size)])
            seen: list[str] = []
            made.store.connection().set_trace_callback(seen.append)
            made.append([NewEntry("a", f"one more {size}", "s", b"y")])
            made.store.connection().set_trace_callback(None)
            assert sum("node" in statement for statement in seen) <= 2 * size.bit_length() + 12




def test_a_large_file_is_read_ahead_through_one_descriptor_that_is_never_closed(
        ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_sqlite, "_AHEAD", 4096)
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(ledger_sqlite.os, "posix_fadvise", lambda _, start, length, __: asked.append((start, length)), raising=False)
    before = set(ledger_sqlite._NEVER_CLOSED)
    for _ in range(2):
        assert reopened(path).verify().size == 11
    assert len(set(ledger_sqlite._NEVER_CLOSED) - before) == 1 and asked == [(0, 4096)] * 2
    # A writer's lock, held while others verify, is still held afterwards.
    with ledger.store.writing():
        assert reopened(path).verify().size == 11
        other = sqlite3.connect(path, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
