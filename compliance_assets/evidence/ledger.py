"""What was recorded stays recorded: an append-only log whose every state is signed.

An entry is the exact bytes of a signed envelope; to this module they are opaque. Its leaf hash goes into a Merkle tree
(`trust.merkle`), and every append writes, in one transaction, the entries, the subtrees they complete, and a checkpoint
signed with the log's key. Triggers and an authorizer (SQLite) or roles (Postgres) keep honest code from changing anything.
Whoever gets past them, with an editor on the file, is found out: by the leaf hashes, by the signed checkpoints, and, should the
log's key be stolen, by the heads that were kept elsewhere (people's approvals embed one; see `anchors`).

Here are the rules; the rows lie in a store (`ledger_store`), of which there are two: `ledger_sqlite` and `ledger_postgres`.
`kind`, `dedup`, `system` and the look-up table are for finding entries. The tree does not cover them, so they are compared with
what the body says of itself (give `columns_of` and `subjects_of`), and the table is sealed so that it can hide nothing (`lookup`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compliance_assets.errors import ConflictingRecord, Misused, UntrustedEvidence
from compliance_assets.evidence import ledger_audit
from compliance_assets.evidence.ledger_audit import VerifiedLedger
from compliance_assets.evidence.ledger_reading import ColumnsOf, LedgerReader, SubjectsOf, stored_node
from compliance_assets.evidence.ledger_store import LARGEST_BODY, Entry, NewEntry, Row, Rows, Signed, Subjects, create_store
from compliance_assets.evidence.lookup import Sealing, lookup_origin, lookup_rows
from compliance_assets.trust import merkle
from compliance_assets.trust.keys import PublicKey, SigningKey
from compliance_assets.trust.merkle import Checkpoint, Frontier

__all__ = ["LARGEST_BODY", "Checkpoint", "Entry", "Ledger", "NewEntry", "Subjects", "VerifiedLedger"]


class Ledger(LedgerReader):
    """A ledger, in a file or in Postgres. With the log's key it can append, without it only read. Processes and threads may share it."""

    def __init__(self, place: Path | str, log_public: PublicKey, log_key: SigningKey | None = None, *,
                 subjects_of: SubjectsOf | None = None, columns_of: ColumnsOf | None = None) -> None:
        if log_key is not None and log_key.public != log_public:
            raise UntrustedEvidence("The log's private key does not belong to its public key.", rule="log key",
                                    value=log_key.keyid, remedy="Give the two halves of one key.")
        super().__init__(place, log_public, subjects_of=subjects_of, columns_of=columns_of, writer=log_key is not None)
        self._log_key = log_key

    @classmethod
    def create(cls, place: Path | str, origin: str, log_key: SigningKey, *, subjects_of: SubjectsOf | None = None,
               columns_of: ColumnsOf | None = None) -> Ledger:
        """A new, empty ledger named `origin` (`<organisation>/ledger`). Never overwrites."""
        create_store(place, _sign(origin, 0, merkle.EMPTY_ROOT, merkle.EMPTY_ROOT, log_key))
        return cls.open(place, log_key.public, log_key, subjects_of=subjects_of, columns_of=columns_of)

    @classmethod
    def open(cls, place: Path | str, log_public: PublicKey, log_key: SigningKey | None = None, *,
             subjects_of: SubjectsOf | None = None, columns_of: ColumnsOf | None = None) -> Ledger:
        """The ledger at `place`, if its newest checkpoint is signed by `log_public`'s key."""
        ledger = cls(place, log_public, log_key, subjects_of=subjects_of, columns_of=columns_of)
        ledger.head()
        return ledger

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
                          value=self.store.where, remedy="Put keys/log.key back, or work where the ledger is written.")
        with self.store.writing() as rows:
            # (1) The stored right edge of the tree is the one that was signed.
            signed, head = self.newest(rows)
            node = stored_node(rows)
            frontier = Frontier.of(head.size, node)
            if frontier.root != head.root:
                raise self.corrupt(f"its tree of {head.size} entries is not the one that was signed", "signed root")
            # (2) Each entry is either there already, or the next one.
            recorded = tuple(self._recorded(rows, new, head, node) or self._insert(rows, new, frontier) for new in entries)
            # (3) The new state is signed, the look-up table with it.
            if frontier.size > head.size:
                fresh = {entry.index: new for entry, new in zip(recorded, entries, strict=True) if entry.index >= head.size}
                root = self._seal(rows, [row for index, new in fresh.items() for row in lookup_rows(new.kind, new.subjects, index)], signed)
                rows.add_signed(_sign(head.origin, frontier.size, frontier.root, root, self._log_key))
        return recorded

    def _check_new(self, new: NewEntry) -> None:
        if not 0 < len(new.body) <= LARGEST_BODY:
            raise Misused(f"A record has 1 to {LARGEST_BODY} bytes, not {len(new.body)}.", rule="entry size",
                          value=str(len(new.body)), remedy="Put the rest into the artefact store, and its digest here.")
        if not (new.kind and new.dedup):
            raise Misused("A record needs a kind and an execution key.", rule="entry columns",
                          value=f"{new.kind!r}, {new.dedup!r}", remedy="Name both.")
        self.check_columns(new, "the record")
        if self.subjects_of is not None and set(self.subjects_of(new.body)) != set(new.subjects):
            raise self.corrupt(f"the subjects given for {new.dedup} are not those that its body names", "subjects")

    def _recorded(self, rows: Rows, new: NewEntry, head: Checkpoint, node: merkle.Node) -> Entry | None:
        entry = rows.recorded(new.dedup)
        if entry is None:
            return None
        if (entry.kind, entry.system, entry.body) != (new.kind, new.system, new.body):
            raise ConflictingRecord(
                f"Entry {entry.index} of {head.origin} records {new.dedup:.80} with other content.",
                rule="execution key", value=new.dedup,
                remedy="An execution is recorded once: record the new attempt under its own key.",
            )
        return entry if entry.index >= head.size else self.proved(entry, head, node)

    def _insert(self, rows: Rows, new: NewEntry, frontier: Frontier) -> Entry:
        entry = Entry(frontier.size, new.kind, new.dedup, new.system, new.body, merkle.leaf_hash(new.body))
        rows.add_entry(entry)
        rows.add_nodes(frontier.append(entry.leaf))
        return entry

    def _seal(self, rows: Rows, added: list[Row], signed: Signed) -> bytes:
        sealing = Sealing(rows.seal)
        if not sealing.leads_to(self.lookup_root(signed), {row[0] for row in added}):
            raise self.edited_lookup()
        sealing.add(added)
        rows.add_lookup(added)
        rows.put_seals(sealing.nodes())
        return sealing.root

    def verify(self, heads: Sequence[Checkpoint] = ()) -> VerifiedLedger:
        """Recompute everything from the bodies up, and compare it with all that was signed, here and elsewhere (`ledger_audit`)."""
        return ledger_audit.verify(self, heads)

    def rebuild_lookup(self) -> None:
        """Derive the look-up table again from the entries, and put it in the place of one that was edited."""
        ledger_audit.rebuild_lookup(self)


def _sign(origin: str, size: int, root: bytes, lookup: bytes, key: SigningKey) -> Signed:
    return Signed(size, merkle.sign_checkpoint(Checkpoint(origin, size, root), key),
                  merkle.sign_checkpoint(Checkpoint(lookup_origin(origin), size, lookup), key))
