"""Who is in the data, and how do they fare? Group shares against the reference population; favourable labels by group.

Shares come from the quality report of the dataset; the grey band is what the declaration allows around the reference share
(gate `representativeness`). Favourable labels by group come from the counts of the gate `cell_sizes`, which looks at every
declared cell. These are counts of all rows, not estimates, so there is no interval; every share has its n beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compliance_assets.governance.charts.chart import Chart, markdown_table
from compliance_assets.governance.charts.drawing import (
    BLUE,
    GREY,
    GRID,
    INK,
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
    ticks,
)
from compliance_assets.governance.charts.reading import (
    NOT_MEASURED,
    allowed,
    field,
    findings_of,
    group_words,
    measured,
    percent,
    shown,
    words,
)
from compliance_assets.policy.gates import Finding, GateReport

NAME, TITLE = "population", "Who is in the data"
_PARTS = ("train", "validation", "holdout")
_LABELS, _PANEL = 168.0, 236.0
_COUNTED = re.compile(r"(\d+) favourable, (\d+) not\b")


@dataclass(frozen=True)
class Share:
    """One group: its rows, its share, what was declared about it, and its favourable labels; None where nothing says so."""

    attribute: str
    group: str
    rows: float | None
    share: float | None
    low: float | None
    high: float | None
    favourable: float | None

    @property
    def reference(self) -> float | None:
        """The declared share: the middle of the allowed band."""
        return None if self.low is None or self.high is None else (self.low + self.high) / 2

    @property
    def is_outside(self) -> bool:
        return (self.share is not None and self.low is not None and self.high is not None
                and not self.low - 1e-9 <= self.share <= self.high + 1e-9)


def read_shares(report: Mapping[str, Any], gates: Sequence[GateReport]) -> tuple[Share, ...]:
    """Every group in the data and every group that was declared, by attribute; then train, validation and holdout."""
    after = report["preparation"]["after"]
    groups = after["groups"] if isinstance(after["groups"], Mapping) else {}
    bands = {finding.id.removeprefix("representativeness."): finding for finding in findings_of(gates, "representativeness")}
    cells = {finding.id.removeprefix("cell_sizes."): finding for finding in findings_of(gates, "cell_sizes")}
    total, found = field(after, "rows"), []
    for attribute, counted in groups.items():
        if not isinstance(counted, Mapping):
            continue
        declared = [name.removeprefix(f"{attribute}.") for name in bands if name.startswith(f"{attribute}.")]
        for group in dict.fromkeys((*sorted(counted), *sorted(declared))):
            band, cell = bands.get(f"{attribute}.{group}"), cells.get(f"{attribute}.{group}")
            rows = field(counted, group)
            share = rows / total if rows is not None and total else None
            if rows is None:  # not among the counts: what the gates say of a group that nobody belongs to
                rows = None if cell is None or cell.n is None else float(cell.n)
                share = None if band is None else measured(band.value)
            low, high = (None, None) if band is None else allowed(band)
            found.append(Share(attribute, group, rows, share, low, high, None if cell is None else _favourable_of(cell)))
    for name in (*_PARTS, *(sorted(set(report["parts"]) - set(_PARTS)))):
        if name in report["parts"]:
            part = report["parts"][name]
            rows = field(part, "rows")
            share = rows / total if rows is not None and total else None
            found.append(Share("part", name, rows, share, None, None, _favourable(part)))
    return tuple(found)


def svg(report: Mapping[str, Any], gates: Sequence[GateReport] = ()) -> str:
    """The picture; `report` is the quality report of the dataset."""
    shares = read_shares(report, gates)
    return fitted(lambda rows: _draw(shares[:rows], len(shares) - rows, report), len(shares))


def table(report: Mapping[str, Any], gates: Sequence[GateReport] = ()) -> str:
    """Every group with its rows, shares and labels."""
    return markdown_table(
        ["group", "attribute", "rows", "share", "reference share", "allowed", "favourable labels", "remark"],
        [[one.group, one.attribute, shown(one.rows), percent(one.share),
          "none declared" if one.reference is None else percent(one.reference),
          "no bound" if one.low is None else f"{percent(one.low)} to {percent(one.high)}", percent(one.favourable),
          "outside the band" if one.is_outside else "none"] for one in read_shares(report, gates)])


def chart(report: Mapping[str, Any], gates: Sequence[GateReport] = ()) -> Chart:
    """Picture and table."""
    return Chart(NAME, TITLE, svg(report, gates), table(report, gates))


def _favourable_of(cell: Finding) -> float | None:
    found = _COUNTED.match(cell.note)
    counts = (int(found[1]), int(found[2])) if found else (0, 0)
    return counts[0] / sum(counts) if sum(counts) else None


def _favourable(part: Mapping[str, Any]) -> float | None:
    rows, good = field(part, "rows"), field(part, "favourable")
    return good / rows if rows and good is not None else None


def _draw(shares: Sequence[Share], more: int, report: Mapping[str, Any]) -> str:
    sheet = Drawing()
    after = report["preparation"]["after"]
    top = sheet.heading(TITLE, f"{shown(field(after, 'rows'))} rows after preparation · "
                               "dark mark: declared share of the population · grey band: its tolerance") + 20
    if not shares:
        top = sheet.lines(MARGIN, top, f"group shares {NOT_MEASURED}", WIDTH - 2 * MARGIN)
        return sheet.finish(NAME, TITLE, f"group shares {NOT_MEASURED}", top + 4)
    left, right = MARGIN + _LABELS, WIDTH - MARGIN - _PANEL
    overall = _favourable(after)
    sheet.text(left, top, "Share of the data", bold=True)
    sheet.text(left, top + 15, "counted over all rows", size=11, fill=MUTED)
    sheet.text(right, top, "Favourable labels", bold=True)
    sheet.text(right, top + 15, f"dashed: all rows, {percent(overall)}", size=11, fill=MUTED)
    attributes = list(dict.fromkeys(one.attribute for one in shares))
    height, room = 22.0 * len(attributes) + 30.0 * len(shares), _PANEL - 54
    highest = max(part for one in shares for part in (one.share, one.high, 0.01) if part is not None)
    end, marks = ticks(min(highest, 1.0))
    for x, limit, scale in ((left, end, marks), (right, 1.0, (0.0, 0.5, 1.0))):
        sheet.path("".join(f"M{at(x + room * mark / limit)} {at(top + 24)}v{at(height)}" for mark in scale), GRID)
        for mark in scale:
            sheet.text(x + room * mark / limit, top + height + 39, f"{100 * mark:.3g} %", size=10.5, anchor="middle", fill=MUTED)
    y = top + 24
    for attribute in attributes:
        sheet.text(MARGIN, y + 15, fit(words(attribute), _LABELS, 11), size=11, fill=MUTED, bold=True)
        y += 22
        for one in (share for share in shares if share.attribute == attribute):
            _row(sheet, one, y, left, right, room, end)
            y += 30
    if overall is not None:
        sheet.path(f"M{at(right + room * overall)} {at(top + 22)}v{at(height + 2)}", INK, dash="4 3")
    if more:
        sheet.text(MARGIN, y + 36, left_out(more), size=11, fill=MUTED)
        y += 16
    said = "; ".join(f"{one.attribute} {one.group}: share {percent(one.share)}, reference {percent(one.reference)}, "
                     f"favourable labels {percent(one.favourable)}" for one in shares)
    return sheet.finish(NAME, TITLE, said, y + 32)


def _row(sheet: Drawing, one: Share, y: float, left: float, right: float, room: float, end: float) -> None:
    sheet.label(left - 10, y + 12, group_words(one.group), _LABELS - 14, bold=True)
    sheet.text(left - 10, y + 24, f"n {shown(one.rows)}", size=10.5, anchor="end", fill=MUTED)
    if one.low is not None and one.high is not None and one.reference is not None:
        low, high = max(one.low, 0), min(one.high, end)
        sheet.rect(left + room * low / end, y + 2, room * (high - low) / end, 24, TRACK)
    if one.share is None:
        sheet.text(left + 4, y + 18, NOT_MEASURED, size=11, fill=MUTED)
    else:
        sheet.rect(left, y + 7, max(room * one.share / end, 1), 14, RED if one.is_outside else BLUE)
        if one.is_outside:
            sheet.sign(left + _PANEL - 64, y + 18, "fail")
        sheet.text(left + _PANEL, y + 18.5, percent(one.share), size=10.5, anchor="end", bold=one.is_outside)
    if one.reference is not None:
        sheet.path(f"M{at(left + room * min(one.reference, end) / end)} {at(y + 2)}v24", INK, width=1.8)
    if one.favourable is None:
        sheet.text(right + 4, y + 18, NOT_MEASURED, size=11, fill=MUTED)
    else:
        sheet.rect(right, y + 7, max(room * one.favourable, 1), 14, GREY)
        sheet.text(right + _PANEL, y + 18.5, percent(one.favourable), size=10.5, anchor="end")
