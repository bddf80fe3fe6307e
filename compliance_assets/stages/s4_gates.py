"""Three of the five gates of stage 4: is the model right, is it so for everyone, does it know how sure it is?

Each measures what a declared bound is about and holds it against that bound; robustness and drift have modules of their own.
What the declaration makes impossible (nothing is in production yet) is NOT_APPLICABLE with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compliance_assets.metrics.calibration import measure_calibration
from compliance_assets.metrics.catalogue import METRICS
from compliance_assets.metrics.clustered_groups import compared_by_clusters
from compliance_assets.metrics.fairness import measure_fairness
from compliance_assets.metrics.groups import membership
from compliance_assets.metrics.measurement import Measurement, MeasurementRefused
from compliance_assets.metrics.regression_fairness import measure_regression_fairness
from compliance_assets.policy.gates import Finding
from compliance_assets.policy.system import Bound
from compliance_assets.stages.s4_drift import changed
from compliance_assets.stages.s4_holdout import ABSENT, Holdout, finding_id, found, not_applicable, one_of
from compliance_assets.stages.s4_tasks import ALL, Rows, measured_on, over_rows


def performance(seen: Holdout, bound: Bound) -> Iterator[Finding]:
    """Over all rows, or the worst of each attribute's groups; a change against the model in production."""
    if "previous score" in METRICS[bound.metric].needs:
        past, id = seen.past("production"), finding_id("performance", "all", bound.metric)
        yield not_applicable(id, bound, ABSENT["production"]) if past is None else \
            found(id, bound, lambda: changed(seen, past, bound.metric))
        return
    for over in bound.over or ("all",):
        yield found(finding_id("performance", over, bound.metric), bound, lambda over=over: over_rows(seen, bound.metric, over))  # type: ignore[misc]
    for metric, trivial in (("accuracy", _above_constant), ("mae", _below_constant)):
        if bound is next((one for one in seen.system.evaluation.performance if one.metric == metric), None):
            yield trivial(seen, bound)


def _above_constant(seen: Holdout, bound: Bound) -> Finding:
    """Accuracy rewards whoever gives everybody the commoner answer: it must be right for more people than that answer is.

    The bound is no choice: it is one row more than the larger class of this holdout, held against the end of the interval that
    the declared bound is judged on.
    """
    id, n = "performance.accuracy.above_constant", len(seen.label)
    commonest = int(np.unique(seen.outcome, return_counts=True)[1].max(initial=0))
    against = Bound(metric="accuracy", at_least=min(1.0, (commonest + 1) / n), judged_on=bound.judged_on,
                    because="one answer for everybody is right for the larger class; accuracy alone does not see that")
    return found(id, against, lambda: measured_on(seen, "accuracy", ALL))


def _below_constant(seen: Holdout, bound: Bound) -> Finding:
    """A predicted number must be nearer to the truth than the median of this holdout, given to everybody, is.

    The bound is no choice: the median has the least mean absolute error of all constants.
    """
    constant = float(np.abs(seen.outcome - np.median(seen.outcome)).mean())
    against = Bound(metric="mae", at_most=float(np.nextafter(constant, 0.0)), judged_on=bound.judged_on,
                    because="the median for everybody errs by this much; a model that does not err less has learned nothing")
    return found("performance.mae.below_constant", against, lambda: measured_on(seen, "mae", ALL))


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
        yield found(finding_id("fairness", over, bound.metric), bound, lambda over=over: compared(seen, bound.metric, over),  # type: ignore[misc]
                    three_valued=True, minimum=minimum)


def compared(seen: Holdout, metric: str, over: str, rows: Rows = ALL) -> Measurement:
    """One comparison of groups, on all or some rows of the holdout."""
    groups = {name: column if isinstance(rows, slice) else column.filter(rows) for name, column in seen.groups.items()}
    if METRICS[metric].task == {"regression"}:
        one = measure_regression_fairness([metric], seen.outcome[rows], seen.score[rows], groups, [over], expected_groups=seen.expected)[0]
    else:
        one = measure_fairness([metric], seen.label[rows], seen.decision[rows], groups, [over], expected_groups=seen.expected,
                               score=None if seen.system.data.target.task == "regression" else seen.score[rows])[0]
    return one if seen.sampled is None else compared_by_clusters(one, seen.sampled.part(rows), membership(over, groups))


_OF_GROUPS = ("calibration_error_difference", "worst_group_calibration_error")


def calibration(seen: Holdout, bound: Bound) -> Iterator[Finding]:
    """Whether the score can be read as a probability, over all rows or the worst of each attribute's groups."""
    if "binary" not in METRICS[bound.metric].task or (seen.sampled is not None and bound.metric not in _OF_GROUPS):
        for over in bound.over or ("all",):
            yield found(finding_id("calibration", over, bound.metric), bound,
                        lambda over=over: over_rows(seen, bound.metric, over))  # type: ignore[misc]
        return
    for over in bound.over or ("all",):
        def measure(over: str = over) -> Measurement:
            measured = measure_calibration([bound.metric], seen.label, seen.score, seen.groups, [] if over == "all" else [over],
                                           expected_groups=seen.expected)
            if not any(one.over == over for one in measured):
                raise MeasurementRefused(f"{bound.metric} compares groups; its bound names none.", rule="compared groups are named",
                                         remedy="Declare over which attributes.")
            one = one_of(measured, bound.metric, over)
            return one if seen.sampled is None else compared_by_clusters(one, seen.sampled, membership(over, seen.groups))

        yield found(finding_id("calibration", over, bound.metric), bound, measure)
