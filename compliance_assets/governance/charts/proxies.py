"""Which features go together with a protected attribute? The larger of Cramér's V and the correlation ratio, for each pair.

From the feature report (training rows only) and the gate `proxies`: above the declared level a person has to say why the feature
may stay. What was reviewed and what was not is told apart by a word and a sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compliance_assets.governance.charts.chart import Chart, markdown_table
from compliance_assets.governance.charts.drawing import (
    AMBER,
    BLUE,
    GRID,
    INK,
    MARGIN,
    MUTED,
    RED,
    WIDTH,
    Drawing,
    Sign,
    at,
    fit,
    fitted,
    left_out,
    ticks,
)
from compliance_assets.governance.charts.reading import (
    NOT_MEASURED,
    allowed,
    findings_of,
    group_words,
    measured,
    shown,
    words,
)
from compliance_assets.policy.gates import Finding, GateReport

NAME, TITLE = "proxies", "Association with protected attributes"
_LABELS = 190.0


@dataclass(frozen=True)
class Proxy:
    """How strongly one feature goes together with each attribute, and what the gate says; None where not measured."""

    feature: str
    strengths: tuple[tuple[str, float | None, Finding | None], ...]


def read_proxies(report: Mapping[str, Any], gates: Sequence[GateReport]) -> tuple[Proxy, ...]:
    """Every registered feature against every attribute; the strongest association first."""
    judged = {finding.id.removeprefix("proxies."): finding for finding in findings_of(gates, "proxies")}
    attributes = list(dict.fromkeys(attribute for found in report["proxies"].values() for attribute in found))
    found = []
    for item in report["registry"]:
        name = item["name"]
        here = report["proxies"].get(name)
        strengths = [(attribute, _strength(None if here is None else here.get(attribute)), judged.get(f"{name}.{attribute}"))
                     for attribute in attributes]
        found.append(Proxy(name, tuple(strengths)))
    return tuple(sorted(found, key=lambda one: (-max((value or 0 for _, value, _ in one.strengths), default=0), one.feature)))


def _strength(found: Mapping[str, Any] | None) -> float | None:
    return None if found is None else max((value for text in found.values() if (value := measured(text)) is not None), default=None)


def svg(report: Mapping[str, Any], gates: Sequence[GateReport] = ()) -> str:
    """The picture of the associations, strongest first."""
    found = read_proxies(report, gates)
    return fitted(lambda rows: _draw(found[:rows], len(found) - rows), len(found))


def table(report: Mapping[str, Any], gates: Sequence[GateReport] = ()) -> str:
    return markdown_table(
        ["feature", "attribute", "association", "review above", "remark"],
        [[one.feature, attribute, shown(value), _level_words(gates), _remark(value, finding, _level(gates))[1]]
         for one in read_proxies(report, gates) for attribute, value, finding in one.strengths])


def chart(report: Mapping[str, Any], gates: Sequence[GateReport] = ()) -> Chart:
    return Chart(NAME, TITLE, svg(report, gates), table(report, gates))


def _level(gates: Sequence[GateReport]) -> float | None:
    """The declared level; only findings at or below it, or not reviewed, carry it."""
    return next((high for finding in findings_of(gates, "proxies") if (high := allowed(finding)[1]) is not None), None)


def _level_words(gates: Sequence[GateReport]) -> str:
    level = _level(gates)
    return "not stated" if level is None else shown(level)


def _remark(value: float | None, finding: Finding | None, level: float | None) -> tuple[Sign, str]:
    if value is None:
        return "none", NOT_MEASURED
    if finding is None:
        return "none", "not judged"
    if not finding:
        return "fail", finding.note or "not assessed"
    if level is not None and value > level:
        return "warn", f"reviewed: {finding.note}"
    return "pass", "below the level"


def _draw(found: Sequence[Proxy], more: int) -> str:
    sheet = Drawing()
    findings = [finding for one in found for _, _, finding in one.strengths if finding is not None]
    level = next((high for finding in findings if (high := allowed(finding)[1]) is not None), None)
    aside = "the larger of Cramér's V and the correlation ratio, training rows"
    aside += "" if level is None else f" · dark line: review needed above {shown(level)}"
    y = sheet.heading(TITLE, aside) + 18
    attributes = [attribute for attribute, _, _ in found[0].strengths][:3] if found else []
    if not attributes:
        y = sheet.lines(MARGIN, y, NOT_MEASURED, WIDTH - 2 * MARGIN)
        return sheet.finish(NAME, TITLE, NOT_MEASURED, y + 10)
    step = (WIDTH - 2 * MARGIN - _LABELS) / len(attributes)
    room = step - 146 if len(attributes) < 3 else step - 66
    known = [value for one in found for _, value, _ in one.strengths if value is not None]
    end, scale = ticks(min(max([*known, (level or 0) * 1.1, 0.01]), 1.0))
    height = 24.0 * len(found)
    for place, attribute in enumerate(attributes):
        x = MARGIN + _LABELS + step * place
        sheet.text(x, y, fit(words(attribute), room + 60), bold=True)
        sheet.path("".join(f"M{at(x + room * mark / end)} {at(y + 8)}v{at(height)}" for mark in scale), GRID)
        for mark in scale:
            sheet.text(x + room * mark / end, y + height + 23, f"{mark:.2g}", size=10.5, anchor="middle", fill=MUTED)
        for line, one in enumerate(found):
            _proxy(sheet, one.strengths[place], x, y + 8 + 24 * line, room, end, level, wide=len(attributes) < 3)
        if level is not None and level <= end:
            sheet.path(f"M{at(x + room * level / end)} {at(y + 5)}v{at(height + 3)}", INK, width=1.8)
    for line, one in enumerate(found):
        sheet.label(MARGIN + _LABELS - 10, y + 25 + 24 * line, group_words(one.feature), _LABELS - 14)
    y += height + 34
    hidden = len(found[0].strengths) - len(attributes)
    if more or hidden:
        said = left_out(more) + (f" {hidden} more attributes stand in the table." if hidden else "")
        sheet.text(MARGIN, y + 6, said.strip(), size=11, fill=MUTED)
        y += 18
    said = "; ".join(f"{one.feature}: " + ", ".join(f"{attribute} {shown(value)}" for attribute, value, _ in one.strengths)
                     for one in found)
    return sheet.finish(NAME, TITLE, said, y)


def _proxy(sheet: Drawing, strength: tuple[str, float | None, Finding | None], x: float, y: float, room: float, end: float,
           level: float | None, *, wide: bool) -> None:
    _, value, finding = strength
    if value is None:
        sheet.text(x + 4, y + 17, NOT_MEASURED, size=11, fill=MUTED)
        return
    sign, said = _remark(value, finding, level)
    colour = RED if sign == "fail" else AMBER if sign == "warn" else BLUE
    sheet.rect(x, y + 6, max(room * min(value, end) / end, 1), 13, colour)
    sheet.text(x + room + 46, y + 17, shown(value), size=10.5, anchor="end", bold=sign in ("fail", "warn"))
    if sign in ("fail", "warn"):
        sheet.sign(x + room + 50, y + 17, sign, ("reviewed" if sign == "warn" else said) if wide else "", size=10.5, room=96)
