"""A machine that vouches for something holds an Ed25519 key in a file that only its owner may read.

Machine keys sign stage records, verdicts, deployments and checkpoints. People do not use them: a person signs with an
SSH key (`sshsig`). A key's id is the sha256 of the raw 32-byte public key (RFC 8032), so nobody chooses it.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from compliance_assets.errors import HomeUnusable, UntrustedEvidence
from compliance_assets.trust.canonical import Digest, sha256_bytes

_PREFIX = "ed25519:"


def strict_base64(text: str, what: str) -> bytes:
    """The bytes that standard, padded base64 spells; refuses every second spelling of the same bytes."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if base64.b64encode(decoded).decode() != text:
        raise UntrustedEvidence(f"{what} is not standard base64.", rule="base64", value=f"{text!r:.60}",
                                remedy="Take it unchanged from where it was first written.")
    return decoded


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key: 32 raw bytes."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise UntrustedEvidence("An Ed25519 public key has 32 bytes.", rule="public key",
                                    value=f"{len(self.raw)} bytes", remedy="Take the key from the policy.")

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """The key that one line `ed25519:<base64>` spells."""
        if not text.startswith(_PREFIX):
            raise UntrustedEvidence("This is not a machine's public key.", rule="public key", value=f"{text!r:.60}",
                                    remedy="It should read ed25519: followed by 44 letters of base64.")
        return cls(strict_base64(text.removeprefix(_PREFIX), "The public key"))

    @property
    def text(self) -> str:
        """One line, as a policy or declaration holds it."""
        return _PREFIX + base64.b64encode(self.raw).decode()

    def __str__(self) -> str:
        return self.text

    @cached_property
    def keyid(self) -> Digest:
        """sha256 of the raw key."""
        return sha256_bytes(self.raw)

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's Ed25519 signature over `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """An Ed25519 private key. It shows nothing when printed, and cannot be pickled into another process."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = PublicKey(private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """The key of a 32-byte seed (RFC 8032's secret key)."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """The key in a PEM (PKCS #8) or raw 32-byte file. Refuses a file that others may read."""
        content = read_private_file(path)
        if len(content) == 32:
            return cls.from_seed(content)
        try:
            private = serialization.load_pem_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise UntrustedEvidence(f"{path} holds no signing key that can be read.", rule="signing key",
                                    value=str(path), remedy="Give an unencrypted Ed25519 key in PEM.") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise UntrustedEvidence(f"{path} holds a key of another kind than Ed25519.", rule="signing key",
                                    value=type(private).__name__, remedy="Give an Ed25519 key.")
        return cls(private)

    def save(self, path: Path) -> None:
        """Write the key as PEM, mode 0600. Never overwrites."""
        pem = self._private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                          serialization.NoEncryption())
        write_private_file(path, pem)

    @property
    def keyid(self) -> Digest:
        """The public key's id."""
        return self.public.keyid

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature over `message`; the same every time."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"<SigningKey {self.keyid.short}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key stays in the process that loaded it; load it from its file again")


def read_private_file(path: Path) -> bytes:
    """The bytes of a private key's file. Refuses one that group or others may read or write."""
    try:
        with open(path, "rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            content = stream.read(1 << 16)
    except OSError as error:
        raise HomeUnusable(f"The key {path} cannot be read: {error.strerror}.", rule="private key file",
                           value=str(path), remedy="Check that it exists and belongs to you.") from error
    if mode & 0o077:
        raise UntrustedEvidence(f"The key {path} may be read by others (mode {mode:04o}).", rule="private key file",
                                value=f"{mode:04o}", remedy=f"Run chmod 600 {path}, or better make a new key.")
    return content


def write_private_file(path: Path, content: bytes) -> None:
    """Write `content` to a new file with mode 0600, on disk before returning. Refuses to overwrite."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise HomeUnusable(f"The key {path} cannot be written: {error.strerror}.", rule="private key file",
                           value=str(path), remedy="Choose a new file in a folder that you may write.") from error
