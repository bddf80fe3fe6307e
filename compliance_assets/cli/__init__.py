"""A person's door: verbs that a person types, answers that a person can read, `--json` for machines.

Exit 0: done. 1: refused, with rule, value and remedy. 2: misused. Commands are imported when they are called, so that
`compliance --help` costs nothing. Refusals are said in `main`.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module

import click

from compliance_assets.errors import ComplianceError, DeclarationError

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("setup:init", "Make a home: keys, ledger, artefact store, organisation.yaml, a starter system."),
    "demo": ("demo:demo", "The whole story on simulated data, from a raw file to a deployed model."),
    "up": ("up:up", "Governance pages, Dagster's UI behind the guard, model servers. One Ctrl-C ends all."),
    "check": ("setup:check", "Read every declaration; say file, line, rule and remedy."),
    "run": ("work:run", "Drive a system's stages through the river."),
    "status": ("work:status", "Where each system stands, and what it waits for."),
    "dashboard": ("inspect:dashboard", "Trends: gate success, fairness failures, time to production, what was blocked."),
    "alerts": ("alerts:alerts", "Trends that somebody must look at: list, look now, acknowledge, close."),
    "review": ("decide:review", "What an approver sees before deciding."),
    "approve": ("decide:approve", "Approve the release in review, signed with your own key."),
    "reject": ("decide:reject", "Reject the release in review, with a reason."),
    "defer": ("decide:defer", "Put the decision off until a date, with a reason."),
    "revoke": ("decide:revoke", "Take back a decision that you signed."),
    "condition": ("decide:condition", "Conditions of approvals; sign that one is met."),
    "exception": ("exception:exception", "Ask for, decide or list exceptions to a failed gate."),
    "definition": ("definition:definition", "Show, compare or approve the definition of a system."),
    "deploy": ("work:deploy", "Stages 7 and 8 by hand; the same gates."),
    "rollback": ("work:rollback", "Let the version that was in production before answer again."),
    "withdraw": ("work:withdraw", "Stop a version for good; nothing takes its place."),
    "review-return": ("decide:review_return", "Review somebody else's emergency rollback."),
    "reconcile": ("service:reconcile", "Hold what answers in an environment against what the ledger says."),
    "decommission": ("service:decommission", "Take a system out of service for good."),
    "hold": ("service:hold", "Legal holds: nothing held is deleted."),
    "retention": ("service:retention", "What is kept how long, and what may go."),
    "serve": ("work:serve", "Supervise an environment's model servers and router."),
    "traffic": ("answers:traffic", "Send rows of the holdout to an environment, for trying things out."),
    "override": ("answers:override", "Record that a person decided otherwise than the model."),
    "outcome": ("answers:outcome", "Record how it turned out: the delayed label of a decision."),
    "stop": ("answers:stop", "Stop all answers of an environment at once."),
    "resume": ("answers:resume", "Let a stopped environment answer again."),
    "seal-log": ("answers:seal_log", "Seal the days of an inference log that are over; end its retention."),
    "verify": ("inspect:verify", "Recompute every root, signature, chain and artefact."),
    "anchor": ("anchoring:anchor", "Have the ledger's head kept outside this host, as organisation.yaml declares."),
    "witness": ("anchoring:witness", "Run a witness: it cosigns heads of ledgers that only grew."),
    "trace": ("inspect:trace", "Provenance of a digest, release or run, both ways."),
    "ask": ("asking:ask", "An auditor's 35 questions, answered from evidence, or said to be unknown."),
    "explain": ("inspect:explain", "Rebuild one decision from stored bytes: is it the same, and what moved it?"),
    "reproduce": ("inspect:reproduce", "Execute a run's stages 1 to 4 again from the record alone, and compare."),
    "export": ("inspect:export", "An auditor's bundle, with its own verifier."),
    "modelcard": ("inspect:modelcard", "The model card of a candidate, made from evidence alone."),
    "engineering": ("telemetry:engineering", "Durations, resources, bottleneck; what changed before a stage failed."),
    "telemetry": ("telemetry:telemetry", "Prometheus metrics and OpenTelemetry traces, from the ledger."),
    "runbook": ("byhand:runbook", "Do the stages by hand, step by step, with a signed log; the same gates."),
    "dossier": ("documents:dossier", "Annex IV, AISDP modules, instructions, datasheet: from evidence, gaps marked."),
    "documents": ("documents:documents", "File a version of a document with your signature; list what was filed."),
    "sign-part": ("documents:sign_part", "Sign the text of a part of the documents that only people can write."),
    "datasets": ("inspect:datasets", "Registered dataset versions; fetch one by digest."),
}


class LazyGroup(click.Group):
    """Knows each command's name and one-line help; imports the command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"compliance_assets.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            raise click.UsageError(f"No such command {args[0]!r}." + (f" Did you mean {close[0]!r}?" if close else ""), ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="compliance-assets", prog_name="compliance")
def cli() -> None:
    """Eight gated stages from a raw file to a deployed model, with signed evidence for each.

    COMPLIANCE_HOME chooses the home (default: .compliance beside systems/); COMPLIANCE_ROOT the project.
    """


def main() -> None:
    """The program. Never shows a traceback for a refusal."""
    # A killed terminal must not leave half a line; UTF-8 whatever the locale says, for × and →.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        sys.exit(cli.main(prog_name="compliance", standalone_mode=False) or 0)
    except ComplianceError as error:
        refuse(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nStopped. What was recorded stays; do the same again to go on.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def refuse(error: ComplianceError) -> None:
    """Say no: on stdout as JSON where machines listen, on stderr for people."""
    if "--json" in sys.argv:
        body: dict[str, object] = dict(error.as_json())
        if isinstance(error, DeclarationError):
            body["problems"] = list(error.problems)
        click.echo(json.dumps(body, indent=2, ensure_ascii=False))
        return
    click.echo(click.style("Refused: ", fg="red", bold=True) + error.message, err=True)
    if isinstance(error, DeclarationError):
        for problem in error.problems:
            click.echo(f"  {problem}", err=True)
    if error.remedy:
        click.echo(click.style("Remedy:  ", fg="cyan") + error.remedy, err=True)
    click.echo(click.style(f"Rule:    {error.rule}", dim=True), err=True)
