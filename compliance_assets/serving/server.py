"""The model server: `python -m compliance_assets.serving.server --spec FILE`; integration and production start the same one.

It loads a model only with a proof of its right to answer (`loading`), answers only what the data contract allows
(`interface`), and gives no answer that is not on disk first (`inference_log`). Every refusal is a 4xx with an RFC 9457 body.
Exit status: 0 stopped in order, 3 refused to load (the reason as JSON on stderr), 4 the port is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from compliance_assets.errors import Busy, ComplianceError
from compliance_assets.heavy import settled
from compliance_assets.serving.inference_log import InferenceLog
from compliance_assets.serving.loading import Authorise, authorise, load_served
from compliance_assets.serving.processes import die_with_parent
from compliance_assets.serving.spec import ServerSpec
from compliance_assets.serving.switch import StopSwitch

REFUSED, PORT_TAKEN = 3, 4


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the port. Raises `Busy` naming the port if somebody has it."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        taken.listen(128)
    except OSError as error:
        taken.close()
        raise Busy(f"Port {port} on {host} is taken ({error.strerror}).", rule="one server per port", value=str(port),
                   remedy="Stop what listens there, or give the environment another port in organisation.yaml.") from error
    return taken


def serve(spec: ServerSpec, authorise: Authorise) -> None:
    """Load, listen and answer until SIGTERM."""
    taken = listen(spec.host, spec.port)
    try:
        loaded = load_served(spec, authorise)
        log = InferenceLog(spec.folder / "log" / spec.server, spec.server)
        import uvicorn

        from compliance_assets.serving.app import make_app

        config = uvicorn.Config(make_app(loaded, log, StopSwitch(spec.folder)), log_level="warning", access_log=False,
                                timeout_graceful_shutdown=5, limit_concurrency=200)
        settled()
        # uvicorn ends in order and then raises the signal again: let that be the end of the process, not its death.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            uvicorn.Server(config).run(sockets=[taken])
        finally:
            log.close()
    finally:
        taken.close()


def main(arguments: Sequence[str] | None = None, authorise: Authorise = authorise) -> int:
    """Run one server; `authorise` is the question put to the ledger."""
    parser = argparse.ArgumentParser(prog="python -m compliance_assets.serving.server", description=__doc__.splitlines()[0])
    parser.add_argument("--spec", type=Path, required=True, help="JSON file that says what to serve")
    parser.add_argument("--parent", type=int, default=None, help="process without which this one ends")
    given = parser.parse_args(arguments)
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[threads] = "1"
    if given.parent is not None:
        die_with_parent(given.parent)
    try:
        serve(ServerSpec.read(given.spec), authorise)
    except ComplianceError as error:
        print(json.dumps(error.as_json()), file=sys.stderr, flush=True)
        return PORT_TAKEN if isinstance(error, Busy) else REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
