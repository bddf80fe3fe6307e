"""Reading a ledger: every entry that leaves was proved to be in the tree that the newest checkpoint signs, and none is left out.

What the store gives back is believed only so far as it leads to what the log's key signed: bodies by their leaf and inclusion
proof, columns by what the body says of itself, answers to "which entries are about this?" by the seal of the look-up table.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from compliance_assets.errors import LedgerCorrupt, Misused, UntrustedEvidence
from compliance_assets.evidence.ledger_store import Entry, NewEntry, Row, Rows, Signed, Store, Subjects, store_at
from compliance_assets.evidence.lookup import DEPTH, LISTS, POINTS, Sealing, bucket_of, chained, kind_subject, lookup_origin
from compliance_assets.trust import merkle
from compliance_assets.trust.canonical import Digest
from compliance_assets.trust.keys import PublicKey
from compliance_assets.trust.merkle import Checkpoint

SubjectsOf = Callable[[bytes], Subjects]
ColumnsOf = Callable[[bytes], tuple[str, str, str]]
_MOST_ROWS, _MOST_BUCKETS = 2_000, 256


class LedgerReader:
    """A ledger without the means to append. Processes and threads may share it."""

    def __init__(self, place: Path | str, log_public: PublicKey, *, subjects_of: SubjectsOf | None = None,
                 columns_of: ColumnsOf | None = None, writer: bool = False) -> None:
        self.store: Store = store_at(place, writer=writer)
        self.log_public = log_public
        self.subjects_of = subjects_of
        self.columns_of = columns_of
        self._opened: dict[str, Checkpoint] = {}
        self._origin: str | None = None
        self._sealed = ""
        self._buckets: dict[str, list[Row]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close this thread's connection. The next call opens another."""
        self.store.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def head(self) -> Checkpoint:
        """The newest signed checkpoint."""
        with self.reading() as (_, _, head, _):
            return head

    @property
    def note(self) -> str:
        """The newest checkpoint as it was signed: a C2SP note."""
        with self.reading() as (_, signed, _, _):
            return signed.note

    @property
    def origin(self) -> str:
        """The log's name, as its first checkpoint signs it."""
        return self.head().origin

    @property
    def size(self) -> int:
        """How many entries there are."""
        return self.head().size

    def entry(self, index: int) -> Entry:
        """Entry `index`. Raises `Misused` if there is none."""
        with self.reading() as (rows, _, head, node):
            for entry in rows.listed([index]) if index >= 0 else ():
                return self.proved(entry, head, node)
        raise Misused(f"The ledger has no entry {index}.", rule="entry index", value=str(index),
                      remedy=f"It has {head.size} entries, counted from 0.")

    def by_subject(self, digest: Digest, role: str | None = None, system: str | None = None) -> tuple[Entry, ...]:
        """Every entry about `digest` (in this role, of this system), oldest first.

        None is left out: raises `LedgerCorrupt` if anything was removed from the part of the look-up table that answers.
        """
        with self.reading() as (rows, signed, head, node):
            buckets = [bucket_of(digest, role)] if role is not None else [POINTS + digest[:DEPTH], LISTS + digest[:DEPTH]]
            indices = {index for bucket in buckets for _, found, of, index in self._looked_up(rows, signed, bucket)
                       if found == str(digest) and role in (None, of)}
            return tuple(entry for entry in self._listed(rows, indices, head, node) if system in (None, entry.system))

    def by_kind(self, kind: str, system: str | None = None) -> tuple[Entry, ...]:
        """Every entry of this kind (of this system), oldest first. As complete as `by_subject`."""
        return self.by_subject(Digest.parse(kind_subject(kind)), "kind", system)

    def beginning_with(self, text: str, roles: Iterable[str]) -> tuple[Digest, ...]:
        """The digests with which entries are found in one of these roles (no list's), and that begin with `text` (four digits or more)."""
        wanted = frozenset(roles)
        with self.reading() as (rows, signed, _, _):
            return tuple(sorted({Digest.parse(digest) for _, digest, role, _ in self._looked_up(rows, signed, POINTS + text[:DEPTH])
                                 if role in wanted and digest.startswith(text)}))

    def by_dedup(self, dedup: str) -> Entry | None:
        """The entry that records this execution, if it was recorded."""
        with self.reading() as (rows, _, head, node):
            entry = rows.recorded(dedup)
            return None if entry is None else self.proved(entry, head, node)

    def tail(self, count: int) -> tuple[Entry, ...]:
        """The newest `count` entries, oldest first."""
        with self.reading() as (rows, _, head, node):
            return tuple(self.proved(entry, head, node) for entry in rows.entries(max(head.size - count, 0)))

    def entries(self, start: int = 0, end: int | None = None) -> tuple[Entry, ...]:
        """Every entry from `start` on, oldest first; up to `end` where it is given."""
        with self.reading() as (rows, _, head, node):
            return tuple(self.proved(entry, head, node) for entry in rows.entries(start, end))

    def last(self) -> Entry | None:
        """The newest entry, if there is one."""
        found = self.tail(1)
        return found[0] if found else None

    def inclusion_proof(self, index: int) -> tuple[bytes, ...]:
        """The hashes that lead from entry `index` to the root of the newest checkpoint."""
        with self.reading() as (_, _, head, node):
            return merkle.inclusion_proof(index, head.size, node)

    def consistency_proof(self, old: int, new: int) -> tuple[bytes, ...]:
        """The hashes that show the first `old` entries to be a prefix of the first `new`."""
        with self.reading() as (_, _, head, node):
            if new > head.size:
                raise Misused(f"The ledger has {head.size} entries, not {new}.", rule="consistency proof",
                              value=str(new), remedy="Ask for a size that it has reached.")
            return merkle.consistency_proof(old, new, node)

    def _listed(self, rows: Rows, indices: set[int], head: Checkpoint, node: merkle.Node) -> list[Entry]:
        found = [self.proved(entry, head, node) for entry in rows.listed(sorted(indices))]
        if len(found) != len(indices):
            missing = min(indices - {entry.index for entry in found})
            raise self.corrupt(f"entry {missing} is missing", "entry sequence")
        return found

    def _looked_up(self, rows: Rows, signed: Signed, bucket: str) -> list[Row]:
        """All rows of one bucket, once they were shown to be all that were sealed; kept until the next seal."""
        with self._lock:
            if self._sealed != signed.lookup:
                self._sealed, self._buckets = signed.lookup, {}
            if bucket in self._buckets:
                return self._buckets[bucket]
        found = rows.bucket(bucket)
        sealing = Sealing(rows.seal)
        if not sealing.leads_to(self.lookup_root(signed), [bucket]) or chained(found) != sealing.chain(bucket):
            raise self.edited_lookup()
        with self._lock:
            if self._sealed == signed.lookup and len(found) <= _MOST_ROWS and len(self._buckets) < _MOST_BUCKETS:
                self._buckets[bucket] = found
        return found

    def proved(self, entry: Entry, head: Checkpoint, node: merkle.Node) -> Entry:
        # (1) The leaf is the body's.
        if merkle.leaf_hash(entry.body) != entry.leaf:
            raise self.corrupt(f"the body of entry {entry.index} was changed", "entry leaf")
        # (2) The leaf is in the tree that was signed.
        try:
            proof = merkle.inclusion_proof(entry.index, head.size, node)
            merkle.verify_inclusion(entry.index, head.size, entry.leaf, proof, head.root)
        except UntrustedEvidence as error:
            raise self.corrupt(f"entry {entry.index} is not in the tree that was signed", "inclusion proof") from error
        # (3) The columns are what the body says.
        self.check_columns(entry, f"entry {entry.index}")
        return entry

    def check_columns(self, entry: Entry | NewEntry, which: str) -> None:
        """Refuse an entry whose kind, execution key or system is not what its body says."""
        if self.columns_of is not None and self.columns_of(entry.body) != (entry.kind, entry.dedup, entry.system):
            raise self.corrupt(f"kind, execution key or system of {which} are not what its body says", "entry columns")

    # The signed state

    @contextlib.contextmanager
    def reading(self) -> Iterator[tuple[Rows, Signed, Checkpoint, merkle.Node]]:
        """One snapshot: its rows, its newest signed state and checkpoint, its perfect subtrees."""
        with self.store.reading() as rows:
            signed, head = self.newest(rows)
            yield rows, signed, head, stored_node(rows)

    def newest(self, rows: Rows) -> tuple[Signed, Checkpoint]:
        """The newest checkpoint; it is signed, and covers every entry."""
        if self._origin is None:
            first = rows.signed(0)
            origin = first.note.partition("\n")[0] if first is not None else ""
            self.open_note(first.note if first is not None else "", origin)
            self._origin = origin
        signed = rows.newest()
        if signed is None:
            raise self.corrupt("it has no checkpoint", "checkpoint")
        head = self._opened_once(signed.note, self._origin)
        entries = rows.count()
        if head.size != signed.size or head.size != entries:
            raise self.corrupt(f"it holds {entries} entries, but {head.size} were signed", "checkpoint size")
        return signed, head

    def lookup_root(self, signed: Signed) -> bytes:
        assert self._origin is not None  # the newest checkpoint was opened before
        sealed = self._opened_once(signed.lookup, lookup_origin(self._origin))
        if sealed.size != signed.size:
            raise self.corrupt(f"its look-up table was sealed at {sealed.size} entries, not at {signed.size}", "look-up seal")
        return sealed.root

    def _opened_once(self, note: str, origin: str) -> Checkpoint:
        """The note's checkpoint; the newest one's signature is verified once."""
        with self._lock:
            known = self._opened.get(note)
        if known is None or known.origin != origin:
            known = self.open_note(note, origin)
            with self._lock:
                if len(self._opened) >= 4:
                    self._opened.clear()
                self._opened[note] = known
        return known

    def open_note(self, note: str, origin: str) -> Checkpoint:
        """The checkpoint that the log's key signed under this name; `LedgerCorrupt` if it did not."""
        try:
            return merkle.open_checkpoint(note, self.log_public, origin)
        except UntrustedEvidence as error:
            raise self.corrupt(f"a checkpoint is not one that the log's key signed ({error.message})",
                               "checkpoint signature") from error

    def corrupt(self, why: str, rule: str) -> LedgerCorrupt:
        return LedgerCorrupt(f"The ledger {self.store.where} cannot be trusted: {why}.", rule=rule, value=self.store.where,
                             remedy="Keep it as evidence and restore the newest copy that verifies.")

    def edited_lookup(self) -> LedgerCorrupt:
        return self.corrupt("rows of its look-up table were removed, added or changed since they were sealed", "look-up seal")


def stored_node(rows: Rows) -> merkle.Node:
    """Perfect subtrees as the store holds them; each is read once."""
    known: dict[tuple[int, int], bytes] = {}

    def node(level: int, index: int) -> bytes:
        if (level, index) not in known:
            found = rows.leaf(index) if level == 0 else rows.node(level, index)
            if found is None:
                raise LedgerCorrupt(f"The ledger has lost node {level}/{index} of its tree.", rule="stored node",
                                    value=f"{level}/{index}", remedy="Restore the newest copy that verifies.")
            known[level, index] = found
        return known[level, index]

    return node
