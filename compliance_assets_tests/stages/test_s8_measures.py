"""What a rollout step showed, from made-up logs: healthy by default, one thing broken at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from compliance_assets.evidence.deployments import Slot
from compliance_assets.policy.gates import Finding, Verdict
from compliance_assets.policy.system import AbortRule
from compliance_assets.serving.inference_log import Decision
from compliance_assets.serving.router import Passed
from compliance_assets.serving.supervisor import Holding
from compliance_assets.stages.s8_measures import Observed, judged, within

GROUPS = {"sex": ("female", "male")}


def slot(name: Any, model: str) -> Slot:
    return Slot(name, "lender", model, "r", "s", f"approval of {model}", "d", "v", {}, 0)


OLD, NEW = slot("blue", "old"), slot("green", "new")


def request(i: int, **changed: Any) -> Passed:
    given: dict[str, Any] = {"time": "2026-11-25T07:00:00Z", "request_id": f"r{i}", "path": "/predict", "status": 200,
                             "chosen": "blue", "answered": "blue", "attempts": 1, "milliseconds": 5, "flags": "", **changed}
    return Passed(**given)


def decision(i: int, model: str, role: str, **changed: Any) -> Decision:
    given: dict[str, Any] = {"id": f"{model}-{i}", "time": "2026-11-25T07:00:00Z", "request_id": f"r{i}", "row": 0, "model": model,
                             "release": "r", "environment": "production", "server": "blue", "role": role, "input": f"in{i}",
                             "features": "f", "score": "0.6", "decision": "favourable" if i % 3 else "unfavourable",
                             "microseconds": 1000, "monitoring": {"sex": GROUPS["sex"][i % 2]}, **changed}
    return Decision(**given)


def shadow(n: int = 60, *, missing: int = 0, production: Slot | None = OLD, **changed: Any) -> Observed:
    return Observed("shadow", NEW, production, tuple(request(i) for i in range(n)), (
        *(decision(i, "old", "answering") for i in range(n) if production is not None),
        *(decision(i, "new", "shadow", **changed) for i in range(n - missing))))


def canary(n: int = 60, *, requests: Sequence[Passed] | None = None, decisions: Sequence[Decision] | None = None) -> Observed:
    """Every second request goes to the candidate."""
    asked = requests or tuple(request(i, chosen="green" if i % 4 < 2 else "blue", answered="green" if i % 4 < 2 else "blue")
                              for i in range(2 * n))
    decided = decisions or tuple(decision(i, "new" if i % 4 < 2 else "old", "answering") for i in range(2 * n))
    return Observed("canary", NEW, OLD, tuple(asked), tuple(decided))


def rule(metric: Any, limit: float, over: str | None = None) -> AbortRule:
    side = "below" if metric == "selection_rate_ratio" else "above"
    return AbortRule.model_validate({"metric": metric, side: limit, "over": over})


RULES = (rule("error_rate", 0.01), rule("unlogged_rate", 0), rule("latency_ratio_p95", 3), rule("decision_flip_rate", 0.1),
         rule("selection_rate_ratio", 0.8, "sex"))


def judge(observed: Observed, rules: Sequence[AbortRule] = RULES, *, wanted: int = 50, minimum: int = 20,
          alive: str = "") -> tuple[dict[str, Finding], tuple[str, ...]]:
    findings, missing = judged(observed, rules, wanted=wanted, minimum_group=minimum, groups=GROUPS, alive=alive)
    return {finding.id.partition(".")[2]: finding for finding in findings}, missing


def test_a_healthy_shadow_passes_and_what_it_cannot_show_is_not_applicable_with_a_reason() -> None:
    found, missing = judge(shadow())
    assert missing == ()
    assert all(found.values())
    assert found["unlogged_rate"].verdict is Verdict.NOT_APPLICABLE
    assert found["decision_flip_rate"].value == "0"


def test_a_healthy_canary_passes() -> None:
    found, missing = judge(canary())
    assert missing == ()
    assert {name for name, finding in found.items() if finding.verdict is not Verdict.PASS} == {"decision_flip_rate"}


def test_too_few_requests_hold_and_are_no_verdict() -> None:
    found, missing = judge(shadow(12))
    assert "it needs 50 requests, got 12" in missing
    assert found["requests"].verdict is Verdict.INSUFFICIENT_DATA


def test_no_request_at_all_holds() -> None:
    observed = Observed("canary", NEW, OLD, (), ())
    found, missing = judge(observed)
    assert missing
    asked = {name: finding for name, finding in found.items() if name not in ("server", "decision_flip_rate")}
    assert not any(finding.verdict is Verdict.PASS for finding in asked.values())


def test_a_shadow_that_does_not_answer_has_an_error_rate_although_nobody_noticed() -> None:
    found, missing = judge(shadow(missing=6))
    assert missing == ()
    assert found["error_rate"].verdict is Verdict.FAIL
    assert found["error_rate"].value == "0.1"


def test_a_dead_shadow_is_judged_before_all_requests_have_come() -> None:
    found, missing = judge(shadow(10, missing=10))
    assert missing == ()
    assert found["error_rate"].verdict is Verdict.FAIL


def test_a_server_that_refuses_to_load_fails_at_once() -> None:
    found, missing = judge(Observed("shadow", NEW, OLD, (), ()), alive="refused: no proof")
    assert missing == ()
    assert found["server"].verdict is Verdict.FAIL


def test_an_answer_that_another_version_stepped_in_for_is_the_candidates_error() -> None:
    asked = [request(i, chosen="green", answered="blue" if i < 5 else "green", attempts=2 if i < 5 else 1) for i in range(60)]
    found, _ = judge(canary(requests=asked, decisions=[decision(i, "new", "answering") for i in range(60)]))
    assert found["error_rate"].verdict is Verdict.FAIL


def test_a_callers_own_mistakes_are_not_the_candidates_errors() -> None:
    mistakes = [request(1000 + i, chosen="green", answered="green", status=422) for i in range(30)]
    healthy = canary()
    found, _ = judge(canary(requests=[*healthy.passed, *mistakes], decisions=healthy.decisions))
    assert found["error_rate"].value == "0"


def test_an_answer_that_is_not_in_the_log_is_one_too_many() -> None:
    healthy = canary()
    lacking = [d for d in healthy.decisions if d.request_id != "r0"]
    found, _ = judge(canary(decisions=lacking))
    assert found["unlogged_rate"].verdict is Verdict.FAIL


def test_a_slow_candidate_fails_and_too_few_to_compare_with_hold() -> None:
    found, _ = judge(shadow(microseconds=9000))
    assert found["latency_ratio_p95"].value == "9"
    assert found["latency_ratio_p95"].verdict is Verdict.FAIL
    few = canary(decisions=[d for d in canary().decisions if d.model == "new"])
    found, missing = judge(few)
    assert "20 answers of production, got 0" in " ".join(missing)
    assert not found["latency_ratio_p95"]


def test_changed_decisions_are_found_by_request_and_input() -> None:
    found, _ = judge(shadow(decision="unfavourable"))
    assert float(found["decision_flip_rate"].value or 0) == pytest.approx(40 / 60, abs=1e-5)
    other_inputs, missing = judge(shadow(input="another"))
    assert other_inputs["decision_flip_rate"].verdict is Verdict.INSUFFICIENT_DATA
    assert missing


def test_an_unfair_canary_fails_and_a_group_that_is_too_small_or_unknown_holds() -> None:
    healthy = canary()
    unfair = [decision(i, "new", "answering", decision="favourable" if i % 2 else "unfavourable") if d.model == "new" else d
              for i, d in enumerate(healthy.decisions)]
    found, _ = judge(canary(decisions=unfair))
    assert found["selection_rate_ratio.sex"].verdict is Verdict.FAIL
    found, missing = judge(healthy, minimum=1000)
    assert found["selection_rate_ratio.sex"].verdict is Verdict.INSUFFICIENT_DATA
    assert "needs 1000 decisions of each group" in " ".join(missing)
    silent = [decision(i, d.model, "answering", monitoring={}) for i, d in enumerate(healthy.decisions)]
    found, missing = judge(canary(decisions=silent))
    assert "60 of 60 decisions without a declared group" in " ".join(missing)


def test_a_first_rollout_compares_with_nobody_and_says_so() -> None:
    found, missing = judge(shadow(production=None))
    assert missing == ()
    assert found["latency_ratio_p95"].verdict is Verdict.NOT_APPLICABLE
    assert "no version answered" in found["decision_flip_rate"].note


def test_only_moments_within_the_spans_and_settled_count() -> None:
    spans = (Holding("2026-11-25T07:00:00Z", "2026-11-25T07:10:00Z"), Holding("2026-11-25T07:20:00Z", ""))
    latest = "2026-11-25T07:30:00Z"
    inside = ["2026-11-25T07:05:00Z", "2026-11-25T07:25:00Z"]
    outside = ["2026-11-25T06:59:00Z", "2026-11-25T07:15:00Z", "2026-11-25T07:31:00Z"]
    assert [within(spans, moment, latest) for moment in (*inside, *outside)] == [True, True, False, False, False]


@pytest.mark.parametrize("scores", [(0.1, 0.9), (80.0, 20.0)], ids=["probabilities", "numbers"])
def test_scores_of_live_requests_are_held_against_those_of_the_holdout(scores: tuple[float, float]) -> None:
    from dataclasses import replace

    low, high = scores
    rules = (rule("score_shift", 0.3),)
    tested = tuple(low + (high - low) * i / 200 for i in range(200))
    alike = replace(shadow(), tested=tested, decisions=tuple(
        decision(i, "new", "shadow", score=repr(low + (high - low) * i / 60)) for i in range(60)))
    found, missing = judge(alike, rules)
    assert found["score_shift"].verdict is Verdict.PASS and missing == () and float(found["score_shift"].value or 1) < 0.05
    assert found["score_shift"].n == 60 and "200 holdout rows" in found["score_shift"].method
    elsewhere = replace(alike, decisions=tuple(decision(i, "new", "shadow", score=repr(high)) for i in range(60)))
    assert judge(elsewhere, rules)[0]["score_shift"].verdict is Verdict.FAIL


def test_scores_cannot_be_compared_without_those_of_the_holdout_or_with_too_few() -> None:
    from dataclasses import replace

    rules = (rule("score_shift", 0.3),)
    found, _ = judge(shadow(), rules)
    assert found["score_shift"].verdict is Verdict.ERROR and "no scores of its holdout" in found["score_shift"].note
    found, missing = judge(replace(shadow(10), tested=(0.1, 0.2, 0.7)), rules, wanted=5)
    assert found["score_shift"].verdict is Verdict.INSUFFICIENT_DATA and "needs 20 of the candidate, got 10" in missing[0]
