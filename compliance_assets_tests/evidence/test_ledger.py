"""What was recorded cannot be changed, removed, reordered or cut off without being found out."""

from __future__ import annotations

import hashlib
import multiprocessing
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compliance_assets.errors import Busy, ConflictingRecord, LedgerCorrupt, Misused, UntrustedEvidence
from compliance_assets.evidence import ledger_store
from compliance_assets.evidence.ledger import LARGEST_BODY, Entry, Ledger, NewEntry
from compliance_assets.trust import merkle
from compliance_assets.trust.canonical import Digest, sha256_bytes
from compliance_assets.trust.keys import SigningKey
from compliance_assets.trust.merkle import Checkpoint, Frontier
from compliance_assets_tests.evidence.ledger_places import (
    KEY,
    ORIGIN,
    REFUSALS,
    Place,
    edited,
    filled,
    held,
    in_postgres,
    new,
    raw,
    reopened,
    spoken,
    subjects_of,
)


@pytest.fixture(params=["sqlite", "postgres"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a ledger may lie: every rule holds in both."""
    return tmp_path / "ledger.db" if request.param == "sqlite" else request.getfixturevalue("postgres").fresh()


@pytest.fixture
def ledger(path: Place) -> Iterator[Ledger]:
    with filled(path) as made:
        yield made


# A healthy ledger

def test_a_healthy_ledger_verifies_and_gives_back_what_was_recorded(ledger: Ledger) -> None:
    assert [entry.body for entry in ledger.entries()] == [new(i, "approval" if i == 9 else "stage",
                                                              "other" if i == 10 else "credit").body for i in range(11)]
    verified = ledger.verify()
    assert (verified.size, verified.checkpoints, verified.root) == (11, 8, ledger.head().root)
    assert verified.columns_checked and verified.subjects_checked
    assert ledger.origin == ORIGIN and ledger.size == 11


def test_entries_are_found_by_what_they_are_about(ledger: Ledger) -> None:
    def indices(entries: tuple[Entry, ...]) -> list[int]:
        return [entry.index for entry in entries]

    thing = sha256_bytes(b"thing-1")
    assert indices(ledger.by_subject(thing)) == [1, 4, 7, 10]
    assert indices(ledger.by_subject(thing, role="output", system="other")) == [10]
    assert indices(ledger.by_subject(thing, role="input")) == []
    assert indices(ledger.by_kind("approval")) == [9] and indices(ledger.by_kind("stage", "other")) == [10]
    assert indices(ledger.tail(3)) == [8, 9, 10] and ledger.tail(0) == () and indices(ledger.entries(9)) == [9, 10]
    last, found = ledger.last(), ledger.by_dedup("run-4")
    assert last is not None and last.index == 10 and found == ledger.entry(4) and ledger.by_dedup("run-99") is None
    with pytest.raises(Misused):
        ledger.entry(11)


def test_an_empty_ledger_is_one(path: Place) -> None:
    with Ledger.create(path, ORIGIN, KEY) as empty:
        assert (empty.size, empty.last(), empty.tail(5), empty.head().root) == (0, None, (), merkle.EMPTY_ROOT)
        assert empty.append([]) == () and empty.verify().size == 0


def test_proofs_hold_against_the_signed_head_and_between_heads(ledger: Ledger) -> None:
    head = ledger.head()
    for entry in ledger.entries():
        merkle.verify_inclusion(entry.index, head.size, merkle.leaf_hash(entry.body),
                                ledger.inclusion_proof(entry.index), head.root)
    leaves = [merkle.leaf_hash(entry.body) for entry in ledger.entries()]
    for old in range(1, 12):
        frontier = Frontier()
        for leaf in leaves[:old]:
            frontier.append(leaf)
        merkle.verify_consistency(old, 11, frontier.root, head.root, ledger.consistency_proof(old, 11))
    with pytest.raises(Misused):
        ledger.consistency_proof(3, 12)


def test_the_same_execution_is_recorded_once(ledger: Ledger) -> None:
    assert ledger.append([new(4)]) == (ledger.entry(4),)
    again, fresh, twice = ledger.append([new(4), new(11), new(11)])
    assert (again.index, fresh.index, twice.index, ledger.size) == (4, 11, 11, 12)
    ledger.verify()


def test_the_same_execution_with_other_content_is_refused_and_nothing_of_the_batch_stays(path: Place) -> None:
    with Ledger.create(path, ORIGIN, KEY) as made:
        made.append([NewEntry("a", "run", "s", b"one")])
        for kind, system, body in (("a", "s", b"two"), ("b", "s", b"one"), ("a", "t", b"one")):
            other = NewEntry(kind, "run", system, body)
            with pytest.raises(ConflictingRecord):
                made.append([NewEntry("a", "fresh", "s", b"fresh"), other])
        assert made.size == 1 and made.verify().size == 1


def test_a_record_that_says_something_else_than_its_columns_is_not_recorded(ledger: Ledger) -> None:
    for wrong in (NewEntry("stage", "run-12", "credit", b"stage run-13 credit"),
                  NewEntry("stage", "run-12", "credit", b"stage run-12 credit thing", ())):
        with pytest.raises(UntrustedEvidence):
            ledger.append([wrong])
    assert ledger.size == 11


@pytest.mark.parametrize("wrong", [NewEntry("a", "b", "c", b""), NewEntry("a", "b", "c", b"x" * (LARGEST_BODY + 1)),
                                   NewEntry("", "b", "c", b"x"), NewEntry("a", "", "c", b"x")],
                         ids=lambda n: repr(n)[:50])
def test_a_record_without_a_body_a_kind_or_a_key_or_too_large_is_misuse(path: Place, wrong: NewEntry) -> None:
    with Ledger.create(path, ORIGIN, KEY) as made, pytest.raises(Misused):
        made.append([wrong])


def test_the_largest_record_fits_and_a_record_may_be_about_no_system(path: Place) -> None:
    with Ledger.create(path, ORIGIN, KEY) as made:
        made.append([NewEntry("a", "b", "", b"x" * LARGEST_BODY)])
        assert made.verify().size == 1


def test_a_reader_reads_without_the_key_and_cannot_write(ledger: Ledger, path: Place) -> None:
    with reopened(path) as reader:
        assert reader.head() == ledger.head() and reader.verify().size == 11
        with pytest.raises(Misused):
            reader.append([new(11)])
        ledger.append([new(11)])
        assert reader.size == 12
    with pickle.loads(pickle.dumps(reader)) as elsewhere:
        assert elsewhere.size == 12
    with pytest.raises(TypeError):
        pickle.dumps(ledger)


def test_the_wrong_key_opens_nothing(ledger: Ledger, path: Place) -> None:
    stranger = SigningKey.generate()
    with pytest.raises(LedgerCorrupt):
        Ledger.open(path, stranger.public)
    with pytest.raises(UntrustedEvidence):
        Ledger.open(path, KEY.public, stranger)


def test_a_lock_that_is_never_released_is_busy(ledger: Ledger, path: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_store, "WAIT_SECONDS", 0.1)
    with held(path), Ledger.open(path, KEY.public, KEY) as waiting, pytest.raises(Busy):
        waiting.append([new(11)])


# Honest code cannot change anything, whatever it tries

STATEMENTS = [
    "UPDATE entry SET body = x'00' WHERE idx = 1", "DELETE FROM entry WHERE idx = 10", "DELETE FROM entry",
    "REPLACE INTO entry SELECT idx, kind, dedup, system, x'00', leaf FROM entry WHERE idx = 1",
    "INSERT OR REPLACE INTO entry SELECT 11, kind, dedup, system, body, leaf FROM entry WHERE idx = 1",
    "INSERT INTO entry SELECT 12, kind, 'fresh', system, body, leaf FROM entry WHERE idx = 1",
    "INSERT INTO entry (kind, dedup, system, body, leaf)"
    " SELECT kind, 'new', system, body, leaf FROM entry WHERE idx = 1",
    "UPDATE node SET hash = zeroblob(32)", "DELETE FROM node", "REPLACE INTO node VALUES (1, 0, zeroblob(32))",
    "INSERT INTO node VALUES (1, 77, zeroblob(31))", "INSERT INTO node VALUES (3, 0, zeroblob(32))",
    "UPDATE checkpoint SET note = ''", "DELETE FROM checkpoint", "REPLACE INTO checkpoint SELECT * FROM checkpoint",
    "INSERT INTO checkpoint VALUES (12, '', '')", "REPLACE INTO checkpoint VALUES (11, '', '')",
    "UPDATE subject SET role = 'x'", "DELETE FROM subject", "REPLACE INTO subject SELECT * FROM subject",
    "INSERT INTO subject SELECT bucket, digest, 'input', 3 FROM subject WHERE idx = 3",
    "INSERT INTO subject SELECT bucket, digest, 'input', 10 FROM subject WHERE idx = 3",
    "INSERT INTO subject SELECT bucket, digest, 'input', 11 FROM subject WHERE idx = 3",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_any_connection_is_stopped_by_the_files_own_triggers(ledger: Ledger, path: Place, statement: str) -> None:
    if in_postgres(path) and "REPLACE" in statement:
        pytest.skip("Postgres has no REPLACE; its ON CONFLICT DO UPDATE is in test_ledger_postgres")
    database = raw(path)
    with pytest.raises(REFUSALS):
        database.execute(spoken(path, statement))
    database.close()
    assert ledger.verify().size == 11


# Somebody edits the file, past the triggers

def sha(body: bytes) -> bytes:
    return hashlib.sha256(b"\0" + body).digest()


FORGED = b"stage run-4 credit thing-4 thing-1 forged"
EDITS: dict[str, Callable[[Place], None]] = {
    "a body": lambda p: edited(p, "UPDATE entry SET body = ? WHERE idx = 4", values=(FORGED,)),
    "a leaf": lambda p: edited(p, "UPDATE entry SET leaf = zeroblob(32) WHERE idx = 4"),
    "a body with its leaf": lambda p: edited(p, "UPDATE entry SET body = ?1, leaf = ?2 WHERE idx = 4",
                                             values=(FORGED, sha(FORGED))),
    "a kind": lambda p: edited(p, "UPDATE entry SET kind = 'approval' WHERE idx = 4"),
    "a system": lambda p: edited(p, "UPDATE entry SET system = 'other' WHERE idx = 4"),
    "an execution key": lambda p: edited(p, "UPDATE entry SET dedup = 'run-0000' WHERE idx = 4"),
    "an entry deleted in the middle": lambda p: edited(p, "DELETE FROM entry WHERE idx = 4"),
    "an entry deleted and the rest moved up": lambda p: edited(
        p, "DELETE FROM entry WHERE idx = 4", "UPDATE entry SET idx = idx - 1 WHERE idx > 4"),
    "two entries exchanged": lambda p: edited(
        p, "UPDATE entry SET idx = 99 WHERE idx = 4", "UPDATE entry SET idx = 4 WHERE idx = 5",
        "UPDATE entry SET idx = 5 WHERE idx = 99"),
    "the last entry cut off": lambda p: edited(p, "DELETE FROM entry WHERE idx = 10"),
    "an entry added without a signature": lambda p: edited(
        p, "INSERT INTO entry VALUES (11, 'stage', 'run-11', 'credit', ?1, ?2)",
        values=(b"stage run-11 credit", sha(b"stage run-11 credit"))),
    "a node": lambda p: edited(p, "UPDATE node SET hash = zeroblob(32) WHERE level = 1 AND idx = 1"),
    "a peak": lambda p: edited(p, "UPDATE node SET hash = zeroblob(32) WHERE level = 3"),
    "a node deleted": lambda p: edited(p, "DELETE FROM node WHERE level = 1 AND idx = 1"),
    "a node added": lambda p: edited(p, "INSERT INTO node VALUES (1, 77, zeroblob(32))"),
    "a checkpoint's root": lambda p: edited(
        p, "UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 2) WHERE size = 3"),
    "a checkpoint's signature": lambda p: edited(
        p, "UPDATE checkpoint SET note = replace(note, '— ', '— x') WHERE size = 3"),
    "the newest checkpoint": lambda p: edited(p, "UPDATE checkpoint SET note = 'x' WHERE size = 11"),
    "the newest checkpoint deleted": lambda p: edited(p, "DELETE FROM checkpoint WHERE size = 11"),
    "every checkpoint deleted": lambda p: edited(p, "DELETE FROM checkpoint"),
    "a subject hidden": lambda p: edited(p, "DELETE FROM subject WHERE idx = 4"),
    "a subject invented": lambda p: edited(p, "INSERT INTO subject SELECT bucket, digest, role, 5 FROM subject WHERE idx = 4 AND role = 'output'"),
    "a subject of no entry": lambda p: edited(
        p, "INSERT INTO subject SELECT bucket, digest, role, 99 FROM subject WHERE idx = 4"),
    "a role": lambda p: edited(p, "UPDATE subject SET role = 'input' WHERE idx = 4"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_verification_finds_an_edit_of(ledger: Ledger, path: Place, edit: str) -> None:
    ledger.close()
    EDITS[edit](path)
    with pytest.raises(LedgerCorrupt):
        reopened(path).verify()


@pytest.mark.parametrize("edit", ["a body", "a leaf", "a body with its leaf", "a kind", "a system"])
def test_reading_an_edited_entry_is_refused_at_once(ledger: Ledger, path: Place, edit: str) -> None:
    EDITS[edit](path)
    with reopened(path) as reader:
        for read in (lambda: reader.entry(4), lambda: reader.by_subject(sha256_bytes(b"thing-4")), reader.entries,
                     lambda: reader.tail(8)):
            with pytest.raises(LedgerCorrupt):
                read()
        assert reader.last() is not None, "what was not touched can still be read"


@pytest.mark.parametrize("edit", ["a peak", "the newest checkpoint", "the newest checkpoint deleted",
                                  "the last entry cut off", "an entry added without a signature"])
def test_an_edited_ledger_is_not_extended(ledger: Ledger, path: Place, edit: str) -> None:
    ledger.close()
    EDITS[edit](path)
    with pytest.raises(LedgerCorrupt), Ledger.open(path, KEY.public, KEY) as writer:
        writer.append([new(20)])


# Somebody has the log's key too

def forged_from(path: Place, target: Path, size: int, changed: int) -> None:
    """A whole new ledger with one entry changed, signed with the stolen key."""
    with Ledger.create(target, ORIGIN, KEY) as forged, reopened(path) as real:
        for entry in real.entries()[:size]:
            body = entry.body.replace(b"thing", b"fake") if entry.index == changed else entry.body
            forged.append([NewEntry(entry.kind, entry.dedup, entry.system, body, subjects_of(body))])


def test_a_rewrite_with_the_stolen_key_is_caught_by_a_head_kept_elsewhere(
        ledger: Ledger, path: Place, tmp_path: Path) -> None:
    kept = ledger.head()
    forged_from(path, tmp_path / "forged.db", 11, changed=4)
    with reopened(tmp_path / "forged.db") as forged:
        assert forged.verify().size == 11, "nothing inside of the file can show it"
        with pytest.raises(LedgerCorrupt, match="rewritten"):
            forged.verify([kept])


def test_a_rewrite_after_the_head_was_kept_is_not_covered_by_it(ledger: Ledger, path: Place, tmp_path: Path) -> None:
    frontier = Frontier()
    for entry in ledger.entries()[:4]:
        frontier.append(entry.leaf)
    kept = Checkpoint(ORIGIN, 4, frontier.root)  # a size between two checkpoints
    assert ledger.verify([kept]).size == 11
    forged_from(path, tmp_path / "forged.db", 11, changed=7)
    assert reopened(tmp_path / "forged.db").verify([kept]).size == 11


def test_an_older_copy_is_caught_by_a_head_beyond_it(ledger: Ledger, path: Place, tmp_path: Path) -> None:
    forged_from(path, tmp_path / "older.db", 8, changed=-1)
    with pytest.raises(LedgerCorrupt, match=r"11 entries, is beyond its 8"):
        reopened(tmp_path / "older.db").verify([ledger.head()])


def test_a_head_of_another_log_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerCorrupt, match="another log"):
        ledger.verify([Checkpoint("elsewhere", 3, b"\0" * 32)])


# Many at once

def _append_many(path: Place, seed: bytes, start: int) -> None:
    with Ledger.open(path, SigningKey.from_seed(seed).public, SigningKey.from_seed(seed)) as writer:
        for i in range(start, start + 25):
            writer.append([new(i)])
        writer.append([new(i) for i in range(start + 25, start + 30)])


@pytest.mark.parametrize("how", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_eight_writing_processes_leave_no_gap(path: Place, how: str) -> None:
    Ledger.create(path, ORIGIN, KEY).close()
    context: Any = multiprocessing.get_context(how)
    writers = [context.Process(target=_append_many, args=(path, b"k" * 32, 100 * i)) for i in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0] * 8
    with reopened(path) as reader:
        assert reader.verify().size == 240
        recorded = {entry.dedup for entry in reader.entries()}
        assert recorded == {f"run-{100 * w + i}" for w in range(8) for i in range(30)}


def _use_inherited(ledger: Ledger, answers: multiprocessing.SimpleQueue[int]) -> None:
    ledger.append([new(50)])
    answers.put(ledger.size)


def test_a_forked_child_opens_its_own_connection(ledger: Ledger) -> None:
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.SimpleQueue[int] = context.SimpleQueue()
    child = context.Process(target=_use_inherited, args=(ledger, answers))
    child.start()
    child.join(30)
    assert child.exitcode == 0 and answers.get() == 12
    ledger.append([new(51)])
    assert ledger.verify().size == 13


def test_threads_share_one_ledger(ledger: Ledger) -> None:
    def work(start: int) -> None:
        for i in range(start, start + 10):
            ledger.append([new(i)])
        ledger.close()

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(1, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.verify().size == 41


def test_a_digest_given_as_text_finds_what_a_digest_finds(ledger: Ledger) -> None:
    assert ledger.by_subject(Digest.parse(str(sha256_bytes(b"thing-4")))) != ()
