"""A witness cosigns what grew from what it saw, and nothing else, whoever asks and however often it is restarted."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from compliance_assets.errors import HomeUnusable, UntrustedEvidence
from compliance_assets.evidence.ledger import Ledger, NewEntry
from compliance_assets.evidence.witness import Witness, request
from compliance_assets.trust.cosignature import cosign, cosigned_at
from compliance_assets.trust.keys import SigningKey
from compliance_assets_tests.evidence.ledger_places import KEY, ORIGIN, filled, new, subjects_of

NAME = "witness.example/1"
NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with filled(tmp_path / "ledger.db") as made:
        yield made


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness.at(tmp_path / "witness", NAME, {ORIGIN: KEY.public})


def asked(witness: Witness, ledger: Ledger, old: int) -> tuple[int, str]:
    size = ledger.size
    answer = witness.add_checkpoint(request(old, ledger.consistency_proof(old, size) if 0 < old < size else (), ledger.note))
    return answer.status, answer.text


def other_history(tmp_path: Path, size: int) -> Ledger:
    """The same log, signed with the same key, whose fourth entry is another one."""
    made = Ledger.create(tmp_path / f"other-{size}.db", ORIGIN, KEY)
    made.append([NewEntry("stage", f"run-{i}", "credit", b"other" if i == 3 else new(i).body, subjects_of(new(i).body)) for i in range(size)])
    return made


def test_a_first_head_and_every_head_that_grew_from_it_are_cosigned(witness: Witness, ledger: Ledger) -> None:
    status, line = asked(witness, ledger, 0)
    assert status == 200 and abs((cosigned_at(ledger.note + line, NAME, witness.key.public) - datetime.now(UTC)).total_seconds()) < 60
    ledger.append([new(i) for i in range(11, 30)])
    assert asked(witness, ledger, 11)[0] == 200
    assert asked(witness, ledger, 30)[0] == 200, "the same head again"


def test_a_split_view_is_refused(witness: Witness, ledger: Ledger, tmp_path: Path) -> None:
    assert asked(witness, ledger, 0)[0] == 200
    assert asked(witness, other_history(tmp_path, 11), 11) == (409, "11\n"), "another tree of the same size"
    status, why = asked(witness, other_history(tmp_path, 20), 11)
    assert status == 422 and "not the 11 that were signed before" in why


def test_a_shorter_tree_is_refused(witness: Witness, ledger: Ledger, tmp_path: Path) -> None:
    assert asked(witness, ledger, 0)[0] == 200
    with Ledger.create(tmp_path / "older.db", ORIGIN, KEY) as older:
        older.append([new(i) for i in range(8)])
        assert asked(witness, older, 0) == (409, "11\n") and asked(witness, older, 8) == (409, "11\n")
        assert witness.add_checkpoint(request(11, (), older.note)).status == 400


def test_it_remembers_when_it_is_started_again_and_refuses_to_start_without_its_memory(
        witness: Witness, ledger: Ledger, tmp_path: Path) -> None:
    assert asked(witness, ledger, 0)[0] == 200
    again = Witness.at(tmp_path / "witness", NAME, {ORIGIN: KEY.public})
    assert asked(again, other_history(tmp_path, 11), 0) == (409, "11\n")
    (tmp_path / "witness" / "heads.json").unlink()
    with pytest.raises(HomeUnusable, match="lost its memory"):
        Witness.at(tmp_path / "witness", NAME, {ORIGIN: KEY.public})


def test_an_unknown_log_and_a_head_that_its_log_did_not_sign_are_refused(witness: Witness, ledger: Ledger, tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "stranger.db", ORIGIN, SigningKey.generate()) as stranger:
        assert asked(witness, stranger, 0)[0] == 403
    with Ledger.create(tmp_path / "elsewhere.db", "elsewhere/ledger", KEY) as elsewhere:
        assert asked(witness, elsewhere, 0)[0] == 404


@pytest.mark.parametrize("body", [b"", b"old 0", b"old 00\n\nx", b"old -1\n\nx", b"new 0\n\nx", b"old 0\nnot base64\n\nx", b"\xff\xff", b"old \xd9\xa3\n\nx",
                                  b"old 0\n" + b"A" * 43 + b"=\n" * 70 + b"\nx"])
def test_a_malformed_request_is_refused(witness: Witness, body: bytes) -> None:
    assert witness.add_checkpoint(body).status == 400


def test_a_proof_where_there_is_nothing_to_prove_is_refused(witness: Witness, ledger: Ledger) -> None:
    assert witness.add_checkpoint(request(0, (b"x" * 32,), ledger.note)).status == 422


def test_a_cosignature_is_what_c2sp_says(ledger: Ledger) -> None:
    key = SigningKey.from_seed(b"w" * 32)
    line = cosign(ledger.note, NAME, key, NOW)
    found = re.fullmatch(r"— (\S+) (\S+)\n", line)
    assert found is not None and found[1] == NAME
    raw = base64.b64decode(found[2])
    assert raw[:4] == hashlib.sha256(NAME.encode() + b"\n\x04" + key.public.raw).digest()[:4] and len(raw) == 4 + 8 + 64
    assert int.from_bytes(raw[4:12], "big") == int(NOW.timestamp())
    text = ledger.note.partition("\n\n")[0] + "\n"
    assert key.public.signed(f"cosignature/v1\ntime {int(NOW.timestamp())}\n{text}".encode(), raw[12:])


@pytest.mark.parametrize("spoil", [
    lambda note, line: note, lambda note, line: note + line + line, lambda note, line: note + line.replace("witness", "other"),
    lambda note, line: note.replace("\n11\n", "\n12\n") + line, lambda note, line: note + f"— {NAME} AAAA\n",
    lambda note, line: note + line[:-8] + "AAAA" + line[-4:],
], ids=["none", "twice", "another name", "another head", "too short", "changed"])
def test_a_cosignature_that_is_none_is_refused(ledger: Ledger, spoil: object) -> None:
    key = SigningKey.from_seed(b"w" * 32)
    line = cosign(ledger.note, NAME, key, NOW)
    assert cosigned_at(ledger.note + line, NAME, key.public) == NOW
    with pytest.raises(UntrustedEvidence):
        cosigned_at(spoil(ledger.note, line), NAME, key.public)  # type: ignore[operator]
