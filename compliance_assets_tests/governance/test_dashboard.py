"""The dashboard's numbers are those that a person computes by hand from the same events, and unknown where there is nothing."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance_assets.governance.charts import over_time
from compliance_assets.governance.dashboard import measured as in_advance
from compliance_assets.governance.dashboard import measures
from compliance_assets.governance.dashboard.history import (
    Blocked,
    Decided,
    Deployed,
    Excepted,
    FromBaseline,
    History,
    Judged,
    history_of,
)
from compliance_assets.governance.dashboard.kept import Kept
from compliance_assets.governance.dashboard.summary import dashboard, of_history
from compliance_assets.governance.stage_facts import margin_of
from compliance_assets.pipeline import open_river
from compliance_assets.policy.gates import Finding, Verdict
from compliance_assets_tests.evidence.forging import simulated_rollout
from compliance_assets_tests.evidence.test_remembered import asked_again
from compliance_assets_tests.project import OWNER, PEOPLE, SYSTEM, approve_definition, copied, decide, run_to, someone, step

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
BOUND = (("fairness.sex.selection_rate_ratio", ">= 0.8"),)


def days(before: float) -> datetime:
    return NOW - timedelta(days=before)


def judged(gate: str, before: float, passed: bool = True, over: str = "sex", bounds: tuple[tuple[str, str], ...] = BOUND, margin: float = 0.1) -> Judged:
    verdict = Verdict.PASS if passed else Verdict.FAIL
    return Judged(4, gate, 1, bounds, verdict, days(before), 7, () if passed else ((over, "selection_rate_ratio"),), margin if passed else -margin)


EMPTY = History(SYSTEM, NOW, (), 0, (), frozenset(), (), (), (), (), (), (), (), 0, 0, {})


def test_rates_count_definite_verdicts_and_carry_their_interval() -> None:
    found = measures.success([judged("fairness", 1), judged("fairness", 2), judged("fairness", 3, passed=False)])
    assert (found.hits, found.n, found.few) == (2, 3, True)
    assert found.interval == pytest.approx((0.20765960080204768, 0.9385081026285363))  # Wilson 2 of 3
    assert measures.success([]).value is None and measures.success([]).interval is None


def test_failures_are_counted_once_for_each_attribute_of_a_verdict() -> None:
    two = replace(judged("fairness", 1, passed=False), failed=(("sex", "a"), ("sex", "b"), ("age_band", "a")))
    assert measures.fairness_failures([two, judged("fairness", 2), judged("performance", 2, passed=False)]) == {"sex": 1, "age_band": 1}


def test_a_changed_bound_marks_the_series() -> None:
    looser = (("fairness.sex.selection_rate_ratio", ">= 0.7"),)
    series = [judged("fairness", 9), judged("performance", 8, bounds=()), judged("fairness", 7), judged("fairness", 3, bounds=looser)]
    assert measures.changes(series) == (days(3),)


def test_a_series_begins_anew_where_its_bound_changed_and_so_does_its_line() -> None:
    looser = (("fairness.sex.selection_rate_ratio", ">= 0.7"),)
    series = [*(judged("fairness", before, passed=False) for before in (20, 18, 16, 14)),
              *(judged("fairness", before, bounds=looser) for before in (9, 7, 5, 3))]
    found = measures.rolling(series, [days(before) for before in (15, 10, 8, 1)])
    assert [(one.rate.hits, one.rate.n) for one in found] == [(0, 3), (0, 4), (1, 1), (4, 4)], "nothing is counted across the change"
    assert [one.since for one in found] == [None, None, days(9), days(9)]
    same = measures.rolling([replace(one, bounds=BOUND) for one in series], [days(before) for before in (15, 10, 8, 1)])
    begun = [over_time.rates({"fairness": moments}, ()).svg.count("M") for moments in (found, same)]
    assert begun[0] == begun[1] + 2, "a line and a band more"


def test_so_many_rollouts_are_drawn_as_the_median_of_each_span() -> None:
    ends = [days(20), days(10), days(0)]
    points = [(days(before), 2.0 if before > 10 else 8.0) for before in (15, 5) for _ in range(over_time.MOST_DOTS)]
    few, many = over_time.waits(points[:10], ends), over_time.waits(points, ends)
    assert few.markdown_table.count("2.00") == 10
    assert [line.split("|")[2:5] for line in many.markdown_table.splitlines()[2:]] == [[" 2.00 ", " 2.00 ", " 400 "], [" 8.00 ", " 8.00 ", " 400 "]]


def test_a_long_measurement_keeps_nobody_waiting_and_the_page_says_of_what_it_is(in_review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    river = open_river(in_review)
    monkeypatch.setattr(in_advance, "SHORT", 0.0)  # everything is long
    first = in_advance.measured(river, SYSTEM)
    assert in_advance.measured(river, SYSTEM) is first
    asked_again(river)
    shown = in_advance.measured(river, SYSTEM)
    assert shown is first and shown.history.kept is not None and shown.history.kept.entries == river.archive.ledger.size - 1
    until = time.monotonic() + 30
    while (now := in_advance.measured(river, SYSTEM)) is first and time.monotonic() < until:
        time.sleep(0.05)
    assert now.history.reused == first.history.reused + 1 and now.history.kept and now.history.kept.entries == river.archive.ledger.size


def test_the_way_to_production_is_measured_whole_and_in_parts() -> None:
    def one(hours: float) -> Deployed:
        trained = days(10)
        at = [trained + timedelta(hours=hours * share) for share in (0.1, 0.2, 0.6, 0.7, 1.0)]
        return Deployed("a", "c" * 64, trained, at[0], at[1], at[2], at[3], at[4], 9)

    parts = measures.to_production([one(10), one(20), one(40)])
    assert parts["training to production"].median == pytest.approx(20) and parts["training to production"].p90 == pytest.approx(40)
    assert parts["ready to decision"].mean == pytest.approx((4 + 8 + 16) / 3)
    assert measures.to_production([])["training to production"].median is None
    assert measures.to_production([replace(one(10), decided=None)])["ready to decision"].n == 0


def test_kaplan_meier_agrees_with_the_worked_remission_times() -> None:
    """Freireich et al. 1963, 6-MP group as in Kalbfleisch & Prentice: 21 patients, 9 relapses, median 23 weeks."""
    relapsed, censored = [6, 6, 6, 7, 10, 13, 16, 22, 23], [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    assert measures.kaplan_meier_median(relapsed, censored) == 23
    assert measures.kaplan_meier_median([], [1.0]) is None


@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=40))
def test_without_censoring_the_estimate_is_the_median(times: list[float]) -> None:
    assert measures.kaplan_meier_median(times, []) == sorted(times)[(len(times) - 1) // 2]


@pytest.mark.parametrize(("finding", "margin"), [
    (Finding("f", Verdict.PASS, value="0.9", lower="0.88", upper="0.95", comparator=">=", bound="0.8", judged_on="lower"), 0.1),
    (Finding("f", Verdict.FAIL, value="0.12", lower="0.1", upper="0.15", comparator="<=", bound="0.1", judged_on="upper"), -0.5),
    (Finding("f", Verdict.PASS, value="0.1", comparator="<=", bound="0", judged_on="point"), -0.1),
    (Finding("f", Verdict.PASS, value="x", comparator="==", bound="y"), None),
    (Finding("f", Verdict.INSUFFICIENT_DATA, comparator=">=", bound="0.8", judged_on="lower"), None),
])
def test_a_margin_is_the_judged_ends_distance_in_bounds(finding: Finding, margin: float | None) -> None:
    found = margin_of(finding)
    assert found is None if margin is None else found == pytest.approx(margin)


def test_spans_cover_the_whole_time_and_lose_no_event() -> None:
    for span in (0.5, 20, 200, 700):
        ends = measures.buckets(days(span), NOW)
        assert ends[-1] == NOW and ends == tuple(sorted(ends)) and len(ends) <= 40
        events = [(days(span), "a"), (days(span / 2), "b"), (NOW, "a")]
        assert sum(sum(one.values()) for one in measures.counted(events, ends)) == 3


def test_a_history_becomes_numbers_pictures_and_sentences() -> None:
    history = replace(
        EMPTY, judged=(judged("fairness", 200, passed=False), judged("fairness", 60), judged("performance", 60),
                       judged("fairness", 30, passed=False, over="age_band"), judged("performance", 2)),
        trained=(("a" * 64, days(60)), ("b" * 64, days(30))), staged=frozenset({"a" * 64}),
        blocked=(Blocked("rejected", days(100), 3), Blocked("deferred", days(5), 4), Blocked("waiting", days(200), 5)),
        decisions=(Decided("owner-1", "approve", days(50), 30.0, 60, 4), Decided("owner-1", "defer", days(40), 50.0, 600, 5)),
        returns=(("rolled_back", True, days(1), 11),), executed=3, reused=1, holdouts={"f" * 64: 2})
    shown = of_history(history)
    said = {one.number: one for one in shown.measures}
    assert list(said) == [f"D{number}" for number in range(1, 18)]
    assert {what: number for what, number, _ in shown.tiles}["Gate success, all gates"] == "75.0 %"
    assert said["D1"].detail["staged"]["value"] == 0.5 and said["D2"].found.startswith("1 of 2; by attribute: age_band 1")
    assert said["D4"].found == "1 deferred, 1 waiting" and said["D5"].detail["n"] == 1 and said["D5"].detail["hasty"]["hits"] == 1
    assert said["D9"].found.startswith("-0.100") and said["D12"].found == "1, 1 in an emergency"
    assert said["D14"].detail == {"reused": 1, "executed": 3} and "used 2 times" in said["D15"].found
    assert said["D8"].found.startswith("0 given for 2 candidates") and said["D6"].missing and said["D10"].missing
    assert [chart.name for chart in shown.charts] == ["gate-success", "fairness-failures", "training-to-production", "blocked"]
    assert "age\\_band" in shown.charts[1].markdown_table or "age_band" in shown.charts[1].markdown_table
    json.dumps(shown.as_json())


def test_what_is_kept_excepted_and_drifted_is_counted() -> None:
    kept = Kept(named=40, lost=("f" * 64,), rollouts=3, covered=2, entries=90, anchored=88, overdue=("blue/inputs.parquet",), open_integrity_alerts=(7,))
    history = replace(EMPTY, kept=kept, stale_modules=(2, 12), judged=(judged("performance", 5), judged("performance", 9)), excepted_rollouts=1,
                      exceptions=(Excepted("fairness: a", days(5), 6, True, NOW + timedelta(days=1)), Excepted("fairness: b", days(5), 7, False, NOW)),
                      baseline=(FromBaseline("psi", "all", 0.2, days(9), 5), FromBaseline("psi", "sex", 0.1, days(1), 8),
                                FromBaseline("roc_auc_change", "all", -0.015, days(1), 8)))
    said = {one.number: one for one in of_history(history).measures}
    assert said["D6"].found == "39 of 40" and said["D6"].detail["lost"] == ["f" * 64] and said["D7"].found == "2 of 12 modules stale"
    assert said["D8"].found == "1 given for 2 candidates; now in force 1; full rollouts that rest on one, ever: 1 of 0"
    assert said["D10"].found == "PSI over sex 0.1 (40% of 0.25); ROC AUC change -0.015 (50% of 0.03)"
    assert said["D13"].found.startswith("90 entries under a signed head; the newest head kept outside is of 88") and said["D16"].found == "1 files overdue"
    assert said["D17"].detail == {"covered": 2, "rollouts": 3} and not any(one.missing for one in said.values() if one.number in ("D6", "D7", "D13"))


def test_a_rollout_whose_training_is_not_on_record_is_told() -> None:
    said = {one.number: one.found for one in of_history(replace(EMPTY, untraced=(12,))).measures}
    assert "the training of 1 full rollouts" in said["D3"] and "not on record" not in of_history(EMPTY).measures[2].found


def test_bytes_that_are_judged_again_after_their_rollout_were_not_trained_again(in_review: Path) -> None:
    river = open_river(in_review)
    for person in PEOPLE:
        decide(river, person)
    assert step(river, "approval")
    simulated_rollout(river, SYSTEM)
    (before,) = history_of(river, SYSTEM).deployed
    path = in_review / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("wait_seconds: ", "wait_seconds: 1"))
    changed = open_river(in_review)
    approve_definition(changed)
    run_to(changed, "candidate_model", run="later")
    trained = changed.archive.made_by(SYSTEM, "model_training")
    assert len(trained) == 2 and trained[0].body.output == trained[1].body.output, "the same bytes, judged under another definition"
    assert history_of(changed, SYSTEM).deployed == (before,) and before.trained < before.full


def test_nothing_yet_is_unknown_and_never_nothing_found() -> None:
    shown = of_history(EMPTY)
    assert [number for _, number, _ in shown.tiles] == ["unknown", "0", "unknown", "0"] and shown.gates == ()
    assert {one.number for one in shown.measures if one.missing} >= {"D9", "D15"}


def test_a_real_world_is_read_from_its_records(reviewed_world: Path, tmp_path: Path) -> None:
    root = copied(reviewed_world, tmp_path / "world")
    river = open_river(root)
    before = history_of(river, SYSTEM)
    assert len(before.judged) == len({(one.stage, one.gate, one.index) for one in before.judged}) and all(one.passed for one in before.judged)
    assert [one.why for one in before.blocked] == ["waiting"] and len(before.trained) == len(before.staged) == 1
    assert before.halted_before_fairness == 0 and list(before.holdouts.values()) == [1] and not before.unapproved_runs
    run_to(river, "candidate_model")  # asked again: answered from the records, and no rate moves
    again = history_of(river, SYSTEM)
    assert again.reused == before.reused + 3 and again.judged == before.judged
    decide(river, OWNER, "reject")
    assert not step(river, "approval", run=someone("later").run_id)
    after = dashboard(open_river(root), SYSTEM)
    assert [one.why for one in after.history.blocked] == ["rejected"] and after.history.decisions[0].hours is not None
    said = {one.number: one for one in after.measures}
    assert said["D6"].detail["lost"] == [] and said["D6"].found == f"{said['D6'].detail['named']} of {said['D6'].detail['named']}"
    assert said["D7"].found.endswith("of 12 modules stale") and said["D16"].found == "0 files overdue"
    assert said["D13"].detail["entries"] == river.archive.ledger.size and said["D17"].missing == "nothing was rolled out to everybody"
    assert {name for name, *_ in after.gates} >= {"1 contract", "4 fairness", "6 contract", "7 quorum"}
