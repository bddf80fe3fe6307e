"""review, approve, reject, defer, revoke, review-return: people decide, with their own keys."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import json_option, open_project, people_keys, root_option, signer_options

if TYPE_CHECKING:
    from compliance_assets.governance.deciding import Kind


@click.command()
@click.argument("system")
@root_option
@json_option
def review(system: str, root: Path | None, as_json: bool) -> None:
    """Show the release of SYSTEM that waits for people, as an approver should see it."""
    from compliance_assets.governance.review import review_document
    from compliance_assets.trust.canonical import digest_of

    document = review_document(open_project(root, writer=False), system)
    if as_json:
        shown.as_json(document)
        return
    shown.review(document)
    click.echo(f"\nThis page has the digest {digest_of(document)}; it goes into your signature.")
    click.echo(f"Decide: compliance approve {system} --as YOU --role ROLE --reason '…'   (or reject, defer)")


def _decide(decision: Kind, system: str, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool,
            until: str = "", conditions: tuple[str, ...] = ()) -> None:
    from compliance_assets.governance.deciding import Signer, decide_release, private_key
    from compliance_assets.governance.review import review_document

    river = open_project(root)
    opened = time.monotonic()
    if not as_json:
        shown.review(review_document(river, system))
    signer = Signer(person, role, private_key(river, person, key, people_keys(river)))
    statement, path = decide_release(river, system, signer, decision, reason, opened_seconds=int(time.monotonic() - opened), due=until,
                                     conditions=conditions)
    if as_json:
        shown.as_json({"decision": decision, "person": person, "role": role, "statement": statement.digest, "file": str(path),
                       "subjects": {name: str(digest) for name, digest in statement.subjects}})
        return
    click.echo(f"\n{person} signed: {decision}. Statement {statement.digest}, in the inbox.")
    click.echo(f"The approval sensor takes it from there; without Dagster: compliance deploy {system}")


@click.command()
@click.argument("system")
@click.option("--condition", "conditions", multiple=True, help="What must be met for your approval to go on counting; as often as needed.")
@click.option("--by", "until", default="", metavar="YYYY-MM-DD", help="The last day on which the conditions may be met (UTC).")
@signer_options
@root_option
@json_option
def approve(system: str, conditions: tuple[str, ...], until: str, person: str, role: str, key: Path | None, reason: str, root: Path | None,
            as_json: bool) -> None:
    """Approve the release of SYSTEM in review: sign exactly its digests with your SSH key."""
    if until:
        _day(until, "--by")
    _decide("approve", system, person, role, key, reason, root, as_json, until, conditions)


def _day(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a date like 2027-01-31", param_hint=option) from error


@click.group("condition")
def condition() -> None:
    """List the conditions of approvals, or sign that one is met."""


@condition.command("list")
@click.argument("system")
@root_option
@json_option
def list_(system: str, root: Path | None, as_json: bool) -> None:
    """Every condition under which a release of SYSTEM was approved."""
    from compliance_assets.evidence.conditions import conditions_of

    river = open_project(root, writer=False)
    releases = [record for record in river.archive.of_kind("decision", system) if record.body.scope.purpose == "release"]
    found = conditions_of(river.archive, releases)
    if as_json:
        shown.as_json([{**one.as_json(), "overdue": one.overdue(river.now())} for one in found])
        return
    for one in found:
        state = f"met, says {one.met.body.person}" if one.met is not None else "OVERDUE" if one.overdue(river.now()) else "open"
        click.echo(f"  {one.id.short}  due {one.due}  {state}: {one.text}  ({one.approval.body.person} as {one.approval.body.role})")
    if not found:
        click.echo(f"No release of {system} was approved under a condition.")


@condition.command()
@click.argument("system")
@click.argument("condition_digest", metavar="CONDITION")
@signer_options
@root_option
@json_option
def met(system: str, condition_digest: str, person: str, role: str, key: Path | None, reason: str, root: Path | None,
        as_json: bool) -> None:
    """Sign that CONDITION (its digest, or the beginning) is met: you set it, or you hold the role of whoever did."""
    from compliance_assets.evidence import inbox
    from compliance_assets.governance.deciding import Signer, meet_condition, private_key

    river = open_project(root)
    signer = Signer(person, role, private_key(river, person, key, people_keys(river)))
    signed, _ = meet_condition(river, system, condition_digest, signer, reason)
    admitted, refused = inbox.admit(river.archive)
    if as_json:
        shown.as_json({"statement": signed.digest, "admitted": [record.index for record in admitted], "refused": refused})
    else:
        click.echo(f"{person} signed that the condition is met. Statement {signed.digest.short}.")


@click.command()
@click.argument("system")
@signer_options
@root_option
@json_option
def reject(system: str, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool) -> None:
    """Reject the release of SYSTEM in review. The same model and report cannot come back unchanged."""
    _decide("reject", system, person, role, key, reason, root, as_json)


@click.command()
@click.argument("system")
@click.option("--until", required=True, metavar="YYYY-MM-DD", help="The date until which you put it off.")
@signer_options
@root_option
@json_option
def defer(system: str, until: str, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool) -> None:
    """Put the decision about SYSTEM off until a date; the release stays blocked."""
    from datetime import UTC, datetime

    due = _day(until, "--until")
    if due < datetime.now(UTC).date():
        raise click.BadParameter(f"{until} is past; nothing would be put off", param_hint="--until")
    _decide("defer", system, person, role, key, reason, root, as_json, until)


@click.command()
@click.argument("system")
@click.argument("statement")
@signer_options
@root_option
@json_option
def revoke(system: str, statement: str, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool) -> None:
    """Take back your decision STATEMENT (its digest) about SYSTEM. A rollout under way ends; what answers in production stays."""
    from compliance_assets.governance.deciding import Signer, private_key, revoke_decision

    river = open_project(root)
    signer = Signer(person, role, private_key(river, person, key, people_keys(river)))
    revoked, path = revoke_decision(river, system, statement, signer, reason)
    if as_json:
        shown.as_json({"decision": "revoke", "revokes": statement, "statement": revoked.digest, "file": str(path)})
    else:
        click.echo(f"{person} revoked {statement[:12]}. Statement {revoked.digest.short}, in the inbox.")


@click.command("review-return")
@click.argument("system")
@click.argument("statement")
@click.option("--unjustified", is_flag=True, help="It was not right. Either answer ends the wait.")
@signer_options
@root_option
@json_option
def review_return(system: str, statement: str, unjustified: bool, person: str, role: str, key: Path | None, reason: str, root: Path | None,
                  as_json: bool) -> None:
    """Review the emergency rollback or withdrawal STATEMENT (its digest) of SYSTEM, given by somebody else."""
    from compliance_assets.evidence import inbox
    from compliance_assets.governance.deciding import Signer, private_key
    from compliance_assets.governance.deciding import review_return as review_it

    river = open_project(root)
    signer = Signer(person, role, private_key(river, person, key, people_keys(river)))
    signed, _ = review_it(river, system, statement, signer, "reject" if unjustified else "approve", reason)
    admitted, refused = inbox.admit(river.archive)
    if as_json:
        shown.as_json({"statement": signed.digest, "admitted": [record.index for record in admitted], "refused": refused})
    else:
        click.echo(f"{person} reviewed {statement[:12]}: {'not right' if unjustified else 'right'}. Statement {signed.digest.short}.")
