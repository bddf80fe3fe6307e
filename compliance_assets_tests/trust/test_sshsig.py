"""A person's SSH signature is accepted for what ssh-keygen accepts it for, or for less, never for more."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance_assets.errors import ComplianceError, HomeUnusable, Misused, UntrustedEvidence
from compliance_assets.evidence import verify_signatures
from compliance_assets.trust.allowed_signers import matches, read_allowed_signers
from compliance_assets.trust.signatures import generate_ssh_key, ssh_sign, ssh_verify
from compliance_assets.trust.sshwire import string

KEYGEN = shutil.which("ssh-keygen") or ""
pytestmark = pytest.mark.skipif(not KEYGEN, reason="ssh-keygen is not installed")

MESSAGE, SPACE, WHO = b"the statement's bytes\n", "compliance-assets-approval", "approver-7f3a"
NOW = datetime(2026, 11, 25, 7, 5, tzinfo=UTC)
KINDS = {"ed25519": ("ed25519", "0"), "p256": ("ecdsa", "256"), "p384": ("ecdsa", "384"), "p521": ("ecdsa", "521"),
         "rsa": ("rsa", "2048")}


def keygen(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([KEYGEN, *map(str, arguments)], input=stdin, capture_output=True, check=False)


@dataclass
class Person:
    """Somebody with a key, and the line of allowed_signers that says so."""

    key: Path
    public: str

    @property
    def line(self) -> str:
        return f"{WHO} {self.public}\n"

    def sign(self, namespace: str = SPACE) -> str:
        """As the stock program signs."""
        done = keygen("-Y", "sign", "-q", "-f", self.key, "-n", namespace, stdin=MESSAGE)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Person]:
    folder = tmp_path_factory.mktemp("people")
    for name, (kind, bits) in {**KINDS, "authority": ("ed25519", "0")}.items():
        path = folder / name
        keygen("-q", "-t", kind, *(("-b", bits) if bits != "0" else ()), "-N", "", "-C", "", "-f", path)
    return {path.stem: Person(path.with_suffix(""), " ".join(path.read_text().split()[:2]))
            for path in folder.glob("*.pub")}


def accepted(armored: str, allowed: str, *, who: str = WHO, namespace: str = SPACE, at: datetime = NOW,
             message: bytes = MESSAGE, uv: bool = False) -> bool:
    """Whether it counts here. The auditor's own verifier, which shares no line with ours, must say the same wherever it can be asked."""
    try:
        ssh_verify(message, armored, allowed, who, namespace, at, require_user_verification=uv)
    except UntrustedEvidence:
        found = False
    else:
        found = True
    if allowed.startswith(f"{who} ") and allowed.count("\n") <= 1 and namespace == SPACE and at.tzinfo and not uv:
        assert audited(armored, allowed.removeprefix(f"{who} "), who, at, message) is found, (found, armored)
    return found


def audited(armored: str, line: str, who: str, at: datetime, message: bytes) -> bool:
    try:
        verify_signatures.ssh_verify(message, armored.encode(), line.rstrip("\n"), at, who)
    except verify_signatures.Refused:
        return False
    return True


def stock_accepts(folder: Path, armored: str, allowed: str, *, at: datetime = NOW) -> bool:
    (folder / "allowed").write_text(allowed)
    (folder / "sig").write_text(armored)
    return keygen("-Y", "verify", "-f", folder / "allowed", "-I", WHO, "-n", SPACE, "-s", folder / "sig",
                  "-O", f"verify-time={at:%Y%m%d%H%M%SZ}", stdin=MESSAGE).returncode == 0


def blob_of(armored: str) -> bytes:
    return base64.b64decode("".join(armored.split("\n")[1:-2]))


def armor(blob: bytes) -> str:
    lines = "\n".join(re.findall(".{1,70}", base64.b64encode(blob).decode()))
    return f"-----BEGIN SSH SIGNATURE-----\n{lines}\n-----END SSH SIGNATURE-----\n"


@pytest.mark.parametrize("kind", KINDS)
def test_what_ssh_keygen_signs_is_accepted_here_and_what_we_sign_is_accepted_there(
        people: dict[str, Person], tmp_path: Path, kind: str) -> None:
    person = people[kind]
    assert accepted(person.sign(), person.line)
    ours = ssh_sign(MESSAGE, person.key, SPACE)
    assert accepted(ours, person.line) and stock_accepts(tmp_path, ours, person.line)


@pytest.mark.parametrize("kind", KINDS)
def test_it_holds_for_one_message_one_purpose_one_person_and_one_key(people: dict[str, Person], kind: str) -> None:
    person, other = people[kind], people["authority"]
    signed = person.sign()
    assert not accepted(signed, person.line, message=MESSAGE + b" ")
    assert not accepted(signed, person.line, namespace="git") and not accepted(person.sign("git"), person.line)
    assert not accepted(signed, person.line, who="approver-0000")
    assert not accepted(signed, other.line) and not accepted(signed, "") and not accepted(signed, "# nobody\n\n")
    assert not accepted(signed, person.line, uv=True), "a key in a file cannot know who uses it"


def test_short_rsa_keys_are_refused() -> None:
    for bits, good in ((1024, False), (2048, True)):
        private = rsa.generate_private_key(65537, bits)
        public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        person = Person(Path(), public.decode())
        head, signed = _parts(person)
        sig = private.sign(signed, padding.PKCS1v15(), hashes.SHA512())
        assert accepted(armor(head + string(string(b"rsa-sha2-512") + string(sig))), person.line) is good


def test_sha1_is_refused(people: dict[str, Person]) -> None:
    private = serialization.load_ssh_private_key(people["rsa"].key.read_bytes(), password=None)
    assert isinstance(private, rsa.RSAPrivateKey)
    head, signed = _parts(people["rsa"])
    old = private.sign(signed, padding.PKCS1v15(), hashes.SHA1())
    good = private.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    assert not accepted(armor(head + string(string(b"ssh-rsa") + string(old))), people["rsa"].line)
    assert accepted(armor(head + string(string(b"rsa-sha2-256") + string(good))), people["rsa"].line)


def _parts(person: Person, *, reserved: bytes = b"", digest: bytes = b"sha512", namespace: str = SPACE,
           version: int = 1) -> tuple[bytes, bytes]:
    """The front of an SSHSIG, and the bytes that it signs."""
    public = base64.b64decode(person.public.split()[1])
    purpose = string(namespace.encode()) + string(reserved) + string(digest)
    head = b"SSHSIG" + version.to_bytes(4) + string(public) + purpose
    hashed = hashlib.new(digest.decode(), MESSAGE).digest()
    return head, b"SSHSIG" + purpose + string(hashed)


def _ed25519(person: Person) -> ed25519.Ed25519PrivateKey:
    private = serialization.load_ssh_private_key(person.key.read_bytes(), password=None)
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    return private


@pytest.mark.parametrize(("changes", "good"), [
    ({}, True), ({"digest": b"sha256"}, True), ({"digest": b"sha384"}, False), ({"digest": b"md5"}, False),
    ({"reserved": b"x"}, False), ({"version": 2}, False), ({"version": 0}, False),
], ids=str)
def test_versions_hashes_and_reserved_fields_that_are_not_known_are_refused_even_when_signed(
        people: dict[str, Person], changes: dict[str, object], good: bool) -> None:
    head, signed = _parts(people["ed25519"], **changes)  # type: ignore[arg-type]
    sig = _ed25519(people["ed25519"]).sign(signed)
    assert accepted(armor(head + string(string(b"ssh-ed25519") + string(sig))), people["ed25519"].line) is good


def test_left_over_bytes_are_refused_wherever_they_stand(people: dict[str, Person]) -> None:
    person = people["ed25519"]
    head, signed = _parts(person)
    sig = _ed25519(person).sign(signed)
    whole = head + string(string(b"ssh-ed25519") + string(sig))
    assert accepted(armor(whole), person.line)
    for wrong in (armor(whole + b"\0"), armor(head + string(string(b"ssh-ed25519") + string(sig) + b"\0")),
                  armor(head + string(string(b"ssh-ed25519") + string(sig + b"\0"))), armor(whole) + "x",
                  "x" + armor(whole), armor(whole) * 2, armor(whole).replace("SSH SIGNATURE", "PGP SIGNATURE"),
                  armor(b""), "", "-----BEGIN SSH SIGNATURE-----\n", armor(whole).replace("\n-----END", "=\n-----END")):
        assert not accepted(wrong, person.line)


# The validity of a line of allowed_signers

OPTIONS = {
    'namespaces="git"': False, f'namespaces="git,{SPACE}"': True, 'namespaces="*"': True,
    f'namespaces="*,!{SPACE}"': False, 'namespaces="compliance-?ssets-*"': True,
    'valid-after="20261125Z"': True, 'valid-after="20261126Z"': False, 'valid-before="20261126Z"': True,
    'valid-before="20261125Z"': False, 'valid-after="202611250705Z"': True, 'valid-before="20261125070500Z"': True,
    'valid-after="20261125070501Z"': False, 'valid-before="20261125070459Z"': False,
    'valid-after="20260101Z",valid-before="20270101Z"': True, 'NAMESPACES="git"': False, "cert-authority": False,
}


@pytest.mark.parametrize("options", OPTIONS)
def test_options_mean_here_what_they_mean_to_ssh_keygen(
        people: dict[str, Person], tmp_path: Path, options: str) -> None:
    person = people["ed25519"]
    allowed = f"{WHO} {options} {person.public}\n"
    signed = person.sign()
    assert accepted(signed, allowed) is OPTIONS[options] is stock_accepts(tmp_path, signed, allowed)


@pytest.mark.parametrize(("principals", "good"), [
    (f"other,{WHO}", True), ("approver-*", True), ("*,!approver-*", False), ('"approver-7f3a"', True),
    ("approver-7f3", False),
    ("approver-????", True), ("APPROVER-7F3A", False),
])
def test_principals_are_patterns_as_ssh_keygen_reads_them(
        people: dict[str, Person], tmp_path: Path, principals: str, good: bool) -> None:
    allowed, signed = f"{principals} {people['p256'].public} a comment\n", people["p256"].sign()
    assert accepted(signed, allowed) is good is stock_accepts(tmp_path, signed, allowed)


@pytest.mark.parametrize("line", [
    "approver-7f3a", "approver-7f3a ssh-ed25519", "approver-7f3a ssh-ed25519 AAAA", "approver-7f3a ssh-dss {key}",
    "approver-7f3a ssh-rsa {key}", "approver-7f3a unknown ssh-ed25519 {key}",
    'approver-7f3a namespaces=git ssh-ed25519 {key}',
    'approver-7f3a namespaces="a",namespaces="b" ssh-ed25519 {key}', "approver-7f3a namespaces ssh-ed25519 {key}",
    'approver-7f3a valid-after="20261125" ssh-ed25519 {key}', 'approver-7f3a valid-after="20261340Z" ssh-ed25519 {key}',
    'approver-7f3a valid-after="20270101Z",valid-before="20260101Z" ssh-ed25519 {key}',
    'approver-7f3a cert-authority="yes" ssh-ed25519 {key}', 'approver-7f3a valid-before="" ssh-ed25519 {key}',
    'approver-7f3a namespaces="a" "b" ssh-ed25519 {key}', '"approver-7f3a ssh-ed25519 {key}',
    "approver-7f3a ssh-ed25519 {key}x",
])
def test_one_unreadable_line_refuses_the_whole_file_and_is_named(people: dict[str, Person], line: str) -> None:
    person = people["ed25519"]
    allowed = person.line + line.format(key=person.public.split()[1]) + "\n"
    with pytest.raises(UntrustedEvidence, match="Line 2"):
        ssh_verify(MESSAGE, person.sign(), allowed, WHO, SPACE, NOW)


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_any_text_as_allowed_signers_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UntrustedEvidence):
        read_allowed_signers(text)


def test_a_pattern_is_not_a_regular_expression() -> None:
    assert matches("a.c", "a.c") and not matches("abc", "a.c") and not matches("a", "[a]") and not matches("", "a")


def test_a_moment_without_a_zone_and_an_empty_name_are_refused(people: dict[str, Person]) -> None:
    person = people["ed25519"]
    assert not accepted(person.sign(), person.line, at=NOW.replace(tzinfo=None))
    assert not accepted(person.sign(), f"* {person.public}", who="")


# Certificates

def certified(people: dict[str, Person], *arguments: str, kind: str = "ed25519") -> tuple[str, str]:
    """A signature with a certified key, and the line that trusts the authority."""
    person = people[kind]
    certificate = Path(f"{person.key}-cert.pub")
    certificate.unlink(missing_ok=True)
    made = keygen("-q", "-s", people["authority"].key, "-I", "id", *arguments, f"{person.key}.pub")
    assert made.returncode == 0, made.stderr
    try:
        done = keygen("-Y", "sign", "-q", "-f", certificate, "-n", SPACE, stdin=MESSAGE)
        assert done.returncode == 0, done.stderr
    finally:
        certificate.unlink()
    return done.stdout.decode(), f"{WHO} cert-authority {people['authority'].public}\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_by_a_trusted_authority_is_accepted(people: dict[str, Person], tmp_path: Path, kind: str) -> None:
    signed, allowed = certified(people, "-n", WHO, kind=kind)
    assert accepted(signed, allowed) and stock_accepts(tmp_path, signed, allowed)


@pytest.mark.parametrize(("arguments", "good", "stock"), [
    (("-n", "somebody"), False, False), (("-n", f"somebody,{WHO}"), True, True), ((), False, False),
    (("-n", WHO, "-h"), False, False), (("-n", WHO, "-V", "20260101Z:20270101Z"), True, True),
    (("-n", WHO, "-V", "20250101Z:20260101Z"), False, False), (("-n", WHO, "-V", "20270101Z:20280101Z"), False, False),
    (("-n", WHO, "-O", "force-command=x"), False, True), (("-n", WHO, "-O", "extension:x@y"), True, True),
], ids=str)
def test_a_certificate_holds_for_its_principals_its_time_and_only_if_all_of_it_is_understood(
        people: dict[str, Person], tmp_path: Path, arguments: tuple[str, ...], good: bool, stock: bool) -> None:
    signed, allowed = certified(people, *arguments)
    assert accepted(signed, allowed) is good
    assert stock_accepts(tmp_path, signed, allowed) is stock


def test_a_certificate_by_another_authority_or_a_line_that_is_none_is_refused(people: dict[str, Person]) -> None:
    signed, _ = certified(people, "-n", WHO)
    assert not accepted(signed, people["authority"].line)
    assert not accepted(signed, f"{WHO} cert-authority {people['p256'].public}\n")
    assert not accepted(signed, people["ed25519"].line), "a certificate is not the plain key"


def test_no_changed_byte_of_a_certificate_is_accepted(people: dict[str, Person]) -> None:
    signed, allowed = certified(people, "-n", WHO)
    blob = blob_of(signed)
    for i in range(0, len(blob), 3):
        assert not accepted(armor(blob[:i] + bytes([blob[i] ^ 1]) + blob[i + 1:]), allowed)


# Security keys: made in software here, as no hardware is at hand. The format is PROTOCOL.u2f's.

def hardware(
        kind: str, flags: int, *, application: bytes = b"ssh:", hashed_application: bytes = b"ssh:") -> tuple[str, str]:
    """A signature by a security key, and the line that allows it."""
    if kind == "sk-ssh-ed25519@openssh.com":
        private = ed25519.Ed25519PrivateKey.generate()
        public = string(kind.encode()) + string(private.public_key().public_bytes_raw()) + string(application)
    else:
        curve = ec.generate_private_key(ec.SECP256R1())
        point = curve.public_key().public_bytes(serialization.Encoding.X962,
                                                serialization.PublicFormat.UncompressedPoint)
        public = string(kind.encode()) + string(b"nistp256") + string(point) + string(application)
    encoded = f"{kind} {base64.b64encode(public).decode()}"
    head, signed = _parts(Person(Path(), encoded))
    counter = (7).to_bytes(4)
    covered = hashlib.sha256(hashed_application).digest() + bytes([flags]) + counter + hashlib.sha256(signed).digest()
    if kind == "sk-ssh-ed25519@openssh.com":
        sig = private.sign(covered)
    else:
        numbers = decode_dss_signature(curve.sign(covered, ec.ECDSA(hashes.SHA256())))
        sig = b"".join(string(n.to_bytes(n.bit_length() // 8 + 1)) for n in numbers)
    return armor(head + string(string(kind.encode()) + string(sig) + bytes([flags]) + counter)), f"{WHO} {encoded}\n"


SK = ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"]


@pytest.mark.parametrize("kind", SK)
def test_a_security_key_must_have_been_touched_although_ssh_keygen_does_not_ask(tmp_path: Path, kind: str) -> None:
    touched, untouched = hardware(kind, 0x01), hardware(kind, 0x00)
    assert accepted(*touched) and stock_accepts(tmp_path, *touched)
    assert not accepted(*untouched) and stock_accepts(tmp_path, *untouched)


@pytest.mark.parametrize("kind", SK)
def test_a_security_key_can_be_asked_to_know_who_touches_it(kind: str) -> None:
    assert accepted(*hardware(kind, 0x05), uv=True)
    assert not accepted(*hardware(kind, 0x01), uv=True) and not accepted(*hardware(kind, 0x04), uv=True)


@pytest.mark.parametrize("kind", SK)
def test_a_security_key_signs_for_its_own_application(kind: str) -> None:
    assert not accepted(*hardware(kind, 0x01, hashed_application=b"https://elsewhere"))


# The differential test: the same changed signatures, judged here and by ssh-keygen

def mutated(blob: bytes, dice: random.Random) -> bytes:
    changed = bytearray(blob)
    for _ in range(dice.choice((1, 1, 1, 2))):
        at = dice.randrange(len(changed))
        match dice.randrange(5):
            case 0:
                changed[at] ^= 1 << dice.randrange(8)
            case 1:
                changed[at] = dice.choice((0, 0xFF, 0x7F, 0x80, dice.randrange(256)))
            case 2:
                del changed[at:at + dice.choice((1, 4))]
            case 3:
                changed[at:at] = dice.choice((b"\0", b"\0\0\0\0", dice.randbytes(3)))
            case _:
                del changed[at:]
        if not changed:
            return b"\0"
    return bytes(changed)


def disagreements(people: dict[str, Person], folder: Path, count: int, seed: int) -> list[str]:
    dice = random.Random(seed)
    # A security key is left out: there the two disagree on purpose (user presence).
    originals = [(people[kind].sign(), people[kind].line) for kind in KINDS] + [certified(people, "-n", WHO)]
    found = []
    for i in range(count):
        signed, allowed = originals[i % len(originals)]
        text = armor(mutated(blob_of(signed), dice)) if i % 20 else signed
        ours, theirs = accepted(text, allowed), stock_accepts(folder, text, allowed)
        if ours != theirs:
            found.append(f"{'we accept' if ours else 'ssh-keygen accepts'}: {text}")
    return found


def test_120_changed_signatures_are_judged_as_ssh_keygen_judges_them(people: dict[str, Person], tmp_path: Path) -> None:
    assert disagreements(people, tmp_path, 120, seed=1) == []


@pytest.mark.slow
def test_900_changed_signatures_are_judged_as_ssh_keygen_judges_them(people: dict[str, Person], tmp_path: Path) -> None:
    assert disagreements(people, tmp_path, 900, seed=2) == []


@settings(max_examples=300, deadline=None)
@given(noise=st.binary(max_size=120))
def test_noise_as_a_signature_is_refused_and_no_other_error_escapes(noise: bytes) -> None:
    for blob in (noise, b"SSHSIG\0\0\0\1" + noise, b"SSHSIG\0\0\0\1" + string(noise) + string(SPACE.encode())):
        with pytest.raises(UntrustedEvidence):
            ssh_verify(MESSAGE, armor(blob), "", WHO, SPACE, NOW)
    with pytest.raises(UntrustedEvidence):
        ssh_verify(MESSAGE, noise.decode("latin-1"), "", WHO, SPACE, NOW)


# Keys

def test_a_new_key_is_one_that_ssh_keygen_reads_and_only_its_owner_can(tmp_path: Path) -> None:
    line = generate_ssh_key(tmp_path / "id", "anna@lender")
    assert (tmp_path / "id").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "id.pub").read_text() == line + "\n" and line.endswith(" anna@lender")
    assert keygen("-y", "-f", tmp_path / "id").stdout.split()[:2] == line.encode().split()[:2]
    with pytest.raises(HomeUnusable):
        generate_ssh_key(tmp_path / "id", "again")
    with pytest.raises(ComplianceError):
        generate_ssh_key(tmp_path / "other", "two\nlines")


def test_an_encrypted_key_goes_to_ssh_keygen_which_says_why_it_cannot(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keygen("-q", "-t", "ed25519", "-N", "secret words", "-f", tmp_path / "id")
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    with pytest.raises(Misused, match="ssh-keygen did not sign"):
        ssh_sign(MESSAGE, tmp_path / "id", SPACE)
    teller = tmp_path / "tell"
    teller.write_text("#!/bin/sh\necho secret words\n")
    teller.chmod(0o700)
    monkeypatch.setenv("SSH_ASKPASS", str(teller))
    line = (tmp_path / "id.pub").read_text()
    assert accepted(ssh_sign(MESSAGE, tmp_path / "id", SPACE), f"{WHO} {line}")


def test_a_key_that_others_can_read_or_that_is_none_does_not_sign(people: dict[str, Person], tmp_path: Path) -> None:
    for name, content, mode in (("open", people["ed25519"].key.read_bytes(), 0o644), ("noise", b"noise", 0o600)):
        (tmp_path / name).touch(mode)
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(mode)
        with pytest.raises(ComplianceError):
            ssh_sign(MESSAGE, tmp_path / name, SPACE)
    with pytest.raises(ComplianceError):
        ssh_sign(MESSAGE, tmp_path / "missing", SPACE)


def test_a_key_expires(people: dict[str, Person]) -> None:
    person = people["ed25519"]
    allowed = f'{WHO} valid-before="20261231Z" {person.public}\n'
    assert accepted(person.sign(), allowed, at=NOW)
    assert not accepted(person.sign(), allowed, at=NOW + timedelta(days=60))


@pytest.mark.skipif(not (shutil.which("ssh-agent") and shutil.which("ssh-add")), reason="ssh-agent is not installed")
def test_a_key_that_only_an_agent_holds_signs_and_no_longer_does_when_the_agent_forgot_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = generate_ssh_key(tmp_path / "key", "ada")
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        socket = Path(folder) / "agent"
        agent = subprocess.Popen(("ssh-agent", "-D", "-a", str(socket)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while not socket.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            subprocess.run(("ssh-add", "-q", str(tmp_path / "key")), check=True)
            (tmp_path / "key").unlink()
            ssh_verify(b"statement", ssh_sign(b"statement", tmp_path / "key.pub", SPACE), f"{WHO} {line}\n", WHO, SPACE, NOW)
            subprocess.run(("ssh-add", "-q", "-D"), check=True)
            with pytest.raises(Misused, match="ssh-keygen did not sign"):
                ssh_sign(b"statement", tmp_path / "key.pub", SPACE)
        finally:
            agent.terminate()
            agent.wait()
