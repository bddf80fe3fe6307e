"""Finding entries without reading all of them, in a table that can hide nothing: what is missing from it is found out at once.

A table (digest, role, entry) says which entries are about what. It is derived from the entries and never trusted: everything
found through it is proved to be in the tree. But a proof cannot show that nothing was left out, so the table is sealed. Its rows
fall into buckets by the first four digits of the digest; a bucket's hash is a chain over its rows in ledger order; the hashes are
the leaves of a tree of four levels with sixteen branches; and its root is signed with the log's key, as a note of its own, in the
transaction that appends. Whoever asks reads one bucket, recomputes its chain and climbs four nodes to the signed root: a row
removed, added or changed anywhere in the bucket, or an older table put back, does not lead there.

There are two such trees: `l` for lists that grow for ever ("everything that this stage made"), `p` for everything else, so that no
question about one digest has to read a long list that happens to share its bucket.

Bucket: `H(0x02 || chain || digest || index (8 bytes) || role)`, from 32 zero bytes. Node: `H(0x03 || 16 hashes)`; without any row
32 zero bytes. Root: `H(0x04 || p || l)`. Full verification derives the whole table again from the bodies (`ledger_audit`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from compliance_assets.evidence.ledger_store import Row, Subjects
from compliance_assets.trust.merkle import EMPTY_ROOT

DEPTH = 4
POINTS, LISTS = "p", "l"
_LISTED = frozenset({"kind", "made", "definition", "environment"})
BRANCHES = "0123456789abcdef"
NOTHING = bytes(32)
_EMPTY_NODE = NOTHING * len(BRANCHES)

Seal = Callable[[str], bytes | None]
"""A stored node by its path (`p` and `l` are the tops): sixteen hashes, or None where there is no row below."""


def bucket_of(digest: str, role: str) -> str:
    """The bucket of a row: `p` or `l`, and four digits."""
    return (LISTS if is_list(role) else POINTS) + digest[:DEPTH]


def is_list(role: str) -> bool:
    """Whether a role names a list that grows for ever."""
    return role in _LISTED or role.startswith("decided:")


def kind_subject(kind: str) -> str:
    """The look-up name of all entries of one kind."""
    return hashlib.sha256(f"kind:{kind}".encode()).hexdigest()


def lookup_origin(origin: str) -> str:
    """The name under which the seal of the look-up table is signed: never a checkpoint's."""
    return f"{origin}/look-up"


def lookup_rows(kind: str, subjects: Subjects, index: int) -> list[Row]:
    """The rows of the look-up table that one entry has, in the order in which they are sealed."""
    return sorted({(bucket_of(digest, role), str(digest), role, index) for digest, role in (*subjects, (kind_subject(kind), "kind"))})


def linked(chain: bytes, row: Row) -> bytes:
    """A bucket's chain with one more row."""
    _, digest, role, index = row
    return hashlib.sha256(b"\x02" + chain + bytes.fromhex(digest) + index.to_bytes(8) + role.encode()).digest()


def chained(rows: Iterable[Row], chain: bytes = NOTHING) -> bytes:
    """The chain over a bucket's rows: in ledger order, and within an entry by digest and role."""
    for row in sorted(rows, key=lambda row: (row[3], row[1], row[2])):
        chain = linked(chain, row)
    return chain


def node_hash(hashes: bytes) -> bytes:
    """The hash of a node's sixteen hashes."""
    return NOTHING if hashes == _EMPTY_NODE else hashlib.sha256(b"\x03" + hashes).digest()


def root_of(nodes: Seal) -> bytes:
    """The root of the whole table, from its two top nodes; of an empty table the empty tree's."""
    tops = [nodes(path) or _EMPTY_NODE for path in (POINTS, LISTS)]
    if tops == [_EMPTY_NODE, _EMPTY_NODE]:
        return EMPTY_ROOT
    return hashlib.sha256(b"\x04" + node_hash(tops[0]) + node_hash(tops[1])).digest()


class Sealing:
    """The table's tree while rows are added to it: reads the nodes that it needs, and keeps those that changed."""

    def __init__(self, stored: Seal) -> None:
        self._stored = stored
        self._nodes: dict[str, bytes] = {}

    def _node(self, path: str) -> bytes:
        if path not in self._nodes:
            self._nodes[path] = self._stored(path) or _EMPTY_NODE
        return self._nodes[path]

    def leads_to(self, root: bytes, buckets: Iterable[str]) -> bool:
        """Whether the stored nodes above these buckets lead to the signed root: only then may they be believed or extended."""
        return self.root == root and all(
            node_hash(self._node(bucket[:depth + 1])) == _part(self._node(bucket[:depth]), bucket[depth])
            for bucket in buckets for depth in range(1, DEPTH))

    def chain(self, bucket: str) -> bytes:
        """A bucket's hash, as its node holds it."""
        return _part(self._node(bucket[:-1]), bucket[-1])

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows of entries that are newer than all before."""
        changed = set()
        for bucket, found in groupby(sorted(rows), key=lambda row: row[0]):
            self._put(bucket, chained(found, self.chain(bucket)))
            changed.add(bucket[:-1])
        while above := {path for path in changed if len(path) > 1}:
            for path in above:
                self._put(path, node_hash(self._nodes[path]))
            changed = {path[:-1] for path in above}

    def _put(self, path: str, value: bytes) -> None:
        at = BRANCHES.index(path[-1]) * 32
        node = self._node(path[:-1])
        self._nodes[path[:-1]] = node[:at] + value + node[at + 32:]

    @property
    def root(self) -> bytes:
        return root_of(self._node)

    def nodes(self) -> Iterator[tuple[str, bytes]]:
        """Every node that was read or changed, with its hashes now."""
        return ((path, hashes) for path, hashes in sorted(self._nodes.items()) if hashes != _EMPTY_NODE)


def tree_of(chains: Mapping[str, bytes]) -> dict[str, bytes]:
    """Every node of the table's tree, by path, from the hashes of its buckets."""
    nodes: dict[str, bytes] = {}
    below = chains
    for depth in range(DEPTH, 0, -1):
        parts: dict[str, dict[str, bytes]] = {}
        for path, value in below.items():
            parts.setdefault(path[:depth], {})[path[depth]] = value
        level = {path: b"".join(found[branch] if branch in found else NOTHING for branch in BRANCHES) for path, found in parts.items()}
        nodes |= level
        below = {path: node_hash(hashes) for path, hashes in level.items()}
    return nodes


def _part(node: bytes, branch: str) -> bytes:
    at = BRANCHES.index(branch) * 32
    return node[at:at + 32]
