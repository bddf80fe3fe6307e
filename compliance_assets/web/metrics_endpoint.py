"""One address for Prometheus, on loopback: /metrics. It reads the ledger, holds no key, and answers nobody else's name for it."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from compliance_assets.errors import ComplianceError
from compliance_assets.governance.metrics_exposed import CONTENT_TYPE, Exposed
from compliance_assets.web.project_reading import ProjectReading
from compliance_assets.web.request_rules import OwnNames, Refused


def metrics_app(root: Path, home: Path, port: int) -> Starlette:
    """The endpoint of one project as an application that answers as 127.0.0.1:port."""
    project, exposed, names = ProjectReading(root, home), Exposed(), OwnNames.of("127.0.0.1", port)

    async def metrics(request: Request) -> Response:
        try:
            names.check(request.headers)
            return Response(await run_in_threadpool(lambda: exposed.text(project.river())), media_type=CONTENT_TYPE)
        except Refused as error:
            return PlainTextResponse(f"{error}\n", error.status)
        except ComplianceError as error:
            return PlainTextResponse(f"{error.message}\n", 503)

    return Starlette(routes=[Route("/metrics", metrics, methods=["GET"])])


def serve_metrics(root: Path, home: Path, port: int) -> None:
    """Serve until told to stop (SIGINT, SIGTERM)."""
    import uvicorn

    uvicorn.Server(uvicorn.Config(metrics_app(root, home, port), host="127.0.0.1", port=port, proxy_headers=False, server_header=False,
                                  access_log=False, log_level="warning", ws="none")).run()
