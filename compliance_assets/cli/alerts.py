"""alerts: trends that somebody must look at; look now, acknowledge, close."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import json_option, open_project, people_keys, root_option, signer_options

if TYPE_CHECKING:
    from compliance_assets.governance.alerts.keeping import Answer

COLOURS = {"open": "red", "acknowledged": "yellow", "closed": "bright_black"}


@click.group(invoke_without_command=True)
@click.option("--of", "system", metavar="SYSTEM", help="Of this system only.")
@click.option("--all", "every", is_flag=True, help="The closed ones too.")
@root_option
@json_option
@click.pass_context
def alerts(context: click.Context, system: str | None, every: bool, root: Path | None, as_json: bool) -> None:
    """List the alerts T1 to T8 that are open: rule, window, cases, statistic, owner, and what people did.

    They are opened by the rules (Dagster's sensor asks them every hour; `compliance alerts look` does it now) and closed by people.
    """
    if context.invoked_subcommand is not None:
        return
    from compliance_assets.evidence.alerts import alerts_of, not_counted
    from compliance_assets.governance.alerts.rules import RULES

    river = open_project(root, writer=False)
    names = (system,) if system else river.systems
    found = [one for name in names for one in alerts_of(river.archive, name) if every or one.state != "closed"]
    refused = [one for name in names for one in not_counted(river.archive, name)]
    if as_json:
        shown.as_json({"alerts": [one.as_json() for one in found], "rules": RULES,
                       "not_counted": [{"ledger_index": record.index, "why": why} for record, why in refused]})
        return
    if not found:
        click.echo("No alert is open." if not every else "No alert is on record.")
    for one in found:
        body = one.opened.body
        shown.heading(f"#{one.opened.index} {body.rule} {body.system}: {body.about}")
        click.echo(click.style(one.state, fg=COLOURS[one.state]) + f"  opened {body.at[:19]} UTC, for {body.owner}")
        click.echo(f"  {body.said} ({body.window}, n {body.n}; {', '.join(f'{name} {value}' for name, value in body.statistic.items())})")
        click.echo(click.style(f"  rule: {RULES[body.rule]}", dim=True))
        for record in (one.acknowledged, one.closed):
            if record is not None:
                said = record.body
                click.echo(f"  {'closed' if record is one.closed else 'acknowledged'} by {said.person} as {said.role} at "
                           f"{said.issued[:19]}, signed (#{record.index}): {said.rationale}")
    for record, why in refused:
        click.echo(click.style(f"  the answer in ledger entry {record.index} does not count: {why}", fg="yellow"))


@alerts.command()
@click.option("--of", "system", metavar="SYSTEM", help="Of this system only.")
@click.option("--verify", "thorough", is_flag=True, help="Verify everything on record too (T7).")
@root_option
@json_option
def look(system: str | None, thorough: bool, root: Path | None, as_json: bool) -> None:
    """Ask the rules now; what is new goes into the ledger and through the declared channels. Exit 1 if anything is new."""
    from compliance_assets.governance.alerts.keeping import look as look_now
    from compliance_assets.governance.delivering import deliver

    river = open_project(root)
    found = [one for name in ((system,) if system else river.systems) for one in look_now(river, name, thorough=thorough)]
    failed = deliver(river.home.logs, river.archive.in_force().alerts, found)
    if as_json:
        shown.as_json({"new": found, "not_delivered": list(failed)})
    else:
        for one in found:
            entry = f"#{one['ledger_index']}" if "ledger_index" in one else f"not recorded: {one['not_recorded']}"
            click.echo(click.style("New  ", fg="red") + f"[{one['system']}] {one['said']} ({entry})")
        for said in failed:
            click.echo(click.style("Not delivered  ", fg="yellow") + said, err=True)
        if not found:
            click.echo("Nothing new.")
    if found:
        raise click.exceptions.Exit(1)


def _answer(event: Answer, index: int, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool) -> None:
    from compliance_assets.evidence import inbox
    from compliance_assets.governance.alerts.keeping import answer_statement
    from compliance_assets.governance.deciding import Signer, private_key, sign_statement

    river = open_project(root)
    signer = Signer(person, role, private_key(river, person, key, people_keys(river)))
    signed, _ = sign_statement(river, answer_statement(river, index, event, person, role, reason, opened_seconds=0), signer)
    admitted, refused = inbox.admit(river.archive)
    at = next((record.index for record in admitted if record.digest == signed.digest), None)
    if as_json:
        shown.as_json({"alert": index, "event": event, "by": person, "role": role, "ledger_index": at, "statement": str(signed.digest),
                       "refused": refused})
    else:
        click.echo(f"Alert #{index} {event} by {person} as {role}, signed: ledger #{at}.")


@alerts.command()
@click.argument("index", type=click.IntRange(min=0))
@signer_options
@root_option
@json_option
def acknowledge(index: int, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool) -> None:
    """Sign that you have seen the alert that ledger entry INDEX opened, and what you do about it."""
    _answer("acknowledged", index, person, role, key, reason, root, as_json)


@alerts.command()
@click.argument("index", type=click.IntRange(min=0))
@signer_options
@root_option
@json_option
def close(index: int, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool) -> None:
    """Sign that the alert that ledger entry INDEX opened is closed. It opens again only if newer evidence raises it.

    To take an answer back: `compliance revoke`.
    """
    _answer("closed", index, person, role, key, reason, root, as_json)
