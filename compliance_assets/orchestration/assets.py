"""A declared system as eight assets, each with its gates as blocking checks on itself.

Key `[system, asset]`, group = system, so that a system is a row of eight boxes. Gates are `check_specs` of a plain asset:
those cannot be deselected, and a result that is missing fails the step. The output is published only after every gate has
passed; it is yielded first and the results after it, so that Dagster attributes them to the right materialisation. If a gate
fails, the results are yielded and the step fails without a retry: Dagster shows *Failed*, never *Materialized*.
"""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` with the class itself.

import re
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import dagster as dg

from compliance_assets.orchestration.io import DigestsOnly
from compliance_assets.orchestration.jobs import jobs_of, schedules_of
from compliance_assets.orchestration.reconciling import reconciliation_sensor
from compliance_assets.orchestration.refusing import refuse
from compliance_assets.orchestration.resources import driver_of, opened, tag_run
from compliance_assets.orchestration.sensors import sensors_of
from compliance_assets.orchestration.showing import check_results, output
from compliance_assets.orchestration.watching import monitor_of, watch_job, watching_sensors
from compliance_assets.pipeline import Advance, advance
from compliance_assets.policy.definition import Definition, load_definition
from compliance_assets.policy.river import RIVER, StageRule
from compliance_assets.stages import MODULES
from compliance_assets.trust.canonical import Digest

KINDS: dict[str, frozenset[str]] = {
    "dataset": frozenset({"polars", "parquet", "great_expectations"}),
    "features": frozenset({"polars", "parquet"}),
    "candidate_model": frozenset({"scikitlearn", "mlflow"}),
    "evaluation_report": frozenset({"scikitlearn", "report"}),
    "staged_model": frozenset({"mlflow"}),
    "integration_report": frozenset({"http", "report"}),
    "approval": frozenset({"people"}),
    "deployment_record": frozenset({"http"}),
}


def system_definitions(folder: Path) -> dg.Definitions:
    """Everything that Dagster needs for the system declared in `folder` (systems/<name>): assets, jobs, schedule, sensors.

    Raises `DeclarationError`, with file and line of every problem, for a declaration that cannot be read.
    """
    definition = load_definition(folder)
    made = build_system_assets(definition)
    jobs = jobs_of(definition)
    watch = watch_job(definition)
    return dg.Definitions(assets=[*made, monitor_of(definition)], jobs=[*jobs.every, watch], schedules=schedules_of(definition, jobs),
                          sensors=[*sensors_of(definition, jobs), *watching_sensors(definition, jobs, watch),
                                   reconciliation_sensor(definition)])


def build_system_assets(definition: Definition) -> list[dg.AssetsDefinition]:
    """The eight assets of a system, in river order."""
    between = DigestsOnly(definition.root)
    with warnings.catch_warnings():
        # Code references and `io_manager_def` are beta in Dagster 1.13; a test covers what is relied on.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return [_asset(definition, rule, between) for rule in RIVER]


def _asset(definition: Definition, rule: StageRule, between: DigestsOnly) -> dg.AssetsDefinition:
    system, root = definition.system.system, definition.root
    key = dg.AssetKey([system, rule.makes])

    @dg.asset(
        key=key, group_name=system, ins={name: dg.AssetIn(key=dg.AssetKey([system, name])) for name in rule.needs},
        io_manager_def=between, code_version=definition.digest, description=_description(definition, rule),
        check_specs=[dg.AssetCheckSpec(gate.name, asset=key, blocking=True, metadata={"version": gate.version},
                                       description=f"{gate.asks} Supports {', '.join(gate.articles)}.") for gate in rule.gates],
        kinds=set(KINDS[rule.makes]), owners=_owners(definition, rule), tags=_tags(rule), metadata=_metadata(definition, rule),
    )
    def stage(context: dg.AssetExecutionContext, **inputs: str) -> Iterator[dg.Output[str] | dg.AssetCheckResult]:
        try:
            river, driver = opened(root, context), driver_of(context)
            tag_run(context, river, system, driver)
            outcome = advance(river, system, rule.name, {name: Digest.parse(digest) for name, digest in inputs.items()}, driver)
        except Exception as error:  # noqa: BLE001  # the door: `refuse` says it to Dagster, or raises it again
            refuse(context, error)
        if outcome:
            yield output(river, system, outcome)
        yield from check_results(outcome)
        if not outcome:
            raise _failed(outcome)

    return stage


def _failed(outcome: Advance) -> dg.Failure:
    said = "; ".join(outcome.failures)
    failed = [report.gate for report in outcome.reports if not report]
    return dg.Failure(
        description=f"{outcome.stage.name} is not passed, so nothing is published. {said}", allow_retries=False,
        metadata={"rule": dg.MetadataValue.text(f"gate {failed[0] if failed else 'none was judged'}"),
                  "value": dg.MetadataValue.text(said),
                  "remedy": dg.MetadataValue.text("Mend the data or retrain, or amend the declaration and have it approved."),
                  "evidence": dg.MetadataValue.text(f"ledger entry {outcome.record_index}, statement {outcome.record_digest}"),
                  "evaluated_digest": dg.MetadataValue.text(str(outcome.digest))})


def _description(definition: Definition, rule: StageRule) -> str:
    gates = "\n".join(f"- **{gate.name}**: {gate.asks}" for gate in rule.gates)
    return (f"**{rule.number}. {rule.title}** of {definition.system.title}: makes `{rule.makes}`"
            f"{' from ' + ', '.join(f'`{name}`' for name in rule.needs) if rule.needs else ''}.\n\n"
            f"It refuses when {rule.refuses}.\n\n{gates}\n\n"
            f"Supports {', '.join(rule.articles)} of Regulation (EU) 2024/1689. Materialised is not the same as lawful: the "
            "verdicts stand in the ledger, and `compliance verify` recomputes them.")


def _owners(definition: Definition, rule: StageRule) -> list[str]:
    """The roles that answer for it: those that approve, for the acting stages; the engineers before."""
    if rule.name == "pre_deployment_approval":
        return [f"team:{need.role}" for need in definition.system.approval.requires]
    return ["team:ml_engineer"]


def _tags(rule: StageRule) -> dict[str, str]:
    """`Annex IV(2)(d)` becomes `ai-act/Annex-IV.2.d`: searchable in Dagster's pages."""
    flat = (re.sub(r"[()]+", ".", article).replace(". ", "-").replace(" ", "-").strip(".") for article in rule.articles)
    return {"stage": rule.name, **{f"ai-act/{name}": "" for name in flat}}


def _metadata(definition: Definition, rule: StageRule) -> dict[str, object]:
    found: dict[str, object] = {"definition": str(definition.digest),
                                "declaration": dg.MetadataValue.path(str(definition.folder / "system.yaml"))}
    spec = find_spec(f"compliance_assets.stages.{MODULES[rule.name]}")
    sources = [(spec.origin, rule.title)] if spec is not None and spec.origin else []
    sources.append((str(definition.folder / "system.yaml"), "declaration"))
    found["dagster/code_references"] = dg.CodeReferencesMetadataValue(
        code_references=[dg.LocalFileCodeReference(file_path=path, line_number=1, label=label) for path, label in sources])
    return found
