"""One run: everything that was recorded under its id, in order; a run is who drove, not what was decided."""

from __future__ import annotations

from typing import Any

from compliance_assets.errors import Misused
from compliance_assets.evidence import records
from compliance_assets.governance.charts.findings import plainly
from compliance_assets.governance.ledger_view import Line, line
from compliance_assets.pipeline import River
from compliance_assets.policy.river import rule_named
from compliance_assets.trust.canonical import parse_rfc3339


def run_page(river: River, run: str) -> dict[str, Any]:
    """The records of a Dagster, MLflow or CLI run, oldest first. Misused where there is none."""
    found = river.archive.find(records.run(run), "run")
    if not found:
        raise Misused(f"No record names a run {run}.", rule="run", value=run, remedy="Take one from the list of releases and runs.")
    shown: list[dict[str, Any]] = []
    for record in found:
        body = record.body
        stage = record.statement.kind == "stage"
        seconds = (parse_rfc3339(body.finished) - parse_rfc3339(body.started)).total_seconds() if stage else None
        failed = [plainly(finding, report.gate) for report in (body.reports if stage else ()) if report.verdict.value != "NOT_RUN"
                  for finding in report.failures]
        said: Line = line(record)
        shown.append({"line": said, "seconds": seconds, "failures": failed, "output": body.output if hasattr(body, "output") else None,
                      "log": body.log if stage else None, "articles": rule_named(body.stage).articles if stage else ()})
    first = found[0].body
    return {"run": run, "records": shown, "launcher": first.launcher, "system": first.system,
            "dagster_run": next((r.body.dagster_run for r in found if getattr(r.body, "dagster_run", None)), None),
            "commit": next((r.body.code for r in found if hasattr(r.body, "code")), None)}
