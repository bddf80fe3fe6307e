"""One candidate as a decision maker reads it: what it is, what was found, what is left to judge, who said what, what follows.

Works for every candidate, not only for the one in review: a refused one shows where it stopped and which gates were never run, a
deployed one shows who approved it. Every number comes from a record and carries the ledger index of it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.conditions import Condition, conditions_of
from compliance_assets.evidence.decisions import taken_back
from compliance_assets.evidence.exceptions import foreign, standing
from compliance_assets.governance.candidates import Candidate, Fate, fate
from compliance_assets.governance.charts import Chart, bounded_bars, for_asset, group_bars, reliability, robustness_curve, time_slices
from compliance_assets.governance.exception_view import shown
from compliance_assets.governance.finding_rows import figures, rows
from compliance_assets.governance.review import authorised, review_document, undoes_itself
from compliance_assets.pipeline import River
from compliance_assets.policy.gates import Verdict
from compliance_assets.policy.river import RIVER, StageRule, rule_named
from compliance_assets.trust.canonical import Digest, digest_of, parse_canonical

FILED: Mapping[str, str] = {"dataset": "dataset/quality_report.json", "features": "features/report.json",
                            "candidate_model": "model/training_record.json", "evaluation_report": "evaluation/report.json"}
"""Where each asset's record names the JSON that its charts are made from."""


@dataclass(frozen=True)
class StageLine:
    """One of the eight stages in the timeline of a candidate; `record` is None where the stage was not reached."""

    rule: StageRule
    record: Record | None
    word: str
    sign: str
    said: str


def timeline(one: Candidate, said: Fate) -> tuple[StageLine, ...]:
    """The eight stages in order: passed, failed, could not be computed, waiting for people, blocked, or not run; never confused."""
    lines = [_stage_line(rule, one.chain[rule.makes] if rule.makes in one.chain else None) for rule in RIVER]
    stopped = one.tip.body.outcome != "passed"
    for place, line in enumerate(lines):
        if line.record is not None or line.rule.number < rule_named(one.tip.body.stage).number:
            continue
        if line.rule.name == "pre_deployment_approval" and said.state == "waiting":
            lines[place] = replace(line, word="waiting for people", sign="open", said="waiting is no verdict: nothing is recorded")
        elif line.rule.name == "deployment" and said.state == "expired":
            lines[place] = replace(line, word="blocked, not run", said="the approval no longer stands")
        elif stopped:
            lines[place] = replace(line, word="blocked, not run", said=f"{rule_named(one.tip.body.stage).title.lower()} did not pass")
    return tuple(lines)


def _stage_line(rule: StageRule, record: Record | None) -> StageLine:
    if record is None:
        return StageLine(rule, None, "not run", "none", f"refuses if {rule.refuses}")
    reports = record.body.reports
    passed, ran = sum(map(bool, reports)), [report for report in reports if report.verdict is not Verdict.NOT_RUN]
    said = f"{passed} of {len(rule.gates)} gates passed" + (f", {len(reports) - len(ran)} not run" if len(ran) < len(reports) else "")
    word, sign = {"passed": ("passed", "pass"), "failed": ("failed", "fail"), "error": ("could not run", "fail")}[record.body.outcome]
    return StageLine(rule, record, word, sign, said if record.body.outcome != "error" else "no gate was judged")


def filed(river: River, record: Record) -> dict[str, Any] | None:
    """The JSON that a stage filed beside its output; None where it filed none."""
    name = FILED[rule_named(record.body.stage).makes] if rule_named(record.body.stage).makes in FILED else ""
    if name not in record.body.files:
        return None
    body = json.loads(river.archive.artefacts.get_bytes(Digest.parse(record.body.files[name])))
    return dict(body)


def charts_of(river: River, record: Record) -> tuple[Chart, ...]:
    """The pictures of one stage record."""
    if record.body.outcome == "error":
        return ()
    minimum = river.definition(record.body.system).system.evaluation.fairness.minimum_group
    return for_asset(rule_named(record.body.stage).makes, filed(river, record) or {}, record.body.reports, minimum_group=minimum)


def release_page(river: River, one: Candidate) -> dict[str, Any]:
    """Everything that the page of one candidate shows."""
    said = fate(river, one)
    page: dict[str, Any] = {
        "candidate": one, "fate": said, "timeline": timeline(one, said), "needed": figures(tuple(one.chain.values())),
        "release": _release(river, one), "groups": None, "curve": None, "robustness": None, "noise": None, "by_time": None,
        "drift": None, "findings": (), "integration": ()}
    if "evaluation_report" in one.chain and one.chain["evaluation_report"].body.outcome != "error":
        record = one.chain["evaluation_report"]
        report = filed(river, record) or {}
        minimum = river.definition(one.system).system.evaluation.fairness.minimum_group
        page |= {"groups": group_bars.chart(report, minimum), "curve": reliability.chart(report), "evaluation": record,
                 "robustness": bounded_bars.robustness(record.body.reports),
                 "noise": robustness_curve.chart(report), "by_time": time_slices.chart(report),
                 "drift": bounded_bars.drift(record.body.reports),
                 "findings": rows(record, incumbent=incumbent_of(river, record)), "holdout": report["rows"] if "rows" in report else None,
                 "opened": opened(record), "clusters": report["clusters"] if "clusters" in report else None}
    if "integration_report" in one.chain:
        page["integration"] = rows(one.chain["integration_report"])
    for stage in ("dataset", "features", "candidate_model"):
        if stage in one.chain and one.chain[stage].body.outcome == "failed":
            page["findings"] = rows(one.chain[stage])
    return page | _decision(river, one, said)


def incumbent_of(river: River, evaluation: Record) -> Record | None:
    """The evaluation of the model that was in production when this one was evaluated; None where nothing was, or none is on record.

    Of several the newest that passed: one that failed, perhaps under a bound that was tried later, halted before its later gates.
    """
    if "production" not in evaluation.body.references:
        return None
    model = evaluation.body.references["production"]
    found = [record for record in river.archive.find(Digest.parse(model), "input") if record.body.stage == "model_evaluation"
             and record.body.inputs["candidate_model"] == model and record.body.outcome != "error" and record.index < evaluation.index]
    passed = [record for record in found if record.body.outcome == "passed"]
    return (passed or found)[-1] if found else None


def opened(record: Record) -> str:
    """How often the holdout was looked at, as the record of this evaluation says; empty where it says nothing."""
    if "holdout_opened" not in record.body.observations:
        return ""
    said = record.body.observations["holdout_opened"]
    limit = f"of {said['limit']} declared" if isinstance(said["limit"], int) else "no limit declared"
    return f"opened {said['times']} time{'' if said['times'] == 1 else 's'}, {limit}"


def _release(river: River, one: Candidate) -> dict[str, str] | None:
    if "staged_model" not in one.chain or one.chain["staged_model"].body.outcome == "error":
        return None
    body = river.value("staged_model", Digest.parse(one.chain["staged_model"].body.output)).model_dump()
    return {"release": body["release"], "registry": f"{body['registry_name']} version {body['registry_version']}"}


def _decision(river: River, one: Candidate, said: Fate) -> dict[str, Any]:
    """Who was heard and what is asked; the commands only while the candidate is the one that people can decide about."""
    declared, heard = river.definition(one.system).system, _decisions(river, one)
    page: dict[str, Any] = {
        "exceptions": _excepted(river, one), "conditions": _conditions(river, heard),
        "document": None, "document_digest": "", "judgement": [], "decisions": heard, "subjects": {}, "commands": [],
        "missing": [],
        "authorises": authorised(declared), "undoes_itself": undoes_itself(declared), "valid_for": declared.approval.valid_for,
        "requires": [(need.role, need.people) for need in declared.approval.requires], "separation": declared.approval.separation,
        "not_counted": [], "plan_is_of": river.definition(one.system).digest,
        "launchers": sorted({record.body.launcher for record in one.chain.values()}),
        "authors": sorted({author for record in one.chain.values() for author in record.body.code.authors})}
    if said.state in ("waiting", "expired"):
        document = review_document(river, one.system)
        page |= {"document": document, "document_digest": str(digest_of(document)), "judgement": document["judgement"],
                 "subjects": document["subjects"], "missing": document["missing"], "not_counted": document["not_counted"],
                 "commands": commands(one.system, [role["role"] for role in document["missing"]])}
    elif page["decisions"]:
        page |= _was_shown(river, page["decisions"][-1]["body"].shown)
    return page


def _excepted(river: River, one: Candidate) -> list[dict[str, Any]]:
    """Every exception that was asked for about this candidate's evaluation, and where it stands now."""
    if "evaluation_report" not in one.chain:
        return []
    body = one.chain["evaluation_report"].body
    return [shown(standing(river.archive, record, river.now())) for record in river.archive.of_kind("exception", one.system)
            if not foreign(record, body.stage, body.definition, body.inputs)]


def _was_shown(river: River, digest: str) -> dict[str, Any]:
    """The document that was before the person who decided last, read back from the store; nothing where it cannot be."""
    try:
        document = parse_canonical(river.archive.artefacts.get_bytes(Digest.parse(digest)))
    except ComplianceError:
        return {}
    if not isinstance(document, dict) or "judgement" not in document:
        return {}  # signed with another program, over something that is no review document
    return {"document": document, "document_digest": digest, "judgement": document["judgement"]}


def _conditions(river: River, heard: Sequence[Mapping[str, Any]]) -> list[tuple[Condition, str]]:
    """Every condition of the approvals that stand, and how it stands: met, overdue or open."""
    records = [one["record"] for one in heard]
    revoked = taken_back(records)
    return [(one, "met" if one.met is not None else "overdue" if one.overdue(river.now()) else "open")
            for one in conditions_of(river.archive, (record for record in records if record.digest not in revoked))]


def _decisions(river: River, one: Candidate) -> list[dict[str, Any]]:
    """Everything that people signed about this candidate's model, oldest first, in their own words."""
    if not one.model or "staged_model" not in one.chain:
        return []
    counted: tuple[str, ...] = ()
    if "approval" in one.chain and one.chain["approval"].body.outcome != "error":
        counted = tuple(river.value("approval", Digest.parse(one.chain["approval"].body.output)).model_dump()["decisions"])
    staged = one.chain["staged_model"].body.output
    return [{"record": record, "counted": record.digest in counted, "body": record.body}
            for record in river.archive.decisions_on(Digest.parse(one.model), "model")
            if record.statement.subject("staged-model") == staged]


def commands(system: str, roles: Sequence[str]) -> list[dict[str, str]]:
    """The exact commands for an SSH key: one approval for each role still to be heard, then reject and defer."""
    name, end = shlex.quote(system), "--key ~/.ssh/id_ed25519 --reason 'what you looked at, in your own words'"
    each = [(role, shlex.quote(role)) for role in dict.fromkeys(roles)] or [("your role", "ROLE")]
    said = [{"does": f"Approve as {role}", "command": f"compliance approve {name} --as YOU --role {quoted} {end}"} for role, quoted in each]
    first = each[0][1]
    return [*said, {"does": "Reject", "command": f"compliance reject {name} --as YOU --role {first} {end}"},
            {"does": "Defer", "command": f"compliance defer {name} --until YYYY-MM-DD --as YOU --role {first} {end}"}]
