"""A ledger in Postgres: what its roles may do, what its triggers refuse to everybody, and what is found out when they are taken away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from compliance_assets.errors import HomeUnusable, LedgerCorrupt, Misused
from compliance_assets.evidence.ledger import Ledger
from compliance_assets.evidence.ledger_postgres import read_address
from compliance_assets.governance.verification import verify
from compliance_assets.pipeline import open_river
from compliance_assets_tests.evidence.ledger_places import KEY, ORIGIN, Cluster, filled, new, raw, reopened
from compliance_assets_tests.project import approve_definition, founded, run_to

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
