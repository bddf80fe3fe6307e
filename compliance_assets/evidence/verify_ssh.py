"""Whether a person signed with the OpenSSH key, or under the certificate authority, that the trust policy gives them.

Third part of the auditor's one file: the standard library only. OpenSSH's PROTOCOL.sshsig, PROTOCOL.certkeys, PROTOCOL.u2f and
ALLOWED SIGNERS of ssh-keygen(1), each read as strictly as the product reads them: what is not understood refuses.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from compliance_assets.evidence.verify_base import moment, no, unbase64
from compliance_assets.evidence.verify_keys import CURVES, curve_point, ecdsa, ed25519, rsa, rsa_key_is_usable

NAMESPACE = "compliance-assets-approval"
SK_ED25519, SK_ECDSA = "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"
CURVE_OF = {SK_ECDSA: "nistp256", **{f"ecdsa-sha2-{curve}": curve for curve in CURVES}}
CERTIFIED = {f"{kind.removesuffix('@openssh.com')}-cert-v01@openssh.com": kind
             for kind in ("ssh-ed25519", "ssh-rsa", SK_ED25519, *CURVE_OF)}
LARGEST_ARMOR = 1 << 16
USER_PRESENT, USER_VERIFIED = 1, 4


class SshReader:
    """Reads fields from the front of some bytes (RFC 4251 §5)."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def take(self, count: int) -> bytes:
        if count > len(self.content) - self.at:
            no("an SSH structure is cut off")
        self.at += count
        return self.content[self.at - count:self.at]

    def number(self, width: int = 4) -> int:
        return int.from_bytes(self.take(width), "big")

    def string(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        content = self.string()
        return content.decode("ascii") if content.isascii() else no("a name in an SSH structure is not ASCII")

    def positive(self) -> int:
        """An integer above zero in its shortest form."""
        digits = self.string()
        if not digits or digits[0] & 0x80 or (digits[0] == 0 and (len(digits) == 1 or not digits[1] & 0x80)):
            no("an integer in an SSH structure is zero, negative or padded")
        return int.from_bytes(digits, "big")

    def end(self) -> None:
        if self.at != len(self.content):
            no("an SSH structure has bytes left over")


@dataclass(frozen=True)
class SshKey:
    """A public key: its kind and its numbers; a security key also has the application that it is bound to."""

    kind: str
    point: bytes | tuple[int, int]
    """Ed25519: 32 bytes. ECDSA: x and y. RSA: exponent and modulus."""
    application: str = ""

    def fits(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        if self.kind == "ssh-rsa":
            digest = {"rsa-sha2-256": "sha256", "rsa-sha2-512": "sha512"}.get(algorithm)  # never ssh-rsa: that is SHA-1
            return digest is not None and not isinstance(self.point, bytes) and rsa(*self.point, digest, message, signature)
        if algorithm != self.kind:
            return False
        if isinstance(self.point, bytes):
            return ed25519(self.point, message, signature)
        reader = SshReader(signature)
        r, s = reader.positive(), reader.positive()
        reader.end()
        return ecdsa(CURVE_OF[self.kind], self.point, message, r, s)


def read_ssh_key(blob: bytes) -> SshKey:
    reader = SshReader(blob)
    key = _key_fields(reader, reader.text())
    reader.end()
    return key


def _key_fields(reader: SshReader, kind: str) -> SshKey:
    point: bytes | tuple[int, int] | None
    if kind in ("ssh-ed25519", SK_ED25519):
        point = reader.string()
        if len(point) != 32:
            no("an Ed25519 key does not have 32 bytes")
    elif kind in CURVE_OF:
        if reader.text() != CURVE_OF[kind]:
            no("the curve is not the one that the key's kind names")
        point = curve_point(CURVE_OF[kind], reader.string())
    elif kind == "ssh-rsa":
        exponent, modulus = reader.positive(), reader.positive()
        point = (exponent, modulus) if rsa_key_is_usable(exponent, modulus) else None
    else:
        no(f"keys of the kind {kind!r:.60} are not accepted")
    if point is None:
        no(f"the {kind} key is not a valid one, or an RSA key has fewer than 2048 bits")
    return SshKey(kind, point, reader.text() if kind in (SK_ED25519, SK_ECDSA) else "")


def check_ssh_signature(key: SshKey, message: bytes, signature: bytes, user_verification: bool) -> None:
    """Refuse unless the key signed this; a security key must have been touched, and have known by whom where that is asked for."""
    reader = SshReader(signature)
    algorithm, sig = reader.text(), reader.string()
    if key.kind in (SK_ED25519, SK_ECDSA):
        flags, counter = reader.take(1), reader.take(4)
        message = hashlib.sha256(key.application.encode()).digest() + flags + counter + hashlib.sha256(message).digest()
        if not flags[0] & USER_PRESENT:
            no("nobody touched the security key")
        if user_verification and not flags[0] & USER_VERIFIED:
            no("the security key did not ask who touches it")
    elif user_verification:
        no("the key is not a security key that asks for a PIN or fingerprint")
    reader.end()
    if not key.fits(algorithm, message, sig):
        no("the signature does not fit")


def _certified(blob: bytes, principal: str, authority: bytes, at: datetime) -> tuple[SshKey, bool]:
    """The key in a certificate of this authority for this person at this moment, and whether it must know who touches it."""
    reader = SshReader(blob)
    kind = reader.text()
    reader.string()  # nonce
    key = _key_fields(reader, CERTIFIED[kind])
    reader.number(8)  # serial
    role = reader.number()
    reader.string()  # key id: free text
    names, principals = SshReader(reader.string()), []
    while names.at < len(names.content):
        principals.append(names.text())
    after, before = reader.number(8), reader.number(8)
    options = SshReader(reader.string())
    reader.string()  # extensions may be ignored, by definition
    if reader.string():
        no("the certificate's reserved field is not empty")
    signer = reader.string()
    covered, signature = blob[:reader.at], reader.string()
    reader.end()
    if role != 1 or signer != authority:
        no("the certificate is not a user's, or is by another authority than this person's")
    asks_who = False
    while options.at < len(options.content):
        if options.text() != "verify-required" or options.string():
            no("the certificate has a critical option that is not known here")
        asks_who = True
    check_ssh_signature(read_ssh_key(signer), covered, signature, False)
    if principal not in principals or not after <= at.timestamp() < before:
        no(f"the certificate is not for {principal}, or not for that moment")
    return key, asks_who


def ssh_verify(message: bytes, armored: bytes, line: str, principal: str, at: datetime) -> None:
    """Refuse unless the key of `line` (an allowed_signers line without its principal) signed this for approvals, at that moment.

    Every kind of key that approvals accept: Ed25519, ECDSA on three curves, RSA from 2048 bits with SHA-2, security keys that were
    touched, and certificates of an authority for this principal.
    """
    options, blob = _signer(line)
    if ("valid-after" in options and at < _ssh_time(options["valid-after"])) or (
            "valid-before" in options and at > _ssh_time(options["valid-before"])):
        no("the key does not count at that moment")
    if "namespaces" in options and not _pattern(NAMESPACE, options["namespaces"]):
        no("the key is not for approvals")
    reader = SshReader(_dearmored(armored))
    if reader.take(6) != b"SSHSIG" or reader.number() != 1:
        no("it is not an SSHSIG of version 1")
    key_blob, namespace, reserved, digest, signature = (reader.string() for _ in range(5))
    reader.end()
    if reserved or namespace != NAMESPACE.encode():
        no("it is not for approvals, or its reserved field is not empty")
    if digest not in (b"sha256", b"sha512"):
        no("it uses another hash than SHA-256 or SHA-512")
    asks_who = False
    if "cert-authority" in options:
        if SshReader(key_blob).text() not in CERTIFIED:
            no("it is by a plain key, and this person signs with certificates")
        key, asks_who = _certified(key_blob, principal, blob, at)
    elif key_blob != blob:
        no("it is by another key than the one this person has")
    else:
        key = read_ssh_key(key_blob)
    parts = (namespace, b"", digest, hashlib.new(digest.decode(), message).digest())
    signed = b"SSHSIG" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    check_ssh_signature(key, signed, signature, asks_who)


def _dearmored(armored: bytes) -> bytes:
    text = armored.decode("ascii") if armored.isascii() and len(armored) <= LARGEST_ARMOR else no("the signature is not text, or too long")
    start, separator, tail = text.partition("\n")
    body, marker, after = tail.partition("\n-----END SSH SIGNATURE-----")
    if start.rstrip("\r") != "-----BEGIN SSH SIGNATURE-----" or not separator or not marker or after.strip():
        no("it is not armored as an SSH signature")
    return unbase64("".join(body.split()))


def _signer(line: str) -> tuple[dict[str, str], bytes]:
    """The options and the key's bytes of an allowed_signers line."""
    options: dict[str, str] = {}
    rest = line
    while not rest.partition(" ")[0].startswith(("ssh-", "sk-", "ecdsa-")):
        found = re.match(r'([A-Za-z-]+)(?:="([^"\\]*)")?(,|[ \t]+)', rest, re.ASCII)
        name = found[1].lower() if found else ""
        if not found or name in options or name not in ("cert-authority", "namespaces", "valid-after", "valid-before") or (
                (found[2] is None) != (name == "cert-authority")):
            no("an allowed signer has options that are not known here, or one twice")
        options[name] = found[2] or ""
        rest = rest[found.end():]
    words = rest.split()
    if len(words) < 2 or "\n" in line:
        no("an allowed signer is not one line with a key")
    # As the product does: base64 without asking for its usual form, since the key's bytes are compared, not its text.
    try:
        blob = base64.b64decode(words[1], validate=True)
    except ValueError:
        no("an allowed signer's key is not base64")
    if read_ssh_key(blob).kind != words[0]:
        no("an allowed signer's key is of another kind than it says")
    return options, blob


def _pattern(name: str, patterns: str) -> bool:
    """OpenSSH's pattern-list: commas, `*`, `?`; any matching `!pattern` says no."""
    found = False
    for pattern in patterns.split(","):
        wanted = pattern.removeprefix("!")
        if re.fullmatch("".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in wanted), name, re.DOTALL):
            if pattern != wanted:
                return False
            found = True
    return found


def _ssh_time(text: str) -> datetime:
    found = re.fullmatch(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?Z", text, re.ASCII)
    return moment("{}-{}-{}T{}:{}:{}Z".format(*(part or "00" for part in found.groups()))) if found else no(f"the time {text} is malformed")
