"""Bars against a bound: how far from production and from the baseline (drift), and what disturbance does (robustness).

From the findings of the two gates: one panel for each measure, one bar for everybody, a group or a column, with its 95 %
interval and the bound as a dark line. A comparison that could not be made stands there in words, not as a bar of length 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    at,
    clean,
    fit,
    fitted,
    left_out,
    ticks,
)
from compliance_assets.governance.charts.reading import (
    NOT_MEASURED,
    allowed,
    between,
    bound_words,
    field,
    findings_of,
    group_words,
    measured,
    shown,
    sign_of,
    strength_words,
    words,
)
from compliance_assets.policy.gates import Finding, GateReport

DRIFT, DRIFT_TITLE = "drift", "Distance from production and from the baseline"
ROBUSTNESS, ROBUSTNESS_TITLE = "robustness", "Change under disturbance"
_LABELS, _LINE, _HEAD = 148.0, 20.0, 40.0
_COMPARED_WITH = {"production": "against production", "baseline": "against the baseline"}


@dataclass(frozen=True)
class Bar:
    """One bar: a name, a number with its interval, and how many rows it rests on."""

    name: str
    value: float | None
    lower: float | None
    upper: float | None
    n: float | None


@dataclass(frozen=True)
class Panel:
    """One measure: its bars, longest first, or why there are none."""

    title: str
    aside: str
    finding: Finding
    bars: tuple[Bar, ...]
    why: str


def read_panels(gates: Sequence[GateReport], gate: str) -> tuple[Panel, ...]:
    """One panel for each finding of the gate, in its order."""
    return tuple(_panel(finding, gate) for finding in findings_of(gates, gate))


def _panel(finding: Finding, gate: str) -> Panel:
    id, _, level = finding.id.removeprefix(f"{gate}.").partition("@")
    *over, metric = id.split(".")
    aside = ", ".join(_COMPARED_WITH[part] if part in _COMPARED_WITH else group_words(part) for part in over)
    title = words(metric) + (f", {strength_words(level).removeprefix('at ')}" if level else "")
    if measured(finding.value) is None:
        return Panel(title, aside, finding, (), finding.note or NOT_MEASURED)
    whole = Bar("all rows", measured(finding.value), measured(finding.lower), measured(finding.upper),
                None if finding.n is None else float(finding.n))
    bars = [_bar(group) for group in finding.groups]
    # What could not be measured comes first, so that it is never what does not fit.
    bars.sort(key=lambda bar: (bar.value is not None, -(bar.value or 0), bar.name))
    return Panel(title, aside, finding, tuple(bars) or (whole,), "")


def _bar(group: Mapping[str, object]) -> Bar:
    return Bar(str(group["name"]), *(field(group, name) for name in ("value", "lower", "upper", "n")))


def drift_svg(gates: Sequence[GateReport]) -> str:
    """Every declared distance, column by column, against production and the baseline."""
    return _svg(gates, DRIFT, DRIFT_TITLE, "one bar for each column and the score · whiskers: 95 % intervals · dark line: bound")


def drift_table(gates: Sequence[GateReport]) -> str:
    return _table(gates, DRIFT)


def drift(gates: Sequence[GateReport]) -> Chart:
    return Chart(DRIFT, DRIFT_TITLE, drift_svg(gates), drift_table(gates))


def robustness_svg(gates: Sequence[GateReport]) -> str:
    """Every declared disturbance: decisions that flip, or area under the curve that is lost."""
    return _svg(gates, ROBUSTNESS, ROBUSTNESS_TITLE, "after the comma: strength of the disturbance · whiskers: 95 % intervals · "
                                                     "dark line: bound")


def robustness_table(gates: Sequence[GateReport]) -> str:
    return _table(gates, ROBUSTNESS)


def robustness(gates: Sequence[GateReport]) -> Chart:
    return Chart(ROBUSTNESS, ROBUSTNESS_TITLE, robustness_svg(gates), robustness_table(gates))


def _table(gates: Sequence[GateReport], gate: str) -> str:
    rows: list[list[str]] = []
    for panel in read_panels(gates, gate):
        bound, verdict = bound_words(panel.finding) or "none", sign_of(panel.finding)[1]
        rows += [[panel.finding.id, bar.name, shown(bar.value), between(bar.lower, bar.upper), bound, shown(bar.n), verdict]
                 for bar in panel.bars]
        if not panel.bars:
            rows.append([panel.finding.id, panel.why, NOT_MEASURED, "no interval", bound, NOT_MEASURED, verdict])
    return markdown_table(["finding", "bar", "value", "95 % interval", "bound", "n", "verdict"], rows)


def _svg(gates: Sequence[GateReport], gate: str, title: str, aside: str) -> str:
    panels = read_panels(gates, gate)
    most = max((len(panel.bars) for panel in panels), default=0)
    return fitted(lambda rows: _draw(panels, rows, gate, title, aside), most)


def _draw(panels: Sequence[Panel], rows: int, name: str, title: str, aside: str) -> str:
    """At most `rows` bars in each panel; two panels side by side."""
    sheet = Drawing()
    y = sheet.heading(title, aside) + 8
    if not panels:
        y = sheet.lines(MARGIN, y + 16, f"{NOT_MEASURED}: the gate has not reported", WIDTH - 2 * MARGIN)
    room = (WIDTH - 2 * MARGIN - 28) / 2
    pairs = _paired(panels)
    for pair in pairs:
        deepest = y
        for place, panel in enumerate(pair):
            if panel is not None:
                deepest = max(deepest, _one(sheet, panel, rows, MARGIN + place * (room + 28), y, room))
        y = deepest + 14
    more = sum(max(len(panel.bars) - rows, 0) for panel in panels)
    if more:
        sheet.text(MARGIN, y, f"{left_out(more)} The longest are shown.", size=11, fill=MUTED)
        y += 16
    said = "; ".join(f"{panel.title} {panel.aside}: {panel.finding.sentence()}" for panel in panels) or NOT_MEASURED
    return sheet.finish(name, title, said, y)


def _paired(panels: Sequence[Panel]) -> list[tuple[Panel | None, Panel | None]]:
    """The same measure against production and the baseline side by side; otherwise two by two."""
    left = [panel for panel in panels if panel.aside == _COMPARED_WITH["production"]]
    right = [panel for panel in panels if panel.aside == _COMPARED_WITH["baseline"]]
    if left and [panel.title for panel in left] == [panel.title for panel in right] and len(left) + len(right) == len(panels):
        return list(zip(left, right, strict=True))
    return [(panels[place], panels[place + 1] if place + 1 < len(panels) else None) for place in range(0, len(panels), 2)]


def _one(sheet: Drawing, panel: Panel, rows: int, x: float, y: float, room: float) -> float:
    sign, verdict = sign_of(panel.finding)
    sheet.text(x, y + 14, fit(panel.title, room, 12, bold=True), bold=True)
    beside = fit(panel.title, room - 124, 12, bold=True) == clean(panel.title)
    sheet.sign(x + room - 118, y + (14 if beside else 29), sign, verdict, size=11, room=118)
    bound = bound_words(panel.finding)
    said = " · ".join(part for part in (panel.aside, f"bound {bound}" if bound else "") if part)
    sheet.text(x, y + 29, fit(said, room if beside else room - 124, 11), size=11, fill=MUTED)
    top = y + _HEAD
    if not panel.bars:
        return sheet.lines(x, top + 12, panel.why, room)
    bars = panel.bars[:rows]
    low, high = allowed(panel.finding)
    marks = [mark for mark in (low, high) if mark is not None]
    there = [part for bar in bars for part in (bar.value, bar.upper) if part is not None]
    end, scale = ticks(max([*there, *(mark * 1.02 for mark in marks), 1e-6]))
    left, wide = x + _LABELS, room - _LABELS - 46
    height = _LINE * len(bars) + 4
    sheet.path("".join(f"M{at(left + wide * mark / end)} {at(top)}v{at(height)}" for mark in scale), GRID)
    for mark in scale:
        sheet.text(left + wide * mark / end, top + height + 13, f"{mark:g}", size=10.5, anchor="middle",
                   fill=MUTED)
    for place, bar in enumerate(bars):
        _bar_at(sheet, bar, x, left, wide, top + _LINE * place, end, (low, high), x + room)
    for mark in marks:
        if 0 <= mark <= end:
            sheet.path(f"M{at(left + wide * mark / end)} {at(top - 3)}v{at(height + 3)}", INK, width=1.8)
    return top + height + 22


def _bar_at(sheet: Drawing, bar: Bar, x: float, left: float, wide: float, y: float, end: float,
            bounds: tuple[float | None, float | None], right: float) -> None:
    sheet.label(left - 8, y + 14, group_words(bar.name), left - x - 8)
    if bar.value is None:
        sheet.text(left + 4, y + 14, NOT_MEASURED, size=11, fill=MUTED)
        return
    low, high = bounds
    is_out = (low is not None and bar.value < low) or (high is not None and bar.value > high)
    is_past = (low is not None and bar.lower is not None and bar.lower < low) or (
        high is not None and bar.upper is not None and bar.upper > high)
    inside = max(min(bar.value, end), 0)
    sheet.rect(left, y + 5, max(wide * inside / end, 1), 11, RED if is_out else AMBER if is_past else BLUE)
    if bar.lower is not None and bar.upper is not None:
        sheet.whiskers(left + wide * max(bar.lower, 0) / end, left + wide * min(bar.upper, end) / end, y + 10.5)
    sheet.text(right, y + 14.5, shown(bar.value), size=10.5, anchor="end", bold=is_out)
