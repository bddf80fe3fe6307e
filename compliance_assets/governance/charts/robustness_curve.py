"""How decisions give way as inputs get noisier: share decided otherwise, and area under the curve lost, by strength of the noise.

From the evaluation report's sweep (one draw on a part of the holdout); the bounds are judged elsewhere, at their declared level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compliance_assets.governance.charts.chart import Chart, markdown_table
from compliance_assets.governance.charts.drawing import BLUE, GRID, MARGIN, MUTED, WIDTH, Drawing, at, ticks
from compliance_assets.governance.charts.reading import NOT_MEASURED, between, field, percent, shown

NAME, TITLE = "robustness_curve", "Decisions under growing noise"
_TALL, _LEFT = 150.0, 56.0


@dataclass(frozen=True)
class Point:
    """One strength of the noise: the number there, its interval, its rows."""

    level: float
    value: float | None
    lower: float | None
    upper: float | None
    n: float | None


def read_points(report: Mapping[str, Any], what: str) -> tuple[Point, ...]:
    """`flipped` or `auc_lost` by level; nothing where the report holds no sweep."""
    curve: Sequence[Mapping[str, Any]] = report["robustness_curve"] if "robustness_curve" in report else ()
    return tuple(Point(level, *(field(one[what], name) for name in ("value", "lower", "upper", "n")))
                 for one in curve if (level := field(one, "level")) is not None)


def svg(report: Mapping[str, Any]) -> str:
    """Two small plots side by side; `report` is the evaluation report."""
    sheet = Drawing()
    y = sheet.heading(TITLE, "noise on every number at once, in standard deviations of its column · whiskers: 95 % intervals") + 18
    room, said, bottom = (WIDTH - 2 * MARGIN - 28) / 2, [], y
    for place, (what, title) in enumerate((("flipped", "Decided otherwise"), ("auc_lost", "Area under the curve lost"))):
        points = [point for point in read_points(report, what) if point.value is not None]
        said.append(f"{title}: " + (", ".join(f"{shown(p.value)} at {shown(p.level)}" for p in points) or NOT_MEASURED))
        bottom = max(bottom, _plot(sheet, title, points, MARGIN + place * (room + 28), y, room))
    return sheet.finish(NAME, TITLE, "; ".join(said), bottom)


def table(report: Mapping[str, Any]) -> str:
    """Every point with its interval and rows."""
    rows = [[percent(flip.level), shown(flip.value), between(flip.lower, flip.upper), shown(lost.value), between(lost.lower, lost.upper),
             shown(flip.n)] for flip, lost in zip(read_points(report, "flipped"), read_points(report, "auc_lost"), strict=True)]
    return markdown_table(["noise", "decided otherwise", "95 % interval", "AUC lost", "95 % interval of it", "n"],
                          rows or [[NOT_MEASURED] * 6])


def chart(report: Mapping[str, Any]) -> Chart:
    """Picture and table."""
    return Chart(NAME, TITLE, svg(report), table(report))


def _plot(sheet: Drawing, title: str, points: Sequence[Point], x: float, y: float, room: float) -> float:
    sheet.text(x, y, title, bold=True)
    if not points:
        why = "no number among the features, no noisy row is taken, or a number is predicted"
        return sheet.lines(x, y + 22, f"{NOT_MEASURED}: {why}", room) + 10
    top, left, wide = y + 14, x + _LEFT, room - _LEFT - 12
    highest = max(part for one in points for part in (one.value, one.upper) if part is not None)
    end, scale = ticks(max(highest, 1e-4))
    low = min(0.0, *(part for one in points for part in (one.value, one.lower) if part is not None))
    tall = end - low
    for mark in scale:
        sheet.path(f"M{at(left)} {at(top + _TALL * (end - mark) / tall)}h{at(wide)}", GRID)
        sheet.text(left - 8, top + _TALL * (end - mark) / tall + 4, f"{mark:g}", size=10.5, anchor="end", fill=MUTED)
    last = max(point.level for point in points)
    places = [(left + wide * one.level / last, one) for one in points]
    for across, one in places:
        if one.lower is not None and one.upper is not None:
            sheet.path(f"M{at(across)} {at(top + _TALL * (end - one.upper) / tall)}V{at(top + _TALL * (end - one.lower) / tall)}", BLUE)
    for across, level in ((left, 0.0), (left + wide / 2, last / 2), (left + wide, last)):
        sheet.text(across, top + _TALL + 16, f"{level:g}", size=10.5, anchor="middle", fill=MUTED)
    dots = [(across, top + _TALL * (end - (one.value or 0.0)) / tall) for across, one in places]
    sheet.path("M" + "L".join(f"{at(across)} {at(height)}" for across, height in dots), BLUE, width=2)
    for across, height in dots:
        sheet.rect(across - 2.5, height - 2.5, 5, 5, BLUE)
    return top + _TALL + 34
