"""Overriding, telling outcomes, stopping and resuming from the command line: no model and no server is needed for any of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from compliance_assets.cli import cli
from compliance_assets.errors import Misused, OutOfTurn
from compliance_assets.governance.callers import callers
from compliance_assets.pipeline import open_river
from compliance_assets.serving.annotations import read_annotations
from compliance_assets.serving.inference_log import InferenceLog
from compliance_assets.serving.switch import StopSwitch
from compliance_assets_tests.project import SYSTEM
from compliance_assets_tests.serving.test_inference_log import decisions

WHY = "The income was typed in wrongly by the branch."


def command(root: Path, *arguments: str) -> Any:
    return CliRunner().invoke(cli, [*arguments, "--root", str(root)])


def test_a_person_overrides_a_decision_and_time_tells_its_outcome(project: Path) -> None:
    folder = project / ".compliance" / "serving" / "production" / "log"
    log = InferenceLog(folder / "blue", "blue")
    log.append(decisions(2))
    log.close()
    said = command(project, "override", "d1", "unfavourable", "--by", "officer-7", "--reason", WHY, "--json")
    assert said.exit_code == 0 and json.loads(said.output)["model_said"] == "favourable", said.output
    assert command(project, "outcome", "d1", "favourable", "--by", "collections").exit_code == 0
    assert [(note.kind, note.by) for note in read_annotations(folder)] == [("override", "officer-7"), ("outcome", "collections")]
    assert command(project, "override", "nobody", "unfavourable", "--reason", WHY).exception is not None


def test_people_stop_and_resume_an_environment(project: Path) -> None:
    switch = StopSwitch(project / ".compliance" / "serving" / "production")
    assert command(project, "stop", "production", "--reason", "too many complaints", "--by", "officer-7").exit_code == 0
    assert switch.reason == "too many complaints"
    assert command(project, "stop", "elsewhere", "--reason", "no such place").exception is not None
    assert command(project, "resume", "production", "--reason", "the cause was found", "--by", "officer-7").exit_code == 0
    assert switch.reason is None


@contextmanager
def router(root: Path, status: int = 200) -> Iterator[list[dict[str, Any]]]:
    """What stands at the router's port and answers as a model would; the requests that it got."""
    got: list[dict[str, Any]] = []

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            got.append({**body, "path": self.path, "subject": self.headers["x-subject"]})
            content = json.dumps({"version": {"model": "a" * 64}}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    port = open_river(root, writer=False).organisation.environments["production"].serves.port
    server = ThreadingHTTPServer(("127.0.0.1", port), Answering)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_traffic_sends_rows_of_the_holdout_with_their_groups_and_counts_the_answers(in_review: Path) -> None:
    with router(in_review) as got:
        said = command(in_review, "traffic", "production", "--rows", "12", "--rate", "1000", "--json")
    assert said.exit_code == 0, said.output
    answer = json.loads(said.output)
    assert (answer["sent"], answer["statuses"], answer["models"]) == (12, {"200": 12}, {"a" * 64: 12})
    assert {one["path"] for one in got} == {"/predict"} and len({one["subject"] for one in got}) == 12
    people, groups = callers(open_river(in_review, writer=False), SYSTEM, "holdout", 12)
    assert sorted(map(str, [one["rows"][0] for one in got])) == sorted(map(str, people))
    assert sorted(map(str, [one["monitoring"][0] for one in got])) == sorted(map(str, groups))


def test_traffic_that_is_not_answered_ends_with_one_and_says_by_whom(in_review: Path) -> None:
    with router(in_review, status=503):
        said = command(in_review, "traffic", "production", "--rows", "3", "--rate", "1000")
    assert said.exit_code == 1 and "3 × 503" in said.output
    said = command(in_review, "traffic", "production", "--rows", "3", "--rate", "1000")
    assert said.exit_code == 1 and "3 × no answer" in said.output


def test_traffic_goes_nowhere_that_no_system_declares(in_review: Path) -> None:
    assert isinstance(command(in_review, "traffic", "elsewhere").exception, Misused)
    declared = in_review / "systems" / SYSTEM / "system.yaml"
    declared.write_text(declared.read_text().replace("environment: production", "environment: another"))
    refused = command(in_review, "traffic", "production")
    assert isinstance(refused.exception, Misused) and "0 systems declare production" in str(refused.exception)


def test_traffic_without_a_dataset_that_passed_is_refused(project: Path) -> None:
    refused = command(project, "traffic", "production")
    assert isinstance(refused.exception, OutOfTurn) and "no dataset that passed" in str(refused.exception)
