"""Passages that several documents share: tables and lines about gates, groups, features, libraries, deployments; each from its record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from compliance_assets.errors import ArtefactCorrupt
from compliance_assets.evidence import exceptions, records
from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.records import DefinitionProposed
from compliance_assets.governance.charts.findings import plainly
from compliance_assets.governance.charts.reading import between, field, group_words, shown, verdict_word, words
from compliance_assets.governance.documents import in_words
from compliance_assets.governance.documents.gathered import Gathered, lines_or_gaps
from compliance_assets.governance.documents.human_parts import Part, spoken
from compliance_assets.governance.documents.paper import Fill, Gap, Grid, Line, Point, Words
from compliance_assets.governance.finding_rows import rows
from compliance_assets.governance.runbook.log import lines as entries_of
from compliance_assets.governance.runbook.log import logs
from compliance_assets.policy.river import RIVER, rule_named
from compliance_assets.trust.canonical import Digest, parse_canonical

FILLS: Mapping[str, Fill] = {"●": "evidence", "◐": "partly", "○": "people"}
COMPARED = ("accuracy", "precision", "recall", "specificity", "roc_auc")


class Writer:
    """Makes points: what evidence says, the parts that people signed, and a gap for each thing that neither has."""

    def __init__(self, gathered: Gathered, standing: Mapping[str, Part]) -> None:
        self.g, self.standing = gathered, standing

    def point(self, number: str, asks: str, fill: str, wanted: Mapping[str, Line | None] | None = None, lines: Iterable[Line] = (),
              grids: Iterable[Grid | None] = (), parts: Sequence[str] = (), stale: Sequence[str] = ()) -> Point:
        """`wanted`: lines that must be there or leave a gap; `lines`: as many as there are; `parts`: names of human parts."""
        there, missing = lines_or_gaps(number, wanted or {})
        said = [spoken(self.g, self.standing, part, number) for part in parts]
        return Point(number, asks, FILLS[fill], (*there, *lines), tuple(grid for grid in grids if grid is not None),
                     tuple(one for one in said if isinstance(one, Words)),
                     (*missing, *(one for one in said if isinstance(one, Gap))), tuple(stale))


def stage_lines(g: Gathered, stages: Sequence[str] = ()) -> Iterator[Line]:
    """Each stage record as one line: what it came to, when, by whom, under which signatures."""
    for rule in RIVER:
        record = g.record(rule.makes)
        if record is None or (stages and rule.name not in stages):
            continue
        body = record.body
        verdicts = in_words.gates(report.verdict for report in body.reports)
        yield Line(rule.title, f"{body.outcome}; {verdicts}; begun {in_words.when(body.started)}, ended {in_words.when(body.finished)}; "
                   f"launched by {body.launcher} in run {body.run}; signed with the keys {signers(record)}", g.from_record(record))


def signers(record: Record) -> str:
    """The key ids on a record, shortened."""
    return ", ".join(signature.keyid[:16] for signature in record.envelope.signatures)


def findings(g: Gathered, asset: str, caption: str, gates: Sequence[str] = ()) -> Grid | None:
    """Every finding of a stage (of these gates), against its declared bound."""
    record = g.record(asset)
    if record is None or record.body.outcome == "error":
        return None
    found = tuple((group_words(row.gate), row.what, row.over, row.note if row.value == "not measured" and row.note else row.value,
                   row.interval, row.n, row.bound, row.word) for row in rows(record, gates))
    head = ("gate", "what", "over", "value", "95 % interval", "n", "bound", "verdict")
    return Grid(caption, head, found, g.from_record(record)) if found else None


def for_everybody(g: Gathered) -> Grid | None:
    """What was measured over all rows of the holdout."""
    if "evaluation_report" not in g.filed or "performance" not in g.filed["evaluation_report"]:
        return None
    measured = tuple((words(one["metric"]), shown(field(one, "value")), between(field(one, "lower"), field(one, "upper")),
                      in_words.counted(one["n"]))
                     for one in g.filed["evaluation_report"]["performance"])
    return Grid("Measured over all rows of the holdout", ("metric", "value", "95 % interval", "n"), measured,
                g.from_file("evaluation_report"))


def for_groups(g: Gathered, metrics: Sequence[str] = COMPARED) -> Iterator[Grid]:
    """What was measured within each protected group and intersection, with its number of rows."""
    if "evaluation_report" not in g.filed or "groups" not in g.filed["evaluation_report"]:
        return
    for over, groups in g.filed["evaluation_report"]["groups"].items():
        lines = tuple((group_words(name), shown(field(group, "rows")), words(one["metric"]), shown(field(one, "value")),
                       between(field(one, "lower"), field(one, "upper"))) for name, group in groups.items()
                      for one in group["performance"] if one["metric"] in metrics)
        if lines:
            yield Grid(f"By {group_words(over)}", ("group", "n", "metric", "value", "95 % interval"), lines,
                       g.from_file("evaluation_report"))


def bounds(g: Gathered) -> Grid | None:
    """Every declared bound of the evaluation, with the moment at which it was put on record."""
    if g.declared is None or g.proposal is None:
        return None
    caption = f"Bounds of the evaluation, each with its reason; on record since {in_words.when(g.proposal.body.at)}"
    evaluation = g.declared["evaluation"]
    lines = tuple((gate, words(bound["metric"]), _over(bound), in_words.bound(bound),
                   bound["judged_on"] if bound["judged_on"] == "point" else f"{bound['judged_on']} end", bound["because"])
                  for gate, found in (("performance", evaluation["performance"]), ("fairness", evaluation["fairness"]["bounds"]),
                                      ("robustness", evaluation["robustness"]), ("calibration", evaluation["calibration"]),
                                      ("drift", evaluation["drift"]["bounds"])) for bound in found)
    head = ("gate", "metric", "over", "bound", "judged on", "because")
    return Grid(caption, head, lines, g.from_declaration()) if lines else None


def _over(bound: Mapping[str, Any]) -> str:
    """Over whom a bound is, and of a disturbance how strong it is."""
    level = f", at {bound['level']}" if "level" in bound and bound["level"] is not None else ""
    return (", ".join(map(group_words, bound["over"])) or "all rows") + level


def features(g: Gathered) -> Grid | None:
    """The feature registry, as it was declared."""
    if g.declared is None:
        return None
    lines = tuple((one["name"], one["dtype"], in_words.plain(one["unit"]), in_words.span(one["range"]) if one["range"] is not None
                   else in_words.plain(one["categories"]) if one["categories"] is not None else "not bounded",
                   in_words.plain(one["from"]), _MISSING[one["nulls"]]) for one in g.declared["features"]["registry"])
    return Grid("Features: type, unit, documented range, source columns, what happens to a missing value",
                ("feature", "type", "unit", "range or categories", "made from", "missing"), lines, g.from_declaration())


_MISSING: Mapping[str, str] = {"refuse": "refused", "allow": "allowed"}


def assessed_proxies(g: Gathered) -> Grid | None:
    """Features that may stand in for a protected attribute, and the declared reason why they stay."""
    if g.declared is None:
        return None
    lines = tuple((one["name"], one["proxy"]["note"]) for one in g.declared["features"]["registry"] if one["proxy"] is not None)
    return Grid("Features that may stand in for a protected attribute, as assessed", ("feature", "assessment"), lines,
                g.from_declaration()) if lines else None


def input_columns(g: Gathered) -> Grid | None:
    """What the data contract expects of each column, as it was checked."""
    if "dataset" not in g.filed:
        return None
    results = g.filed["dataset"]["contract"]["results"]
    lines = tuple((str(one["kwargs"]["column"]) if "column" in one["kwargs"] else "the table", in_words.expected(one["type"]),
                   in_words.limits(one["kwargs"]), in_words.found(one), "held" if one["success"] else "did not hold",
                   in_words.plain(one["meta"]["because"]) if "because" in one["meta"] else "") for one in results)
    head = ("column", "expectation", "limits", "found", "result", "because")
    return Grid("Expectations of the data contract, as they were checked", head, lines, g.from_file("dataset"))


def checks_of_data(g: Gathered) -> Grid | None:
    """What the gates of the data found, beyond the contract, whose expectations have a table of their own."""
    record = g.record("dataset")
    gates = [report.gate for report in record.body.reports if report.gate != "contract"] if record is not None else []
    return findings(g, "dataset", "Gates of the data, beyond its contract", gates) if gates else None


def groups_in_data(g: Gathered) -> Grid | None:
    """How many rows each protected group has."""
    if "dataset" not in g.filed:
        return None
    found = g.filed["dataset"]["preparation"]["after"]["groups"]
    lines = tuple((group_words(attribute), group_words(name), in_words.counted(rows_of)) for attribute, groups in found.items()
                  if isinstance(groups, Mapping) for name, rows_of in sorted(groups.items()))
    return Grid("Rows of each group", ("attribute", "group", "rows"), lines, g.from_file("dataset")) if lines else None


def splits(g: Gathered) -> Grid | None:
    """The parts of the dataset, each with its digest."""
    record = g.record("dataset")
    if record is None or record.body.outcome == "error":
        return None
    value = g.made("dataset", Digest.parse(record.body.output))
    lines = tuple((name, in_words.counted(one["rows"]), one["logical"], one["file"]) for name, one in value["splits"].items())
    return Grid("Parts of the dataset", ("part", "rows", "digest of its rows", "sha256 of its file"), lines,
                g.from_record(record, str(record.body.output)))


def libraries(g: Gathered) -> Grid | None:
    """Python, platform and every library with its version, as recorded when the model was trained."""
    record = g.record("candidate_model")
    if record is None:
        return None
    try:
        said = parse_canonical(g.river.archive.artefacts.get_bytes(Digest.parse(record.body.environment)))
    except ArtefactCorrupt:
        return None
    packages = [tuple(one.split("==", 1)) for one in said["libraries"]]
    return Grid("Python, platform and libraries in the recorded environment", ("name", "version"),
                (("Python", said["python"]), ("platform", said["platform"]), ("lock, sha256", said["lock"]),
                 *((name, version) for name, version in packages)), g.from_record(record, str(record.body.environment)))


def deployments(g: Gathered, limit: int = 200) -> Iterator[Line]:
    """The newest steps that were recorded about this system in the environment it is deployed to, and how many went before them."""
    if g.declared is None:
        return
    steps = g.river.archive.steps(str(g.declared["deployment"]["environment"]), g.one.system)
    if len(steps) > limit:
        yield Line("earlier steps", f"{len(steps) - limit} more since {in_words.when(steps[0].body.at)}, all in the ledger; "
                   f"the newest {limit} follow", g.from_record(steps[0]))
    for record in steps[-limit:]:
        body = record.body
        why = f"; because: {body.reason}" if body.reason else ""
        what = "rollout announced" if body.action == "intent" else body.action.replace("_", " ")
        yield Line(what, f"{in_words.when(body.at)} in {body.environment}; release {body.release[:12]}, model {body.model[:12]}, "
                   f"which answers {in_words.share(body.share)} of the requests{why}", g.from_record(record))


_DECIDED: Mapping[str, str] = {"approve": "approved", "reject": "rejected", "defer": "put off", "revoke": "decision taken back"}


def definitions(g: Gathered) -> Iterator[Line]:
    """Every definition of this system that was proposed, and what people decided about it."""
    archive = g.river.archive
    for proposal in archive.find(records.of_system(g.one.system), "definition-of"):
        digest = proposal.statement.subject("definition")
        if not isinstance(proposal.body, DefinitionProposed) or digest is None:
            continue
        before = f"after {proposal.body.previous[:12]}" if proposal.body.previous else "the first"
        yield Line("definition proposed", f"{digest[:12]} on {in_words.when(proposal.body.at)} by {proposal.body.proposed_by}, {before}",
                   g.from_record(proposal, str(proposal.body.parts)))
        for decision in archive.decided("definition", g.one.system):
            if decision.statement.subject("definition") == digest:
                yield Line(f"definition {_DECIDED[decision.body.decision]}", f"{digest[:12]} on {in_words.when(decision.body.issued)} by "
                           f"{decision.body.person} ({group_words(decision.body.role)}): {decision.body.rationale}",
                           g.from_record(decision))


def approvals(g: Gathered) -> Iterator[Line]:
    """What people decided about this release, in their own words."""
    if not g.one.model or "staged_model" not in g.one.chain:
        return
    staged = g.one.chain["staged_model"].body.output
    for record in g.river.archive.decisions_on(Digest.parse(g.one.model), "model"):
        if record.statement.kind == "decision" and record.statement.subject("staged-model") == staged:
            body = record.body
            under = f" Conditions: {'; '.join(map(str, body.conditions))}." if body.conditions else ""
            yield Line(f"release {_DECIDED[body.decision]}", f"{in_words.when(body.issued)} by {body.person} ({group_words(body.role)}): "
                       f"{body.rationale}{under}", g.from_record(record))


def refusals(g: Gathered, limit: int = 20) -> Iterator[Line]:
    """What gates refused of this system, newest first, with the finding that decided."""
    failed = (record for record in reversed(g.river.archive.stopped(g.one.system)) if record.body.outcome == "failed")
    for record in islice(failed, limit):
        said = [plainly(finding, report.gate) for report in record.body.reports if report.verdict.value != "NOT_RUN"
                for finding in report.failures]
        yield Line(f"refused at {rule_named(record.body.stage).title.lower()}", f"{in_words.when(record.body.finished)}: "
                   f"{'; '.join(said[:3])}", g.from_record(record))


def excepted(g: Gathered) -> Iterator[Line]:
    """Every exception that was asked for, until when, and whether it counts now; the failed verdict stands beside it."""
    for record in g.river.archive.of_kind("exception", g.one.system):
        body, now = record.body, exceptions.standing(g.river.archive, record, g.river.now())
        by = ", ".join(f"{person} ({role})" for person, role in now.approvers)
        counts = f"counts; approved by {by}" if now else f"does not count: {now.why}"
        yield Line(f"exception to gate {body.gate}", f"asked for by {body.requested_by}, severity {body.severity}, until "
                   f"{in_words.when(body.expires)}: "
                   f"{body.reason} Compensating: {'; '.join(body.compensating)}. Remediation: {body.remediation} It {counts}.",
                   g.from_record(record))


def small_groups(g: Gathered) -> Iterator[Line]:
    """Findings that could not be judged because too few rows were there."""
    for record in g.one.chain.values():
        for report in record.body.reports:
            for finding in report.findings:
                if finding.verdict.value in ("INSUFFICIENT_DATA", "INCONCLUSIVE"):
                    yield Line(f"{group_words(report.gate)}: {verdict_word(finding.verdict)}", plainly(finding, report.gate),
                               g.from_record(record))


def by_hand(g: Gathered) -> Iterator[Line]:
    """The manual execution log: every entry of every runbook log of this system, with its deviations."""
    for log in logs(g.river, g.one.system)[0]:
        for entry, sentence in entries_of(log):
            more = "".join(f"; deviation: {deviation}" for deviation in entry.said["deviations"])
            yield Line(f"by hand: {entry.kind}", f"{in_words.when(entry.said['recorded'])}: {sentence}{more}",
                       g.from_record(entry.record, str(entry.record.body.shown)))


def gates_of_definition(g: Gathered) -> Grid | None:
    """The stages and gates of the definition that this candidate was judged under."""
    if g.parts is None:
        return None
    lines = tuple((str(stage["number"]), stage["title"], group_words(stage["makes"]), group_words(gate["name"]), str(gate["version"]),
                   gate["asks"], ", ".join(gate["articles"])) for stage in g.parts["river"] for gate in stage["gates"])
    return Grid("Stages and gates, in order, of the definition it was judged under",
                ("stage", "title", "makes", "gate", "version", "asks", "supports"), lines, g.from_declaration())


def code_files(g: Gathered) -> Grid | None:
    """Every file that the definition covers, with its digest."""
    if g.parts is None:
        return None
    files = tuple(sorted((name, str(digest)) for name, digest in g.parts["code"].items()))
    return Grid("Code that the definition covers", ("file", "sha256"), files, g.from_declaration())


ATTACKS = ("adversarial_success_rate", "membership_inference_auc")
"""Metrics of the robustness gate that try what somebody with bad intent would (Art. 15(5)); the others disturb without intent."""


def attacks(g: Gathered) -> Line | None:
    """What the tests against attacks found; None where none was declared, or none has run."""
    record = g.record("evaluation_report")
    if record is None or record.body.outcome == "error":
        return None
    found = [finding for report in record.body.reports if report.gate == "robustness" for finding in report.findings
             if any(metric in finding.id for metric in ATTACKS)]
    said = "; ".join(plainly(finding, "robustness") for finding in found)
    return Line("Tests against attacks", said, g.from_record(record)) if found else None


def became(g: Gathered) -> Line:
    """What became of the candidate, in the words of the records, their moments written for people."""
    return Line("What became of it", in_words.moments(g.fate.sentence), g.at(g.fate.said_by))


