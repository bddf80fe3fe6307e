"""Sessions end when they should, guesses are counted, and tokens are kept as hashes in a private file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compliance_assets.errors import HomeUnusable, Misused
from compliance_assets.web.sessions import Attempts, Sessions
from compliance_assets.web.ui_users import Role, User, issue_tokens, new_token, read_users, token_hash, user_of


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def _ada() -> User:
    return User("ada", Role.OPERATOR, token_hash("secret"))


def test_a_session_ends_at_its_time() -> None:
    clock = Clock()
    sessions = Sessions([_ada()], seconds=60, clock=clock)
    note = sessions.start(_ada())
    assert sessions.read(note) is not None
    clock.now += 60
    assert sessions.read(note) is None


def test_a_note_of_another_guard_is_refused() -> None:
    assert Sessions([_ada()]).read(Sessions([_ada()]).start(_ada())) is None


def test_a_removed_user_and_a_renewed_token_end_the_session() -> None:
    sessions = Sessions([_ada()])
    stranger = User("eve", Role.OPERATOR, token_hash("x"))
    assert sessions.read(sessions.start(stranger)) is None
    assert sessions.read(sessions.start(User("ada", Role.OPERATOR, token_hash("older")))) is None


def test_the_role_is_that_of_today() -> None:
    sessions = Sessions([User("ada", Role.READER, token_hash("secret"))])
    session = sessions.read(sessions.start(_ada()))
    assert session is not None and session.user.role is Role.READER


def test_guesses_are_allowed_again_after_a_while() -> None:
    clock = Clock()
    attempts = Attempts(limit=2, seconds=60, clock=clock)
    attempts.failed()
    assert attempts.wait_seconds() == 0
    clock.now += 10
    attempts.failed()
    assert attempts.wait_seconds() == 50
    clock.now += 50
    assert attempts.wait_seconds() == 0


def test_tokens_are_shown_once_and_kept_as_hashes_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "ui-tokens.json"
    tokens = issue_tokens(path, [("operator", Role.OPERATOR), ("auditor", Role.READER)])
    assert path.stat().st_mode & 0o777 == 0o600
    assert not any(token in path.read_text() for token in tokens.values())
    users = read_users(path)
    found = user_of(tokens["auditor"], users)
    assert found is not None and found.name == "auditor" and found.role is Role.READER
    assert user_of(new_token(), users) is None and user_of("", users) is None


def test_a_new_token_replaces_the_old_one_and_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "ui-tokens.json"
    first = issue_tokens(path, [("operator", Role.OPERATOR), ("auditor", Role.READER)])
    second = issue_tokens(path, [("operator", Role.OPERATOR)])
    users = read_users(path)
    assert user_of(first["operator"], users) is None
    assert user_of(second["operator"], users) is not None and user_of(first["auditor"], users) is not None


@pytest.mark.parametrize("body", ['{"users": [{"name": "a", "role": "king", "token_sha256": "' + "0" * 64 + '"}]}', "[]", "", '{"users": [{}]}', '{"users": 3}',
                                  json.dumps({"users": [], "extra": 1}),
                                  json.dumps({"users": [{"name": "a", "role": "reader", "token_sha256": "0" * 64}] * 2})])
def test_a_list_of_users_that_cannot_be_read_is_refused(tmp_path: Path, body: str) -> None:
    path = tmp_path / "ui-tokens.json"
    path.write_text(body)
    path.chmod(0o600)
    with pytest.raises(HomeUnusable):
        read_users(path)


def test_a_list_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ui-tokens.json"
    issue_tokens(path, [("operator", Role.OPERATOR)])
    path.chmod(0o644)
    with pytest.raises(HomeUnusable, match="read by others"):
        read_users(path)


@pytest.mark.parametrize("name", ["", "a\r\nX-Forwarded-User: b", "ada lovelace", "ä", "-a", "a" * 65])
def test_a_name_that_could_break_a_header_is_refused(name: str) -> None:
    with pytest.raises(Misused):
        User(name, Role.READER, "0" * 64)
