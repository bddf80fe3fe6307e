"""Are groups treated alike? Three rates side by side for every declared group, with 95 % intervals and the four-fifths line.

Selection rate (of all), true positive rate (of those labelled favourable) and false positive rate (of those labelled
unfavourable), from the fairness measurements of the evaluation report; Wilson intervals. The dashed line stands at four fifths
of the highest selection rate of the same attribute (29 CFR 1607.4(D)): a convention to look at, with no legal status in the EU
and no bound of this package. A group below the declared minimum is striped and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compliance_assets.governance.charts.chart import Chart, markdown_table
from compliance_assets.governance.charts.drawing import (
    AMBER,
    BLUE,
    FAIL,
    GREY,
    GRID,
    INK,
    MARGIN,
    MUTED,
    WARN,
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
    between,
    field,
    group_words,
    intervals_of,
    percent,
    shown,
    why_not,
    words,
)

if TYPE_CHECKING:
    from compliance_assets.policy.system import MinimumGroup

NAME, TITLE = "fairness_by_group", "Rates by protected group"
FOUR_FIFTHS = 0.8
_RATES = (("selection_rate_ratio", "Selection rate", "decided favourably"),
          ("equal_opportunity_difference", "True positive rate", "of those labelled favourable"),
          ("false_positive_rate_difference", "False positive rate", "of those labelled unfavourable"))
_LABELS, _PANEL, _GAP, _VALUE = 158.0, 162.0, 18.0, 48.0


@dataclass(frozen=True)
class Rate:
    """One rate of one group, with its 95 % interval; None where it was not measured."""

    value: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class GroupRates:
    """One group of one attribute or intersection; `small` is None where no minimum was given."""

    over: str
    group: str
    rows: float | None
    positives: float | None
    negatives: float | None
    rates: tuple[Rate, ...]
    line: float | None
    small: bool | None

    @property
    def is_below(self) -> bool:
        """Whether the selection rate stands below four fifths of the highest."""
        return self.line is not None and self.rates[0].value is not None and self.rates[0].value < self.line


def read_rates(report: Mapping[str, Any], minimum: MinimumGroup | None) -> tuple[GroupRates, ...]:
    """Every group that was compared, in the order of the declaration."""
    if "fairness" not in report:
        return ()
    by_over: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for one in report["fairness"]:
        if "groups" in one:
            by_over.setdefault(one["over"], {})[one["metric"]] = one["groups"]
    found: list[GroupRates] = []
    for over, metrics in by_over.items():
        rates = [{group["name"]: group for group in metrics[metric]} if metric in metrics else {} for metric, _, _ in _RATES]
        selected = [value for group in rates[0].values() if (value := field(group, "value")) is not None]
        line = FOUR_FIFTHS * max(selected) if selected else None
        for name in dict.fromkeys(name for one in rates for name in one):
            first = next(one[name] for one in rates if name in one)
            parts = tuple(_rate(one[name]) if name in one else Rate(None, None, None) for one in rates)
            rows, positives, negatives = (field(first, what) for what in ("n", "positives", "negatives"))
            found.append(GroupRates(over, name, rows, positives, negatives, parts, line, _is_small(first, minimum)))
    return tuple(found)


def _rate(group: Mapping[str, Any]) -> Rate:
    return Rate(field(group, "value"), field(group, "lower"), field(group, "upper"))


def _is_small(group: Mapping[str, Any], minimum: MinimumGroup | None) -> bool | None:
    if minimum is None:
        return None
    wanted = (("n", minimum.rows), ("positives", minimum.positives), ("negatives", minimum.negatives))
    return any(number is None or number < least for name, least in wanted if least for number in (field(group, name),))


def svg(report: Mapping[str, Any], minimum: MinimumGroup | None = None) -> str:
    """The picture; `report` is the full JSON of the evaluation, `minimum` the declared smallest group."""
    groups = read_rates(report, minimum)
    return fitted(lambda rows: _draw(groups[:rows], len(groups) - rows, report, minimum), len(groups))


def table(report: Mapping[str, Any], minimum: MinimumGroup | None = None) -> str:
    """Every group with its rates and intervals."""
    head = ["group", "over", "n", "favourable labels", "unfavourable labels",
            *(part for _, title, _ in _RATES for part in (title.lower(), "95 % interval")), "four-fifths line", "remark"]
    return markdown_table(head, [
        [one.group, one.over, shown(one.rows), shown(one.positives), shown(one.negatives),
         *(part for rate in one.rates for part in (percent(rate.value), between(rate.lower, rate.upper, as_percent=True))),
         percent(one.line), _remark(one)] for one in read_rates(report, minimum)])


def chart(report: Mapping[str, Any], minimum: MinimumGroup | None = None) -> Chart:
    """Picture and table."""
    return Chart(NAME, TITLE, svg(report, minimum), table(report, minimum))


def _remark(one: GroupRates) -> str:
    said = ["below the line"] * one.is_below + ["fewer rows than declared"] * bool(one.small)
    return ", ".join(said) or "none"


def _draw(groups: Sequence[GroupRates], more: int, report: Mapping[str, Any], minimum: MinimumGroup | None) -> str:
    sheet = Drawing()
    threshold = field(report, "decision_threshold")
    top = sheet.heading(TITLE, f"holdout, {shown(field(report, 'rows'))} rows · decision threshold {shown(threshold)} · "
                               f"whiskers: {intervals_of(report)}")
    if not groups:
        top = sheet.lines(MARGIN, top + 24, why_not(report), WIDTH - 2 * MARGIN)
    else:
        top = _panels(sheet, groups, top + 20)
        sheet.path(f"M{MARGIN} {at(top - 4)}h22", FAIL, width=1.5, dash="4 3")
        sheet.text(MARGIN + 28, top, "80 % of the attribute's highest group (four-fifths convention)", size=11, fill=MUTED)
        sheet.sign(MARGIN + 374, top, "warn", "below it", size=11)
        top += 18
        sheet.stripes(MARGIN, top - 9, 22, 10, GREY)
        small = "too few rows; not marked here, as no minimum was given" if minimum is None else \
            f"fewer than declared: {minimum.text}"
        sheet.text(MARGIN + 28, top, fit(small, WIDTH - 2 * MARGIN - 28, 11), size=11, fill=MUTED)
        top += 18
    if more:
        sheet.text(MARGIN, top, left_out(more), size=11, fill=MUTED)
        top += 18
    said = "; ".join(f"{one.over} {one.group}: selection rate {percent(one.rates[0].value)}, n {shown(one.rows)}, {_remark(one)}"
                     for one in groups) or why_not(report)
    return sheet.finish(NAME, TITLE, said, top + 2)


def _panels(sheet: Drawing, groups: Sequence[GroupRates], top: float) -> float:
    """The three panels; gives the baseline of what comes after."""
    overs = list(dict.fromkeys(one.over for one in groups))
    height = 22.0 * len(overs) + 30.0 * len(groups)
    places = [MARGIN + _LABELS + index * (_PANEL + _GAP) for index in range(3)]
    ends = []
    for index, (_, title, of) in enumerate(_RATES):
        highest = max((part for one in groups for part in (one.rates[index].value, one.rates[index].upper) if part is not None),
                      default=1.0)
        end, marks = ticks(min(max(highest, 0.01), 1.0))
        ends.append(end)
        sheet.text(places[index], top, title, bold=True)
        sheet.text(places[index], top + 15, of, size=11, fill=MUTED)
        room = _PANEL - _VALUE
        sheet.path("".join(f"M{at(places[index] + room * mark / end)} {at(top + 24)}v{at(height)}" for mark in marks), GRID)
        for mark in marks:
            sheet.text(places[index] + room * mark / end, top + height + 40, f"{100 * mark:.3g} %", size=10.5, anchor="middle",
                       fill=MUTED)
    y = top + 24
    for over in overs:
        of_this = [one for one in groups if one.over == over]
        sheet.text(MARGIN, y + 15, fit(words(over), _LABELS + 60, 11), size=11, fill=MUTED, bold=True)
        line = of_this[0].line
        if line is not None and line <= ends[0]:
            x = places[0] + (_PANEL - _VALUE) * line / ends[0]
            sheet.path(f"M{at(x)} {at(y + 20)}v{30 * len(of_this) + 2}", FAIL, width=1.5, dash="4 3")
        y += 22
        for one in of_this:
            _row(sheet, one, y, places, ends)
            y += 30
    return y + 44


def _row(sheet: Drawing, one: GroupRates, y: float, places: Sequence[float], ends: Sequence[float]) -> None:
    right = MARGIN + _LABELS - 10
    sheet.label(right, y + 12, group_words(one.group), _LABELS - 12, bold=True)
    sheet.text(right, y + 24, f"n {shown(one.rows)}{' · too few' if one.small else ''}", size=10.5, anchor="end",
               fill=WARN if one.small else MUTED)
    for index, rate in enumerate(one.rates):
        x, room = places[index], _PANEL - _VALUE
        if rate.value is None:
            sheet.text(x + 4, y + 17, NOT_MEASURED, size=11, fill=MUTED)
            continue
        marked = index == 0 and one.is_below
        width, colour = max(room * rate.value / ends[index], 1), AMBER if marked else BLUE
        if one.small:
            sheet.stripes(x, y + 6, max(width, 2), 15, colour)
        else:
            sheet.rect(x, y + 6, width, 15, colour)
        if rate.lower is not None and rate.upper is not None:
            sheet.whiskers(x + room * rate.lower / ends[index], x + room * rate.upper / ends[index], y + 13.5)
        sheet.text(x + _PANEL, y + 17.5, percent(rate.value), size=10.5, anchor="end", fill=WARN if marked else INK, bold=marked)
        if marked:
            sheet.sign(x + _PANEL - _VALUE - 9, y + 17, "warn")
