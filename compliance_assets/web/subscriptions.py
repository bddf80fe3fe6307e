"""Carries GraphQL subscriptions between a browser and Dagster, one rebuilt message at a time.

The protocol is `graphql-ws` (subscriptions-transport-ws), the only one that Dagster's webserver speaks. A `start` may hold
one subscription and nothing else; anything that is not one of the protocol's four messages ends the connection with its
reason (close code 1008). The connection also ends when the session does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from compliance_assets.web.forwarding import Upstream
from compliance_assets.web.graphql_rules import permit, read_message, read_object
from compliance_assets.web.request_rules import Refused
from compliance_assets.web.sessions import Session

log = logging.getLogger("compliance_assets.guard")


def allowed(text: str | None, session: Session) -> dict[str, Any]:
    """The message that may be sent up for `text`, rebuilt from what was read; raises `Refused`."""
    if text is None:
        raise Refused("A binary message.", status=403, rule="WebSocket messages are JSON text", remedy="Send text.")
    message = read_message(text)
    kind, operation_id = message.get("type"), message.get("id")
    if kind in ("connection_init", "connection_terminate"):
        return {"type": kind, "payload": {}}
    if kind not in ("start", "stop") or not isinstance(operation_id, str | int):
        raise Refused("This message is not one of graphql-ws.", status=403, rule="WebSocket messages", value=f"{kind!r:.40}",
                      remedy="Send connection_init, start, stop or connection_terminate.")
    if kind == "stop":
        return {"type": "stop", "id": operation_id}
    asked = read_object(message.get("payload"))
    permit(asked.operation, "WebSocket", session.user.role)
    return {"type": "start", "id": operation_id, "payload": asked.body()}


async def carry(socket: WebSocket, session: Session, upstream: Upstream) -> None:
    """Pass subscriptions up and events down until either side ends, the session does, or something is refused."""
    from websockets.exceptions import WebSocketException

    try:
        async with upstream.subscribe(session.user.name) as up:
            await socket.accept(subprotocol="graphql-ws")

            async def events() -> None:
                async for message in up:
                    await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))

            async def requests() -> None:
                while True:
                    received = await socket.receive()
                    if received["type"] == "websocket.disconnect":
                        return
                    message = allowed(received.get("text"), session)
                    await up.send(json.dumps(message))
                    if message["type"] == "connection_terminate":
                        return

            tasks = (asyncio.create_task(events()), asyncio.create_task(requests()))
            try:
                done, _ = await asyncio.wait(tasks, timeout=max(0.0, session.expires - time.time()),
                                             return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
    except (OSError, WebSocketException):
        with suppress(RuntimeError):
            await socket.close(1013, "Dagster does not answer")
        return
    for result in results:
        if isinstance(result, Refused):
            await _close(socket, result)
            return
        if isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect | WebSocketException):
            raise result
    with suppress(RuntimeError):  # the other side may have closed already
        await socket.close(1000 if done else 1008, "" if done else "signed out")


async def _close(socket: WebSocket, error: Refused) -> None:
    log.info("%s", json.dumps({"event": "refused", "status": error.status, "rule": error.rule, "value": error.value,
                               "method": "WebSocket message"}))
    with suppress(RuntimeError, WebSocketDisconnect):
        await socket.send_json({"type": "connection_error", "payload": error.as_json()})
        await socket.close(1008, error.rule[:120])
