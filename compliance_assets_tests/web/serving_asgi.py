"""A real ASGI application on a real loopback port, for as long as a test needs it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


def free_socket() -> socket.socket:
    """A listening socket on a port that nobody else has."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", 0))
    return listening


@contextmanager
def served(app: Any, listening: socket.socket | None = None, *, uds: str | None = None) -> Iterator[int]:
    """Serve `app` in a thread; gives its port (0 for a Unix socket)."""
    if uds is None:
        listening = listening or free_socket()
    config = uvicorn.Config(app, log_level="error", access_log=False, proxy_headers=False, server_header=False, uds=uds)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening] if listening else None}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    try:
        yield listening.getsockname()[1] if listening else 0
    finally:
        server.should_exit = True
        thread.join(20)
        if listening:
            listening.close()
