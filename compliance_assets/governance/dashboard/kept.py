"""What stands on disk and in the ledger now: artefacts there or not, deadlines passed, anchors, provenance that leads all the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from compliance_assets.evidence import anchors
from compliance_assets.evidence.alerts import alerts_of
from compliance_assets.evidence.archive import Record
from compliance_assets.pipeline import River
from compliance_assets.policy.river import rule_named, upstream_of
from compliance_assets.trust.canonical import Digest

WINDOW = timedelta(days=90)


@dataclass(frozen=True)
class Kept:
    """How much of what should be there is there."""

    named: int
    """Artefacts that stage records of the window name (output, files, log, environment)."""
    lost: tuple[str, ...]
    """Digests of those that are not in the store."""
    rollouts: int
    covered: int
    """Full rollouts whose records lead to the raw source, with every output among them in the store."""
    entries: int
    """Of the ledger whose head the log's key signed."""
    anchored: int | None
    """Of how many entries the newest head kept outside is; None if none is."""
    overdue: tuple[str, ...]
    """Files of inference logs whose time to be kept is over and that are still there."""
    open_integrity_alerts: tuple[int, ...]
    """Ledger indices of open alerts T7."""


def kept_of(river: River, system: str, stages: Iterable[tuple[Record, datetime]], full: Iterable[Record],
            by_output: Mapping[str, Record]) -> Kept:
    """Look at the store, the log folders and the anchors; nothing is hashed again here (`compliance verify` does that).

    `stages`: each stage record, and when it was made.
    """
    exists = cache(river.archive.artefacts.exists)  # one look at each artefact, this time
    since = river.now() - WINDOW
    named = {digest for record, at in stages if at >= since
             for digest in (record.body.output, *record.body.files.values(), record.body.log, record.body.environment)}
    rollouts = list(full)
    kept, _ = anchors.read(river.archive, river.archive.in_force())
    alerts = [one.opened.index for one in reversed(alerts_of(river.archive, system)) if one.opened.body.rule == "T7" and not one.closed]
    return Kept(
        len(named), tuple(sorted(digest for digest in named if not exists(Digest.parse(digest)))), len(rollouts),
        sum(_leads_to_the_source(record, by_output, exists) for record in rollouts), river.archive.ledger.size,
        max((anchor.head.size for anchor in kept), default=None), _overdue(river, system),
        tuple(alerts))


def _leads_to_the_source(full: Record, by_output: Mapping[str, Record], exists: Callable[[Digest], bool]) -> bool:
    found, todo = set(), [str(full.body.approval)]
    while todo:
        digest = todo.pop()
        if digest not in by_output or not exists(Digest.parse(digest)):
            return False
        record = by_output[digest]
        found.add(rule_named(record.body.stage).makes)
        todo += record.body.inputs.values()
    return found == {"approval", *upstream_of("approval")}


def _overdue(river: River, system: str) -> tuple[str, ...]:
    today = river.now().astimezone(UTC).strftime("%Y-%m-%d")
    log = Path(river.home.serving) / river.definition(system).system.deployment.environment / "log"
    late: list[str] = []
    for manifest in sorted(log.rglob("sealed-*.json")) if log.is_dir() else ():
        body = json.loads(manifest.read_bytes())
        if body["keep_until"] < today:
            late += [f"{manifest.parent.name}/{name}" for name in sorted(body["files"]) if (manifest.parent / name).is_file()]
    return tuple(late)
