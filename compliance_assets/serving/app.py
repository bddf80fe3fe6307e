"""The routes of a model server, around one loaded model: what can be asked, and how a refusal looks (RFC 9457)."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from compliance_assets.errors import ComplianceError
from compliance_assets.serving.annotations import override as override_decision
from compliance_assets.serving.answering import Answering, Called, V2Request
from compliance_assets.serving.inference_log import InferenceLog
from compliance_assets.serving.interface import (
    MOST_BYTES,
    PredictAnswer,
    Problem,
    ProblemBody,
    Version,
    components,
    parse_json,
)
from compliance_assets.serving.loading import Loaded
from compliance_assets.serving.switch import StopSwitch

PROBLEM_TYPE = "application/problem+json"


def make_app(loaded: Loaded, log: InferenceLog, switch: StopSwitch) -> FastAPI:
    """The ASGI application around one loaded model."""
    answering = Answering(loaded, log, switch)
    spec = loaded.spec
    app = FastAPI(title=loaded.definition.system.title, version=spec.model[:12], docs_url=None, redoc_url=None,
                  description=loaded.definition.system.intended_purpose)

    def problem(error: Problem) -> Response:
        return Response(error.body(), status_code=error.status, media_type=PROBLEM_TYPE)

    async def refused(_: Request, error: Any) -> Response:
        return problem(error)

    async def not_found(_: Request, error: Any) -> Response:
        told = problem(Problem(error.status_code, "Not served", str(error.detail)))
        told.headers.update(error.headers or {})  # a method that is not served says which ones are (RFC 9110, 15.5.6)
        return told

    app.add_exception_handler(Problem, refused)
    app.add_exception_handler(HTTPException, not_found)

    async def answer(request: Request, how: Callable[[bytes, Called], dict[str, Any]]) -> Response:
        called = Called(request.headers.get("host", ""), request.headers.get("x-request-id"))
        body = await bounded_body(request)
        content = await run_in_threadpool(how, body, called)
        return Response(json.dumps(content, allow_nan=False).encode(), media_type="application/json",
                        headers={"x-model-digest": spec.model})

    refusals: dict[int | str, dict[str, Any]] = {
        status: {"description": meaning, "model": ProblemBody, "content": {PROBLEM_TYPE: {}}}
        for status, meaning in ((400, "not JSON"), (413, "too large"), (422, "outside the contract"),
                                (503, "stopped by people, or not loggable"))}

    @app.post("/predict", response_model=PredictAnswer, responses=refusals, openapi_extra=_takes("PredictRequest"))
    async def predict(request: Request) -> Response:
        """Score and decide up to 1000 rows."""
        return await answer(request, answering.predict)

    @app.post(f"/v2/models/{spec.system}/infer", response_model=None, responses=refusals, openapi_extra=_takes("V2Request"))
    async def infer(request: Request) -> Response:
        """Open Inference protocol V2, one tensor for each column."""
        return await answer(request, answering.infer)

    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        """The process answers."""
        return {"live": True}

    @app.get("/v2/health/ready", response_model=None)
    async def ready() -> Response:
        """Whether answers are given, and by which model."""
        stopped = switch.reason
        return JSONResponse({"ready": stopped is None, "model": spec.model, "stopped": stopped, "server": spec.server},
                            status_code=200 if stopped is None else 503)

    @app.get("/version", response_model=Version)
    async def version() -> dict[str, str]:
        """The composite version that answers."""
        return loaded.version

    async def allowed(request: Request) -> Any:
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), f"Bearer {spec.token}".encode()):
            raise Problem(401, "Not allowed", "People who stop or override need the environment's token.")
        return parse_json(await bounded_body(request))

    def switched(action: Callable[[str, str], None]) -> Callable[[Request], Awaitable[Response]]:
        # Runs on the event loop, not behind the model: a busy or broken model cannot keep people from stopping it.
        async def act(request: Request) -> Response:
            said = await allowed(request)
            if not isinstance(said, dict) or not all(isinstance(said.get(key), str) and said[key] for key in ("reason", "by")):
                raise Problem(422, "Outside the contract", "Say the reason and who you are: {\"reason\": …, \"by\": …}.")
            action(said["reason"], said["by"])
            return JSONResponse({"stopped": switch.reason})
        return act

    app.post("/stop", response_model=None)(switched(switch.stop))
    app.post("/resume", response_model=None)(switched(switch.resume))

    @app.post("/override", response_model=None)
    async def override(request: Request) -> Response:
        """A person decided otherwise: recorded beside the decision, without the model."""
        said = await allowed(request)
        wanted = ("inference_id", "decision", "by", "reason")
        if not isinstance(said, dict) or sorted(said) != sorted(wanted) or not all(isinstance(said[key], str) for key in wanted):
            raise Problem(422, "Outside the contract", f"Say exactly {', '.join(wanted)}, each a text.")
        try:
            note = await run_in_threadpool(override_decision, spec.folder / "log", said["inference_id"], said["decision"],
                                           said["by"], said["reason"])
        except ComplianceError as error:
            raise Problem(422, "Not recorded", str(error)) from error
        return JSONResponse({"recorded": note.id, "model_said": note.model_said})

    described = app.openapi

    def openapi() -> dict[str, Any]:
        schema = described()
        schema.setdefault("components", {}).setdefault("schemas", {}).update(components(loaded.request, V2Request))
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend its schema
    return app


def _takes(name: str) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {
        "application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}}


async def bounded_body(request: Request) -> bytes:
    """The body, up to `MOST_BYTES`; a larger one is refused while it is still arriving."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise Problem(413, "Too large", f"A request may have {MOST_BYTES} bytes.")
        parts.append(part)
    return b"".join(parts)
