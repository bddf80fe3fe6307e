"""Carries a permitted request to Dagster's webserver and its answer back, streaming; headers pass by name only.

The webserver behind should listen on a Unix socket (`unix:/path`), which no page of any browser can reach; a loopback
address works too, but whoever guesses its port stands behind the guard. What goes up: the few headers in `_UP`, and who
asks (`X-Forwarded-User`, set here and never taken from outside). What comes down: everything but cookies and hop-by-hop
headers (RFC 9110, 7.6.1), plus `frame-ancestors 'none'` beside Dagster's own content security policy.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
from starlette.responses import StreamingResponse

from compliance_assets.errors import Misused
from compliance_assets.web.request_rules import Refused

if TYPE_CHECKING:
    from websockets.asyncio.client import connect

USER_HEADER = "X-Forwarded-User"
_UP = ("accept", "accept-encoding", "accept-language", "if-modified-since", "if-none-match", "range", "user-agent")
_HOP = frozenset({"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
                  "transfer-encoding", "upgrade", "server", "date"})
_NOT_DOWN = _HOP | {"set-cookie", "access-control-allow-origin", "access-control-allow-credentials"}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

EVERY_ANSWER = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Upstream:
    """Dagster's webserver, at `http://127.0.0.1:PORT` or `unix:/path/to/socket`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket: Path | None = None
        if address.startswith("unix:/"):
            self._socket = Path(address.removeprefix("unix:"))
            self._base, self._authority = "http://dagster", "dagster"
        else:
            parts = urlsplit(address)
            if parts.scheme != "http" or parts.hostname not in _LOOPBACK or parts.port is None or parts.path.strip("/"):
                raise Misused(f"The guard cannot stand before {address}.", rule="Dagster listens on loopback or a socket",
                              value=address, remedy="Give http://127.0.0.1:PORT or unix:/path/to/socket.")
            self._base, self._authority = f"http://{parts.netloc}", parts.netloc
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket)) if self._socket else None
        # trust_env=False: a proxy set in the environment has no business between the guard and loopback.
        # No cookie jar: what Dagster sets for one user must not be sent with another's request.
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self._client = httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, cookies=no_cookies,
                                         timeout=httpx.Timeout(300.0, connect=5.0), limits=httpx.Limits(max_connections=64))

    async def close(self) -> None:
        await self._client.aclose()

    async def _send(self, request: httpx.Request) -> StreamingResponse:
        try:
            answer = await self._client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise Refused(f"Dagster's webserver does not answer ({type(error).__name__}).", status=502, rule="Dagster is up",
                          value=self.address, remedy="See its log; `compliance up` starts it.") from error

        async def body() -> AsyncIterator[bytes]:
            try:
                async for piece in answer.aiter_raw():  # raw: a compressed answer stays as it is
                    yield piece
            finally:
                await answer.aclose()

        streamed = StreamingResponse(body(), status_code=answer.status_code)
        del streamed.headers["content-type"]
        for name, value in answer.headers.multi_items():
            lowered = name.lower()
            if lowered == "location":
                value = value.removeprefix(self._base)
            if lowered not in _NOT_DOWN:
                streamed.headers.append(name, value)
        streamed.headers.append("Content-Security-Policy", "frame-ancestors 'none'")
        for name, value in EVERY_ANSWER.items():
            streamed.headers[name] = value
        return streamed

    def _headers(self, incoming: Mapping[str, str], user: str) -> dict[str, str]:
        return {**{name: incoming[name] for name in _UP if name in incoming}, USER_HEADER: user}

    async def read(self, method: str, path: str, query: bytes, incoming: Mapping[str, str], user: str) -> StreamingResponse:
        """Forward a GET or HEAD, path and query byte for byte."""
        url = httpx.URL(self._base).copy_with(raw_path=path.encode("ascii") + (b"?" + query if query else b""))
        return await self._send(self._client.build_request(method, url, headers=self._headers(incoming, user)))

    async def ask(self, body: Mapping[str, Any], incoming: Mapping[str, str], user: str) -> StreamingResponse:
        """Send a GraphQL request as the one JSON object that it was read as."""
        headers = {**self._headers(incoming, user), "content-type": "application/json"}
        return await self._send(self._client.build_request("POST", f"{self._base}/graphql", headers=headers,
                                                           content=json.dumps(body).encode()))

    def subscribe(self, user: str) -> connect:
        """A WebSocket to Dagster's subscriptions; use with `async with`. OSError or WebSocketException if it cannot be had."""
        from websockets.asyncio.client import connect, unix_connect
        from websockets.typing import Subprotocol

        options: dict[str, Any] = {"subprotocols": [Subprotocol("graphql-ws")], "additional_headers": {USER_HEADER: user},
                                   "max_size": 64 << 20, "open_timeout": 10}
        uri = f"ws://{self._authority}/graphql"
        if self._socket is not None:
            return unix_connect(str(self._socket), uri, **options)
        return connect(uri, proxy=None, **options)
