"""A chart and its twin: the picture, and the same numbers as rows of a Markdown table for whoever cannot or will not look."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compliance_assets.governance.charts.drawing import clean

_MARKS = re.compile(r"([\\`*\[\]|~!])|((?<![^\W_])_|_(?![^\W_]))")


@dataclass(frozen=True)
class Chart:
    """One picture of a report. `name` is a word fit for a file or a key; `markdown_table` holds every number that is drawn."""

    name: str
    title: str
    svg: str
    markdown_table: str

    @property
    def markdown(self) -> str:
        """The picture as one line of Markdown."""
        return as_markdown_image(self.svg, self.title)


def plain(text: object) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no link, one line."""
    said = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    said = _MARKS.sub(lambda found: "\\" + found[0], said)
    return said.replace("://", "&#58;//").replace("www.", "www&#46;")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown (GFM); the first column reads from the left, the others as numbers from the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    written = ["| " + " | ".join(cell if place == 1 else plain(cell) for cell in line) + " |" for place, line in enumerate(lines)]
    written += ["| " + " | ".join(plain(cell) for cell in row) + " |" for row in rows]
    return "\n".join(written) + "\n"


def as_markdown_image(svg: str, alt: str) -> str:
    """One line of Markdown that shows the picture where it stands, as Dagster's pages do for a base64 image."""
    return f"![{plain(alt)}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"
