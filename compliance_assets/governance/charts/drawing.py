"""A sheet of white paper on which the charts are drawn: SVG as text, the same bytes every time, readable by everybody.

Only presentation attributes are used: no style sheet, no script, no link, so a chart may stand inside a page with a strict
content security policy, in an image, or on paper. Text colours have a contrast of at least 4.5:1 on white and on the tint
(WCAG 2.2, 1.4.3), and a colour never says anything that a word or a shape does not say too (1.4.1). Names come from
declarations and are never trusted: what is not allowed in XML, or could turn the reading direction, becomes U+FFFD.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Literal

LIMIT = 12 * 1024
"""The largest chart, in bytes."""
WIDTH = 720
MARGIN = 20

INK, MUTED, BLUE_TEXT = "#17202c", "#566070", "#2f49ad"
PASS, WARN, FAIL = "#0b6b46", "#854a00", "#b3261e"
TEXT_COLOURS = (INK, MUTED, BLUE_TEXT, PASS, WARN, FAIL)
PAPER, TINT, GRID, FRAME, TRACK = "#ffffff", "#fdf3e3", "#e4e7ec", "#d5dae1", "#edeff3"
BLUE, AMBER, RED, GREEN, GREY, LIGHT_GREEN = "#4a63c8", "#d1892a", "#c5483f", "#0b7a50", "#9aa3b0", "#c4e6d6"
FONT = "Inter,system-ui,'Segoe UI','Liberation Sans',Arial,sans-serif"

_TINTS, _TRACKS, _ALLOWED, _GRID, _BARS, _LINES, _DOTS, _SIGNS = range(8)
_DEPTH = {TINT: _TINTS, TRACK: _TRACKS, LIGHT_GREEN: _ALLOWED}

Anchor = Literal["start", "middle", "end"]
Sign = Literal["pass", "warn", "fail", "open", "none"]
_COLOUR_OF: dict[Sign, str] = {"pass": PASS, "warn": WARN, "fail": FAIL, "open": WARN, "none": MUTED}
_ICONS: dict[Sign, str] = {"pass": "m0 0 3.5 3.5 6.5-8", "warn": "m5-5.5 5 9h-10zm0 3.2v2.6m0 1.7v.1", "fail": "m1-4 8 8m0-8-8 8",
                           "open": "m2-2.5q0-3 3-3t3 3q0 1.5-3 3v.8m0 2.5v.2", "none": "m1 0h8"}
_UNFIT = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|"
                    "[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]")
_WIDE = re.compile("[MWmw@%—\u1100-\uffff\U00010000-\U0010ffff]")
_THIN = re.compile(r"[iIjltfr .,:;|!()\[\]'·-]")


def clean(text: object) -> str:
    """One line of text that XML can hold and that reads in one direction."""
    return _UNFIT.sub("\ufffd", " ".join(str(text).split()))


def width_of(text: str, size: float) -> float:
    """About how wide `text` is, in pixels; errs towards too wide, since the reader's font is not known."""
    wide, thin = len(_WIDE.findall(text)), len(_THIN.findall(text))
    return size * (0.95 * wide + 0.34 * thin + 0.59 * (len(text) - wide - thin))


def fit(text: object, pixels: float, size: float = 12, *, bold: bool = False) -> str:
    """`text`, shortened with an ellipsis to what fits; the table beside the chart has it in full."""
    whole = clean(text)
    pixels /= 1.13 if bold else 1.0
    if width_of(whole, size) <= pixels:
        return whole
    room, kept = pixels - width_of("…", size), 0
    while kept < len(whole) and (room := room - width_of(whole[kept], size)) >= 0:
        kept += 1
    return whole[:kept].rstrip() + "…"


def at(value: float) -> str:
    """A coordinate: at most one decimal, no trailing zero."""
    return f"{value:.1f}".rstrip("0").rstrip(".").replace("-0.", "-.") if abs(value) >= 0.05 else "0"


class Drawing:
    """What is on the sheet so far. Units are pixels, from the upper left corner.

    Shapes and words that look alike are written together, which keeps a chart small. What lies above what follows from what it
    is: tints, tracks, grid, bars, lines, dots, signs, words.
    """

    def __init__(self) -> None:
        self._shapes: dict[tuple[int, str], list[str]] = {}
        self._words: dict[str, list[str]] = {}

    def text(self, x: float, y: float, said: str, *, size: float = 12, anchor: Anchor = "start", fill: str = INK,
             bold: bool = False, turned: bool = False) -> None:
        """`said` is escaped here; shorten it with `fit` first."""
        look = "" if anchor == "start" else f' text-anchor="{anchor}"'
        look += "" if size == 12 else f' font-size="{at(size)}"'
        look += "" if fill == INK else f' fill="{fill}"'
        look += ' font-weight="600"' if bold else ""
        turn = f' transform="rotate(-90 {at(x)} {at(y)})"' if turned else ""
        self._words.setdefault(look, []).append(f'<text x="{at(x)}" y="{at(y)}"{turn}>{escape(clean(said))}</text>')

    def label(self, x: float, y: float, said: str, room: float, *, bold: bool = False, anchor: Anchor = "end") -> None:
        """A name in the largest of three sizes in which it fits, shortened in the smallest."""
        size = next((size for size in (12.0, 11.0) if fit(said, room, size, bold=bold) == clean(said)), 10.0)
        self.text(x, y, fit(said, room, size, bold=bold), size=size, anchor=anchor, bold=bold)

    def rect(self, x: float, y: float, width: float, height: float, fill: str, *, stroke: str = "") -> None:
        wide = max(width, 0)
        d = f"M{at(x)} {at(y)}h{at(wide)}v{at(height)}h{at(-wide)}z"
        self._add(_DEPTH.get(fill, _BARS), f'fill="{fill}"' + (f' stroke="{stroke}"' if stroke else ""), d)

    def path(self, d: str, stroke: str, *, width: float = 1, dash: str = "", fill: str = "none", round_ends: bool = False,
             depth: int | None = None) -> None:
        look = f'fill="{fill}" stroke="{stroke}"' + (f' stroke-width="{at(width)}"' if width != 1 else "")
        look += f' stroke-dasharray="{dash}"' if dash else ""
        look += ' stroke-linecap="round" stroke-linejoin="round"' if round_ends else ""
        lies = _GRID if stroke == GRID else _LINES if fill == "none" else _DOTS
        self._add(lies if depth is None else depth, look, d)

    def area(self, d: str, fill: str) -> None:
        self._add(_BARS, f'fill="{fill}"', d)

    def dot(self, x: float, y: float, fill: str, *, radius: float = 4) -> None:
        look = f'fill="none" stroke="{fill}" stroke-width="{at(2 * radius)}" stroke-linecap="round"'
        self._add(_DOTS, look, f"M{at(x)} {at(y)}h0")

    def _add(self, depth: int, look: str, d: str) -> None:
        self._shapes.setdefault((depth, look), []).append(d)

    def stripes(self, x: float, y: float, width: float, height: float, stroke: str) -> None:
        """A bar that is drawn as slanting lines: it rests on too few rows to be read like the others."""
        self.rect(x + .5, y + .5, width - 1, height - 1, PAPER, stroke=stroke)
        lean = "".join(f"M{at(x + left)} {at(y + height)}l{at(min(height, width - left))}-{at(min(height, width - left))}"
                       for left in range(2, max(int(width) - 2, 2), 5))
        if lean:
            self.path(lean, stroke)

    def whiskers(self, lower: float, upper: float, y: float, *, stroke: str = INK, cap: float = 3) -> None:
        """A horizontal 95 % interval."""
        end = f"M{{}} {at(y - cap)}v{at(2 * cap)}"
        self.path(f"{end.format(at(lower))}M{at(lower)} {at(y)}H{at(upper)}{end.format(at(upper))}", stroke, width=1.2)

    def sign(self, x: float, y: float, sign: Sign, said: str = "", *, size: float = 12, room: float = 200) -> None:
        """A small picture and a word, in one colour; y is the baseline of the word."""
        self.path(f"M{at(x)} {at(y - 4)}{_ICONS[sign]}", _COLOUR_OF[sign], width=1.6, round_ends=True, depth=_SIGNS)
        if said:
            self.text(x + 15, y, fit(said, room - 15, size, bold=True), size=size, fill=_COLOUR_OF[sign], bold=True)

    def lines(self, x: float, y: float, said: str, room: float, *, size: float = 11, fill: str = MUTED, most: int = 3) -> float:
        """Prose broken into at most `most` lines; gives the baseline of the line after."""
        row, rows = "", []
        for word in clean(said).split(" "):
            if row and width_of(f"{row} {word}", size) > room:
                rows.append(row)
                row = word
            else:
                row = f"{row} {word}".strip()
        rows.append(row)
        if len(rows) > most:
            rows = [*rows[:most - 1], " ".join(rows[most - 1:])]
        for place, one in enumerate(rows):
            self.text(x, y + place * (size + 4), fit(one, room, size), size=size, fill=fill)
        return y + len(rows) * (size + 4)

    def heading(self, title: str, aside: str = "") -> float:
        """The title of the sheet and, at its right, how it was measured; gives the y where the chart begins."""
        self.text(MARGIN, 30, fit(title, WIDTH - 2 * MARGIN, 15, bold=True), size=15, bold=True)
        return self.lines(MARGIN, 49, aside, WIDTH - 2 * MARGIN, most=2) + 2 if aside else 44

    def finish(self, name: str, title: str, description: str, height: float) -> str:
        """The whole document. `name` and the content make ids that stay unique when charts share a page."""
        body = "".join(f'<path d="{"".join(parts)}" {look}/>' for (_, look), parts in
                       sorted(self._shapes.items(), key=lambda item: item[0][0]))
        body += "".join(f"<g{look}>{''.join(parts)}</g>" for look, parts in self._words.items())
        ref = f"{name}-{hashlib.sha256(body.encode()).hexdigest()[:8]}"
        tall = math.ceil(height)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{tall}" viewBox="0 0 {WIDTH} {tall}" role="img" '
            f'aria-labelledby="{ref}-t {ref}-d" font-family="{FONT}" font-size="12" fill="{INK}">'
            f'<title id="{ref}-t">{escape(fit(title, 900))}</title><desc id="{ref}-d">{escape(fit(description, 3000))}</desc>'
            f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{tall - 1}" rx="8" fill="{PAPER}" stroke="{FRAME}"/>{body}</svg>'
        )


    def scrap(self, width: float, height: float) -> str:
        """What is on the sheet as a small picture without paper or words, for beside a sentence; empty if nothing is."""
        body = "".join(f'<path d="{"".join(parts)}" {look}/>' for (_, look), parts in
                       sorted(self._shapes.items(), key=lambda item: item[0][0]))
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{at(width)}" height="{at(height)}" viewBox="0 0 {at(width)} {at(height)}" '
                f'aria-hidden="true">{body}</svg>') if body else ""


def fitted(draw: Callable[[int], str], rows: int) -> str:
    """The chart with as many of its rows as fit into `LIMIT` bytes; `draw(n)` shows the first n and says how many it leaves out."""
    best = draw(rows)
    if len(best.encode()) <= LIMIT:
        return best
    most, least, best = rows, 0, draw(0)
    while most - least > 1:
        middle = (most + least) // 2
        found = draw(middle)
        if len(found.encode()) <= LIMIT:
            least, best = middle, found
        else:
            most = middle
    return best


def left_out(number: int) -> str:
    """What stands under a chart that does not show every row; empty if it does."""
    return "" if number == 0 else f"{number} more {'row stands' if number == 1 else 'rows stand'} in the table."


def ticks(highest: float) -> tuple[float, tuple[float, ...]]:
    """A round end of an axis that starts at 0, at or above `highest`, and its marks."""
    for power in range(-6, 16):
        for step in (1, 2, 4, 6, 8):
            end = step * 10.0**power
            if end >= highest * 0.9999:
                return end, (0.0, end / 2, end)
    return highest, (0.0, highest / 2, highest)


def strip(values: Sequence[float]) -> tuple[float, float]:
    """Where a scale of its own begins and ends, so that all of `values` are on it, with air on both sides."""
    low, high = min(values), max(values)
    air = (high - low) * 0.18 or abs(high) * 0.1 or 1.0
    return low - air, high + air
