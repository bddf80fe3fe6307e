"""Where the twelve modules of an AI System Documentation Package stand: what feeds each, how old it is, and why it is stale.

The modules are those of a published guide (convention, keyed by number because titles differ between its pages), not of the law. A module
is stale when it rests on evidence that a newer execution has superseded, when evidence is older than 60 days, when the definition on
record is not the one in force (module 2), or when a person's words were written about something that has changed since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

from compliance_assets.evidence.archive import Record
from compliance_assets.governance.charts.reading import words
from compliance_assets.governance.documents import in_words
from compliance_assets.governance.documents import passages as say
from compliance_assets.governance.documents.annex_iv import THRESHOLD
from compliance_assets.governance.documents.gathered import Gathered, release_of
from compliance_assets.governance.documents.human_parts import OLD, Part
from compliance_assets.governance.documents.paper import Line, Point
from compliance_assets.trust.canonical import parse_rfc3339

TITLE = "Status of the twelve AISDP modules"
BASIS = "twelve modules and staleness rules of a published guide (convention, not law); Art. 11(1) asks for documentation kept up to date"

RESTS_ON: Mapping[str, tuple[str, ...]] = {
    "1": ("staged_model", "candidate_model"), "2": (), "3": ("candidate_model", "features"), "4": ("dataset", "features"),
    "5": ("evaluation_report", "integration_report"), "6": ("evaluation_report",), "7": ("evaluation_report",),
    "8": ("evaluation_report",), "9": ("evaluation_report", "candidate_model"), "10": ("approval", "deployment_record", "staged_model"),
    "11": ("dataset", "features"), "12": ("deployment_record",),
}
"""Whose records each module is read from: a newer record of one of them supersedes what the module says."""
_ASKS = {
    "1": "system description and intended purpose", "2": "development process", "3": "model: architecture and design",
    "4": "data governance and dataset documentation", "5": "testing and validation", "6": "risk management system", "7": "human oversight",
    "8": "transparency and information for deployers", "9": "robustness and cybersecurity",
    "10": "version control, change management, records", "11": "fundamental rights impact",
    "12": "post-market monitoring and change history",
}


def points(g: Gathered, standing: Mapping[str, Part]) -> tuple[Point, ...]:
    """The twelve modules in order."""
    write = say.Writer(g, standing)
    made = (*_first(g, write), *_last(g, write))
    return tuple(replace(point, stale=(*point.stale, *stale_reasons(g, point.number.removeprefix("Module ")))) for point in made)


def stale_reasons(g: Gathered, module: str) -> tuple[str, ...]:
    """Why what a module says may no longer hold, read from records."""
    return (*_superseded(g, RESTS_ON[module]), *_old(g, RESTS_ON[module]), *(_definition(g) if module == "2" else ()))


def _superseded(g: Gathered, assets: Sequence[str]) -> Iterator[str]:
    for asset in assets:
        record = g.record(asset)
        newer = _newer(g, record) if record is not None else None
        if record is not None and newer is not None:
            yield (f"{asset.replace('_', ' ')} #{record.index} is superseded: a newer execution {newer.body.outcome} at "
                   f"{in_words.when(newer.body.finished)} (#{newer.index})")


def _newer(g: Gathered, record: Record) -> Record | None:
    """The newest execution of the same stage after it that made something else."""
    made = reversed(g.river.archive.made_by(g.one.system, record.body.stage))
    since = takewhile(lambda one: one.index > record.index, made)
    return next((one for one in since if one.body.output != record.body.output), None)


def _old(g: Gathered, assets: Sequence[str]) -> Iterator[str]:
    for asset in assets:
        record = g.record(asset)
        if record is not None and (age := g.river.now() - parse_rfc3339(record.body.finished)) > OLD:
            yield f"{asset.replace('_', ' ')} #{record.index} is {age.days} days old, more than {OLD.days} (convention)"


def _definition(g: Gathered) -> Iterator[str]:
    judged, force = str(g.one.tip.body.definition), g.river.archive.definition_in_force(g.one.system)
    if force is None or judged != force:
        yield f"judged under definition {judged[:12]}; in force is {force[:12] if force is not None else 'none'}"
    if g.river.definition(g.one.system).digest != judged:
        yield f"the definition on disk is another one ({g.river.definition(g.one.system).digest[:12]})"


def _artefacts(g: Gathered, module: str) -> Iterator[Line]:
    """The evidence register of a module: each record with its age."""
    for asset in RESTS_ON[module]:
        record = g.record(asset)
        if record is not None:
            yield Line(f"Evidence: {asset.replace('_', ' ')}", f"{record.body.output}; {record.body.outcome}, "
                       f"ended {in_words.when(record.body.finished)}", g.from_record(record, str(record.body.output)))


def _module(g: Gathered, write: say.Writer, number: str, fill: str, wanted: Mapping[str, Line | None], lines: Sequence[Line] = ()) -> Point:
    return write.point(f"Module {number}", _ASKS[number], fill, wanted, (*_artefacts(g, number), *lines), parts=[f"aisdp/{number}"])


def _first(g: Gathered, write: say.Writer) -> tuple[Point, ...]:
    staged = g.record("staged_model")
    release = release_of(g.river, g.one)
    return (
        _module(g, write, "1", "◐", {
            "Reference": g.said("Reference of the package", "aisdp", "reference"),
            "Purpose": g.said("Intended purpose", "intended_purpose"), "Provider": g.said("Provider", "provider"),
            "Release": Line("Release", release, g.from_record(staged, str(staged.body.output))) if release and staged else None,
        }, [say.became(g)]),
        _module(g, write, "2", "◐", {"Definition": g.stated("dataset", "Definition it was judged under", "definition"),
                                     "File": g.said("Declared place of the module's text (not read here)", "aisdp", "module_2")},
                list(say.definitions(g))),
        _module(g, write, "3", "◐", {"Kind": g.output("candidate_model", "Kind of model", "estimator"),
                                     "Hyperparameters": g.reported("candidate_model", "Hyperparameters", "hyperparameters"),
                                     "Features": g.output("candidate_model", "Features", "feature_names"),
                                     "Rationale": g.said("Why this kind of model", "training", "rationale")}),
        _module(g, write, "4", "◐", {"Rows": g.output("dataset", "Rows", "rows", by=in_words.counted),
                                     "Source": g.output("dataset", "Raw source, sha256", "source"),
                                     "Represents": g.verdict("dataset", "representativeness"),
                                     "Contract": g.verdict("dataset", "contract"),
                                     "Proxies": g.verdict("features", "proxies")}),
        _module(g, write, "5", "◐", {gate: g.verdict("evaluation_report", gate)
                                     for gate in ("performance", "fairness", "robustness", "calibration", "drift")},
                [*say.stage_lines(g, ("model_evaluation", "integration_testing")), *say.by_hand(g)]),
        _module(g, write, "6", "◐", {"Fairness bounds": g.said("Fairness criterion that counts most", "evaluation", "fairness", "primary",
                                                            by=words)},
                [*say.refusals(g), *say.excepted(g)]),
    )


def _last(g: Gathered, write: say.Writer) -> tuple[Point, ...]:
    return (
        _module(g, write, "7", "○", {"Approvals": g.said("Who approves a release", "approval", "requires", by=in_words.approvers)},
                list(say.approvals(g))),
        _module(g, write, "8", "◐", {"Decision threshold": g.said(THRESHOLD, "evaluation", "decision_threshold"),
                                     "Calibration": g.verdict("evaluation_report", "calibration")}),
        _module(g, write, "9", "◐", {"Robustness": g.verdict("evaluation_report", "robustness"),
                                     "Storage": g.verdict("candidate_model", "storage"),
                                     "Integrity": g.verdict("staged_model", "integrity")}),
        _module(g, write, "10", "◐", {"Kept for": g.said("Kept for", "retention", by=in_words.retention),
                                      "Registry": g.output("staged_model", "Version in the registry", "registry_version")},
                list(say.deployments(g))),
        _module(g, write, "11", "○", {"Population": g.said("Declared population", "data", "reference_population", by=in_words.population),
                                      "Groups": g.said("Protected attributes", "data", "protected")}),
        _module(g, write, "12", "◐", {"Drift that starts a run": g.said("Drift that starts a run", "retraining", "on_drift",
                                                                    by=in_words.drift_rule)},
                list(say.deployments(g))),
    )


