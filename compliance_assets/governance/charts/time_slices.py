"""The holdout by declared slices of time: each measure as a row of dots with their 95 % intervals, from the evaluation report.

Empty where no slices are declared. The worst slice is marked; what could not be measured in a slice says so in the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compliance_assets.governance.charts.chart import Chart, markdown_table
from compliance_assets.governance.charts.drawing import BLUE, GRID, MARGIN, MUTED, RED, WIDTH, Drawing, at, fit, fitted
from compliance_assets.governance.charts.reading import between, field, group_words, shown, words

NAME = "time_slices"
TITLE = "By time"
_LEFT, _TALL = 210.0, 66.0


@dataclass(frozen=True)
class Sliced:
    """One measure in every slice: value, ends and rows, None where there is none; `worst`: the place of the worst slice."""

    title: str
    slices: tuple[str, ...]
    values: tuple[tuple[float | None, float | None, float | None], ...]
    rows: tuple[float | None, ...]
    worst: int | None


def read_slices(report: Mapping[str, Any]) -> list[Sliced]:
    """Every measure by time, in the order of the report."""
    found = report["time_slices"]["measurements"] if "time_slices" in report and "measurements" in report["time_slices"] else []
    return [_sliced(one) for one in found]


def _sliced(one: Mapping[str, Any]) -> Sliced:
    groups = one["groups"]
    value, over = field(one, "value"), one["over"].partition("*")[2]
    values = tuple((field(group, "value"), field(group, "lower"), field(group, "upper")) for group in groups)
    worst = next((place for place, (own, _, _) in enumerate(values) if own is not None and own == value), None)
    return Sliced(words(one["metric"]) + (f", {group_words(over)}" if over else ""), tuple(str(group["name"]) for group in groups), values,
                  tuple(field(group, "n") for group in groups), worst)


def table(report: Mapping[str, Any]) -> str:
    """Every measure in every slice."""
    return markdown_table(
        ["measure", "slice", "value", "95 % interval", "n"],
        [[one.title, name.replace("_", " "), shown(value) + (" (worst)" if place == one.worst else ""), between(lower, upper), shown(rows)]
         for one in read_slices(report)
         for place, (name, (value, lower, upper), rows) in enumerate(zip(one.slices, one.values, one.rows, strict=True))])


def chart(report: Mapping[str, Any]) -> Chart | None:
    """Picture and table; None where no slices are declared, or nothing was measured in them."""
    measures = read_slices(report)
    if not measures:
        return None
    return Chart(NAME, TITLE, fitted(lambda n: _draw(measures[:n], len(measures) - n, report), len(measures)), table(report))


def _draw(measures: Sequence[Sliced], more: int, report: Mapping[str, Any]) -> str:
    sheet = Drawing()
    declared = report["time_slices"]
    top = sheet.heading(TITLE, f"the holdout cut by {declared['column']} · whiskers: 95 % intervals · in red: the worst slice")
    for one in measures:
        _row(sheet, one, top + 10)
        top += _TALL
    names = [name.replace("_", " ") for name in measures[0].slices] if measures else []
    for place, name in enumerate(names):
        sheet.text(_x(place, len(names)), top + 14, fit(name, (WIDTH - _LEFT) / len(names) - 8, 10), size=10, fill=MUTED, anchor="middle")
    if more:
        sheet.text(MARGIN, top + 34, f"{more} more in the table", size=11, fill=MUTED)
    return sheet.finish(NAME, TITLE, f"{len(measures)} measures in {len(names)} slices of time", top + (46 if more else 30))


def _x(place: int, slices: int) -> float:
    return _LEFT + (WIDTH - MARGIN - _LEFT) * (place + 0.5) / slices


def _row(sheet: Drawing, one: Sliced, top: float) -> None:
    known = [part for triple in one.values for part in triple if part is not None]
    sheet.text(MARGIN, top + 22, fit(one.title, _LEFT - MARGIN - 12), bold=True)
    if not known:
        sheet.text(_LEFT, top + 22, "not measured in any slice", fill=MUTED)
        return
    low, high = min(known), max(known)
    sheet.text(MARGIN, top + 38, f"{shown(low)} to {shown(high)}", size=11, fill=MUTED)
    sheet.path(f"M{at(_LEFT)} {at(top + _TALL - 12)}H{at(WIDTH - MARGIN)}", GRID)

    def y(value: float) -> float:
        return top + 4 + (_TALL - 24) * (1 - (value - low) / ((high - low) or 1.0))

    for place, (value, lower, upper) in enumerate(one.values):
        x, colour = _x(place, len(one.slices)), RED if place == one.worst else BLUE
        if value is None:
            sheet.text(x, top + 22, "not measured", size=10, fill=MUTED, anchor="middle")
            continue
        if lower is not None and upper is not None:
            sheet.path(f"M{at(x)} {at(y(lower))}V{at(y(upper))}", colour, width=1.5)
        sheet.dot(x, y(value), colour)
