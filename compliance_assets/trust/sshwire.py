"""Keys, signatures and certificates, read as OpenSSH writes them, and nothing else.

The wire format is RFC 4251 (strings with a length, integers big-endian); keys are RFC 4253, 5656, 8709; FIDO keys are
OpenSSH's PROTOCOL.u2f, certificates PROTOCOL.certkeys. Every reader refuses what it does not fully understand,
including bytes that are left over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from compliance_assets.errors import UntrustedEvidence

ED25519 = "ssh-ed25519"
RSA = "ssh-rsa"
SK_ED25519 = "sk-ssh-ed25519@openssh.com"
SK_ECDSA = "sk-ecdsa-sha2-nistp256@openssh.com"
CURVES: dict[str, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    "nistp256": (ec.SECP256R1(), hashes.SHA256()),
    "nistp384": (ec.SECP384R1(), hashes.SHA384()),
    "nistp521": (ec.SECP521R1(), hashes.SHA512()),
}
CURVE_OF = {SK_ECDSA: "nistp256", **{f"ecdsa-sha2-{curve}": curve for curve in CURVES}}
KINDS = frozenset({ED25519, RSA, SK_ED25519, *CURVE_OF})
CERTIFIED = {f"{kind.removesuffix('@openssh.com')}-cert-v01@openssh.com": kind for kind in KINDS}
SMALLEST_RSA_BITS = 2048
USER_PRESENT, USER_VERIFIED = 0x01, 0x04


def refusal(why: str, rule: str = "sshsig", value: str = "") -> UntrustedEvidence:
    """A person's signature that is not accepted, and why."""
    return UntrustedEvidence(f"The SSH signature is refused: {why}.", rule=rule, value=value or why,
                             remedy="Sign again with a key that allowed_signers lists for you.")


class Reader:
    """Reads fields from the front of some bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self.content) - self.at:
            raise refusal("it ends too early")
        self.at += count
        return self.content[self.at - count:self.at]

    def number(self, width: int = 4) -> int:
        return int.from_bytes(self.take(width))

    def string(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        try:
            return self.string().decode("ascii")
        except UnicodeDecodeError:
            raise refusal("a name in it is not ASCII") from None

    def positive(self) -> int:
        """An mpint (RFC 4251 §5) above zero, in its shortest form."""
        digits = self.string()
        if not digits or digits[0] & 0x80 or (digits[0] == 0 and (len(digits) == 1 or not digits[1] & 0x80)):
            raise refusal("an integer in it is zero, negative or padded")
        return int.from_bytes(digits)

    def end(self) -> None:
        if self.at != len(self.content):
            raise refusal("bytes are left over")


def string(content: bytes) -> bytes:
    """A string as it is written: four bytes of length, then the bytes."""
    return len(content).to_bytes(4) + content


Verifier = Callable[[str, bytes, bytes], bool]
"""(signature algorithm, message, signature) → whether it fits."""


@dataclass(frozen=True)
class SshKey:
    """A public key: its kind, its exact bytes, and for FIDO keys the application that it is bound to."""

    kind: str
    blob: bytes
    verifier: Verifier
    application: str = ""

    @property
    def in_hardware(self) -> bool:
        return self.kind in (SK_ED25519, SK_ECDSA)


@dataclass(frozen=True)
class Certificate:
    """What an authority certifies about a key. Checked already: the authority's signature, and that it is a user's."""

    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    verify_required: bool
    authority: SshKey


def read_key(blob: bytes) -> SshKey:
    """A plain public key."""
    reader = Reader(blob)
    key = _key_fields(reader, reader.text(), blob)
    reader.end()
    return key


def _key_fields(reader: Reader, kind: str, blob: bytes | None = None) -> SshKey:
    """The fields that follow the kind. Without `blob` (inside a certificate) the plain key's bytes are put together."""
    start = reader.at
    application = ""
    try:
        if kind in (ED25519, SK_ED25519):
            verifier = _ed25519(Ed25519PublicKey.from_public_bytes(reader.string()), kind)
        elif kind in CURVE_OF:
            curve = reader.text()
            if curve != CURVE_OF[kind]:
                raise refusal("the curve is not the one that the key's kind names")
            point = reader.string()
            if point[:1] != b"\x04":
                raise refusal("the curve point is not written in full")
            verifier = _ecdsa(ec.EllipticCurvePublicKey.from_encoded_point(CURVES[curve][0], point),
                              CURVES[curve][1], kind)
        elif kind == RSA:
            exponent, modulus = reader.positive(), reader.positive()
            if not SMALLEST_RSA_BITS <= modulus.bit_length() <= 16384:
                raise refusal(f"the RSA key has {modulus.bit_length()} bits, not 2048 to 16384")
            verifier = _rsa(rsa.RSAPublicNumbers(exponent, modulus).public_key())
        else:
            raise refusal(f"keys of the kind {kind!r:.60} are not accepted")
    except (ValueError, UnsupportedAlgorithm) as error:
        raise refusal("the public key is not a valid one") from error
    if kind in (SK_ED25519, SK_ECDSA):
        application = reader.text()
    whole = blob if blob is not None else string(kind.encode()) + reader.content[start:reader.at]
    return SshKey(kind, whole, verifier, application)


def _accepts(check: Callable[[], None]) -> bool:
    try:
        check()
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _ed25519(key: Ed25519PublicKey, kind: str) -> Verifier:
    return lambda algorithm, message, sig: (
        algorithm == kind and len(sig) == 64 and _accepts(lambda: key.verify(sig, message)))


def _ecdsa(key: ec.EllipticCurvePublicKey, digest: hashes.HashAlgorithm, kind: str) -> Verifier:
    def verify(algorithm: str, message: bytes, sig: bytes) -> bool:
        reader = Reader(sig)
        pair = encode_dss_signature(reader.positive(), reader.positive())
        reader.end()
        return algorithm == kind and _accepts(lambda: key.verify(pair, message, ec.ECDSA(digest)))

    return verify


def _rsa(key: rsa.RSAPublicKey) -> Verifier:
    def verify(algorithm: str, message: bytes, sig: bytes) -> bool:
        digests = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}  # never ssh-rsa: that is SHA-1
        if algorithm not in digests or len(sig) > (key.key_size + 7) // 8:
            return False
        padded = sig.rjust((key.key_size + 7) // 8, b"\0")  # OpenSSH may leave leading zeros out
        return _accepts(lambda: key.verify(padded, message, padding.PKCS1v15(), digests[algorithm]))

    return verify


def check_signature(key: SshKey, message: bytes, signature: bytes, *, user_verification: bool) -> None:
    """Refuse unless `signature` (an SSH signature string) is `key`'s over `message`.

    A FIDO key must say that somebody touched it; with `user_verification`, also that it knew who (PIN, fingerprint).
    """
    reader = Reader(signature)
    algorithm, sig = reader.text(), reader.string()
    if key.in_hardware:
        flags, counter = reader.take(1), reader.take(4)
        # PROTOCOL.u2f: the authenticator signs the application, what the user did, a counter, and the message's hash.
        message = hashlib.sha256(key.application.encode()).digest() + flags + counter + hashlib.sha256(message).digest()
        if not flags[0] & USER_PRESENT:
            raise refusal("nobody touched the security key", "user presence")
        if user_verification and not flags[0] & USER_VERIFIED:
            raise refusal("the security key did not ask who touches it", "user verification")
    elif user_verification:
        raise refusal("the key is not a security key that asks for a PIN or fingerprint", "user verification")
    reader.end()
    if not key.verifier(algorithm, message, sig):
        raise refusal("it does not fit the message and the key", "signature")


def read_key_or_certificate(blob: bytes) -> tuple[SshKey, Certificate | None]:
    """The key that a signature names: a plain one, or one with a certificate, whose own signature is checked here."""
    reader = Reader(blob)
    kind = reader.text()
    if kind not in CERTIFIED:
        return read_key(blob), None
    # (1) The fields, in the order of PROTOCOL.certkeys.
    reader.string()  # nonce
    key = _key_fields(reader, CERTIFIED[kind])
    reader.number(8)  # serial
    role = reader.number()
    reader.string()  # key id: free text
    principals = _names(reader.string())
    valid_after, valid_before = reader.number(8), reader.number(8)
    options, extensions = Reader(reader.string()), reader.string()
    del extensions  # extensions may be ignored, by definition
    if reader.string():
        raise refusal("the certificate's reserved field is not empty")
    authority = read_key(reader.string())
    covered = blob[:reader.at]
    signature = reader.string()
    reader.end()
    # (2) A user's certificate, not a host's.
    if role != 1:
        raise refusal("the certificate is not a user's")
    # (3) A critical option that is not understood must refuse.
    verify_required = False
    while options.at < len(options.content):
        if options.text() != "verify-required" or options.string():
            raise refusal("the certificate has a critical option that is not known here")
        verify_required = True
    # (4) The authority's own signature.
    check_signature(authority, covered, signature, user_verification=False)
    return key, Certificate(principals, valid_after, valid_before, verify_required, authority)


def _names(packed: bytes) -> tuple[str, ...]:
    reader, names = Reader(packed), []
    while reader.at < len(packed):
        names.append(reader.text())
    return tuple(names)
