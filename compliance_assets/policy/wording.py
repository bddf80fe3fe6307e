"""Turns what the validation library found into sentences for people: one problem per mistake, at the key where it stands.

Of a choice between shapes (a source by its `kind`, a step by its key) only the branch that was meant is heard; a value that
may be of several plain types is refused once, with all of them named.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from compliance_assets.metrics.catalogue import METRICS
from compliance_assets.policy.declared import IN_WORDS, Problem, Where

_TYPES = {
    "string_type": "text", "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number",
    "bool_type": "true or false", "dict_type": "a mapping of keys to values", "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values", "tuple_type": "a list", "list_type": "a list",
    "int_parsing": "a whole number", "float_parsing": "a number", "finite_number": "a finite number",
}
_LIMITS = {
    "greater_than": ("above", "gt"), "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"), "less_than_equal": ("at most", "le"),
}
_FAMILIES = frozenset({"performance", "fairness", "robustness", "calibration", "drift"})


def problems_of(error: ValidationError, model: type[BaseModel]) -> tuple[Problem, ...]:
    """Every problem that `error` holds about `model`, each once."""
    found: dict[Where, list[Problem]] = {}
    details = [(*follow(model, detail["loc"]), detail) for detail in error.errors(include_url=False)]
    for where, owner, detail in details:
        if detail["type"] == "declared":
            inner: tuple[Problem, ...] = detail["ctx"]["problems"]
            for one in inner:
                place = (*where, *one.where)
                found.setdefault(place, []).append(Problem(place, one.rule, one.remedy, one.got))
        elif detail["type"] == "too_short" and any(len(other) > len(where) and other[:len(where)] == where
                                                   for other, _, _ in details):
            continue  # the library counts only entries without a mistake of their own, which are told anyway
        else:
            found.setdefault(where, []).append(_worded(where, owner, detail))
    return tuple(problem for several in found.values() for problem in _merged(several))


def _merged(several: list[Problem]) -> Iterable[Problem]:
    """The refusals of one value by each plain type that it might have been, as one."""
    if len(several) > 1 and all(problem.rule.startswith("must be ") for problem in several):
        first = several[0]
        wanted = dict.fromkeys(problem.rule.removeprefix("must be ") for problem in several)
        return (Problem(first.where, "must be " + " or ".join(wanted), first.remedy, first.got),)
    return several


def _worded(where: Where, owner: type[BaseModel] | None, detail: ErrorDetails) -> Problem:
    kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    last = str(where[-1]) if where else ""
    if kind == "missing":
        return Problem(where, "is missing", _what_belongs(where, owner))
    if kind == "extra_forbidden":
        known = keys_of(owner) if owner else ()
        return Problem(where, f"unknown key {last!r}{nearest(last, known)}", f"Known keys: {', '.join(known)}.")
    if kind in _TYPES:
        quotes = "Put it in quotes." if kind == "string_type" and isinstance(given, int | float) else ""
        quotes = quotes or ("Write it without quotes." if isinstance(given, str) and kind in ("int_type", "float_type", "bool_type")
                            and _reads_as_value(given) else "")
        return Problem(where, f"must be {_TYPES[kind]}", quotes, shown(given))
    if kind in _LIMITS:
        word, name = _LIMITS[kind]
        return Problem(where, f"must be {word} {context[name]:g}", _describe(where, owner), shown(given))
    if kind == "string_pattern_mismatch":
        rule, remedy = IN_WORDS[context["pattern"]]
        return Problem(where, rule, remedy, shown(given))
    if kind == "string_too_short":
        least = context["min_length"]
        rule = "must not be empty" if least == 1 else f"must have at least {least} characters"
        return Problem(where, rule, _describe(where, owner), shown(given))
    if kind in ("too_short", "too_long"):
        least = kind == "too_short"
        number = context["min_length" if least else "max_length"]
        return Problem(where, f"must have {'at least' if least else 'at most'} {number} {'entry' if number == 1 else 'entries'}",
                       _what_belongs(where, owner), f"{context['actual_length']}")
    if kind == "literal_error":
        return _not_among(where, given, str(context["expected"]).replace(" or ", ", "))
    if kind == "union_tag_invalid":
        return _not_among((*where, str(context["discriminator"]).strip("'")), context["tag"], str(context["expected_tags"]))
    if kind == "union_tag_not_found":
        return Problem(where, f"says no {context['discriminator']}", "Say which of the known kinds it is.")
    return Problem(where, detail["msg"].removeprefix("Value error, "), "",
                   "" if isinstance(given, dict | list) else shown(given))


def _not_among(where: Where, given: object, listed: str) -> Problem:
    words = [word.strip(" '") for word in listed.split(",")]
    near = _near(str(given), words)
    return Problem(where, f"must be {' or '.join((', '.join(words[:-1]), words[-1])) if words[:-1] else words[-1]}",
                   f"Did you mean {near!r}?" if near else "", shown(given))


def _what_belongs(where: Where, owner: type[BaseModel] | None) -> str:
    """For something that is not there: what it is; for a family of bounds, what others use and on whose authority."""
    said = [_describe(where, owner)]
    family = next((part for part in where if part in _FAMILIES), None) if where[:1] == ("evaluation",) else None
    if family is not None and where[-1] in (family, "bounds"):
        said.append(f"No bound is filled in for you; conventions, none of them law: {_conventions(family)}")
    elif owner is not None:
        shape = _stripped(_hints(owner).get(_field_name(owner, str(where[-1])), Any))
        if isinstance(shape, type) and issubclass(shape, BaseModel):
            said.append(f"It has the keys {', '.join(keys_of(shape))}.")
        elif shape in (int, float):
            said.append("No number is filled in for you.")
    return " ".join(part for part in said if part)


def _conventions(family: str) -> str:
    """What others use for a family of metrics, with its authority (the catalogue's words), each text once."""
    told: dict[str, list[str]] = {}
    for info in METRICS.values():
        if info.family == family:
            told.setdefault(info.convention, []).append(info.name)
    return " ".join(f"[{', '.join(names)}] {text}" for text, names in told.items())


def _describe(where: Where, owner: type[BaseModel] | None) -> str:
    if owner is None or not where:
        return ""
    name = _field_name(owner, str(where[-1]))
    text = owner.model_fields[name].description if name in owner.model_fields else None
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('?') else '.'}" if text else ""


def shown(value: object) -> str:
    """A value as it is quoted in a refusal: short, and `nothing` for an empty one."""
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _reads_as_value(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.lower() in ("true", "false")
    return True


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'threshold'?`, or nothing if no known word is near."""
    near = _near(word, known)
    return f", did you mean {near!r}?" if near else ""


def _near(word: str, known: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), "")


# -------------------------------------------------------------------------------------------- where in the model, and in the file


def keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    """A model's keys as they are written in YAML."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _field_name(model: type[BaseModel], key: str) -> str:
    return next((name for name, field in model.model_fields.items() if field.alias == key), key)


@cache
def _hints(model: type[BaseModel]) -> Mapping[str, Any]:
    return get_type_hints(model, include_extras=True)


def _stripped(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def follow(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[Where, type[BaseModel] | None]:
    """The path in the file that `location` means, and the model that the last key belongs to.

    The validation library's locations also name the branch of a choice that it tried; the file has no such level.
    """
    where: list[str | int] = []
    owner: type[BaseModel] | None = None
    shape: Any = model
    rest = list(location)
    while rest:
        shape = _stripped(shape)
        if get_origin(shape) in (Union, UnionType):
            members = [member for member in get_args(shape) if member is not NoneType]
            shape = members[0] if len(members) == 1 else _branch(members, str(rest.pop(0)))
            continue
        part = rest.pop(0)
        if part == "[key]":
            continue
        where.append(part)
        owner = None
        if isinstance(shape, type) and issubclass(shape, BaseModel):
            owner = shape
            shape = _hints(shape).get(_field_name(shape, str(part)), Any)
        elif get_origin(shape) is tuple and isinstance(part, int):
            items = get_args(shape)
            shape = items[0] if items[-1] is Ellipsis else items[part]
        elif get_origin(shape) is dict:
            shape = get_args(shape)[1]
        else:
            shape = Any
    return tuple(where), owner


def _branch(members: list[Any], tag: str) -> Any:
    """The member of a choice that the library calls `tag`: by its Tag, its `kind`, or its class."""
    for member in members:
        named: tuple[object, ...] = tuple(item.tag for item in getattr(member, "__metadata__", ()) if isinstance(item, Tag))
        plain = _stripped(member)
        if isinstance(plain, type) and issubclass(plain, BaseModel):
            named += (plain.__name__, *(value for hint in _hints(plain).values() if get_origin(hint) is Literal
                                        for value in get_args(hint)))
        if tag in named:
            return member
    return Any
