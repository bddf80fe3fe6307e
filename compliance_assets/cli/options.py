"""Options that several commands share, and how a command opens the project."""

from __future__ import annotations

import getpass
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from compliance_assets.pipeline import Listener, River
    from compliance_assets.stages.stage import Driver

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Answer as JSON, for machines.")
root_option = click.option("--root", type=click.Path(path_type=Path, file_okay=False, exists=True), default=None,
                           help="The folder above systems/ (default: found from here upward).")


def signer_options(command: F) -> F:
    """Who decides, in which role, with which key, and why."""
    for option in (
        click.option("--reason", required=True, help="In your own words, recorded word for word (20 characters or more)."),
        click.option("--key", type=click.Path(path_type=Path, dir_okay=False, exists=True), default=None,
                     help="Your SSH private key (default: the one this home made for you, in development and demo only)."),
        click.option("--role", required=True, help="The role in which you decide."),
        click.option("--as", "person", required=True, metavar="PERSON", help="Your id in organisation.yaml."),
    ):
        command = option(command)
    return command


def open_project(root: Path | None, *, writer: bool = True, listeners: tuple[Listener, ...] = ()) -> River:
    """The project here, opened."""
    from compliance_assets.evidence.home import find_root
    from compliance_assets.pipeline import open_river

    return open_river(root or find_root(), writer=writer, listeners=listeners)


def driver() -> Driver:
    """This invocation of the command line, as an execution."""
    from compliance_assets.stages.stage import Driver

    return Driver(run_id=f"cli-{uuid.uuid4()}", launcher=getpass.getuser())


def progress(event: str, facts: Mapping[str, object]) -> None:
    """Says what a stage is doing, on stderr, while it does it."""
    if event in ("stage_entered", "produced", "gate_judged", "stage_completed", "gate_failed", "stage_reused", "stage_failed"):
        return
    if event == "step_waiting" and not _worth_saying(facts):
        return
    said = ", ".join(f"{key} {value}" for key, value in facts.items()
                     if key not in ("system", "stage", "run", "attempt", "launcher", "definition"))
    click.echo(click.style(f"    {event.replace('_', ' ')}{': ' + said if said else ''}", dim=True), err=True)


_said: dict[object, int] = {}


def _worth_saying(facts: Mapping[str, object]) -> bool:
    """A step that waits for requests says so when it begins and at every quarter, not every second."""
    requests, wanted = int(str(facts["requests"])), max(1, int(str(facts["wanted"])))
    quarter = 4 * requests // wanted
    step = (facts["run"], facts["kind"])
    if _said.get(step, -1) >= quarter:
        return False
    _said[step] = quarter
    return True


def people_keys(river: River) -> dict[str, Path]:
    """Private keys that this home made for its people: in development and demo only."""
    folder = river.home.keys / "people"
    return {path.name: path for path in folder.iterdir() if path.suffix != ".pub"} if folder.is_dir() else {}
