"""What one process has read and verified of a ledger since it started, kept so that no page has to verify it again.

A ledger only grows. So each body is read once: hashed into a tree of this process's own, whose root must be the one that the newest
checkpoint signs, and its signatures are verified under the trust policy of its time. When the ledger has grown, only what is new is
read, and the root is compared again: the old entries are a prefix of the new ones, or the ledger is refused. A head of fewer entries,
or another root at the same size, is refused as well.

What was verified stays in memory, so that a body changed on disk later changes nothing that is shown. It is noticed all the same:
whenever the file has changed, and now and then if not, every body is hashed again beside the requests and compared with the leaf that
was verified; from then on everything is refused. Only lists are kept ("everything that this stage made"); a question about one digest
or one entry goes to the ledger and is proved there, as ever.
"""

from __future__ import annotations

import heapq
import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from compliance_assets.errors import Busy, ComplianceError, LedgerCorrupt, UntrustedEvidence
from compliance_assets.evidence import records
from compliance_assets.evidence.archive import Archive, Grow, List, Record, in_order
from compliance_assets.evidence.kept_record import KeptRecord, Words
from compliance_assets.evidence.ledger import Entry, Subjects
from compliance_assets.evidence.ledger_store import Rows
from compliance_assets.evidence.lookup import is_list
from compliance_assets.policy.organisation import Organisation
from compliance_assets.trust.merkle import Checkpoint, Frontier, leaf_hash

T = TypeVar("T")
Reader = Callable[[Record], Any]
Reigns = Sequence[tuple[int, Organisation]]
LEAF, AT_ONCE, A_FEW, MOST_WHOLE = 32, 500, 50, 512
WALKED = ("output", "input", "authorised-by")
"""What made something, what was made from it, what it let happen: a chain is followed through hundreds of them."""
LOOKS_AGAIN = 600.0
"""Seconds after which every body is hashed again although the file does not seem to have changed."""
PATIENCE = 3.0
"""Seconds for which a request waits while another one verifies what is new."""
WAITS = 0.1
"""Seconds for which a request waits for that look where there are no more than `SMALL` entries: what was edited is refused at once."""
SMALL = 5_000


class Remembered:
    """The verified records of one ledger, in lists. Threads share it. `readers`: what lists need of a stage record, read from it once."""

    def __init__(self, readers: Sequence[Reader] = ()) -> None:
        self.readers = tuple(readers)
        self.size = 0
        self._root = Frontier().root
        self._frontier = Frontier()
        self._leaves = bytearray()
        self._lists: dict[tuple[str, str], list[Record]] = {}
        self._kinds: dict[tuple[str, str], None] = {}
        """Those of the lists that hold everything of one kind about one system."""
        self._strangers: list[tuple[int, str, str]] = []
        """Index, kind and system of entries that nobody trusted signed: in no list, but of the ledger."""
        self._refused: dict[tuple[str, str], UntrustedEvidence] = {}
        """By list: why one of the entries that belong there counts for nothing."""
        self._words = Words()
        self._whole: OrderedDict[int, Record] = OrderedDict()
        self._derived: dict[Any, tuple[int, Any]] = {}
        self._known: dict[Any, Any] = {}
        self._grown: dict[Any, tuple[Any, tuple[int, ...]]] = {}
        """By key: what was made of some lists, and how long each of them was then."""
        self._growing = threading.RLock()
        """Held while lists grow and while something is made of them: nobody sees one list longer than another."""
        self._shelf = threading.Lock()
        """Held while a whole record is looked for among those that were read lately."""
        self._lock = threading.RLock()
        self._read, self._of = 0, 0
        self._look: threading.Thread | None = None
        self._seen: tuple[Any, ...] = ()
        self._looked_at, self._pause = 0.0, 0.0
        self.hashed = datetime.min.replace(tzinfo=UTC)
        """When every body was hashed last and was what had been verified."""
        self._problem: LedgerCorrupt | None = None

    # ----------------------------------------------------------------------------------------------------- growing

    def catch_up(self, archive: Archive) -> None:
        """Read and verify what is new. Raises `LedgerCorrupt` where the ledger is not the one verified before, grown."""
        if not self._lock.acquire(timeout=PATIENCE):
            raise Busy(f"{self._read} of {self._of} ledger entries have been verified since these pages were started; nothing is shown "
                       "before all of them are.", rule="verified since start", value=f"{self._read}/{self._of}",
                       remedy="Wait, and load this page again.")
        try:
            stamp = _stamp(archive.ledger.store.where)
            with archive.ledger.reading() as (rows, _, head, _):
                first = self.size == 0
                if head.size < self.size:
                    raise self._changed(archive, f"it has {head.size} entries, and had {self.size}: entries were cut off")
                if head.size > self.size:
                    self._grow(archive, rows, head)
                elif head.root != self._root:
                    raise self._changed(archive, f"its {head.size} entries are other ones than before: it was rewritten")
                if first:
                    self._seen, self._looked_at = stamp, time.monotonic()  # all of it was read just now
                    self.hashed = datetime.now(UTC)
            since = time.monotonic() - self._looked_at
            changed = since > LOOKS_AGAIN or (stamp != self._seen and since > self._pause)
            if changed and self._look is None:
                self._seen, self._looked_at = stamp, time.monotonic()
                self._look = threading.Thread(target=self._look_again, args=(archive,), daemon=True)
                self._look.start()
            look = self._look
        finally:
            self._lock.release()
        if look is not None and self.size <= SMALL:
            look.join(WAITS)
        if self._problem is not None:
            raise self._problem

    def _grow(self, archive: Archive, rows: Rows, head: Checkpoint) -> None:
        # (1) The tree over what was verified before and what is new is the one that was signed.
        frontier = Frontier(self._frontier.size, self._frontier.peaks)
        leaves = bytearray()
        for start in range(self.size, head.size, AT_ONCE):
            for index, body, _ in rows.bodies(start, min(start + AT_ONCE, head.size)):
                if index != frontier.size:
                    raise self._changed(archive, f"entry {frontier.size} is missing")
                leaf = leaf_hash(body)
                frontier.append(leaf)
                leaves += leaf
        if frontier.size != head.size or frontier.root != head.root:
            raise self._changed(archive, f"its {head.size} entries are not those that were signed")
        self._read, self._of = self.size, head.size
        # (2) Each new entry says what its columns say, and is signed by whom it must be; what is not counts for nothing.
        fresh: list[tuple[Sequence[tuple[str, str]], Record]] = []
        strangers: list[tuple[int, str, str]] = []
        refused: dict[tuple[str, str], UntrustedEvidence] = {}
        reigns = archive.reigns()
        for start in range(self.size, head.size, AT_ONCE):
            for entry in rows.entries(start, min(start + AT_ONCE, head.size)):
                at = (entry.index - self.size) * LEAF
                if leaf_hash(entry.body) != bytes(leaves[at:at + LEAF]):
                    raise self._changed(archive, f"entry {entry.index} changed while it was read")
                self._read = entry.index
                try:
                    fresh.append(self._verified(archive, entry, reigns))
                except LedgerCorrupt:
                    raise
                except UntrustedEvidence as why:
                    strangers.append((entry.index, entry.kind, entry.system))
                    refused |= dict.fromkeys(_names(archive.subjects_said(entry)), why)
        # (3) Only now is any of it believed.
        with self._growing:
            for names, record in fresh:
                for name in names:
                    self._lists.setdefault(name, []).append(record)
                self._kinds[names[-1]] = None
        self._strangers += strangers
        self._refused |= refused
        self._leaves += leaves
        self._frontier, self._root, self.size = frontier, head.root, head.size

    def _verified(self, archive: Archive, entry: Entry, reigns: Reigns) -> tuple[Sequence[tuple[str, str]], Record]:
        record = archive.verified(entry, reigns)
        said = record.statement
        if (said.kind, records.execution_of(said), records.system_of(said)) != (entry.kind, entry.dedup, entry.system):
            raise self._changed(archive, f"kind, execution key or system of entry {entry.index} are not what its body says")
        names = [(self._words(str(digest)), role) for digest, role in _names(records.subjects_of(said))]
        names.append((f"kind:{said.kind}", records.system_of(said)))
        index = entry.index
        return names, KeptRecord(record, self._words, lambda: self._load(archive, index), self.readers)

    # ----------------------------------------------------------------------------------------------- looking again

    def _look_again(self, archive: Archive) -> None:
        """Hash every stored body again, beside the requests, and compare it with the leaf that this process verified."""
        clock = time.monotonic()
        try:
            with archive.ledger.reading() as (rows, _, head, _):
                rows.check_shape()
                with self._lock:
                    leaves = bytes(self._leaves)
                size = len(leaves) // LEAF
                if head.size < size:
                    raise self._changed(archive, f"it has {head.size} entries, and had {size}: entries were cut off")
                for start in range(0, size, A_FEW):
                    if start:
                        time.sleep(0.002)  # requests go before
                    end = min(start + A_FEW, size)
                    found = list(rows.bodies(start, end))
                    for place, (index, body, leaf) in enumerate(found):
                        if index != start + place or leaf_hash(body) != leaves[index * LEAF:(index + 1) * LEAF] or leaf != leaf_hash(body):
                            raise self._changed(archive, f"the body of entry {start + place} was changed since it was verified")
                    if len(found) != end - start:
                        raise self._changed(archive, f"an entry between {start} and {end} is missing")
            self.hashed = datetime.now(UTC)
        except LedgerCorrupt as error:
            self._problem = error  # and nothing takes it back: neither a look that cannot read, nor one after the file was put right
        except ComplianceError:
            pass  # busy or out of reach: the request itself says so, and the next look looks again
        finally:
            archive.ledger.close()
            took = time.monotonic() - clock
            self._pause = 20 * took if took > WAITS else 0.0
            self._look = None

    def _changed(self, archive: Archive, why: str) -> LedgerCorrupt:
        return archive.ledger.corrupt(why, "verified since start")

    # ----------------------------------------------------------------------------------------------------- reading

    @property
    def strangers(self) -> int:
        """How many entries nobody trusted signed: they count for nothing."""
        return len(self._strangers)

    @staticmethod
    def keeps(role: str) -> bool:
        """Whether a role's lists are kept: those that grow for ever (the decisions on every release name its definition, too), and those
        by which one record leads to the next.
        """
        return is_list(role) or role in ("subject:definition", "definition-of", *WALKED)

    def listed(self, digest: str, role: str) -> tuple[Record, ...]:
        """Every trusted record of one list, oldest first."""
        return tuple(self._lists.get((digest, role), ()))

    def found(self, digest: str, role: str) -> tuple[Record, ...]:
        """As `listed`, but refuses if one of the entries that belong there counts for nothing."""
        if (digest, role) in self._refused:
            raise self._refused[digest, role]
        return self.listed(digest, role)

    def of_kind(self, kind: str, system: str) -> tuple[Record, ...]:
        """Every trusted record of one kind about one system, oldest first."""
        return tuple(self._lists.get((f"kind:{kind}", system), ()))

    def newest(self, before: int, kind: str, system: str, outcome: str) -> Iterator[int]:
        """Indices of what fits below `before`, newest first; empty fits everything. What nobody trusted signed has no outcome."""
        lists = [_backwards(self._lists[name, of], before, outcome) for name, of in list(self._kinds)
                 if kind in ("", name[5:]) and system in ("", of) and (not outcome or name == "kind:stage")]
        strangers = [] if outcome else [index for index, said, of in reversed(self._strangers)
                                        if index < before and kind in ("", said) and system in ("", of)]
        return heapq.merge(*lists, strangers, reverse=True)

    def fact(self, record: Record, reader: Callable[[Record], T]) -> T:
        """What `reader` reads from a record: at once, if it is one of `readers` and the record is kept."""
        if isinstance(record, KeptRecord) and reader in self.readers:
            known: T = record.fact(self.readers.index(reader))
            return known
        return reader(record)

    def _load(self, archive: Archive, index: int) -> Record:
        """A whole record again: read, proved and verified as any other."""
        with self._shelf:
            if index in self._whole:
                self._whole.move_to_end(index)
                return self._whole[index]
        entry = archive.ledger.entry(index)
        if entry.leaf != bytes(self._leaves[index * LEAF:(index + 1) * LEAF]):
            raise self._changed(archive, f"the body of entry {index} was changed since it was verified")
        record = archive.verified(entry)
        with self._shelf:
            self._whole[index] = record
            while len(self._whole) > MOST_WHOLE:
                self._whole.popitem(last=False)
        return record

    def grown(self, key: Any, lists: Sequence[List], grow: Grow[T]) -> T:
        """What `grow` makes of these lists: from what it made of them before, and the records that came since."""
        with self._growing:
            known = self._grown.get(key, (None, (0,) * len(lists)))
            found = [self._lists.get(name, ()) for name in lists]
            ends = tuple(map(len, found))
            if key not in self._grown or ends != known[1]:
                since = [islice(records, start, end) for records, start, end in zip(found, known[1], ends, strict=True)]
                known = self._grown[key] = grow(known[0], in_order(since)), ends
            made: T = known[0]
            return made

    def known(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` read once; what it cannot read is asked for again."""
        if key not in self._known:
            self._known[key] = make()
        made: T = self._known[key]
        return made

    def derived(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` derives from the records alone: made once for each size of the ledger."""
        size = self.size
        known = self._derived.get(key)
        if known is None or known[0] != size:
            known = self._derived[key] = (size, make())
        made: T = known[1]
        return made


def _backwards(found: Sequence[Record], before: int, outcome: str) -> Iterator[int]:
    for place in range(bisect_left(found, before, key=lambda record: record.index) - 1, -1, -1):
        if not outcome or found[place].body.outcome == outcome:
            yield found[place].index


def _names(subjects: Subjects) -> list[tuple[str, str]]:
    return [(digest, role) for digest, role in subjects if Remembered.keeps(role)]


def _stamp(where: str) -> tuple[Any, ...]:
    """What tells a changed ledger file from the same one: of the file and of its write-ahead log. Nothing of a database server's."""
    found: list[Any] = []
    for path in (Path(where), Path(f"{where}-wal")):
        try:
            state = path.stat()
        except OSError:
            continue
        found.append((state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))
    return tuple(found)
