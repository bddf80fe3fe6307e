"""How a refusal is said to Dagster: a failure that is not retried, a run that waits, or a step that is tried again.

Three kinds, kept apart:
- *out of turn, corrupt, untrusted, misdeclared*: `dg.Failure` with rule, value and remedy, never retried;
- *waiting for people*: no verdict, so neither a pass nor a failure. The run ends as canceled, with what it waits for; its
  checks are shown as skipped, and nothing downstream runs. (A plain asset may not leave out its checks, and a failed step
  would look like a verdict; tried with Dagster 1.13.27, in-process and multiprocess.)
- *infrastructure* (disk, database lock, a server that did not come up): tried again twice. A verdict never is.
"""

from __future__ import annotations

from typing import NoReturn

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from compliance_assets.errors import ComplianceError, ServingError, Waiting
from compliance_assets.orchestration.resources import TAG_WAITING

MOST_RETRIES = 2
SECONDS_BETWEEN = 2.0
_LONGEST_TAG = 200
_TRANSIENT = frozenset({
    ("sqlite3", "OperationalError"), ("sqlalchemy.exc", "OperationalError"), ("mlflow.exceptions", "MlflowException"),
    ("mlflow.exceptions", "RestException"),
})
"""Other rooms speak SQL and MLflow; here their passing troubles are known by name only."""


def is_infrastructure(error: Exception) -> bool:
    """Whether trying again may help. Only OSError, a server that did not come up, and locked databases; never a refusal."""
    if isinstance(error, ComplianceError):
        return isinstance(error, ServingError)
    return isinstance(error, OSError) or (type(error).__module__, type(error).__name__) in _TRANSIENT


def failure(error: ComplianceError) -> dg.Failure:
    """The refusal as Dagster shows it: one sentence, and rule, value and remedy beside it."""
    metadata: dict[str, dg.MetadataValue] = {"refusal": dg.MetadataValue.text(type(error).__name__)}
    metadata |= {name: dg.MetadataValue.text(said) for name, said in
                 (("rule", error.rule), ("value", error.value), ("remedy", error.remedy)) if said}
    return dg.Failure(description=str(error), metadata=metadata, allow_retries=False)


def end_waiting(context: dg.AssetExecutionContext, error: Waiting) -> NoReturn:
    """End the run as canceled: what people must do first stands in its log, its tags and its last event."""
    said = str(error)
    context.log.warning(said)
    context.instance.add_run_tags(context.run.run_id, {TAG_WAITING: said[:_LONGEST_TAG]})
    context.instance.report_run_canceling(context.run, message=said)
    raise DagsterExecutionInterruptedError(said)


def refuse(context: dg.AssetExecutionContext, error: Exception) -> NoReturn:
    """Say `error` to Dagster in its kind; an unknown one travels on as it is."""
    if isinstance(error, Waiting):
        end_waiting(context, error)
    if is_infrastructure(error):
        raise dg.RetryRequested(max_retries=MOST_RETRIES, seconds_to_wait=SECONDS_BETWEEN) from error
    if isinstance(error, ComplianceError):
        raise failure(error) from error
    raise error
