"""Only what was measured, and keeps its bound on the declared end, may pass; nothing measured is never a pass."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance_assets.metrics.measurement import GroupMeasurement, Measurement
from compliance_assets.policy.gates import Finding, GateReport, Verdict, conclude, fact, judge, not_run
from compliance_assets.policy.system import Bound, MinimumGroup

BECAUSE = "a reason that is long enough"


def measured(value, lower=None, upper=None, n=500, **more):
    return Measurement("roc_auc", value, lower, upper, n, "DeLong", direction="higher", **more)


def bound(metric="roc_auc", **more):
    return Bound(metric=metric, because=BECAUSE, **{"judged_on": "lower", **more})


def test_the_lower_end_is_judged_not_the_point():
    found = judge("performance.roc_auc", measured(0.86, 0.82, 0.90), bound(at_least=0.84))
    assert found.verdict is Verdict.FAIL
    assert not found
    assert found.sentence() == "performance.roc_auc 0.86 [0.82, 0.9] not >= 0.84"
    assert judge("performance.roc_auc", measured(0.86, 0.84, 0.90), bound(at_least=0.84))


def test_performance_that_straddles_fails_and_fairness_that_straddles_is_inconclusive():
    straddling = measured(0.83, 0.77, 0.89)
    assert judge("f", straddling, bound("selection_rate_ratio", at_least=0.80)).verdict is Verdict.FAIL
    found = judge("f", straddling, bound("selection_rate_ratio", at_least=0.80), three_valued=True)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert not found
    assert "INCONCLUSIVE, judged on lower" in found.sentence()


def test_fairness_whose_point_misses_the_bound_fails_however_wide_the_interval():
    found = judge("f", measured(0.79, 0.60, 0.95), bound("selection_rate_ratio", at_least=0.80), three_valued=True)
    assert found.verdict is Verdict.FAIL


def test_an_upper_bound_is_judged_on_the_upper_end():
    at_most = bound("expected_calibration_error", at_most=0.05, judged_on="upper")
    assert judge("c", measured(0.03, 0.01, 0.05), at_most)
    assert not judge("c", measured(0.03, 0.01, 0.0500001), at_most)


def test_there_is_no_rounding():
    found = judge("f", measured(0.7999999), bound("selection_rate_ratio", at_least=0.80, judged_on="point"))
    assert found.verdict is Verdict.FAIL
    assert (found.value, found.bound) == ("0.7999999", "0.8")
    assert judge("f", measured(0.80), bound("selection_rate_ratio", at_least=0.80, judged_on="point"))
    assert bound("selection_rate_ratio", at_least=0.7999999, judged_on="point").text == "0.7999999"


def test_zero_is_a_measurement_and_nothing_is_an_error():
    at_least = bound("selection_rate_ratio", at_least=0.80, judged_on="point")
    assert judge("f", measured(0.0), at_least).verdict is Verdict.FAIL
    nothing = judge("f", measured(None, n=0, note="nobody was selected"), at_least)
    assert nothing.verdict is Verdict.ERROR
    assert nothing.note == "nobody was selected"
    assert nothing.value is None
    at_most = bound("psi", at_most=0.25, judged_on="point")
    assert judge("d", measured(None, n=0, note="no rows"), at_most).verdict is Verdict.ERROR


def test_an_interval_that_was_declared_but_not_measured_is_an_error():
    found = judge("p", measured(0.99), bound(at_least=0.5))
    assert found.verdict is Verdict.ERROR
    assert "gives no interval" in found.note


@pytest.mark.parametrize(
    "group",
    [
        GroupMeasurement("female", 0.8, n=99, positives=50, negatives=49),
        GroupMeasurement("female", 0.8, n=100, positives=29, negatives=71),
        GroupMeasurement("female", 0.8, n=100, positives=95, negatives=5),
    ],
)
def test_a_small_group_makes_the_comparison_insufficient_however_good_it_looks(group):
    male = GroupMeasurement("male", 0.8, n=400, positives=200, negatives=200)
    minimum = MinimumGroup(rows=100, positives=30, negatives=10)
    found = judge("f", measured(1.0, 1.0, 1.0, groups=(group, male)), bound("selection_rate_ratio", at_least=0.8), minimum=minimum)
    assert found.verdict is Verdict.INSUFFICIENT_DATA
    assert "female" in found.note
    assert "100 rows, 30 positives, 10 negatives" in found.note


def test_a_comparison_of_no_groups_is_insufficient():
    found = judge("f", measured(1.0, 1.0, 1.0), bound("selection_rate_ratio", at_least=0.8), minimum=MinimumGroup(rows=1))
    assert found.verdict is Verdict.INSUFFICIENT_DATA


def test_a_gate_without_findings_is_an_error_never_a_pass():
    assert GateReport("fairness", 1, ()).verdict is Verdict.ERROR
    assert not GateReport("fairness", 1, ())
    report = conclude("fairness", 1, [])
    assert report.verdict is Verdict.ERROR
    assert report.findings[0].note == "the gate found nothing to judge"


def test_not_applicable_needs_a_reason_and_a_pass_beside_it_passes():
    with pytest.raises(ValueError, match="needs a reason"):
        Finding("drift.psi", Verdict.NOT_APPLICABLE)
    first = Finding("drift.psi", Verdict.NOT_APPLICABLE, note="first release: no production model")
    assert GateReport("drift", 1, (first,)).verdict is Verdict.NOT_APPLICABLE
    assert GateReport("drift", 1, (first, fact("drift.rows", True))).verdict is Verdict.PASS
    assert not GateReport("drift", 1, (first, fact("drift.rows", False)))


@pytest.mark.parametrize("verdict", [v for v in Verdict if v not in (Verdict.PASS, Verdict.NOT_APPLICABLE)])
def test_only_pass_and_not_applicable_go_on(verdict):
    assert not verdict.goes_on
    assert not GateReport("g", 1, (Finding("a", Verdict.PASS), Finding("b", verdict, note="why")))


def test_one_finding_that_is_no_pass_decides_the_gate_whatever_its_place():
    for order in itertools.permutations([Finding("a", Verdict.PASS), Finding("b", Verdict.ERROR), Finding("c", Verdict.FAIL)]):
        assert GateReport("g", 1, order).verdict is Verdict.ERROR


def test_a_halted_gate_is_recorded_as_not_run():
    report = not_run("robustness", 1, "fairness")
    assert report.verdict is Verdict.NOT_RUN
    assert report.failures[0].note == "halted by fairness"


def test_a_report_reads_back_as_it_was_written():
    groups = (
        GroupMeasurement("female", 0.81, 0.78, 0.84, n=200, positives=120, negatives=80),
        GroupMeasurement("male", 0.83, n=220, positives=140, negatives=80),
    )
    report = conclude(
        "performance",
        1,
        [judge("p", measured(0.86, 0.85, 0.90, groups=groups), bound(at_least=0.84)), fact("rows", True, value=3, bound=3)],
    )
    assert GateReport.read(report.as_json()) == report


def test_a_verdict_that_does_not_follow_from_its_findings_is_refused():
    body = conclude("fairness", 1, [fact("a", True), fact("b", False)]).as_json()
    with pytest.raises(ValueError, match="the verdict PASS does not follow from its findings"):
        GateReport.read({**body, "verdict": "PASS"})
    with pytest.raises(ValueError, match="does not follow"):
        GateReport.read({"gate": "fairness", "version": 1, "verdict": "PASS", "findings": []})


def test_a_report_is_canonical_json_without_floats():
    from compliance_assets.trust.canonical import canonical_json

    assert canonical_json(conclude("p", 1, [judge("p", measured(0.86, 0.85, 0.90), bound(at_least=0.84))]).as_json())


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_a_pass_on_the_lower_end_means_that_the_lower_end_keeps_the_bound(a, b, c, three_valued):
    lower, value, upper = sorted((a, b, c))
    at_least = bound("selection_rate_ratio", at_least=0.8)
    found = judge("f", measured(value, lower, upper), at_least, three_valued=three_valued)
    assert bool(found) == (lower >= 0.8)
    if found.verdict is Verdict.INCONCLUSIVE:
        assert three_valued
        assert lower < 0.8 <= value


def test_an_exception_to_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="MAYBE"):
        Finding.read({"id": "a", "verdict": "MAYBE"})
