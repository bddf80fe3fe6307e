"""A passkey in software: what an authenticator and a browser do together, so that every byte of it can be bent."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from compliance_assets.policy.organisation import DeclaredPasskey
from compliance_assets.trust.passkeys import Assertion, Passkey

ORIGIN, HOST = "http://localhost:3100", "localhost"


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@dataclass
class SoftPasskey:
    """One passkey. `counter` grows with each use where it begins above 0."""

    algorithm: str = "ES256"
    counter: int = 0
    origin: str = ORIGIN
    relying_party: str = HOST
    credential: str = field(default_factory=lambda: b64(secrets.token_bytes(32)))

    @cached_property
    def private(self) -> Any:
        return {"ES256": lambda: ec.generate_private_key(ec.SECP256R1()), "EdDSA": ed25519.Ed25519PrivateKey.generate,
                "RS256": lambda: rsa.generate_private_key(65537, 2048)}[self.algorithm]()

    @property
    def key(self) -> str:
        der = self.private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return f"{self.algorithm}:{b64(der)}"

    def declared(self, valid_from: str = "2020-01-01T00:00:00Z", valid_until: str | None = None) -> DeclaredPasskey:
        return DeclaredPasskey(credential=self.credential, key=self.key, relying_party=self.relying_party, origin=self.origin,
                               valid_from=valid_from, valid_until=valid_until)

    @property
    def public(self) -> Passkey:
        return self.declared().public

    def sign(self, message: bytes, *, flags: int = 0x05, extra: bytes = b"", rp: str = "", **said: Any) -> Assertion:
        """An assertion over `message`; `said` replaces what the browser says (None leaves it out)."""
        if self.counter:
            self.counter += 1
        challenge = base64.urlsafe_b64encode(hashlib.sha256(message).digest()).rstrip(b"=").decode()
        browser = {"type": "webauthn.get", "challenge": challenge, "origin": self.origin, "crossOrigin": False, **said}
        client = json.dumps({name: value for name, value in browser.items() if value is not None}).encode()
        data = hashlib.sha256((rp or self.relying_party).encode()).digest() + bytes([flags]) + self.counter.to_bytes(4) + extra
        return self.resigned(Assertion(self.credential, data, client, b""))

    def resigned(self, one: Assertion) -> Assertion:
        """The same two parts, signed."""
        signed = one.authenticator_data + hashlib.sha256(one.client_data).digest()
        if self.algorithm == "ES256":
            signature = self.private.sign(signed, ec.ECDSA(hashes.SHA256()))
        elif self.algorithm == "EdDSA":
            signature = self.private.sign(signed)
        else:
            signature = self.private.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return Assertion(self.credential, one.authenticator_data, one.client_data, signature)
