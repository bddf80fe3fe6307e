"""OpenTelemetry traces of what was recorded: one trace for each run, a span for each stage, its gates as events; decisions and steps too.

Spans are made from records, not while things happen: a trace is complete whoever drove (Dagster, the command line, the runbook), a killed
exporter goes on where it stopped, and nothing of the pipeline depends on it. Trace and span ids are derived from run ids and statement
digests, so that sending twice gives the same spans. Needs the extra `telemetry`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from compliance_assets import __version__
from compliance_assets.errors import Misused, UntrustedEvidence
from compliance_assets.evidence.archive import Record
from compliance_assets.pipeline import River
from compliance_assets.policy.river import rule_named
from compliance_assets.trust.canonical import parse_rfc3339

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE = "compliance-assets"
_PREFIX = "compliance."


def spans(river: River, since: int = 0) -> Iterator[ReadableSpan]:
    """A span for each record from ledger index `since` on that has a duration or a moment worth showing, oldest first."""
    for index in range(since, river.archive.ledger.size):
        try:
            record = river.archive.authentic(river.archive.ledger.entry(index))
        except UntrustedEvidence:
            continue
        span = _span(record)
        if span is not None:
            yield span


def send(river: River, exporter: SpanExporter, since: int = 0) -> int:
    """Export all spans from `since` on; returns the index to go on from. Misused where the collector does not take them."""
    from opentelemetry.sdk.trace.export import SpanExportResult

    size = river.archive.ledger.size
    found = list(spans(river, since))
    if found and exporter.export(found) is not SpanExportResult.SUCCESS:
        raise Misused("The collector did not take the spans.", rule="telemetry", value=str(len(found)),
                      remedy="Look whether it listens there; nothing is lost, do this again.")
    return size


def otlp(address: str) -> SpanExporter:
    """An exporter to an OTLP collector over HTTP (`http://127.0.0.1:4318/v1/traces`)."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise Misused("The OTLP exporter is not installed.", rule="telemetry",
                      remedy="pip install 'compliance-assets[telemetry]'") from error
    return OTLPSpanExporter(endpoint=address)


def _span(record: Record) -> ReadableSpan | None:
    body, kind = record.body, record.statement.kind
    if kind == "stage":
        name, run, begun, ended = f"stage {body.stage}", body.run, body.started, body.finished
        said: dict[str, Any] = {"system": body.system, "stage": body.stage, "stage.number": rule_named(body.stage).number,
                                "outcome": body.outcome, "launcher": body.launcher, "attempt": body.attempt, "computed": body.computed,
                                "definition": body.definition, "output": body.output}
        failed = body.outcome != "passed"
        events = [(f"gate {report.gate}", ended, {"gate": report.gate, "gate.version": report.version, "verdict": report.verdict.value})
                  for report in body.reports]
    elif kind == "deployment":
        name, run, begun, ended = f"deployment {body.action}", body.run, body.at, body.at
        said = {"system": body.system, "environment": body.environment, "action": body.action, "release": body.release,
                "share": body.share}
        failed, events = body.action == "aborted", []
    elif kind == "decision":
        name, run, begun, ended = f"{body.scope.purpose} {body.decision}", "", body.issued, body.issued
        said = {"system": body.scope.system, "purpose": body.scope.purpose, "decision": body.decision, "role": body.role}
        failed, events = body.decision == "reject", []
    else:
        return None
    said |= {"evidence.id": str(record.digest), "ledger.index": record.index}
    return _readable(record, name, run or str(record.digest), (begun, ended), said, events, failed=failed)


def _readable(record: Record, name: str, run: str, moments: tuple[str, str], said: Mapping[str, Any],
              events: list[tuple[str, str, dict[str, Any]]], *, failed: bool) -> ReadableSpan:
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
    except ImportError as error:
        raise Misused("opentelemetry-sdk is not installed.", rule="telemetry",
                      remedy="pip install 'compliance-assets[telemetry]'") from error
    context = SpanContext(_number(f"trace:{run}", 16), _number(f"span:{record.digest}", 8), is_remote=False,
                          trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return ReadableSpan(
        name=name, context=context, kind=SpanKind.INTERNAL, start_time=_nanoseconds(moments[0]), end_time=_nanoseconds(moments[1]),
        resource=Resource({"service.name": SERVICE, "service.version": __version__}),
        attributes={f"{_PREFIX}{key}": value for key, value in said.items()},
        events=[Event(event, {f"{_PREFIX}{key}": value for key, value in facts.items()}, _nanoseconds(at)) for event, at, facts in events],
        status=Status(StatusCode.ERROR if failed else StatusCode.OK), instrumentation_scope=InstrumentationScope(SERVICE, __version__))


def _number(text: str, size: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size], "big") or 1


def _nanoseconds(moment: str) -> int:
    at = parse_rfc3339(moment)
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000
