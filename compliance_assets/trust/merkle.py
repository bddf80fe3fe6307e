"""A list that can only grow: one hash stands for all of it, and a short proof shows that an entry is in it.

The tree is RFC 6962's (leaves `H(0x00 || bytes)`, nodes `H(0x01 || left || right)`); the proofs are checked as RFC 9162
§2.1.3 and §2.1.4 say. A *checkpoint* is the tree's size and root, signed as a C2SP note (c2sp.org/tlog-checkpoint,
c2sp.org/signed-note), which Go's `sumdb/note` and any witness can read.

Proofs are made from *perfect* subtrees only: `node(level, index)` is the hash over the 2**level leaves from
`index * 2**level`. These never change once they exist, so a store can be append-only.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compliance_assets.errors import UntrustedEvidence
from compliance_assets.trust.keys import PublicKey, SigningKey, strict_base64

Node = Callable[[int, int], bytes]
"""(level, index) → the 32-byte hash of a perfect subtree."""

EMPTY_ROOT = hashlib.sha256(b"").digest()
_LARGEST_TREE = 1 << 62
_NOTE_SIGNATURE = re.compile(r"— (\S+) ([A-Za-z0-9+/]+={0,2})")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def _refusal(why: str, rule: str, value: str = "") -> UntrustedEvidence:
    return UntrustedEvidence(f"{why}.", rule=rule, value=value, remedy="Ask where the log and this proof come from.")


def leaf_hash(content: bytes) -> bytes:
    """The hash of an entry: its exact bytes, never parsed."""
    return hashlib.sha256(b"\x00" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """The largest power of two below `size` (RFC 6962 §2.1)."""
    return 1 << (size - 1).bit_length() - 1


class Frontier:
    """The right edge of a growing tree: its perfect subtrees, large to small. Enough to append, and for the root."""

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if len(peaks) != size.bit_count():
            raise _refusal(f"A tree of {size} entries has {size.bit_count()} peaks, not {len(peaks)}", "peaks")
        self.size = size
        self.peaks = list(peaks)

    @classmethod
    def of(cls, size: int, node: Node) -> Frontier:
        """The frontier of the first `size` entries, from stored subtrees."""
        return cls(size, [node(level, index) for level, index in peaks_of(size)])

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf hash. Returns the perfect subtrees above level 0 that it completes: (level, index, hash)."""
        completed: list[tuple[int, int, bytes]] = []
        level, index = 0, self.size
        while index & 1:
            leaf = node_hash(self.peaks.pop(), leaf)
            level, index = level + 1, index >> 1
            completed.append((level, index, leaf))
        self.peaks.append(leaf)
        self.size += 1
        return completed

    @property
    def root(self) -> bytes:
        """The tree's root."""
        return _fold(self.peaks)


def peaks_of(size: int) -> list[tuple[int, int]]:
    """(level, index) of the perfect subtrees that make up a tree of `size` entries, from left to right."""
    return _perfect(0, size)


def _perfect(start: int, end: int) -> list[tuple[int, int]]:
    found = []
    while start < end:
        level = (end - start).bit_length() - 1
        found.append((level, start >> level))
        start += 1 << level
    return found


def _fold(peaks: Sequence[bytes]) -> bytes:
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def _subtree(start: int, end: int, node: Node) -> bytes:
    """The hash over entries start..end, where `start` is where a subtree begins."""
    return _fold([node(level, index) for level, index in _perfect(start, end)])


def inclusion_proof(index: int, size: int, node: Node) -> tuple[bytes, ...]:
    """The hashes that lead from entry `index` to the root of the first `size` entries (RFC 6962 §2.1.1)."""
    if not 0 <= index < size:
        raise _refusal(f"Entry {index} is not among the first {size}", "inclusion proof", str(index))
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(start, middle, node))
            start = middle
    return tuple(reversed(path))


def consistency_proof(old: int, new: int, node: Node) -> tuple[bytes, ...]:
    """The hashes that show the first `old` entries to be a prefix of the first `new` (RFC 6962 §2.1.2)."""
    if not 0 < old <= new:
        raise _refusal(f"There is no consistency proof from {old} to {new} entries", "consistency proof")
    path: list[bytes] = []
    start, end, whole = 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(start, middle, node))
            start, whole = middle, False
    if not whole:
        path.append(_subtree(start, end, node))
    return tuple(reversed(path))


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Refuse unless `leaf` is entry `index` of the tree with `size` entries and this root (RFC 9162 §2.1.3.2)."""
    # (1)
    if not 0 <= index < size < _LARGEST_TREE:
        raise _refusal(f"Entry {index} is not in a tree of {size}", "inclusion proof", str(index))
    _check_lengths([leaf, root, *proof], "inclusion proof")
    # (2), (3)
    position, last, computed = index, size - 1, leaf
    # (4)
    for sibling in proof:
        if last == 0:  # (4a)
            raise _refusal("The inclusion proof is too long", "inclusion proof", str(index))
        if position & 1 or position == last:  # (4b)
            computed = node_hash(sibling, computed)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1  # (4c)
    # (5)
    if last != 0 or computed != root:
        raise _refusal(f"Entry {index} is not in the tree that was signed", "inclusion proof", str(index))


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Refuse unless the tree of `old` entries is a prefix of the tree of `new` entries (RFC 9162 §2.1.4.2).

    From an empty tree nothing follows, so size 0 is refused, not "trivially consistent".
    """
    rule = "consistency proof"
    # (1)
    if not 0 < old <= new < _LARGEST_TREE:
        raise _refusal(f"Nothing can be shown from {old} to {new} entries", rule)
    if old == new:
        if proof or old_root != new_root:
            raise _refusal(f"Two different trees have {old} entries", rule, str(old))
        return
    _check_lengths([old_root, new_root, *proof], rule)
    if not proof:
        raise _refusal("The consistency proof is empty", rule)
    # (2)
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    # (3), (4)
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    # (5)
    computed_old = computed_new = path[0]
    # (6)
    for sibling in path[1:]:
        if last == 0:  # (6a)
            raise _refusal("The consistency proof is too long", rule)
        if position & 1 or position == last:  # (6b)
            computed_old = node_hash(sibling, computed_old)
            computed_new = node_hash(sibling, computed_new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            computed_new = node_hash(computed_new, sibling)
        position, last = position >> 1, last >> 1  # (6c)
    # (7)
    if last != 0 or computed_old != old_root or computed_new != new_root:
        raise _refusal(f"The first {old} of {new} entries are not the {old} that were signed before", rule, str(old))


def _check_lengths(hashes: Sequence[bytes], rule: str) -> None:
    if any(len(each) != 32 for each in hashes):
        raise _refusal("A hash in the proof does not have 32 bytes", rule)


@dataclass(frozen=True)
class Checkpoint:
    """How long a log was at some moment, and the root that stands for all of it. `origin` names the log."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The body of the note (c2sp.org/tlog-checkpoint)."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def _key_hash(name: str, public: PublicKey) -> bytes:
    return hashlib.sha256(f"{name}\n".encode() + b"\x01" + public.raw).digest()[:4]


def sign_note(text: str, name: str, key: SigningKey) -> str:
    """A C2SP signed note: the text, an empty line, and one Ed25519 signature by `name`."""
    if not is_name(name) or not text.endswith("\n") or not _is_printable(text):
        raise _refusal("This is not text that a note can carry", "signed note", name)
    signature = _key_hash(name, key.public) + key.sign(text.encode())
    return f"{text}\n— {name} {base64.b64encode(signature).decode()}\n"


def open_note(note: str, name: str, public: PublicKey) -> str:
    """The text of a note that `name` signed with this key. Signatures by others (witnesses) are left aside.

    (1) Plain text, no control characters. (2) The text, an empty line, signature lines, nothing else. (3) Exactly one
    signature is this key's. (4) It fits the text.
    """
    rule = "signed note"
    # (1)
    if not _is_printable(note):
        raise _refusal("The note is not plain text", rule)
    # (2)
    text = note_text(note)
    lines = note[len(text) + 1:-1].split("\n")
    if len(lines) > 100:
        raise _refusal("The note has too many signatures", rule)
    ours: list[bytes] = []
    for line in lines:
        found = _NOTE_SIGNATURE.fullmatch(line)
        if found is None or not is_name(found[1]):
            raise _refusal("The note has a malformed signature line", rule)
        signature = strict_base64(found[2], "A note's signature")
        if len(signature) < 5:
            raise _refusal("The note has a signature that is too short", rule)
        if found[1] == name and signature[:4] == _key_hash(name, public):
            ours.append(signature[4:])
    # (3)
    if len(ours) != 1:
        raise _refusal(f"The note carries {len(ours)} signatures by {name}'s key, not one", rule, name)
    # (4)
    if not public.signed(text.encode(), ours[0]):
        raise _refusal(f"The signature by {name} does not fit the note", rule, name)
    return text


def note_text(note: str) -> str:
    """The text of a note, without its signatures, which are not looked at."""
    text, separator, tail = note.rpartition("\n\n")
    if not separator or not tail.endswith("\n") or len(note) > 1 << 20:
        raise _refusal("The note has no signatures", "signed note")
    return text + "\n"


def is_name(name: str) -> bool:
    """Whether a note may be signed under this name (C2SP signed-note: no blank, no plus)."""
    return bool(name) and "+" not in name and not any(letter.isspace() for letter in name) and _is_printable(name)


def _is_printable(text: str) -> bool:
    return not any((letter < " " and letter != "\n") or "\ud800" <= letter <= "\udfff" for letter in text)


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """The checkpoint as a note, signed in the log's own name."""
    return sign_note(checkpoint.text, checkpoint.origin, key)


def open_checkpoint(note: str, public: PublicKey, origin: str) -> Checkpoint:
    """The checkpoint that `origin`'s key signed. Refuses another origin, a wrong signature, and any malformed line."""
    lines = open_note(note, origin, public).split("\n")
    if len(lines) != 4 or lines[3] or _SIZE.fullmatch(lines[1]) is None:
        raise _refusal("The checkpoint is not three lines: origin, size, root", "checkpoint")
    if lines[0] != origin:
        raise _refusal(f"The checkpoint is of another log, {lines[0]!r:.60}", "checkpoint origin", lines[0][:60])
    root = strict_base64(lines[2], "The checkpoint's root")
    size = int(lines[1])
    if len(root) != 32 or (size == 0) != (root == EMPTY_ROOT):
        raise _refusal("The checkpoint's root is not one that a tree of this size has", "checkpoint", lines[1])
    return Checkpoint(origin, size, root)
