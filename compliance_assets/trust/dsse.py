"""A statement travels in an envelope, and the envelope says who signed exactly these bytes.

The envelope is DSSE: a signature covers the bytes of the payload together with their type, so nothing has to be parsed
before it is trusted. Machines sign with Ed25519 (`keys`), people with SSH keys (`sshsig`) or passkeys (`passkeys`); all sign the same bytes
(`pae`), and one envelope can carry several signatures.

Source: DSSE protocol and envelope v1.0.2 (github.com/secure-systems-lab/dsse); in-toto Statement v1.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from compliance_assets.errors import UntrustedEvidence
from compliance_assets.trust.canonical import canonical_json, exact_keys, parse_canonical
from compliance_assets.trust.keys import PublicKey, SigningKey, strict_base64

PAYLOAD_TYPE = "application/vnd.in-toto+json"
SCHEMES = frozenset({"ed25519", "sshsig", "webauthn"})


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True)
class Signature:
    """One signature. `keyid` is a machine key's or a person's id; `sig`: raw (ed25519), armored (sshsig) or an assertion."""

    keyid: str
    scheme: str
    sig: bytes


@dataclass(frozen=True)
class Envelope:
    """A payload, its type, and who signed it."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]

    @property
    def signed_bytes(self) -> bytes:
        """What every signature of this envelope covers."""
        return pae(self.payload_type, self.payload)

    def with_signature(self, signature: Signature) -> Self:
        """The same statement with one signature more."""
        return replace(self, signatures=(*self.signatures, signature))

    def to_bytes(self) -> bytes:
        """The envelope as canonical JSON; base64 in its standard alphabet."""
        return canonical_json({
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": self.payload_type,
            "signatures": [
                {"keyid": s.keyid, "scheme": s.scheme, "sig": base64.b64encode(s.sig).decode()} for s in self.signatures
            ],
        })

    @classmethod
    def from_bytes(cls, content: bytes) -> Envelope:
        """Read an envelope strictly: canonical JSON, no key missing or unknown, known schemes. Proves no signature."""
        outer = exact_keys(parse_canonical(content), frozenset({"payload", "payloadType", "signatures"}), "An envelope")
        if not isinstance(outer["signatures"], list):
            raise _malformed("its signatures are not a list")
        signatures = []
        for item in outer["signatures"]:
            inner = exact_keys(item, frozenset({"keyid", "scheme", "sig"}), "A signature")
            keyid, scheme = _text(inner["keyid"], "keyid"), _text(inner["scheme"], "scheme")
            if scheme not in SCHEMES or not keyid:
                raise _malformed(f"a signature by {keyid!r:.70} has the scheme {scheme!r:.30}")
            signatures.append(Signature(keyid, scheme, strict_base64(_text(inner["sig"], "sig"), "A signature")))
        return cls(strict_base64(_text(outer["payload"], "payload"), "The payload"),
                   _text(outer["payloadType"], "payloadType"), tuple(signatures))


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise _malformed(f"{key} is not text")
    return value


def _malformed(why: str) -> UntrustedEvidence:
    return UntrustedEvidence(f"This is not a signed envelope: {why}.", rule="DSSE envelope", value=why,
                             remedy="Take the envelope unchanged from the ledger.")


def sign_envelope(payload: bytes, keys: Sequence[SigningKey], payload_type: str = PAYLOAD_TYPE) -> Envelope:
    """`payload` signed by each of `keys` (at least one; no key twice)."""
    if not keys or len({key.keyid for key in keys}) != len(keys):
        raise UntrustedEvidence("A statement needs at least one signer, and no signer twice.", rule="signers",
                                value=f"{len(keys)} keys", remedy="Give each key once.")
    signed = pae(payload_type, payload)
    return Envelope(payload, payload_type, tuple(Signature(key.keyid, "ed25519", key.sign(signed)) for key in keys))


def check_form(envelope: Envelope) -> None:
    """Steps 1 to 3 of every verification, a machine's or a person's."""
    # (1) Only statements: a signature over another type of payload says something else.
    if envelope.payload_type != PAYLOAD_TYPE:
        raise UntrustedEvidence(f"The payload is {envelope.payload_type!r:.60}, not a statement.", rule="payload type",
                                value=f"{envelope.payload_type!r:.60}", remedy=f"Statements are {PAYLOAD_TYPE}.")
    # (2) No signatures is not "no wrong signatures".
    if not envelope.signatures:
        raise UntrustedEvidence("Nobody signed this statement.", rule="signature present", value="0 signatures",
                                remedy="Have it signed.")
    # (3) One signer, one signature.
    keyids = [signature.keyid for signature in envelope.signatures]
    if len(set(keyids)) != len(keyids):
        raise UntrustedEvidence("A signer appears twice in one envelope.", rule="one signature per signer",
                                value=", ".join(sorted(keyids))[:200], remedy="Keep one signature per signer.")


def verify_envelope(envelope: Envelope, keys: Mapping[str, PublicKey]) -> tuple[str, ...]:
    """The ids of the known machine keys that signed, in the envelope's order; at least one.

    The caller MUST still ask whether *these* keys may sign *this* statement.

    (1) The payload is an in-toto statement. (2) There is a signature. (3) No signer appears twice. (4) Every known key
    stands under its own id, so that one key cannot count as two. (5) Signatures by unknown keys are not counted. (6) A
    wrong signature under a known key refuses the whole envelope. (7) At least one known key signed.
    """
    check_form(envelope)
    signed = envelope.signed_bytes
    signers = []
    for signature in envelope.signatures:
        # (5)
        if signature.keyid not in keys:
            continue
        key = keys[signature.keyid]
        # (4)
        if key.keyid != signature.keyid:
            raise UntrustedEvidence("A key is listed under an id that is not its own.", rule="key id",
                                    value=signature.keyid, remedy="List each key under the sha256 of its raw bytes.")
        # (6)
        if signature.scheme != "ed25519" or not key.signed(signed, signature.sig):
            raise UntrustedEvidence(f"The signature by {signature.keyid[:12]} does not fit the statement.",
                                    rule="signature", value=signature.keyid,
                                    remedy="The statement or the signature was changed: restore both from the ledger.")
        signers.append(signature.keyid)
    # (7)
    if not signers:
        raise UntrustedEvidence("No known key signed this statement.", rule="known signer",
                                value=", ".join(s.keyid[:12] for s in envelope.signatures),
                                remedy="Check which keys the policy lists.")
    return tuple(signers)
