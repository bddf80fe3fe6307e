"""Verifying a whole ledger: everything recomputed from the bodies up, and compared with all that was signed, here and elsewhere.

Three parts, each counted apart: the tree (hashes only, in blocks of 4,096 entries), the signatures of the checkpoints (in
parallel), and the look-up table with the columns (what every body says of itself).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import TYPE_CHECKING

from compliance_assets.errors import Misused
from compliance_assets.evidence.ledger_store import Row, Rows, Signed
from compliance_assets.evidence.lookup import NOTHING, chained, linked, lookup_rows, root_of, tree_of
from compliance_assets.trust.merkle import Checkpoint, Frontier

if TYPE_CHECKING:
    from compliance_assets.evidence.ledger_reading import LedgerReader

_LEVEL = 12
_BLOCK = 1 << _LEVEL
_NOTES = 1024


@dataclass(frozen=True)
class VerifiedLedger:
    """What a full verification established: how many entries, their root, and how many signed checkpoints agree."""

    size: int
    root: bytes
    checkpoints: int
    columns_checked: bool
    subjects_checked: bool
    seconds: dict[str, float] = field(compare=False, default_factory=dict)
    """How long each part took: tree, signatures, look-up."""


def verify(ledger: LedgerReader, heads: Sequence[Checkpoint] = ()) -> VerifiedLedger:
    """Verify all of `ledger`. Raises `LedgerCorrupt` at the first step that does not hold.

    (1) The store's tables and triggers are those it was made with. (2) Every head in `heads`, kept outside of it, is of this log
    and not beyond it. (3) The entries are numbered without a gap, and each leaf is its body's. (4) Every stored node is the
    recomputed one, and there is no other. (5) Every checkpoint's root, and every kept head's, is the recomputed one at its size, so
    that nothing was cut off or rewritten since. (6) Every checkpoint is signed; the newest covers all entries. (7) Columns are what
    the body says (where `columns_of` is given). (8) The look-up table lists what the bodies say (where `subjects_of` is given), and
    is the one that was sealed.
    """
    seconds: dict[str, float] = {}
    with ledger.reading() as (rows, signed, head, _):
        # (1)
        rows.check_shape()
        # (2)
        for kept in heads:
            if kept.origin != head.origin:
                raise ledger.corrupt(f"a head kept elsewhere is of another log, {kept.origin}", "kept head")
            if kept.size > head.size:
                raise ledger.corrupt(f"a head kept elsewhere, of {kept.size} entries, is beyond its {head.size}:"
                                     " entries were cut off, or an older copy was restored", "kept head")
        # (3) to (5)
        began = time.perf_counter()
        verify_tree(ledger, rows, head, heads)
        seconds["tree"] = time.perf_counter() - began
        # (6)
        began = time.perf_counter()
        checkpoints = verify_notes(ledger, rows.all_signed(), head.origin)
        seconds["signatures"] = time.perf_counter() - began
        # (7), (8)
        began = time.perf_counter()
        _verify_lookup(ledger, rows, signed)
        seconds["look-up"] = time.perf_counter() - began
    return VerifiedLedger(head.size, head.root, checkpoints, ledger.columns_of is not None, ledger.subjects_of is not None, seconds)


def rebuild_lookup(ledger: LedgerReader) -> None:
    """Derive the look-up table from the bodies, and store it if it is the one that was sealed."""
    if ledger.subjects_of is None:
        raise Misused("The look-up table cannot be derived without knowing what a body is about.", rule="subjects_of",
                      value=ledger.store.where, remedy="Open the ledger through `Archive`.")
    with ledger.reading() as (rows, signed, head, _):
        verify_tree(ledger, rows, head, ())
        chains: dict[str, bytes] = {}
        derived: list[Row] = []
        for found in _derived(ledger, rows, chains):
            derived += found
        nodes = tree_of(chains)
        if root_of(nodes.get) != ledger.lookup_root(signed):
            raise ledger.corrupt("its entries are not those of which the look-up table was sealed", "look-up seal")
    ledger.store.relook(head.size, derived, sorted(nodes.items()))


# ------------------------------------------------------------------------------------------------------------------ the tree

def verify_tree(ledger: LedgerReader, rows: Rows, head: Checkpoint, heads: Sequence[Checkpoint]) -> None:
    """Steps (3) to (5) of `verify`: everything that hashes alone can show."""
    upper: dict[tuple[int, int], bytes] = {}
    levels: list[list[bytes]] = [[]]
    counted, start, sha256 = 0, 0, hashlib.sha256

    def node(level: int, index: int) -> bytes:
        return upper[level, index] if level >= _LEVEL else levels[level][index - (start >> level)]

    wanted = _roots(ledger, rows.all_signed(), heads)
    expected = next(wanted, None)
    while True:
        rows.soon(start, head.size)
        leaves: list[bytes] = []
        # (3) Row by row: each body is hashed while it is still in the processor's own memory.
        for index, body, stored in rows.bodies(start, start + _BLOCK):
            if index != start + len(leaves):
                raise ledger.corrupt(f"entry {start + len(leaves)} is missing", "entry sequence")
            leaf = sha256(b"\x00" + body).digest()
            if leaf != stored:
                raise ledger.corrupt(f"the body of entry {index} was changed", "entry leaf")
            leaves.append(leaf)
        # (4)
        levels = _levels(leaves)
        for level in range(1, len(levels)):
            _compare(ledger, rows.nodes(level, start >> level, (start >> level) + len(levels[level])), levels[level], level, start)
            counted += len(levels[level])
        if len(leaves) == _BLOCK:
            counted += _complete(ledger, rows, upper, start >> _LEVEL, levels[_LEVEL][0])
        # (5)
        while expected is not None and expected[0] <= start + len(leaves):
            size, root, why, rule = expected
            if Frontier.of(size, node).root != root:
                raise ledger.corrupt(why, rule)
            expected = next(wanted, None)
        if len(leaves) < _BLOCK:
            break
        start += _BLOCK
    if expected is not None:
        raise ledger.corrupt(f"it holds {start + len(leaves)} entries, but {expected[0]} were signed", "checkpoint size")
    if start + len(leaves) != head.size:
        raise ledger.corrupt(f"it holds {start + len(leaves)} entries, but {head.size} were signed", "checkpoint size")
    if rows.count_nodes() != counted:
        raise ledger.corrupt("it stores nodes that no entry explains", "stored node")


def _levels(leaves: list[bytes]) -> list[list[bytes]]:
    """The perfect subtrees over a block's leaves, level by level."""
    sha256 = hashlib.sha256
    levels = [leaves]
    while len(levels[-1]) > 1:
        below = iter(levels[-1])
        # zip leaves a last one without a neighbour out: it is no perfect subtree yet.
        levels.append([sha256(b"\x01" + left + right).digest() for left, right in zip(below, below, strict=False)])
    return levels


def _compare(ledger: LedgerReader, stored: list[bytes], computed: list[bytes], level: int, start: int) -> None:
    if stored != computed:
        wrong = next((i for i, each in enumerate(computed) if i >= len(stored) or stored[i] != each), 0)
        raise ledger.corrupt(f"stored node {level}/{(start >> level) + wrong} is not the hash of its entries", "stored node")


def _complete(ledger: LedgerReader, rows: Rows, upper: dict[tuple[int, int], bytes], index: int, root: bytes) -> int:
    """Note a full block, and the larger subtrees that it completes; how many those are."""
    level, completed = _LEVEL, 0
    upper[level, index] = root
    while index & 1:
        root = hashlib.sha256(b"\x01" + upper[level, index - 1] + root).digest()
        level, index, completed = level + 1, index >> 1, completed + 1
        upper[level, index] = root
        _compare(ledger, rows.nodes(level, index, index + 1), [root], level, index << level)
    return completed


def _roots(ledger: LedgerReader, signed: Iterator[Signed], heads: Sequence[Checkpoint]) -> Iterator[tuple[int, bytes, str, str]]:
    """(size, root, what is wrong otherwise, rule) of everything that was signed, by size."""
    kept = sorted(heads, key=lambda each: each.size)
    for state in signed:
        while kept and kept[0].size <= state.size:
            yield _expected(kept.pop(0))
        yield state.size, _claimed(ledger, state), f"its entries are not those signed at size {state.size}", "checkpoint root"
    yield from map(_expected, kept)


def _expected(kept: Checkpoint) -> tuple[int, bytes, str, str]:
    return (kept.size, kept.root, f"its first {kept.size} entries are not those of a head kept elsewhere: they were rewritten", "kept head")


def _claimed(ledger: LedgerReader, state: Signed) -> bytes:
    """The root that a stored note claims for its size; whether it is signed is seen in step (6)."""
    lines = state.note.split("\n")
    try:
        if len(lines) > 3 and lines[1] == str(state.size):
            return base64.b64decode(lines[2], validate=True)
    except binascii.Error:
        pass
    raise ledger.corrupt(f"its checkpoint at {state.size} entries is none", "checkpoint root")


# ------------------------------------------------------------------------------------------------------------ the signatures

def verify_notes(ledger: LedgerReader, signed: Iterator[Signed], origin: str) -> int:
    """Check every checkpoint's signature, on all cores; how many there are."""
    count = 0

    def check(states: list[Signed]) -> None:
        for state in states:
            ledger.open_note(state.note, origin)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        while states := list(islice(signed, _NOTES)):
            count += len(states)
            share = max(1, len(states) // (4 * (os.cpu_count() or 1)))
            for _ in threads.map(check, [states[i:i + share] for i in range(0, len(states), share)]):
                pass
    return count


# ---------------------------------------------------------------------------------------------------------- the look-up table

def _derived(ledger: LedgerReader, rows: Rows, chains: dict[str, bytes]) -> Iterator[list[Row]]:
    """Each entry's rows as its body says them; `chains` grows with them."""
    for entry in rows.entries(0):
        ledger.check_columns(entry, f"entry {entry.index}")
        if ledger.subjects_of is None:
            continue
        found = lookup_rows(entry.kind, ledger.subjects_of(entry.body), entry.index)
        for row in found:
            chains[row[0]] = linked(chains[row[0]] if row[0] in chains else NOTHING, row)
        yield found


def _verify_lookup(ledger: LedgerReader, rows: Rows, signed: Signed) -> None:
    # (7)
    chains: dict[str, bytes] = {}
    if ledger.columns_of is not None or ledger.subjects_of is not None:
        for _ in _derived(ledger, rows, chains):
            pass
    # (8)
    stored = {bucket: chained(found) for bucket, found in groupby(rows.lookup(), key=_bucket)}
    if ledger.subjects_of is not None and stored != chains:
        wrong = min(bucket for bucket in stored.keys() | chains.keys()
                    if bucket not in stored or bucket not in chains or stored[bucket] != chains[bucket])
        raise ledger.corrupt(f"the look-up table does not list what its entries are about (bucket {wrong})", "subjects")
    nodes = tree_of(stored)
    if root_of(nodes.get) != ledger.lookup_root(signed):
        raise ledger.edited_lookup()
    if rows.count_seals() != len(nodes) or any(rows.seal(path) != hashes for path, hashes in nodes.items()):
        raise ledger.edited_lookup()


def _bucket(row: Row) -> str:
    return row[0]
