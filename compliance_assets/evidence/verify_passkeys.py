"""A passkey's signature with Python's standard library alone: the auditor's half of `trust.passkeys`, written a second time.

W3C Web Authentication Level 3, 7.2: what the browser says, what the authenticator says, and the signature over both; keys as
SubjectPublicKeyInfo (RFC 5280, RFC 5480, RFC 8410). The exported `verify.py` holds this module's text beside `verify_signatures`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from compliance_assets.evidence.verify_signatures import CURVES, checked_rsa, curve_point, ecdsa, ed25519, moment, no, rsa, unbase64

_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
_ED25519 = bytes.fromhex("302a300506032b6570032100")
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")


def _element(content: bytes, tag: int, at: int = 0) -> tuple[bytes, int]:
    """One DER element with this tag: what it holds, and where it ends. Lengths in their shortest form only."""
    head = content[at:at + 2]
    if len(head) != 2 or head[0] != tag:
        no("a DER structure is not what it must be")
    length, at = head[1], at + 2
    if length >= 0x80:
        size = length & 0x7F
        told = content[at:at + size]
        length, at = int.from_bytes(told, "big"), at + size
        if not 1 <= size <= 2 or len(told) != size or told[0] == 0 or length < 0x80:
            no("a DER length is not in its shortest form")
    if at + length > len(content):
        no("a DER structure is cut off")
    return content[at:at + length], at + length


def _two_numbers(content: bytes) -> tuple[int, int]:
    """A DER sequence of two positive integers and nothing else."""
    inner, end = _element(content, 0x30)
    one, middle = _element(inner, 0x02)
    other, last = _element(inner, 0x02, middle)
    for number in (one, other):
        if not number or number[0] & 0x80 or (number[0] == 0 and not (len(number) > 1 and number[1] & 0x80)):
            no("a DER integer is negative, or not in its shortest form")
    if end != len(content) or last != len(inner):
        no("a DER structure has bytes left over")
    return int.from_bytes(one, "big"), int.from_bytes(other, "big")


def _fits(key: str, message: bytes, signature: bytes) -> bool:
    """Whether the signature is this key's (`ES256:…`, `EdDSA:…`, `RS256:…`) over the message."""
    algorithm, _, encoded = key.partition(":")
    der = unbase64(encoded)
    if algorithm == "ES256" and der.startswith(_P256):
        curve = CURVES["nistp256"]
        return ecdsa(curve, curve_point(curve, der[len(_P256):]), message, *_two_numbers(signature))
    if algorithm == "EdDSA" and der.startswith(_ED25519):
        return ed25519(der[len(_ED25519):], message, signature)
    if algorithm == "RS256":
        inner, end = _element(der, 0x30)
        bits, last = _element(inner, 0x03, len(_RSA))
        if inner.startswith(_RSA) and end == len(der) and last == len(inner) and bits[:1] == b"\0":
            modulus, exponent = checked_rsa(*_two_numbers(bits[1:]))
            return len(signature) == (modulus.bit_length() + 7) // 8 and rsa(modulus, exponent, message, signature, "sha256")
    no("a passkey's public key is not of the kind that it says")


def _json(content: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(pairs) if len(dict(pairs)) == len(pairs) else no("something is named twice")

    try:
        said = json.loads(content.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        no("it is not JSON")
    return said if isinstance(said, dict) else no("it is not a JSON object")


def passkey_verify(message: bytes, assertion: bytes, passkeys: Sequence[dict[str, Any]], at: datetime) -> tuple[str, int]:
    """Refuse unless one of these passkeys (of the trust policy) signed this, counted at that moment, and verified its user.

    Gives the credential and the authenticator's counter.
    """
    parts = _json(assertion)
    if json.dumps(parts, sort_keys=True, separators=(",", ":")).encode() != assertion or parts.keys() != {
            "authenticator_data", "client_data", "credential", "signature"} or not all(isinstance(part, str) for part in parts.values()):
        no("it is not a passkey's assertion in its one form")
    named = [one for one in passkeys if one["credential"] == parts["credential"]]
    if len(named) != 1:
        no("it is by a passkey that the trust policy does not give to this person")
    key = named[0]
    if at < moment(key["valid_from"]) or (key["valid_until"] is not None and at > moment(key["valid_until"])):
        no("the passkey does not count at that moment")
    data, client, signature = (unbase64(parts[name]) for name in ("authenticator_data", "client_data", "signature"))
    said = _json(client)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(message).digest()).rstrip(b"=").decode()
    if said.get("type") != "webauthn.get" or said.get("challenge") != challenge:
        no("the passkey signed other bytes than these")
    if said.get("origin") != key["origin"] or said.get("crossOrigin", False) is not False or "topOrigin" in said:
        no(f"another page than one of {key['origin']} asked for it")
    if len(data) != 37 or data[:32] != hashlib.sha256(key["relying_party"].encode()).digest():
        no(f"it was not made for {key['relying_party']}, or holds more than an assertion")
    flags = data[32]
    if flags & 0x05 != 0x05 or flags & 0xC0 or (flags & 0x10 and not flags & 0x08):
        no("the authenticator did not verify who was there, or says other things than an assertion")
    if not _fits(key["key"], data + hashlib.sha256(client).digest(), signature):
        no("the passkey's signature does not fit")
    return parts["credential"], int.from_bytes(data[33:], "big")


def counters_agree(seen: list[tuple[str, datetime, int]], credential: str, at: datetime, counter: int) -> bool:
    """Whether this signature's counter fits the earlier ones of the same passkey: later means larger, unless nobody counts."""
    for other, then, counted in seen:
        if other == credential and (counter or counted) and (counter == counted or (at != then and (at < then) != (counter < counted))):
            return False
    seen.append((credential, at, counter))
    return True
