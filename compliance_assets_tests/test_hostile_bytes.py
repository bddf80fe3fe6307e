"""Whatever somebody else wrote is read or refused; no other error escapes.

Each reader is given noise, and a healthy input with pieces cut, doubled, exchanged or replaced. COMPLIANCE_FUZZ_EXAMPLES says how many
inputs each reader gets (default 12).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence.records import Statement
from compliance_assets.policy.contract import read_contract
from compliance_assets.policy.organisation import load_organisation
from compliance_assets.policy.reading import read_declared
from compliance_assets.policy.system import System
from compliance_assets.serving.interface import Problem, parse_json
from compliance_assets.trust.allowed_signers import read_allowed_signers
from compliance_assets.trust.canonical import canonical_json, parse_canonical
from compliance_assets.trust.keys import SigningKey
from compliance_assets.trust.merkle import open_note, sign_note
from compliance_assets.trust.signatures import Envelope, Signature
from compliance_assets.trust.sshsig import generate_ssh_key, ssh_sign, ssh_verify
from compliance_assets.trust.sshwire import read_key_or_certificate
from compliance_assets_tests import small_lender

EXAMPLES = int(os.environ.get("COMPLIANCE_FUZZ_EXAMPLES", "12"))
AT = datetime(2026, 6, 1, tzinfo=UTC)
SNIPPETS = (b"", b"\x00", b"\xff", b"\xed\xa0\x80", b"\n\n", b"null", b"[]", b"{}", b"1e999", b"-0", b"99999999999999999999", b'"', b"\\ud800",
            b"*a", b"&a ", b"!!python/object:os.system", b"\x80\x80\x80\x80", b"[" * 3000, b"9" * 5000, b"<<: ", "—".encode(), b"\t")


@cache
def _person() -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        public = generate_ssh_key(Path(folder) / "key", "somebody")
        return f"somebody {public}\n", ssh_sign(b"said", Path(folder) / "key", "space")


@cache
def _note() -> tuple[str, SigningKey]:
    key = SigningKey.generate()
    return sign_note("example/ledger\n3\nAAAA\n", "example", key), key


def _file(content: bytes, name: str, read: Callable[[Path], object]) -> object:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        return read(path)


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="surrogateescape")


def _verify(content: bytes) -> None:
    ssh_verify(b"said", _text(content), _person()[0], "somebody", "space", AT)


def _model(content: bytes) -> None:
    from compliance_assets import modelfile

    modelfile.load(content, modelfile.trusted_types(content))


@cache
def _stored_model() -> bytes:
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from compliance_assets import modelfile

    draw = np.random.Generator(np.random.Philox(1))
    rows = draw.random((40, 2))
    return modelfile.store(LogisticRegression().fit(rows, rows[:, 0] > 0.5))


@cache
def _envelope() -> bytes:
    payload = canonical_json({"_type": "https://in-toto.io/Statement/v1", "predicate": {}, "predicateType": "x", "subject": []})
    return Envelope(payload, "application/vnd.in-toto+json", (Signature("k", "ed25519", b"s" * 64),)).to_bytes()


READERS: dict[str, tuple[Callable[[bytes], object], Callable[[], bytes]]] = {
    "DSSE envelope": (Envelope.from_bytes, _envelope),
    "statement": (Statement.read, lambda: Envelope.from_bytes(_envelope()).payload),
    "canonical JSON": (parse_canonical, lambda: canonical_json({"a": [1, "é", None], "b": {"c": True}})),
    "SSH signature": (_verify, lambda: _person()[1].encode()),
    "allowed_signers": (lambda content: read_allowed_signers(_text(content)), lambda: _person()[0].encode()),
    "SSH key or certificate": (read_key_or_certificate, lambda: b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20" + b"k" * 32),
    "signed note": (lambda content: open_note(_text(content), "example", _note()[1].public), lambda: _note()[0].encode()),
    "system.yaml": (lambda content: _file(content, "system.yaml", lambda path: read_declared(path, System)),
                    lambda: small_lender.SYSTEM.encode()),
    "organisation.yaml": (lambda content: _file(content, "organisation.yaml", load_organisation),
                          lambda: b"name: Example\npeople:\n  a: {name: A, roles: [x]}\n"),
    "contract": (lambda content: _file(content, "expectations.json", read_contract),
                 lambda: json.dumps(small_lender.expectations()).encode()),
    "inference request": (parse_json, lambda: b'{"rows": [{"age": 30, "monthly_income": 2000.0, "employment": "none"}]}'),
    "model file": (_model, _stored_model),
}


def spoiled(healthy: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """The input with pieces replaced: at a place, so many bytes, by these."""
    for place, length, new in edits:
        start = place % (len(healthy) + 1)
        healthy = healthy[:start] + new + healthy[start + length:]
    return healthy


EDITS = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 24), st.sampled_from(SNIPPETS) | st.binary(max_size=4)), max_size=3)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(noise=st.binary(max_size=200), edits=EDITS, whole=st.booleans())
def test_what_others_wrote_is_read_or_refused(name: str, noise: bytes, edits: list[tuple[int, int, bytes]], whole: bool) -> None:
    read, healthy = READERS[name]
    with suppress(ComplianceError, Problem):
        read(noise if whole else spoiled(healthy(), edits))
