"""What every step reaches for: the opened project, who drives, and what the run is tagged with.

Nothing here is a Dagster resource with fields: a field could be overridden from the launchpad. The project's root is fixed
when the definitions are loaded; the home is found as everywhere else (`COMPLIANCE_HOME`, or `.compliance` beside `systems/`).
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from compliance_assets.evidence.surroundings import environment_digest, working_tree
from compliance_assets.pipeline import River, open_river
from compliance_assets.stages.stage import Driver

USER_TAG = "user"
"""The run tag that Dagster's pages show as "Launched by"; the coordinator sets it from the guard's header."""
AUTOMATION_TAGS = (("dagster/sensor_name", "sensor"), ("dagster/schedule_name", "schedule"))
TAG_SYSTEM = "compliance/system"
TAG_DEFINITION = "compliance/definition"
TAG_COMMIT = "compliance/commit"
TAG_DIRTY = "compliance/dirty"
TAG_ENVIRONMENT = "compliance/environment"
TAG_WAITING = "compliance/waiting_for"


def opened(root: Path, context: dg.AssetExecutionContext | None = None) -> River:
    """The project at `root`; what its stages say goes to the run's log."""
    if context is None:
        return open_river(root)

    def listen(event: str, facts: Mapping[str, object]) -> None:
        said = ", ".join(f"{name}={value}" for name, value in facts.items() if name not in ("system", "stage", "run", "launcher"))
        context.log.info(f"{event}: {said}" if said else event)

    return open_river(root, listeners=(listen,))


def driver_of(context: dg.AssetExecutionContext) -> Driver:
    """This step as an execution. Launched by: the guard's user, or the sensor or schedule, or who owns this process."""
    tags = context.run.tags
    automation = [f"{kind}:{tags[tag]}" for tag, kind in AUTOMATION_TAGS if tag in tags]
    launcher = automation[0] if automation else tags[USER_TAG] if USER_TAG in tags else getpass.getuser()
    return Driver(run_id=context.run.run_id, launcher=launcher, attempt=context.op_execution_context.retry_number,
                  dagster_run_id=context.run.run_id)


def tag_run(context: dg.AssetExecutionContext, river: River, system: str, driver: Driver) -> None:
    """Say on the run what it runs: definition, commit, cleanliness, environment. Works for every way of launching."""
    definition = river.definition(system)
    tree = working_tree(river.root, definition.covered, driver.launcher)
    context.instance.add_run_tags(context.run.run_id, {
        TAG_SYSTEM: system, TAG_DEFINITION: str(definition.digest), TAG_COMMIT: tree.commit or "none",
        TAG_DIRTY: str(tree.dirty).lower(), TAG_ENVIRONMENT: str(environment_digest())})
