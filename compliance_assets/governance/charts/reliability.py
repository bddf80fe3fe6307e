"""Does the model know how sure it is? Observed against predicted, for everybody and for every group, above the scores.

Equal-mass bins of the evaluation report, each with a 95 % Wilson interval; on the dashed diagonal the score is the share that
turns out favourable. Below the large plot: how many rows have which score (20 equal widths), and where the decision is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compliance_assets.governance.charts.chart import Chart, markdown_table
from compliance_assets.governance.charts.drawing import (
    BLUE,
    FAIL,
    GREY,
    GRID,
    MARGIN,
    MUTED,
    WIDTH,
    Drawing,
    at,
    fit,
    fitted,
    left_out,
)
from compliance_assets.governance.charts.reading import (
    NOT_MEASURED,
    between,
    field,
    group_words,
    intervals_of,
    measured,
    percent,
    shown,
    why_not,
)

NAME, TITLE = "reliability", "Predicted against observed"
_SIDE, _SMALL, _COLUMNS = 272.0, 100.0, 3


@dataclass(frozen=True)
class Point:
    """One bin: mean score, observed share of the favourable label, its interval, its rows."""

    score: float | None
    observed: float | None
    lower: float | None
    upper: float | None
    n: float | None


@dataclass(frozen=True)
class Curve:
    """A reliability curve of everybody or of one group, with its expected calibration error."""

    over: str
    group: str
    n: float | None
    points: tuple[Point, ...]
    error: float | None


def read_curves(report: Mapping[str, Any]) -> tuple[Curve, ...]:
    """Everybody first, then each group; empty where nothing was measured."""
    if "reliability_curve" not in report or not report["reliability_curve"]:
        return ()
    found = [Curve("all", "everybody", field(report, "rows"), _points(report), _error(report))]
    if "groups" in report:
        found += [Curve(over, name, field(body, "rows"), _points(body), _error(body))
                  for over, groups in report["groups"].items() for name, body in groups.items()]
    order = list(report["compared_over"]) if "compared_over" in report else []
    place = {over: index for index, over in enumerate(["all", *order])}
    return tuple(sorted(found, key=lambda one: place[one.over] if one.over in place else len(place)))


def _points(body: Mapping[str, Any]) -> tuple[Point, ...]:
    return tuple(Point(*(field(one, name) for name in ("mean_score", "observed", "lower", "upper", "n")))
                 for one in body["reliability_curve"])


def _error(body: Mapping[str, Any]) -> float | None:
    found = [one for one in body["calibration"] if one["metric"] == "expected_calibration_error"] if "calibration" in body else []
    return field(found[0], "value") if found else None


def svg(report: Mapping[str, Any]) -> str:
    """The picture; `report` is the full JSON of the evaluation."""
    curves = read_curves(report)
    groups = max(len(curves) - 1, 0)
    return fitted(lambda rows: _draw(curves[:1], curves[1:rows + 1], groups - rows, report), groups)


def table(report: Mapping[str, Any]) -> str:
    """Every bin of every curve."""
    return markdown_table(
        ["group", "over", "mean score", "observed", "95 % interval", "n"],
        [[curve.group, curve.over, shown(one.score), percent(one.observed), between(one.lower, one.upper, as_percent=True),
          shown(one.n)]
         for curve in read_curves(report) for one in curve.points])


def chart(report: Mapping[str, Any]) -> Chart:
    """Picture and table."""
    return Chart(NAME, TITLE, svg(report), table(report))


def _draw(overall: Sequence[Curve], groups: Sequence[Curve], more: int, report: Mapping[str, Any]) -> str:
    sheet = Drawing()
    top = sheet.heading(TITLE, f"holdout, {shown(field(report, 'rows'))} rows · equal-mass bins · bars: {intervals_of(report)} · "
                               "dashed: score = share that turned out favourable")
    if not overall:
        why = f"{NOT_MEASURED}: no scores, or a predicted number, of which no share turns out favourable" if (
            "reliability_curve" in report) else why_not(report)
        sheet.lines(MARGIN, top + 24, why, WIDTH - 2 * MARGIN)
        return sheet.finish(NAME, TITLE, why, top + 60)
    left, y = MARGIN + 52.0, top + 24
    _large(sheet, overall[0], left, y)
    bottom = _histogram(sheet, report, left, y + _SIDE + 10)
    right = left + _SIDE + 40
    step = (WIDTH - MARGIN - right + 14) / _COLUMNS
    lines = max((len(curve.group.split("*")) for curve in groups), default=1)
    head = 13 * lines + 11
    for place, curve in enumerate(groups):
        x, small_y = right + place % _COLUMNS * step, y - 12 + place // _COLUMNS * (_SMALL + head + 18)
        parts = curve.group.split("*")
        for line, part in enumerate(parts):
            sheet.text(x, small_y + 4 + 13 * (line + lines - len(parts)),
                       fit(f"× {group_words(part)}" if line else group_words(part), step - 12, 11, bold=True), size=11, bold=True)
        sheet.text(x, small_y + head - 6, f"n {shown(curve.n)} · ECE {shown(curve.error)}" if curve.error is not None
                   else f"n {shown(curve.n)}", size=10, fill=MUTED)
        _curve(sheet, curve, round(x), round(small_y + head), _SMALL, small=True)
        bottom = max(bottom, small_y + _SMALL + head + 18)
    if more:
        sheet.text(MARGIN, bottom + 4, left_out(more).replace("row", "group"), size=11, fill=MUTED)
        bottom += 20
    said = "; ".join(f"{one.group}: n {shown(one.n)}, expected calibration error {shown(one.error)}" for one in (*overall, *groups))
    return sheet.finish(NAME, TITLE, said, bottom)


def _large(sheet: Drawing, curve: Curve, x: float, y: float) -> None:
    for mark in range(0, 101, 20):
        sheet.text(x - 8, y + _SIDE * (1 - mark / 100) + 4, f"{mark} %", size=10.5, anchor="end", fill=MUTED)
    sheet.text(MARGIN + 4, y + _SIDE / 2, "observed share", size=11, anchor="middle", fill=MUTED, turned=True)
    sheet.text(x, y - 8, "Everybody", bold=True)
    sheet.text(x + _SIDE, y - 8, f"expected calibration error {shown(curve.error)}", size=11, anchor="end", fill=MUTED)
    _curve(sheet, curve, x, y, _SIDE, small=False)


def _curve(sheet: Drawing, curve: Curve, x: float, y: float, side: float, *, small: bool) -> None:
    marks = (0, 0.5, 1) if small else (0, 0.2, 0.4, 0.6, 0.8, 1)
    sheet.path("".join(f"M{at(x)} {at(y + side * mark)}h{at(side)}" for mark in marks)
               + (f"M{at(x)} {at(y)}v{at(side)}m{at(side)} 0v-{at(side)}" if small else ""), GRID)
    sheet.path(f"M{at(x)} {at(y + side)}l{at(side)}-{at(side)}", GREY, dash="4 4", width=1.2)
    sharp = 0 if small else 1  # a small plot is drawn to whole pixels, which keeps many of them small in bytes too
    there = [(round(x + side * one.score, sharp), round(y + side * (1 - one.observed), sharp), one) for one in curve.points
             if one.score is not None and one.observed is not None]
    if not there:
        sheet.text(x + side / 2, y + side / 2, NOT_MEASURED, size=11, anchor="middle", fill=MUTED)
        return
    ends = [(px, *(round(y + side * (1 - end), sharp) for end in (one.upper, one.lower))) for px, _, one in there
            if one.lower is not None and one.upper is not None]
    bars = "".join(f"M{at(px)} {at(upper)}V{at(lower)}" for px, upper, lower in ends)
    if bars:
        sheet.path(bars, BLUE, width=1 if small else 1.8)
    line = "L".join(f"{at(px)} {at(py)}" for px, py, _ in there)
    sheet.path(f"M{line}", BLUE, width=1 if small else 1.6)
    sheet.path("".join(f"M{at(px)} {at(py)}h0" for px, py, _ in there), BLUE, width=4 if small else 8, round_ends=True)


def _histogram(sheet: Drawing, report: Mapping[str, Any], x: float, y: float) -> float:
    """How many rows have which score; gives the y below it."""
    tall = 52.0
    counts = [] if "score_histogram" not in report else [measured(count) for count in report["score_histogram"]["counts"]]
    known = [count for count in counts if count is not None]
    if known and max(known) > 0:
        wide = _SIDE / len(counts)
        for place, count in enumerate(counts):
            if count:
                high = tall * count / max(known)
                sheet.rect(x + wide * place + .5, y + tall - high, wide - 1, high, GREY)
    else:
        sheet.text(x + _SIDE / 2, y + tall / 2, f"scores {NOT_MEASURED}", size=11, anchor="middle", fill=MUTED)
    sheet.path(f"M{at(x)} {at(y + tall)}h{at(_SIDE)}", GREY)
    threshold = field(report, "decision_threshold")
    if threshold is not None:
        sheet.path(f"M{at(x + _SIDE * threshold)} {at(y - 2)}v{at(tall + 4)}", FAIL, width=1.4)
    for mark in range(0, 101, 20):
        sheet.text(x + _SIDE * mark / 100, y + tall + 16, f"{mark} %", size=10.5, anchor="middle", fill=MUTED)
    said = "score · bars: rows" + ("" if threshold is None else f" · line: threshold {shown(threshold)}")
    sheet.text(x + _SIDE / 2, y + tall + 33, said, size=11, anchor="middle", fill=MUTED)
    return y + tall + 46
