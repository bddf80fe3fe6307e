"""Two definitions of a system → what changed, which way, what it is for the AI system, and who must look at it.

Pure: two definitions come in as the JSON that their digests cover (`Definition.parts()`), `Change`s come out. Lists are first
keyed by what their items are about (a bound by metric and attribute, a gate by name), so that a moved line is not a change and a
lost one is. Every difference gives at least one `Change`. The classes are proposals; people determine (Art. 17(1)(a), Art. 3(23)).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compliance_assets.policy.change_judges import GONE, Direction
from compliance_assets.policy.change_rules import NEUTRAL_REVIEW, STRENGTHENING_REVIEW, ChangeClass, rule_for

WEIGHT: Mapping[Direction, int] = {"weakens": 3, "structural": 2, "strengthens": 1, "neutral": 0}


@dataclass(frozen=True)
class Change:
    """One thing that differs between two definitions."""

    where: str
    what: str
    before: str
    after: str
    direction: Direction
    class_: ChangeClass
    review: tuple[str, ...]
    law: str

    @property
    def must_be_approved(self) -> bool:
        """Whether it weakens what is promised, or nobody can say from the text that it does not."""
        return self.direction in ("weakens", "structural") or self.class_ is not ChangeClass.ROUTINE

    def sentence(self) -> str:
        """`weakens (SIGNIFICANT): evaluation.fairness.bounds.… a fairness bound: >= 0.8 → >= 0.75`."""
        return f"{self.direction} ({self.class_.value}): {self.where}: {self.what}: {self.before} → {self.after}"

    def as_json(self) -> dict[str, Any]:
        return {"where": self.where, "what": self.what, "before": self.before, "after": self.after, "direction": self.direction,
                "class": self.class_.value, "review": list(self.review), "law": self.law}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """What differs between two definitions' parts, the gravest first. () exactly if they are the same."""
    found = [*_walk((), _normalised(before), _normalised(after))]
    if not found and not _same(before, after):
        found.append(Change("definition", "something that this version of the program does not read", "other bytes", "other bytes",
                            "structural", ChangeClass.SIGNIFICANT, ("AI Governance Lead",), "Art. 17(1)(a)"))
    return tuple(sorted(found, key=lambda change: (-WEIGHT[change.direction], -change.class_.rank, change.where)))


def class_of(found: Iterable[Change]) -> ChangeClass:
    """The gravest class among the changes; ROUTINE if there is none."""
    return max((change.class_ for change in found), key=lambda each: each.rank, default=ChangeClass.ROUTINE)


def direction_of(found: Iterable[Change]) -> Direction:
    """The gravest direction among the changes; neutral if there is none."""
    return max((change.direction for change in found), key=lambda each: WEIGHT[each], default="neutral")


def review_of(found: Iterable[Change]) -> tuple[str, ...]:
    """Everybody who must look at one of the changes, each once, in the order in which they first appear."""
    return tuple(dict.fromkeys(role for change in found for role in change.review))


# ----------------------------------------------------------------------------------------------------------- comparing


def _walk(path: tuple[str, ...], before: Any, after: Any) -> Iterator[Change]:
    if _same(before, after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from _walk((*path, name), before.get(name, GONE), after.get(name, GONE))  # absence is said, not filled in
        return
    rule = rule_for(path)
    direction = rule.judge(before, after)
    if direction == "neutral" and rule.judge.__name__ == "reordered":
        return  # what came or went is a change of its own
    if rule.system is not None:
        class_ = ChangeClass.ROUTINE if direction == "neutral" else rule.system
    else:
        class_ = ChangeClass.SIGNIFICANT if direction in ("weakens", "structural") else ChangeClass.ROUTINE
    review = (rule.review if direction in ("weakens", "structural") or class_ is not ChangeClass.ROUTINE
              else STRENGTHENING_REVIEW if direction == "strengthens" else NEUTRAL_REVIEW)
    verb = " added" if before is GONE else " removed" if after is GONE else ""
    yield Change(_place(path), rule.says + verb, _shown(before, path), _shown(after, path), direction, class_, review, rule.law)


def _same(before: Any, after: Any) -> bool:
    """As JSON tells them apart: 1 is not true."""
    if before is GONE or after is GONE:
        return before is after
    return json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)


def _place(path: Sequence[str]) -> str:
    steps = path[1:] if path and path[0] in ("declaration", "river") else path
    return ".".join(step if step.replace("_", "").isalnum() else f"[{step}]" for step in steps).replace(".[", "[")


def _shown(value: Any, path: Sequence[str]) -> str:
    if value is GONE:
        return "nothing"
    if path[-1:] == ("accepts",) or path[-1:] == ("tolerates",):
        low, high = value
        return f">= {low}" if high is None else f"<= {high}" if low is None else f"{low} … {high}"
    if isinstance(value, dict):
        inner = ", ".join(f"{name} {_shown(item, (name,))}" for name, item in value.items() if not isinstance(item, dict))
        return inner or "there"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    return str(value)[:12] if path[:1] == ("code",) else str(value)


# --------------------------------------------------------------------------------------------------------- normal form


def _normalised(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts with every list keyed by what its items are about, and what is not declared left out."""
    found: dict[str, Any] = {name: _plain(part) for name, part in parts.items() if name not in ("river", "declaration")}
    if "river" in parts:
        found["river"] = _river(parts["river"])
    if "declaration" in parts:
        found["declaration"] = _declaration(parts["declaration"])
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    return [_plain(item) if item is not None else None for item in value] if isinstance(value, list | tuple) else value


def _keyed(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """By key; the second item about the same thing is `… #2`, so that none hides another."""
    found: dict[str, Any] = {}
    for key, item in items:
        name, count = key, 1
        while name in found:
            count += 1
            name = f"{key} #{count}"
        found[name] = item
    return found


def _river(rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"order": [rule["name"] for rule in rules], "stages": {rule["name"]: _stage(_plain(rule)) for rule in rules}}


def _stage(rule: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in rule.items() if name not in ("name", "number", "needs", "gates")}
    gates = rule["gates"] if "gates" in rule else []
    needs = rule["needs"] if "needs" in rule else []
    return {**kept, "needs": dict.fromkeys(needs, True), "gate_order": [gate["name"] for gate in gates],
            "gates": {gate["name"]: {name: value for name, value in gate.items() if name != "name"} for gate in gates}}


def _declaration(declared: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _plain(declared)
    if "training" in found and isinstance(declared["training"].get("hyperparameters"), dict):
        found["training"]["hyperparameters"] = dict(declared["training"]["hyperparameters"])  # a None there is a value
    for section, normal in (("data", _data), ("features", _features), ("evaluation", _evaluation), ("approval", _approval),
                            ("deployment", _deployment)):
        if section in found:
            found[section] = normal(found[section])
    return found


def _data(data: dict[str, Any]) -> dict[str, Any]:
    uses = data.pop("used_as_features", "none")
    data["used_as_features"] = {} if uses == "none" else _keyed((use["attribute"], {"because": use["because"]}) for use in uses)
    for family in ("completeness", "shift", "currentness"):
        if family in data:
            data[family] = _bounds(data[family])
    data["intersections"] = dict.fromkeys(data.pop("intersections", []), True)
    return data


def _features(features: dict[str, Any]) -> dict[str, Any]:
    registry = features.pop("registry", [])
    return {**features, "order": [item["name"] for item in registry],
            "registry": _keyed((item["name"], {k: v for k, v in item.items() if k != "name"}) for item in registry)}


def _evaluation(evaluation: dict[str, Any]) -> dict[str, Any]:
    for family in ("performance", "robustness", "calibration"):
        if family in evaluation:
            evaluation[family] = {"bounds": _bounds(evaluation[family])}
    for family in ("fairness", "drift", "time_slices"):
        if family in evaluation:
            evaluation[family]["bounds"] = _bounds(evaluation[family].get("bounds", []))
    if "drift" in evaluation:
        evaluation["drift"]["against"] = dict.fromkeys(evaluation["drift"].pop("against", []), True)
    return evaluation


def _bounds(bounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each bound once for every attribute it is over and every column it is about, with what it accepts as an interval."""
    found: list[tuple[str, Any]] = []
    for bound in bounds:
        rest = {name: value for name, value in bound.items()
                if name not in ("metric", "over", "at_least", "at_most", "between", "columns", "column", "feature", "against")}
        accepts = list(bound["between"]) if "between" in bound else [bound.get("at_least"), bound.get("at_most")]
        over = bound["over"] if bound.get("over") else [None]
        of = bound["columns"] if "columns" in bound else [bound[name] for name in ("column", "feature") if name in bound]
        about = [f" of {column}" for column in of] or [""]
        past = f" against {bound['against']}" if "against" in bound else ""
        found += [(bound["metric"] + column + (f" over {name}" if name else "") + past, {**rest, "accepts": accepts})
                  for column in about for name in over]
    # Two bounds on the same thing are told apart by their strength, not by where they stand.
    return _keyed(sorted(found, key=lambda item: (item[0], str(item[1].get("level", "")), str(item[1].get("judged_on", "")))))


def _approval(approval: dict[str, Any]) -> dict[str, Any]:
    people: dict[str, int] = {}
    for need in approval.pop("requires", []):
        people[need["role"]] = people.get(need["role"], 0) + need["people"]
    allowed = approval.pop("exceptions", None)  # left out and null say the same: there are none
    if allowed is not None:
        approval["exceptions"] = {"covers": dict.fromkeys(allowed["covers"], True), "longest": allowed["longest"],
                                  "approved_by": {need["role"]: need["people"] for need in allowed["approved_by"]}}
    classes = approval.pop("by_change", None)
    if classes is not None:
        approval["by_change"] = {name: {need["role"]: need["people"] for need in needs} for name, needs in classes.items()}
    return {**approval, "requires": people, "separation": dict.fromkeys(approval.pop("separation", []), True)}


def _deployment(deployment: dict[str, Any]) -> dict[str, Any]:
    steps, canaries = [], 0
    for step in deployment.pop("steps", []):
        ((kind, body),) = step.items()
        canaries += kind == "canary"
        steps.append((f"canary {canaries}" if kind == "canary" else kind, body))
    rules = [(rule["metric"] + (f" over {rule['over']}" if rule.get("over") else ""), {"tolerates": [rule.get("below"), rule.get("above")]})
             for rule in deployment.pop("abort_when", [])]
    return {**deployment, "steps": _keyed(steps), "abort_when": _keyed(sorted(rules, key=lambda item: item[0]))}
