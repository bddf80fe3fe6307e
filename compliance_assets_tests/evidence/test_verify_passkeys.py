"""The auditor's verifier of passkeys, on the standard library alone, says what ours says about every assertion."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta

import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence.verify_passkeys import counters_agree, passkey_verify
from compliance_assets.evidence.verify_signatures import Refused
from compliance_assets.trust.passkeys import Assertion, verify_assertion
from compliance_assets_tests.authenticator import ORIGIN, SoftPasskey

NOW = datetime(2026, 11, 25, 7, 5, tzinfo=UTC)
MUTATIONS = int(os.environ.get("COMPLIANCE_PASSKEY_MUTATIONS", "120"))
"""How many changed assertions are tried; 5,000 were, once, without a disagreement."""
MESSAGE = b"the statement's bytes"
KEYS = {name: SoftPasskey(name) for name in ("ES256", "EdDSA", "RS256")}


def ours(content: bytes, key: SoftPasskey, at: datetime = NOW) -> bool:
    try:
        verify_assertion(MESSAGE, Assertion.from_bytes(content), [key.public], at)
    except ComplianceError:
        return False
    return True


def theirs(content: bytes, key: SoftPasskey, at: datetime = NOW) -> bool:
    try:
        passkey_verify(MESSAGE, content, [key.declared().model_dump(mode="json")], at)
    except Refused:
        return False
    return True


@pytest.mark.parametrize("algorithm", KEYS)
def test_both_accept_each_algorithm_and_nothing_bent(algorithm: str) -> None:
    key = KEYS[algorithm]
    assert ours(key.sign(MESSAGE).to_bytes(), key) and theirs(key.sign(MESSAGE).to_bytes(), key)
    bent = ({"flags": 0x01}, {"flags": 0x04}, {"flags": 0x15}, {"flags": 0x45}, {"flags": 0x85}, {"extra": b"\0"}, {"rp": "evil.example"}, {"type": "webauthn.create"},
            {"origin": "https://evil.example"}, {"crossOrigin": True}, {"crossOrigin": 0}, {"topOrigin": ORIGIN}, {"challenge": "AAAA"}, {"type": None}, {"origin": None})
    for one in bent:
        content = key.sign(MESSAGE, **one).to_bytes()
        assert not ours(content, key) and not theirs(content, key), one
    for one in ({"flags": 0x1D}, {"flags": 0x0D}, {"crossOrigin": None}, {"more": 1}):
        content = key.sign(MESSAGE, **one).to_bytes()
        assert ours(content, key) and theirs(content, key), one
    early = datetime(2019, 1, 1, tzinfo=UTC)
    assert not ours(key.sign(MESSAGE).to_bytes(), key, early) and not theirs(key.sign(MESSAGE).to_bytes(), key, early)


def test_on_changed_assertions_the_two_never_disagree() -> None:
    """Mutations of bytes and of the DER in a signature; `ours` and `theirs` share no code but that of the standard library."""
    import dataclasses

    draw, said = random.Random(11), {True: 0, False: 0}
    for number in range(MUTATIONS):
        key = list(KEYS.values())[number % 3]
        one = key.sign(MESSAGE)
        if number % 2:
            name = draw.choice(("authenticator_data", "client_data", "signature"))
            part = bytearray(getattr(one, name))
            how = draw.randrange(4)
            place = draw.randrange(len(part))
            if how == 0:
                part[place] ^= 1 << draw.randrange(8)
            elif how == 1:
                part.insert(place, draw.randrange(256))
            elif how == 2:
                del part[place]
            else:
                part += bytes([draw.randrange(256)])
            content = dataclasses.replace(one, **{name: bytes(part)}).to_bytes()
        else:
            raw = bytearray(one.to_bytes())
            raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
            content = bytes(raw)
        verdict = ours(content, key)
        assert verdict == theirs(content, key), (number, content)
        said[verdict] += 1
    assert said[False] >= 0.98 * MUTATIONS


def test_the_counters_of_one_passkey_grow() -> None:
    seen: list[tuple[str, datetime, int]] = []
    later = NOW + timedelta(hours=1)
    assert counters_agree(seen, "a", NOW, 4) and counters_agree(seen, "a", later, 5) and counters_agree(seen, "b", later, 1)
    assert not counters_agree(seen, "a", later + timedelta(hours=1), 5) and not counters_agree(seen, "a", NOW - timedelta(hours=1), 6)
    assert counters_agree(seen, "c", NOW, 0) and counters_agree(seen, "c", later, 0)
