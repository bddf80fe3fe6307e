"""A statement is worth what its signatures are worth: here is everything needed to make them and to check whose they
are.

Machines sign with Ed25519 keys (`keys`), people with their SSH keys (`sshsig`); both sign the same bytes of the same
envelope (`dsse`). This module only gathers the three, so that a caller has one place to look.
"""

from __future__ import annotations

from compliance_assets.trust.dsse import PAYLOAD_TYPE, Envelope, Signature, pae, sign_envelope, verify_envelope
from compliance_assets.trust.keys import PublicKey, SigningKey
from compliance_assets.trust.sshsig import (
    APPROVAL_NAMESPACE,
    generate_ssh_key,
    person_signature,
    ssh_sign,
    ssh_verify,
    verify_person,
)

__all__ = [
    "APPROVAL_NAMESPACE",
    "PAYLOAD_TYPE",
    "Envelope",
    "PublicKey",
    "Signature",
    "SigningKey",
    "generate_ssh_key",
    "pae",
    "person_signature",
    "sign_envelope",
    "ssh_sign",
    "ssh_verify",
    "verify_envelope",
    "verify_person",
]
