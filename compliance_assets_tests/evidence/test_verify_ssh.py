"""The auditor's reading of people's keys: every kind that approvals accept, judged as ssh-keygen and the product judge it, or stricter."""

from __future__ import annotations

import base64
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from compliance_assets.errors import UntrustedEvidence
from compliance_assets.evidence import verify_signatures
from compliance_assets.evidence.verify_signatures import Refused, ssh_verify
from compliance_assets.governance.export import verifier_program
from compliance_assets.trust import sshsig
from compliance_assets.trust.sshwire import KINDS as PRODUCT_KINDS
from compliance_assets.trust.sshwire import string
from compliance_assets_tests.trust.test_sshsig import (
    KEYGEN,
    KINDS,
    MESSAGE,
    NOW,
    SK,
    SPACE,
    WHO,
    Person,
    armor,
    blob_of,
    certified,
    hardware,
    mutated,
    people,
    stock_accepts,
)

__all__ = ["people"]
pytestmark = pytest.mark.skipif(not KEYGEN, reason="ssh-keygen is not installed")

MUTATIONS = int(os.environ.get("VERIFIER_MUTATIONS", "12"))
"""Changed signatures for each kind of key and each kind of certificate; the published figures are of 500."""


def judged(armored: str, allowed: str) -> bool:
    """What the auditor's file says; `allowed` with its principal, as ssh-keygen reads it."""
    try:
        ssh_verify(MESSAGE, armored.encode("utf-8", "surrogatepass"), allowed.removeprefix(WHO).strip(), NOW, WHO)
    except Refused:
        return False
    return True


def product_accepts(armored: str, allowed: str) -> bool:
    try:
        sshsig.ssh_verify(MESSAGE, armored, allowed, WHO, SPACE, NOW)
    except UntrustedEvidence:
        return False
    return True


FAMILIES = [*KINDS, *SK, *(f"certified {kind}" for kind in KINDS)]


def original(people: dict[str, Person], family: str) -> tuple[str, str]:
    if family in SK:
        return hardware(family, 0x05)
    name = family.removeprefix("certified ")
    return certified(people, "-n", WHO, kind=name) if name != family else (people[name].sign(), people[name].line)


@pytest.mark.parametrize("family", FAMILIES)
def test_changed_signatures_are_judged_as_the_product_and_ssh_keygen_judge_them(
        people: dict[str, Person], tmp_path: Path, family: str) -> None:
    signed, allowed = original(people, family)
    dice = random.Random(family)
    stricter, refused = [], 0
    for number in range(MUTATIONS):
        text = armor(mutated(blob_of(signed), dice)) if number else signed
        ours, product = judged(text, allowed), product_accepts(text, allowed)
        assert ours is product, text
        assert ours or number, text
        if stock_accepts(tmp_path, text, allowed) != ours:
            assert not ours, f"we accept what ssh-keygen refuses: {text}"
            stricter.append(number)
        refused += not ours
    # ssh-keygen does not read what a security key says about touch, nor what a signature leaves unread; nothing else may differ.
    assert not stricter or family in SK
    if os.environ.get("VERIFIER_MUTATIONS"):
        print(f"{family}: {MUTATIONS} judged, {refused} refused, {len(stricter)} of these accepted by ssh-keygen")


def test_an_auditor_gets_the_one_file_from_the_package_itself() -> None:
    done = subprocess.run((sys.executable, "-m", "compliance_assets.governance.export"), capture_output=True)
    assert done.returncode == 0 and done.stdout == verifier_program() and b"compliance_assets." not in done.stdout


def test_every_kind_of_key_that_approvals_accept_is_known_to_the_auditor() -> None:
    assert set(verify_signatures._CERTIFIED.values()) == set(PRODUCT_KINDS) and len(FAMILIES) == 2 * len(KINDS) + len(SK)


@pytest.mark.parametrize("kind", SK)
@pytest.mark.parametrize(("flags", "asked", "good"), [(0, False, False), (1, False, True), (4, False, False), (5, True, True), (1, True, False)])
def test_a_security_key_was_touched_and_knows_by_whom_where_the_certificate_asks(
        people: dict[str, Person], kind: str, flags: int, asked: bool, good: bool) -> None:
    signed, allowed = hardware(kind, flags)
    if asked:
        signed, allowed = with_certificate(people, signed, "verify-required")
    assert judged(signed, allowed) is good is product_accepts(signed, allowed)


def with_certificate(people: dict[str, Person], signed: str, option: str) -> tuple[str, str]:
    """The same signature, naming a certificate of its key instead; the authority's signature is made here, field by field."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from compliance_assets.trust.sshwire import Reader

    reader = Reader(blob_of(signed))
    reader.take(10)
    key, rest = reader.string(), reader.content[reader.at:]
    fields = Reader(key)
    kind = fields.text()
    private = serialization.load_ssh_private_key(people["authority"].key.read_bytes(), password=None)
    assert isinstance(private, Ed25519PrivateKey)
    authority = string(b"ssh-ed25519") + string(private.public_key().public_bytes_raw())
    covered = (string(kind.replace("@openssh.com", "-cert-v01@openssh.com").encode()) + string(b"nonce") + key[fields.at:] + bytes(8)
               + (1).to_bytes(4) + string(b"id") + string(string(WHO.encode())) + bytes(8) + b"\xff" * 8
               + string(string(option.encode()) + string(b"")) + string(b"") + string(b"") + string(authority))
    certificate = covered + string(string(b"ssh-ed25519") + string(private.sign(covered)))
    return armor(b"SSHSIG" + (1).to_bytes(4) + string(certificate) + rest), f"{WHO} cert-authority {people['authority'].public}\n"


def test_a_certificates_unknown_option_refuses_where_ssh_keygen_passes_over_it(people: dict[str, Person], tmp_path: Path) -> None:
    signed, allowed = certified(people, "-n", WHO, "-O", "force-command=x")
    assert not judged(signed, allowed) and stock_accepts(tmp_path, signed, allowed)


@pytest.mark.parametrize(("arguments", "good"), [
    (("-n", "somebody"), False), (("-n", f"somebody,{WHO}"), True), ((), False), (("-n", WHO, "-h"), False),
    (("-n", WHO, "-V", "20260101Z:20270101Z"), True), (("-n", WHO, "-V", "20250101Z:20260101Z"), False)], ids=str)
def test_a_certificate_holds_for_its_principals_and_its_time(people: dict[str, Person], arguments: tuple[str, ...], good: bool) -> None:
    signed, allowed = certified(people, *arguments)
    assert judged(signed, allowed) is good is product_accepts(signed, allowed)
    assert not judged(signed, allowed.replace(people["authority"].public, people["p256"].public))
    assert not judged(signed, people["ed25519"].line) and not judged(people["authority"].sign(), allowed)


@pytest.mark.parametrize("options", [
    "", 'namespaces="git" ', f'namespaces="git,{SPACE}" ', 'namespaces="compliance-?ssets-*" ', f'namespaces="*,!{SPACE}" ',
    'valid-after="20261126Z" ', 'valid-before="20261125Z" ', 'valid-after="20260101Z",valid-before="20270101Z" ', "cert-authority ",
    "no-such-option ", 'namespaces="a",namespaces="b" ', 'NAMESPACES="git" ', f'NAMESPACES="{SPACE}" ', "namespaces ", 'cert-authority="yes" '])
def test_a_line_of_allowed_signers_means_here_what_it_means_to_the_product(people: dict[str, Person], options: str) -> None:
    for kind in ("p384", "rsa"):
        signed, allowed = people[kind].sign(), f"{WHO} {options}{people[kind].public}\n"
        assert judged(signed, allowed) is product_accepts(signed, allowed)


def test_short_rsa_keys_and_sha_1_are_refused() -> None:
    for bits, algorithm, digest, good in ((1024, b"rsa-sha2-512", hashes.SHA512(), False), (2048, b"rsa-sha2-512", hashes.SHA512(), True),
                                          (2048, b"rsa-sha2-256", hashes.SHA256(), True), (2048, b"ssh-rsa", hashes.SHA1(), False),
                                          (2048, b"rsa-sha2-256", hashes.SHA512(), False), (3072, b"rsa-sha2-512", hashes.SHA512(), True)):
        private = rsa.generate_private_key(65537, bits)
        public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        signed = sshsig._signed_bytes(MESSAGE, SPACE.encode(), "sha512")
        blob = (b"SSHSIG" + (1).to_bytes(4) + string(base64.b64decode(public.split()[1])) + string(SPACE.encode()) + string(b"")
                + string(b"sha512") + string(string(algorithm) + string(private.sign(signed, padding.PKCS1v15(), digest))))
        allowed = f"{WHO} {public.decode()}\n"
        assert judged(armor(blob), allowed) is good is product_accepts(armor(blob), allowed)


@pytest.mark.parametrize(("name", "curve", "digest"), [("nistp256", ec.SECP256R1(), hashes.SHA256()), ("nistp384", ec.SECP384R1(), hashes.SHA384()),
                                                       ("nistp521", ec.SECP521R1(), hashes.SHA512())])
def test_ecdsa_agrees_with_cryptography_and_refuses_numbers_out_of_range(name: str, curve: ec.EllipticCurve, digest: hashes.HashAlgorithm) -> None:
    known = verify_signatures.CURVES[name]
    width = (known.p.bit_length() + 7) // 8
    for secret in (1, 2, known.n - 1, 0x1234567):
        private = ec.derive_private_key(secret, curve)
        numbers = private.public_key().public_numbers()
        raw = b"\4" + numbers.x.to_bytes(width) + numbers.y.to_bytes(width)
        point = verify_signatures.curve_point(known, raw)
        assert point[:2] == (numbers.x, numbers.y)
        r, s = decode_dss_signature(private.sign(MESSAGE, ec.ECDSA(digest)))
        assert verify_signatures.ecdsa(known, point, MESSAGE, r, s) and verify_signatures.ecdsa(known, point, MESSAGE, r, known.n - s)
        for wrong in ((0, s), (r, 0), (r + known.n, s), (r, s + known.n), (s, r), (r + 1, s), (known.n, s), (r, known.n)):
            assert not verify_signatures.ecdsa(known, point, MESSAGE, *wrong)
        assert not verify_signatures.ecdsa(known, point, MESSAGE + b"!", r, s)
    for bad in (raw[:-1], b"\2" + raw[1:], raw[:-1] + bytes([raw[-1] ^ 1]), b"\4" + bytes(2 * width), b"\4" + b"\xff" * 2 * width):
        with pytest.raises(Refused):
            verify_signatures.curve_point(known, bad)
