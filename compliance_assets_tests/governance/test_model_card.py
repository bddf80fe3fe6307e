"""A model card is made from evidence alone: nine headings, every line with its entry, and what is not on record is not made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from compliance_assets.cli import cli
from compliance_assets.governance.candidates import candidate_at, latest
from compliance_assets.governance.model_card import HEADINGS, NOT_ON_RECORD, Card, model_card
from compliance_assets.pipeline import open_river
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.project import SYSTEM
from compliance_assets_tests.web.visitor import Visitor


@pytest.fixture(scope="module")
def card(reviewed_world: Path) -> Card:
    river = open_river(reviewed_world, writer=False)
    one = latest(river, SYSTEM)
    assert one is not None
    return model_card(river, one)


def facts(card: Card, title: str) -> dict[str, str]:
    return {what: said for section in card.sections if section.title == title for what, said, _ in section.facts}


def test_it_has_the_nine_headings_of_the_field_in_their_order(card: Card) -> None:
    assert tuple(section.title for section in card.sections) == HEADINGS


def test_every_number_is_the_records_and_every_line_names_its_entry(card: Card, reviewed_world: Path) -> None:
    river = open_river(reviewed_world, writer=False)
    (record,) = river.archive.made_by(SYSTEM, "model_evaluation")
    report = json.loads(river.archive.artefacts.get_bytes(Digest.parse(record.body.files["evaluation/report.json"])))
    analyses = card.sections[HEADINGS.index("Quantitative analyses")]
    assert len(analyses.tables[0].rows) == sum(len(gate.findings) for gate in record.body.reports)
    assert {table.entry for table in analyses.tables} == {record.index}
    assert {"Unitary: sex", "Unitary: age band", "Intersectional: sex × age band"} <= {table.caption for table in analyses.tables}
    assert facts(card, "Evaluation data")["Rows"] == str(report["rows"])
    assert facts(card, "Evaluation data")["Holdout"] == "opened 1 time, no limit declared"
    known = len(list(river.archive.entries()))
    without = {what for section in card.sections for what, said, entry in section.facts if entry is None and NOT_ON_RECORD not in said}
    assert without == {"What a card cannot say"}, "whatever is said names its entry, or that there is none"
    assert all(0 <= entry < known for section in card.sections for _, _, entry in section.facts if entry is not None)


def test_what_no_record_speaks_of_is_said_to_be_missing(card: Card, reviewed_world: Path) -> None:
    assert facts(card, "Ethical considerations")["Risks beyond what is measured"].startswith(NOT_ON_RECORD)
    assert facts(card, "Intended use")["Out of scope"].startswith(NOT_ON_RECORD)
    river = open_river(reviewed_world, writer=False)
    early = model_card(river, candidate_at(river, SYSTEM, river.archive.made_by(SYSTEM, "data_preparation")[0].index))
    assert facts(early, "Model details")["Model file, sha256"] == facts(early, "Quantitative analyses")["Measured on the holdout"] \
        == NOT_ON_RECORD
    assert facts(early, "Training data")["Data contract"] == "pass"


def test_no_card_claims_conformity(card: Card) -> None:
    said = card.as_markdown().lower()
    assert "claims no conformity" in said and "compliant" not in said


def test_a_person_reads_it_at_the_command_line_and_on_a_page(card: Card, reviewed_world: Path) -> None:
    asked = CliRunner().invoke(cli, ["modelcard", SYSTEM, "--root", str(reviewed_world)])
    assert asked.exit_code == 0 and asked.output.strip() == card.as_markdown().strip()
    machine = CliRunner().invoke(cli, ["modelcard", SYSTEM, "--root", str(reviewed_world), "--json"])
    assert json.loads(machine.output) == card.as_json()
    page = Visitor(reviewed_world).see(f"/systems/{SYSTEM}/candidates/{card.candidate}/card").answer.text
    assert all(heading in page for heading in HEADINGS) and "<script" not in page
