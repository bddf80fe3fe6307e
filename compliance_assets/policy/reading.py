"""Reads what people declared in YAML, and answers every mistake with file, line, rule and remedy, all of them at once.

The dialect is narrow on purpose: one document, one mapping, no anchors, tags, merges or templates, so that what a reviewer
reads is what is meant, with nothing filled in from elsewhere. Words and numbers that YAML 1.1 and 1.2 read differently (`no`,
`0123`, `48:00`) are refused with both readings; `1e-3` is the number that it looks like, dates are text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from compliance_assets.errors import DeclarationError
from compliance_assets.policy.declared import Problem, Where
from compliance_assets.policy.wording import problems_of

LARGEST_FILE = 1 << 20
DEEPEST_NESTING = 32
LARGEST_INTEGER = 2**53 - 1

M = TypeVar("M", bound=BaseModel)

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
_DECIMAL = re.compile(r"[-+]?([0-9]+(_[0-9]+)*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_TRAPS = (
    (re.compile(r"(?i)yes|no|on|off"), "is a truth value to some YAML readers and a word to others",
     "Write true or false, or put the word in quotes."),
    (re.compile(r"[-+]?0[0-9_]+"), "has a leading zero, which some YAML readers take for an octal number",
     "Write the number without the zero, or put it in quotes if it is text."),
    (re.compile(r"[-+]?0[xob][0-9a-fA-F_]+"), "is a number in another base than ten",
     "Write it in decimal, or in quotes if it is text."),
    (re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"), "is a number to base sixty to some YAML readers",
     "Put it in quotes if it is text; write a duration like 48h."),
    (re.compile(r"(?i)[-+]?\.(inf|nan)"), "is not a finite number", "Declare a number, or leave the key out."),
)
_TEMPLATE = re.compile(r"\$\{|\{\{|<%")
_TEMPLATE_RULE = "is a template, but nothing is filled in from the environment"
_TEMPLATE_REMEDY = "Write the value itself: the declaration is what people approve."


@dataclass(frozen=True)
class Document:
    """One YAML file as values, the line of every key and item, and what is wrong with it as YAML."""

    path: Path
    value: Mapping[str, Any]
    lines: Mapping[Where, int]
    problems: tuple[Problem, ...] = ()

    def line(self, where: Where) -> int:
        """The line of a key or item; of the nearest thing around it, if it is not there."""
        while where not in self.lines:
            where = where[:-1]
        return self.lines[where]

    def locate(self, problem: Problem) -> str:
        """`file:line: key: rule (got …). remedy`."""
        return f"{self.path}:{self.line(problem.where)}: {problem}"

    def refusal(self, problems: Iterable[Problem]) -> DeclarationError:
        """All problems as one error, in the order of their lines."""
        found = sorted(set(problems), key=lambda problem: (self.line(problem.where), problem.key, problem.rule))
        return _refusal(self.path, tuple(self.locate(problem) for problem in found))

    def read_as(self, model: type[M]) -> M:
        """The declaration as a `model`. DeclarationError with every problem of the YAML and of the model."""
        unsure = {problem.where for problem in self.problems}
        problems = list(self.problems)
        try:
            # Strict JSON: no text becomes a number, no 1 becomes true, lists become tuples.
            declared = model.model_validate_json(json.dumps(self.value), strict=True)
        except ValidationError as error:
            problems += [found for found in problems_of(error, model)
                         if not any(found.where[:depth] in unsure for depth in range(1, len(found.where) + 1))]
            raise self.refusal(problems) from None
        if problems:
            raise self.refusal(problems)
        return declared


def _refusal(path: Path, lines: tuple[str, ...]) -> DeclarationError:
    count = "one problem" if len(lines) == 1 else f"{len(lines)} problems"
    return DeclarationError(f"{path} cannot be read as a declaration: {count}.", problems=lines, value=str(path))


def read_declared(path: Path, model: type[M]) -> M:
    """The `model` that the YAML file at `path` declares. DeclarationError carries one line for each problem."""
    return read_document(path).read_as(model)


def read_text(path: Path) -> str:
    """The text of a declared file. DeclarationError if it is missing, too large, not UTF-8 or empty."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise _refusal(path, (f"{path}: there is no such file. Check the path, or make one with `compliance init`.",)) from None
    except OSError as error:
        raise _refusal(path, (f"{path}: cannot be read: {error.strerror}. Check that it is a file, and its permissions.",)
                       ) from error
    if len(content) > LARGEST_FILE:
        raise _refusal(path, (f"{path}: is larger than {LARGEST_FILE} bytes (got {len(content)}). "
                              "Declarations are for people to read.",))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[:error.start].count(b"\n") + 1
        raise _refusal(path, (f"{path}:{line}: is not UTF-8 text. Save it as UTF-8.",)) from None
    if not text.strip():
        raise _refusal(path, (f"{path}:1: is empty. Start from the one that `compliance init` writes.",))
    return text


def read_document(path: Path) -> Document:
    """The YAML file as values with lines; the DeclarationError of a file that is no single YAML mapping at all."""
    text = read_text(path)
    reader = _Reader()
    try:
        value = reader.document(iter(list(yaml.parse(text, Loader=yaml.SafeLoader))))
    except yaml.reader.ReaderError as error:
        line = text[:error.position].count("\n") + 1
        raise _refusal(path, (f"{path}:{line}: holds a character that YAML does not allow (got {error.character!r}). "
                              "Remove it.",)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        tab = "\t" in text.splitlines()[line - 1] if line <= len(text.splitlines()) else False
        raise _refusal(path, (f"{path}:{line}: is not valid YAML: {error.problem or error.context}. "
                              + ("Indent with spaces, not tabs." if tab else "Check indentation, colons and quotes."),)) from None
    if not isinstance(value, dict):
        reader.say((), "must be one mapping of keys to values", "Start with a key, like `system: my_system`.", type(value).__name__)
    found = Document(path, value if isinstance(value, dict) else {}, reader.lines, tuple(reader.problems))
    if reader.broken or not isinstance(value, dict):
        raise found.refusal(found.problems)
    return found


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None, "the parser marks every event"
    return event.start_mark.line + 1


class _Reader:
    """Builds values from parser events: no constructor of the YAML library ever runs on what people wrote."""

    def __init__(self) -> None:
        self.lines: dict[Where, int] = {(): 1}
        self.problems: list[Problem] = []
        self.broken = False
        """Beyond unsure values: the shape itself cannot be told, so that no model is held against it."""

    def say(self, where: Where, rule: str, remedy: str, got: str = "") -> None:
        self.problems.append(Problem(where, rule, remedy, got))

    def document(self, events: Iterator[yaml.Event]) -> Any:
        value: Any = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if event.version or event.tags:
                    self.lines[("%",)] = _line(event)
                    self.problems.append(Problem(("%",), "directives are not read", "Remove the line that starts with %."))
                if documents == 2:
                    self.lines[("---",)] = _line(event)
                    self.say(("---",), "starts a second document", "Keep one declaration in one file.")
                    self.broken = True
                    return value
                first = next(events)
                self.lines[()] = _line(first)
                value = self.build((), first, events)
        return value

    def build(self, where: Where, event: yaml.Event, events: Iterator[yaml.Event]) -> Any:
        if isinstance(event, yaml.AliasEvent):
            self.say(where, "is an alias, so that a reader has to look elsewhere", "Write the value out.", f"*{event.anchor}")
            self.broken = True
            return None
        if getattr(event, "anchor", None):
            self.say(where, "has an anchor, which is for aliases", "Write values out where they are used.",
                     f"&{event.anchor}")  # type: ignore[attr-defined]  # every node event has one
        if getattr(event, "tag", None):
            self.say(where, "has a tag, which could make it another thing than it looks", "Remove the tag.",
                     event.tag)  # type: ignore[attr-defined]  # every node event has one
        if len(where) > DEEPEST_NESTING:
            self.say(where[:2], f"is nested deeper than {DEEPEST_NESTING} levels", "Declarations are flatter than that.")
            self.broken = True
            self._skip(event, events)
            return None
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(where, event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(where, events)
        return self.mapping(where, events)

    def sequence(self, where: Where, events: Iterator[yaml.Event]) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            place = (*where, len(items))
            self.lines[place] = _line(event)
            items.append(self.build(place, event, events))
        return items

    def mapping(self, where: Where, events: Iterator[yaml.Event]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            line = _line(event)
            key = self.key(where, event, events)
            place = (*where, key)
            if key in found:
                first, place = self.lines[place], (*where, f"{key} (again)")
                self.lines[place] = line
                self.say(place, f"the key {key!r} stands here a second time, first in line {first}", "Keep one of the two.")
                self.build(place, next(events), events)
                continue
            self.lines[place] = line
            found[key] = self.build(place, next(events), events)
        return found

    def key(self, where: Where, event: yaml.Event, events: Iterator[yaml.Event]) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self.lines[(*where, "?")] = _line(event)
            if isinstance(event, yaml.MappingStartEvent):
                self.say((*where, "?"), _TEMPLATE_RULE, _TEMPLATE_REMEDY, "{{…}}")
            else:
                self.say((*where, "?"), "a key must be text", "Write one word before the colon.")
            self.broken = True
            self._skip(event, events)
            return "?"
        place = (*where, event.value)
        self.lines.setdefault(place, _line(event))
        if event.value == "<<" and event.style is None:
            self.say(place, "is a merge key, so that a reader has to look elsewhere", "Write the keys out.")
            self.broken = True
        elif event.anchor or event.tag:
            self.say(place, "a key has neither anchor nor tag", "Write the plain key.")
        elif not isinstance(self.scalar(place, event), str):
            self.say(place, "is not text, and keys are text", f'Put it in quotes: "{event.value}".', event.value or "nothing")
        return event.value

    def scalar(self, where: Where, event: yaml.ScalarEvent) -> Any:
        text = event.value
        if _TEMPLATE.search(text):
            self.say(where, _TEMPLATE_RULE, _TEMPLATE_REMEDY, text[:60])
            return text
        if event.style is not None:
            return text
        for pattern, rule, remedy in _TRAPS:
            if pattern.fullmatch(text):
                self.say(where, f"`{text}` {rule}", remedy)
                return text
        return self.number(where, text)

    def number(self, where: Where, text: str) -> Any:
        if text in _NULL:
            return None
        if text in _TRUTH:
            return _TRUTH[text]
        if _INTEGER.fullmatch(text):
            if len(text) < 24 and abs(whole := int(text.replace("_", ""))) <= LARGEST_INTEGER:
                return int(text.replace("_", "")) if whole else 0
            self.say(where, "is beyond 2**53-1, where readers disagree about digits", "Put it in quotes if it is text.", text[:60])
            return 0
        if _DECIMAL.fullmatch(text):
            decimal = float(text.replace("_", ""))
            if math.isfinite(decimal):
                return decimal
            self.say(where, "is not a finite number", "Declare a number, or leave the key out.", text[:60])
            return 0.0
        return text

    def _skip(self, event: yaml.Event, events: Iterator[yaml.Event]) -> None:
        """Drop the events of one node, without recursion."""
        depth = 1 if isinstance(event, yaml.CollectionStartEvent) else 0
        while depth:
            event = next(events)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
