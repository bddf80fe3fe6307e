"""Queues runs, and says on each who launched it and which system it is about.

The guard before Dagster's pages sends the name of the person who is signed in (`X-Forwarded-User`); Dagster's pages show the
run tag `user` as "Launched by". What a client writes into that tag itself is replaced. A convenience and no proof: `dg launch`
and Python go past a coordinator; stages record who launched them, and separation of duties is judged from signatures.
"""

from __future__ import annotations

from dagster import DagsterRun
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._core.workspace.context import WorkspaceRequestContext

from compliance_assets.orchestration.resources import TAG_SYSTEM, USER_TAG

USER_HEADER = "X-Forwarded-User"
UNKNOWN = "unknown (not through the guard)"


def tags_of(context: SubmitRunContext) -> dict[str, str]:
    """Who launched (only for what came over HTTP: a daemon's runs say themselves which sensor), and the one system it is about."""
    tags: dict[str, str] = {}
    if isinstance(context.workspace, WorkspaceRequestContext) and context.workspace.source is not None:
        tags[USER_TAG] = context.get_request_header(USER_HEADER) or UNKNOWN
    systems = {key.path[0] for key in context.dagster_run.asset_selection or () if len(key.path) == 2}
    if len(systems) == 1:
        tags[TAG_SYSTEM] = systems.pop()
    return tags


class NamedRunCoordinator(QueuedRunCoordinator):
    """Dagster's own queue, with the launcher's name on every run."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        tags = tags_of(context)
        if tags:
            self._instance.add_run_tags(context.dagster_run.run_id, tags)
        return super().submit_run(context)
