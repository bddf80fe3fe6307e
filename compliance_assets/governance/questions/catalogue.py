"""All 35 questions in order, and how one is answered."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from compliance_assets.errors import ComplianceError, Misused
from compliance_assets.governance.questions import of_data, of_gates, of_model, of_people, of_production, of_records
from compliance_assets.governance.questions.answer import Answer, Each, Fact, Gap, Question
from compliance_assets.governance.questions.seen import Seen
from compliance_assets.pipeline import River
from compliance_assets.trust.canonical import rfc3339

DATA, MODEL, GATES, PEOPLE, PRODUCTION, RECORDS = ("Data", "Model", "Gates", "People and definitions", "Production", "Records")
QUESTIONS: tuple[Question, ...] = (
    Question("E1", "Which exact version was in production on a date, and where?", PRODUCTION, of_production.in_production),
    Question("E2", "Which rows of which dataset version trained it? Show the manifest.", DATA, of_data.rows_and_manifest),
    Question("E3", "Where did each source come from, on what legal basis, for what original purpose?", DATA, of_data.origin),
    Question("E4", "What was done to the data, in what order, by whom, why, and what was expected?", DATA, of_data.done_to_it),
    Question("E5", "From which source columns is a feature computed?", DATA, of_data.columns_of_features, "a feature; else all of them"),
    Question("E6", "If a source is recalled or poisoned, which models and deployments are affected?", DATA, of_data.affected,
             "the digest of a source or dataset; else this version's"),
    Question("E7", "Was a person's record used for training, validation or testing?", DATA, of_data.person, "the person's key"),
    Question("E8", "Was the holdout ever used for training, and how often was it evaluated?", DATA, of_data.holdout),
    Question("E9", "Which commit, environment, seed and hyperparameters? Was the tree clean?", MODEL, of_model.training),
    Question("E10", "Can the model be made again, and what differs?", MODEL, of_model.reproduction),
    Question("E11", "Which alternatives were tried, and why this one?", MODEL, of_model.alternatives),
    Question("E12", "Which thresholds were declared, when relative to the test, by whom approved, and why these?", GATES,
             of_gates.thresholds),
    Question("E13", "Show all test reports, dated and signed.", GATES, of_gates.test_reports),
    Question("E14", "How does it perform for each group, with n and interval? Which groups cannot be tested?", GATES, of_gates.by_group),
    Question("E15", "Is it less fair than what it replaced, and why was that accepted?", GATES, of_gates.against_replaced),
    Question("E16", "Which candidates failed, at which gate, and what happened next?", GATES, of_gates.refused),
    Question("E17", "Was any gate overridden? By whom, until when, with what controls?", GATES, of_gates.exceptions),
    Question("E18", "Who approved it, in what role, what did they see and for how long, were they independent?", PEOPLE,
             of_people.approval),
    Question("E19", "Are the deployed bytes those that were approved and tested?", PRODUCTION, of_production.same_bytes),
    Question("E20", "Which definition was in force, who approved it, what differs from the one before?", PEOPLE, of_people.definition),
    Question("E21", "Was any stage skipped, reordered or bypassed?", GATES, of_gates.order),
    Question("E22", "What changed since the baseline, and was any change a substantial modification?", PEOPLE, of_people.changes_since),
    Question("E23", "Was the change predetermined in the initial assessment?", PEOPLE, of_people.envelope),
    Question("E24", "How far has it drifted from the baseline, all changes together?", PEOPLE, of_people.drift_since),
    Question("E25", "When was it put into service, and did its design change after 2 December 2027?", PEOPLE, of_people.service),
    Question("E26", "For one inference: model, features, rule, explanation, human override?", PRODUCTION, of_production.inference,
             "the inference id"),
    Question("E27", "What happened between an incident and the rollback, and was evidence kept?", PRODUCTION, of_production.incidents),
    Question("E28", "Who had access to special-category data, when, and was it deleted?", RECORDS, of_records.special_categories),
    Question("E29", "Is the log complete and unaltered? Verify it independently.", RECORDS, of_records.integrity),
    Question("E30", "Did the documents describe the version at its release?", RECORDS, of_records.documents),
    Question("E31", "What did monitoring show after deployment, and what was done?", PRODUCTION, of_production.monitoring),
    Question("E32", "Which rollouts were canary or shadow, for whom, with which results?", PRODUCTION, of_production.rollouts),
    Question("E33", "Which components and versions, with which known vulnerabilities at release?", MODEL, of_model.components),
    Question("E34", "Which systems share a component, and were they evaluated again after it changed?", MODEL, of_model.shared,
             "the name of a library; else all of them together"),
    Question("E35", "What was not recorded, and since when is the record complete?", RECORDS, of_records.not_recorded),
)
EVERYTHING_READ = "E29"
"""The one answer that reads the whole store, where nothing of it is remembered."""


def question(number: str) -> Question:
    """The question of this number. Misused where there is none."""
    found = next((one for one in QUESTIONS if one.number == number.strip().upper()), None)
    if found is None:
        raise Misused(f"There is no question {number[:20]}.", rule="questions", value=number[:20],
                      remedy="They are E1 to E35: `compliance ask`.")
    return found


def ask(river: River, system: str, number: str, *, as_of: datetime | None = None, about: str = "") -> Answer:
    """Answer one question about a system from its records. What cannot be read is a gap of the answer, not a refusal."""
    asked = question(number)
    river.definition(system)
    river = replace(river, archive=river.archive.one_reading())
    seen = Seen(river, system, as_of or river.now(), about.strip())
    parts: list[Fact | Each] = []
    missing: list[str] = []
    try:
        for part in asked.answers(seen):
            if isinstance(part, Gap):
                missing.append(part.missing)
            else:
                parts.append(part)
    except ComplianceError as error:
        missing.append(f"the rest cannot be read: {error}")
    if not any(isinstance(part, Fact) or part.records for part in parts) and not missing:
        missing.append("no record says anything about it")
    return Answer(asked, system, rfc3339(seen.as_of), seen.version, tuple(parts), tuple(missing))
