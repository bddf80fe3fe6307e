"""Values of records and declarations as somebody reads them who has never seen the file: units, limits, moments, whole sentences. Pure.

Nothing is added to a value here but its unit and the words around it; the exact value stands in the bytes that the line names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compliance_assets.governance.charts.reading import group_words, measured, shown, verdict_word, words
from compliance_assets.governance.review import abort_words, step_words
from compliance_assets.policy.gates import Verdict
from compliance_assets.trust.canonical import parse_rfc3339

EXPECTED: Mapping[str, str] = {
    "expect_column_values_to_be_of_type": "is of the type", "expect_column_values_to_not_be_null": "is not missing",
    "expect_column_values_to_be_unique": "is there once only", "expect_column_values_to_be_in_set": "is one of",
    "expect_column_values_to_be_between": "lies within", "expect_column_mean_to_be_between": "has a mean within",
    "expect_table_row_count_to_be_between": "has a number of rows within",
    "expect_table_columns_to_match_ordered_list": "has these columns in this order",
}
"""What the commonest expectations of a data contract ask of a column or of the table."""


def plain(value: Any) -> str:
    """A value of a record as one line of text. What was left open says so."""
    if value is None:
        return "not declared"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        said = [f"{group_words(str(name))}: {plain(item)}" for name, item in value.items() if item is not None]
        return ", ".join(said) or "none"
    if isinstance(value, list | tuple):
        between = "; " if any(isinstance(item, Mapping | list | tuple) for item in value) else ", "
        return between.join(map(plain, value)) or "none"
    return str(value) or "none"


def when(moment: str) -> str:
    """`1 Dec 2026, 17:35:29 UTC`."""
    at = parse_rfc3339(moment)
    return f"{at.day} {at:%b %Y, %H:%M:%S} UTC"


def moments(sentence: str) -> str:
    """A sentence with its moments written for people."""
    return _MOMENT.sub(lambda found: when(found[0]), sentence)


_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


def counted(value: Any) -> str:
    """A count with its thousands set apart."""
    return shown(float(value))


def in_seconds(value: Any) -> str:
    return f"{value} s"


def in_milliseconds(value: Any) -> str:
    return f"{value} ms"


def in_bytes(value: Any) -> str:
    """`444 268 544 bytes (424 MiB)`; without the second for less than a mebibyte."""
    return f"{counted(value)} bytes" + (f" ({int(value) / 2**20:.0f} MiB)" if int(value) >= 2**20 else "")


def span(pair: Sequence[Any]) -> str:
    """`0 to 5`: the two ends of a range as they were declared, without a needless `.0`."""
    return " to ".join(str(end).removesuffix(".0").replace("-", "−") for end in pair)


def share(value: Any) -> str:
    """A share in percent, exactly: `20 %`, `12.5 %`."""
    return f"{100 * float(value):.10g} %"


def bound(declared: Mapping[str, Any]) -> str:
    """`≥ 0.75`, `≤ 0.1`, `−0.02 to 0.02`: a declared bound as it was written."""
    if declared["between"] is not None:
        return span(declared["between"])
    return f"≥ {plain(declared['at_least'])}" if declared["at_least"] is not None else f"≤ {plain(declared['at_most'])}"


def label(target: Mapping[str, Any]) -> str:
    """What is predicted, which outcome is good for the person concerned, and how often it is expected."""
    good = next(f"{said} {plain(target[name])}" for name, said in (
        ("favourable", "favourable where it is"), ("favourable_classes", "favourable classes:"), ("favourable_from", "favourable from"))
        if target[name] is not None)
    often = f"; in {span([f'{100 * float(end):.10g}' for end in target['prevalence']])} % of the rows, as declared" \
        if target["prevalence"] is not None else ""
    return f"{target['column']}; {good}{often}"


def columns(named: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['name']} ({one['dtype']})" for one in named)


def split(declared: Mapping[str, Any]) -> str:
    parts = ", ".join(f"{name} {share(declared[name])}" for name in ("train", "validation", "holdout"))
    return f"{parts}; all rows of one {declared['by']} in one part; seed {declared['seed']}"


def population(declared: Mapping[str, Any]) -> str:
    shares = "; ".join(f"{group_words(attribute)} ({', '.join(f'{group_words(group)}: {share(part)}' for group, part in groups.items())})"
                       for attribute, groups in declared["shares"].items())
    return f"{shares}; each within {100 * float(declared['tolerance']):.10g} percentage points, because: {declared['because']}"


def smallest(group: Mapping[str, Any]) -> str:
    return (f"{group['rows']} rows, of them {group['positives']} with the favourable label and {group['negatives']} without: "
            "smaller groups are not judged")


def approvers(required: Iterable[Mapping[str, Any]]) -> str:
    return "; ".join(f"{one['people']} as {group_words(one['role'])}" for one in required)


def rollout(steps: Iterable[Mapping[str, Any]]) -> str:
    return "; ".join(map(step_words, steps))


def undone(rules: Iterable[Mapping[str, Any]]) -> str:
    return "; ".join(map(abort_words, rules))


def drift_rule(rule: Mapping[str, Any]) -> str:
    least, of = rule["windows"]
    return f"PSI of {rule['psi']} or more in {least} of the last {of} windows"


def retraining(declared: Mapping[str, Any]) -> str:
    """When stages run again, and what drives them."""
    said = [f"at {declared['schedule']} (cron: minute, hour, day, month, weekday; UTC)" if declared["schedule"] is not None else "",
            "on a new raw snapshot" if declared["on_new_data"] else "",
            f"on drift: {drift_rule(declared['on_drift'])}" if declared["on_drift"] is not None else ""]
    starts = "; ".join(one for one in said if one) or "nothing starts a run by itself"
    by = "the pipeline" if declared["driven_by"] == "pipeline" else "people with a runbook, by hand"
    return f"{starts}; driven by {by}"


def retention(declared: Mapping[str, Any]) -> str:
    return f"documentation {declared['documentation_years']} years, logs of operation {declared['operation_logs_months']} months"


def months(value: Any) -> str:
    return f"{value} months"


def overridden(declared: Mapping[str, Any]) -> str:
    low, high = declared["between"]
    return (f"{span([f'{100 * float(end):.10g}' for end in (low, high)])} % of the decisions, looked at from {declared['decisions']} "
            f"decisions on, because: {declared['because']}")


def holdout(opened: Mapping[str, Any]) -> str:
    """How often the holdout was looked at, and how often it may be."""
    limit = f"of at most {opened['limit']} that are declared" if isinstance(opened["limit"], int) else "no limit is declared"
    return f"{opened['times']} time{'' if opened['times'] == 1 else 's'}, {limit}; holdout {opened['holdout']}"


def working_tree(code: Mapping[str, Any]) -> str:
    """From which source code it ran, and whether that is in a commit."""
    if not code["under_version_control"]:
        return f"not under version control; authors as far as known: {plain(code['authors'])}"
    state = "with changes that are in no commit" if code["dirty"] else "without further changes"
    return f"commit {code['commit']}, {state}; authors: {plain(code['authors'])}"


def gates(verdicts: Iterable[Verdict]) -> str:
    """How many gates said what, each verdict under its own name: one that is not applicable has not passed."""
    found = Counter(verdicts)
    said = {Verdict.PASS: "passed", Verdict.FAIL: "failed", Verdict.ERROR: "could not be computed"}
    return "gates: " + (", ".join(f"{found[one]} {said[one] if one in said else verdict_word(one)}" for one in Verdict if found[one])
                        or "none")


def expected(kind: str) -> str:
    """What an expectation asks, in words."""
    return EXPECTED[kind] if kind in EXPECTED else words(kind.removeprefix("expect_"))


def limits(arguments: Mapping[str, Any]) -> str:
    """The limits that an expectation was given; empty where it needs none."""
    rest = {name: value for name, value in arguments.items() if name != "column" and value is not None}
    mostly = f"in {share(rest.pop('mostly'))} of the rows or more" if "mostly" in rest else ""
    ends = [rest.pop(name, None) for name in ("min_value", "max_value")]
    low, high = (None if end is None else counted(end) if measured(end) is not None else plain(end) for end in ends)
    given = f"{low} to {high}" if low and high else f"{low} or more" if low else f"{high} or less" if high else ""
    if set(rest) & {"type_", "value_set", "column_list"} and len(rest) == 1:
        given = plain(next(iter(rest.values())))
    elif rest:
        given = ", ".join(part for part in (given, plain(rest)) if part)
    return ", ".join(part for part in (given, mostly) if part)


def found(result: Mapping[str, Any]) -> str:
    """What was found where the expectation was held against the data."""
    if "observed" in result:
        number = measured(result["observed"])
        return plain(result["observed"]) if number is None else shown(number)
    if "unexpected_count" in result:
        return f"{counted(result['unexpected_count'])} of {counted(result['element_count'])} otherwise"
    return "not counted"
