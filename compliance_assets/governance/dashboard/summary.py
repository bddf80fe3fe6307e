"""The dashboard of one system as plain data: D1 to D17, each with what it says or what is missing to say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from compliance_assets.errors import ComplianceError
from compliance_assets.governance.charts import Chart
from compliance_assets.governance.charts import over_time as draw
from compliance_assets.governance.charts.reading import words
from compliance_assets.governance.dashboard import measures
from compliance_assets.governance.dashboard.history import TRIGGERS, History, history_of
from compliance_assets.governance.dashboard.measures import Durations, Rate
from compliance_assets.pipeline import River
from compliance_assets.policy.river import RIVER

_WINDOW, _EVER = f"last {measures.WINDOW.days} days", "all time"
SAID = ("rejected", "deferred", "revoked", "expired", "waiting")


@dataclass(frozen=True)
class Measure:
    """One line of the dashboard: number, name, what was found, in which window, how it is computed; `missing` where it cannot be."""

    number: str
    name: str
    found: str
    window: str
    formula: str
    detail: Mapping[str, Any]
    missing: str = ""


@dataclass(frozen=True)
class Dashboard:
    """One system's trends: four headlines, four pictures, every measure."""

    history: History
    tiles: tuple[tuple[str, str, str], ...]
    """(what, the number, what it rests on)"""
    gates: tuple[tuple[str, Rate, Rate], ...]
    """(stage and gate, rate in the window, rate of all time), in river order."""
    charts: tuple[Chart, ...]
    measures: tuple[Measure, ...]

    def as_json(self) -> dict[str, Any]:
        return {"system": self.history.system, "as_of": self.history.now.isoformat(), "window_days": measures.WINDOW.days,
                "gates": {name: {"window": window.as_json(), "all_time": ever.as_json()} for name, window, ever in self.gates},
                "measures": [{"number": one.number, "name": one.name, "found": one.found, "window": one.window, "formula": one.formula,
                              "missing": one.missing, **({"detail": dict(one.detail)} if one.detail else {})} for one in self.measures]}


def dashboard(river: River, system: str) -> Dashboard:
    """Read one system's records and measure them as they stand now."""
    return of_history(replace(history_of(river, system), stale_modules=_stale_modules(river, system)))


def _stale_modules(river: River, system: str) -> tuple[int, int] | None:
    """How many AISDP modules are stale, of how many; None where there is nothing to document."""
    from compliance_assets.governance.documents import document

    try:
        paper = document(river, "aisdp", system)
    except ComplianceError:
        return None
    return paper.stale, len(paper.points)


def of_history(history: History) -> Dashboard:
    """The same from a history that was read, or made up by a test."""
    since = history.now - measures.WINDOW
    recent = [one for one in history.judged if one.at >= since]
    gates = tuple((f"{stage} {name}", measures.success(one for one in recent if (one.stage, one.gate) == (stage, name)),
                   measures.success(one for one in history.judged if (one.stage, one.gate) == (stage, name)))
                  for stage, name in _in_order(history))
    fairness = [one for one in recent if one.gate == "fairness"]
    failed = [one for one in fairness if not one.passed]
    parts = measures.to_production(one for one in history.deployed if one.full >= since)
    stopped = measures.blocked(history, since)
    whole = measures.success(recent)
    tiles = (
        ("Gate success, all gates", percent(whole.value), f"{whole.n} verdicts in {measures.WINDOW.days} days{_few(whole)}"),
        ("Fairness gate failures", str(len(failed)), f"of {len(fairness)} judged; {history.halted_before_fairness} halted before fairness"),
        ("Training to production, median", hours(parts["training to production"].median),
         f"{_some(parts['training to production'].n, 'deployment')}; 90 % within {hours(parts['training to production'].p90)}"),
        ("Blocked by people or time", str(sum(stopped.values())),
         ", ".join(f"{stopped[why]} {why}" for why in SAID if stopped[why]) or "nothing"),
    )
    found = _measures(history, since, whole, parts, stopped, len(fairness), len(failed))
    return Dashboard(history, tiles, gates, _charts(history), tuple(sorted(found, key=lambda one: int(one.number[1:]))))


def _some(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _in_order(history: History) -> list[tuple[int, str]]:
    judged = {(one.stage, one.gate) for one in history.judged}
    return [(rule.number, gate.name) for rule in RIVER for gate in rule.gates if (rule.number, gate.name) in judged]


def _charts(history: History) -> tuple[Chart, ...]:
    moments = [one.at for one in history.judged] + [at for _, at in history.trained]
    ends = measures.buckets(min(moments, default=history.now), history.now)
    fairness = [one for one in history.judged if one.gate == "fairness"]
    failures = [(one.at, over) for one in fairness if not one.passed for over in dict.fromkeys(over for over, _ in one.failed)]
    return (
        draw.rates({"all gates": measures.rolling(history.judged, ends), "fairness": measures.rolling(fairness, ends)},
                   measures.changes(history.judged)),
        draw.stacks("fairness-failures", "Fairness gate failures", "verdicts that failed, by protected attribute", ends,
                    measures.counted(failures, ends)),
        draw.waits([(one.full, (one.full - one.trained).total_seconds() / 3600) for one in history.deployed], ends),
        draw.stacks("blocked", "Releases blocked by people or time", "rejected, deferred, revoked, expired, waiting now", ends,
                    measures.counted(measures.blocked_events(history.blocked), ends)),
    )


def _measures(history: History, since: datetime, whole: Rate, parts: Mapping[str, Durations], stopped: Mapping[str, int],
              judged: int, failed: int) -> list[Measure]:
    return [*_of_gates(history, since, whole, judged, failed), *_of_people(history, since, parts, stopped), *_of_records(history, since)]


def _of_gates(history: History, since: datetime, whole: Rate, judged: int, failed: int) -> list[Measure]:
    reached = Rate(sum(digest in history.staged for digest, _ in history.trained), len(history.trained))
    by_attribute = measures.fairness_failures(one for one in history.judged if one.at >= since)
    margins = measures.fairness_margins(history.judged)
    attributes = ", ".join(f"{over} {count}" for over, count in by_attribute.most_common()) or "none"
    return [
        Measure("D1", "Gate success rate", f"{rate(whole)}; candidates staged of those trained, ever: {rate(reached)}", _WINDOW,
                "pass / (pass + fail + undecided); the first definite verdict of each candidate, gate version and bounds",
                {"gates": whole.as_json(), "staged": reached.as_json()}),
        Measure("D2", "Fairness gate failures", f"{failed} of {judged}; by attribute: {attributes}; halted before fairness, ever: "
                f"{history.halted_before_fairness}", _WINDOW,
                "failed fairness verdicts / judged; who was halted at an earlier gate was never judged, and stands beside it",
                {"by_attribute": dict(by_attribute), "halted_before": history.halted_before_fairness}),
        Measure("D9", "Fairness margin", f"{margins[-1][1]:+.3f} bounds at the last judgement" if margins else "", _EVER,
                "smallest signed distance of a judged end to its bound, in bounds; below zero has failed",
                {"series": [(at.isoformat(), margin) for at, margin in margins]}, "" if margins else "fairness was never judged"),
        _drift(history),
        Measure("D15", "Holdout wear", f"the most asked holdout was used {max(history.holdouts.values())} times"
                if history.holdouts else "", _EVER, "evaluations per holdout", dict(history.holdouts),
                "" if history.holdouts else "nothing was evaluated"),
    ]


def _of_people(history: History, since: datetime, parts: Mapping[str, Durations], stopped: Mapping[str, int]) -> list[Measure]:
    deployed = {one.candidate for one in history.deployed}
    never = [(history.now - at).total_seconds() / 3600 for digest, at in history.trained if digest not in deployed]
    times = [(one.full - one.trained).total_seconds() / 3600 for one in history.deployed]
    wait, hasty = measures.latency(one for one in history.decisions if one.at >= since)
    returns = [one for one in history.returns if one[2] >= since]
    ways = "; ".join(f"{name}: median {hours(one.median)}, mean {hours(one.mean)}, 90 % within {hours(one.p90)} (n {one.n})"
                     for name, one in parts.items() if one.n)
    return [
        Measure("D3", "Training to production", f"{ways or 'nothing was deployed'}; never deployed, ever: {len(never)}"
                + (f"; not on record, ever: the training of {len(history.untraced)} full rollouts" if history.untraced else ""), _WINDOW,
                "time of the full rollout minus the end of training, for each deployment",
                {**{name: one.as_json() for name, one in parts.items()}, "never_deployed": len(never),
                 "kaplan_meier_median_hours_ever": measures.kaplan_meier_median(times, never)}),
        Measure("D4", "Blocked by people or time",
                ", ".join(f"{stopped[why]} {why}" for why in SAID if why in stopped) or "nothing", _WINDOW,
                "releases rejected, deferred or revoked by people; approvals that lapsed unused; what waits now", dict(stopped)),
        Measure("D5", "Approval latency", f"median {hours(wait.median)}, 90 % within {hours(wait.p90)} (n {wait.n}); decided within two "
                f"minutes of opening: {rate(hasty)}", _WINDOW, "decision minus integration report; how long the evidence was open",
                {**wait.as_json(), "hasty": hasty.as_json()}),
        _excepted(history, since),
        Measure("D12", "Rollbacks and withdrawals", f"{len(returns)}, {sum(emergency for _, emergency, _, _ in returns)} in an emergency",
                _WINDOW, "deployment records of a return; the share made in an emergency", {"entries": [index for *_, index in returns]}),
    ]


def _of_records(history: History, since: datetime) -> list[Measure]:
    return [
        *_kept(history),
        _documents(history),
        Measure("D11", "Definition changes", f"{sum(at >= since for at, _ in history.definitions)} proposed; stage records under a "
                f"definition not in force, ever: {len(history.unapproved_runs)}", _WINDOW,
                "definitions proposed; records whose definition was not approved when they ran",
                {"entries": [index for _, index in history.definitions], "unapproved": list(history.unapproved_runs)}),
        Measure("D14", "Reuse", rate(Rate(history.reused, history.reused + history.executed)), _EVER,
                "answers from an earlier record / all times that a stage was asked",
                {"reused": history.reused, "executed": history.executed}),
    ]


def _drift(history: History) -> Measure:
    formula = "distance from the baseline (the first version in production); share of what is presumed a substantial change"
    if not history.baseline:
        return Measure("D10", "Drift since the baseline", "", _EVER, formula, {}, "no evaluation had a baseline to be compared with")
    newest = [one for one in history.baseline if one.index == history.baseline[-1].index]
    said = "; ".join(f"{words(one.metric)}{'' if one.over == 'all' else ' over ' + one.over} {one.value:.4g}"
                     + (f" ({abs(one.value) / TRIGGERS[one.metric]:.0%} of {TRIGGERS[one.metric]})" if one.metric in TRIGGERS else "")
                     for one in newest)
    return Measure("D10", "Drift since the baseline", said, "newest evaluation", formula,
                   {"series": [(one.at.isoformat(), one.metric, one.over, one.value, one.index) for one in history.baseline]})


def _excepted(history: History, since: datetime) -> Measure:
    granted = [one for one in history.exceptions if one.granted]
    recent = sum(one.at >= since for one in granted)
    reached = sum(one.stage == 4 and one.gate == "performance" and one.at >= since for one in history.judged)
    still = sum(one.expires > history.now for one in granted)
    rollouts = len(history.deployed) + len(history.untraced)
    return Measure("D8", "Exceptions", f"{recent} given for {reached} candidates; now in force {still}; full rollouts that rest on one, "
                   f"ever: {history.excepted_rollouts} of {rollouts}", _WINDOW,
                   "exceptions that people gave / candidates at the evaluation",
                   {"given": recent, "candidates": reached, "in_force": still, "asked_for_ever": len(history.exceptions),
                    "entries": [one.index for one in granted], "rollouts_with_one": history.excepted_rollouts, "rollouts": rollouts})


def _documents(history: History) -> Measure:
    formula = "AISDP modules whose evidence was superseded, is old, or whose definition has changed; the rules stand on the documents' page"
    if history.stale_modules is None:
        return Measure("D7", "Documentation currency", "", "now", formula, {}, "no release is there to document, or nobody looked")
    stale, whole = history.stale_modules
    return Measure("D7", "Documentation currency", f"{stale} of {whole} modules stale", "now", formula, {"stale": stale, "modules": whole})


def _kept(history: History) -> list[Measure]:
    names = (("D6", "Evidence completeness", "artefacts in the store / artefacts that stage records of the window name; not hashed again"),
             ("D13", "Integrity", "size of the signed head; size of the newest head kept outside; open alerts T7"),
             ("D16", "Retention", "inference-log files past their day and still there"),
             ("D17", "Provenance coverage", "full rollouts whose records and outputs lead to the raw source / full rollouts"))
    one = history.kept
    if one is None:
        return [Measure(number, name, "", "now", formula, {}, "nobody looked at the store") for number, name, formula in names]
    there = Rate(one.named - len(one.lost), one.named)
    outside = "no head is kept outside" if one.anchored is None else f"the newest head kept outside is of {one.anchored}"
    alerts = len(one.open_integrity_alerts)
    found = {"D6": f"{there.hits} of {there.n}" if there.n else "", "D17": rate(Rate(one.covered, one.rollouts)) if one.rollouts else "",
             "D13": f"{one.entries} entries under a signed head; {outside}; open alerts of what does not verify: {alerts}",
             "D16": f"{len(one.overdue)} files overdue"}
    detail: dict[str, dict[str, Any]] = {
        "D6": {"named": one.named, "lost": list(one.lost)}, "D16": {"overdue": list(one.overdue)},
        "D13": {"entries": one.entries, "anchored": one.anchored, "open_alerts": list(one.open_integrity_alerts)},
        "D17": {"covered": one.covered, "rollouts": one.rollouts}}
    missing = {"D6": "no stage was run in the window", "D17": "nothing was rolled out to everybody"}
    windows = {"D6": _WINDOW, "D13": "now", "D16": "now", "D17": _EVER}
    return [Measure(number, name, found[number], windows[number], formula, detail[number],
                    "" if found[number] else missing[number]) for number, name, formula in names]


def percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"


def rate(one: Rate) -> str:
    """`91.3 % [88.0, 93.8], n 310`; unknown without a case."""
    interval = one.interval
    if interval is None:
        return "no case"
    return f"{percent(one.value)} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}], n {one.n}{_few(one)}"


def _few(one: Rate) -> str:
    return " (few)" if one.n and one.few else ""


def hours(value: float | None) -> str:
    """A time in the unit that people would use."""
    if value is None:
        return "unknown"
    return f"{value * 60:.0f} min" if value < 1 else f"{value:.1f} h" if value < 48 else f"{value / 24:.1f} d"
