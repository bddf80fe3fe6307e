"""Pictures of the dashboard: rates with their bands, counts as stacks, waits as dots, each over the same time axis."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING

from compliance_assets.governance.charts.chart import Chart, markdown_table
from compliance_assets.governance.charts.drawing import (
    AMBER,
    BLUE,
    BLUE_TEXT,
    FAIL,
    GREEN,
    GREY,
    GRID,
    MUTED,
    RED,
    TINT,
    WIDTH,
    Drawing,
    at,
    fit,
    ticks,
)
from compliance_assets.governance.charts.reading import NOT_MEASURED

if TYPE_CHECKING:
    from compliance_assets.governance.dashboard.measures import Moment, Rate

_LEFT, _RIGHT, _TALL = 64.0, WIDTH - 150.0, 200.0
MOST_DOTS = 400
_COLOURS = (BLUE, AMBER, GREEN, RED, GREY, BLUE_TEXT)


def rates(series: Mapping[str, Sequence[Moment]], changed: Sequence[datetime]) -> Chart:
    """Success rates over time, the last series with its band. A line ends where a bound changed (dashed): another question begins there."""
    title = "Gate success"
    sheet = Drawing()
    top = sheet.heading(title, "share of definite verdicts that passed, rolling 28 days; band: 95 % interval of the last; dashed: "
                               "a bound changed, and the line begins anew")
    ends = [one.at for one in next(iter(series.values()))]
    x = _across(ends)

    def y(share: float) -> float:
        return top + (1 - share) * _TALL

    for share in (0.0, 0.5, 1.0):
        _level(sheet, y(share), f"{100 * share:.0f} %")
    _dates(sheet, ends, x, top + _TALL)
    for moment in changed:
        if ends[0] <= moment <= ends[-1] or len(ends) == 1:
            sheet.path(f"M{at(_when(ends, moment))} {at(top)}v{at(_TALL)}", MUTED, dash="2 3")
    banded = list(series)[-1]
    for name, (line, words) in zip(series, ((BLUE, BLUE_TEXT), (RED, FAIL)), strict=False):
        known = [(x[place], one.rate) for place, one in enumerate(series[name]) if one.rate.value is not None]
        for piece in _pieces(x, series[name]):
            if name == banded:
                lower = [(px, y(rate.interval[0])) for px, rate in piece if rate.interval]
                upper = [(px, y(rate.interval[1])) for px, rate in piece if rate.interval]
                sheet.path("M" + "L".join(f"{at(px)} {at(py)}" for px, py in [*upper, *reversed(lower)]) + "z", "none", fill=TINT, depth=0)
            if len(piece) == 1:
                sheet.dot(piece[0][0], y(piece[0][1].value or 0), line)
            else:
                sheet.path("M" + "L".join(f"{at(px)} {at(y(rate.value or 0))}" for px, rate in piece), line, width=2, round_ends=True)
        if known:
            sheet.dot(known[-1][0], y(known[-1][1].value or 0), line)
            lift = -6 if name == banded else 10
            said = fit(f"{name} {100 * (known[-1][1].value or 0):.0f} %", 135, bold=True)
            sheet.text(_RIGHT + 12, y(known[-1][1].value or 0) + lift, said, fill=words, bold=True)
    rows = [[_day(one.at), name, _share(one.rate.value), _between(one.rate.interval), one.rate.n]
            for name, moments in series.items() for one in moments if one.rate.n]
    svg = sheet.finish("gate-success", title, "Success rates of validation gates over time", top + _TALL + 44)
    return Chart("gate-success", title, svg, markdown_table(["until", "gates", "passed", "95 % interval", "n"], rows))


def _pieces(x: Sequence[float], moments: Sequence[Moment]) -> list[list[tuple[float, Rate]]]:
    """A series in pieces: each begins where a bound was changed."""
    pieces: list[list[tuple[float, Rate]]] = []
    since: object = None
    for px, one in zip(x, moments, strict=True):
        if one.rate.value is not None:
            if not pieces or one.since != since:
                pieces.append([])
            pieces[-1].append((px, one.rate))
            since = one.since
    return pieces


def stacks(name: str, title: str, aside: str, ends: Sequence[datetime], counts: Sequence[Counter[str]]) -> Chart:
    """Counts per span, stacked by word."""
    sheet = Drawing()
    top = sheet.heading(title, aside)
    words = sorted({word for one in counts for word in one})
    highest, marks = ticks(max((sum(one.values()) for one in counts), default=0) or 1)
    colour = {word: _COLOURS[place % len(_COLOURS)] for place, word in enumerate(words)}
    x = _across(ends)
    for mark in marks:
        if mark == int(mark):  # nobody counts half a case
            _level(sheet, top + (1 - mark / highest) * _TALL, f"{mark:g}")
    _dates(sheet, ends, x, top + _TALL)
    broad = max(2.0, min(26.0, (_RIGHT - _LEFT) / max(len(ends), 1) - 3))
    for px, one in zip(x, counts, strict=True):
        floor = top + _TALL
        for word in words:
            if one[word]:
                height = one[word] / highest * _TALL
                sheet.rect(min(px - broad / 2, _RIGHT - broad), floor - height + 1, broad, height - 1, colour[word])
                floor -= height
    for place, word in enumerate(words[:8]):
        sheet.rect(_RIGHT + 14, top + 4 + 20 * place, 10, 10, colour[word])
        sheet.text(_RIGHT + 30, top + 13 + 20 * place, fit(f"{word} {sum(one[word] for one in counts)}", 112))
    if not words:
        sheet.text(_LEFT + 8, top + _TALL / 2 - 8, "nothing on record", fill=MUTED)
    svg = sheet.finish(name, title, f"{title} over time: {aside}", top + _TALL + 44)
    rows = [[_day(end), word, one[word]] for end, one in zip(ends, counts, strict=True) for word in words if one[word]]
    return Chart(name, title, svg, markdown_table(["until", "what", "how often"], rows))


def waits(points: Sequence[tuple[datetime, float]], ends: Sequence[datetime]) -> Chart:
    """How long each deployment took, on a logarithmic scale, with the median of all; of very many, the median of each span."""
    name, title = "training-to-production", "Training to production"
    sheet = Drawing()
    head, rows = ["deployed", "hours"], [[_day(moment), f"{hours:.2f}"] for moment, hours in points]
    spread = [hours for _, hours in points] or [1.0]
    many = len(points) > MOST_DOTS
    if many:
        spans: list[list[float]] = [[] for _ in ends]
        for moment, hours in points:
            spans[min(bisect_left(ends, moment), len(ends) - 1)].append(hours)
        points = [(end, median(span)) for end, span in zip(ends, spans, strict=True) if span]
        head, rows = ["until", "median hours", "longest", "n"], [[_day(end), f"{median(span):.2f}", f"{max(span):.2f}", str(len(span))]
                                                                 for end, span in zip(ends, spans, strict=True) if span]
    dots = "one dot for the median of each span" if many else "one dot for each full rollout"
    top = sheet.heading(title, f"{dots}, logarithmic; line: median of all")
    low, high = math.floor(math.log10(max(min(spread), 1 / 60))), math.ceil(math.log10(max(max(spread), 1 / 60) * 1.01))
    high = max(high, low + 1)

    def y(hours: float) -> float:
        return top + (1 - (math.log10(max(hours, 1 / 60)) - low) / (high - low)) * _TALL

    for power in range(low, high + 1):
        _level(sheet, y(10.0**power), _span(10.0**power))
    _dates(sheet, ends, _across(ends), top + _TALL)
    for moment, hours in points:
        sheet.dot(_when(ends, moment), y(hours), BLUE)
    if points:
        ordered = sorted(spread)
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        sheet.path(f"M{at(_LEFT)} {at(y(middle))}H{at(_RIGHT)}", RED, width=1.4, dash="6 3")
        sheet.text(_RIGHT + 12, y(middle) + 4, fit(f"median {_span(middle)}", 135, bold=True), fill=FAIL, bold=True)
    else:
        sheet.text(_LEFT + 8, top + _TALL / 2, "nothing was deployed", fill=MUTED)
    svg = sheet.finish(name, title, "Hours from the end of training to full rollout", top + _TALL + 44)
    return Chart(name, title, svg, markdown_table(head, rows))


def _across(ends: Sequence[datetime]) -> list[float]:
    step = (_RIGHT - _LEFT - 14) / max(len(ends) - 1, 1)
    return [_LEFT + 7 + step * place for place in range(len(ends))] if len(ends) > 1 else [(_LEFT + _RIGHT) / 2]


def _when(ends: Sequence[datetime], moment: datetime) -> float:
    if len(ends) < 2 or ends[-1] == ends[0]:
        return (_LEFT + _RIGHT) / 2
    share = (moment - ends[0]) / (ends[-1] - ends[0])
    return _LEFT + 7 + (_RIGHT - _LEFT - 14) * min(max(share, 0.0), 1.0)


def _level(sheet: Drawing, y: float, said: str) -> None:
    sheet.path(f"M{at(_LEFT)} {at(y)}H{at(_RIGHT)}", GRID)
    sheet.text(_LEFT - 8, y + 4, said, size=11, anchor="end", fill=MUTED)


def _dates(sheet: Drawing, ends: Sequence[datetime], x: Sequence[float], y: float) -> None:
    last = len(ends) - 1
    for place in dict.fromkeys((0, last // 2, last)):
        sheet.text(x[place], y + 18, _day(ends[place]), size=11, anchor="middle", fill=MUTED)


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%b %Y}"


def _between(interval: tuple[float, float] | None) -> str:
    return NOT_MEASURED if interval is None else f"{_share(interval[0])} to {_share(interval[1])}"


def _share(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{100 * value:.1f} %"


def _span(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"
