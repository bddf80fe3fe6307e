"""From any digest, release or run: upstream to the raw file, downstream to production.

Provenance is a query over authentic records; nothing is inferred. What the records do not say is left out and named.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from compliance_assets.errors import ComplianceError, Misused
from compliance_assets.evidence import records
from compliance_assets.evidence.archive import Archive, Record
from compliance_assets.policy.river import rule_named
from compliance_assets.trust.canonical import Digest, parse_canonical, parse_rfc3339


@dataclass(frozen=True)
class Node:
    """One artefact or act in the history of something."""

    what: str
    """Asset name, `deployment:<action>` or `decision:<decision>`."""
    digest: str
    record: Record

    @property
    def when(self) -> str:
        body = self.record.body
        return str(body.finished if hasattr(body, "finished") else body.at if hasattr(body, "at") else body.issued)


@dataclass(frozen=True)
class Trace:
    """Everything that records say about a point: what it rests on, and what rests on it."""

    asked: str
    upstream: tuple[Node, ...]
    """Raw source first."""
    downstream: tuple[Node, ...]
    """In ledger order."""
    source: str
    """Digest of the raw data, or empty if the records do not reach it."""


def resolve(archive: Archive, text: str) -> tuple[Digest, ...]:
    """The outputs that `text` names: a digest or its unambiguous beginning, a release, or a Dagster, MLflow or CLI run id."""
    if len(text) == 64:
        digest = Digest.parse(text)
        if archive.executions_of(digest):
            return (digest,)
        holders = [record for role in ("file", "statement") for record in archive.find(digest, role) if hasattr(record.body, "output")]
        if holders:
            return tuple(dict.fromkeys(Digest.parse(record.body.output) for record in holders))
    made = [record for record in archive.find(records.run(text), "run") if hasattr(record.body, "output")]
    if made:
        return tuple(dict.fromkeys(Digest.parse(record.body.output) for record in made))
    found: dict[str, None] = {}
    if 6 <= len(text) <= 64 and set(text) <= set("0123456789abcdef"):
        for digest in archive.ledger.beginning_with(text, ("output", "file")):
            for role in ("output", "file"):
                found |= dict.fromkeys(record.body.output for record in archive.find(digest, role))
        # A release is named inside of what a registration made: asked last, it costs a look at every one.
        if not found:
            found = dict.fromkeys(record.body.output for record in _registrations(archive)
                                  if _release(archive, record.body.output).startswith(text))
    if not found:
        raise Misused(f"Nothing here is called {text}.", rule="trace", value=text,
                      remedy="Give a digest (six digits or more), a release, or the id of a Dagster, MLflow or CLI run.")
    return tuple(Digest.parse(digest) for digest in found)


def _registrations(archive: Archive) -> Iterable[Record]:
    systems = sorted({entry.system for entry in archive.ledger.by_kind("definition")})
    return (record for system in systems for record in archive.made_by(system, "model_registration"))


def _release(archive: Archive, staged: str) -> str:
    try:
        return str(parse_canonical(archive.artefacts.get_bytes(Digest.parse(staged)))["release"])
    except (ComplianceError, KeyError):
        return ""


def trace(archive: Archive, text: str, as_of: datetime | None = None) -> Trace:
    """Both ways from whatever `text` names, as the records stood at `as_of`."""
    points = resolve(archive, text)
    upstream: dict[str, Node] = {}
    for point in points:
        _up(archive, point, upstream, as_of)
    downstream: dict[tuple[int, str], Node] = {}
    for point in points:
        _down(archive, point, downstream, as_of)
    ordered = sorted(upstream.values(), key=lambda node: (rule_named(node.what).number if ":" not in node.what and node.what != "error"
                                                          else 9, node.record.index))
    datasets = [node for node in ordered if node.what == "dataset"]
    source = str(parse_canonical(archive.artefacts.get_bytes(Digest.parse(datasets[0].digest)))["source"]) if datasets else ""
    return Trace(text, tuple(ordered), tuple(downstream[key] for key in sorted(downstream)), source)


def _executions(archive: Archive, digest: Digest, as_of: datetime | None) -> list[Record]:
    return [record for record in archive.executions_of(digest)
            if as_of is None or parse_rfc3339(record.body.finished) <= as_of]


def _asset(record: Record) -> str:
    return "error" if record.body.outcome == "error" else rule_named(record.body.stage).makes


def _up(archive: Archive, digest: Digest, found: dict[str, Node], as_of: datetime | None) -> None:
    executions = _executions(archive, digest, as_of)
    if not executions or digest in found:
        return
    record = executions[-1]
    found[digest] = Node(_asset(record), digest, record)
    for upstream in record.body.inputs.values():
        _up(archive, Digest.parse(upstream), found, as_of)


def _down(archive: Archive, digest: Digest, found: dict[tuple[int, str], Node], as_of: datetime | None) -> None:
    for record in archive.find(digest, "input"):
        if as_of is not None and parse_rfc3339(record.body.finished) > as_of:
            continue
        key = (record.index, record.body.output)
        if key not in found:
            found[key] = Node(_asset(record), record.body.output, record)
            _down(archive, Digest.parse(record.body.output), found, as_of)
    for node in _acts(archive, digest):
        if as_of is None or parse_rfc3339(node.when) <= as_of:
            found.setdefault((node.record.index, node.digest), node)


def _acts(archive: Archive, digest: Digest) -> Iterable[Node]:
    """Decisions about, and deployments authorised by, this artefact."""
    for record in archive.find(digest, "authorised-by"):
        yield Node(f"deployment:{record.body.action}", record.digest, record)
    for name in ("staged-model", "evaluation-report", "integration-report", "dataset"):
        for record in archive.decisions_on(digest, name):
            yield Node(f"decision:{record.body.decision}", record.digest, record)
