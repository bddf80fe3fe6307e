"""Engineers see durations, resources and what changed before a failure; their tools get metrics and traces that are made from records."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from compliance_assets.cli import cli
from compliance_assets.governance.engineering import failures, timings
from compliance_assets.governance.metrics_exposed import Exposed
from compliance_assets.governance.traces import otlp, send, spans
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.river import rule_named
from compliance_assets.web.metrics_endpoint import metrics_app
from compliance_assets_tests.project import SYSTEM, approve_definition, run_to
from compliance_assets_tests.web.visitor import Visitor


def edited(root: Path, old: str, new: str) -> River:
    """The project with another declaration, approved."""
    path = root / "systems" / SYSTEM / "system.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    river = open_river(root)
    approve_definition(river)
    return river


def test_durations_and_resources_are_those_of_the_records(reviewed_world: Path) -> None:
    river = open_river(reviewed_world, writer=False)
    by_stage = {one.rule.name: one for one in timings(river, SYSTEM)}
    trained = river.archive.made_by(SYSTEM, "model_training")[0].body
    assert by_stage["model_training"].passed == 1 and by_stage["deployment"].last is None and by_stage["deployment"].passed == 0
    assert dict(by_stage["model_training"].resources)["processor time"] == f"{trained.observations['cpu_seconds']} s"
    assert sum(one.share for one in by_stage.values() if one.share is not None) == pytest.approx(1.0)


def test_a_failure_is_traced_to_the_bound_that_was_moved(project: Path) -> None:
    run_to(open_river(project), "data_preparation")
    river = edited(project, "prevalence: [0.6, 0.9]", "prevalence: [0.98, 0.99]")
    assert not run_to(river, "data_preparation", run="later")[-1]
    (failure,) = failures(river, SYSTEM)
    assert failure.sentence.endswith("changed: the definition.") and "0.98" in failure.said[0]
    assert [(one.where, one.before, one.now) for one in failure.differences] == [
        ("declaration.data.target.prevalence.0", "0.6", "0.98"), ("declaration.data.target.prevalence.1", "0.9", "0.99")]


def test_a_failure_downstream_is_traced_to_the_data_that_changed_upstream(project: Path) -> None:
    run_to(open_river(project), "features")
    path = project / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("rows: 2000, seed: 11}", "rows: 2000, seed: 12}"))
    river = edited(project, "range: [500, 20_000]", "range: [2000, 20_000]")
    assert not run_to(river, "features", run="later")[-1]
    (failure,) = failures(river, SYSTEM)
    assert failure.record.body.stage == "feature_engineering" and "Ranges: Monthly income" in failure.said[0]
    assert failure.differences[0].kind == "the raw source" and "the raw source" in failure.sentence, "followed from the dataset upstream"
    assert {one.where for one in failure.differences[1:]} == {"declaration.data.source.seed", "declaration.features.registry.1.range.0"}
    page = Visitor(project).see("/engineering")
    page.check()
    assert "the raw source" in page.text and "bottleneck" in page.text


def test_where_nothing_passed_before_nothing_is_compared(project: Path) -> None:
    river = edited(project, "prevalence: [0.6, 0.9]", "prevalence: [0.98, 0.99]")
    run_to(river, "data_preparation")
    assert "nothing to compare with" in failures(river, SYSTEM)[0].sentence
    machine = CliRunner().invoke(cli, ["engineering", SYSTEM, "--root", str(project), "--json"])
    assert json.loads(machine.output)["systems"][0]["failures"][0]["compared_with"] is None
    assert "nothing to compare with" in CliRunner().invoke(cli, ["engineering", "--root", str(project)]).output


def test_metrics_count_records_once_and_carry_conventional_names(in_review: Path) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    river, exposed = open_river(in_review), Exposed()
    first = exposed.text(river).decode()
    assert exposed.text(river).decode() == first, "scraping twice counts nothing twice"
    families = {family.name: family for family in text_string_to_metric_families(first)}
    counted = {(sample.labels["stage"], sample.labels["outcome"]): sample.value for sample in families["compliance_stage_executions"].samples}
    assert counted["model_evaluation", "passed"] == 1.0
    verdicts = families["compliance_gate_verdicts"].samples
    assert sum(sample.value for sample in verdicts if sample.labels["stage"] == "data_preparation") == len(rule_named("data_preparation").gates)
    assert families["compliance_ledger_entries"].samples[0].value == river.archive.ledger.size
    assert any(sample.labels["le"] == "+Inf" for sample in families["compliance_stage_duration_seconds"].samples if "le" in sample.labels)
    run_to(river, "data_preparation", run="again")
    assert 'compliance_stage_reuses_total{stage="data_preparation",system="small_lender"} 1.0' in exposed.text(river).decode()


def test_the_endpoint_answers_its_own_name_only(reviewed_world: Path) -> None:
    app = metrics_app(reviewed_world, reviewed_world / ".compliance", 9464)

    def ask(method: str, path: str, **headers: str) -> httpx.Response:
        async def go() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:9464") as client:
                return await client.request(method, path, headers=headers)
        return asyncio.run(go())

    answer = ask("GET", "/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert ask("GET", "/metrics", host="evil.example").status_code in (400, 403, 421)
    assert ask("POST", "/metrics").status_code == 405
    assert ask("GET", "/other").status_code == 404


def test_a_span_for_each_stage_with_its_gates_and_the_moments_of_the_record(reviewed_world: Path) -> None:
    river = open_river(reviewed_world, writer=False)
    found = {span.name: span for span in spans(river)}
    evaluation, record = found["stage model_evaluation"], river.archive.made_by(SYSTEM, "model_evaluation")[0]
    assert [event.name for event in evaluation.events][:2] == ["gate performance", "gate fairness"]
    assert evaluation.attributes["compliance.evidence.id"] == record.digest and evaluation.status.is_ok
    assert evaluation.end_time > evaluation.start_time
    assert evaluation.context.trace_id == found["stage data_preparation"].context.trace_id, "one run, one trace"
    assert found["definition approve"].attributes["compliance.role"] in ("technical_owner", "governance_lead")
    again = {span.name: span.context.span_id for span in spans(open_river(reviewed_world, writer=False))}
    assert again == {name: span.context.span_id for name, span in found.items()}


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """A small OTLP collector on loopback that keeps what it is sent."""
    taken: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", taken
    server.shutdown()
    server.server_close()
    thread.join()


def test_spans_reach_a_collector_and_sending_goes_on_where_it_stopped(reviewed_world: Path, collector: tuple[str, list[bytes]]) -> None:
    address, taken = collector
    river = open_river(reviewed_world, writer=False)
    exporter = otlp(address)
    reached = send(river, exporter)
    exporter.shutdown()
    assert reached == river.archive.ledger.size and len(taken) == 1
    assert send(river, exporter, reached) == reached and len(taken) == 1, "nothing new, nothing sent"
    printed = CliRunner().invoke(cli, ["telemetry", "traces", "--json", "--root", str(reviewed_world)])
    assert any(one["name"] == "stage model_evaluation" for one in json.loads(printed.output))
    said = CliRunner().invoke(cli, ["telemetry", "metrics", "--root", str(reviewed_world)])
    assert "compliance_stage_executions_total" in said.output
