"""reconcile, decommission, hold, retention: what serves is on record, goes out of service by people's word, and is kept as it must be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import driver, json_option, open_project, people_keys, root_option, signer_options

if TYPE_CHECKING:
    from compliance_assets.evidence.holds import Hold
    from compliance_assets.governance.deciding import Kind, Signer
    from compliance_assets.pipeline import River


def _signer(river: River, person: str, role: str, key: Path | None) -> Signer:
    from compliance_assets.governance.deciding import Signer, private_key

    return Signer(person, role, private_key(river, person, key, people_keys(river)))


@click.command()
@click.argument("environment")
@click.option("--patience", type=click.FloatRange(0, 600), default=None, metavar="SECONDS",
              help="How long a difference may last before it is one (default: 15).")
@root_option
@json_option
def reconcile(environment: str, patience: float | None, root: Path | None, as_json: bool) -> None:
    """Hold what answers in ENVIRONMENT against what the ledger says. A disagreement goes on record and is alerted; exit 1."""
    from compliance_assets.governance import reconciling
    from compliance_assets.governance.delivering import deliver

    river = open_project(root)
    found = reconciling.look(river, environment, reconciling.PATIENCE_SECONDS if patience is None else patience)
    record = reconciling.record(river, found, driver())
    if record is not None and not found:
        deliver(river.home.logs, river.archive.in_force().alerts, [reconciling.alert(found, record)])
    if as_json:
        shown.as_json({**found.as_json(), "ledger_index": record.index if record is not None else None})
    else:
        for difference in found.differences:
            click.echo(click.style("  ✗ ", fg="red") + difference)
        click.echo(f"{environment}: what answers is what the ledger says." if found else
                   f"{environment}: what answers is not what the ledger says."
                   + (f" On record: ledger #{record.index}." if record is not None else " It is on record already."))
        if found.stopped:
            click.echo(f"People stopped all answers: {found.stopped}")
    if not found:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("system")
@click.option("--no", "against", is_flag=True, help="Sign that it must stay in service.")
@click.option("--environment", default=None, help="Where (default: the one that SYSTEM declares).")
@signer_options
@root_option
@json_option
def decommission(system: str, against: bool, environment: str | None, person: str, role: str, key: Path | None, reason: str,
                 root: Path | None, as_json: bool) -> None:
    """Sign that SYSTEM goes out of service for good; with enough people's signatures it does, at once.

    Servers stop, nothing of it is deployed any more, and its retention clock starts. There is no way back under the same name.
    """
    from compliance_assets.evidence import inbox
    from compliance_assets.governance.deciding import decide_standing
    from compliance_assets.stages.s8_decommission import decommission as decommission_it
    from compliance_assets.stages.s8_decommission import heard, subject_of
    from compliance_assets.stages.s8_return import Place

    river = open_project(root)
    where = environment or river.definition(system).system.deployment.environment
    decide_standing(river, system, "decommission", subject_of(system, where), where, {"decommission": system, "environment": where},
                    _signer(river, person, role, key), "reject" if against else "approve", reason)
    inbox.admit(river.archive)
    place = Place(river.archive, river.organisation, river.home, system, where, driver(), river.now)
    _, missing = heard(river.archive, system, where, river.organisation)
    record = decommission_it(place, reason) if not missing else None
    if as_json:
        shown.as_json({"system": system, "environment": where, "missing": missing,
                       "ledger_index": record.index if record is not None else None})
    elif record is None:
        click.echo(f"{person} signed. {system} stays in service in {where}: {missing}.")
    else:
        click.echo(f"{system} is out of service in {where} (ledger #{record.index}). Its servers stop within seconds; how long its "
                   f"evidence is kept: `compliance retention {system}`.")


@click.group()
def hold() -> None:
    """Legal holds: while one stands, none of a system's evidence may be deleted by these commands."""


@hold.command("set")
@click.argument("system")
@signer_options
@root_option
@json_option
def set_(system: str, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool) -> None:
    """Hold all evidence of SYSTEM, at once, in your own word."""
    from compliance_assets.evidence.holds import subject_of

    _hold(system, "approve", str(subject_of(system)), person, role, key, reason, root, as_json)


@hold.command()
@click.argument("system")
@click.argument("statement", metavar="HOLD")
@signer_options
@root_option
@json_option
def release(system: str, statement: str, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool) -> None:
    """Sign that HOLD (its digest, or the beginning) may end; it does once those who approve definitions have."""
    from compliance_assets.errors import Misused
    from compliance_assets.evidence.holds import holds_of

    found = [one for one in holds_of(open_project(root, writer=False).archive, system) if str(one.id).startswith(statement)]
    if len(found) != 1 or len(statement) < 6:
        raise Misused(f"{len(found)} holds of {system} have a digest that begins with {statement}.", rule="legal hold", value=statement,
                      remedy=f"They are listed by `compliance hold list {system}`.")
    _hold(system, "reject", str(found[0].id), person, role, key, reason, root, as_json)


def _hold(system: str, decision: Kind, subject: str, person: str, role: str, key: Path | None, reason: str, root: Path | None,
          as_json: bool) -> None:
    from compliance_assets.evidence import inbox
    from compliance_assets.evidence.holds import holds_of
    from compliance_assets.governance.deciding import decide_standing
    from compliance_assets.trust.canonical import Digest

    river = open_project(root)
    river.definition(system)  # a hold on a system that is not there would hold nothing
    decide_standing(river, system, "legal-hold", Digest.parse(subject), "", {"legal-hold": system}, _signer(river, person, role, key),
                    decision, reason)
    inbox.admit(river.archive)
    _list_holds(holds_of(river.archive, system), system, as_json)


@hold.command("list")
@click.argument("system")
@root_option
@json_option
def list_(system: str, root: Path | None, as_json: bool) -> None:
    """Every hold on SYSTEM, and whether it stands."""
    from compliance_assets.evidence.holds import holds_of

    _list_holds(holds_of(open_project(root, writer=False).archive, system), system, as_json)


def _list_holds(holds: tuple[Hold, ...], system: str, as_json: bool) -> None:
    if as_json:
        shown.as_json([one.as_json() for one in holds])
        return
    for one in holds:
        body = one.record.body
        state = f"released by {', '.join(each.body.person for each in one.released)}" if one.released else "stands"
        click.echo(f"  {one.id.short}  {state}: set by {body.person} at {body.issued}: {body.rationale}")
    if not holds:
        click.echo(f"{system} is not held, and never was.")


@click.command()
@click.argument("system")
@root_option
@json_option
def retention(system: str, root: Path | None, as_json: bool) -> None:
    """What of SYSTEM is kept, in which class, until when, and what may go. Deletes nothing."""
    from compliance_assets.governance.retention import retention as kept

    found = kept(open_project(root, writer=False), system)
    if as_json:
        shown.as_json([one.as_json() for one in found])
        return
    shown.table([(one.what, one.kind, one.law_until or "once it is in service", one.until or "open", one.why, "yes" if one.may_go else "no")
                 for one in found], ("what", "class", "the law asks", "kept until", "why", "may go"))
