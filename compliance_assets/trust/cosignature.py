"""A witness says: at this moment this was the largest head of that log that I had seen, and it grew from all I saw before.

C2SP cosignature/v1 (c2sp.org/tlog-cosignature), the Ed25519 kind: a signature line on the log's own note, with a time in it. Any
witness of the public network makes them, and any verifier of theirs reads ours.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime

from compliance_assets.errors import UntrustedEvidence
from compliance_assets.trust.keys import PublicKey, SigningKey, strict_base64
from compliance_assets.trust.merkle import is_name, note_text

_ED25519_COSIGNATURE = b"\x04"


def _key_hash(name: str, public: PublicKey) -> bytes:
    return hashlib.sha256(f"{name}\n".encode() + _ED25519_COSIGNATURE + public.raw).digest()[:4]


def _signed(text: str, timestamp: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def cosign(note: str, name: str, key: SigningKey, at: datetime) -> str:
    """The signature line, with its line end, by which the witness `name` cosigns the text of this note."""
    if not is_name(name):
        raise UntrustedEvidence("This is not a name that a witness can have.", rule="witness name", value=name[:60],
                                remedy="Write it like an address without scheme: witness.example/1.")
    timestamp = int(at.timestamp())
    signature = _key_hash(name, key.public) + timestamp.to_bytes(8) + key.sign(_signed(note_text(note), timestamp))
    return f"— {name} {base64.b64encode(signature).decode()}\n"


def cosigned_at(note: str, name: str, public: PublicKey) -> datetime:
    """When `name` cosigned this note.

    (1) Exactly one signature line has this name and this key's hash. (2) It is 4 + 8 + 64 bytes. (3) It fits text and time.
    """
    text = note_text(note)
    # (1)
    ours = []
    for line in note[len(text) + 1:].splitlines():
        mark, _, rest = line.partition(" ")
        who, _, encoded = rest.partition(" ")
        if mark == "—" and who == name:
            signature = strict_base64(encoded, "A cosignature")
            if signature[:4] == _key_hash(name, public):
                ours.append(signature[4:])
    if len(ours) != 1:
        raise _refusal(f"The note carries {len(ours)} cosignatures by {name}'s key, not one", name)
    # (2)
    if len(ours[0]) != 72:
        raise _refusal(f"The cosignature by {name} does not have 76 bytes", name)
    # (3)
    timestamp = int.from_bytes(ours[0][:8])
    if timestamp >= 1 << 36 or not public.signed(_signed(text, timestamp), ours[0][8:]):
        raise _refusal(f"The cosignature by {name} does not fit the note", name)
    return datetime.fromtimestamp(timestamp, UTC)


def _refusal(why: str, name: str) -> UntrustedEvidence:
    return UntrustedEvidence(f"{why}.", rule="cosignature", value=name, remedy="Ask the witness to cosign the checkpoint again.")
