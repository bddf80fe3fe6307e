"""Do features stay in their documented ranges? Lowest and highest value over all parts, on the range that was documented.

From the feature report and the gates `ranges` (which carries the documented range) and `nulls`; what lies outside is counted, and
an arrow at the end of the track says on which side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compliance_assets.governance.charts.chart import Chart, markdown_table
from compliance_assets.governance.charts.drawing import (
    BLUE,
    GRID,
    MARGIN,
    MUTED,
    RED,
    TRACK,
    WIDTH,
    Drawing,
    at,
    fit,
    fitted,
    left_out,
)
from compliance_assets.governance.charts.reading import (
    NOT_MEASURED,
    field,
    findings_of,
    group_words,
    measured,
    shown,
)
from compliance_assets.policy.gates import GateReport

NAME, TITLE = "feature_ranges", "Features in their documented ranges"
_DOCUMENTED = re.compile(r"documented: \[([^,\]]+), ([^\]]+)\]")
_LABELS, _TRACK, _LINE = 190.0, 196.0, 34.0


@dataclass(frozen=True)
class FeatureRange:
    """One feature over all parts; None where the report has no number."""

    name: str
    unit: str
    rows: float | None
    missing: float | None
    outside: float | None
    lowest: float | None
    highest: float | None
    low: float | None
    high: float | None
    seen: int
    known: int

    @property
    def observed(self) -> str:
        if self.known:
            return f"{self.seen} of {self.known} categories occur"
        if self.lowest is None or self.highest is None:
            return NOT_MEASURED
        return f"{shown(self.lowest)} to {shown(self.highest)} {self.unit}"

    @property
    def documented(self) -> str:
        if self.known:
            return f"{self.known} categories"
        return "no range" if self.low is None or self.high is None else f"{shown(self.low)} to {shown(self.high)} {self.unit}"


def read_ranges(report: Mapping[str, Any], gates: Sequence[GateReport]) -> tuple[FeatureRange, ...]:
    """Every registered feature, in the order of the registry."""
    documented = {finding.id.removeprefix("ranges."): _DOCUMENTED.match(finding.note) for finding in findings_of(gates, "ranges")}
    found = []
    for item in report["registry"]:
        name = item["name"]
        parts = [part[name] for part in report["values"].values() if name in part]
        ends = documented.get(name)
        seen = {category for part in parts if "categories" in part for category in part["categories"]}
        found.append(FeatureRange(
            name, item["unit"] or "", _sum(parts, "rows"), _sum(parts, "missing"), _sum(parts, "outside"),
            min(_known(parts, "lowest"), default=None), max(_known(parts, "highest"), default=None),
            measured(ends[1]) if ends else None, measured(ends[2]) if ends else None, len(seen), len(item["categories"])))
    return tuple(found)


def _known(parts: Sequence[Mapping[str, Any]], what: str) -> list[float]:
    return [value for part in parts if (value := field(part, what)) is not None]


def _sum(parts: Sequence[Mapping[str, Any]], what: str) -> float | None:
    known = _known(parts, what)
    return sum(known) if parts and len(known) == len(parts) else None


def svg(report: Mapping[str, Any], gates: Sequence[GateReport] = ()) -> str:
    """The picture of the ranges; features with values outside come first when not all fit."""
    found = read_ranges(report, gates)
    worst = sorted(range(len(found)), key=lambda place: (-(found[place].outside or 0), place))
    return fitted(lambda rows: _draw([found[place] for place in sorted(worst[:rows])], len(found) - rows), len(found))


def table(report: Mapping[str, Any], gates: Sequence[GateReport] = ()) -> str:
    return markdown_table(
        ["feature", "documented", "observed", "outside", "missing", "rows"],
        [[one.name, one.documented, one.observed, shown(one.outside), shown(one.missing), shown(one.rows)]
         for one in read_ranges(report, gates)])


def chart(report: Mapping[str, Any], gates: Sequence[GateReport] = ()) -> Chart:
    return Chart(NAME, TITLE, svg(report, gates), table(report, gates))


def _draw(found: Sequence[FeatureRange], more: int) -> str:
    sheet = Drawing()
    y = sheet.heading(TITLE, "grey: documented range · bar: observed lowest to highest value over all parts") + 18
    x, right = MARGIN + _LABELS, WIDTH - MARGIN
    for place, said in ((MARGIN, "Feature"), (x, "Documented range")):
        sheet.text(place, y, said, size=11, fill=MUTED, bold=True)
    for place, said in ((right - 84, "Missing"), (right, "Outside")):
        sheet.text(place, y, said, size=11, fill=MUTED, bold=True, anchor="end")
    y += 8
    for one in found:
        sheet.path(f"M{MARGIN} {at(y)}h{WIDTH - 2 * MARGIN}", GRID)
        sheet.label(MARGIN, y + 15, group_words(one.name), _LABELS - 12, bold=True, anchor="start")
        sheet.text(MARGIN, y + 28, fit(one.documented, _LABELS - 12, 10.5), size=10.5, fill=MUTED)
        span = None if one.low is None or one.high is None or one.high <= one.low else one.high - one.low
        if span is not None and one.low is not None and one.lowest is not None and one.highest is not None:
            start, end = ((part - one.low) / span for part in (one.lowest, one.highest))
            inside = [min(max(part, 0), 1) for part in (start, end)]
            sheet.rect(x, y + 12, _TRACK, 10, TRACK)
            wide = max(_TRACK * (inside[1] - inside[0]), 2)
            sheet.rect(x + _TRACK * inside[0], y + 12, wide, 10, RED if one.outside else BLUE)
            if start < 0:
                sheet.area(f"M{at(x)} {at(y + 10)}v14l-8-7z", RED)
            if end > 1:
                sheet.area(f"M{at(x + _TRACK)} {at(y + 10)}v14l8-7z", RED)
        observed = one.observed
        sheet.text(x + _TRACK + 14, y + 21, fit(observed, 152, 11), size=11, fill=MUTED)
        sheet.text(right - 84, y + 21, shown(one.missing), size=11, anchor="end")
        if one.outside:
            sheet.sign(right - 72, y + 21, "fail")
        sheet.text(right, y + 21, shown(one.outside), size=11, anchor="end", bold=bool(one.outside))
        y += _LINE
    if more:
        sheet.text(MARGIN, y + 16, left_out(more), size=11, fill=MUTED)
        y += 20
    said = "; ".join(f"{one.name}: documented {one.documented}, observed {one.observed}, outside {shown(one.outside)}"
                     for one in found)
    return sheet.finish(NAME, TITLE, said or NOT_MEASURED, y + 10)
