"""Shows what a stage came to: an outcome as a Dagster output, its gates as check results, both with links to the evidence.

What Dagster keeps is a view and can be edited or deleted; so every result says which digest was judged and where the signed
record stands in the ledger. Numbers are floats, so that Dagster plots their history; findings are a table.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from compliance_assets.governance.charts import findings, for_asset
from compliance_assets.pipeline import Advance, River
from compliance_assets.policy.gates import Finding, GateReport, Verdict
from compliance_assets.trust.canonical import Digest

_MOST_NUMBERS = 40
Metadata = dict[str, dg.MetadataValue]


def _float(text: object) -> float | None:
    try:
        return float(text) if isinstance(text, str | int | float) and not isinstance(text, bool) else None
    except ValueError:
        return None


PAGES_URL = "COMPLIANCE_PAGES_URL"
"""Set by `compliance up`: where the governance pages answer."""


def _evidence(outcome: Advance) -> Metadata:
    return _pages(outcome) | {
        "evaluated_digest": dg.MetadataValue.text(str(outcome.digest)),
        "evidence": dg.MetadataValue.text(f"ledger entry {outcome.record_index}, statement {outcome.record_digest}"),
        "ledger_index": dg.MetadataValue.int(outcome.record_index),
    }


def _pages(outcome: Advance) -> Metadata:
    """Links to the pages that show this very record, where there are such pages."""
    if PAGES_URL not in os.environ:
        return {}
    at = os.environ[PAGES_URL]
    return {"review": dg.MetadataValue.url(f"{at}/systems/{outcome.value.system}/candidates/{outcome.record_index}"),
            "record": dg.MetadataValue.url(f"{at}/ledger/{outcome.record_index}")}


def _findings(report: GateReport) -> dg.MetadataValue:
    columns = ("id", "verdict", "value", "lower", "upper", "comparator", "bound", "judged_on", "n", "because", "note")
    records = [dg.TableRecord({name: _cell(finding, name) for name in columns}) for finding in report.findings]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name, "string") for name in columns]))


def _cell(finding: Finding, name: str) -> str:
    value = getattr(finding, name)
    return "" if value is None else value.value if isinstance(value, Verdict) else str(value)


def _deciding(report: GateReport) -> Finding | None:
    """The finding whose number stands for the gate: the first that failed, or else the first, of those that have a number."""
    numeric = [finding for finding in report.findings if _float(finding.value) is not None and _float(finding.bound) is not None]
    return next((finding for finding in numeric if not finding), numeric[0] if numeric else None)


def _said(report: GateReport) -> str:
    if report.verdict is Verdict.NOT_RUN:
        return f"NOT RUN ({report.findings[0].note}): this gate was not judged, so it is not passed."
    if report:
        return f"{report.verdict.value}: {len(report.findings)} findings."
    return f"{report.verdict.value}: " + "; ".join(finding.sentence() for finding in report.failures)


def check_results(outcome: Advance) -> Iterator[dg.AssetCheckResult]:
    """One result for each gate, in river order. A gate that was not run is a failed result that says so."""
    for report in outcome.reports:
        metadata = {**_evidence(outcome), "verdict": dg.MetadataValue.text(report.verdict.value), "findings": _findings(report)}
        deciding = _deciding(report)
        if deciding is not None:
            metadata["finding"] = dg.MetadataValue.text(deciding.id)
            metadata |= {name: dg.MetadataValue.float(number) for name, number in
                         (("value", _float(deciding.value)), ("threshold", _float(deciding.bound)),
                          ("lower", _float(deciding.lower)), ("upper", _float(deciding.upper))) if number is not None}
            drawn = findings.chart((report,))
            metadata["plot"] = dg.MetadataValue.md(f"{drawn.markdown}\n\n{drawn.markdown_table}")
        exception = outcome.excepted.get(report.gate)
        if exception is not None:
            metadata["exception"] = dg.MetadataValue.text(exception)
        # A failed check of a blocking spec holds back what comes after, unless it is a warning: failed, and excepted by people.
        yield dg.AssetCheckResult(
            check_name=report.gate, passed=bool(report), metadata=metadata,
            severity=dg.AssetCheckSeverity.ERROR if exception is None else dg.AssetCheckSeverity.WARN,
            description=_said(report) + (f" Goes on under exception {exception[:12]}." if exception is not None else ""))


def _numbers(observations: Mapping[str, Any]) -> Metadata:
    """Observations that are numbers (decimal strings in the record), one level deep, as floats."""
    found: Metadata = {}
    for name, value in observations.items():
        inner = value.items() if isinstance(value, Mapping) else ((None, value),)
        for key, item in inner:
            number = _float(item)
            if number is not None and len(found) < _MOST_NUMBERS:
                found[f"observed/{name}/{key}" if key else f"observed/{name}"] = dg.MetadataValue.float(number)
    return found


REPORTS: Mapping[str, str] = {"dataset": "quality_report", "features": "report", "candidate_model": "record",
                              "evaluation_report": "report"}
"""Where each value names the JSON that its charts are made from; the other assets have only their gates."""


def _charts(river: River, system: str, outcome: Advance) -> Metadata:
    """What the stage measured, as pictures that Dagster shows inline, each with a table of the same numbers."""
    asset = outcome.stage.makes
    filed: Mapping[str, Any] = {}
    if asset in REPORTS:
        digest = Digest.parse(getattr(outcome.value, REPORTS[asset]))
        filed = json.loads(river.archive.artefacts.get_bytes(digest))
    minimum = river.definition(system).system.evaluation.fairness.minimum_group
    found: Metadata = {}
    for chart in for_asset(asset, filed, outcome.reports, minimum_group=minimum):
        found[f"chart/{chart.name}"] = dg.MetadataValue.md(f"{chart.markdown}\n\n{chart.markdown_table}")
    return found


def output(river: River, system: str, outcome: Advance) -> dg.Output[str]:
    """What passed, as Dagster may show it: the digest is the data version, the bytes stay in the artefact store."""
    files = [dg.TableRecord({"artefact": role, "sha256": str(digest)}) for role, digest in outcome.value.files().items()]
    metadata: Metadata = {
        **_evidence(outcome),
        "release_gates": dg.MetadataValue.text(", ".join(f"{report.gate} {report.verdict.value}" for report in outcome.reports)),
        "seconds": dg.MetadataValue.float(round(outcome.seconds, 3)),
        "reused": dg.MetadataValue.bool(outcome.reused),
        "declaration": dg.MetadataValue.path(str(river.definition(system).folder / "system.yaml")),
        "look_closer": dg.MetadataValue.text(f"compliance trace {outcome.digest}"),
        **_numbers(outcome.observations),
    }
    if files:
        metadata["artefacts"] = dg.MetadataValue.table(files)
    metadata |= {f"registry/{name}": dg.MetadataValue.text(value) for name, value in outcome.published.items()}
    metadata |= _charts(river, system, outcome)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # `data_version` is beta in Dagster 1.13; a test reads it back
        return dg.Output(str(outcome.digest), metadata=metadata, data_version=dg.DataVersion(str(outcome.digest)))
