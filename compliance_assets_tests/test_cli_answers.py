"""Overriding, telling outcomes, stopping and resuming from the command line: no model and no server is needed for any of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from compliance_assets.cli import cli
from compliance_assets.serving.annotations import read_annotations
from compliance_assets.serving.inference_log import InferenceLog
from compliance_assets.serving.switch import StopSwitch
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
