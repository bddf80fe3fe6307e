"""Three of the five gates of stage 4: is the model right, is it so for everyone, does it know how sure it is?

Each measures what a declared bound is about and holds it against that bound; robustness and drift have modules of their own.
What the declaration makes impossible (nothing is in production yet) is NOT_APPLICABLE with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from compliance_assets.metrics.calibration import measure_calibration
from compliance_assets.metrics.catalogue import METRICS
from compliance_assets.metrics.fairness import measure_fairness
from compliance_assets.metrics.groups import expected_names, membership
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused
from compliance_assets.metrics.performance import measure_performance
from compliance_assets.policy.gates import Finding
from compliance_assets.policy.system import Bound
from compliance_assets.stages.s4_drift import changed
from compliance_assets.stages.s4_holdout import ABSENT, Holdout, finding_id, found, not_applicable, one_of


def performance(seen: Holdout, bound: Bound) -> Iterator[Finding]:
    """Over all rows, or the worst of each attribute's groups; a change against the model in production."""
    if "previous score" in METRICS[bound.metric].needs:
        past, id = seen.past("production"), finding_id("performance", "all", bound.metric)
        yield not_applicable(id, bound, ABSENT["production"]) if past is None else \
            found(id, bound, lambda: changed(seen, past, bound.metric))
        return
    for over in bound.over or ("all",):
        yield found(finding_id("performance", over, bound.metric), bound, lambda over=over: _performs(seen, bound.metric, over))  # type: ignore[misc]
    if bound is next((one for one in seen.system.evaluation.performance if one.metric == "accuracy"), None):
        yield _above_constant(seen, bound)


def _above_constant(seen: Holdout, bound: Bound) -> Finding:
    """Accuracy rewards whoever gives everybody the commoner answer: it must be right for more people than that answer is.

    The bound is no choice: it is one row more than the larger class of this holdout, held against the end of the interval that
    the declared bound is judged on.
    """
    id, n = "performance.accuracy.above_constant", len(seen.label)
    commoner = max(int(seen.label.sum()), n - int(seen.label.sum()))
    against = Bound(metric="accuracy", at_least=min(1.0, (commoner + 1) / n), judged_on=bound.judged_on,
                    because="one answer for everybody is right for the larger class; accuracy alone does not see that")
    return found(id, against, lambda: measure_performance(["accuracy"], seen.label, seen.score, seen.threshold)[0])


def _performs(seen: Holdout, metric: str, over: str) -> Measurement:
    """One metric over all rows, or the worst group's."""
    declared = seen.system.evaluation.costs
    costs = None if declared is None else declared.pair
    if over == "all":
        return measure_performance([metric], seen.label, seen.score, seen.threshold, costs=costs)[0]
    member = membership(over, seen.groups)
    names = sorted(set(member.tolist()) | set(expected_names(over, seen.expected)))
    parts = {str(name): (measure_performance([metric], seen.label[member == name], seen.score[member == name], seen.threshold,
                                               costs=costs)[0],
                         seen.label[member == name]) for name in names}
    groups = tuple(GroupMeasurement(name, one.value, one.lower, one.upper, one.n, int(y.sum()), len(y) - int(y.sum()))
                   for name, (one, y) in parts.items())
    absent = [f"{name} ({one.note})" for name, (one, _) in parts.items() if one.value is None]
    if absent:
        return Measurement(metric, None, None, None, min(g.n for g in groups), "per group", over, groups,
                           note=f"not measurable in {', '.join(absent)}", direction=METRICS[metric].direction)
    sign = -1.0 if METRICS[metric].direction == "higher" else 1.0
    worst = max(parts, key=lambda name: (sign * cast(float, parts[name][0].value), name))
    one = parts[worst][0]
    return replace(one, over=over, groups=groups, n=min(g.n for g in groups), method=f"worst group; {one.method}",
                   note=f"worst {worst}")


def fairness(seen: Holdout, bound: Bound) -> Iterator[Finding]:
    """Over every named attribute and intersection; three-valued; too small a group makes it INSUFFICIENT_DATA.

    A bound on a change compares with the model in production, on the rows that both can score.
    """
    minimum = seen.system.evaluation.fairness.minimum_group
    if "previous score" in METRICS[bound.metric].needs:
        past = seen.past("production")
        for over in bound.over:
            id = finding_id("fairness", over, bound.metric)
            yield not_applicable(id, bound, ABSENT["production"]) if past is None else \
                found(id, bound, lambda over=over: changed(seen, past, bound.metric, over),  # type: ignore[misc]
                      three_valued=True, minimum=minimum)
        return
    for over in bound.over:
        yield found(finding_id("fairness", over, bound.metric), bound, lambda over=over: measure_fairness(  # type: ignore[misc]
            [bound.metric], seen.label, seen.decision, seen.groups, [over], expected_groups=seen.expected, score=seen.score)[0],
            three_valued=True, minimum=minimum)


def calibration(seen: Holdout, bound: Bound) -> Iterator[Finding]:
    """Whether the score can be read as a probability, over all rows or the worst of each attribute's groups."""
    for over in bound.over or ("all",):
        def measure(over: str = over) -> Measurement:
            measured = measure_calibration([bound.metric], seen.label, seen.score, seen.groups, [] if over == "all" else [over],
                                           expected_groups=seen.expected)
            if not any(one.over == over for one in measured):
                raise MeasurementRefused(f"{bound.metric} compares groups; its bound names none.", rule="compared groups are named",
                                         remedy="Declare over which attributes.")
            return one_of(measured, bound.metric, over)

        yield found(finding_id("calibration", over, bound.metric), bound, measure)
