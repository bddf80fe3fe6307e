"""Who may open Dagster's pages, and as what: named users with a role each, known by the hash of a random token.

A token is 256 random bits, shown once and never stored; the file `ui-tokens.json` (mode 0600) keeps its sha256, which is
enough for a secret that cannot be guessed (a slow password hash protects secrets that people choose).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from compliance_assets.errors import HomeUnusable, Misused

TOKENS_FILE = "ui-tokens.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Role(StrEnum):
    """What a user may do: look and launch (in Dagster's pages), look and sign decisions (a person with a passkey), or look only."""

    OPERATOR = "operator"
    APPROVER = "approver"
    READER = "reader"


@dataclass(frozen=True)
class User:
    """One named user of the pages. `token_sha256` is the hash of their token, in 64 hexadecimal digits."""

    name: str
    role: Role
    token_sha256: str

    def __post_init__(self) -> None:
        # The name travels in a header and a run tag: nothing that could end a header line or pass for another field.
        if _NAME.fullmatch(self.name) is None:
            raise Misused(f"{self.name!r:.80} cannot be a user of the pages.", rule="user name", value=f"{self.name!r:.80}",
                          remedy="Use letters, digits and . _ @ - only, at most 64.")
        if _SHA256.fullmatch(self.token_sha256) is None:
            raise Misused(f"The token hash of {self.name} is not a sha256.", rule="token hash", value=self.name,
                          remedy="Let `compliance up` make a new token.")


def new_token() -> str:
    """A fresh secret of 256 random bits, as URL-safe text of 43 characters."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """The sha256 of a token, as kept in the file."""
    return hashlib.sha256(token.encode()).hexdigest()


def user_of(token: str, users: Iterable[User]) -> User | None:
    """The user whose token this is, or None. Compares in constant time, and against every user."""
    presented, found = token_hash(token), None
    for user in users:
        if hmac.compare_digest(presented, user.token_sha256):
            found = user
    return found


def read_users(path: Path) -> tuple[User, ...]:
    """The users in `path`. Refuses a file that others may read, duplicate names and unknown keys (`HomeUnusable`)."""
    try:
        mode = path.stat().st_mode & 0o777
        body = json.loads(path.read_text(encoding="utf-8"))
        users = tuple(User(str(item["name"]), Role(item["role"]), str(item["token_sha256"])) for item in body["users"])
        exact = body.keys() == {"users"} and all(item.keys() == {"name", "role", "token_sha256"} for item in body["users"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HomeUnusable(f"{path} does not list the users of the pages ({type(error).__name__}).", rule="page users",
                           value=str(path), remedy="Remove it and let `compliance up` make a new one.") from error
    if mode & 0o077:
        raise HomeUnusable(f"{path} can be read by others (mode {mode:o}).", rule="page users", value=f"{mode:o}",
                           remedy=f"chmod 600 {path}, and let `compliance up` make new tokens.")
    if not exact or len({user.name for user in users}) != len(users):
        raise HomeUnusable(f"{path} has unknown keys or a name twice.", rule="page users", value=str(path),
                           remedy="Remove it and let `compliance up` make a new one.")
    return users


def write_users(path: Path, users: Iterable[User]) -> None:
    """Replace the list of users in one step; the file is 0600 from its first byte."""
    body = {"users": [{"name": user.name, "role": user.role.value, "token_sha256": user.token_sha256} for user in users]}
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(body, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)


def issue_tokens(path: Path, wanted: Iterable[tuple[str, Role]]) -> dict[str, str]:
    """Give each wanted user a new token and forget the old one; users not named keep theirs. Returns name -> token, once."""
    known = {user.name: user for user in read_users(path)} if path.exists() else {}
    tokens: dict[str, str] = {}
    for name, role in wanted:
        tokens[name] = new_token()
        fresh = User(name, role, token_hash(tokens[name]))
        known[name] = replace(known[name], role=role, token_sha256=fresh.token_sha256) if name in known else fresh
    write_users(path, known.values())
    return tokens
