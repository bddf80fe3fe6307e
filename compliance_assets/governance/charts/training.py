"""How a candidate learned: its loss, step by step, and what it reached on the validation rows.

From the training record. The loss is drawn as the estimator recorded it, with the sign turned where the estimator writes a
score (higher is better) instead of a loss. Validation numbers choose nothing that the holdout is asked for later; the holdout
is not in this picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compliance_assets.governance.charts.chart import Chart, markdown_table
from compliance_assets.governance.charts.drawing import (
    AMBER,
    BLUE,
    BLUE_TEXT,
    GREEN,
    GRID,
    MARGIN,
    MUTED,
    PASS,
    WARN,
    WIDTH,
    Drawing,
    at,
    fit,
)
from compliance_assets.governance.charts.reading import NOT_MEASURED, field, measured, shown, words

NAME, TITLE = "training", "How the candidate learned"
_POINTS, _PLOT, _TALL = 60, 400.0, 190.0
_SERIES = {"training": "training", "early_stopping_training": "training (early stopping)",
           "early_stopping_validation": "held back from training (early stopping)", "validation": "validation rows"}
_LOOK = ((BLUE, BLUE_TEXT, ""), (AMBER, WARN, "6 3"), (GREEN, PASS, "2 3"))


@dataclass(frozen=True)
class Losses:
    """One curve: (iteration, loss) pairs; an iteration without a finite loss is left out."""

    name: str
    iterations: int
    points: tuple[tuple[int, float], ...]


def read_losses(report: Mapping[str, Any]) -> tuple[Losses, ...]:
    """Every recorded curve, as losses (lower is better)."""
    found = []
    iterations = report["convergence"]["iterations"]
    used: list[int] = iterations.get("used") or []
    for name, texts in report["convergence"]["loss"].items():
        # Some estimators write down the loss before the first iteration too: one value more than iterations.
        first = 0 if len(used) == 1 and len(texts) == used[0] + 1 else 1
        values = [(place + first, value) for place, text in enumerate(texts) if (value := measured(text)) is not None]
        if values and all(value <= 0 for _, value in values):
            values = [(place, -value) for place, value in values]
        found.append(Losses(_SERIES[name] if name in _SERIES else words(name), len(texts), tuple(values)))
    return tuple(found)


def svg(report: Mapping[str, Any]) -> str:
    """The picture; `report` is the training record."""
    sheet, losses = Drawing(), read_losses(report)[:len(_LOOK)]
    rows = [shown(field(report["rows"], part)) for part in ("train", "validation")]
    aside = f"{report['estimator']} · seed {report['seed']} · {rows[0]} rows to learn from, {rows[1]} to validate"
    y = sheet.heading(TITLE, aside) + 22
    bottom = _curves(sheet, losses, y)
    x = MARGIN + _PLOT + 90
    sheet.text(x, y, "On the validation rows", bold=True)
    for place, (name, value) in enumerate(_validation(report)):
        line = y + 24 + 24 * place
        sheet.text(x, line, fit(words(name), 130))
        sheet.text(WIDTH - MARGIN, line, shown(value), anchor="end", bold=value is not None)
        sheet.path(f"M{at(x)} {at(line + 8)}H{WIDTH - MARGIN}", GRID)
        bottom = max(bottom, line + 24)
    if not report["validation"]:
        bottom = max(bottom, sheet.lines(x, y + 22, NOT_MEASURED, WIDTH - MARGIN - x) + 10)
    said = "; ".join(f"{name} {shown(value)}" for name, value in _validation(report)) or f"validation {NOT_MEASURED}"
    said += "; " + ("; ".join(f"loss, {one.name}: {_ends(one)}" for one in losses) or f"loss by iteration {NOT_MEASURED}")
    return sheet.finish(NAME, TITLE, said, bottom)


def table(report: Mapping[str, Any]) -> str:
    """Validation numbers, the ends of each curve, and every trial of the mitigation."""
    rows = [[words(name), shown(value), "validation rows"] for name, value in _validation(report)]
    rows += [[f"loss, {one.name}", _ends(one), f"{one.iterations} iterations"] for one in read_losses(report)]
    rows += [[f"trial {place}", ", ".join(f"{name} {told}" for name, told in trial.items()), "validation rows"]
             for place, trial in enumerate(report["trials"], start=1)]
    return markdown_table(["what", "value", "on"], rows or [["validation", NOT_MEASURED, "validation rows"]])


def chart(report: Mapping[str, Any]) -> Chart:
    """Picture and table."""
    return Chart(NAME, TITLE, svg(report), table(report))


def _validation(report: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    return [(name, measured(text)) for name, text in report["validation"].items()]


def _ends(one: Losses) -> str:
    return f"{shown(one.points[0][1])} to {shown(one.points[-1][1])}" if one.points else NOT_MEASURED


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    if len(points) <= _POINTS:
        return list(points)
    places = sorted({round(place * (len(points) - 1) / (_POINTS - 1)) for place in range(_POINTS)})
    return [points[place] for place in places]


def _curves(sheet: Drawing, losses: Sequence[Losses], y: float) -> float:
    """The plot of the losses, or why there is none; gives the y below it."""
    sheet.text(MARGIN, y, "Loss by iteration", bold=True)
    values = [value for one in losses for _, value in one.points]
    if not values:
        said = f"{NOT_MEASURED}: this estimator keeps no loss by iteration" if not losses else f"{NOT_MEASURED}: no loss is finite"
        return sheet.lines(MARGIN, y + 22, said, _PLOT) + 10
    x, top = MARGIN + 46.0, y + 14
    low, high = min(values), max(values)
    air = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    low, high = low - air, high + air
    places = [place for one in losses for place, _ in one.points]
    first, last = min(places), max(places)
    for part in (0.0, 0.5, 1.0):
        sheet.path(f"M{at(x)} {at(top + _TALL * part)}h{at(_PLOT - 46)}", GRID)
        sheet.text(x - 8, top + _TALL * part + 4, shown(high - (high - low) * part), size=10.5, anchor="end", fill=MUTED)
    for place in sorted({first, (first + last) // 2, last}):
        right = x + (_PLOT - 46) * _share(place, first, last)
        sheet.text(right, top + _TALL + 16, str(place), size=10.5, anchor="middle", fill=MUTED)
    below = top + _TALL + 36
    for one, (colour, text_colour, dash) in zip(losses, _LOOK, strict=False):
        line = "L".join(f"{at(x + (_PLOT - 46) * _share(place, first, last))} {at(top + _TALL * (high - value) / (high - low))}"
                        for place, value in _thinned(one.points))
        if line:
            sheet.path(f"M{line}", colour, width=2, dash=dash)
        sheet.path(f"M{at(x)} {at(below - 4)}h24", colour, width=2, dash=dash)
        sheet.text(x + 32, below, fit(f"{one.name}: {_ends(one)}", _PLOT - 80, 11), size=11, fill=text_colour)
        below += 17
    return below + 4


def _share(place: int, first: int, last: int) -> float:
    return 0.5 if last == first else (place - first) / (last - first)
