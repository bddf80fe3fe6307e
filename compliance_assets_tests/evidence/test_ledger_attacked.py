"""Each of these attacks on the ledger's own file is refused, and succeeds once the checks that hold it off are taken out, and not before.

Rows are kept in a table, from which `docs/attacks.py` makes the page of all attacks. The same edits, on Postgres too, are in `test_ledger`.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compliance_assets.errors import LedgerCorrupt
from compliance_assets.evidence import ledger_audit, witness
from compliance_assets.evidence.ledger import Ledger, NewEntry
from compliance_assets.evidence.ledger_reading import LedgerReader
from compliance_assets.evidence.ledger_sqlite import SqliteStore
from compliance_assets.evidence.witness import Witness, request
from compliance_assets.trust.canonical import sha256_bytes
from compliance_assets.trust.merkle import Checkpoint
from compliance_assets_tests.evidence.ledger_places import KEY, ORIGIN, edited, filled, new, raw, reopened, subjects_of
from compliance_assets_tests.unchecked import without

FORGED = b"stage run-4 credit thing-4 thing-1"
"""Entry 4 with one more blank: the same columns and the same subjects, in other bytes."""
CHANGED = FORGED.replace(b" thing-1", b"  thing-1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with filled(tmp_path / "ledger.db") as made:
        (tmp_path / "head.txt").write_text(made.head().root.hex())
    return tmp_path / "ledger.db"


def verified(path: Path) -> None:
    with reopened(path) as ledger:
        ledger.verify()


def held(path: Path) -> None:
    """As `verified`, and held against the head that somebody kept (of the genuine eleven entries)."""
    with reopened(path) as ledger:
        ledger.verify([Checkpoint(ORIGIN, 11, bytes.fromhex(path.with_name("head.txt").read_text()))])


def asked(path: Path) -> None:
    """Who asks what thing-4 was said to be gets an answer."""
    with reopened(path) as ledger:
        ledger.by_subject(sha256_bytes(b"thing-4"), "output")


def extended(path: Path) -> None:
    with Ledger.open(path, KEY.public, KEY, subjects_of=subjects_of) as ledger:
        ledger.append([new(20)])


def rebuilt(path: Path, size: int = 11) -> Path:
    """The first entries again with another body for entry 4, every leaf, node and checkpoint made to fit with the log's key."""
    with reopened(path) as real:
        bodies = [(entry, CHANGED if entry.index == 4 and size == 11 else entry.body) for entry in real.entries()[:size]]
    other = path.with_name("rebuilt.db")
    with Ledger.create(other, ORIGIN, KEY) as made:
        for batch in (bodies[:1], bodies[1:2], bodies[2:3], bodies[3:8], *([each] for each in bodies[8:])):
            made.append([NewEntry(entry.kind, entry.dedup, entry.system, body, subjects_of(body)) for entry, body in batch])
    return other


def replaced(path: Path, other: Path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()
    other.rename(path)


def body_edited(path: Path) -> None:
    edited(path, "UPDATE entry SET body = ? WHERE idx = 4", values=(CHANGED,))


def rebuilt_without_the_key(path: Path) -> None:
    """Leaf and nodes follow the edited body; the checkpoints cannot."""
    source = raw(rebuilt(path))
    leaf = source.execute("SELECT leaf FROM entry WHERE idx = 4").fetchone()[0]
    nodes = source.execute("SELECT hash, level, idx FROM node").fetchall()
    source.close()
    edited(path, "UPDATE entry SET body = ?1, leaf = ?2 WHERE idx = 4", values=(CHANGED, leaf))
    for found, level, index in nodes:
        if (level, index) in ((1, 2), (2, 1), (3, 0)):  # those over entry 4
            edited(path, "UPDATE node SET hash = ?1 WHERE level = ?2 AND idx = ?3", values=(found, level, index))


def signed_again(path: Path) -> None:
    replaced(path, rebuilt(path))


def put_back(path: Path) -> None:
    replaced(path, rebuilt(path, 8))


def node_edited(path: Path) -> None:
    edited(path, "UPDATE node SET hash = zeroblob(32) WHERE level = 1 AND idx = 1")


def peak_edited(path: Path) -> None:
    edited(path, "UPDATE node SET hash = zeroblob(32) WHERE level = 3")


def row_hidden(path: Path) -> None:
    edited(path, "DELETE FROM subject WHERE idx = 4")


def trigger_dropped(path: Path) -> None:
    database = raw(path)
    database.execute("DROP TRIGGER entry_no_update")
    database.close()


PLACES: dict[str, Any] = {"verify_tree": ledger_audit, "_compare": ledger_audit, "_roots": ledger_audit, "verify": ledger_audit,
                          "_verify_lookup": ledger_audit, "proved": LedgerReader, "_looked_up": LedgerReader, "newest": LedgerReader,
                          "check_shape": SqliteStore, "append": Ledger, "verify_consistency": witness}
EMPTIED: dict[str, Callable[..., Any]] = {"_roots": lambda *_: iter(()), "_looked_up": lambda self, rows, signed, bucket: rows.bucket(bucket)}
"""What is left of a function that answers when all of its checks are taken out; of others, nothing is."""

LEDGER: list[tuple[str, Callable[[Path], None], Callable[[Path], None], str, tuple[str, ...]]] = [
    ("a record edited past the triggers", body_edited, verified, "the body of entry 4 was changed",
     ("verify_tree: the body of entry", "_compare", "_roots")),
    ("a record, and the tree over it, edited without the log's key", rebuilt_without_the_key, verified, "are not those signed at size 8",
     ("_roots",)),
    ("everything rewritten and signed again with the stolen log key", signed_again, held, "they were rewritten", ("_roots",)),
    ("an older copy put back: the tail is cut", put_back, held, "entries were cut off, or an older copy was restored",
     ("verify: entries were cut off, or an older copy was restored", "_roots")),
    ("an inner node of the tree edited", node_edited, verified, "is not the hash of its entries", ("_compare",)),
    ("a doctored tree extended", peak_edited, extended, "is not the one that was signed",
     ("append: is not the one that was signed",)),
    ("a failed gate hidden in the look-up table", row_hidden, asked, "removed, added or changed since they were sealed", ("_looked_up",)),
    ("a trigger dropped", trigger_dropped, verified, "its tables or triggers are not those it was made with", ("check_shape",)),
]


def taken_out(patched: pytest.MonkeyPatch, checks: tuple[str, ...]) -> None:
    for check in checks:
        name, _, words = check.partition(": ")
        place = PLACES[name]
        patched.setattr(place, name, without(getattr(place, name), words) if words else EMPTIED.get(name, lambda *_, **__: None))


@pytest.mark.parametrize(("edit", "ask", "words", "checks"), [row[1:] for row in LEDGER], ids=[row[0] for row in LEDGER])
def test_an_edit_of_the_ledger_is_refused_and_believed_without_the_checks(
        path: Path, edit: Callable[[Path], None], ask: Callable[[Path], None], words: str, checks: tuple[str, ...],
        monkeypatch: pytest.MonkeyPatch) -> None:
    edit(path)
    with pytest.raises(LedgerCorrupt, match=words):
        ask(path)
    for one in checks if len(checks) > 1 else ():
        with monkeypatch.context() as patched:
            taken_out(patched, tuple(other for other in checks if other != one))
            with pytest.raises(LedgerCorrupt):
                ask(path)
    taken_out(monkeypatch, checks)
    ask(path)


STATEMENTS: list[tuple[str, str, str, str]] = [
    ("UPDATE of a record", "UPDATE entry SET kind = 'approval' WHERE idx = 4", "the ledger is append-only", "entry_no_update"),
    ("DELETE of a record", "DELETE FROM entry WHERE idx = 4", "the ledger is append-only", "entry_no_delete"),
    ("REPLACE INTO, which runs no DELETE trigger",
     "REPLACE INTO entry SELECT idx, 'approval', dedup, system, body, leaf FROM entry WHERE idx = 4", "an entry must be the next one, and new", "entry_next"),
    ("a record inserted beyond a gap", "INSERT INTO entry SELECT 12, kind, 'fresh', system, body, leaf FROM entry WHERE idx = 4",
     "an entry must be the next one, and new", "entry_next"),
    ("REPLACE INTO a node of the tree", "REPLACE INTO node VALUES (1, 0, zeroblob(32))", "a node must be new", "node_new"),
    ("a checkpoint replaced by one that nobody signed", "REPLACE INTO checkpoint VALUES (11, '', '')",
     "a checkpoint must grow with the entries", "checkpoint_grows"),
]


@pytest.mark.parametrize(("statement", "words", "trigger"), [row[1:] for row in STATEMENTS], ids=[row[0] for row in STATEMENTS])
def test_a_statement_of_any_connection_is_stopped_and_goes_through_without_the_trigger(path: Path, statement: str, words: str, trigger: str) -> None:
    database = raw(path)

    def content() -> str:
        rows = [database.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in ("entry", "node", "checkpoint")]
        return hashlib.sha256(repr(rows).encode()).hexdigest()

    before = content()
    with pytest.raises(sqlite3.IntegrityError, match=words):
        database.execute(statement)
    assert content() == before
    database.execute(f"DROP TRIGGER {trigger}")
    database.execute(statement)
    assert content() != before
    database.close()
    with pytest.raises(LedgerCorrupt):
        verified(path)


SPLIT = ("two histories shown (a split view)", "not the 11 that were signed before", "verify_consistency")


def test_a_second_history_is_cosigned_once_the_witness_looks_for_no_proof(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Witness.at(tmp_path / "witness", "witness.example/1", {ORIGIN: KEY.public})
    with reopened(path) as ledger:
        assert seen.add_checkpoint(request(0, (), ledger.note)).status == 200
    with Ledger.open(rebuilt(path), KEY.public, KEY) as other:
        other.append([new(11)])
        asking = request(11, other.consistency_proof(11, 12), other.note)
    refused = seen.add_checkpoint(asking)
    assert refused.status == 422 and SPLIT[1] in refused.text
    monkeypatch.setattr(witness, SPLIT[2], lambda *_: None)
    assert seen.add_checkpoint(asking).status == 200
