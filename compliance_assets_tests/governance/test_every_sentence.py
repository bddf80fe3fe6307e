"""Every sentence of a document is from a named record, from the declaration, or a marked gap: held against the rendered page itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from compliance_assets.evidence import inbox
from compliance_assets.evidence.archive import Record
from compliance_assets.governance.charts.reading import shown
from compliance_assets.governance.documents import KINDS, document
from compliance_assets.governance.documents.gathered import Gathered, chosen
from compliance_assets.governance.documents.human_parts import write
from compliance_assets.governance.documents.paper import Grid, Line, Paper, Point, Source, Words
from compliance_assets.pipeline import River, open_river
from compliance_assets.trust.canonical import Digest
from compliance_assets.web.rendering import moment, on_paper, upfirst
from compliance_assets_tests.evidence.forging import simulated_rollout
from compliance_assets_tests.project import OWNER, PEOPLE, REASON, SYSTEM, copied, decide, signer, step

SIGNS = {"filled": "✓", "partly filled": "!", "empty": "✗"}


@pytest.fixture(scope="module")
def deployed(reviewed_world: Path, tmp_path_factory: pytest.TempPathFactory) -> River:
    """A release that was approved and rolled out, with one text that its owner signed."""
    root = copied(reviewed_world, tmp_path_factory.mktemp("deployed") / "world")
    river = open_river(root)
    write(Gathered(river, chosen(river, SYSTEM)), "annex-iv/1(g)", "The officer sees the score.", signer(river, OWNER), REASON)
    inbox.admit(river.archive)
    for person in PEOPLE:
        decide(river, person)
    assert step(river, "approval")
    simulated_rollout(river, SYSTEM)
    return open_river(root, writer=False)


class Spoken(HTMLParser):
    """The text of a page's body, without tags."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._heard = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._heard = self._heard or tag == "main"

    def handle_data(self, data: str) -> None:
        if self._heard:
            self.parts.append(data)


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def accounted(paper: Paper) -> Iterator[str]:
    """All that the page may say, in order: the frame, then each point's lines, tables, signed words and gaps, then the sources."""
    yield f"{paper.title}System {paper.system}, candidate #{paper.candidate}. {paper.frame} Order: {paper.basis}."
    yield f"{paper.filled} of {len(paper.points)} points filled; {len(paper.gaps)} gap{'' if len(paper.gaps) == 1 else 's'}, {paper.stale} stale."
    yield (paper.demonstration_said if paper.demonstration else "") + (paper.asked if paper.gaps else "")
    for point in paper.points:
        yield from _point(point)
    yield ("What it was read from Each source once: the ledger entry, the signed statement there, and the bytes that were read. Document "
           f"digest {paper.digest}, from the ledger's first {paper.entries} entries, root {paper.root}. Entry Statement, sha256 Bytes read, sha256")
    for source in paper.sources:
        yield f"#{source.entry}{source.statement}{source.artefact}"


def _point(point: Point) -> Iterator[str]:
    yield f"{point.number}. {upfirst(point.asks)}{SIGNS[point.state]}{point.state}" + ("! stale" if point.stale else "")
    yield from (f"Stale: {why}." for why in point.stale)
    yield from (f"{gap.said} {upfirst(gap.what)}." for gap in point.gaps)
    for words in point.words:
        said = re.sub("<[^>]*>", "", str(moment(words.signed)))
        yield (f"{words.text}Signed by {words.person} as {words.role.replace('_', ' ')}, version {words.version}, {said}, entry #{words.source.entry}. "
               "Their own words; no gate judged them." + "".join(f"Stale: {why}." for why in words.stale))
    if point.lines:
        yield "What On record Entry"
    yield from (f"{line.what}{line.said}#{line.source.entry}" for line in point.lines)
    for grid in point.grids:
        yield f"{grid.caption}#{grid.source.entry}" + "".join(grid.head) + "".join("".join(row) for row in grid.rows)


def unaccounted(page: str, paper: Paper) -> str:
    """Where the page first says something that no line, gap or source of the paper accounts for; empty where it never does."""
    heard = Spoken()
    heard.feed(page)
    said, expected = squeezed("".join(heard.parts)), squeezed("".join(accounted(paper)))
    at = next((i for i, (one, other) in enumerate(zip(said, expected, strict=False)) if one != other), min(len(said), len(expected)))
    return "" if said == expected else f"…{said[max(0, at - 60):at + 60]}… instead of …{expected[max(0, at - 60):at + 60]}…"


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_says_nothing_that_has_no_source_and_is_no_gap(deployed: River, kind: str) -> None:
    paper = document(deployed, kind, SYSTEM)
    page = on_paper(paper)
    assert not (found := unaccounted(page, paper)), found
    planted = page.replace("</section>", "<p>It performs well for everybody.</p></section>", 1)
    assert "Itperformswellforeverybody" in unaccounted(planted, paper), "a sentence that nobody accounts for is found"
    point = next(one for one in paper.points if one.lines)
    bold = replace(point, lines=(replace(point.lines[0], said="as good as it can be"), *point.lines[1:]))
    assert unaccounted(on_paper(replace(paper, points=tuple(bold if one is point else one for one in paper.points))), paper)


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_is_a_line_a_table_signed_words_or_a_gap_and_no_point_is_silent(deployed: River, kind: str) -> None:
    for point in document(deployed, kind, SYSTEM).points:
        for block in (*point.lines, *point.grids, *point.words):
            assert isinstance(block, Line | Grid | Words) and block.source.statement and block.source.artefact
        for gap in point.gaps:
            assert re.fullmatch(r"\[(HUMAN INPUT REQUIRED: [\w ]+, |NOT ON RECORD: ).+\]", gap.said) and gap.what
        assert point.lines or point.grids or point.words or point.gaps, f"{point.number} says nothing, not even that something is missing"


NUMBER = re.compile(r"(?<![\w.])−?\d+(?:\s\d{3})*(?:\.\d+)?(?!\.?\w)")
HEX = re.compile(r"(?<!\.)\b(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{12,64}\b")


def leaves(value: Any) -> Iterator[str]:
    """Every name, text and number in some JSON, numbers as they are written."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif value is not None:
        yield str(value)


class Read:
    """What stands in the signed statement and in the bytes that a source names."""

    def __init__(self, river: River, record: Record, source: Source) -> None:
        found = {*leaves(json.loads(record.envelope.payload)), *(signature.keyid for signature in record.envelope.signatures)}
        if source.artefact != record.digest:
            found |= set(leaves(json.loads(river.archive.artefacts.get_bytes(Digest.parse(source.artefact)))))
        self.text = "\n".join(found)
        numbers = {float(one) for one in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?!\w)", HEX.sub("", self.text))}
        self.written = {token.strip(".") for token in re.findall(r"-?[\w.]+", self.text)} \
            | {shown(size) for number in numbers for size in (number, 100 * number, number / 2**20)} \
            | {f"{100 * number:.10g}" for number in numbers}

    def strangers(self, said: str) -> list[str]:
        """The digests and measured numbers in `said` that do not stand there, to the digits that are shown.

        Counts below a thousand are left out: `4 gates passed` is counted from the record, and stands nowhere in it as a number.
        """
        strange = [digest for digest in HEX.findall(said) if digest not in self.text]
        for word in NUMBER.findall(HEX.sub("", said)):
            plain = re.sub(r"\s", "", word).replace("−", "-")
            if ("." in plain or abs(float(plain)) >= 1000) and not {word, plain} & self.written:
                strange.append(word)
        return strange


@pytest.mark.parametrize("kind", KINDS)
def test_every_digest_and_every_measured_number_stands_in_the_bytes_that_are_named(deployed: River, kind: str) -> None:
    known = {record.index: record for record in deployed.archive.entries()}
    held: dict[Source, Read] = {}
    seen = 0
    for point in document(deployed, kind, SYSTEM).points:
        for block in (*point.lines, *point.grids):
            source = block.source
            there = held[source] = held[source] if source in held else Read(deployed, known[source.entry], source)
            for cell in [block.said] if isinstance(block, Line) else [cell for row in block.rows for cell in row]:
                said = re.sub(r"\d{1,2} \w{3} \d{4}, [\d:]+ UTC", "", cell)
                assert not (found := there.strangers(said)), (point.number, block, cell, found)
                seen += len(NUMBER.findall(said)) + len(HEX.findall(said))
            assert there.strangers(f"0.123456 and {shown(98765.0)} of {'ab12' * 16}") == ["ab12" * 16, "0.123456", shown(98765.0)], \
                "what does not stand there is found"
    assert seen > 20, seen


# Points of the Act as amended by Regulation (EU) 2026/1744, as far as somebody may cite them here; what is deleted is not among them.
LETTERS = {"Art. 10(2)": "abcdefgh", "Art. 13(3)": "abcdef", "Art. 14(4)": "abcde", "Art. 17(1)": "abcdefghijklm", "Annex IV(1)": "abcdefgh",
           "Annex IV(2)": "abcdefgh", "Annex III(5)": "abcd"}
PARAGRAPHS = {"3": 68, "6": 8, "9": 10, "10": 6, "11": 3, "12": 3, "13": 3, "14": 5, "15": 5, "16": 0, "17": 4, "18": 3, "19": 2, "20": 2, "21": 3,
              "25": 6, "26": 12, "27": 5, "43": 6, "47": 5, "72": 4, "73": 11, "79": 9, "86": 3, "111": 3, "4a": 0, "60": 9}
DELETED = {"Art. 10(5)"}
CITED = re.compile(r"(?<!GDPR )\b(Art\.|Annex) ?(\d+[a-z]?|[IVX]+)((?:\(\d+\))?)((?:\([a-z]\))?)")


def wrong(text: str) -> list[str]:
    """Citations of provisions that the Act does not have, or not any more."""
    found = []
    for kind, number, paragraph, letter in CITED.findall(text.replace("Annex IV(2)(a)-(c)", "Annex IV(2)(a)")):
        name = f"{kind} {number}{paragraph}"
        exists = (number in ("III", "IV", "V", "VI") if kind == "Annex"
                  else number in PARAGRAPHS and (not paragraph or 1 <= int(paragraph[1:-1]) <= PARAGRAPHS[number]))
        lettered = not letter or (name in LETTERS and letter[1:-1] in LETTERS[name])
        found += [] if exists and lettered and name not in DELETED else [f"{name}{letter}"]
    return found


def test_no_page_or_document_cites_a_point_that_the_act_does_not_have() -> None:
    root = Path(__file__).parents[2]
    texts = {path: path.read_text(encoding="utf-8") for folder in ("compliance_assets", "docs", "systems")
             for path in (root / folder).rglob("*") if path.suffix in (".py", ".html", ".md", ".yaml")} | {
                 root / "README.md": (root / "README.md").read_text(encoding="utf-8")}
    said = {str(path.relative_to(root)): found for path, text in texts.items()
            if (found := wrong(re.sub(r"GDPR,?\s+Art\. \d+\S*|Art\. \d+[^\s,]*\s+(of the\s+)?GDPR", "", text)))}
    assert not said
    assert wrong("Art. 10(5), Art. 14(4)(f), Annex IV(2)(i), Art. 28, Art. 9(11); Art. 13(3)(b)(vii)") \
        == ["Art. 10(5)", "Art. 14(4)(f)", "Annex IV(2)(i)", "Art. 28", "Art. 9(11)"]
