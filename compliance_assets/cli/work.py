"""run, status, deploy, serve, rollback, withdraw: driving stages, and what answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import driver, json_option, open_project, progress, root_option
from compliance_assets.policy.river import ASSETS, RIVER, STAGE_NAMES

if TYPE_CHECKING:
    from compliance_assets.evidence.archive import Record
    from compliance_assets.pipeline import River
    from compliance_assets.stages.s8_return import Place

F = TypeVar("F", bound=Callable[..., Any])
STAGE = click.Choice([*STAGE_NAMES, *ASSETS, *(str(rule.number) for rule in RIVER)])


@click.command()
@click.argument("system")
@click.option("--to", "stop", type=STAGE, default="pre_deployment_approval", show_default=True, help="The last stage to run.")
@click.option("--from", "start", type=STAGE, default="data_preparation", show_default=True, help="The first stage to run.")
@root_option
@json_option
def run(system: str, stop: str, start: str, root: Path | None, as_json: bool) -> None:
    """Drive SYSTEM's stages through the same river as Dagster does.

    Stages that the same inputs, code and definition have already passed are not executed again. Exit 1 when a gate fails or
    people are still to be heard.
    """
    drive_and_show(open_project(root, listeners=() if as_json else (progress,)), system, start, stop, as_json)


def drive_and_show(river: River, system: str, start: str, stop: str, as_json: bool) -> None:
    """Drive, showing each stage as it ends; exit 1 after the first whose gate fails.

    Machines get one document in any case: where a stage refuses, what was done before it and the refusal.
    """
    from compliance_assets.errors import ComplianceError
    from compliance_assets.pipeline import drive

    outcomes = []
    passed = True
    try:
        for outcome in drive(river, system, driver(), start=start, stop=stop):
            passed = bool(outcome)
            if as_json:
                outcomes.append({"stage": outcome.stage.name, "asset": outcome.stage.makes, "digest": outcome.digest, "passed": passed,
                                 "reused": outcome.reused, "ledger_index": outcome.record_index,
                                 "gates": [report.as_json() for report in outcome.reports]})
            else:
                shown.advance_line(outcome)
    except ComplianceError as refusal:
        if not outcomes:  # for people, or before anything was done: as every other refusal
            raise
        shown.as_json({"system": system, "passed": False, "stages": outcomes, **refusal.as_json()})
        raise click.exceptions.Exit(refusal.exit_code) from refusal
    if as_json:
        shown.as_json({"system": system, "passed": passed, "stages": outcomes})
    elif passed:
        click.echo(f"{system} stands at {stop}.")
    else:
        click.echo(click.style(f"{system} halted: a gate failed. ", fg="red")
                   + "Nothing downstream exists. The failed run is recorded. Mend the data or the declaration, and run again.")
    if not passed:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("system", required=False)
@root_option
@json_option
def status(system: str | None, root: Path | None, as_json: bool) -> None:
    """Where each system stands, and what it waits for."""
    from compliance_assets.governance.pending import pending
    from compliance_assets.governance.standing import standing_of

    river = open_project(root, writer=False)
    found = [standing_of(river, name) for name in ((system,) if system else river.systems)]
    reviews = {entry["system"]: pending(river, entry["system"]) for entry in found}
    if as_json:
        found = [{**entry, "pending_reviews": [one.as_json() for one in reviews[entry["system"]]]} for entry in found]
        shown.as_json({"home": str(river.home.path), "profile": river.organisation.profile,
                       "ledger": river.archive.head().model_dump(), "systems": found})
        return
    head = river.archive.head()
    click.echo(f"Home {river.home.path} · profile {river.organisation.profile} · ledger of {head.size} entries, root {head.root[:12]}")
    if river.organisation.profile == "development":
        click.echo(click.style("Development: one person; everything runs, nothing is promotable, there is no production.", fg="yellow"))
    click.echo("On one machine, one user holds every machine key; people's keys are their own (docs/threat-model.md).")
    for entry in found:
        shown.heading(f"{entry['system']}  {entry['title']}")
        click.echo(f"  definition {entry['definition'][:12]} ({'approved' if entry['in_force'] else 'NOT approved'})"
                   f" · in production: {entry['production'] or 'nothing'}")
        for stage in entry["stages"]:
            sign = {"passed": click.style("✓", fg="green"), "failed": click.style("✗", fg="red"),
                    "error": click.style("✗", fg="red"), "not run": click.style("·", dim=True)}[stage["state"]]
            click.echo(f"  {sign} {stage['number']} {stage['title']:<26} {stage['state']:<8} {stage['digest'][:12]:<12} "
                       f"{stage['when'][:19]}")
            for sentence in stage["failures"]:
                click.echo(click.style(f"        {sentence}", fg="red"))
        click.echo(f"  {click.style('waits for: ', bold=True)}{entry['waits_for']}")
        if reviews[entry["system"]]:
            shown.table([(f"  {one.what}", one.about, one.since[:19], one.waits_for, one.how) for one in reviews[entry["system"]]],
                        ("  pending review", "about", "since", "waits for", "look at it with"))


@click.command()
@click.argument("system")
@root_option
@json_option
def deploy(system: str, root: Path | None, as_json: bool) -> None:
    """Admit the inbox and, if SYSTEM's release is approved, roll it out: shadow, canary, full.

    Needs `compliance serve ENVIRONMENT` running, and traffic. A step without enough requests holds; doing this again goes on.
    """
    river = open_project(root, listeners=() if as_json else (progress,))
    # A rollout under way goes on, or is ended, under the approval it began with: stage 8 asks whether that still stands.
    start = "deployment" if _is_under_way(river, system) else "pre_deployment_approval"
    drive_and_show(river, system, start, "deployment", as_json)


def _is_under_way(river: River, system: str) -> bool:
    """Whether the release of `system` that was approved last is being rolled out."""
    from compliance_assets.evidence.deployments import desired_state

    environment = river.definition(system).system.deployment.environment
    candidate = desired_state(environment, river.archive.deployments(environment)).candidate
    return candidate is not None and candidate.system == system and candidate.approval == river.head(system, "approval")


@click.command()
@click.argument("environment")
@root_option
def serve(environment: str, root: Path | None) -> None:
    """Supervise ENVIRONMENT's model servers and router: what answers is what the ledger says."""
    from compliance_assets.serving.supervisor import ports_of, run_supervisor

    river = open_project(root, writer=False)
    ports = ports_of(river.organisation, environment)
    click.echo(f"{environment} answers on http://{ports.host}:{ports.callers} with what the ledger says. Ctrl-C ends it.", err=True)
    run_supervisor(river.home, river.root, environment)


def _returning(function: F) -> F:
    """Options of rollback and withdraw."""
    for option in (
        json_option, root_option,
        click.option("--environment", default=None, help="Where (default: the one that SYSTEM declares)."),
        click.option("--version", default="", metavar="DIGEST", help="Which version: beginning of its release, model or approval."),
        click.option("--reason", required=True, help="What happened and why this is the answer; recorded word for word."),
        click.option("--emergency", is_flag=True, help="Do not wait for a rollout under way; somebody else must review it in time."),
    ):
        function = option(function)
    return function


@click.command()
@click.argument("system")
@_returning
def rollback(system: str, emergency: bool, reason: str, version: str, environment: str | None, root: Path | None, as_json: bool) -> None:
    """Let the version of SYSTEM that was in production before answer again. Needs no fresh approval: it had one.

    Only a version that was fully rolled out here, that nobody has revoked, rejected, withdrawn or taken back. The ledger first; the
    servers follow it.
    """
    from compliance_assets.stages.s8_return import roll_back

    place = _place(system, environment, root)
    _say_return(place, roll_back(place, reason, emergency=emergency, to=version), as_json)


@click.command()
@click.argument("system")
@_returning
def withdraw(system: str, emergency: bool, reason: str, version: str, environment: str | None, root: Path | None, as_json: bool) -> None:
    """Stop a version of SYSTEM for good (default: the one in production); nothing takes its place. It can never be gone back to."""
    from compliance_assets.stages.s8_return import withdraw as withdraw_it

    place = _place(system, environment, root)
    _say_return(place, withdraw_it(place, reason, emergency=emergency, what=version), as_json)


def _place(system: str, environment: str | None, root: Path | None) -> Place:
    from compliance_assets.stages.s8_return import Place

    river = open_project(root)
    return Place(river.archive, river.organisation, river.home, system,
                 environment or river.definition(system).system.deployment.environment, driver(), river.now)


def _say_return(place: Place, record: Record, as_json: bool) -> None:
    """What was recorded, and whether the servers hold it."""
    from compliance_assets.serving.supervisor import is_supervised

    body, supervised = record.body, is_supervised(place.home, place.environment)
    if as_json:
        shown.as_json({"action": body.action, "release": body.release, "model": body.model, "statement": record.digest,
                       "ledger_index": record.index, "emergency": body.evidence["emergency"], "review_due": body.evidence["review_due"],
                       "snapshot": body.evidence["snapshot"], "supervised": supervised})
        return
    what = "answers again" if body.action == "rolled_back" else "is withdrawn: it stops answering, and nothing takes its place"
    click.echo(f"Recorded (ledger #{record.index}): release {body.release[:12]} {what} in {place.environment}.")
    click.echo("The servers follow the ledger within seconds; look with `compliance status`." if supervised else
               f"Nobody keeps the servers of {place.environment} running: `compliance serve {place.environment}` will start with this.")
    if body.evidence["review_due"]:
        click.echo(click.style(f"Somebody else must review it until {body.evidence['review_due'][:16]}Z, or deployments are blocked:",
                               fg="yellow"))
        click.echo(f"  compliance review-return {place.system} {record.digest} --as THEM --role ROLE --reason '…'")
