"""Answers from the look-up table leave nothing out: what somebody removes from it is missed at the next question."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from compliance_assets.errors import LedgerCorrupt, Misused
from compliance_assets.evidence.ledger import Ledger
from compliance_assets.evidence.lookup import Sealing, bucket_of, chained, kind_subject, lookup_rows, root_of, tree_of
from compliance_assets.trust.canonical import Digest, sha256_bytes
from compliance_assets.trust.merkle import EMPTY_ROOT
from compliance_assets_tests.evidence.ledger_places import KEY, Place, edited, filled, new, raw, reopened

THING = sha256_bytes(b"thing-4")
OTHER = sha256_bytes(b"thing-5")


@pytest.fixture(params=["sqlite", "postgres"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return tmp_path / "ledger.db" if request.param == "sqlite" else request.getfixturevalue("postgres").fresh()


@pytest.fixture
def ledger(path: Place) -> Iterator[Ledger]:
    with filled(path) as made:
        yield made


HIDING = {
    "an answer removed": f"DELETE FROM subject WHERE digest = '{THING}'",
    "an answer added": f"INSERT INTO subject VALUES ('p{str(THING)[:4]}', '{THING}', 'output', 7)",
    "an answer moved to another role": f"UPDATE subject SET role = 'input' WHERE digest = '{THING}'",
    "an answer moved to another entry": f"UPDATE subject SET idx = 5 WHERE digest = '{THING}'",
    "a seal removed": f"DELETE FROM seal WHERE path = 'p{str(THING)[:3]}'",
    "a seal changed": f"UPDATE seal SET hashes = zeroblob(512) WHERE path = 'p{str(THING)[:2]}'",
    "the top seal changed": "UPDATE seal SET hashes = zeroblob(512) WHERE path = 'p'",
    "every answer removed, and every seal": ("DELETE FROM subject", "DELETE FROM seal"),
}


@pytest.mark.parametrize("edit", HIDING)
def test_what_was_hidden_is_missed_at_once(ledger: Ledger, path: Place, edit: str) -> None:
    statements = HIDING[edit]
    edited(path, *([statements] if isinstance(statements, str) else statements))
    with reopened(path) as reader:
        with pytest.raises(LedgerCorrupt, match="look-up"):
            reader.by_subject(THING)
        with pytest.raises(LedgerCorrupt):
            reader.verify()
        assert reader.entry(4).index == 4, "the entries themselves can be read"


def test_what_is_in_another_part_of_the_table_can_still_be_asked(ledger: Ledger, path: Place) -> None:
    edited(path, HIDING["an answer removed"])
    with reopened(path) as reader:
        assert [entry.index for entry in reader.by_subject(OTHER)] == [5]


def test_a_kind_cannot_be_hidden_either(ledger: Ledger, path: Place) -> None:
    edited(path, f"DELETE FROM subject WHERE digest = '{kind_subject('approval')}'")
    with reopened(path) as reader, pytest.raises(LedgerCorrupt, match="look-up"):
        reader.by_kind("approval")


def test_an_older_table_put_back_is_missed(ledger: Ledger, path: Place) -> None:
    """Before entry 11 there was no revocation: its rows, its nodes and its seal are put back as they were."""
    database = raw(path)
    older = {table: database.execute(f"SELECT * FROM {table}").fetchall() for table in ("subject", "seal")}
    (seal,) = database.execute("SELECT lookup FROM checkpoint WHERE size = 11").fetchone()
    database.close()
    ledger.append([new(11, "revocation")])
    ledger.close()
    mark = "%s" if isinstance(path, str) else "?"
    edited(path, "DELETE FROM subject", "DELETE FROM seal", "UPDATE checkpoint SET lookup = ?1 WHERE size = 12", values=(seal,))
    database = raw(path)
    for table, columns in (("seal", 2), ("subject", 4)):
        if isinstance(path, str):
            database.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        for (name,) in [] if isinstance(path, str) else database.execute("SELECT name FROM sqlite_master WHERE tbl_name = 'subject' AND type = 'trigger'").fetchall():
            kept = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
            database.execute(f"DROP TRIGGER {name}")
            older.setdefault("triggers", []).append(kept)
        for row in older[table]:
            database.execute(f"INSERT INTO {table} VALUES ({', '.join([mark] * columns)})", row)
    for kept in older["triggers"] if "triggers" in older else []:
        database.execute(kept)
    if isinstance(path, str):
        for table, names in (("seal", ("no_change", "no_truncate")), ("subject", ("no_change", "no_truncate", "subject_new"))):
            for name in names:
                database.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")
    database.close()
    with reopened(path) as reader, pytest.raises(LedgerCorrupt, match="sealed at 11 entries, not at 12"):
        reader.by_kind("revocation")


def test_an_edited_table_is_not_extended_under_a_new_seal(ledger: Ledger, path: Place) -> None:
    ledger.close()
    edited(path, "UPDATE seal SET hashes = zeroblob(512) WHERE path = 'p'")
    with pytest.raises(LedgerCorrupt), Ledger.open(path, KEY.public, KEY) as writer:
        writer.append([new(20)])


def test_a_hidden_answer_stays_missed_after_more_was_appended(ledger: Ledger, path: Place) -> None:
    ledger.close()
    edited(path, HIDING["an answer removed"])
    with reopened(path) as reader, Ledger.open(path, KEY.public, KEY) as writer:
        writer.append([new(number) for number in range(20, 40)])
        with pytest.raises(LedgerCorrupt, match="look-up"):
            reader.by_subject(THING)


def test_the_table_is_built_again_from_the_entries(ledger: Ledger, path: Place) -> None:
    before = ledger.verify()
    ledger.close()
    edited(path, "DELETE FROM subject", "DELETE FROM seal")
    with reopened(path) as reader:
        reader.rebuild_lookup()
        assert [entry.index for entry in reader.by_subject(THING)] == [4] and reader.verify() == before
    ledger.append([new(11)])
    assert ledger.verify().size == 12


def test_it_is_not_built_from_entries_that_were_changed_or_without_knowing_what_they_are_about(ledger: Ledger, path: Place) -> None:
    with Ledger.open(path, KEY.public) as blind, pytest.raises(Misused):
        blind.rebuild_lookup()
    edited(path, "UPDATE entry SET body = ?1 WHERE idx = 4", values=(b"stage run-4 credit thing-9",))
    with reopened(path) as reader, pytest.raises(LedgerCorrupt):
        reader.rebuild_lookup()


def test_digests_are_found_by_their_beginning(ledger: Ledger) -> None:
    assert ledger.beginning_with(str(THING)[:8], ["output"]) == (THING,)
    assert ledger.beginning_with(str(THING)[:8], ["input"]) == () and ledger.beginning_with("0123456789", ["output"]) == ()


def test_adding_in_parts_seals_the_same_table_as_all_at_once() -> None:
    chance = random.Random(7)
    subjects = [(Digest(hashlib.sha256(bytes([chance.randrange(40)])).hexdigest()), chance.choice(["a", "made"])) for _ in range(300)]
    rows = [row for index in range(100) for row in lookup_rows("k", tuple(subjects[3 * index:3 * index + 3]), index)]
    stored: dict[str, bytes] = {}
    for index in range(100):
        sealing = Sealing(stored.get)
        sealing.add([row for row in rows if row[3] == index])
        stored.update(sealing.nodes())
    buckets: dict[str, list[tuple[str, str, str, int]]] = {}
    for row in rows:
        buckets.setdefault(row[0], []).append(row)
    nodes = tree_of({bucket: chained(found) for bucket, found in buckets.items()})
    assert nodes == stored and root_of(nodes.get) == Sealing(stored.get).root
    assert root_of({}.get) == EMPTY_ROOT


def test_a_question_about_one_digest_reads_no_long_list_that_shares_its_digits(ledger: Ledger) -> None:
    assert {bucket_of(THING, role) for role in ("output", "input", "file", "subject:model")} == {f"p{THING[:4]}"}
    assert {bucket_of(THING, role) for role in ("made", "kind", "definition", "environment", "decided:release")} == {f"l{THING[:4]}"}
    with ledger.reading() as (rows, _, _, _):
        assert len(rows.bucket(f"l{kind_subject('stage')[:4]}")) == 10 and rows.bucket(f"p{kind_subject('stage')[:4]}") == []
