"""Whether a key signed a message: Ed25519, ECDSA on NIST's curves and RSA, in whole numbers of Python.

Second part of the auditor's one file: the standard library only. Nothing here is secret, so nothing here needs constant time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

# ------------------------------------------------------------------------------------------------------------ Ed25519 (RFC 8032)

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)
EdPoint = tuple[int, int, int, int]
NEUTRAL: EdPoint = (0, 1, 1, 0)


def _ed_add(a: EdPoint, b: EdPoint) -> EdPoint:
    x1, y1, z1, t1 = a
    x2, y2, z2, t2 = b
    e, f = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = f - e, d - c, d + c, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P


def _ed_x(y: int, sign: int) -> int | None:
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    return P - x if x & 1 != sign else x


def _ed_point(raw: bytes) -> EdPoint | None:
    number = int.from_bytes(raw, "little")
    y, sign = number & (2**255 - 1), number >> 255
    x = _ed_x(y, sign) if y < P else None
    return None if x is None else (x, y, 1, x * y % P)


_BY = 4 * pow(5, P - 2, P) % P
_BX = _ed_x(_BY, 0) or 0
BASE: EdPoint = (_BX, _BY, 1, _BX * _BY % P)


def ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is this key's over the message: the point of R is recomputed and compared as bytes."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, s = _ed_point(public), int.from_bytes(signature[32:], "little")
    if key is None or s >= ORDER:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    minus: EdPoint = (-key[0] % P, key[1], key[2], -key[3] % P)
    both, found = _ed_add(BASE, minus), NEUTRAL  # s·B − h·A, bit by bit for both at once (Shamir)
    for bit in range(max(s.bit_length(), h.bit_length()) - 1, -1, -1):
        found = _ed_add(found, found)
        which = (s >> bit & 1) + 2 * (h >> bit & 1)
        if which:
            found = _ed_add(found, (NEUTRAL, BASE, minus, both)[which])
    inverse = pow(found[2], P - 2, P)
    x, y = found[0] * inverse % P, found[1] * inverse % P
    return signature[:32] == (y | (x & 1) << 255).to_bytes(32, "little")


# ------------------------------------------------------------------------------------------- ECDSA (FIPS 186-5, curves of SP 800-186)


@dataclass(frozen=True)
class Curve:
    """y² = x³ − 3x + b modulo p, with a base point of prime order, and the hash that OpenSSH signs with on it."""

    p: int
    b: int
    order: int
    x: int
    y: int
    digest: str

    @property
    def width(self) -> int:
        return (self.p.bit_length() + 7) // 8


CURVES = {
    "nistp256": Curve(
        2**256 - 2**224 + 2**192 + 2**96 - 1,
        0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
        0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
        0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
        0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5, "sha256"),
    "nistp384": Curve(
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
        0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
        0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F, "sha384"),
    "nistp521": Curve(
        2**521 - 1,
        0x0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E156193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B503F00,
        2**521 - 6 * 2**256 + 0x51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409,
        0x00C6858E06B70404E9CD9E3ECB662395B4429C648139053FB521F828AF606B4D3DBAA14B5E77EFE75928FE1DC127A2FFA8DE3348B3C1856A429BF97E7E31C2E5BD66,
        0x011839296A789A3BC0045C8A5FB42C7D1BD998F54449579B446817AFBD17273E662C97EE72995EF42640C550B9013FAD0761353C7086A272C24088BE94769FD16650,
        "sha512"),
}
Jacobian = tuple[int, int, int]


def _double(a: Jacobian, p: int) -> Jacobian:
    x, y, z = a
    if not y or not z:
        return 0, 1, 0
    square, slope = y * y % p, 3 * (x - z * z) * (x + z * z) % p
    four = 4 * x * square % p
    x3 = (slope * slope - 2 * four) % p
    return x3, (slope * (four - x3) - 8 * square * square) % p, 2 * y * z % p


def _plus(a: Jacobian, b: Jacobian, p: int) -> Jacobian:
    if not a[2] or not b[2]:
        return b if not a[2] else a
    za, zb = a[2] * a[2] % p, b[2] * b[2] % p
    u, v = a[0] * zb % p, b[0] * za % p
    s, t = a[1] * zb * b[2] % p, b[1] * za * a[2] % p
    if u == v:
        return _double(a, p) if s == t else (0, 1, 0)
    h, r = (v - u) % p, (t - s) % p
    hh = h * h % p
    hhh, uhh = h * hh % p, u * hh % p
    x = (r * r - hhh - 2 * uhh) % p
    return x, (r * (uhh - x) - s * hhh) % p, h * a[2] * b[2] % p


def curve_point(name: str, raw: bytes) -> tuple[int, int] | None:
    """The public point that is written in full (SEC 1 §2.3.4), None if it is not one of this curve."""
    curve = CURVES[name]
    if len(raw) != 1 + 2 * curve.width or raw[0] != 4:
        return None
    x, y = int.from_bytes(raw[1:1 + curve.width], "big"), int.from_bytes(raw[1 + curve.width:], "big")
    on = max(x, y) < curve.p and (y * y - (x * x - 3) * x - curve.b) % curve.p == 0
    return (x, y) if on else None


def ecdsa(name: str, point: tuple[int, int], message: bytes, r: int, s: int) -> bool:
    """Whether (r, s) is this point's signature over the message: FIPS 186-5 §6.4.2."""
    curve = CURVES[name]
    if not (0 < r < curve.order and 0 < s < curve.order):
        return False
    digest = hashlib.new(curve.digest, message).digest()
    hashed = int.from_bytes(digest, "big") >> max(0, 8 * len(digest) - curve.order.bit_length())
    inverse = pow(s, -1, curve.order)
    u, v = hashed * inverse % curve.order, r * inverse % curve.order
    base, key = (curve.x, curve.y, 1), (*point, 1)
    choices, found = ((0, 1, 0), base, key, _plus(base, key, curve.p)), (0, 1, 0)
    for bit in range(max(u.bit_length(), v.bit_length()) - 1, -1, -1):
        found = _double(found, curve.p)
        which = (u >> bit & 1) + 2 * (v >> bit & 1)
        if which:
            found = _plus(found, choices[which], curve.p)
    if not found[2]:
        return False
    return found[0] * pow(found[2], -2, curve.p) % curve.p % curve.order == r


# -------------------------------------------------------------------------------------------- RSA (RFC 8017, RSASSA-PKCS1-v1_5)

SMALLEST_RSA_BITS, LARGEST_RSA_BITS = 2048, 16384
_DIGEST_INFO = {"sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
                "sha512": bytes.fromhex("3051300d060960864801650304020305000440")}


def rsa_key_is_usable(exponent: int, modulus: int) -> bool:
    """Sizes and forms that OpenSSL verifies with, and at least 2048 bits."""
    return (SMALLEST_RSA_BITS <= modulus.bit_length() <= LARGEST_RSA_BITS and modulus & 1 == 1 and exponent & 1 == 1
            and 3 <= exponent < modulus and (modulus.bit_length() <= 3072 or exponent.bit_length() <= 64))


def rsa(exponent: int, modulus: int, digest: str, message: bytes, signature: bytes) -> bool:
    """Whether the padded digest, written anew, is what the key makes of the signature (RFC 8017 §8.2.2)."""
    width, number = (modulus.bit_length() + 7) // 8, int.from_bytes(signature, "big")
    if len(signature) > width or number >= modulus:  # OpenSSH may leave leading zeros out
        return False
    tail = b"\0" + _DIGEST_INFO[digest] + hashlib.new(digest, message).digest()
    return pow(number, exponent, modulus).to_bytes(width, "big") == b"\0\1".ljust(width - len(tail), b"\xff") + tail
