"""From plain data to a page: templates that escape everything, words for moments and numbers, and headers that allow no script.

Every value that comes from a declaration or a person is text here, never markup; the only markup that passes unescaped is the SVG
that `governance.charts` drew, which escapes what it draws.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.responses import HTMLResponse

from compliance_assets.errors import ComplianceError
from compliance_assets.governance.charts import Chart
from compliance_assets.governance.documents.in_words import counted
from compliance_assets.governance.runbook.log import Log, lines
from compliance_assets.trust.canonical import parse_rfc3339
from compliance_assets.web.forwarding import EVERY_ANSWER

if TYPE_CHECKING:
    from compliance_assets.governance.documents.paper import Paper
    from compliance_assets.governance.runbook.plan import Runbook

PRIVATE = {
    **EVERY_ANSWER,
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
                               "frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
SCRIPTED = frozenset({"sign_in.html", "sign.html", "enrol.html", "enrol_check.html"})
"""The pages that speak to a passkey: one script of ours, which puts text into fields and writes no markup."""
SCRIPT_POLICY = PRIVATE["Content-Security-Policy"] + "; script-src 'self'; require-trusted-types-for 'script'"
RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
"""Run ids that have an address of their own here."""

_CELL = re.compile(r"(?<!\\)\|")
_ESCAPE = re.compile(r"\\([\\`*\[\]|~!_])")


def page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """The page that the template `name` makes of these values."""
    headers = {**PRIVATE, "Content-Security-Policy": SCRIPT_POLICY} if name in SCRIPTED else PRIVATE
    return HTMLResponse(_environment().get_template(name).render(**values), status_code=status, headers=headers)


def on_paper(paper: Paper) -> str:
    """A document as one HTML file that needs nothing else: to print, to file, to send."""
    return _environment().get_template("paper_print.html").render(paper=paper, sheet=Markup(style().decode()))  # noqa: S704  # our own sheet


def runbook_on_paper(book: Runbook, logs: Sequence[Log]) -> str:
    """A runbook with its logs as one HTML file, to print."""
    sheet = Markup(style().decode())  # noqa: S704  # our own sheet
    return _environment().get_template("runbook_print.html").render(book=book, logs=logs, lines=lines, sheet=sheet)


@cache
def style() -> bytes:
    """The one style sheet."""
    return resources.files("compliance_assets.web").joinpath("style.css").read_bytes()


@cache
def script() -> bytes:
    """The one script: it speaks to the passkey."""
    return resources.files("compliance_assets.web").joinpath("passkey.js").read_bytes()


@cache
def _environment() -> Environment:
    environment = Environment(loader=PackageLoader("compliance_assets.web"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"moment": moment, "day": day, "drawn": drawn, "table": table, "address": address, "pretty": pretty,
                            "words": words, "moments": moments, "upfirst": upfirst, "share": share, "roles": roles,
                            "counted": counted}
    environment.tests["narrowly"] = lambda said: said.endswith("passes, but narrowly.")
    environment.tests["inapplicable"] = lambda said: " is not applicable: " in said
    environment.tests["addressable"] = lambda run: RUN.fullmatch(run) is not None
    environment.globals |= {"MARKS": MARKS}
    environment.globals["here"] = here
    return environment


MARKS: Mapping[str, tuple[str, str]] = {
    "pass": ("✓", "passed"), "fail": ("✗", "failed"), "warn": ("!", "passed narrowly"), "open": ("?", "open"), "none": ("–", "no verdict"),
}
"""A sign for each kind of outcome, so that a colour never says anything alone."""


@pass_context
def here(context: Context, name: str) -> Markup:
    """Marks the link of the section that this page belongs to."""
    return Markup(' aria-current="page"') if context.resolve("section") == name else Markup("")


def moment(text: str | datetime | None) -> Markup:
    """`25 Nov 2026, 08:26 UTC`, with the exact moment in the markup; unknown is written as unknown."""
    if not text:
        return Markup("unknown")
    try:
        at = text if isinstance(text, datetime) else parse_rfc3339(text)
    except (ComplianceError, ValueError):
        return Markup("{}").format(text)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), f"{at.day} {at:%b %Y, %H:%M} UTC")


def day(text: str | datetime) -> Markup:
    """`25 Nov 2026`."""
    at = text if isinstance(text, datetime) else parse_rfc3339(text)
    return Markup('<time datetime="{}">{}</time>').format(at.date().isoformat(), f"{at.day} {at:%b %Y}")


_MOMENT_IN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


def moments(sentence: str) -> Markup:
    """A sentence with its moments written for people, exact in the markup."""
    said, at = Markup(""), 0
    for found in _MOMENT_IN.finditer(sentence):
        said += sentence[at:found.start()]
        said += moment(found[0])
        at = found.end()
    return said + sentence[at:]


def share(value: float | None) -> Markup:
    """`91.3 %`; unknown is written as unknown."""
    return Markup('<span class="unknown">unknown</span>') if value is None else Markup(f"{100 * value:.1f} %")  # noqa: S704  # a number


def roles(sentence: str) -> str:
    """A sentence with the roles in it, as `1 × technical_owner` or `(technical_owner)`, as people say them."""
    return _ROLE.sub(lambda found: words(found[0]), sentence)


_ROLE = re.compile(r"(?<=× )\w+|(?<=\()\w+(?=\))")


def upfirst(text: str) -> str:
    """The text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


def drawn(chart: Chart | str) -> Markup:
    """A picture of `governance.charts`, inline: it holds presentation attributes only, and escaped what it drew."""
    return Markup(chart if isinstance(chart, str) else chart.svg)  # noqa: S704  # drawn by us, from escaped text


def table(chart: Chart) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of a chart's twin, as plain text again."""
    lines = [[_plain(cell) for cell in _CELL.split(line.strip().strip("|"))] for line in chart.markdown_table.strip().splitlines()]
    return (lines[0], lines[2:]) if len(lines) > 1 else ([], [])


def _plain(cell: str) -> str:
    return html.unescape(_ESCAPE.sub(r"\1", cell.strip()))


def address(text: object) -> str:
    """One part of an address."""
    return quote(str(text), safe="")


def pretty(body: object) -> str:
    """JSON for people."""
    return json.dumps(body, indent=2, ensure_ascii=False, default=str)


def words(name: str) -> str:
    """`full_rollout` as `full rollout`."""
    return str(name).replace("_", " ")
