"""Draws a gate's findings against their bounds, as one line of Markdown that Dagster shows inline.

Each finding is a row: its value as a dot, its 95 % interval as a line, its bound as a tick. Shape and word tell pass from fail
as well as colour does. Dagster's pages show an SVG image inline only as a base64 data address in Markdown of one line.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from compliance_assets.policy.gates import Finding

_ROW, _LABEL, _PLOT, _MOST_ROWS = 24, 330, 300, 24


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def interval_plot(title: str, findings: Sequence[Finding]) -> str | None:
    """One line of Markdown with the picture, or None where no finding has a value and a bound that are both numbers."""
    rows = [(finding, value, bound) for finding in findings
            if (value := _number(finding.value)) is not None and (bound := _number(finding.bound)) is not None][:_MOST_ROWS]
    if not rows:
        return None
    reach = [number for finding, value, bound in rows
             for number in (value, bound, _number(finding.lower), _number(finding.upper)) if number is not None]
    low, high = min(reach), max(reach)
    span = (high - low) or 1.0

    def x(number: float) -> float:
        return round(_LABEL + 10 + (number - low) / span * _PLOT, 1)

    drawn = []
    for row, (finding, value, bound) in enumerate(rows):
        y = 40 + row * _ROW
        colour = "#1b6e3c" if finding else "#b3261e"
        lower, upper = _number(finding.lower), _number(finding.upper)
        drawn.append(f'<text x="{_LABEL}" y="{y + 4}" text-anchor="end">{escape(finding.id[-46:])}</text>')
        if lower is not None and upper is not None:
            drawn.append(f'<line x1="{x(lower)}" x2="{x(upper)}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>')
        drawn.append(f'<line x1="{x(bound)}" x2="{x(bound)}" y1="{y - 9}" y2="{y + 9}" stroke="#1d2733" stroke-width="2"/>')
        drawn.append(f'<circle cx="{x(value)}" cy="{y}" r="5" fill="{colour}"/>' if finding else
                     f'<rect x="{x(value) - 5}" y="{y - 5}" width="10" height="10" fill="{colour}"/>')
        drawn.append(f'<text x="{_LABEL + _PLOT + 25}" y="{y + 4}">{value:.4g} {escape(finding.comparator)} '
                     f'{escape(finding.bound)} {finding.verdict.value}</text>')
    width, height = _LABEL + _PLOT + 260, 50 + len(rows) * _ROW
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12" '
           f'fill="#1d2733"><rect width="100%" height="100%" fill="#ffffff"/><text x="10" y="18" font-weight="bold">'
           f'{escape(title)} (dot: passed, square: not; line: 95 % interval; tick: bound)</text>{"".join(drawn)}</svg>')
    return f"![{escape(title)}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"
