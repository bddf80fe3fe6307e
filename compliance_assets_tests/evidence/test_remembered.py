"""A process remembers what it verified: each entry is read once, and a ledger that is not the same one grown is refused."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest

from compliance_assets.errors import Busy, LedgerCorrupt
from compliance_assets.evidence import remembered as remembering
from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.records import StageReuse, Statement
from compliance_assets.evidence.remembered import Remembered
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.river import RIVER
from compliance_assets.trust.canonical import Digest, rfc3339
from compliance_assets.trust.keys import SigningKey
from compliance_assets.trust.merkle import Checkpoint, leaf_hash, sign_checkpoint
from compliance_assets_tests.project import SYSTEM


class Counting:
    """A reader that counts how many stage records were read."""

    def __init__(self) -> None:
        self.read = 0

    def __call__(self, record: Record) -> str:
        self.read += 1
        return str(record.body.gates and record.body.gates[0]["gate"])


def asked_again(river: River) -> Record:
    """One more entry: the dataset was asked for again."""
    first = river.archive.made_by(SYSTEM, "data_preparation")[0]
    return river.archive.append(Statement((("dataset", Digest.parse(first.body.output)),), StageReuse(
        system=SYSTEM, stage="data_preparation", run="again", dagster_run=None, launcher="engineer", at=rfc3339(river.now()),
        key=first.body.key, output=first.body.output, original_index=first.index, original_statement=str(first.digest))))


def edit(river: River, *statements: str) -> None:
    """An editor on the file: past the triggers, which are put back."""
    with sqlite3.connect(river.home.ledger) as database:
        triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            database.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            database.execute(statement)
        for _, sql in triggers:
            database.execute(sql)
    database.close()


def looked(river: River, remembered: Remembered) -> None:
    """Ask until the look beside the requests has ended."""
    for _ in range(100):
        river.archive.for_one_reading(remembered)
        time.sleep(0.02)


@pytest.fixture
def river(in_review: Path) -> River:
    return open_river(in_review)


def test_each_entry_is_read_once_and_what_is_new_is_read_when_it_came(river: River) -> None:
    counting = Counting()
    remembered = Remembered((counting,))
    first = river.archive.for_one_reading(remembered)
    stages = sum(len(first.made_by(SYSTEM, rule.name)) for rule in RIVER)
    assert counting.read == stages > 0 and not first.of_kind("reuse", SYSTEM)
    asked_again(river)
    again = river.archive.for_one_reading(remembered)
    assert [one.body.run for one in again.of_kind("reuse", SYSTEM)] == ["again"] and remembered.size == river.archive.ledger.size
    assert [again.fact(one, counting) for one in again.made_by(SYSTEM, "model_evaluation")] == ["performance"]
    assert counting.read == stages


def test_lists_say_the_same_as_the_ledger_does(river: River) -> None:
    kept, ledger = river.archive.for_one_reading(Remembered()), river.archive
    for rule in RIVER:
        pairs = list(zip(kept.made_by(SYSTEM, rule.name), ledger.made_by(SYSTEM, rule.name), strict=True))
        for ours, theirs in pairs:
            assert (ours.index, ours.digest, ours.statement, ours.envelope) == (theirs.index, theirs.digest, theirs.statement, theirs.envelope)
            assert all(getattr(ours.body, name) == getattr(theirs.body, name) for name in type(theirs.body).model_fields)
    for kind in ("decision", "definition", "deployment", "stage"):
        assert [one.digest for one in kept.of_kind(kind, SYSTEM)] == [one.digest for one in ledger.of_kind(kind, SYSTEM)]


def test_what_was_read_of_trust_policies_does_not_pile_up_as_the_ledger_grows(river: River) -> None:
    for times in range(1, 5):
        asked_again(river)
        assert len(river.archive.of_kind("reuse", SYSTEM)) == times and len(river.archive._policies) == 1


def test_a_body_changed_after_it_was_verified_is_noticed(river: River) -> None:
    remembered = Remembered()
    river.archive.for_one_reading(remembered)
    edit(river, "UPDATE entry SET body = CAST(replace(CAST(body AS TEXT), 'a', 'b') AS BLOB) WHERE idx = 7")
    with pytest.raises(LedgerCorrupt, match="entry 7 was changed since it was verified"):
        looked(river, remembered)


def test_entries_cut_off_are_noticed(river: River) -> None:
    remembered, before = Remembered(), river.archive.ledger.size
    asked_again(river)
    river.archive.for_one_reading(remembered)
    edit(river, f"DELETE FROM entry WHERE idx >= {before}", f"DELETE FROM checkpoint WHERE size > {before}")
    with pytest.raises(LedgerCorrupt, match="entries were cut off"):
        river.archive.for_one_reading(remembered)


@pytest.mark.parametrize("grown", [False, True])
def test_a_ledger_rewritten_with_the_logs_own_key_is_noticed(grown: bool, river: River) -> None:
    remembered = Remembered()
    river.archive.for_one_reading(remembered)
    if grown:
        asked_again(river)
    size = river.archive.ledger.size
    with sqlite3.connect(river.home.ledger) as database:
        bodies = [row[0] for row in database.execute("SELECT body FROM entry ORDER BY idx")]
    database.close()
    bodies[7] = bodies[7].replace(b"a", b"b", 1)
    leaves = [leaf_hash(body) for body in bodies]
    note = sign_checkpoint(Checkpoint(river.archive.ledger.origin, size, root_of(leaves)), SigningKey.load(river.home.key_path("log")))
    edit(river, f"UPDATE entry SET body = x'{bodies[7].hex()}', leaf = x'{leaves[7].hex()}' WHERE idx = 7",
         f"UPDATE checkpoint SET note = '{note}' WHERE size = {size}")
    with pytest.raises(LedgerCorrupt, match="not those that were signed" if grown else "rewritten"):
        river.archive.for_one_reading(remembered)


def test_while_everything_is_being_verified_the_others_are_told_how_far_it_is(river: River, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembering, "PATIENCE", 0.05)
    remembered, inside, done = Remembered(), threading.Event(), threading.Event()

    def slow(record: Record) -> None:
        inside.set()
        done.wait(10)

    remembered.readers = (slow,)
    first = threading.Thread(target=river.archive.for_one_reading, args=(remembered,))
    first.start()
    assert inside.wait(10)
    with pytest.raises(Busy, match=rf"of {river.archive.ledger.size} ledger entries have been verified"):
        river.archive.for_one_reading(remembered)
    done.set()
    first.join(10)
    assert river.archive.for_one_reading(remembered).made_by(SYSTEM, "model_evaluation")


def test_what_is_asked_for_newest_first_is_what_the_ledger_holds(river: River) -> None:
    asked_again(river)
    kept = river.archive.for_one_reading(Remembered())
    every = [(entry.index, entry.kind, entry.system) for entry in reversed(river.archive.ledger.entries())]
    for kind, system in (("", ""), ("stage", ""), ("decision", SYSTEM), ("reuse", SYSTEM), ("", SYSTEM), ("alert", "")):
        for before in (9, len(every)):
            fitting = [index for index, said, of in every if index < before and kind in ("", said) and system in ("", of)]
            assert list(kept.newest(before, kind, system, "") or ()) == fitting
    passed = [one.index for one in reversed(kept.of_kind("stage", SYSTEM)) if one.body.outcome == "passed"]
    assert list(kept.newest(len(every), "", "", "passed") or ()) == passed


def root_of(leaves: list[bytes]) -> bytes:
    """The tree's root, from its leaves alone."""
    from compliance_assets.trust.merkle import Frontier

    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root


def test_what_was_noticed_stays_noticed_when_a_later_look_cannot_read_or_finds_the_file_put_right(
        river: River, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = Remembered()
    river.archive.for_one_reading(remembered)
    with sqlite3.connect(river.home.ledger) as database:
        body = database.execute("SELECT body FROM entry WHERE idx = 3").fetchone()[0]
    database.close()
    edit(river, "UPDATE entry SET body = CAST(replace(CAST(body AS TEXT), 'a', 'b') AS BLOB) WHERE idx = 3")
    with pytest.raises(LedgerCorrupt, match="entry 3 was changed"):
        looked(river, remembered)
    edit(river, f"UPDATE entry SET body = x'{bytes(body).hex()}' WHERE idx = 3")
    remembered._look_again(river.archive)
    with pytest.raises(LedgerCorrupt, match="entry 3 was changed"):
        river.archive.for_one_reading(remembered)
    monkeypatch.setattr(river.archive.ledger, "reading", lambda: (_ for _ in ()).throw(Busy("busy", rule="r", value="v", remedy="wait")))
    remembered._look_again(river.archive)
    monkeypatch.undo()
    with pytest.raises(LedgerCorrupt, match="entry 3 was changed"):
        river.archive.for_one_reading(remembered)
