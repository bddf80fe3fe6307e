"""exception ask, approve, reject, revoke, list: a gate that failed goes on for a time, because people said so."""

from __future__ import annotations

import getpass
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import json_option, open_project, people_keys, root_option, signer_options

if TYPE_CHECKING:
    from compliance_assets.governance.deciding import Kind
    from compliance_assets.governance.excepting import Severity


@click.group("exception")
def exception() -> None:
    """Ask for, decide or list exceptions to a gate of the evaluation that failed. No verdict is ever edited."""


@exception.command()
@click.argument("system")
@click.option("--gate", required=True, help="The gate that failed: performance, fairness, robustness, calibration or drift.")
@click.option("--severity", required=True, type=click.Choice(["low", "medium", "high"]), help="How grave the failure is.")
@click.option("--reason", required=True, help="Why it may go on nonetheless (20 characters or more).")
@click.option("--measure", "measures", multiple=True, required=True, help="What compensates for it meanwhile; as often as needed.")
@click.option("--remediation", required=True, help="How and by when the failure itself will be mended.")
@click.option("--root-cause", default="", help="Why it failed; needed for fairness.")
@click.option("--until", required=True, metavar="YYYY-MM-DD", help="The last day on which it holds (UTC).")
@root_option
@json_option
def ask(system: str, gate: str, severity: Severity, reason: str, measures: tuple[str, ...], remediation: str, root_cause: str, until: str,
        root: Path | None, as_json: bool) -> None:
    """Put on record that an exception is asked for; it counts once people approve it."""
    from compliance_assets.governance.excepting import Asked, ask_for_exception

    try:
        end = datetime.combine(date.fromisoformat(until), datetime.min.time(), UTC) + timedelta(days=1)
    except ValueError as error:
        raise click.BadParameter(f"{until!r} is not a date like 2027-01-31", param_hint="--until") from error
    record = ask_for_exception(open_project(root), system, Asked(gate, severity, reason, measures, remediation, end, root_cause),
                               getpass.getuser())
    if as_json:
        shown.as_json({"statement": record.digest, "ledger_index": record.index, "expires": record.body.expires})
        return
    for finding in record.body.findings:
        click.echo(f"  asked for: {finding['sentence']}")
    click.echo(f"Exception {record.digest}, ledger #{record.index}, until {record.body.expires}. It counts for nothing yet: "
               f"compliance exception approve {system} {record.digest.short} --as YOU --role ROLE --reason '…'")


def _decide(decision: Kind, system: str, statement: str, person: str, role: str, key: Path | None, reason: str, root: Path | None,
            as_json: bool) -> None:
    from compliance_assets.evidence import inbox
    from compliance_assets.governance.deciding import Signer, private_key
    from compliance_assets.governance.excepting import decide_exception, exception_named
    from compliance_assets.governance.exception_view import one_shown

    river = open_project(root)
    opened = time.monotonic()
    record = exception_named(river, system, statement)
    if not as_json:
        shown.exception(one_shown(river, record))
    signer = Signer(person, role, private_key(river, person, key, people_keys(river)))
    signed, path = decide_exception(river, system, statement, signer, decision, reason, opened_seconds=int(time.monotonic() - opened))
    admitted, refused = inbox.admit(river.archive)
    after = one_shown(river, record)
    if as_json:
        shown.as_json({"decision": decision, "statement": signed.digest, "file": str(path), "refused": refused, "exception": after,
                       "admitted": [one.index for one in admitted]})
        return
    click.echo(f"\n{person} signed: {decision}. The exception: {after['standing']}.")
    if after["standing"] == "in force":
        click.echo(f"Evaluate again, the gates behind it too: compliance run {system} --from model_evaluation --to model_evaluation")


@exception.command()
@click.argument("system")
@click.argument("statement")
@signer_options
@root_option
@json_option
def approve(system: str, statement: str, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool) -> None:
    """Approve the exception STATEMENT (its digest, or the beginning) with your SSH key."""
    _decide("approve", system, statement, person, role, key, reason, root, as_json)


@exception.command()
@click.argument("system")
@click.argument("statement")
@signer_options
@root_option
@json_option
def reject(system: str, statement: str, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool) -> None:
    """Reject the exception STATEMENT; it can never count then."""
    _decide("reject", system, statement, person, role, key, reason, root, as_json)


@exception.command()
@click.argument("system")
@click.argument("statement")
@signer_options
@root_option
@json_option
def revoke(system: str, statement: str, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool) -> None:
    """Take back your approval of the exception STATEMENT: it ends, and a rollout under way that rests on it ends too."""
    from compliance_assets.errors import Misused
    from compliance_assets.evidence import inbox
    from compliance_assets.governance.deciding import Signer, private_key, revoke_decision
    from compliance_assets.governance.excepting import exception_named
    from compliance_assets.governance.exception_view import one_shown

    river = open_project(root)
    record = exception_named(river, system, statement)
    own = [one for one in river.archive.decisions_on(record.digest, "exception")
           if one.body.person == person and one.body.decision == "approve"]
    if not own:
        raise Misused(f"{person} has not approved exception {record.digest.short}.", rule="revoke", value=person,
                      remedy="Only one's own approval can be taken back.")
    signer = Signer(person, role, private_key(river, person, key, people_keys(river)))
    revoke_decision(river, system, str(own[-1].digest), signer, reason)
    inbox.admit(river.archive)
    after = one_shown(river, record)
    if as_json:
        shown.as_json(after)
    else:
        click.echo(f"The exception: {after['standing']}.")


@exception.command("list")
@click.argument("system")
@root_option
@json_option
def list_(system: str, root: Path | None, as_json: bool) -> None:
    """Every exception of SYSTEM, and whether it counts now."""
    from compliance_assets.governance.exception_view import listed

    found = listed(open_project(root, writer=False), system)
    if as_json:
        shown.as_json(found)
        return
    for one in found:
        shown.exception(one)
    if not found:
        click.echo(f"No exception was ever asked for about {system}.")
