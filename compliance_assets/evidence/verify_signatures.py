"""Signatures with Python's standard library alone: Ed25519, ECDSA, RSA, and OpenSSH's signatures by all of these.

The auditor's half of `trust`: written from the same standards a second time, with big integers instead of OpenSSL, so that an auditor
needs no package and no trust in ours. It verifies and never signs, so nothing here is secret and nothing needs constant time. The
exported `verify.py` holds this module's text in place of its import (`governance.export`).

RFC 8032 (Ed25519), FIPS 186-5 and SEC 1 (ECDSA on P-256, P-384, P-521), RFC 8017 (RSASSA-PKCS1-v1_5), OpenSSH's PROTOCOL.sshsig,
PROTOCOL.u2f and PROTOCOL.certkeys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

NAMESPACE = "compliance-assets-approval"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


class Refused(Exception):
    """Why something is not believed."""


def no(why: str) -> NoReturn:
    raise Refused(why)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def unbase64(text: str) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        no("it is not base64")
    return content if base64.b64encode(content).decode() == text else no("it is not the usual base64 of its bytes")


def moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")) if MOMENT.fullmatch(text) else no(f"{text!r:.40} is not a moment in UTC")
    except ValueError:
        no(f"{text!r:.40} is not a moment in UTC")


# ------------------------------------------------------------------------------------------------------------ Ed25519 (RFC 8032)

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]
NEUTRAL: Point = (0, 1, 1, 0)


def _add(a: Point, b: Point) -> Point:
    x1, y1, z1, t1 = a
    x2, y2, z2, t2 = b
    e, f = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = f - e, d - c, d + c, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P


def _x(y: int, sign: int) -> int | None:
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    return P - x if x & 1 != sign else x


def _point(raw: bytes) -> Point | None:
    number = int.from_bytes(raw, "little")
    y, sign = number & (2**255 - 1), number >> 255
    x = _x(y, sign) if y < P else None
    return None if x is None else (x, y, 1, x * y % P)


_BY = 4 * pow(5, P - 2, P) % P
_BX = _x(_BY, 0) or 0
BASE: Point = (_BX, _BY, 1, _BX * _BY % P)


def ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is this key's over the message: the point of R is recomputed and compared as bytes."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, s = _point(public), int.from_bytes(signature[32:], "little")
    if key is None or s >= ORDER:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    minus: Point = (-key[0] % P, key[1], key[2], -key[3] % P)
    both, found = _add(BASE, minus), NEUTRAL  # s·B − h·A, bit by bit for both at once (Shamir)
    for bit in range(max(s.bit_length(), h.bit_length()) - 1, -1, -1):
        found = _add(found, found)
        which = (s >> bit & 1) + 2 * (h >> bit & 1)
        if which:
            found = _add(found, (NEUTRAL, BASE, minus, both)[which])
    inverse = pow(found[2], P - 2, P)
    x, y = found[0] * inverse % P, found[1] * inverse % P
    return signature[:32] == (y | (x & 1) << 255).to_bytes(32, "little")


# ----------------------------------------------------------------------------------------------- ECDSA (FIPS 186-5, SEC 1)


@dataclass(frozen=True)
class Curve:
    """y² = x³ − 3x + b over the field of p, with a base point of prime order n; `digest` is what SSH hashes with (RFC 5656)."""

    p: int
    b: int
    x: int
    y: int
    n: int
    digest: str

    @property
    def size(self) -> int:
        """Bytes of one coordinate."""
        return (self.p.bit_length() + 7) // 8


CURVES = {
    "nistp256": Curve(
        2**256 - 2**224 + 2**192 + 2**96 - 1, 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
        0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
        0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
        0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551, "sha256"),
    "nistp384": Curve(
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
        0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
        0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F,
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973, "sha384"),
    "nistp521": Curve(
        2**521 - 1,
        int("0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109"
            "E156193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B503F00", 16),
        int("00C6858E06B70404E9CD9E3ECB662395B4429C648139053FB521F828AF606B4D3D"
            "BAA14B5E77EFE75928FE1DC127A2FFA8DE3348B3C1856A429BF97E7E31C2E5BD66", 16),
        int("011839296A789A3BC0045C8A5FB42C7D1BD998F54449579B446817AFBD17273E66"
            "2C97EE72995EF42640C550B9013FAD0761353C7086A272C24088BE94769FD16650", 16),
        int("01FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
            "FA51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409", 16), "sha512"),
}
Jacobian = tuple[int, int, int]
"""(X, Y, Z) is the point (X/Z², Y/Z³); Z = 0 is the point at infinity."""


def _doubled(curve: Curve, point: Jacobian) -> Jacobian:
    x, y, z = point
    p = curve.p
    if not z or not y:
        return 1, 1, 0
    delta, gamma = z * z % p, y * y % p
    beta, alpha = x * gamma % p, 3 * (x - delta) * (x + delta) % p
    new = (alpha * alpha - 8 * beta) % p
    return new, (alpha * (4 * beta - new) - 8 * gamma * gamma) % p, 2 * y * z % p


def _sum(curve: Curve, one: Jacobian, other: Jacobian) -> Jacobian:
    if not one[2]:
        return other
    if not other[2]:
        return one
    p = curve.p
    z1, z2 = one[2] * one[2] % p, other[2] * other[2] % p
    u1, u2 = one[0] * z2 % p, other[0] * z1 % p
    s1, s2 = one[1] * z2 * other[2] % p, other[1] * z1 * one[2] % p
    if u1 == u2:
        return _doubled(curve, one) if s1 == s2 else (1, 1, 0)
    h, r = u2 - u1, s2 - s1
    h2 = h * h % p
    h3, v = h * h2 % p, u1 * h2 % p
    x = (r * r - h3 - 2 * v) % p
    return x, (r * (v - x) - s1 * h3) % p, h * one[2] * other[2] % p


def curve_point(curve: Curve, raw: bytes) -> Jacobian:
    """The point that these bytes write in full (SEC 1, 2.3.4). Refuses one that does not lie on the curve."""
    if len(raw) != 1 + 2 * curve.size or raw[0] != 4:
        no("the curve point is not written in full")
    x, y = int.from_bytes(raw[1:1 + curve.size], "big"), int.from_bytes(raw[1 + curve.size:], "big")
    if max(x, y) >= curve.p or (y * y - (x * x * x - 3 * x + curve.b)) % curve.p:
        no("the key's point does not lie on its curve")
    return x, y, 1


def ecdsa(curve: Curve, key: Jacobian, message: bytes, r: int, s: int) -> bool:
    """Whether (r, s) is the key's signature over the message, hashed with the curve's own digest."""
    if not (0 < r < curve.n and 0 < s < curve.n):
        return False
    hashed = hashlib.new(curve.digest, message).digest()
    e = int.from_bytes(hashed, "big") >> max(0, 8 * len(hashed) - curve.n.bit_length())
    w = pow(s, -1, curve.n)
    u, v = e * w % curve.n, r * w % curve.n
    base: Jacobian = (curve.x, curve.y, 1)
    both, found = _sum(curve, base, key), (1, 1, 0)
    for bit in range(max(u.bit_length(), v.bit_length()) - 1, -1, -1):
        found = _doubled(curve, found)
        which = (u >> bit & 1) + 2 * (v >> bit & 1)
        if which:
            found = _sum(curve, found, (found, base, key, both)[which])
    if not found[2]:
        return False
    return found[0] * pow(found[2] * found[2], -1, curve.p) % curve.p % curve.n == r


# ----------------------------------------------------------------------------------------------------------- RSA (RFC 8017)

_DIGEST_INFO = {"sha256": "3031300d060960864801650304020105000420", "sha512": "3051300d060960864801650304020305000440"}


def rsa(modulus: int, exponent: int, message: bytes, signature: bytes, digest: str) -> bool:
    """RSASSA-PKCS1-v1_5: the whole padded block is made again and compared; leading zeros of the signature may be left out (OpenSSH)."""
    size = (modulus.bit_length() + 7) // 8
    number = int.from_bytes(signature, "big")
    if len(signature) > size or number >= modulus:
        return False
    told = bytes.fromhex(_DIGEST_INFO[digest]) + hashlib.new(digest, message).digest()
    padded = b"\x00\x01" + b"\xff" * (size - len(told) - 3) + b"\x00" + told
    return pow(number, exponent, modulus).to_bytes(size, "big") == padded


def checked_rsa(modulus: int, exponent: int) -> tuple[int, int]:
    """The key, if it is one that counts: 2048 to 16384 bits, an odd exponent from 3 to 64 bits."""
    if not 2048 <= modulus.bit_length() <= 16384 or modulus % 2 == 0:
        no(f"the RSA key has {modulus.bit_length()} bits, not 2048 to 16384")
    if exponent < 3 or exponent % 2 == 0 or exponent.bit_length() > 64:
        no("the RSA key's exponent is none that is used")
    return modulus, exponent


# ------------------------------------------------------------------------------------------------------------------- SSHSIG


class Fields:
    """Reads fields from the front of an SSH structure (RFC 4251); refuses what is cut off, padded or left over."""

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
        digits = self.string()
        if not digits or digits[0] & 0x80 or (digits[0] == 0 and (len(digits) == 1 or not digits[1] & 0x80)):
            no("an integer in an SSH structure is zero, negative or padded")
        return int.from_bytes(digits, "big")

    def end(self) -> None:
        if self.at != len(self.content):
            no("an SSH structure has bytes left over")


Fits = Callable[[str, bytes, bytes], bool]
"""(signature algorithm, message, signature) → whether it fits."""
_SECURITY_KEYS = {"sk-ssh-ed25519@openssh.com": "", "sk-ecdsa-sha2-nistp256@openssh.com": "nistp256"}
_ECDSA = {"sk-ecdsa-sha2-nistp256@openssh.com": "nistp256", **{f"ecdsa-sha2-{name}": name for name in CURVES}}
_CERTIFIED = {f"{kind.removesuffix('@openssh.com')}-cert-v01@openssh.com": kind
              for kind in ("ssh-ed25519", "ssh-rsa", "sk-ssh-ed25519@openssh.com", *_ECDSA)}


@dataclass(frozen=True)
class Key:
    """A public key: its kind, its exact bytes, how it verifies, and the application that a security key is bound to."""

    kind: str
    blob: bytes
    fits: Fits
    application: str = ""


def ssh_key(blob: bytes) -> Key:
    fields = Fields(blob)
    key = _key(fields, fields.text(), blob)
    fields.end()
    return key


def _key(fields: Fields, kind: str, blob: bytes | None = None) -> Key:
    """The fields after the kind. Inside a certificate there is no `blob`: the plain key's bytes are put together."""
    start = fields.at
    if kind in ("ssh-ed25519", "sk-ssh-ed25519@openssh.com"):
        raw = fields.string()
        fits: Fits = lambda algorithm, message, sig: algorithm == kind and ed25519(raw, message, sig)  # noqa: E731  # one of three
    elif kind in _ECDSA:
        if fields.text() != _ECDSA[kind]:
            no("the curve is not the one that the key's kind names")
        curve = CURVES[_ECDSA[kind]]
        fits = _by_ecdsa(curve, curve_point(curve, fields.string()), kind)
    elif kind == "ssh-rsa":
        exponent = fields.positive()
        fits = _by_rsa(*checked_rsa(fields.positive(), exponent))
    else:
        no(f"keys of the kind {kind!r:.60} are not accepted")
    application = fields.text() if kind in _SECURITY_KEYS else ""
    named = kind.encode()
    whole = blob if blob is not None else len(named).to_bytes(4, "big") + named + fields.content[start:fields.at]
    return Key(kind, whole, fits, application)


def _by_ecdsa(curve: Curve, point: Jacobian, kind: str) -> Fits:
    def fits(algorithm: str, message: bytes, sig: bytes) -> bool:
        fields = Fields(sig)
        r, s = fields.positive(), fields.positive()
        fields.end()
        return algorithm == kind and ecdsa(curve, point, message, r, s)
    return fits


def _by_rsa(modulus: int, exponent: int) -> Fits:
    names = {"rsa-sha2-256": "sha256", "rsa-sha2-512": "sha512"}  # never ssh-rsa: that is SHA-1
    return lambda algorithm, message, sig: algorithm in names and rsa(modulus, exponent, message, sig, names[algorithm])


def check_ssh_signature(key: Key, message: bytes, signature: bytes, *, verified: bool = False) -> None:
    """Refuse unless it is the key's; a security key was touched and, where `verified` is asked, knew by whom."""
    fields = Fields(signature)
    algorithm, sig = fields.text(), fields.string()
    if key.kind in _SECURITY_KEYS:
        did = fields.take(5)
        message = hashlib.sha256(key.application.encode()).digest() + did + hashlib.sha256(message).digest()
        if not did[0] & 1:
            no("nobody touched the security key")
        if verified and not did[0] & 4:
            no("the security key did not ask who touches it")
    elif verified:
        no("the key is not a security key that asks for a PIN or fingerprint")
    fields.end()
    if not key.fits(algorithm, message, sig):
        no("the signature does not fit")


@dataclass(frozen=True)
class Certificate:
    """What an authority certifies about a key; its own signature was checked."""

    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    verified: bool
    authority: Key


def key_or_certificate(blob: bytes) -> tuple[Key, Certificate | None]:
    """The key that a signature names: plain, or certified (a user's certificate, every critical option understood)."""
    fields = Fields(blob)
    kind = fields.text()
    if kind not in _CERTIFIED:
        return ssh_key(blob), None
    fields.string()  # a nonce
    key = _key(fields, _CERTIFIED[kind])
    fields.number(8)  # a serial number
    role = fields.number()
    fields.string()  # free text
    names, principals = Fields(fields.string()), []
    while names.at < len(names.content):
        principals.append(names.text())
    after, before = fields.number(8), fields.number(8)
    options, _, reserved = Fields(fields.string()), fields.string(), fields.string()
    authority = ssh_key(fields.string())
    covered = blob[:fields.at]
    signature = fields.string()
    fields.end()
    if role != 1 or reserved:
        no("the certificate is not a user's, or its reserved field is not empty")
    verified = False
    while options.at < len(options.content):
        if options.text() != "verify-required" or options.string():
            no("the certificate has a critical option that is not known here")
        verified = True
    check_ssh_signature(authority, covered, signature)
    return key, Certificate(tuple(principals), after, before, verified, authority)


def ssh_verify(message: bytes, armored: bytes, line: str, at: datetime, person: str) -> None:
    """Refuse unless `person` signed this for approvals at that moment, with the key of `line` (allowed_signers without the principal) or
    with a key that the line's authority certified for them."""
    options, claimed = _signer(line)
    if ("valid-after" in options and at < _ssh_time(options["valid-after"])) or (
            "valid-before" in options and at > _ssh_time(options["valid-before"])):
        no("the key does not count at that moment")
    if "namespaces" in options and not _matches(NAMESPACE, options["namespaces"]):
        no("the key is not for approvals")
    text = armored.decode("ascii") if armored.isascii() else no("the signature is not text")
    found = re.fullmatch(r"-----BEGIN SSH SIGNATURE-----\r?\n([A-Za-z0-9+/=\s]+)\n-----END SSH SIGNATURE-----\s*", text)
    body = unbase64("".join(found[1].split())) if found else no("it is not armored as an SSH signature")
    if body[:10] != b"SSHSIG\x00\x00\x00\x01":
        no("it is not an SSHSIG of version 1")
    fields = Fields(body)
    fields.take(10)
    blob, namespace, reserved, digest, signature = (fields.string() for _ in range(5))
    fields.end()
    if reserved or namespace != NAMESPACE.encode():
        no("it is not for approvals, or its reserved field is not empty")
    if digest not in (b"sha256", b"sha512"):
        no("it uses another hash than sha256 or sha512")
    key, certificate = key_or_certificate(blob)
    if (certificate.authority if certificate else key).blob != claimed.blob or (certificate is not None) != ("cert-authority" in options):
        no("it is by another key than the one this person has")
    if certificate is not None:
        if person not in certificate.principals:
            no(f"the certificate is not for {person}")
        if not certificate.valid_after <= at.timestamp() < certificate.valid_before:
            no("the certificate was not valid at that moment")
    parts = (namespace, b"", digest, hashlib.new(digest.decode(), message).digest())
    signed = b"SSHSIG" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    check_ssh_signature(key, signed, signature, verified=certificate is not None and certificate.verified)


def _signer(line: str) -> tuple[dict[str, str], Key]:
    options: dict[str, str] = {}
    rest = line.strip(" \t\r")
    while not re.match(r"(ssh-|sk-|ecdsa-)\S+ ", rest):
        found = re.match(r'(cert-authority)(,|[ \t]+)|(namespaces|valid-after|valid-before)="([^"\\]*)"(,|[ \t]+)', rest,
                         re.IGNORECASE | re.ASCII)
        name = (found[1] or found[3]).lower() if found else ""
        if not found or name in options:
            no("an allowed signer has options that this program does not know, or twice")
        options[name] = found[4] or ""
        rest = rest[found.end():]
    kind, encoded, *_ = rest.split()
    key = ssh_key(unbase64(encoded))
    return (options, key) if key.kind == kind else no("an allowed signer's key is of another kind than it says")


def key_of_line(line: str) -> tuple[bytes, bool]:
    """The key in a line of allowed_signers, an Ed25519 one bare; and whether it is an authority's (certificates say for whom they are)."""
    options, key = _signer(line)
    return key.blob[-32:] if key.kind == "ssh-ed25519" else key.blob, "cert-authority" in options


def _matches(name: str, patterns: str) -> bool:
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
    if not found:
        no(f"the time {text} is malformed")
    try:
        return datetime(*(int(part or 0) for part in found.groups()), tzinfo=UTC)  # type: ignore[arg-type,misc]  # six numbers
    except ValueError:
        no(f"the time {text} is malformed")
