"""E12 to E17, E21: which bounds, set when and by whom; what was found; what failed, what was excepted, what was left out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import partial
from typing import Any

from compliance_assets.evidence.archive import Record
from compliance_assets.governance.questions.answer import Each, Fact, Gap, Part, fact
from compliance_assets.governance.questions.seen import Facts, Seen, plain
from compliance_assets.policy.gates import Verdict
from compliance_assets.policy.river import RIVER, rule_named
from compliance_assets.trust.canonical import Digest

NO_EVALUATION = "no evaluation of this version is on record"


def thresholds(seen: Seen) -> Iterator[Part]:
    """E12."""
    proposal = seen.judged_under
    if proposal is None:
        yield Gap("the definition under which it was judged was never put on record")
        return
    digest = str(proposal.statement.subject("definition"))
    evaluated = next((one for one in seen.those(_evaluation) if one.body.definition == digest), None)
    if evaluated is not None:
        order = "before" if proposal.index < evaluated.index else "AFTER"
        yield fact("declared when", f"{proposal.body.at} by {proposal.body.proposed_by}: {order} the first evaluation under it "
                   f"(entry {evaluated.index})", proposal, digest)
    else:
        yield fact("declared when", f"{proposal.body.at} by {proposal.body.proposed_by}; nothing was evaluated under it", proposal, digest)
    yield from approved(seen, digest)
    evaluation = seen.parts(proposal)["declaration"]["evaluation"]
    families = (("performance", evaluation["performance"]), ("fairness", evaluation["fairness"]["bounds"]),
                ("robustness", evaluation["robustness"]), ("calibration", evaluation["calibration"]),
                ("drift", evaluation["drift"]["bounds"]))
    for family, bounds in families:
        for bound in bounds:
            limits = ", ".join(f"{name.replace('_', ' ')} {plain(bound[name])}" for name in ("at_least", "at_most", "between")
                               if name in bound and bound[name] is not None)
            yield fact(f"{family}: {bound['metric']}", f"{limits}, judged on {bound['judged_on']}; because {bound['because']}", proposal)


def approved(seen: Seen, definition: str) -> Iterator[Part]:
    """Who decided about a definition."""
    heard = [one for one in seen.decided("definition") if str(one.statement.subject("definition")) == definition]
    for one in heard:
        yield fact("decided about it", f"{one.body.decision} by {one.body.person} ({one.body.role}) at {one.body.issued}: "
                   f"{one.body.rationale}", one, one.body.shown)
    if not heard:
        yield Gap(f"who approved definition {definition[:12]}: nobody's decision about it is on record")


def test_reports(seen: Seen) -> Iterator[Part]:
    """E13."""
    for record in seen.chain.values():
        body = record.body
        signers = ", ".join(_signer(seen, record, signature.keyid) for signature in record.envelope.signatures)
        verdicts = ", ".join(f"{report.gate} {report.verdict.value}" for report in body.reports)
        yield fact(f"{rule_named(body.stage).title}", f"{body.finished}; signed with {signers}; {verdicts}", record, body.output)
    if not seen.chain:
        yield Gap("no report of this version is on record")


def _signer(seen: Seen, record: Record, keyid: str) -> str:
    roles = {str(key.public.keyid): f"the {key.role} key" for _, reign in seen.river.archive.reigns() for key in reign.machine_keys}
    return f"{roles[keyid]} {keyid[:12]}" if keyid in roles else keyid


def by_group(seen: Seen) -> Iterator[Part]:
    """E14."""
    if "evaluation_report" not in seen.chain:
        yield Gap(NO_EVALUATION)
        return
    record = seen.chain["evaluation_report"]
    report = seen.filed(record, "evaluation/report.json")
    if report is None:
        yield Gap("the evaluation filed no report")
        return
    digest = record.body.files["evaluation/report.json"]
    for found in report["fairness"]:
        if found["metric"].endswith(("_difference", "_ratio")):
            groups = "; ".join(f"{one['name']} {_number(one)} n {one['n']}" for one in found["groups"])
            yield fact(f"{found['metric']} over {found['over']}", f"{_number(found)}; {groups}", record, digest)
    for attribute, groups in report["groups"].items():
        for name, group in groups.items():
            for measure in group["performance"]:
                if measure["metric"] in ("accuracy", "roc_auc"):
                    yield fact(f"{measure['metric']}, {attribute}={name}", f"{_number(measure)} n {measure['n']}", record, digest)
    few = [finding for gate in record.body.reports for finding in gate.findings if finding.verdict is Verdict.INSUFFICIENT_DATA]
    for finding in few:
        yield fact("not testable", f"{finding.id}: {finding.note}", record)
    if few:
        yield Gap("compensating controls for groups that cannot be tested: nobody recorded any")


def _number(found: dict[str, Any]) -> str:
    if "value" not in found or found["value"] is None:
        return "not measured"
    whole = all(name in found and found[name] is not None for name in ("lower", "upper"))
    ends = f" [{float(found['lower']):.4g}, {float(found['upper']):.4g}]" if whole else ""
    return f"{float(found['value']):.4g}{ends}"


def against_replaced(seen: Seen) -> Iterator[Part]:
    """E15."""
    if "evaluation_report" not in seen.chain:
        yield Gap(NO_EVALUATION)
        return
    record = seen.chain["evaluation_report"]
    if "production" not in record.body.references:
        yield fact("what it replaced", "nothing: no version was in production when it was evaluated", record)
        return
    replaced = record.body.references["production"]
    yield fact("what it replaced", "the model in production when it was evaluated", record, replaced)
    for report in record.body.reports:
        for finding in report.findings:
            if report.gate == "drift" and finding.id.startswith("drift.production.") and "_change" in finding.id:
                yield fact(finding.id, f"{finding.sentence()}; {finding.verdict.value}", record)
    earlier = seen.made_from(replaced, "model_evaluation")
    before = {finding.id: finding for one in earlier[-1:] for report in one.body.reports if report.gate == "fairness"
              for finding in report.findings}
    for report in record.body.reports:
        for finding in report.findings:
            if report.gate == "fairness" and finding.id in before:
                yield fact(f"{finding.id}: now", finding.sentence(), record)
                yield fact(f"{finding.id}: of the replaced", before[finding.id].sentence(), earlier[-1])
    heard = seen.until(seen.river.archive.decisions_on(Digest.parse(record.body.output), "evaluation-report"))
    for one in heard:
        yield fact("said for it", f"{one.body.person}: {one.body.rationale}", one, one.body.shown)
    if not heard:
        yield Gap("a justification: nobody decided about it")


def refused(seen: Seen) -> Iterator[Part]:
    """E16."""
    found = seen.those(_stopped)
    yield Each(found, partial(_refused, seen))
    nothing = seen.none("nothing was refused", "no stage record of this system failed") if not found else None
    if nothing is not None:
        yield nothing


def _stopped(record: Record, facts: Facts) -> bool:
    return bool(record.body.outcome != "passed")


def _refused(seen: Seen, record: Record) -> Iterator[Fact]:
    failing = [f"{report.gate}: {'; '.join(finding.sentence() for finding in report.failures)}" for report in record.body.reports
               if not report and report.verdict is not Verdict.NOT_RUN]
    said = "; ".join(failing) if record.body.outcome == "failed" else "could not be computed"
    place = bisect_right(seen.stages, record.index, key=lambda one: one.index)
    then = "nothing was run afterwards"
    if place < len(seen.stages):
        after = seen.stages[place]
        then = f"next: entry {after.index}, {after.body.stage.replace('_', ' ')} {after.body.outcome}, launched by {after.body.launcher}"
    yield fact(f"{rule_named(record.body.stage).title}, {record.body.finished}", f"{said}; {then}", record, record.body.output)


def exceptions(seen: Seen) -> Iterator[Part]:
    """E17."""
    granted = seen.until(seen.river.archive.of_kind("exception", seen.system))
    for record in granted:
        body = record.body.model_dump(mode="json")
        yield fact("exception", plain({name: value for name, value in body.items() if value not in ("", None, [], {})}), record)
    for record in seen.chain.values():
        bent = [report.gate for report in record.body.reports if not report]
        yield fact(f"gates of {record.body.stage.replace('_', ' ')}",
                   f"{len(record.body.reports) - len(bent)} of {len(record.body.reports)} may be passed"
                   + (f"; not: {', '.join(bent)}" if bent else ""), record)
    nothing = seen.none("overridden", "no exception of this system is on record") if not granted else None
    if nothing is not None:
        yield nothing


def order(seen: Seen) -> Iterator[Part]:
    """E21."""
    before = -1
    for rule in RIVER:
        if rule.makes not in seen.chain:
            if rule.name != "deployment" or not any(one.body.action == "full_rollout" for one in seen.steps):
                yield Gap(f"{rule.title}: no record of this version")
            continue
        record = seen.chain[rule.makes]
        named = [(report.gate, report.version) for report in record.body.reports]
        exact = named == [(gate.name, gate.version) for gate in rule.gates]
        skipped = [report.gate for report in record.body.reports if report.verdict is Verdict.NOT_RUN]
        gates = "exactly the gates of today's river" if exact else f"gates {', '.join(f'{name} {version}' for name, version in named)}"
        left_out = f"; not run: {', '.join(skipped)}" if skipped else ""
        yield fact(rule.title, f"{'after' if record.index > before else 'BEFORE'} the stage before it; {gates}{left_out}; "
                   f"inputs {', '.join(sorted(record.body.inputs)) or 'none'}", record, record.body.output)
        before = record.index
    yield Each(seen.those(_not_in_force), _unapproved)


def _not_in_force(record: Record, facts: Facts) -> bool:
    return not record.body.definition_in_force


def _unapproved(one: Record) -> Iterator[Fact]:
    yield fact("under a definition that was not in force", f"{one.body.stage.replace('_', ' ')}, {one.body.finished}", one,
               one.body.definition)


def _evaluation(record: Record, facts: Facts) -> bool:
    return bool(record.body.stage == "model_evaluation")
