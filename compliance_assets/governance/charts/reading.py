"""From the text of a report to what a chart can draw: numbers or nothing, bounds, words.

Reports write numbers as decimal strings. What is absent, empty or not a finite number is None here, and every chart writes
"not measured" for it; nothing ever becomes 0 by being absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from compliance_assets.governance.charts.drawing import Sign
from compliance_assets.policy.gates import Finding, GateReport, Verdict

NOT_MEASURED = "not measured"
NARROW = 0.05
"""A pass whose value lies within this share of its bound is pointed out. Shown, never judged."""

_MOST = 1e100
_APART = "\N{NO-BREAK SPACE}"
"""Between thousands: a number stays on one line."""
_BAND = re.compile(r"\[\s*([^,\]]+),\s*([^\]]+)\]")
_SHORT = {"roc_auc": "ROC AUC", "psi": "PSI", "ks": "KS distance", "mcc": "Matthews correlation", "f1": "F1", "mae": "Mean absolute error",
          "rmse": "Root mean squared error", "r2": "R²", "mape": "Mean absolute percentage error", "macro_f1": "Macro F1"}
_SIGNS: dict[Verdict, tuple[Sign, str]] = {
    Verdict.PASS: ("pass", "pass"), Verdict.NOT_APPLICABLE: ("none", "not applicable"), Verdict.NOT_RUN: ("none", "not run"),
    Verdict.INCONCLUSIVE: ("open", "inconclusive"), Verdict.INSUFFICIENT_DATA: ("open", "too few rows"),
    Verdict.FAIL: ("fail", "fail"), Verdict.ERROR: ("fail", "error"),
}


def measured(text: object) -> float | None:
    """The number that a report wrote, or None where it wrote none, or none that can be drawn."""
    if text is None or isinstance(text, bool) or text == "":
        return None
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < _MOST else None


def field(body: Mapping[str, Any], name: str) -> float | None:
    """The number at `name`, or None where there is none."""
    return measured(body[name]) if name in body else None


def intervals_of(report: Mapping[str, Any]) -> str:
    """What the interval of a rate is in this report: Wilson's, or one that resamples those whose rows belong together."""
    if "clusters" not in report:
        return "95 % Wilson intervals"
    return f"95 % intervals of {shown(field(report['clusters'], 'count'))} {report['clusters']['by']}, not of rows"


def shown(value: float | None, *, plain: bool = False) -> str:
    """A number for people: three decimals, whole numbers as they are; `not measured` for None."""
    if value is None:
        return NOT_MEASURED
    if abs(value) >= 1e12:
        said = f"{value:.3g}"
    elif value == int(value):
        said = f"{int(value):,}".replace(",", "" if plain or abs(value) < 10_000 else _APART)
    elif abs(value) >= 1000:
        said = f"{value:,.0f}".replace(",", "" if plain else _APART)
    elif abs(value) >= 0.0095:
        said = f"{value:.3f}"
    else:
        said = f"{value:.1e}" if abs(value) < 1e-4 else f"{value:.2g}"
    return said.replace("-", "−")


def percent(value: float | None) -> str:
    """A share for people; `not measured` for None."""
    return NOT_MEASURED if value is None else f"{100 * value:.1f} %".replace("-", "−")


def between(lower: float | None, upper: float | None, *, as_percent: bool = False) -> str:
    """A 95 % interval for people, or that there is none."""
    if lower is None or upper is None:
        return "no interval"
    return f"{100 * lower:.1f} to {100 * upper:.1f} %".replace("-", "−") if as_percent else f"{shown(lower)} to {shown(upper)}"


def words(name: str) -> str:
    """A metric, group or column as people say it: `selection_rate_ratio` → `Selection rate ratio`; `a*b` → `A × b`."""
    if name in _SHORT:
        return _SHORT[name]
    said = name.replace("_decision_flip_rate", ": decisions flipped").replace("_auc_drop", ": AUC lost")
    said = said.replace("_mae_rise", ": error added").replace("roc_auc", "ROC AUC").replace("inference_auc", "inference AUC")
    said = said.replace("mae_", "mean absolute error ")
    said = said.replace("rmse_", "root mean squared error ").replace("*", " × ").replace("_", " ").strip()
    return said[:1].upper() + said[1:]


def strength_words(level: str) -> str:
    """How hard a disturbance was, as its finding is named: `0.05`, `300` rows or seeds, `0.5-late_payments-falling`."""
    found = re.fullmatch(r"(\d[\d.]*(?:e[-+]\d+)?)?-?(.*)", level)
    strength, about = (found[1] or "", found[2]) if found else ("", level)
    return ", ".join(part for part in (f"at {strength}" if strength else "", group_words(about).replace("-", " ")) if part)


def group_words(name: str) -> str:
    """A group as it was declared, with spaces for underscores."""
    return name.replace("*", " × ").replace("_", " ").strip()


def allowed(finding: Finding) -> tuple[float | None, float | None]:
    """The lowest and the highest value that the bound allows, None where it sets no such end."""
    if finding.comparator == "in":
        found = _BAND.fullmatch(finding.bound.strip())
        return (measured(found[1]), measured(found[2])) if found else (None, None)
    bound = measured(finding.bound)
    return {">=": (bound, None), "<=": (None, bound)}.get(finding.comparator, (bound, bound))


def bound_words(finding: Finding) -> str:
    """`≥ 0.75`, `0.70 to 0.86`, `= 0`; empty where there is no bound."""
    if not finding.bound:
        return ""
    low, high = allowed(finding)
    if finding.comparator == "in" and low is not None and high is not None:
        return f"{shown(low)} to {shown(high)}"
    sign = {">=": "≥", "<=": "≤", "==": "="}.get(finding.comparator, finding.comparator)
    number = measured(finding.bound)
    return f"{sign} {finding.bound if number is None else shown(number)}".strip()


def is_narrow(finding: Finding) -> bool:
    """A pass that is no comfortable one: its interval reaches past the bound, or its value is within 5 % of it."""
    value = measured(finding.value)
    if finding.verdict is not Verdict.PASS or finding.comparator not in (">=", "<=") or value is None:
        return False
    low, high = allowed(finding)
    lower, upper = measured(finding.lower), measured(finding.upper)
    bound = low if low is not None else high
    if bound is None:
        return False
    if lower is None and value == bound == int(bound) and abs(bound) * NARROW < 1:
        return False  # a small count that is exactly enough: there is no nearer one that passes
    past = (low is not None and lower is not None and lower < low) or (high is not None and upper is not None and upper > high)
    return past or (bound != 0 and abs(value - bound) < NARROW * abs(bound))


def verdict_word(verdict: Verdict) -> str:
    """The word for a verdict, without the difference between a pass and a narrow one."""
    return _SIGNS[verdict][1]


def sign_of(finding: Finding) -> tuple[Sign, str]:
    """The picture and the word for a finding's verdict."""
    return ("warn", "pass, narrow") if is_narrow(finding) else _SIGNS[finding.verdict]


def findings_of(gates: Iterable[GateReport], gate: str) -> tuple[Finding, ...]:
    """What one gate found; none where it is not among `gates`."""
    return tuple(finding for report in gates if report.gate == gate for finding in report.findings)


def why_not(report: Mapping[str, Any]) -> str:
    """Why a report lacks its measurements, in its own words."""
    return f"{NOT_MEASURED}: {report['refused']}" if "refused" in report else NOT_MEASURED
