"""definition show, diff, check-change, propose, approve: what was promised, what changed in it, and who says that it may."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import json_option, open_project, people_keys, root_option, signer_options

if TYPE_CHECKING:
    from compliance_assets.governance.change_control import Comparison


@click.group()
def definition() -> None:
    """Show, compare or approve the definition of a system: declaration, gates and code, under one digest."""


@definition.command("show")
@click.argument("system")
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]),
              help="The one in force then (UTC), with system.yaml as it was, byte for byte.")
@root_option
@json_option
def show(system: str, as_of: datetime | None, root: Path | None, as_json: bool) -> None:
    """Show the definition of SYSTEM as its files stand, and which one is in force; or the one that was in force on a date."""
    if as_of is not None:
        _show_as_of(system, as_of.replace(tzinfo=UTC), root, as_json)
        return
    river = open_project(root, writer=False)
    found = river.definition(system)
    in_force = river.archive.definition_in_force(system)
    if as_json:
        shown.as_json({"system": system, "digest": found.digest, "in_force": in_force, "trust_policy": river.organisation.digest,
                       "parts": found.parts()})
        return
    click.echo(f"{found.system.title} ({system}), declared in {found.folder / 'system.yaml'}")
    click.echo(f"definition as it stands  {found.digest}")
    click.echo(f"definition in force      {in_force or 'none: nobody has approved one'}"
               + ("" if in_force in (None, found.digest) else click.style("   the files differ from it", fg="yellow")))
    click.echo(f"trust policy             {river.organisation.digest}")
    shown.heading("Gates, in river order")
    from compliance_assets.policy.river import RIVER

    shown.table([(rule.number, rule.name, ", ".join(rule.gate_names)) for rule in RIVER], ("", "stage", "gates"))
    shown.heading("Bounds")
    evaluation = found.system.evaluation
    bounds = [*evaluation.performance, *evaluation.fairness.bounds, *evaluation.robustness, *evaluation.calibration,
              *evaluation.drift.bounds]
    sliced = evaluation.time_slices.bounds if evaluation.time_slices is not None else ()
    placed = [*((bound, bound.over) for bound in bounds), *((bound, ("worst time slice", *bound.over)) for bound in sliced)]
    shown.table([(bound.metric, ", ".join(over), f"{bound.comparator} {bound.text}", bound.judged_on, bound.because)
                 for bound, over in placed], ("metric", "over", "bound", "judged on", "because"))
    shown.heading(f"Code: {len(found.code)} files")
    for name, digest in sorted(found.code.items()):
        if name.startswith("systems/"):
            click.echo(f"  {digest.short}  {name}")
    click.echo("  … and the stages, metrics and policy of this program (all of them with --json)")


def _show_as_of(system: str, moment: datetime, root: Path | None, as_json: bool) -> None:
    from compliance_assets.errors import Misused
    from compliance_assets.governance.change_control import as_of, declaration_text, definition_parts

    archive = open_project(root, writer=False).archive
    digest = as_of(archive, system, moment)
    if digest is None:
        raise Misused(f"No definition of {system} was in force at {moment:%Y-%m-%d %H:%M}Z.", rule="definition", value=system,
                      remedy="Give a later date, or look with `compliance definition show`.")
    text, parts = declaration_text(archive, digest), definition_parts(archive, digest)
    approved = [record for record in archive.decisions_on(digest, "definition")
                if record.statement.kind == "decision" and record.body.decision == "approve"]
    if as_json:
        shown.as_json({"system": system, "as_of": moment.isoformat(), "digest": digest, "declaration": text, "parts": parts,
                       "aisdp": parts["declaration"]["aisdp"],
                       "approved_by": [{"person": r.body.person, "role": r.body.role, "at": r.body.issued, "ledger_index": r.index}
                                       for r in approved]})
        return
    click.echo(f"# {system}: definition {digest}, in force at {moment:%Y-%m-%d %H:%M}Z")
    for record in approved:
        click.echo(f"# approved by {record.body.person} as {record.body.role} at {record.body.issued[:19]} (ledger #{record.index})")
    click.echo(f"# documented in {parts['declaration']['aisdp']['reference']}, module 2: {parts['declaration']['aisdp']['module_2']}")
    click.echo(text, nl=False)


@definition.command("diff")
@click.argument("system")
@click.option("--from", "before", default="in-force", show_default=True, help="in-force, production, baseline, files, or a digest.")
@click.option("--to", "after", default="files", show_default=True, help="The same.")
@root_option
@json_option
def diff(system: str, before: str, after: str, root: Path | None, as_json: bool) -> None:
    """Say what changed between two definitions of SYSTEM: which way, what it is for the system, who must look.

    Exit 0, whatever changed; `check-change` is the one that refuses.
    """
    from compliance_assets.governance.change_control import compare

    found = compare(open_project(root, writer=False), system, before, after).as_json()
    if as_json:
        shown.as_json(found)
    else:
        shown.changes(found)


@definition.command("check-change")
@click.argument("system")
@click.option("--base", type=click.Path(path_type=Path, file_okay=False, exists=True), default=None,
              help="A checkout of the state before (for CI without a home); default: the definition in force in the home.")
@click.option("--approvals", type=click.Path(path_type=Path, file_okay=False, exists=True), default=None,
              help="A folder of signed decisions; default with a home: the ledger.")
@root_option
@json_option
def check_change(system: str, base: Path | None, approvals: Path | None, root: Path | None, as_json: bool) -> None:
    """Fail when SYSTEM's definition was weakened, or changed in a way that people must judge, and nobody has approved it.

    For one's own CI. With --base, people and roles are those of the base's organisation.yaml, so that a change cannot appoint
    its own approvers. Exit 0: nothing to approve, or approved. Exit 1: an approval is missing.
    """
    comparison, approved, refused = _without_home(system, base, approvals, root) if base else _with_home(system, approvals, root)
    missing = comparison.to_approve if not approved else ()
    if as_json:
        shown.as_json({**comparison.as_json(), "approved": approved, "passed": not missing, "not_counted": refused})
    else:
        shown.changes(comparison.as_json())
        for name, why in refused:
            click.echo(click.style(f"  not counted: {name}: {why}", fg="yellow"))
        click.echo(click.style(f"  {comparison.after.short} is approved.", fg="green") if approved else
                   click.style(f"  {len(missing)} change(s) need an approval of {comparison.after}: "
                               f"`compliance definition approve {system}`.", fg="red") if missing else
                   "  Nothing here needs an approval before it is merged.")
    if missing:
        raise click.exceptions.Exit(1)


def _without_home(system: str, base: Path, approvals: Path | None,
                  root: Path | None) -> tuple[Comparison, bool, tuple[tuple[str, str], ...]]:
    from compliance_assets.evidence.home import find_root
    from compliance_assets.governance.change_control import Comparison, approved_in
    from compliance_assets.policy.change import changes
    from compliance_assets.policy.definition import load_definition
    from compliance_assets.policy.organisation import load_organisation

    old, new = (load_definition(folder / "systems" / system) for folder in (base, root or find_root()))
    comparison = Comparison(system, old.digest, new.digest, changes(old.parts(), new.parts()))
    if approvals is None:
        return comparison, False, ()
    return comparison, *approved_in(approvals, system, new.digest, load_organisation(base / "organisation.yaml"))


def _with_home(system: str, approvals: Path | None, root: Path | None) -> tuple[Comparison, bool, tuple[tuple[str, str], ...]]:
    from compliance_assets.governance.change_control import approved_in, compare

    river = open_project(root, writer=False)
    comparison = compare(river, system)
    if approvals is not None:
        return comparison, *approved_in(approvals, system, comparison.after, river.archive.require_trust_policy())
    return comparison, river.archive.definition_in_force(system) == comparison.after, ()


@definition.command("propose")
@click.argument("system", required=False)
@click.option("--trust-policy", is_flag=True, help="Propose organisation.yaml as it stands instead.")
@click.option("--as", "person", required=True, metavar="PERSON", help="Your id in organisation.yaml.")
@root_option
@json_option
def propose(system: str | None, trust_policy: bool, person: str, root: Path | None, as_json: bool) -> None:
    """Put the definition of SYSTEM on record as its files stand, so that others can approve exactly it, here or on the pages.

    It counts for nothing until they have. `approve` proposes by itself.
    """
    from compliance_assets.governance.proposing import propose_definition, propose_organisation

    if bool(system) == trust_policy:
        raise click.UsageError("Name a SYSTEM, or give --trust-policy.")
    river = open_project(root)
    river.archive.in_force().person(person)
    if system:
        propose_definition(river, system, person)
    else:
        propose_organisation(river)
    digest = river.definition(system).digest if system else river.organisation.digest
    if as_json:
        shown.as_json({"proposed": digest, "system": system or "", "by": person})
    else:
        asked = ", ".join(need.role for need in river.archive.in_force().definitions.approved_by)
        click.echo(f"{digest} is on record. It is approved by {asked}: `compliance definition approve`, or the page Definitions.")


@definition.command("approve")
@click.argument("system", required=False)
@click.option("--trust-policy", is_flag=True, help="Approve organisation.yaml as it stands instead.")
@signer_options
@root_option
@json_option
def approve(system: str | None, trust_policy: bool, person: str, role: str, key: Path | None, reason: str, root: Path | None,
            as_json: bool) -> None:
    """Approve the definition of SYSTEM as its files stand, with your SSH key. It then binds every new run."""
    from compliance_assets.evidence import inbox
    from compliance_assets.governance.deciding import Signer, decide_definition, decide_trust_policy, private_key
    from compliance_assets.governance.proposing import propose_definition, propose_organisation

    if bool(system) == trust_policy:
        raise click.UsageError("Name a SYSTEM, or give --trust-policy.")
    river = open_project(root)
    opened = time.monotonic()
    signer = Signer(person, role, private_key(river, person, key, people_keys(river)))
    if trust_policy:
        propose_organisation(river)
        statement, _ = decide_trust_policy(river, signer, "approve", reason, opened_seconds=int(time.monotonic() - opened))
    else:
        assert system is not None
        propose_definition(river, system, signer.person)
        if river.archive.definition_in_force(system) is not None and not as_json:
            from compliance_assets.governance.change_control import compare

            shown.heading("What you are about to approve changes, against the definition in force")
            shown.changes(compare(river, system).as_json())
        statement, _ = decide_definition(river, system, signer, "approve", reason, opened_seconds=int(time.monotonic() - opened))
    admitted, refused = inbox.admit(river.archive)
    in_force = river.archive.definition_in_force(system) if system else None
    if as_json:
        shown.as_json({"statement": statement.digest, "admitted": [record.index for record in admitted], "refused": refused,
                       "in_force": in_force})
        return
    click.echo(f"{person} approved {'organisation.yaml' if trust_policy else system}. Statement {statement.digest.short}.")
    for name, why in refused:
        click.echo(click.style(f"{name} was refused: {why}", fg="red"))
    if trust_policy:
        stands = river.archive.in_force().digest == river.organisation.digest
        click.echo("It is the trust policy in force." if stands else "It does not count yet: more people of the roles that the one before "
                   "it names must approve.")
    if system:
        stands = in_force == river.definition(system).digest
        click.echo("It is in force." if stands else "It is not in force yet: in all it takes the approval of "
                   f"{', '.join(f'{need.people} × {need.role}' for need in river.organisation.definitions.approved_by)}.")
