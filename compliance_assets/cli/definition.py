"""definition show, definition approve: what was promised, and who says that it may be."""

from __future__ import annotations

import time
from pathlib import Path

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import json_option, open_project, people_keys, root_option, signer_options


@click.group()
def definition() -> None:
    """Show or approve the definition of a system: declaration, gates and code, under one digest."""


@definition.command("show")
@click.argument("system")
@root_option
@json_option
def show(system: str, root: Path | None, as_json: bool) -> None:
    """Show the definition of SYSTEM as its files stand, and which one is in force."""
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
    shown.table([(bound.metric, ", ".join(bound.over), f"{bound.comparator} {bound.text}", bound.judged_on, bound.because)
                 for bound in bounds], ("metric", "over", "bound", "judged on", "because"))
    shown.heading(f"Code: {len(found.code)} files")
    for name, digest in sorted(found.code.items()):
        if name.startswith("systems/"):
            click.echo(f"  {digest.short}  {name}")
    click.echo("  … and the stages, metrics and policy of this program (all of them with --json)")


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
        click.echo("It is in force." if stands else "It is not in force yet: more people of the declared roles must approve "
                   f"({', '.join(f'{need.people} × {need.role}' for need in river.organisation.definitions.approved_by)}).")
