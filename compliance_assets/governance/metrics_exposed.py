"""What Prometheus may scrape: stages, gates, decisions, deployments, counted from the ledger, whoever drove them.

Names and units follow Prometheus' conventions: base units (seconds), `_total` on counters, a `compliance_` prefix. Counters are of records,
so they survive every restart and count a run in Dagster, by the command line or by hand alike. An entry that is not authentic is counted as
just that, and as nothing else. Needs the extra `telemetry`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compliance_assets.errors import Misused, UntrustedEvidence
from compliance_assets.evidence import inbox
from compliance_assets.governance.engineering import seconds
from compliance_assets.pipeline import River
from compliance_assets.trust.canonical import parse_rfc3339

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Seconds: upper ends of the duration histogram."""


@dataclass
class Exposed:
    """Counts so far of one ledger. Safe to ask from several threads."""

    seen: int = 0
    executions: Counter[tuple[str, ...]] = field(default_factory=Counter)
    verdicts: Counter[tuple[str, ...]] = field(default_factory=Counter)
    reuses: Counter[tuple[str, ...]] = field(default_factory=Counter)
    decisions: Counter[tuple[str, ...]] = field(default_factory=Counter)
    steps: Counter[tuple[str, ...]] = field(default_factory=Counter)
    untrusted: int = 0
    durations: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    last_passed: dict[tuple[str, str], float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def text(self, river: River) -> bytes:
        """The exposition format, as of now."""
        try:
            from prometheus_client import CollectorRegistry, generate_latest
        except ImportError as error:
            raise Misused("prometheus-client is not installed.", rule="telemetry",
                          remedy="pip install 'compliance-assets[telemetry]'") from error
        with self._lock:
            self._count(river)
            found = tuple(self._families(river))
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Once(found))
        return bytes(generate_latest(registry))

    def _count(self, river: River) -> None:
        for index in range(self.seen, river.archive.ledger.size):
            try:
                record = river.archive.authentic(river.archive.ledger.entry(index))
            except UntrustedEvidence:
                self.untrusted += 1
                continue
            body, kind = record.body, record.statement.kind
            if kind == "stage":
                self.executions[body.system, body.stage, body.outcome] += 1
                self.durations.setdefault((body.system, body.stage), []).append(seconds(record))
                for report in body.reports:
                    self.verdicts[body.system, body.stage, report.gate, report.verdict.value.lower()] += 1
                if body.outcome == "passed":
                    self.last_passed[body.system, body.stage] = parse_rfc3339(body.finished).timestamp()
            elif kind == "reuse":
                self.reuses[body.system, body.stage] += 1
            elif kind == "decision":
                self.decisions[body.scope.system or "all", body.scope.purpose, body.decision] += 1
            elif kind == "deployment":
                self.steps[body.system, body.environment, body.action] += 1
        self.seen = river.archive.ledger.size

    def _families(self, river: River) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        counters = (
            ("compliance_stage_executions", "Stage executions on record.", ("system", "stage", "outcome"), self.executions),
            ("compliance_gate_verdicts", "Gate verdicts on record.", ("system", "stage", "gate", "verdict"), self.verdicts),
            ("compliance_stage_reuses", "Executions that an earlier record answered.", ("system", "stage"), self.reuses),
            ("compliance_decisions", "Decisions that people signed.", ("system", "purpose", "decision"), self.decisions),
            ("compliance_deployment_steps", "Steps of rollouts and returns.", ("system", "environment", "action"), self.steps))
        for name, says, labels, counted in counters:
            family = CounterMetricFamily(name, says, labels=labels)
            for values, count in sorted(counted.items()):
                family.add_metric(values, count)
            yield family
        took = HistogramMetricFamily("compliance_stage_duration_seconds", "Wall time of stage executions.",
                                     labels=("system", "stage"))
        for (system, stage), all_of_them in sorted(self.durations.items()):
            buckets: list[Any] = [(str(end), sum(one <= end for one in all_of_them)) for end in BUCKETS]
            took.add_metric((system, stage), [*buckets, ("+Inf", len(all_of_them))], sum(all_of_them))
        yield took
        passed = GaugeMetricFamily("compliance_stage_last_passed_timestamp_seconds", "When a stage passed last.",
                                   labels=("system", "stage"))
        for labels_of, moment in sorted(self.last_passed.items()):
            passed.add_metric(labels_of, moment)
        yield passed
        force = GaugeMetricFamily("compliance_definition_in_force", "1: the definition on disk is the approved one.", labels=("system",))
        for system in river.systems:
            force.add_metric((system,), float(river.archive.definition_in_force(system) == river.definition(system).digest))
        yield force
        for name, says, value in (
                ("compliance_ledger_entries", "Entries of the ledger.", self.seen),
                ("compliance_ledger_untrusted_entries", "Entries that nobody trusted signed.", self.untrusted),
                ("compliance_inbox_waiting", "Signed decisions that wait to be admitted.", len(inbox.waiting(river.home.inbox)))):
            yield GaugeMetricFamily(name, says, value=value)


class _Once:
    """A collector of families that were made already."""

    def __init__(self, found: tuple[Metric, ...]) -> None:
        self._found = found

    def collect(self) -> tuple[Metric, ...]:
        return self._found
