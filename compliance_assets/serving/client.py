"""A small HTTP client for our own servers: standard library only, one connection kept open, every answer bounded in time."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from compliance_assets.errors import ServingError


class Unanswered(ServingError):  # a refusal, named like all of errors.py
    """Nobody answered: no connection, a connection cut off, or no answer in time."""


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. `ServingError` if it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ServingError(f"A server answered {self.status} with something that is not JSON.", rule="JSON answers",
                               value=self.body[:80].decode(errors="replace"), remedy="Look into the server's log.") from error


class Client:
    """Calls to one address. Threads each have their own connection."""

    def __init__(self, address: str, *, seconds: float = 20.0) -> None:
        parts = urlsplit(address)
        if parts.scheme != "http" or parts.hostname is None or parts.port is None:
            raise ServingError(f"{address} is not the address of a server of ours.", rule="address", value=address,
                               remedy="Give it as http://127.0.0.1:PORT.")
        self.address = address
        self._host, self._port, self._seconds = parts.hostname, parts.port, seconds
        self._local = threading.local()

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        return self.call("POST", path, body, headers)

    def post_json(self, path: str, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
        return self.post(path, json.dumps(value).encode(), {"content-type": "application/json", **(headers or {})})

    def call(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request. A connection that the server has closed in the meantime is opened again, once."""
        for fresh in (False, True):
            connection = self._connection(fresh)
            try:
                connection.request(method, path, body, dict(headers or {}))
                response = connection.getresponse()
                content = response.read()
                return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
                connection.close()
                if fresh:
                    raise self._unanswered(error) from error
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                raise self._unanswered(error) from error
        raise AssertionError("unreachable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close this thread's connection; it is opened again when it is needed."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()

    def _connection(self, fresh: bool) -> http.client.HTTPConnection:
        known: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if known is None or fresh:
            known = self._local.connection = http.client.HTTPConnection(self._host, self._port, timeout=self._seconds)
        return known

    def _unanswered(self, error: Exception) -> Unanswered:
        return Unanswered(f"{self.address} does not answer ({type(error).__name__}).", rule="a server answers", value=self.address,
                          remedy="Is it running? `compliance serve ENV` keeps an environment's servers up.")
