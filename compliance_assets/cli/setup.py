"""init and check: making a home, and reading what people declared."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import json_option, root_option

ROLES = ("technical_owner", "governance_lead")
EXAMPLE = "credit_lending"


def example_folder(name: str = EXAMPLE) -> Path:
    """Where the example systems lie: beside the package."""
    from compliance_assets.errors import Misused

    folder = Path(str(resources.files("compliance_assets"))).parent / "systems" / name
    if not (folder / "system.yaml").is_file():
        raise Misused(f"The example system {name} is not beside this installation.", rule="example", value=name,
                      remedy="Install from the source folder (`pip install -e .`), which holds systems/.")
    return folder


def copy_example(root: Path, name: str = EXAMPLE) -> None:
    """Copy an example system into `root`/systems, without caches or data."""
    target = root / "systems" / name
    if target.resolve() == example_folder(name).resolve():
        return
    shutil.copytree(example_folder(name), target, ignore=shutil.ignore_patterns("__pycache__", "data", "*.pyc"))


def _deploys_here(declaration: Path) -> None:
    """Let the starter system deploy to the one environment that a development home has: there is no production to wait for."""
    text = declaration.read_text(encoding="utf-8")
    declaration.write_text(text.replace("  environment: production\n", "  environment: development\n", 1), encoding="utf-8")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("."))
@click.option("--organisation", "name", default="Example Lender", show_default=True, help="The provider's name.")
@click.option("--person", default="person-1", show_default=True, help="Your pseudonym in the records.")
@click.option("--port", type=click.IntRange(1024, 65531), default=8080, show_default=True,
              help="Where the development environment answers (this port and the next three).")
@click.option("--ledger", "ledger_address", default="", metavar="URL",
              help="Keep the ledger in Postgres (postgresql://host/database?ledger=name) instead of a file in the home.")
@json_option
def init(folder: Path, name: str, person: str, port: int, ledger_address: str, as_json: bool) -> None:
    """Make a home in FOLDER: keys (0600), ledger, artefact store, Dagster and MLflow storage, organisation.yaml.

    The profile is *development*: one person; everything runs, nothing is promotable, and there is no production environment
    until organisation.yaml names a second person. A starter system is added where systems/ has none.
    """
    from compliance_assets.errors import HomeUnusable, Misused
    from compliance_assets.evidence import inbox
    from compliance_assets.evidence.home import Home, find_home
    from compliance_assets.evidence.ledger_store import is_postgres
    from compliance_assets.governance.deciding import Signer, decide_definition
    from compliance_assets.governance.founding import development_organisation, found
    from compliance_assets.governance.proposing import propose_definition
    from compliance_assets.policy.definition import find_systems, load_definition

    if ledger_address and not is_postgres(ledger_address):
        raise Misused("The ledger's address is not one of Postgres.", rule="ledger address", value=ledger_address[:60],
                      remedy="Write postgresql://host/database?ledger=name, or leave it out for a file.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomeUnusable(f"{folder} cannot be made: {error.strerror}.", rule="home", value=str(folder),
                           remedy="Choose a folder that you may write.") from error
    root = folder.resolve()
    if (root / "organisation.yaml").exists():
        raise HomeUnusable(f"{root / 'organisation.yaml'} exists already.", rule="home", value=str(root),
                           remedy="Use this project as it is, or start in another folder.")
    if not find_systems(root):
        copy_example(root)
        _deploys_here(root / "systems" / EXAMPLE / "system.yaml")
    for path in find_systems(root):
        load_definition(path)  # every mistake is said before anything is made
    home = Home.create(find_home(root))
    now = datetime.now(UTC)
    organisation = development_organisation(home, name, person, ROLES, getpass.getuser(), _git_identities(root), port, now)
    river = found(root, home, organisation, now, ledger_address)
    write_dagster_yaml(home)
    for system in river.systems:
        propose_definition(river, system, person)
        decide_definition(river, system, Signer(person, ROLES[0], home.keys / "people" / person), "approve",
                          "First definition of this development home, as its files stood at init.", opened_seconds=0)
    inbox.admit(river.archive)
    if as_json:
        shown.as_json({"home": str(home.path), "root": str(root), "profile": "development", "person": person,
                       "systems": list(river.systems), "trust_policy": organisation.digest})
        return
    click.echo(f"A development home for {name} is in {home.path}.")
    click.echo(f"  organisation.yaml   {person} in the roles {', '.join(ROLES)}; key in {home.keys / 'people' / person} (0600)")
    click.echo(f"  systems             {', '.join(river.systems)}; definitions approved by {person}")
    click.echo("  nothing made here is promotable; a production environment needs a second person in organisation.yaml")
    click.echo(f"Next: compliance run {river.systems[0]}   or   compliance up")


def _git_identities(root: Path) -> tuple[str, ...]:
    done = subprocess.run(("git", "-C", str(root), "config", "user.email"), capture_output=True, text=True, check=False) \
        if shutil.which("git") else None
    return (done.stdout.strip().lower(),) if done is not None and done.returncode == 0 and done.stdout.strip() else ()


def write_dagster_yaml(home: object) -> None:
    """Put the project's dagster.yaml into the home, which is DAGSTER_HOME."""
    from compliance_assets.evidence.home import Home

    assert isinstance(home, Home)
    source = Path(str(resources.files("compliance_assets"))).parent / "dagster.yaml"
    if source.is_file():
        shutil.copyfile(source, home.dagster / "dagster.yaml")


@click.command()
@click.option("--schema", is_flag=True, help="Print the JSON Schemas of system.yaml and organisation.yaml instead.")
@root_option
@json_option
def check(schema: bool, root: Path | None, as_json: bool) -> None:
    """Read every declaration: system.yaml, its contract and code, organisation.yaml. Exit 1 with every problem found."""
    from compliance_assets.errors import DeclarationError
    from compliance_assets.evidence.home import find_root
    from compliance_assets.policy.definition import find_systems, load_definition
    from compliance_assets.policy.organisation import check_against, load_organisation
    from compliance_assets.policy.schema import json_schema

    if schema:
        shown.as_json(json_schema())
        return
    where = root or find_root()
    problems: list[str] = []
    notes: list[str] = []
    read: dict[str, str] = {}
    organisation = None
    if (where / "organisation.yaml").is_file():
        try:
            organisation = load_organisation(where / "organisation.yaml")
        except DeclarationError as error:
            problems += error.problems or (str(error),)
    else:
        notes.append("organisation.yaml: not there yet; `compliance init` makes one")
    for folder in find_systems(where):
        try:
            definition = load_definition(folder)
        except DeclarationError as error:
            problems += error.problems or (str(error),)
            continue
        read[folder.name] = definition.digest
        if organisation is not None:
            notes += [f"{folder / 'system.yaml'}: {'.'.join(map(str, problem.where))}: {problem.rule}. {problem.remedy}"
                      for problem in check_against(definition.system, organisation)]
    if as_json:
        shown.as_json({"root": str(where), "systems": read, "problems": problems, "notes": notes})
    else:
        for name, digest in read.items():
            click.echo(f"{click.style('✓', fg='green')} {name}  definition {digest[:12]}")
        for note in notes:
            click.echo(f"{click.style('!', fg='yellow')} {note}")
        for problem in problems:
            click.echo(f"{click.style('✗', fg='red')} {problem}")
        if not read and not problems:
            click.echo("No system is declared here.")
    if problems:
        raise click.exceptions.Exit(1)
