"""What was recorded stays recorded: an append-only log in one SQLite file, whose every state is signed.

An entry is the exact bytes of a signed envelope; to this module they are opaque. Its leaf hash goes into a Merkle tree
(`trust.merkle`), and every append writes, in one transaction, the entries, the subtrees they complete, and a checkpoint
signed with the log's key. Triggers and an authorizer keep honest code from changing anything. Whoever gets past them,
with an editor on the file, is found out: by the leaf hashes, by the signed checkpoints, and, should the log's key be
stolen, by the heads that were kept elsewhere (people's approvals embed one).

`kind`, `dedup`, `system` and the `subject` table are for finding entries. The tree does not cover them, so they are
compared with what the body says of itself: give `columns_of` and `subjects_of`, and `verify` checks all of them.
This is the only module that speaks SQL over evidence.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance_assets.errors import (
    Busy,
    ComplianceError,
    ConflictingRecord,
    HomeUnusable,
    LedgerCorrupt,
    Misused,
    UntrustedEvidence,
)
from compliance_assets.evidence.artefacts import fsync_folder
from compliance_assets.trust import merkle
from compliance_assets.trust.canonical import Digest
from compliance_assets.trust.keys import PublicKey, SigningKey
from compliance_assets.trust.merkle import Checkpoint, Frontier

__all__ = ["LARGEST_BODY", "Checkpoint", "Entry", "Ledger", "NewEntry", "Subjects", "VerifiedLedger"]

Subjects = tuple[tuple[Digest, str], ...]
"""(digest, role) of everything that an entry is about."""

LARGEST_BODY = 65_535
"""C2SP tlog-tiles gives an entry two bytes of length. Anything bigger goes to the artefact store, by digest."""

_APPLICATION_ID = 0x43414C47  # "CALG"
_WAIT_SECONDS = 30.0

_SCHEMA = (
    "CREATE TABLE entry (idx INTEGER PRIMARY KEY CHECK (idx >= 0), kind TEXT NOT NULL, dedup TEXT NOT NULL UNIQUE,"
    " system TEXT NOT NULL, body BLOB NOT NULL CHECK (length(body) BETWEEN 1 AND 65535),"
    " leaf BLOB NOT NULL CHECK (length(leaf) = 32)) STRICT",
    "CREATE TABLE node (level INTEGER NOT NULL CHECK (level > 0), idx INTEGER NOT NULL CHECK (idx >= 0),"
    " hash BLOB NOT NULL CHECK (length(hash) = 32), PRIMARY KEY (level, idx)) STRICT, WITHOUT ROWID",
    "CREATE TABLE checkpoint (size INTEGER PRIMARY KEY CHECK (size >= 0), note TEXT NOT NULL) STRICT",
    "CREATE TABLE subject (digest TEXT NOT NULL CHECK (length(digest) = 64), role TEXT NOT NULL, idx INTEGER NOT NULL,"
    " PRIMARY KEY (digest, role, idx)) STRICT, WITHOUT ROWID",
    "CREATE INDEX entry_kind ON entry (kind, system)",
    *(f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} BEGIN"
      f" SELECT RAISE(ABORT, 'the ledger is append-only'); END"
      for table in ("entry", "node", "checkpoint", "subject") for verb in ("update", "delete")),
    # REPLACE INTO deletes without DELETE triggers unless recursive_triggers is on: these close that on any connection.
    "CREATE TRIGGER entry_next BEFORE INSERT ON entry"
    " WHEN NEW.idx IS NOT (SELECT coalesce(max(idx) + 1, 0) FROM entry)"
    " OR EXISTS (SELECT 1 FROM entry WHERE dedup = NEW.dedup)"
    " BEGIN SELECT RAISE(ABORT, 'an entry must be the next one, and new'); END",
    "CREATE TRIGGER node_new BEFORE INSERT ON node"
    " WHEN EXISTS (SELECT 1 FROM node WHERE level = NEW.level AND idx = NEW.idx)"
    " OR ((NEW.idx + 1) << NEW.level) <= (SELECT max(size) FROM checkpoint)"
    " BEGIN SELECT RAISE(ABORT, 'a node must be new'); END",
    "CREATE TRIGGER checkpoint_grows BEFORE INSERT ON checkpoint"
    " WHEN NEW.size <= (SELECT coalesce(max(size), -1) FROM checkpoint)"
    " OR NEW.size <> (SELECT coalesce(max(idx) + 1, 0) FROM entry)"
    " BEGIN SELECT RAISE(ABORT, 'a checkpoint must grow with the entries'); END",
    "CREATE TRIGGER subject_new BEFORE INSERT ON subject"
    " WHEN EXISTS (SELECT 1 FROM subject WHERE digest = NEW.digest AND role = NEW.role AND idx = NEW.idx)"
    " OR NEW.idx IS NOT (SELECT max(idx) FROM entry) OR NEW.idx < (SELECT max(size) FROM checkpoint)"
    " BEGIN SELECT RAISE(ABORT, 'a subject belongs to the newest entry'); END",
)

_ENTRY = "SELECT idx, kind, dedup, system, body, leaf FROM entry "
_NODE = "SELECT hash FROM node WHERE level = ? AND idx = ?"

_READING = frozenset({sqlite3.SQLITE_READ, sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_TRANSACTION})
_WRITING = _READING | {sqlite3.SQLITE_INSERT}

# What SQLite says of a file that was damaged or edited; all else it says is about the disk or permissions.
_DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_CONSTRAINT", "SQLITE_ERROR", "SQLITE_MISMATCH")

# A connection must not be used, nor even closed, in a process that did not open it (sqlite.org/howtocorrupt, 2.6).
_INHERITED: list[sqlite3.Connection] = []


@dataclass(frozen=True)
class NewEntry:
    """What is to be recorded. `dedup` names the execution: the same one is recorded once. `system` may be empty."""

    kind: str
    dedup: str
    system: str
    body: bytes
    subjects: Subjects = ()


@dataclass(frozen=True)
class Entry:
    """What was recorded, as entry `index` of the ledger."""

    index: int
    kind: str
    dedup: str
    system: str
    body: bytes
    leaf: bytes


@dataclass(frozen=True)
class VerifiedLedger:
    """What a full verification established: how many entries, their root, and how many signed checkpoints agree."""

    size: int
    root: bytes
    checkpoints: int
    columns_checked: bool
    subjects_checked: bool


class Ledger:
    """A ledger file. With the log's key it can append, without it only read. Processes and threads may share it."""

    def __init__(self, path: Path, log_public: PublicKey, log_key: SigningKey | None = None, *,
                 subjects_of: Callable[[bytes], Subjects] | None = None,
                 columns_of: Callable[[bytes], tuple[str, str, str]] | None = None) -> None:
        if log_key is not None and log_key.public != log_public:
            raise UntrustedEvidence("The log's private key does not belong to its public key.", rule="log key",
                                    value=log_key.keyid, remedy="Give the two halves of one key.")
        self.path = Path(path)
        self.log_public = log_public
        self._log_key = log_key
        self._subjects_of = subjects_of
        self._columns_of = columns_of
        self._local = threading.local()
        self._opened_note: tuple[str, Checkpoint] | None = None
        self._origin: str | None = None

    @classmethod
    def create(cls, path: Path, origin: str, log_key: SigningKey, *,
               subjects_of: Callable[[bytes], Subjects] | None = None,
               columns_of: Callable[[bytes], tuple[str, str, str]] | None = None) -> Ledger:
        """A new, empty ledger named `origin` (`<organisation>/ledger/<system>`). Never overwrites."""
        path = Path(path)
        note = merkle.sign_checkpoint(Checkpoint(origin, 0, merkle.EMPTY_ROOT), log_key)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        with _refusals(path):
            try:
                connection = sqlite3.connect(draft, isolation_level=None)
                try:
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute("PRAGMA synchronous = FULL")
                    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    connection.execute("BEGIN IMMEDIATE")
                    for statement in _SCHEMA:
                        connection.execute(statement)
                    connection.execute("INSERT INTO checkpoint VALUES (0, ?)", (note,))
                    connection.execute("COMMIT")
                finally:
                    connection.close()
                os.link(draft, path)  # all of it appears under its name at once, or not at all
                fsync_folder(path.parent)
            except FileExistsError:
                raise HomeUnusable(f"There is a ledger at {path} already.", rule="ledger file", value=str(path),
                                   remedy="Open it, or choose another place: a ledger is never overwritten.") from None
            finally:
                draft.unlink(missing_ok=True)
        return cls.open(path, log_key.public, log_key, subjects_of=subjects_of, columns_of=columns_of)

    @classmethod
    def open(cls, path: Path, log_public: PublicKey, log_key: SigningKey | None = None, *,
             subjects_of: Callable[[bytes], Subjects] | None = None,
             columns_of: Callable[[bytes], tuple[str, str, str]] | None = None) -> Ledger:
        """The ledger at `path`, if its newest checkpoint is signed by `log_public`'s key."""
        ledger = cls(path, log_public, log_key, subjects_of=subjects_of, columns_of=columns_of)
        ledger.head()
        return ledger

    def close(self) -> None:
        """Close this thread's connection. The next call opens another."""
        opened = getattr(self._local, "opened", None)
        self._local.opened = None
        if opened is not None and opened[0] == os.getpid():
            opened[1].close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        # A writer cannot be pickled: its key refuses.
        return {**self.__dict__, "_local": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _local=threading.local())

    # Writing

    def append(self, entries: Sequence[NewEntry]) -> tuple[Entry, ...]:
        """Record these entries, all or none, and return them as recorded once they are on disk.

        An entry whose `dedup` is in the ledger already is returned as it stands there if its body is the same, and
        refused with `ConflictingRecord` if not. Raises `LedgerCorrupt` rather than extend a ledger that somebody has
        edited.
        """
        for new in entries:
            self._check_new(new)
        if self._log_key is None:
            raise Misused("This ledger was opened for reading: the log's private key is not in this home.", rule="log key",
                          value=str(self.path), remedy="Put keys/log.key back, or work where the ledger is written.")
        with _refusals(self.path), self._transaction("IMMEDIATE") as database:
            # (1) The stored right edge of the tree is the one that was signed.
            head = self._head(database)
            node = _stored_node(database)
            frontier = Frontier.of(head.size, node)
            if frontier.root != head.root:
                raise self._corrupt(f"its tree of {head.size} entries is not the one that was signed", "signed root")
            # (2) Each entry is either there already, or the next one.
            recorded = tuple(self._recorded(database, new, head, node) or self._insert(database, new, frontier)
                             for new in entries)
            # (3) The new state is signed.
            if frontier.size > head.size:
                checkpoint = Checkpoint(head.origin, frontier.size, frontier.root)
                note = merkle.sign_checkpoint(checkpoint, self._log_key)
                database.execute("INSERT INTO checkpoint VALUES (?, ?)", (checkpoint.size, note))
        return recorded

    def _check_new(self, new: NewEntry) -> None:
        if not 0 < len(new.body) <= LARGEST_BODY:
            raise Misused(f"A record has 1 to {LARGEST_BODY} bytes, not {len(new.body)}.", rule="entry size",
                          value=str(len(new.body)), remedy="Put the rest into the artefact store, and its digest here.")
        if not (new.kind and new.dedup):
            raise Misused("A record needs a kind and an execution key.", rule="entry columns",
                          value=f"{new.kind!r}, {new.dedup!r}", remedy="Name both.")
        self._check_columns(new, "the record")
        if self._subjects_of is not None and set(self._subjects_of(new.body)) != set(new.subjects):
            raise self._corrupt(f"the subjects given for {new.dedup} are not those that its body names", "subjects")

    def _recorded(self, database: sqlite3.Connection, new: NewEntry, head: Checkpoint,
                  node: merkle.Node) -> Entry | None:
        row = database.execute(_ENTRY + "WHERE dedup = ?", (new.dedup,)).fetchone()
        if row is None:
            return None
        entry = Entry(*row)
        if (entry.kind, entry.system, entry.body) != (new.kind, new.system, new.body):
            raise ConflictingRecord(
                f"Entry {entry.index} of {head.origin} records {new.dedup:.80} with other content.",
                rule="execution key", value=new.dedup,
                remedy="An execution is recorded once: record the new attempt under its own key.",
            )
        return entry if entry.index >= head.size else self._proved(entry, head, node)

    def _insert(self, database: sqlite3.Connection, new: NewEntry, frontier: Frontier) -> Entry:
        entry = Entry(frontier.size, new.kind, new.dedup, new.system, new.body, merkle.leaf_hash(new.body))
        database.execute("INSERT INTO entry (idx, kind, dedup, system, body, leaf) VALUES (?, ?, ?, ?, ?, ?)",
                         (entry.index, entry.kind, entry.dedup, entry.system, entry.body, entry.leaf))
        database.executemany("INSERT INTO subject VALUES (?, ?, ?)",
                             sorted({(str(digest), role, entry.index) for digest, role in new.subjects}))
        database.executemany("INSERT INTO node VALUES (?, ?, ?)", frontier.append(entry.leaf))
        return entry

    # Reading. Every entry that leaves this class was proved to be in the tree that the newest checkpoint signs.

    def head(self) -> Checkpoint:
        """The newest signed checkpoint."""
        with self._reading() as (_, head, _):
            return head

    @property
    def note(self) -> str:
        """The newest checkpoint as it was signed: a C2SP note."""
        with self._reading():
            assert self._opened_note is not None  # reading has just opened it
            return self._opened_note[0]

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
        found = self._select("WHERE idx = ?", (index,))
        if not found:
            raise Misused(f"The ledger has no entry {index}.", rule="entry index", value=str(index),
                          remedy=f"It has {self.size} entries, counted from 0.")
        return found[0]

    def by_subject(self, digest: Digest, role: str | None = None, system: str | None = None) -> tuple[Entry, ...]:
        """Every entry about `digest` (in this role, of this system), oldest first.

        The lookup table could hide an entry from somebody who edits the file; `verify` finds that.
        """
        return self._select(
            "WHERE idx IN (SELECT idx FROM subject WHERE digest = ?1 AND (?2 IS NULL OR role = ?2))"
            " AND (?3 IS NULL OR system = ?3) ORDER BY idx", (str(digest), role, system))

    def by_kind(self, kind: str, system: str | None = None) -> tuple[Entry, ...]:
        """Every entry of this kind (of this system), oldest first."""
        return self._select("WHERE kind = ?1 AND (?2 IS NULL OR system = ?2) ORDER BY idx", (kind, system))

    def by_dedup(self, dedup: str) -> Entry | None:
        """The entry that records this execution, if it was recorded."""
        found = self._select("WHERE dedup = ?", (dedup,))
        return found[0] if found else None

    def tail(self, count: int) -> tuple[Entry, ...]:
        """The newest `count` entries, oldest first."""
        return self._select("WHERE idx >= (SELECT coalesce(max(idx), -1) FROM entry) + 1 - ? ORDER BY idx", (count,))

    def entries(self, start: int = 0) -> tuple[Entry, ...]:
        """Every entry from `start` on, oldest first."""
        return self._select("WHERE idx >= ? ORDER BY idx", (start,))

    def last(self) -> Entry | None:
        """The newest entry, if there is one."""
        found = self.tail(1)
        return found[0] if found else None

    def inclusion_proof(self, index: int) -> tuple[bytes, ...]:
        """The hashes that lead from entry `index` to the root of the newest checkpoint."""
        with self._reading() as (_, head, node):
            return merkle.inclusion_proof(index, head.size, node)

    def consistency_proof(self, old: int, new: int) -> tuple[bytes, ...]:
        """The hashes that show the first `old` entries to be a prefix of the first `new`."""
        with self._reading() as (_, head, node):
            if new > head.size:
                raise Misused(f"The ledger has {head.size} entries, not {new}.", rule="consistency proof",
                              value=str(new), remedy="Ask for a size that it has reached.")
            return merkle.consistency_proof(old, new, node)

    def _select(self, where: str, values: tuple[object, ...]) -> tuple[Entry, ...]:
        with self._reading() as (database, head, node):
            rows = database.execute(_ENTRY + where, values)
            return tuple(self._proved(Entry(*row), head, node) for row in rows)

    def _proved(self, entry: Entry, head: Checkpoint, node: merkle.Node) -> Entry:
        # (1) The leaf is the body's.
        if merkle.leaf_hash(entry.body) != entry.leaf:
            raise self._corrupt(f"the body of entry {entry.index} was changed", "entry leaf")
        # (2) The leaf is in the tree that was signed.
        try:
            proof = merkle.inclusion_proof(entry.index, head.size, node)
            merkle.verify_inclusion(entry.index, head.size, entry.leaf, proof, head.root)
        except UntrustedEvidence as error:
            raise self._corrupt(f"entry {entry.index} is not in the tree that was signed", "inclusion proof") from error
        # (3) The columns are what the body says.
        self._check_columns(entry, f"entry {entry.index}")
        return entry

    def _check_columns(self, entry: Entry | NewEntry, which: str) -> None:
        if self._columns_of is not None and self._columns_of(entry.body) != (entry.kind, entry.dedup, entry.system):
            raise self._corrupt(f"kind, execution key or system of {which} are not what its body says", "entry columns")

    # Verifying all of it

    def verify(self, heads: Sequence[Checkpoint] = ()) -> VerifiedLedger:
        """Recompute everything from the bodies up, and compare it with all that was signed, here and elsewhere.

        (1) The file's tables and triggers are those it was made with. (2) The entries are numbered without a gap, and
        each leaf is its body's. (3) Columns and subjects are what the body says (where `columns_of`, `subjects_of` are
        given). (4) Every stored node is the recomputed one, and there is no other. (5) Every checkpoint is signed, and
        its root is the recomputed one at its size. (6) The newest checkpoint covers all entries. (7) Every head in
        `heads`, kept outside of this file, is the recomputed one at its size, so that nothing was cut off or rewritten
        since. Raises `LedgerCorrupt` at the first that does not hold.
        """
        with self._reading() as (database, head, _):
            self._verify_schema(database)
            roots = self._replay(database, head)
            checkpoints = database.execute("SELECT size, note FROM checkpoint ORDER BY size").fetchall()
            for size, note in checkpoints:
                checkpoint = self._open_note(note, head.origin)
                if checkpoint.size != size or size not in roots or roots[size] != checkpoint.root:
                    raise self._corrupt(f"its entries are not those signed at size {size}", "checkpoint root")
            for kept in heads:
                if kept.origin != head.origin:
                    raise self._corrupt(f"a head kept elsewhere is of another log, {kept.origin}", "kept head")
                if kept.size > head.size:
                    raise self._corrupt(f"a head kept elsewhere, of {kept.size} entries, is beyond its {head.size}:"
                                        " entries were cut off, or an older copy was restored", "kept head")
            missing = {kept.size for kept in heads} - roots.keys()
            if missing:
                roots = roots | self._roots_at(database, missing)
            for kept in heads:
                if roots[kept.size] != kept.root:
                    raise self._corrupt(f"its first {kept.size} entries are not those of a head kept elsewhere: they"
                                        " were rewritten", "kept head")
            return VerifiedLedger(head.size, head.root, len(checkpoints), self._columns_of is not None,
                                  self._subjects_of is not None)

    def _verify_schema(self, database: sqlite3.Connection) -> None:
        found = {sql for (sql,) in database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
        if found != set(_SCHEMA):
            raise self._corrupt("its tables or triggers are not those it was made with", "ledger schema")

    def _replay(self, database: sqlite3.Connection, head: Checkpoint) -> dict[int, bytes]:
        """The root at every size at which there is a checkpoint, recomputed from the bodies."""
        sizes = {size for (size,) in database.execute("SELECT size FROM checkpoint")}
        subjects: dict[int, set[tuple[str, str]]] = {}
        for digest, role, index in database.execute("SELECT digest, role, idx FROM subject"):
            subjects.setdefault(index, set()).add((digest, role))
        frontier, nodes = Frontier(), 0
        roots = {0: frontier.root}
        for row in database.execute(_ENTRY + "ORDER BY idx"):
            entry = Entry(*row)
            if entry.index != frontier.size:
                raise self._corrupt(f"entry {frontier.size} is missing", "entry sequence")
            if entry.leaf != merkle.leaf_hash(entry.body):
                raise self._corrupt(f"the body of entry {entry.index} was changed", "entry leaf")
            self._check_columns(entry, f"entry {entry.index}")
            noted = subjects.pop(entry.index, set())
            if self._subjects_of is not None and noted != {(str(d), role) for d, role in self._subjects_of(entry.body)}:
                raise self._corrupt(f"the lookup table does not list what entry {entry.index} is about", "subjects")
            for level, index, hashed in frontier.append(entry.leaf):
                nodes += 1
                stored = database.execute(_NODE, (level, index)).fetchone()
                if stored is None or stored[0] != hashed:
                    raise self._corrupt(f"stored node {level}/{index} is not the hash of its entries", "stored node")
            if frontier.size in sizes:
                roots[frontier.size] = frontier.root
        if subjects:
            raise self._corrupt(f"the lookup table lists an entry {min(subjects)} that does not exist", "subjects")
        if database.execute("SELECT count(*) FROM node").fetchone()[0] != nodes:
            raise self._corrupt("it stores nodes that no entry explains", "stored node")
        return roots

    def _roots_at(self, database: sqlite3.Connection, sizes: set[int]) -> dict[int, bytes]:
        """Roots at sizes without a checkpoint; the stored nodes were compared just before, in this same transaction."""
        node = _stored_node(database)
        return {size: Frontier.of(size, node).root for size in sizes}

    # The file

    def _head(self, database: sqlite3.Connection) -> Checkpoint:
        """The newest checkpoint; it is signed, and covers every entry."""
        if self._origin is None:
            row = database.execute("SELECT note FROM checkpoint WHERE size = 0").fetchone()
            origin = row[0].partition("\n")[0] if row is not None else ""
            self._open_note(row[0] if row is not None else "", origin)
            self._origin = origin
        row = database.execute("SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
        if row is None:
            raise self._corrupt("it has no checkpoint", "checkpoint")
        if self._opened_note is None or self._opened_note[0] != row[1]:
            self._opened_note = (row[1], self._open_note(row[1], self._origin))
        head = self._opened_note[1]
        entries = database.execute("SELECT coalesce(max(idx) + 1, 0) FROM entry").fetchone()[0]
        if head.size != row[0] or head.size != entries:
            raise self._corrupt(f"it holds {entries} entries, but {head.size} were signed", "checkpoint size")
        return head

    def _open_note(self, note: str, origin: str) -> Checkpoint:
        try:
            return merkle.open_checkpoint(note, self.log_public, origin)
        except UntrustedEvidence as error:
            raise self._corrupt(f"a checkpoint is not one that the log's key signed ({error.message})",
                                "checkpoint signature") from error

    def _corrupt(self, why: str, rule: str) -> LedgerCorrupt:
        return LedgerCorrupt(f"The ledger {self.path} cannot be trusted: {why}.", rule=rule, value=str(self.path),
                             remedy="Keep this file as evidence and restore the newest copy that verifies.")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, Checkpoint, merkle.Node]]:
        with _refusals(self.path), self._transaction("DEFERRED") as database:
            yield database, self._head(database), _stored_node(database)

    @contextlib.contextmanager
    def _transaction(self, mode: str) -> Iterator[sqlite3.Connection]:
        database = self._connection()
        if database.in_transaction:  # a reader called from within a reader: same snapshot
            yield database
            return
        database.execute(f"BEGIN {mode}")
        try:
            yield database
            database.execute("COMMIT")
        finally:
            if database.in_transaction:
                database.execute("ROLLBACK")

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection in this process."""
        opened: tuple[int, sqlite3.Connection] | None = getattr(self._local, "opened", None)
        if opened is not None and opened[0] == os.getpid():
            return opened[1]
        if opened is not None:
            _INHERITED.append(opened[1])
        if not self.path.is_file():
            raise HomeUnusable(f"There is no ledger at {self.path}.", rule="ledger file", value=str(self.path),
                               remedy="Check the path, or create the ledger with `compliance init`.")
        mode = "rw" if self._log_key is not None else "ro"
        database = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_WAIT_SECONDS,
                                   isolation_level=None, cached_statements=64)
        try:
            # An editor could have left triggers or views behind: nothing runs before the schema was compared.
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA recursive_triggers = ON")
            database.execute("PRAGMA synchronous = FULL")
            if database.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                raise self._corrupt("the file is not a ledger", "ledger file")
            self._verify_schema(database)
            allowed = _WRITING if self._log_key is not None else _READING
            database.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY)
        except (sqlite3.Error, ComplianceError):
            database.close()
            raise
        self._local.opened = (os.getpid(), database)
        return database


def _stored_node(database: sqlite3.Connection) -> merkle.Node:
    """Perfect subtrees as the file holds them; each is read once."""
    known: dict[tuple[int, int], bytes] = {}

    def node(level: int, index: int) -> bytes:
        if (level, index) not in known:
            if level == 0:
                row = database.execute("SELECT leaf FROM entry WHERE idx = ?", (index,)).fetchone()
            else:
                row = database.execute(_NODE, (level, index)).fetchone()
            if row is None:
                raise LedgerCorrupt(f"The ledger has lost node {level}/{index} of its tree.", rule="stored node",
                                    value=f"{level}/{index}", remedy="Restore the newest copy that verifies.")
            known[level, index] = row[0]
        return known[level, index]

    return node


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What SQLite and the system say, in this package's words."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "SQLITE_MISUSE")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise Busy(f"Another process has been writing to {path} for {_WAIT_SECONDS:.0f} seconds.",
                       rule="ledger lock", value=str(path), remedy="Wait for the other run, then try again.") from error
        if name.startswith(_DAMAGED):
            raise LedgerCorrupt(f"The ledger {path} cannot be trusted: {error}.", rule="ledger file", value=name,
                                remedy="Keep it as evidence and restore the newest copy that verifies.") from error
        raise HomeUnusable(f"The ledger {path} cannot be used: {error}.", rule="ledger file", value=name,
                           remedy="Check that the disk has room and that you may write the folder; else use a copy.",
                           ) from error
    except OSError as error:
        raise HomeUnusable(f"The ledger {path} cannot be used: {error.strerror}.", rule="ledger file", value=str(path),
                           remedy="Check that the folder exists and that you may write it.") from error
