"""What a person's words rest on, each as one digest: when it changes, what was written about it may no longer be true.

The triggers are those that published guides name for the twelve modules (a convention, not law): the purpose for module 1, any change of
the definition for module 2, a new dataset version for module 4, each evaluation for module 5, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from compliance_assets.policy.river import rule_named
from compliance_assets.trust.canonical import digest_of

if TYPE_CHECKING:
    from compliance_assets.governance.documents.gathered import Gathered


def basis_of(gathered: Gathered, names: Iterable[str]) -> dict[str, str]:
    """The digest of each of these, as far as it is on record. A name without a record is left out, never made up."""
    found = {name: _BASES[name](gathered) for name in names}
    return {name: str(digest_of(value)) for name, value in found.items() if value is not None}


def _sections(gathered: Gathered, *paths: tuple[str, ...]) -> Any:
    """Parts of the declaration, as they were proposed."""
    if gathered.declared is None:
        return None
    found: dict[str, Any] = {}
    for path in paths:
        value: Any = gathered.declared
        for part in path:
            value = value[part] if isinstance(value, Mapping) and part in value else None
        found["/".join(path)] = value
    return found


def _output(gathered: Gathered, asset: str) -> Any:
    record = gathered.record(asset)
    return None if record is None or record.body.outcome == "error" else {asset: record.body.output}


def _model(gathered: Gathered) -> Any:
    declared = _sections(gathered, ("features",), ("training",))
    return None if declared is None or not gathered.one.model else {**declared, "model": gathered.one.model}


def _findings(gathered: Gathered, *gates: str) -> Any:
    record = gathered.record("evaluation_report")
    if record is None or record.body.outcome == "error":
        return None
    return [report.as_json() for report in record.body.reports if report.gate in gates]


def _risk(gathered: Gathered) -> Any:
    """Every refusal and exception that there was, and the bounds: what residual risk was weighed against."""
    declared = _sections(gathered, ("evaluation",))
    if declared is None:
        return None
    failed = [record for record in gathered.river.archive.stopped(gathered.one.system) if record.body.outcome == "failed"]
    refused = [str(record.digest) for record in sorted(failed, key=lambda one: (rule_named(one.body.stage).number, one.index))]
    excepted = [str(record.digest) for record in gathered.river.archive.of_kind("exception", gathered.one.system)]
    return {**declared, "refused": refused, "excepted": excepted}


def _deployment(gathered: Gathered) -> Any:
    environment = gathered.river.definition(gathered.one.system).system.deployment.environment
    return [str(record.digest) for record in gathered.river.archive.steps(environment, gathered.one.system)]


_BASES: Mapping[str, Callable[[Any], Any]] = {
    "purpose": lambda g: _sections(g, ("intended_purpose",), ("risk",), ("data", "reference_population")),
    "definition": lambda g: {"definition": str(g.one.tip.body.definition)},
    "model": _model,
    "dataset": lambda g: _output(g, "dataset"),
    "evaluation": lambda g: _output(g, "evaluation_report"),
    "metrics": lambda g: _findings(g, "performance", "fairness", "robustness", "calibration"),
    "robustness": lambda g: _findings(g, "robustness"),
    "oversight": lambda g: _sections(g, ("approval",), ("deployment", "abort_when"), ("evaluation", "decision_threshold")),
    "risk": _risk,
    "deployment": _deployment,
    "population": lambda g: _sections(g, ("data", "reference_population"), ("data", "protected"), ("features", "registry")),
    "environment": lambda g: {"environment": str(g.one.tip.body.environment)},
    "month": lambda g: {"every": "month"},
}
