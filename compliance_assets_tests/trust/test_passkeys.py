"""An assertion is accepted when everything in it is as the standard asks, and for nothing less."""

from __future__ import annotations

import dataclasses
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance_assets.errors import ComplianceError, UntrustedEvidence
from compliance_assets.trust.dsse import PAYLOAD_TYPE, Envelope, Signature
from compliance_assets.trust.passkeys import Assertion, counters_disagree, passkey_signature, verify_assertion, verify_passkey
from compliance_assets_tests.authenticator import ORIGIN, SoftPasskey, b64

NOW = datetime(2026, 11, 25, 7, 5, tzinfo=UTC)
MESSAGE = b"the statement's bytes"
KEYS = {name: SoftPasskey(name) for name in ("ES256", "EdDSA", "RS256")}


@pytest.mark.parametrize("algorithm", KEYS)
def test_each_algorithm_is_accepted_and_only_over_its_own_bytes(algorithm: str) -> None:
    key = KEYS[algorithm]
    assertion = Assertion.from_bytes(key.sign(MESSAGE).to_bytes())
    assert verify_assertion(MESSAGE, assertion, [SoftPasskey().public, key.public], NOW) == key.public
    with pytest.raises(UntrustedEvidence, match="over other bytes"):
        verify_assertion(MESSAGE + b".", assertion, [key.public], NOW)


@pytest.mark.parametrize(("bent", "why"), [
    ({"flags": 0x01}, "did not verify who was there"), ({"flags": 0x04}, "did not verify who was there"),
    ({"flags": 0x15}, "more or other things"), ({"flags": 0x45}, "more or other things"), ({"flags": 0x85}, "more or other things"),
    ({"extra": b"\0"}, "more or other things"), ({"rp": "example.org"}, "not made for localhost"),
    ({"type": "webauthn.create"}, "did not make an assertion"), ({"origin": "http://localhost:3101"}, "asked for it, not one of"),
    ({"origin": "https://evil.example"}, "asked for it, not one of"), ({"crossOrigin": True}, "frame within another page"),
    ({"crossOrigin": 0}, "frame within another page"), ({"topOrigin": ORIGIN}, "frame within another page"), ({"challenge": 7}, "over other bytes"), ({"type": None}, "lacks its type"),
    ({"challenge": "é"}, "over other bytes")])
def test_one_thing_that_is_not_as_it_must_be_refuses_though_the_signature_fits(bent: dict[str, Any], why: str) -> None:
    key = KEYS["ES256"]
    with pytest.raises(UntrustedEvidence, match=why):
        verify_assertion(MESSAGE, key.sign(MESSAGE, **bent), [key.public], NOW)


def test_what_the_standard_lets_a_browser_add_is_accepted() -> None:
    key = KEYS["ES256"]
    for said in ({"other_keys_can_be_added_here": "do not compare"}, {"crossOrigin": None}, {"flags": 0x1D}, {"flags": 0x0D}):
        assert verify_assertion(MESSAGE, key.sign(MESSAGE, **said), [key.public], NOW)


def test_a_browser_that_says_something_twice_is_not_heard() -> None:
    key = KEYS["ES256"]
    said = key.sign(MESSAGE)
    twice = said.client_data.replace(b"{", b'{"origin": "https://evil.example", ', 1)
    with pytest.raises(UntrustedEvidence, match="twice"):
        verify_assertion(MESSAGE, key.resigned(dataclasses.replace(said, client_data=twice)), [key.public], NOW)


def test_a_passkey_counts_from_its_enrolment_to_its_end() -> None:
    key = KEYS["ES256"]
    mine = dataclasses.replace(key.public, valid_from=NOW, valid_until=NOW + timedelta(days=1))
    assert verify_assertion(MESSAGE, key.sign(MESSAGE), [mine], NOW)
    for at in (NOW - timedelta(seconds=1), NOW + timedelta(days=2)):
        with pytest.raises(UntrustedEvidence, match="does not count at"):
            verify_assertion(MESSAGE, key.sign(MESSAGE), [mine], at)


def test_another_passkey_under_the_same_credential_does_not_fit() -> None:
    key = KEYS["ES256"]
    other = SoftPasskey(credential=key.credential)
    with pytest.raises(UntrustedEvidence, match="does not fit"):
        verify_assertion(MESSAGE, other.sign(MESSAGE), [key.public], NOW)
    with pytest.raises(UntrustedEvidence, match="not one that organisation.yaml gives"):
        verify_assertion(MESSAGE, SoftPasskey().sign(MESSAGE), [key.public], NOW)


def test_an_envelope_holds_one_assertion_by_the_person_who_signed_it() -> None:
    key, envelope = KEYS["ES256"], Envelope(b"{}", PAYLOAD_TYPE, ())
    signed = Envelope.from_bytes(envelope.with_signature(passkey_signature("owner-1", key.sign(envelope.signed_bytes))).to_bytes())
    assert verify_passkey(signed, "owner-1", [key.public], NOW) == key.public
    with pytest.raises(UntrustedEvidence, match="did not sign"):
        verify_passkey(signed, "owner-2", [key.public], NOW)
    with pytest.raises(UntrustedEvidence, match="time zone"):
        verify_passkey(signed, "owner-1", [key.public], NOW.replace(tzinfo=None))
    with pytest.raises(ComplianceError):
        verify_passkey(envelope.with_signature(Signature("owner-1", "webauthn", b"{}")), "owner-1", [key.public], NOW)


def _spki(key: Any) -> str:
    return b64(key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize(("changes", "why"), [
    ({"key": f"ES256:{_spki(ec.generate_private_key(ec.SECP384R1()))}"}, "no ES256 key"),
    ({"key": f"RS256:{KEYS['ES256'].key.partition(':')[2]}"}, "no RS256 key"), ({"key": f"RS256:{_spki(rsa.generate_private_key(65537, 1024))}"}, "no RS256 key"),
    ({"key": "ES256:" + b64(b"x" * 60)}, "cannot be read"), ({"credential": b64(b"short")}, "16 to 1023"), ({"origin": "http://bank.example"}, "is not https"),
    ({"origin": "https://localhost.evil.example"}, "no page of"), ({"relying_party": "example.org"}, "no page of"), ({"origin": "http://localhost:3100/"}, "is not https"),
    ({"origin": "http://localhost:99999"}, "is none"), ({"origin": "http://user@localhost:3100"}, "is not https")])
def test_a_passkey_that_could_never_sign_is_refused_where_it_is_declared(changes: dict[str, str], why: str) -> None:
    with pytest.raises(UntrustedEvidence, match=why):
        dataclasses.replace(KEYS["ES256"].public, **changes).check()


def test_no_changed_byte_of_an_assertion_is_accepted() -> None:
    """300 mutations over the three algorithms; every one is refused by us, and none by an exception of another kind."""
    draw = random.Random(7)
    for number in range(300):
        key = list(KEYS.values())[number % 3]
        content = bytearray(key.sign(MESSAGE).to_bytes())
        place = draw.randrange(len(content))
        content[place] ^= 1 << draw.randrange(8)
        with pytest.raises(ComplianceError):
            verify_assertion(MESSAGE, Assertion.from_bytes(bytes(content)), [key.public], NOW)


@given(st.binary(max_size=300), st.binary(max_size=80), st.binary(max_size=80))
@settings(max_examples=80, deadline=None)
def test_whatever_strangers_send_is_refused_in_our_words(client: bytes, data: bytes, signature: bytes) -> None:
    key = KEYS["ES256"]
    for content in (client, Assertion(key.credential, data, client, signature).to_bytes()):
        with pytest.raises(ComplianceError):
            verify_assertion(MESSAGE, Assertion.from_bytes(content), [key.public], NOW)


def test_counters_grow_with_time_or_are_not_counted() -> None:
    later = NOW + timedelta(seconds=5)
    assert not counters_disagree((NOW, 4), (later, 5)) and not counters_disagree((later, 5), (NOW, 4)) and not counters_disagree((NOW, 0), (later, 0))
    assert not counters_disagree((NOW, 0), (later, 3))
    for one, other in (((NOW, 4), (later, 4)), ((later, 4), (NOW, 5)), ((NOW, 3), (later, 0))):
        assert counters_disagree(one, other)
