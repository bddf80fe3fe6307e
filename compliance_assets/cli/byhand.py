"""runbook show, start, step, verify, finish: the stages done by hand, from the same definition, through the same wall."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import json_option, open_project, people_keys, progress, root_option, signer_options
from compliance_assets.policy.river import ASSETS, RIVER, STAGE_NAMES

if TYPE_CHECKING:
    from compliance_assets.governance.deciding import Signer
    from compliance_assets.governance.runbook.log import Entry
    from compliance_assets.pipeline import River

STAGE = click.Choice([*STAGE_NAMES, *ASSETS, *(str(rule.number) for rule in RIVER)])


@click.group()
def runbook() -> None:
    """The manual fallback: show the runbook, start a log, do step after step, have steps verified, finish.

    Each step runs its stage as the pipeline would and is refused before the one before it is verified. Entries are signed with your SSH
    key and kept in the ledger.
    """


@runbook.command("show")
@click.argument("system")
@click.option("--format", "form", type=click.Choice(("text", "html", "json")), default="text", show_default=True,
              help="html: one self-contained file, to print.")
@click.option("--into", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Write it to this file instead.")
@root_option
@json_option
def show(system: str, form: str, into: Path | None, root: Path | None, as_json: bool) -> None:
    """Render SYSTEM's runbook from its definition: commands, expected output, verification, who; and the logs so far."""
    from compliance_assets.governance.runbook import log
    from compliance_assets.governance.runbook.plan import runbook as render

    river = open_project(root, writer=False)
    book = render(river, system)
    logs, refused = log.logs(river, system)
    if as_json or form == "json":
        kept = [{"log": one.id, "finished": one.finished, "deviations": list(one.deviations), "entries": [
            {"ledger_index": entry.record.index, "evidence_id": entry.record.digest, "person": entry.person, **entry.said}
            for entry in one.entries]} for one in logs]
        not_counted = [{"ledger_index": record.index, "because": why} for record, why in refused]
        text = json.dumps({**book.as_json(), "logs": kept, "not_counted": not_counted}, indent=2, ensure_ascii=False)
    elif form == "html":
        from compliance_assets.web.rendering import runbook_on_paper

        text = runbook_on_paper(book, logs)
    else:
        said = [f"  #{entry.record.index}  {sentence}" for one in logs for entry, sentence in log.lines(one)]
        text = "\n".join([book.as_text(), *(["", "On record:", *said] if said else [])])
    if into is None:
        click.echo(text)
    else:
        shown.write_file(into, text)
        click.echo(f"Runbook of {system}, digest {book.digest}, in {into}.")


def _entered(root: Path | None, person: str, role: str, key: Path | None, as_json: bool, work: Callable[[River, Signer], Entry]) -> None:
    """Open the project, do one thing, say what was entered; exit 1 where a step did not pass its checks."""
    from compliance_assets.governance.deciding import Signer, private_key

    river = open_project(root, listeners=() if as_json else (progress,))
    entry = work(river, Signer(person, role, private_key(river, person, key, people_keys(river))))
    failed = entry.kind == "step" and entry.said["result"] != "verified"
    if as_json:
        shown.as_json({"ledger_index": entry.record.index, "evidence_id": entry.record.digest, "person": person, **entry.said})
    else:
        click.echo(f"{person} entered {entry.kind}{f' {entry.stage}' if entry.kind in ('step', 'verification') else ''}: "
                   f"ledger #{entry.record.index}, log {entry.said['log']}.")
        if entry.kind == "step":
            for check in entry.said["checks"]:
                click.echo(f"  {check['check']}: {click.style(check['result'], fg=None if check['result'] == 'holds' else 'red')}")
            click.echo(click.style("Not verified: the next step stays closed.", fg="red") if failed else
                       f"{len(entry.said['files'])} files hashed; verified by the command.")
        for deviation in entry.said["deviations"]:
            click.echo(click.style(f"  deviation: {deviation}", fg="yellow"))
    if failed:
        raise click.exceptions.Exit(1)


@runbook.command("start")
@click.argument("system")
@signer_options
@root_option
@json_option
def start(system: str, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool) -> None:
    """Begin a log of SYSTEM. Warns when it is not the first within a quarter."""
    from compliance_assets.governance.runbook import working

    _entered(root, person, role, key, as_json, lambda river, signer: working.start(river, system, signer, reason))


@runbook.command("step")
@click.argument("system")
@click.argument("stage", type=STAGE)
@click.option("--record", type=click.IntRange(min=0), default=None, metavar="INDEX",
              help="Enter a stage record that was made otherwise since the log began; marked as recorded after the fact.")
@signer_options
@root_option
@json_option
def step(system: str, stage: str, record: int | None, person: str, role: str, key: Path | None, reason: str, root: Path | None,
         as_json: bool) -> None:
    """Do STAGE of SYSTEM now, check it, hash its files, enter it. Refused before the step before it is verified."""
    from compliance_assets.governance.runbook import working

    _entered(root, person, role, key, as_json,
             lambda river, signer: working.step(river, system, _named(stage), signer, reason, record=record))


@runbook.command("verify")
@click.argument("system")
@click.argument("stage", type=STAGE)
@signer_options
@root_option
@json_option
def verify(system: str, stage: str, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool) -> None:
    """Verify somebody else's step STAGE (evaluation and approval need it): the checks are made again, then you sign."""
    from compliance_assets.governance.runbook import working

    _entered(root, person, role, key, as_json, lambda river, signer: working.verify(river, system, _named(stage), signer, reason))


@runbook.command("finish")
@click.argument("system")
@signer_options
@root_option
@json_option
def finish(system: str, person: str, role: str, key: Path | None, reason: str, root: Path | None, as_json: bool) -> None:
    """End SYSTEM's log with a statement of what is complete and every deviation. It may end early, and says so."""
    from compliance_assets.governance.runbook import working

    _entered(root, person, role, key, as_json, lambda river, signer: working.finish(river, system, signer, reason))


def _named(stage: str) -> str:
    return RIVER[int(stage) - 1].name if stage.isdigit() else stage
