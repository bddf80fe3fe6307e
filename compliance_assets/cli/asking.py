"""ask: the questions that an auditor or an authority asks, answered from evidence; what is missing is said."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import json_option, open_project, root_option

if TYPE_CHECKING:
    from compliance_assets.governance.questions.answer import Answer

SIGNS = {"answered": ("✓", "green"), "partly": ("~", "yellow"), "unknown": ("?", "yellow")}


@click.command()
@click.argument("numbers", nargs=-1, metavar="[E1 … E35 | all]")
@click.option("--of", "system", metavar="SYSTEM", help="The system that is asked about (needed where several are declared).")
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]), help="As the records stood then (UTC); default: now.")
@click.option("--about", default="", metavar="WHAT",
              help="The one thing meant: a feature, a source, a person's key, an inference, a library.")
@root_option
@json_option
def ask(numbers: tuple[str, ...], system: str | None, as_of: datetime | None, about: str, root: Path | None, as_json: bool) -> None:
    """Answer an auditor's questions from evidence: each fact with its ledger entry, its statement's digest and the artefact meant.

    Without a number it lists the questions. They are about the version in production at that moment, or, where none was, about the
    newest candidate. What no record says is unknown, with what is missing.
    """
    from compliance_assets.governance.questions.catalogue import QUESTIONS
    from compliance_assets.governance.questions.catalogue import ask as ask_one

    if not numbers:
        if as_json:
            shown.as_json({"questions": [{"question": one.number, "asks": one.asks, "family": one.family, "about": one.about or None}
                                         for one in QUESTIONS]})
            return
        shown.table([(one.number, one.asks, one.about) for one in QUESTIONS], ("", "question", "--about"))
        return
    river = open_project(root, writer=False)
    name = system or (river.systems[0] if len(river.systems) == 1 else None)
    if name is None:
        raise click.UsageError(f"Say which system: --of {' | '.join(river.systems)}")
    wanted = [one.number for one in QUESTIONS] if [one.lower() for one in numbers] == ["all"] else list(numbers)
    answers = [ask_one(river, name, number, as_of=as_of.replace(tzinfo=UTC) if as_of else None, about=about) for number in wanted]
    if as_json:
        shown.as_json(answers[0].as_json() if len(answers) == 1 else {"answers": [one.as_json() for one in answers]})
        return
    for one in answers:
        _print(one)


def _print(answer: Answer) -> None:
    sign, colour = SIGNS[answer.state]
    shown.heading(f"{answer.question.number} {answer.question.asks}")
    click.echo(click.style(f"{sign} {answer.state}", fg=colour)
               + click.style(f"  {answer.system}, as of {answer.as_of[:19]} UTC; version: {answer.version}", dim=True))
    if answer.facts:
        shown.table([(f"#{one.entry}", one.what, one.said, one.digest[:12], one.evidence[:12]) for one in answer.facts],
                    ("ledger", "", "found", "digest", "statement"))
    for said in answer.missing:
        click.echo(click.style("  unknown  ", fg="yellow") + said)
