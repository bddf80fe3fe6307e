"""A person signs in the browser, with a passkey: the same bytes that an SSH key would sign, and an assertion that proves it.

A passkey does not sign bytes of our choice: it signs what the authenticator says (who was asked, whether a person was verified) and
what the browser says (which page asked, with which challenge). The challenge is the sha256 of the bytes to be signed, so the
assertion, kept whole, is a detached signature over them. Source: W3C Web Authentication Level 3, 7.2 (verifying an assertion).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from compliance_assets.errors import UntrustedEvidence
from compliance_assets.trust.canonical import canonical_json, exact_keys, parse_canonical
from compliance_assets.trust.dsse import Envelope, Signature, check_form
from compliance_assets.trust.keys import strict_base64

SCHEME = "webauthn"
ALGORITHMS = {"ES256": -7, "EdDSA": -8, "RS256": -257}
"""The signature algorithms that are accepted, by the names and numbers of the COSE registry (RFC 9053, RFC 8812)."""
SMALLEST_RSA_BITS = 2048
_PARTS = frozenset({"authenticator_data", "client_data", "credential", "signature"})
_LARGEST = 1 << 14
_PRESENT, _VERIFIED, _ELIGIBLE, _BACKED_UP, _ATTESTED, _EXTENDED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80


def refusal(why: str, rule: str = "passkey", value: str = "") -> UntrustedEvidence:
    """A passkey's signature that is not accepted, and why."""
    return UntrustedEvidence(f"The passkey's signature is refused: {why}.", rule=rule, value=value or why,
                             remedy="Sign again on the governance pages, with a passkey that organisation.yaml lists for you.")


@dataclass(frozen=True)
class Passkey:
    """The public half of a passkey, as organisation.yaml pins it: whose it is stands there, not here."""

    credential: str
    """The credential's id, in base64."""
    key: str
    """`ES256:<base64 of the SubjectPublicKeyInfo>`, or EdDSA, or RS256."""
    relying_party: str
    origin: str
    valid_from: datetime
    valid_until: datetime | None = None

    @cached_property
    def public(self) -> ec.EllipticCurvePublicKey | Ed25519PublicKey | rsa.RSAPublicKey:
        """The public key. UntrustedEvidence for one of another kind than it says, too short, or in a second spelling."""
        algorithm, _, encoded = self.key.partition(":")
        der = strict_base64(encoded, "The passkey's public key")
        try:
            key = serialization.load_der_public_key(der)
        except (ValueError, UnsupportedAlgorithm):
            raise refusal("its public key cannot be read") from None
        fits = (algorithm == "ES256" and isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)) or (
            algorithm == "EdDSA" and isinstance(key, Ed25519PublicKey)) or (
            algorithm == "RS256" and isinstance(key, rsa.RSAPublicKey) and key.key_size >= SMALLEST_RSA_BITS)
        if not fits or key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo) != der:
            raise refusal(f"its public key is no {algorithm[:10]} key as it must be written")
        assert isinstance(key, ec.EllipticCurvePublicKey | Ed25519PublicKey | rsa.RSAPublicKey)
        return key

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's over these bytes."""
        key = self.public
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            elif isinstance(key, Ed25519PublicKey):
                key.verify(signature, message)
            else:
                key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    def check(self) -> None:
        """Refuse a passkey that could never sign: an unreadable key, or an origin that its relying party does not cover."""
        if not 16 <= len(strict_base64(self.credential, "The credential's id")) <= 1023:
            raise refusal("a credential's id has 16 to 1023 bytes")
        assert self.public is not None
        try:
            place = urlsplit(self.origin)
            host, port = place.hostname or "", place.port
        except ValueError:
            raise refusal("its origin is none", value=self.origin) from None
        plain = f"{place.scheme}://{host}" + (f":{port}" if port else "")
        secure = place.scheme == "https" or (place.scheme == "http" and host == "localhost")
        if not secure or plain != self.origin or not (host == self.relying_party or host.endswith(f".{self.relying_party}")):
            raise refusal(f"{self.origin} is not https (or http://localhost), or is no page of {self.relying_party}", value=self.origin)


@dataclass(frozen=True)
class Assertion:
    """What a passkey answered: which credential, the two signed parts, and the signature."""

    credential: str
    authenticator_data: bytes
    client_data: bytes
    signature: bytes

    @property
    def counter(self) -> int:
        """How often the authenticator has signed; 0 where it does not count (passkeys that are synchronised do not)."""
        return int.from_bytes(self.authenticator_data[33:37])

    def to_bytes(self) -> bytes:
        """As an envelope carries it: canonical JSON, each part in base64."""
        parts = {"authenticator_data": self.authenticator_data, "client_data": self.client_data, "signature": self.signature}
        return canonical_json({"credential": self.credential,
                               **{name: base64.b64encode(part).decode() for name, part in parts.items()}})

    @classmethod
    def from_bytes(cls, content: bytes) -> Assertion:
        """Read strictly: canonical JSON, no part missing or unknown. Proves nothing."""
        if len(content) > _LARGEST:
            raise refusal("it is too long")
        parts = exact_keys(parse_canonical(content), _PARTS, "An assertion")
        if not all(isinstance(part, str) for part in parts.values()):
            raise refusal("a part of it is not text")
        return cls.of({name: str(part) for name, part in parts.items()})

    @classmethod
    def of(cls, parts: dict[str, str]) -> Assertion:
        """From the four parts in base64, by name, as a page sends them."""
        raw = {name: strict_base64(parts[name], f"An assertion's {name.replace('_', ' ')}") for name in sorted(_PARTS)}
        return cls(parts["credential"], raw["authenticator_data"], raw["client_data"], raw["signature"])


def verify_assertion(message: bytes, assertion: Assertion, passkeys: Iterable[Passkey], at: datetime) -> Passkey:
    """The passkey of `passkeys` that signed `message`; `UntrustedEvidence` unless one did, that counted `at` that moment.

    (1) The credential is one of these, and counted then. (2) The browser says: an assertion, for this challenge, asked by a page of
    the passkey's origin, not by a frame within another's. (3) The authenticator says: for this relying party. (4) A person was there,
    and was verified (PIN, finger, face). (5) Its data is what an assertion without extensions is, to the last byte. (6) The signature
    fits. The counter is compared with earlier ones where those are known (`evidence.inbox`).
    """
    # (1)
    named = [one for one in passkeys if one.credential == assertion.credential]
    if len(named) != 1:
        raise refusal("this passkey is not one that organisation.yaml gives to this person", "enrolled passkey", assertion.credential[:40])
    passkey = named[0]
    if at < passkey.valid_from or (passkey.valid_until is not None and at > passkey.valid_until):
        raise refusal(f"this passkey does not count at {at:%Y-%m-%d %H:%M}Z", "passkey validity", assertion.credential[:40])
    # (2)
    said = _client_data(assertion.client_data)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(message).digest()).rstrip(b"=").decode()
    if said["type"] != "webauthn.get":
        raise refusal("the browser did not make an assertion", "type", str(said["type"])[:40])
    if not isinstance(said["challenge"], str) or not hmac.compare_digest(said["challenge"].encode(), challenge.encode()):
        raise refusal("it was made over other bytes than these", "challenge", str(said["challenge"])[:60])
    if said["origin"] != passkey.origin:
        raise refusal(f"a page of {str(said['origin'])[:80]} asked for it, not one of {passkey.origin}", "origin", str(said["origin"])[:80])
    if ("crossOrigin" in said and said["crossOrigin"] is not False) or "topOrigin" in said:
        raise refusal("a frame within another page asked for it", "cross origin")
    # (3)
    data = assertion.authenticator_data
    if len(data) < 37 or data[:32] != hashlib.sha256(passkey.relying_party.encode()).digest():
        raise refusal(f"it was not made for {passkey.relying_party}", "relying party")
    # (4)
    flags = data[32]
    if not flags & _PRESENT or not flags & _VERIFIED:
        raise refusal("the authenticator did not verify who was there", "user verification", f"flags {flags:#04x}")
    # (5)
    if len(data) != 37 or flags & (_ATTESTED | _EXTENDED) or (flags & _BACKED_UP and not flags & _ELIGIBLE):
        raise refusal("the authenticator's data holds more or other things than an assertion does")
    # (6)
    if not passkey.signed(data + hashlib.sha256(assertion.client_data).digest(), assertion.signature):
        raise refusal("the signature does not fit", "signature")
    return passkey


def _client_data(content: bytes) -> dict[str, Any]:
    """What the browser said. It is JSON of the browser's own spelling; a key given twice is refused."""
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise refusal("the browser's data names something twice")
        return found

    try:
        said = json.loads(content.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise refusal("the browser's data is not JSON") from None
    if not isinstance(said, dict) or not {"type", "challenge", "origin"} <= said.keys():
        raise refusal("the browser's data lacks its type, challenge or origin")
    return said


def passkey_signature(person_id: str, assertion: Assertion) -> Signature:
    """A person's assertion as an envelope carries it."""
    return Signature(person_id, SCHEME, assertion.to_bytes())


def assertion_by(envelope: Envelope, person_id: str) -> Assertion | None:
    """The assertion with which this person signed; None where they signed otherwise, or not. Proves nothing."""
    theirs = [one for one in envelope.signatures if one.keyid == person_id and one.scheme == SCHEME]
    return Assertion.from_bytes(theirs[0].sig) if len(theirs) == 1 else None


def verify_passkey(envelope: Envelope, person_id: str, passkeys: Iterable[Passkey], at: datetime) -> Passkey:
    """Refuse, unless `person_id` signed this statement with a passkey of theirs that counted `at` that moment.

    (1)–(3) as in `verify_envelope`. (4) The person's assertion is there. (5) `verify_assertion`.
    """
    if at.utcoffset() is None:
        raise refusal("the moment of judgement has no time zone")
    check_form(envelope)
    # (4)
    assertion = assertion_by(envelope, person_id)
    if assertion is None:
        raise UntrustedEvidence(f"{person_id} did not sign this statement.", rule="person's signature", value=person_id,
                                remedy="Have them sign it.")
    # (5)
    return verify_assertion(envelope.signed_bytes, assertion, passkeys, at)


def counters_disagree(one: tuple[datetime, int], other: tuple[datetime, int]) -> bool:
    """Whether two signatures of one passkey, each with its moment and counter, cannot both come from one authenticator.

    A counter grows with each use (WebAuthn 6.1.1): the later signature has the larger one. 0 says that nobody counts.
    """
    (at, counted), (other_at, other_counted) = one, other
    if not counted and not other_counted:
        return False
    return counted == other_counted or (at != other_at and (at < other_at) != (counted < other_counted))


__all__ = ["ALGORITHMS", "SCHEME", "Assertion", "Passkey", "assertion_by", "counters_disagree", "passkey_signature",
           "verify_assertion", "verify_passkey"]
