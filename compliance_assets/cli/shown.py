"""How answers look in a terminal: tables, marks and sentences. Green is never the default; unknown is written as unknown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

    from compliance_assets.governance.explaining import Explanation
    from compliance_assets.pipeline import Advance

MARKS: Mapping[str, tuple[str, str]] = {
    "PASS": ("✓", "green"), "FAIL": ("✗", "red"), "ERROR": ("✗", "red"), "INCONCLUSIVE": ("?", "yellow"),
    "INSUFFICIENT_DATA": ("?", "yellow"), "NOT_RUN": ("·", "bright_black"), "NOT_APPLICABLE": ("-", "bright_black"),
}


def as_json(body: object) -> None:
    """One JSON document on stdout, for machines."""
    click.echo(json.dumps(body, indent=2, ensure_ascii=False, default=str))


def write_file(path: Path, text: str) -> None:
    """Write a file that the person named; a place that cannot be written is their mistake, not ours."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint="--into") from error


def mark(verdict: str) -> str:
    """A verdict as a coloured sign and its name."""
    sign, colour = MARKS[verdict]
    return click.style(f"{sign} {verdict}", fg=colour)


def heading(text: str) -> None:
    click.echo("\n" + click.style(text, bold=True))


def table(rows: Iterable[Sequence[object]], head: Sequence[str]) -> None:
    """A plain table, columns as wide as their content, the last one free."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*[str(cell) for cell in row])
    Console(highlight=False, soft_wrap=False).print(shown)


def advance_line(outcome: Advance) -> None:
    """What one stage came to, with its gates."""
    rule = outcome.stage
    how = "reused" if outcome.reused else "judged again" if not outcome.computed else f"{outcome.seconds:.1f} s"
    verdict = click.style("passed", fg="green") if outcome else click.style("failed", fg="red")
    click.echo(f"{click.style(f'{rule.number} {rule.title}', bold=True)} → {rule.makes} {outcome.digest.short}  {verdict}  "
               + click.style(f"({how}, ledger #{outcome.record_index})", dim=True))
    for report in outcome.reports:
        click.echo(f"    {mark(report.verdict.value):<28} {report.gate}" + click.style(f"  {_headline(report)}", dim=True))
        for finding in report.failures:
            if report.verdict.value != "NOT_RUN":
                click.echo(click.style(f"        {finding.sentence()}", fg="red")
                           + (click.style(f"  because: {finding.because}", dim=True) if finding.because else ""))


def _headline(report: Any) -> str:
    """The one number that says most about a gate that passed, or how many findings it had."""
    measured = [finding for finding in report.findings if finding.value is not None and finding.lower is not None]
    if report and measured:
        shown = "; ".join(finding.sentence() for finding in measured[:2])
        more = len(measured) - 2
        return shown + (f"; {more} more" if more > 0 else "")
    count = len(report.findings)
    return f"{count} finding{'s' if count != 1 else ''}"


def explanation(found: Explanation) -> None:
    """One decision rebuilt: what was decided, whether it is the same, what moved it."""
    logged = found.decision
    heading(f"{logged.decision}: score {logged.score}, threshold {found.threshold}")
    click.echo(f"{logged.time[:19]} UTC · {logged.environment}, server {logged.server} ({logged.role}) · model {logged.model[:12]} · "
               f"deployed by ledger entry {found.deployed.index}, approval {found.deployed.body.approval[:12]}")
    heading("Rebuilt from stored bytes")
    for one in found.comparisons:
        sign = click.style("✓ the same", fg="green") if one.same else click.style("✗ differs", fg="red")
        click.echo(f"  {one.what:<10} {sign}" + ("" if one.same else f"   logged {one.logged[:40]}, now {one.rebuilt[:40]}"))
    heading("What moved the score, one feature at a time against its usual value")
    if found.why_no_contributions:
        click.echo(f"  not known: {found.why_no_contributions}")
    else:
        table([(one.feature, _short(one.value), _short(one.usual), f"{float(one.moves):+.4f}") for one in found.contributions],
              ("feature", "here", "usual", "moves the score by"))
        click.echo(click.style("This describes the model's answer, not the causes of anything; features that act together share "
                               "their effect.", dim=True))


def interval(ends: tuple[float, float] | None) -> str:
    """`20.7 to 100.0`, in percent."""
    return "no case" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def _short(value: str) -> str:
    """A number with the digits that a person reads; other text as it is. The JSON has every digit."""
    try:
        return f"{float(value):.5g}"
    except ValueError:
        return value


def review(document: Mapping[str, Any]) -> None:
    """The review as an approver sees it in a terminal."""
    heading(f"Release {document['release'][:12]} of {document['system']} to {document['environment']}?")
    click.echo(f"{document['title']} · {document['provider']} · {document['registry']}")
    click.echo(f"Purpose: {document['intended_purpose']}")
    if document["demonstration"]:
        click.echo(click.style("A demonstration: people and keys were made by the program.", fg="yellow"))
    heading("Needs your judgement")
    for sentence in document["judgement"]:
        click.echo(f"  • {sentence}")
    for name, since in document["definition_since"].items():
        definition_since(name, since)
    heading("What the gates found")
    for stage in document["stages"]:
        gates = ", ".join(f"{gate['gate']} {mark(gate['verdict'])}" for gate in stage["gates"])
        click.echo(f"  {stage['stage']:<24} {stage['output'][:12]}  ledger #{stage['ledger_index']}  {gates}")
    evaluated = [gate for stage in document["stages"] if stage["stage"] == "model_evaluation" for gate in stage["gates"]]
    measured = [_finding_row(finding) for gate in evaluated for finding in gate["findings"]
                if "value" in finding and "bound" in finding]
    if measured:
        heading("Evaluation against declared bounds")
        table(measured, ("metric", "value", "95 % interval", "n", "bound", "verdict"))
    change = document["change"]
    click.echo(f"  Class of the change since production: {change['class']} ({change['note']}). Who must approve follows from it.")
    for one in document["conditions"]:
        met = f" (met, says {one['met_by']})" if one["met_by"] else ""
        click.echo(f"  Condition of {one['person']}, due {one['due']}: {one['text']}{met}")
    if document["exceptions"]:
        heading("What failed and goes on under an exception")
        for one in document["exceptions"]:
            exception(one)
    heading("What approval authorises")
    for step in document["authorises"]:
        click.echo(f"  • {step}")
    click.echo("  It undoes itself on: " + "; ".join(document["undoes_itself"]))
    click.echo(f"  Valid for {document['valid_for']} from the decision to the first exposure.")
    heading("Who was heard")
    for heard in document["heard"]:
        click.echo(f"  {click.style('✓', fg='green')} {heard['person']} as {heard['role']}: {heard['rationale']}")
    for person in document["rejected"]:
        click.echo(f"  {click.style('✗', fg='red')} {person['person']} rejected: {person['rationale']}")
    for person in document["not_counted"]:
        click.echo(f"  {click.style('·', fg='yellow')} {person['person']}'s decision does not count: {person['why']}")
    for role in document["missing"]:
        click.echo(f"  … waiting for {role['people']} × {role['role']}")


def exception(one: Mapping[str, Any]) -> None:
    """One exception: what failed, why it may go on, and whether it counts."""
    colour = "green" if one["standing"] == "in force" else "yellow"
    click.echo(f"  {one['gate']} excepted until {one['expires']}: {click.style(one['standing'], fg=colour)}  ({one['statement'][:12]}, "
               f"ledger #{one['ledger_index']}, {one['severity']})")
    for sentence in one["findings"]:
        click.echo(f"    failed: {sentence}")
    click.echo(f"    reason: {one['reason']}  (asked for by {one['requested_by']})")
    for measure in one["compensating"]:
        click.echo(f"    meanwhile: {measure}")
    click.echo(f"    will be mended: {one['remediation']}")
    for approver in one["approvers"]:
        click.echo(f"    approved by {approver['person']} as {approver['role']}")


def definition_since(name: str, since: Mapping[str, Any] | None) -> None:
    """What the definition changed since the one in production, or since the one first deployed."""
    heading(f"What changed in the definition since {'production' if name == 'production' else 'the baseline (first deployed)'}")
    if since is None:
        click.echo("  nothing was deployed before: there is no definition to compare with")
    elif "not_compared" in since:
        click.echo(click.style(f"  it could not be compared: {since['not_compared']}", fg="yellow"))
    else:
        changes(since)


COLOURS: Mapping[str, str] = {"weakens": "red", "structural": "yellow", "strengthens": "green", "neutral": "bright_black"}


def changes(compared: Mapping[str, Any]) -> None:
    """The changes between two definitions, the gravest first, and who must look."""
    click.echo(f"  {compared['from'][:12]} → {compared['to'][:12]}")
    if not compared["changes"]:
        click.echo("  no difference")
        return
    table([(change["direction"], change["class"], change["where"], change["what"],
            f"{change['before']} → {change['after']}", change["law"]) for change in compared["changes"]],
          ("", "class", "where", "what", "change", "supports"))
    grave = click.style(compared["direction"], fg=COLOURS[compared["direction"]], bold=True)
    click.echo(f"  Taken together: {grave}, proposed class {compared['class']} (a person determines it).")
    click.echo(f"  To be looked at by: {', '.join(compared['review'])}")


def _finding_row(finding: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the table of findings; what was not measured stays empty."""
    lower, upper = (f"{float(finding[end]):.4g}" if end in finding else "" for end in ("lower", "upper"))
    return (finding["id"].partition(".")[2] if finding["id"].count(".") > 0 else finding["id"], f"{float(finding['value']):.4g}",
            f"{lower} … {upper}" if lower else "none", str(finding["n"]) if "n" in finding else "",
            f"{finding['comparator']} {finding['bound']}", finding["verdict"])
