"""A person signs with an SSH key that they already have; this module makes and checks such signatures.

The format is OpenSSH's PROTOCOL.sshsig, what `ssh-keygen -Y sign` writes and git uses for commits. The verifier is our
own, because it must ask for more than `ssh-keygen -Y verify` does: a FIDO key must have been touched, RSA must have
2048 bits, nothing may be left unread, and the moment at which the key had to be valid is given, not "now".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from compliance_assets.errors import HomeUnusable, Misused, UntrustedEvidence
from compliance_assets.trust.allowed_signers import read_allowed_signers
from compliance_assets.trust.dsse import Envelope, Signature, check_form
from compliance_assets.trust.keys import read_private_file, write_private_file
from compliance_assets.trust.sshwire import Reader, check_signature, read_key_or_certificate, refusal, string

APPROVAL_NAMESPACE = "compliance-assets-approval"
"""What a person's signature is for. A signature made for git or mail is never an approval."""

_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_MAGIC = b"SSHSIG"
_LARGEST_ARMOR = 1 << 16
_DIGESTS = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}


def _signed_bytes(message: bytes, namespace: bytes, digest_name: str) -> bytes:
    """What the key signs: the magic, the purpose, and the message's hash."""
    digest = _DIGESTS[digest_name](message).digest()
    return _MAGIC + string(namespace) + string(b"") + string(digest_name.encode()) + string(digest)


def _armored(blob: bytes) -> str:
    text = base64.b64encode(blob).decode()
    return "\n".join((_BEGIN, *re.findall(".{1,70}", text), _END, ""))


def _dearmored(armored: str) -> bytes:
    if len(armored) > _LARGEST_ARMOR:
        raise refusal("it is too long")
    start, separator, tail = armored.partition("\n")
    body, marker, after = tail.partition("\n" + _END)
    if start.rstrip("\r") != _BEGIN or not separator or not marker or after.strip():
        raise refusal("it is not armored as an SSH signature")
    text = "".join(body.split())
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise refusal("it is not base64") from None
    if base64.b64encode(blob).decode() != text:
        raise refusal("it is not the usual base64 of its bytes")
    return blob


def ssh_verify(message: bytes, armored: str, allowed_signers_text: str, principal: str, namespace: str, at: datetime,
               *, require_user_verification: bool = False) -> None:
    """Refuse with `UntrustedEvidence`, unless `principal` signed `message` for `namespace` with a key valid `at` then.

    (1) The armor is one signature and nothing else. (2) The blob is version 1, and no byte is left over. (3) The
    namespace is the one asked for. (4) The reserved field is empty. (5) The hash is sha256 or sha512. (6) The key is of
    an accepted kind; a certificate is a user's, understood, and signed by its authority. (7) A line of allowed_signers
    gives this key (or this authority) to this principal, for this namespace, at this moment. (8) A certificate names
    the principal and was valid at this moment. (9) The signature fits; RSA with SHA-2 only; a security key was touched.
    """
    if at.utcoffset() is None:
        raise refusal("the moment of judgement has no time zone")
    if not principal or not namespace:
        raise refusal("nobody, or nothing, was asked for")
    # (1)
    reader = Reader(_dearmored(armored))
    # (2)
    if reader.take(len(_MAGIC)) != _MAGIC or reader.number() != 1:
        raise refusal("it is not an SSHSIG of version 1")
    key_blob, signed_namespace, reserved = reader.string(), reader.string(), reader.string()
    digest_name, signature = reader.text(), reader.string()
    reader.end()
    # (3)
    if signed_namespace != namespace.encode():
        raise refusal(f"it was made for {signed_namespace!r:.60}, not for {namespace}", "namespace")
    # (4)
    if reserved:
        raise refusal("its reserved field is not empty")
    # (5)
    if digest_name not in _DIGESTS:
        raise refusal("its hash is neither sha256 nor sha512")
    # (6)
    key, certificate = read_key_or_certificate(key_blob)
    # (7)
    claimed = certificate.authority if certificate is not None else key
    lines = [line for line in read_allowed_signers(allowed_signers_text)
             if line.key.blob == claimed.blob and line.is_authority == (certificate is not None)]
    if not any(line.speaks_for(principal, namespace, at) for line in lines):
        raise refusal(f"allowed_signers does not give this key to {principal} for {namespace} at {at:%Y-%m-%d %H:%M}Z",
                      "allowed signer", principal)
    # (8)
    if certificate is not None:
        if principal not in certificate.principals:
            raise refusal(f"the certificate is not for {principal}", "certificate", principal)
        if not certificate.valid_after <= at.timestamp() < certificate.valid_before:
            raise refusal("the certificate was not valid at that moment", "certificate", principal)
        require_user_verification = require_user_verification or certificate.verify_required
    # (9)
    check_signature(key, _signed_bytes(message, signed_namespace, digest_name), signature,
                    user_verification=require_user_verification)


def person_signature(person_id: str, armored: str) -> Signature:
    """A person's SSHSIG as an envelope carries it."""
    return Signature(person_id, "sshsig", armored.encode())


def verify_person(envelope: Envelope, person_id: str, allowed_signers_text: str, at: datetime,
                  namespace: str = APPROVAL_NAMESPACE, *, require_user_verification: bool = False) -> None:
    """Refuse, unless `person_id` signed this statement for `namespace` with a key that was theirs `at` that moment.

    (1)–(3) as in `verify_envelope`. (4) The person's signature is there, and is an SSHSIG. (5) `ssh_verify`.
    """
    check_form(envelope)
    # (4)
    theirs = [s for s in envelope.signatures if s.keyid == person_id and s.scheme == "sshsig"]
    if len(theirs) != 1:
        raise UntrustedEvidence(f"{person_id} did not sign this statement.", rule="person's signature",
                                value=person_id, remedy="Have them sign it.")
    # (5)
    try:
        armored = theirs[0].sig.decode("ascii")
    except UnicodeDecodeError:
        raise UntrustedEvidence(f"The signature by {person_id} is not armored text.", rule="sshsig", value=person_id,
                                remedy="Have them sign it again.") from None
    ssh_verify(envelope.signed_bytes, armored, allowed_signers_text, person_id, namespace, at,
               require_user_verification=require_user_verification)


def ssh_sign(message: bytes, private_key_path: Path, namespace: str) -> str:
    """The armored SSHSIG over `message` for `namespace`, as text.

    An unencrypted Ed25519, ECDSA or RSA key signs here. For an encrypted key, a security key (`sk-`) or a public key
    whose private half an agent holds, `ssh-keygen -Y sign` does it, which asks for the passphrase or the touch.
    """
    try:
        private = serialization.load_ssh_private_key(read_private_file(private_key_path), password=None)
    except (UntrustedEvidence, ValueError, TypeError, UnsupportedAlgorithm):
        # Encrypted, hardware-backed, or a public half: ssh-keygen knows, and refuses a file that others may read.
        return _sign_by_process(message, private_key_path, namespace)
    kind, public = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).split(b" ")[:2]
    signed = _signed_bytes(message, namespace.encode(), "sha512")
    algorithm = kind
    if isinstance(private, ed25519.Ed25519PrivateKey):
        sig = private.sign(signed)
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        digest = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[private.key_size]
        sig = b"".join(string(_mpint(n)) for n in decode_dss_signature(private.sign(signed, ec.ECDSA(digest))))
    elif isinstance(private, rsa.RSAPrivateKey):
        algorithm, sig = b"rsa-sha2-512", private.sign(signed, padding.PKCS1v15(), hashes.SHA512())
    else:
        return _sign_by_process(message, private_key_path, namespace)
    return _armored(_MAGIC + (1).to_bytes(4) + string(base64.b64decode(public)) + string(namespace.encode())
                    + string(b"") + string(b"sha512") + string(string(algorithm) + string(sig)))


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1)


def _sign_by_process(message: bytes, key: Path, namespace: str) -> str:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise Misused("This key needs ssh-keygen, which is not installed.", rule="ssh-keygen", value=str(key),
                      remedy="Install OpenSSH, or sign with an unencrypted key.")
    done = subprocess.run([program, "-Y", "sign", "-q", "-f", str(key), "-n", namespace], input=message,
                          capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise Misused(f"ssh-keygen did not sign: {said or 'no reason given'}.", rule="ssh-keygen", value=str(key),
                      remedy="Check the key, its passphrase, its permissions (chmod 600) and the security key.")
    return done.stdout.decode("ascii")


def generate_ssh_key(path: Path, comment: str) -> str:
    """Make a person's Ed25519 key: `path` (OpenSSH format, 0600) and `path`.pub, not overwriting. Returns the line."""
    if "\n" in comment:
        raise Misused("A key's comment is one line.", rule="ssh key comment", value=f"{comment!r:.60}",
                      remedy="Leave out the line break.")
    private = ed25519.Ed25519PrivateKey.generate()
    write_private_file(path, private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH,
                                                   serialization.NoEncryption()))
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    line = f"{public.decode()} {comment}".strip()
    try:
        with os.fdopen(os.open(f"{path}.pub", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as stream:
            stream.write(line + "\n")
    except OSError as error:
        raise HomeUnusable(f"{path}.pub cannot be written: {error.strerror}.", rule="public key file", value=str(path),
                           remedy="Remove the old .pub file or choose another name.") from error
    return line
