"""One server for as long as something is asked of it: started, ready, and always stopped again."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from compliance_assets.errors import Busy, ServingError
from compliance_assets.serving import processes
from compliance_assets.serving.client import Client, Unanswered
from compliance_assets.serving.server import PORT_TAKEN, listen
from compliance_assets.serving.spec import ServerSpec

SERVER = (sys.executable, "-m", "compliance_assets.serving.server")
"""How a server process is started; the spec follows."""


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with listen("127.0.0.1", 0) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def running_server(spec: ServerSpec, scratch: Path, *, command: Sequence[str] = SERVER, seconds: float = 90.0) -> Iterator[Client]:
    """Start a server, wait until it is ready, and stop it at the end, whatever happened in between.

    Raises `ServingError` with the server's own words if it refuses or does not come up, `Busy` if its port is taken.
    """
    output = scratch / f"{spec.server}.log"
    child = processes.start((*command, "--spec", str(spec.write(scratch / f"{spec.server}.json")), "--parent", str(os.getpid())),
                            output=output, environment={"OMP_NUM_THREADS": "1"})
    try:
        address = f"http://127.0.0.1:{spec.port}"
        until = time.monotonic() + seconds
        while not _is_up(address):
            if child.poll() is not None:
                raise _refused(child.returncode, processes.last_line(output))
            if time.monotonic() > until:
                raise ServingError(f"The model server was not ready within {seconds:g} s.", rule="server starts",
                                   value=spec.model, remedy="Run it again when the machine is less busy.")
            time.sleep(0.1)
        with Client(address) as client:
            yield client
    finally:
        processes.stop(child)


def _is_up(address: str) -> bool:
    try:
        with Client(address, seconds=1.0) as client:
            return client.get("/v2/health/live").status == 200
    except Unanswered:
        return False


def _refused(code: int, said: str) -> ServingError | Busy:
    try:
        told = json.loads(said)
        message, rule, remedy = told["message"], told["rule"], told["remedy"]
    except (ValueError, KeyError, TypeError):
        message, rule, remedy = f"exit status {code}: {said or 'it said nothing'}", "server starts", "Look into the server's log."
    kind = Busy if code == PORT_TAKEN else ServingError
    return kind(f"The model server did not start: {message}", rule=rule, value=str(code), remedy=remedy)
