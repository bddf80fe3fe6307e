"""A ledger in Postgres: what its roles may do, what its triggers refuse to everybody, and what is found out when they are taken away."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compliance_assets.errors import HomeUnusable, LedgerCorrupt, Misused
from compliance_assets.evidence.ledger import Ledger, NewEntry
from compliance_assets.evidence.ledger_postgres import read_address
from compliance_assets.governance.verification import verify
from compliance_assets.pipeline import open_river
from compliance_assets_tests.evidence.ledger_places import KEY, ORIGIN, Cluster, cluster, filled, new, raw, reopened
from compliance_assets_tests.project import SYSTEM, approve_definition, founded, run_to
from compliance_assets_tests.test_bad_home import compliance_as_owner

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed here (pip install 'compliance-assets[postgres]')")


@pytest.fixture
def place(postgres: Cluster) -> str:
    return postgres.fresh()


@pytest.fixture
def ledger(place: str) -> Iterator[Ledger]:
    with filled(place) as made:
        yield made


CHANGES = ["UPDATE entry SET kind = 'x'", "DELETE FROM entry", "TRUNCATE entry CASCADE", "TRUNCATE node", "DELETE FROM checkpoint",
           "UPDATE subject SET role = 'x'", "DELETE FROM seal", "TRUNCATE seal", "TRUNCATE subject",
           "INSERT INTO entry SELECT * FROM entry WHERE idx = 1 ON CONFLICT (idx) DO UPDATE SET body = 'x', leaf = sha256('\\x0078'::bytea)"]


@pytest.mark.parametrize("statement", CHANGES)
@pytest.mark.parametrize("role", ["writer", "reader"])
def test_neither_role_may_change_anything(ledger: Ledger, place: str, role: str, statement: str) -> None:
    database = raw(place)
    database.execute(f"SET ROLE {read_address(place)[1]}_{role}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.execute(statement)
    database.close()
    assert ledger.verify().size == 11


@pytest.mark.parametrize("statement", CHANGES)
def test_the_triggers_refuse_it_to_the_owner_and_to_a_replica_too(ledger: Ledger, place: str, statement: str) -> None:
    database = raw(place)
    for setting in ("origin", "replica"):
        database.execute(f"SET session_replication_role = {setting}")
        with pytest.raises(psycopg.IntegrityError):
            database.execute(statement)
    database.close()
    assert ledger.verify().size == 11


def test_our_sessions_have_taken_on_their_role_and_a_reader_cannot_insert(ledger: Ledger, place: str) -> None:
    name = read_address(place)[1]
    assert ledger.store.connection().execute("SELECT current_user").fetchone() == (f"{name}_writer",)
    with reopened(place) as reader:
        database = reader.store.connection()
        assert database.execute("SELECT current_user").fetchone() == (f"{name}_reader",)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            database.execute("INSERT INTO seal VALUES ('abc', '')")


def test_a_leaf_that_is_not_its_bodys_is_refused_by_the_table(ledger: Ledger, place: str) -> None:
    database = raw(place)
    with pytest.raises(psycopg.errors.CheckViolation):
        database.execute("INSERT INTO entry VALUES (11, 'k', 'd', 's', 'body', sha256('other'))")
    database.close()


@pytest.mark.parametrize("statement", [
    "ALTER TABLE entry DISABLE TRIGGER no_change", "DROP TRIGGER entry_next ON entry", "ALTER TABLE node ENABLE TRIGGER no_truncate",
    "CREATE OR REPLACE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "GRANT UPDATE (body) ON entry TO PUBLIC", "GRANT TRUNCATE ON node TO PUBLIC", "CREATE TABLE t (x int)",
    "CREATE RULE r AS ON INSERT TO entry DO INSTEAD NOTHING", "ALTER TABLE entry ENABLE ROW LEVEL SECURITY",
    "CREATE TRIGGER t BEFORE INSERT ON entry FOR EACH ROW EXECUTE FUNCTION append_only()", "ALTER TABLE entry DROP CONSTRAINT entry_dedup_key",
    "CREATE VIEW v AS SELECT * FROM entry",
])
def test_a_ledger_whose_tables_triggers_or_grants_were_changed_is_not_opened(ledger: Ledger, place: str, statement: str) -> None:
    database = raw(place)
    database.execute(statement)
    database.close()
    with pytest.raises(LedgerCorrupt, match="not those it was made with"):
        reopened(place)


def test_a_ledger_is_never_overwritten_and_a_missing_one_is_said(ledger: Ledger, place: str, postgres: Cluster) -> None:
    with pytest.raises(HomeUnusable, match="already"):
        Ledger.create(place, ORIGIN, KEY)
    with pytest.raises(HomeUnusable, match="no ledger"):
        Ledger.open(postgres.fresh(), KEY.public)
    with pytest.raises(HomeUnusable, match="cannot be used"):
        Ledger.open("postgresql://nobody@/postgres?host=/nowhere", KEY.public)
    assert ledger.verify().size == 11


def test_an_address_names_the_schema_and_is_shown_without_its_password() -> None:
    address, name, shown = read_address("postgresql://me:secret@db.example:5433/evidence?sslmode=require&ledger=lender")
    assert (address, name) == ("postgresql://me:secret@db.example:5433/evidence?sslmode=require", "lender")
    assert shown == "postgresql://db.example:5433/evidence (lender)"
    with pytest.raises(Misused):
        read_address('postgresql://db/evidence?ledger=a"; DROP TABLE entry; --')


def test_a_session_that_the_server_ended_is_opened_again(ledger: Ledger, place: str) -> None:
    database = raw(place)
    pid = ledger.store.connection().info.backend_pid
    database.execute("SELECT pg_terminate_backend(%s)", (pid,))
    database.close()
    with pytest.raises(HomeUnusable):
        ledger.append([new(11)])
    assert ledger.append([new(11)])[0].index == 11 and ledger.verify().size == 12


def test_a_server_that_does_not_sync_is_not_written_to(ledger: Ledger, place: str) -> None:
    database = raw(place)
    try:
        database.execute("ALTER SYSTEM SET fsync = off")
        database.execute("SELECT pg_reload_conf()")
        while database.execute("SHOW fsync").fetchone() != ("off",):
            pass
        with pytest.raises(HomeUnusable, match="fsync off"), Ledger.open(place, KEY.public, KEY) as writer:
            writer.append([new(11)])
    finally:
        database.execute("ALTER SYSTEM RESET fsync")
        database.execute("SELECT pg_reload_conf()")
        while database.execute("SHOW fsync").fetchone() != ("on",):
            pass
        database.close()


@pytest.mark.slow
def test_a_whole_project_keeps_its_evidence_in_postgres(place: str, tmp_path: Path) -> None:
    river = founded(tmp_path / "world", place)
    approve_definition(river)
    run_to(river, "feature_engineering")
    assert not river.home.ledger.exists() and river.home.ledger_address.stat().st_mode & 0o077 == 0
    verified = verify(open_river(river.root, writer=False).archive)
    assert verified and verified.chains == 2, verified.problems
    river.home.ledger.write_bytes(b"")
    with pytest.raises(HomeUnusable, match="the address of another"):
        open_river(river.root)


# ------------------------------------------------------------------------------------------------ no room, and read-only

def big(number: int) -> NewEntry:
    """60 kB that no database can compress."""
    body = f"stage big-{number} credit {random.Random(number).randbytes(30_000).hex()}".encode()
    return NewEntry("stage", f"big-{number}", "credit", body)


def filled_up(ledger: Ledger) -> tuple[int, HomeUnusable]:
    """Append until there is no room any more; how many were acknowledged, and the refusal."""
    for number in range(2000):
        try:
            ledger.append([big(number)])
        except HomeUnusable as refusal:
            return number, refusal
    raise AssertionError("the disk was never full")


@contextmanager
def small_disk(folder: Path, owner: str | None, megabytes: int) -> Iterator[None]:
    """A real disk of that size at `folder`, or a skip where none can be mounted."""
    if subprocess.run(("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)), capture_output=True).returncode:
        pytest.skip("a small tmpfs cannot be mounted here")
    if owner is not None:
        shutil.chown(folder, owner, owner)
        folder.chmod(0o700)
    try:
        yield
    finally:
        subprocess.run(("umount", "-l", str(folder)), check=True)


@pytest.mark.slow
def test_a_full_disk_under_the_tables_is_said_and_leaves_what_was_acknowledged(postgres: Cluster) -> None:
    """A tablespace of its own fills up; the server runs on, and with room again the ledger goes on."""
    folder = postgres.folder / "small"
    folder.mkdir()
    with small_disk(folder, postgres.user, 4):
        place = postgres.fresh()
        database = raw(f"postgresql://postgres@/postgres?host={postgres.folder}&ledger=public")
        database.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
        filled(place).close()
        database.execute(f"ALTER TABLE {read_address(place)[1]}.entry SET TABLESPACE small")
        with Ledger.open(place, KEY.public, KEY) as ledger:
            count, refusal = filled_up(ledger)
            assert count > 3 and refusal.rule == "ledger room" and "no room left" in refusal.message and "Make room" in refusal.remedy
            assert ledger.verify().size == 11 + count
            database.execute(f"ALTER TABLE {read_address(place)[1]}.entry SET TABLESPACE pg_default")
            ledger.append([big(count)])
            assert ledger.verify().size == 12 + count, "with room again it goes on"
        database.execute(f"DROP SCHEMA {read_address(place)[1]} CASCADE")
        database.execute("DROP TABLESPACE small")
        database.close()


@pytest.mark.slow
def test_a_full_disk_under_the_whole_server_is_said_and_leaves_what_was_acknowledged() -> None:
    """The server itself has no room for its own log and goes down; started again with room, nothing acknowledged is lost."""
    with cluster(small=True) as server:
        place = server.fresh()
        filled(place).close()
        used = sum(path.stat().st_blocks * 512 for path in server.data.rglob("*") if path.is_file()) // 1_000_000
        server.halt()
        disk = server.folder / "disk"
        disk.mkdir()
        with small_disk(disk, server.user, used + 8):
            subprocess.run(("cp", "-a", f"{server.data}/.", str(disk)), check=True)
            disk.chmod(0o700)
            kept, server.data = server.data, disk
            server.start()
            with Ledger.open(place, KEY.public, KEY) as ledger:
                count, refusal = filled_up(ledger)
            assert count > 3 and "room" in refusal.message + refusal.remedy
            subprocess.run(("mount", "-o", f"remount,size={used + 200}m", str(disk)), check=True)
            server.crash()
            with Ledger.open(place, KEY.public, KEY) as after:
                assert after.verify().size in (11 + count, 12 + count), "what was refused may be there, what was acknowledged is"
                after.append([new(99)])
            server.halt()
        server.data = kept
        server.start()


@pytest.mark.slow
def test_a_server_that_can_only_be_read_is_said_and_verifies() -> None:
    """A standby: the ledger can be verified there, and nothing is appended."""
    with cluster() as server:
        place = server.fresh()
        filled(place).close()
        server.halt()
        signal = server.data / "standby.signal"
        signal.touch()
        server.start()
        with Ledger.open(place, KEY.public, KEY) as ledger:
            with pytest.raises(HomeUnusable, match="can only be read") as refusal:
                ledger.append([new(11)])
            assert refusal.value.rule == "ledger is writable" and "primary" in refusal.value.remedy
            assert ledger.verify().size == 11
        server.halt()
        signal.unlink()
        server.start()
        with Ledger.open(place, KEY.public, KEY) as ledger:
            assert ledger.append([new(11)])[0].index == 11 and ledger.verify().size == 12


@pytest.mark.slow
def test_a_read_only_home_beside_a_ledger_in_postgres_is_refused_before_anything_is_appended(place: str, tmp_path: Path) -> None:
    river = founded(tmp_path / "world", place)
    approve_definition(river)
    size, home = river.archive.ledger.size, river.home.path
    everything = [home, *home.rglob("*")]
    for path in reversed(everything):
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = compliance_as_owner(river.root, "run", SYSTEM)
    assert done.returncode == 1 and done.stderr.startswith("Refused") and "Traceback" not in done.stderr, done.stderr
    for path in everything:
        path.chmod(0o755 if path.is_dir() else 0o600)
    after = open_river(river.root, writer=False).archive.ledger
    assert after.size == size and after.verify().size == size
