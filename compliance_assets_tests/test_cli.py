"""A person's door: every command has help, says no with rule, value and remedy, and answers machines in JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compliance_assets.cli import COMMANDS
from compliance_assets_tests.project import GOVERNANCE, OWNER, REASON, SYSTEM


def compliance(*arguments: str, cwd: Path, check: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a person would, in a folder."""
    repository = str(Path(__file__).resolve().parents[1])
    done = subprocess.run((sys.executable, "-m", "compliance_assets.cli", *arguments), cwd=cwd, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "COLUMNS": "100", "PYTHONPATH": repository, **environment})
    assert check is None or done.returncode == check, (done.returncode, done.stdout, done.stderr)
    return done


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS), ("definition", "show"), ("definition", "approve"),
                                     ("definition", "diff"), ("definition", "check-change"), ("exception", "ask"), ("exception", "approve"), ("condition", "met"), ("hold", "set"), ("hold", "release")])
def test_every_command_has_help(command: tuple[str, ...], tmp_path: Path) -> None:
    said = compliance(*command, "--help", cwd=tmp_path).stdout
    assert said.startswith("Usage: compliance" if not command else "Usage:") or "Usage:" in said
    assert "--help" in said and len(said.splitlines()) > 5


def test_a_wrong_command_is_answered_with_the_nearest(tmp_path: Path) -> None:
    done = compliance("verfy", cwd=tmp_path, check=2)
    assert "Did you mean 'verify'" in done.stderr


def test_outside_a_project_it_says_what_to_do(tmp_path: Path) -> None:
    done = compliance("status", cwd=tmp_path, check=1)
    assert "compliance init" in done.stderr and "Traceback" not in done.stderr
    body = json.loads(compliance("status", "--json", cwd=tmp_path, check=1).stdout)
    assert body["rule"] == "root" and body["remedy"]


def test_init_makes_a_development_home_and_refuses_to_make_it_twice(tmp_path: Path) -> None:
    body = json.loads(compliance("init", "--json", cwd=tmp_path).stdout)
    assert body["profile"] == "development" and body["systems"] == ["credit_lending"]
    keys = sorted((tmp_path / ".compliance" / "keys").rglob("*"))
    assert {path.stat().st_mode & 0o777 for path in keys if path.is_file() and path.suffix != ".pub"} == {0o600}
    assert "exists already" in compliance("init", cwd=tmp_path, check=1).stderr
    assert json.loads(compliance("verify", "--json", cwd=tmp_path).stdout)["verified"] is True
    standing = json.loads(compliance("status", "--json", cwd=tmp_path).stdout)
    assert standing["systems"][0]["in_force"] is True


def test_check_names_file_line_rule_and_remedy(project: Path) -> None:
    compliance("check", cwd=project)
    path = project / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("provider:", "providr:"))
    done = compliance("check", cwd=project, check=1)
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if text.startswith("providr"))
    assert f"system.yaml:{line}:" in done.stdout and "provider" in done.stdout
    refused = compliance("run", SYSTEM, cwd=project, check=1)
    assert f"system.yaml:{line}:" in refused.stderr and "Traceback" not in refused.stderr


def test_check_prints_the_schemas(tmp_path: Path) -> None:
    body = json.loads(compliance("check", "--schema", cwd=tmp_path).stdout)
    assert set(body) == {"system.yaml", "organisation.yaml"}


def test_run_status_datasets_trace_answer_people_and_machines(project: Path, tmp_path: Path) -> None:
    said = compliance("run", SYSTEM, "--to", "features", cwd=project).stdout
    assert "1 Data preparation" in said and "✓ PASS" in said
    body = json.loads(compliance("run", SYSTEM, "--to", "features", "--json", cwd=project).stdout)
    assert [stage["reused"] for stage in body["stages"]] == [True, True]
    listed = json.loads(compliance("datasets", SYSTEM, "--json", cwd=project).stdout)["datasets"]
    assert len(listed) == 1 and listed[0]["rows"] == 2000
    fetched = json.loads(compliance("datasets", SYSTEM, "--fetch", listed[0]["digest"][:8], "--into", str(tmp_path / "out"), "--json",
                                    cwd=project).stdout)
    assert all(Path(project, name).exists() or Path(name).exists() for name in fetched["files"]) and len(fetched["files"]) == 5
    traced = json.loads(compliance("trace", listed[0]["digest"][:10], "--json", cwd=project).stdout)
    assert [node["what"] for node in traced["downstream"]] == ["features"]
    assert "2 Feature engineering" in compliance("status", cwd=project).stdout
    shown = compliance("definition", "show", SYSTEM, cwd=project).stdout
    assert "selection_rate_ratio" in shown
    assert "Nothing here is called" in compliance("trace", "nothing-like-it", cwd=project, check=2).stderr


def test_a_failed_gate_exits_with_1_and_names_the_finding(project: Path) -> None:
    path = project / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("prevalence: [0.6, 0.9]", "prevalence: [0.98, 0.99]"))
    done = compliance("run", SYSTEM, cwd=project, check=1)
    assert "✗ FAIL" in done.stdout and "halted" in done.stdout and "0.98" in done.stdout


def test_people_review_and_decide(in_review: Path) -> None:
    shown = compliance("review", SYSTEM, cwd=in_review).stdout
    assert "Needs your judgement" in shown and "What approval authorises" in shown and "waiting for 1 × technical_owner" in shown
    assert json.loads(compliance("review", SYSTEM, "--json", cwd=in_review).stdout)["missing"]
    refused = compliance("approve", SYSTEM, "--as", OWNER, "--role", "technical_owner", "--reason", "lgtm", cwd=in_review, check=2)
    assert "in your own words" in refused.stderr
    for person, role in ((OWNER, "technical_owner"), (GOVERNANCE, "governance_lead")):
        compliance("approve", SYSTEM, "--as", person, "--role", role, "--reason", REASON, "--json", cwd=in_review)
    done = compliance("run", SYSTEM, "--from", "approval", "--to", "approval", cwd=in_review)
    assert "7 Pre-deployment approval" in done.stdout and "✓ PASS" in done.stdout


def test_waiting_for_people_exits_with_1_and_says_for_whom(in_review: Path) -> None:
    done = compliance("run", SYSTEM, "--from", "approval", cwd=in_review, check=1)
    assert "Waiting for 1 × technical_owner; 1 × governance_lead" in done.stderr


def test_machines_are_told_what_was_done_before_the_refusal(in_review: Path) -> None:
    body = json.loads(compliance("run", SYSTEM, "--from", "integration_testing", "--json", cwd=in_review, check=1).stdout)
    assert [stage["asset"] for stage in body["stages"]] == ["integration_report"] and body["passed"] is False
    assert body["error"] == "Waiting" and "technical_owner" in body["message"] and body["remedy"]


def test_deferring_needs_a_date(in_review: Path) -> None:
    done = compliance("defer", SYSTEM, "--until", "soon", "--as", OWNER, "--role", "technical_owner", "--reason", REASON, cwd=in_review, check=2)
    assert "2027-01-31" in done.stderr


def test_a_demo_into_an_existing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "compliance-demo").mkdir()
    (tmp_path / "compliance-demo" / "mine.txt").write_text("keep")
    assert "exists already" in compliance("demo", cwd=tmp_path, check=1).stderr


def test_a_demo_whose_port_is_taken_starts_nothing(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = min(taken.getsockname()[1], 65531)
        done = compliance("demo", "--port", str(port), cwd=tmp_path, check=1)
    assert f"Port {port}" in done.stderr and not (tmp_path / "compliance-demo").exists()


def test_help_is_quick(tmp_path: Path) -> None:
    import time

    compliance("--help", cwd=tmp_path)
    took = []
    for _ in range(3):
        started = time.process_time_ns(), os.times().children_user + os.times().children_system
        compliance("--help", cwd=tmp_path)
        took.append(os.times().children_user + os.times().children_system - started[1])
    assert min(took) < 0.3, "CPU seconds of --help"
