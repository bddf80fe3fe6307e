"""An envelope says who signed exactly these bytes, and nothing can be added, taken away or counted twice."""

from __future__ import annotations

import base64
import json
import pickle
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance_assets.errors import ComplianceError, HomeUnusable, UntrustedEvidence
from compliance_assets.trust.canonical import canonical_json, sha256_bytes
from compliance_assets.trust.signatures import (
    APPROVAL_NAMESPACE,
    PAYLOAD_TYPE,
    Envelope,
    PublicKey,
    Signature,
    SigningKey,
    generate_ssh_key,
    pae,
    person_signature,
    sign_envelope,
    ssh_sign,
    verify_envelope,
    verify_person,
)

PIPELINE, GATE, STRANGER = (SigningKey.from_seed(bytes([n]) * 32) for n in (1, 2, 3))
KNOWN: dict[str, PublicKey] = {key.keyid: key.public for key in (PIPELINE, GATE)}
PAYLOAD = b'{"_type":"https://in-toto.io/Statement/v1"}'
NOW = datetime(2026, 11, 25, 7, 5, tzinfo=UTC)


def test_the_signed_bytes_are_those_of_the_dsse_protocol() -> None:
    signed = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("http://example.com/HelloWorld", b"hello world") == signed
    assert pae("é", b"") == "DSSEv1 2 é 0 ".encode()


def test_the_key_of_rfc_8032_signs_as_rfc_8032_says() -> None:
    key = SigningKey.from_seed(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public.raw.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")
    assert key.keyid == sha256_bytes(key.public.raw)


def test_two_machines_can_vouch_for_one_statement() -> None:
    envelope = sign_envelope(PAYLOAD, [PIPELINE, GATE])
    assert verify_envelope(Envelope.from_bytes(envelope.to_bytes()), KNOWN) == (PIPELINE.keyid, GATE.keyid)


@settings(max_examples=50)
@given(st.binary(max_size=60), st.lists(st.sampled_from([PIPELINE, GATE, STRANGER]), min_size=1, unique=True))
def test_every_envelope_reads_back_and_is_vouched_for_by_its_known_signers(
        payload: bytes, keys: list[SigningKey]) -> None:
    envelope = sign_envelope(payload, keys)
    assert Envelope.from_bytes(envelope.to_bytes()) == envelope
    known = tuple(key.keyid for key in keys if key is not STRANGER)
    if known:
        assert verify_envelope(envelope, KNOWN) == known
    else:
        with pytest.raises(UntrustedEvidence):
            verify_envelope(envelope, KNOWN)


def test_no_changed_byte_of_an_envelope_is_accepted() -> None:
    content = sign_envelope(PAYLOAD, [PIPELINE]).to_bytes()
    for i in range(len(content)):
        changed = bytearray(content)
        changed[i] ^= 1
        with pytest.raises(UntrustedEvidence):
            verify_envelope(Envelope.from_bytes(bytes(changed)), KNOWN)


def test_a_statement_that_nobody_known_signed_is_refused() -> None:
    for envelope in (Envelope(PAYLOAD, PAYLOAD_TYPE, ()), sign_envelope(PAYLOAD, [STRANGER])):
        with pytest.raises(UntrustedEvidence):
            verify_envelope(envelope, KNOWN)
    with pytest.raises(UntrustedEvidence):
        sign_envelope(PAYLOAD, [])


def test_a_strangers_signature_is_not_counted_however_wrong_it_is() -> None:
    envelope = sign_envelope(PAYLOAD, [PIPELINE]).with_signature(Signature(STRANGER.keyid, "ed25519", b"?"))
    assert verify_envelope(envelope, KNOWN) == (PIPELINE.keyid,)


def test_a_wrong_signature_under_a_known_key_refuses_all() -> None:
    good = sign_envelope(PAYLOAD, [PIPELINE])
    for wrong in (Signature(GATE.keyid, "ed25519", PIPELINE.sign(good.signed_bytes)),
                  Signature(GATE.keyid, "ed25519", b""), Signature(GATE.keyid, "ed25519", GATE.sign(PAYLOAD)),
                  Signature(GATE.keyid, "sshsig", GATE.sign(good.signed_bytes))):
        with pytest.raises(UntrustedEvidence):
            verify_envelope(good.with_signature(wrong), KNOWN)


def test_one_key_never_counts_as_two() -> None:
    envelope = sign_envelope(PAYLOAD, [PIPELINE])
    with pytest.raises(UntrustedEvidence):
        verify_envelope(envelope.with_signature(envelope.signatures[0]), KNOWN)
    alias = Signature("alias", "ed25519", envelope.signatures[0].sig)
    with pytest.raises(UntrustedEvidence):
        verify_envelope(envelope.with_signature(alias), {**KNOWN, "alias": PIPELINE.public})
    with pytest.raises(UntrustedEvidence):
        sign_envelope(PAYLOAD, [PIPELINE, PIPELINE])


def test_a_signature_over_another_type_of_payload_is_not_one_over_a_statement() -> None:
    other = sign_envelope(PAYLOAD, [PIPELINE], "text/plain")
    with pytest.raises(UntrustedEvidence):
        verify_envelope(other, KNOWN)
    with pytest.raises(UntrustedEvidence):
        verify_envelope(Envelope(PAYLOAD, PAYLOAD_TYPE, other.signatures), KNOWN)


def _edited(**changes: object) -> bytes:
    outer = json.loads(sign_envelope(PAYLOAD, [PIPELINE]).to_bytes())
    outer |= {key: value for key, value in changes.items() if value is not ...}
    return canonical_json({key: value for key, value in outer.items() if key not in changes or changes[key] is not ...})


@pytest.mark.parametrize("content", [
    b"", b"{}", b"[]", _edited(payload=...), _edited(extra=1), _edited(payload=7), _edited(payload="e30"),
    _edited(payload="e31="), _edited(payload="e3 0="), _edited(payload="_w=="), _edited(signatures={}),
    _edited(payloadType=None),
    _edited(signatures=[{"keyid": "a", "sig": ""}]), _edited(signatures=[{"keyid": "a", "scheme": "none", "sig": ""}]),
    _edited(signatures=[{"keyid": "", "scheme": "ed25519", "sig": ""}]),
    _edited(signatures=[{"keyid": 1, "scheme": "ed25519", "sig": ""}]),
    _edited(signatures=["x"]), b" " + _edited(),
], ids=lambda content: content[:60].decode())
def test_an_envelope_is_read_strictly(content: bytes) -> None:
    with pytest.raises(UntrustedEvidence):
        Envelope.from_bytes(content)


@settings(max_examples=200)
@given(st.binary(max_size=80))
def test_noise_is_refused_and_nothing_else_happens(noise: bytes) -> None:
    with pytest.raises(UntrustedEvidence):
        Envelope.from_bytes(noise)


def test_a_key_is_saved_for_its_owner_only_and_loads_again(tmp_path: Path) -> None:
    PIPELINE.save(tmp_path / "key.pem")
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert SigningKey.load(tmp_path / "key.pem").public == PIPELINE.public
    (tmp_path / "raw").touch(0o600)
    (tmp_path / "raw").write_bytes(bytes([1]) * 32)
    assert SigningKey.load(tmp_path / "raw").public == PIPELINE.public


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    PIPELINE.save(tmp_path / "key.pem")
    with pytest.raises(HomeUnusable):
        GATE.save(tmp_path / "key.pem")
    assert SigningKey.load(tmp_path / "key.pem").public == PIPELINE.public


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    PIPELINE.save(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(UntrustedEvidence) as refused:
        SigningKey.load(tmp_path / "key.pem")
    assert "chmod 600" in refused.value.remedy


@pytest.mark.parametrize("content", [
    b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
])
def test_what_is_not_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ComplianceError):
        SigningKey.load(tmp_path / "key")
    with pytest.raises(HomeUnusable):
        SigningKey.load(tmp_path / "missing")


def test_a_private_key_is_not_shown_and_does_not_travel() -> None:
    assert "PRIVATE" not in repr(PIPELINE) and PIPELINE.keyid.short in repr(PIPELINE)
    with pytest.raises(TypeError):
        pickle.dumps(PIPELINE)


def test_a_public_key_is_one_line_of_text() -> None:
    assert PublicKey.parse(PIPELINE.public.text) == PIPELINE.public == PublicKey.parse(str(PIPELINE.public))
    encoded = base64.b64encode(PIPELINE.public.raw).decode()
    for wrong in (encoded, f"rsa:{encoded}", f"ed25519:{encoded[:-4]}", f"ed25519:{encoded}\n", "ed25519:", ""):
        with pytest.raises(UntrustedEvidence):
            PublicKey.parse(wrong)


@pytest.fixture
def approved(tmp_path: Path) -> tuple[Envelope, str]:
    """A statement that a person signed, and the allowed_signers line with their key."""
    public = generate_ssh_key(tmp_path / "id", "approver's key")
    armored = ssh_sign(pae(PAYLOAD_TYPE, PAYLOAD), tmp_path / "id", APPROVAL_NAMESPACE)
    envelope = Envelope(PAYLOAD, PAYLOAD_TYPE, (person_signature("approver-7f3a", armored),))
    return envelope, f"approver-7f3a {public}\n"


def test_a_person_vouches_with_their_own_key(approved: tuple[Envelope, str]) -> None:
    envelope, allowed = approved
    verify_person(Envelope.from_bytes(envelope.to_bytes()), "approver-7f3a", allowed, NOW)


def test_nobody_vouches_for_somebody_else(approved: tuple[Envelope, str]) -> None:
    envelope, allowed = approved
    renamed = Envelope(PAYLOAD, PAYLOAD_TYPE, (Signature("boss", "sshsig", envelope.signatures[0].sig),))
    for wrong, who, lines in (
        (envelope, "boss", allowed), (renamed, "boss", allowed), (envelope, "approver-7f3a", ""),
        (Envelope(PAYLOAD + b" ", PAYLOAD_TYPE, envelope.signatures), "approver-7f3a", allowed),
        (Envelope(PAYLOAD, "text/plain", envelope.signatures), "approver-7f3a", allowed),
        (Envelope(PAYLOAD, PAYLOAD_TYPE, ()), "approver-7f3a", allowed),
        (Envelope(PAYLOAD, PAYLOAD_TYPE, (Signature("approver-7f3a", "ed25519", envelope.signatures[0].sig),)),
         "approver-7f3a", allowed),
        (Envelope(PAYLOAD, PAYLOAD_TYPE, (Signature("approver-7f3a", "sshsig", b"\xff"),)), "approver-7f3a", allowed),
    ):
        with pytest.raises(UntrustedEvidence):
            verify_person(wrong, who, lines, NOW)


def test_a_persons_signature_for_git_is_not_an_approval(approved: tuple[Envelope, str], tmp_path: Path) -> None:
    _, allowed = approved
    armored = ssh_sign(pae(PAYLOAD_TYPE, PAYLOAD), tmp_path / "id", "git")
    envelope = Envelope(PAYLOAD, PAYLOAD_TYPE, (person_signature("approver-7f3a", armored),))
    with pytest.raises(UntrustedEvidence):
        verify_person(envelope, "approver-7f3a", allowed, NOW)


def test_a_persons_signature_never_counts_as_a_machines(approved: tuple[Envelope, str]) -> None:
    envelope, _ = approved
    with pytest.raises(UntrustedEvidence):
        verify_envelope(envelope, KNOWN)
