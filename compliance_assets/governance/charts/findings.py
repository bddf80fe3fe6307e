"""Every finding against its bound: the value, its 95 % interval, the bound, and the verdict in a word and a picture.

Each row has a scale of its own, from what is on it; the green part of the track is what the bound allows. Facts without a
number (a digest that fits, a count that must be zero) have no track. What was not measured, not run or not applicable says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from compliance_assets.governance.charts.chart import Chart, markdown_table
from compliance_assets.governance.charts.drawing import (
    AMBER,
    FAIL,
    GREEN,
    GRID,
    INK,
    LIGHT_GREEN,
    MARGIN,
    MUTED,
    RED,
    TINT,
    TRACK,
    WARN,
    WIDTH,
    Drawing,
    Sign,
    at,
    clean,
    fit,
    fitted,
    left_out,
    strip,
    width_of,
)
from compliance_assets.governance.charts.reading import (
    NOT_MEASURED,
    allowed,
    between,
    bound_words,
    group_words,
    measured,
    shown,
    sign_of,
    strength_words,
    words,
)
from compliance_assets.policy.gates import SEVERITY, Finding, GateReport, legible

NAME, TITLE = "findings", "Findings against declared bounds"
_ROW, _BOUND, _VALUE, _TRACK, _TRACK_WIDTH, _VERDICT = 40.0, 312.0, 380.0, 396.0, 172.0, 584.0
_COLOUR: dict[Sign, str] = {"pass": GREEN, "warn": AMBER, "open": AMBER, "fail": RED, "none": INK}


def name_words(finding: Finding, gate: str) -> tuple[str, str]:
    """What was measured, and over whom or how hard: `("Selection rate ratio", "sex")`; the gate's own name is left out."""
    parts = finding.id.removeprefix(f"{gate}.").split("@")[0].split(".")
    level = finding.id.split("@")[1] if "@" in finding.id else ""
    if finding.id == gate:
        return "The whole gate", ""
    over = [group_words(".".join(parts[:-1])), strength_words(level)]
    return words(parts[-1]), " · ".join(part for part in over if part)


def plainly(finding: Finding, gate: str) -> str:
    """A finding for people: `Performance: ROC AUC 0.7856 (95 % interval 0.7747 to 0.7966), where ≥ 0.99 is declared on the lower end`."""
    what, over = name_words(finding, gate)
    about = ", ".join(part for part in ("" if finding.id == gate else what, over) if part)
    name = f"{words(gate)}: {about}" if about else words(gate)
    if finding.value is None:
        return f"{name}: {sign_of(finding)[1]}" + (f" ({finding.note})" if finding.note else "")
    said = f"{name} {_legible(finding.value, finding.bound)}"
    if finding.lower is not None and finding.upper is not None:
        said += f" (95 % interval {_legible(finding.lower, finding.bound)} to {_legible(finding.upper, finding.bound)})"
    if not finding.comparator:
        return said
    low, high = allowed(finding)
    bound = f"{_legible(str(low))} to {_legible(str(high))}" if finding.comparator == "in" and low is not None and high is not None \
        else f"{_COMPARED[finding.comparator]} {_legible(finding.bound)}"
    end = f" on the {finding.judged_on} end" if finding.judged_on in ("lower", "upper") else ""
    return f"{said}, where {bound} is declared{end}"


def _legible(text: str, bound: str = "") -> str:
    return legible(text, bound).replace("-", "−") if measured(text) is not None else text


_COMPARED = {">=": "≥", "<=": "≤", "==": "=", "in": "in"}


def svg(gates: Sequence[GateReport]) -> str:
    """The picture. Where not everything fits, the worst verdicts stay."""
    rows = [(report.gate, finding) for report in gates for finding in report.findings]
    worst = sorted(range(len(rows)), key=lambda place: (-SEVERITY.index(rows[place][1].verdict), place))
    return fitted(lambda n: _draw(gates, [rows[place] for place in sorted(worst[:n])], len(rows) - n), len(rows))


def table(gates: Sequence[GateReport]) -> str:
    """Every finding of every gate."""
    return markdown_table(
        ["finding", "verdict", "value", "95 % interval", "bound", "judged on", "n", "note"],
        [[one.id, sign_of(one)[1], _value(one), between(measured(one.lower), measured(one.upper)),
          bound_words(one) or "none", one.judged_on or "value", shown(None if one.n is None else float(one.n)), one.note or "none"]
         for report in gates for one in report.findings])


def chart(gates: Sequence[GateReport]) -> Chart:
    """Picture and table."""
    return Chart(NAME, TITLE, svg(gates), table(gates))


def _value(one: Finding) -> str:
    number = measured(one.value)
    return one.value if one.value is not None and number is None else shown(number)


def _draw(gates: Sequence[GateReport], rows: Sequence[tuple[str, Finding]], more: int) -> str:
    sheet = Drawing()
    top = sheet.heading(TITLE, "each row has its own scale · dot: value · bar: 95 % interval · green: allowed · black mark: bound")
    y = top + 18
    columns = ((MARGIN, "Finding", False), (_BOUND, "Bound", True), (_VALUE, "Value", True), (_VERDICT, "Verdict", False))
    for x, said, end in columns:
        sheet.text(x, y, said, size=11, fill=MUTED, bold=True, anchor="end" if end else "start")
    y += 8
    for report in gates:
        found = [finding for gate, finding in rows if gate == report.gate]
        if not found:
            continue
        sheet.path(f"M{MARGIN} {at(y)}h{WIDTH - 2 * MARGIN}", GRID)
        sheet.text(MARGIN, y + 18, words(report.gate), size=11, fill=MUTED, bold=True)
        y += 24
        for finding in found:
            _row(sheet, report.gate, finding, y)
            y += _ROW
    if not rows and not more:
        y = sheet.lines(MARGIN, y + 18, f"{NOT_MEASURED}: no gate has reported", WIDTH - 2 * MARGIN)
    if more:
        sheet.text(MARGIN, y + 16, left_out(more) + " The worst verdicts are shown.", size=11, fill=MUTED)
        y += 22
    said = "; ".join(f"{report.gate}: {report.verdict.value}" for report in gates) + ". " + "; ".join(
        finding.sentence() for _, finding in rows)
    return sheet.finish(NAME, TITLE, said, y + 8)


def _row(sheet: Drawing, gate: str, finding: Finding, y: float) -> None:
    sign, verdict = sign_of(finding)
    if sign in ("warn", "open", "fail"):
        sheet.rect(MARGIN - 8, y, WIDTH - 2 * MARGIN + 16, _ROW - 2, TINT)
    what, over = name_words(finding, gate)
    bound = fit(bound_words(finding), 120, 11)
    room = _BOUND - MARGIN - width_of(bound, 11) - 12
    aside = " · ".join(part for part in (
        over, "" if finding.n is None else f"n {shown(float(finding.n))}",
        f"judged on {finding.judged_on} end" if finding.judged_on in ("lower", "upper") else "") if part)
    sheet.text(MARGIN, y + (16 if aside else 23), fit(what, room))
    if aside:
        sheet.text(MARGIN, y + 31, fit(aside, room, 10.5), size=10.5, fill=MUTED)
    sheet.text(_BOUND, y + 23, bound, size=11, anchor="end", fill=MUTED)
    value = measured(finding.value)
    if value is not None:
        sheet.text(_VALUE, y + 23, fit(shown(value), 70), anchor="end", bold=True)
        _track(sheet, finding, value, sign, y + 19)
    else:
        said = finding.note or finding.value or NOT_MEASURED
        said = said if finding.value or NOT_MEASURED in said or sign != "fail" else f"{NOT_MEASURED}: {said}"
        room = _VERDICT - _BOUND - 26
        sheet.lines(_BOUND + 14, y + (23 if width_of(clean(said), 10.5) <= room else 16), said, room, size=10.5, most=2)
    sheet.sign(_VERDICT, y + 23, sign, verdict, size=11, room=WIDTH - 6 - _VERDICT)


def strip_svg(finding: Finding) -> str:
    """One finding's track alone, for a line of a table; empty where there is no number or no bound to hold it against.

    It says nothing that the words beside it do not say, so it is hidden from screen readers.
    """
    value = measured(finding.value)
    if value is None:
        return ""
    sheet = Drawing()
    _track(sheet, finding, value, sign_of(finding)[0], 11, 2)
    return sheet.scrap(_TRACK_WIDTH + 4, 22)


def _track(sheet: Drawing, finding: Finding, value: float, sign: Sign, y: float, begin: float = _TRACK) -> None:
    low, high = allowed(finding)
    lower, upper = measured(finding.lower), measured(finding.upper)
    marks = [mark for mark in (low, high) if mark is not None]
    if not marks or finding.comparator == "==":
        return
    start, end = strip([part for part in (value, lower, upper, *marks) if part is not None])

    def x(part: float) -> float:
        return begin + _TRACK_WIDTH * (part - start) / (end - start)

    sheet.rect(begin, y - 5, _TRACK_WIDTH, 10, TRACK)
    left, right = x(low) if low is not None else begin, x(high) if high is not None else begin + _TRACK_WIDTH
    sheet.rect(left, y - 5, right - left, 10, LIGHT_GREEN)
    colour = _COLOUR[sign]
    if lower is not None and upper is not None:
        sheet.path(f"M{at(x(lower))} {at(y)}H{at(x(upper))}", colour, width=3)
    sheet.path("".join(f"M{at(x(mark))} {at(y - 9)}v18" for mark in dict.fromkeys(marks)), INK, width=2)
    if sign == "fail":
        sheet.path(f"M{at(x(value) - 4)} {at(y - 4)}l8 8m0-8l-8 8", FAIL, width=2.4)
    elif sign in ("warn", "open"):
        sheet.path(f"M{at(x(value))} {at(y - 6)}l5.5 6-5.5 6-5.5-6z", WARN, fill=colour)
    else:
        sheet.dot(x(value), y, colour, radius=4.5)
