"""telemetry metrics, traces; engineering: what engineers and their tools look at."""

from __future__ import annotations

import time
from pathlib import Path

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import json_option, open_project, root_option


@click.group()
def telemetry() -> None:
    """Prometheus metrics and OpenTelemetry traces, made from the ledger: complete whoever drove.

    Structured JSON logs of every stage are in the home's logs/, one line an event. Needs: pip install 'compliance-assets[telemetry]'.
    """


@telemetry.command()
@click.option("--port", type=click.IntRange(1024, 65535), default=None,
              help="Serve on 127.0.0.1:PORT/metrics until Ctrl-C (default: print once).")
@root_option
def metrics(port: int | None, root: Path | None) -> None:
    """Stages, gates, decisions and deployments in Prometheus' text format; on loopback only."""
    from compliance_assets.governance.metrics_exposed import Exposed

    river = open_project(root, writer=False)
    if port is None:
        click.echo(Exposed().text(river), nl=False)
        return
    from compliance_assets.web.metrics_endpoint import serve_metrics

    click.echo(f"Metrics on http://127.0.0.1:{port}/metrics. Ctrl-C ends it.", err=True)
    serve_metrics(river.root, river.home.path, port)


@telemetry.command()
@click.option("--otlp", default="http://127.0.0.1:4318/v1/traces", show_default=True, metavar="URL", help="An OTLP collector (HTTP).")
@click.option("--since", type=click.IntRange(min=0), default=0, show_default=True, metavar="INDEX", help="From this ledger index on.")
@click.option("--follow", is_flag=True, help="Go on with what is recorded from now on, until Ctrl-C.")
@root_option
@json_option
def traces(otlp: str, since: int, follow: bool, root: Path | None, as_json: bool) -> None:
    """Send a span for each recorded stage, decision and deployment step to a collector; with --json print them instead."""
    import json

    from compliance_assets.governance.traces import otlp as exporter_to
    from compliance_assets.governance.traces import send, spans

    river = open_project(root, writer=False)
    if as_json:
        shown.as_json([json.loads(span.to_json()) for span in spans(river, since)])
        return
    exporter = exporter_to(otlp)
    reached = send(river, exporter, since)
    click.echo(f"Sent what entries {since} to {reached - 1} record. Go on from {reached}.")
    while follow:
        time.sleep(5)
        reached = send(river, exporter, reached)


@click.command()
@click.argument("system", required=False)
@root_option
@json_option
def engineering(system: str | None, root: Path | None, as_json: bool) -> None:
    """Durations, resources and bottleneck of SYSTEM's stages (of all, if none is named), and what changed before one failed."""
    from compliance_assets.governance import engineering as view

    river = open_project(root, writer=False)
    names = (system,) if system else river.systems
    if as_json:
        shown.as_json({"systems": [view.as_json(river, name) for name in names]})
        return
    for name in names:
        shown.heading(name)
        shown.table([(one.rule.title, one.passed, one.failed, one.errors, one.reused, _seconds(one.median), _seconds(one.slowest),
                      "unknown" if one.share is None else f"{one.share:.0%}") for one in view.timings(river, name)],
                    ("stage", "passed", "failed", "could not run", "reused", "median", "slowest", "share"))
        for failure in view.failures(river, name):
            body = failure.record.body
            click.echo(f"\n  {body.stage} #{failure.record.index} {body.outcome}: {'; '.join(failure.said[:2])}")
            click.echo(f"    {failure.sentence}")
            for one in failure.differences:
                click.echo(f"    {one.kind}: {one.where}: {one.before} → {one.now}")


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} s"
