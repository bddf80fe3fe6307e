"""override, outcome, stop, resume, traffic: what people add to a model's answers, and asking for some."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import json_option, open_project, root_option

if TYPE_CHECKING:
    from compliance_assets.pipeline import River
    from compliance_assets.serving.switch import StopSwitch

F = TypeVar("F", bound=Callable[..., Any])
DECISION = click.Choice(["favourable", "unfavourable"])


def _by(function: F) -> F:
    """Who did it, and where things lie."""
    for option in (json_option, root_option,
                   click.option("--by", default=getpass.getuser, show_default="your login name", help="Who you are.")):
        function = option(function)
    return function


@click.command()
@click.argument("inference")
@click.argument("decision", type=DECISION)
@click.option("--reason", required=True, help="Why the model's decision does not hold; recorded word for word.")
@_by
def override(inference: str, decision: str, reason: str, by: str, root: Path | None, as_json: bool) -> None:
    """Record that a person decided otherwise than the model did in INFERENCE. Needs neither the model nor its server."""
    from compliance_assets.serving import annotations

    log = annotations.log_of(open_project(root, writer=False).home.serving, inference)
    note = annotations.override(log, inference, decision, by, reason)
    if as_json:
        shown.as_json(note.__dict__)
    else:
        click.echo(f"Recorded: {by} decided {decision}; the model had said {note.model_said}.")


@click.command()
@click.argument("inference")
@click.argument("happened", type=DECISION)
@_by
def outcome(inference: str, happened: str, by: str, root: Path | None, as_json: bool) -> None:
    """Record how it turned out for the subject of INFERENCE: the delayed label that calibration is watched with."""
    from compliance_assets.serving import annotations

    log = annotations.log_of(open_project(root, writer=False).home.serving, inference)
    note = annotations.outcome(log, inference, happened, by)
    if as_json:
        shown.as_json(note.__dict__)
    else:
        click.echo(f"Recorded: {happened}.")


@click.command()
@click.argument("environment")
@click.option("--reason", required=True, help="Why no answers may be given; every caller is told.")
@_by
def stop(environment: str, reason: str, by: str, root: Path | None, as_json: bool) -> None:
    """Stop all answers of ENVIRONMENT at once, whatever the model does: its servers answer 503 with the reason."""
    switch = _switch(open_project(root, writer=False), environment)
    switch.stop(reason, by)
    _said(environment, switch, as_json)


@click.command()
@click.argument("environment")
@click.option("--reason", required=True, help="Why answers may be given again; recorded.")
@_by
def resume(environment: str, reason: str, by: str, root: Path | None, as_json: bool) -> None:
    """Let ENVIRONMENT answer again after a stop."""
    switch = _switch(open_project(root, writer=False), environment)
    switch.resume(reason, by)
    _said(environment, switch, as_json)


def _switch(river: River, environment: str) -> StopSwitch:
    from compliance_assets.serving.supervisor import ports_of
    from compliance_assets.serving.switch import StopSwitch

    ports_of(river.organisation, environment)  # refuses an environment that nobody declared
    return StopSwitch(river.home.serving / environment)


def _said(environment: str, switch: StopSwitch, as_json: bool) -> None:
    reason = switch.reason
    if as_json:
        shown.as_json({"environment": environment, "stopped": reason})
    else:
        click.echo(f"{environment} gives no answers: {reason}" if reason else f"{environment} may answer again.")


@click.command()
@click.argument("environment")
@click.option("--rows", type=click.IntRange(1, 100_000), default=1_000, show_default=True, help="How many requests of one row each.")
@click.option("--rate", type=click.FloatRange(0.1, 1_000), default=40.0, show_default=True, help="Requests each second, at most.")
@click.option("--system", default=None, help="Whose rows (default: the system that declares ENVIRONMENT).")
@root_option
@json_option
def traffic(environment: str, rows: int, rate: float, system: str | None, root: Path | None, as_json: bool) -> None:
    """Send rows of the holdout to ENVIRONMENT's router on this machine, with their groups for monitoring: for trying things out.

    They are people of the data whose outcome is known; never send them where real decisions are made.
    """
    from compliance_assets.errors import Misused
    from compliance_assets.governance.callers import callers
    from compliance_assets.serving.supervisor import ports_of
    from compliance_assets.serving.traffic import LONGEST_SECONDS, send

    river = open_project(root, writer=False)
    ports = ports_of(river.organisation, environment)
    fitting = [name for name in river.systems if river.definition(name).system.deployment.environment == environment]
    if system is None and len(fitting) != 1:
        raise Misused(f"{len(fitting)} systems declare {environment}.", rule="environment", value=environment,
                      remedy=f"Say whose rows with --system: {', '.join(fitting or river.systems)}.")
    people, groups = callers(river, system or fitting[0], "holdout", rows)
    begun = time.monotonic()
    tally = send(f"http://127.0.0.1:{ports.callers}", people, groups=groups, count=rows, seconds=LONGEST_SECONDS, per_second=rate,
                 threads=4, name=f"traffic-{int(time.time())}")
    seconds = time.monotonic() - begun
    if as_json:
        shown.as_json({"sent": tally.sent, "seconds": f"{seconds:.1f}", "statuses": {str(s): n for s, n in sorted(tally.statuses.items())},
                       "models": dict(tally.models)})
    else:
        click.echo(f"{tally.sent} requests in {seconds:.0f} s: "
                   + ", ".join(f"{count} × {status or 'no answer'}" for status, count in sorted(tally.statuses.items())))
        for model, count in tally.models.most_common():
            click.echo(f"  model {model[:12]} answered {count}")
    if tally.answered < tally.sent:
        raise click.exceptions.Exit(1)


@click.command("seal-log")
@click.argument("environment")
@click.option("--forget-inputs-before", type=click.DateTime(["%Y-%m-%d"]), default=None, metavar="DAY",
              help="Delete the inputs (personal data) of sealed days before DAY; the decisions stay.")
@root_option
@json_option
def seal_log(environment: str, forget_inputs_before: datetime | None, root: Path | None, as_json: bool) -> None:
    """Seal the days of ENVIRONMENT's inference log that are over into parquet, and delete what its retention has ended for."""
    from compliance_assets.errors import Misused, OutOfTurn
    from compliance_assets.evidence.holds import require_free
    from compliance_assets.serving import sealing

    river = open_project(root, writer=False)
    log = _switch(river, environment).folder / "log"
    declared = [system for name in river.systems if (system := river.definition(name).system).deployment.environment == environment]
    months = [system.retention.operation_logs_months for system in declared]
    if not months:
        raise Misused(f"No system declares {environment}, so nothing says how long its log is kept.", rule="retention", value=environment,
                      remedy="Declare deployment.environment and retention in a system.yaml.")
    sealed = sealing.seal(log, max(months), river.now())
    before = forget_inputs_before.strftime("%Y-%m-%d") if forget_inputs_before else ""
    held = ""
    try:
        for system in declared:
            require_free(river.archive, system.system, f"The inference log of {environment}")
    except OutOfTurn as error:
        if before:
            raise
        held = str(error.message)
    gone = () if held else sealing.expire(log, river.now(), before)
    if as_json:
        shown.as_json({"environment": environment, "sealed": list(sealed), "deleted": list(gone), "held": held})
    else:
        click.echo(f"Sealed: {', '.join(sealed) or 'nothing, every day that is over is sealed'}.")
        click.echo(f"Deleted: {', '.join(gone) or 'nothing'}.{' ' + held if held else ''}")
