"""A signed-in browser holds a signed, expiring note of who it is; guessing is counted and stopped.

The note (cookie) is `payload.signature`: base64url JSON and its HMAC-SHA256 (RFC 2104) under a key that lives as long as
the guard's process, so that a restart signs everybody out. The role is not in the note: it is looked up at each request, so
that a user who was removed, or whose token was renewed, is signed out at once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from compliance_assets.web.ui_users import User

SESSION_SECONDS = 8 * 3600


@dataclass(frozen=True)
class Session:
    """Who is signed in until when (seconds since the epoch); `id` names this sign-in, for signing out."""

    user: User
    expires: int
    id: str


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Sessions:
    """Makes and reads the signed notes of one guard."""

    def __init__(self, users: Iterable[User], *, seconds: int = SESSION_SECONDS, clock: Callable[[], float] = time.time) -> None:
        self._users = {user.name: user for user in users}
        self._key = secrets.token_bytes(32)
        self._seconds = seconds
        self._clock = clock
        self._ended: dict[str, int] = {}

    @property
    def users(self) -> tuple[User, ...]:
        return tuple(self._users.values())

    @property
    def seconds(self) -> int:
        return self._seconds

    def _sign(self, payload: str) -> str:
        return _encode(hmac.new(self._key, payload.encode(), hashlib.sha256).digest())

    def start(self, user: User) -> str:
        """A note for `user`, valid for `seconds`."""
        body = {"user": user.name, "token": user.token_sha256, "expires": int(self._clock()) + self._seconds,
                "id": secrets.token_hex(16)}
        payload = _encode(json.dumps(body).encode())
        return f"{payload}.{self._sign(payload)}"

    def read(self, note: str) -> Session | None:
        """Who the note is about; None if it is forged, expired, ended, or its user is no longer who they were."""
        payload, _, signature = note.partition(".")
        if not note.isascii() or not hmac.compare_digest(signature, self._sign(payload)):
            return None
        try:
            body = json.loads(_decode(payload))
        except (ValueError, binascii.Error):
            return None
        user = self._users.get(body["user"])
        session_id, expires = str(body["id"]), int(body["expires"])
        if user is None or user.token_sha256 != body["token"] or expires <= self._clock() or session_id in self._ended:
            return None
        return Session(user, expires, session_id)

    def end(self, session: Session) -> None:
        """Sign out: the note is refused from now on."""
        now = self._clock()
        self._ended = {name: expires for name, expires in self._ended.items() if expires > now}
        self._ended[session.id] = session.expires


class Attempts:
    """Counts failed sign-ins: after `limit` within `seconds`, nobody may try until the oldest is that long ago."""

    def __init__(self, limit: int = 5, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._failures: deque[float] = deque(maxlen=limit)

    def wait_seconds(self) -> float:
        """How long to wait before the next try; 0 if it may be made now."""
        if len(self._failures) < self._limit:
            return 0.0
        return max(0.0, self._failures[0] + self._seconds - self._clock())

    def failed(self) -> None:
        self._failures.append(self._clock())
