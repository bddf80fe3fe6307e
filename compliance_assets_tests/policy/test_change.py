"""Every way in which a definition can be made weaker is seen, named, and sent to the people who must look at it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance_assets.policy.change import Change, changes, class_of, direction_of, review_of
from compliance_assets.policy.change_judges import GONE
from compliance_assets.policy.change_rules import ChangeClass, rule_for
from compliance_assets.policy.definition import load_definition
from compliance_assets_tests.small_lender import write_small_lender

Edit = Callable[[dict[str, Any]], None]
GOVERNANCE, SECOND = "AI Governance Lead", "a second role beside the AI Governance Lead"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The small lender's definition, as its digest covers it."""
    found = load_definition(write_small_lender(tmp_path_factory.mktemp("change"))).parts()
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def put(path: str, value: Any) -> Edit:
    """Set, below the declaration, what stands at a dotted path."""
    def edit(parts: dict[str, Any]) -> None:
        *above, last = (int(step) if step.isdigit() else step for step in path.split("."))
        body: Any = parts["declaration"]
        for step in above:
            body = body[step]
        body[last] = value
    return edit


def drop(path: str) -> Edit:
    def edit(parts: dict[str, Any]) -> None:
        *above, last = (int(step) if step.isdigit() else step for step in path.split("."))
        body: Any = parts["declaration"]
        for step in above:
            body = body[step]
        del body[last]
    return edit


def add(path: str, item: Any) -> Edit:
    def edit(parts: dict[str, Any]) -> None:
        body: Any = parts["declaration"]
        for step in path.split("."):
            body = body[int(step) if step.isdigit() else step]
        body.append(item)
    return edit


def gate(stage: str, name: str, **changed: Any) -> Edit:
    """Change a gate of the river, or take it away."""
    def edit(parts: dict[str, Any]) -> None:
        rule = next(rule for rule in parts["river"] if rule["name"] == stage)
        if changed:
            next(g for g in rule["gates"] if g["name"] == name).update(changed)
        else:
            rule["gates"] = [g for g in rule["gates"] if g["name"] != name]
    return edit


def stage(name: str, **changed: Any) -> Edit:
    def edit(parts: dict[str, Any]) -> None:
        next(rule for rule in parts["river"] if rule["name"] == name).update(changed)
    return edit


def without_stage(name: str) -> Edit:
    def edit(parts: dict[str, Any]) -> None:
        parts["river"] = [rule for rule in parts["river"] if rule["name"] != name]
    return edit


def swapped_stages(parts: dict[str, Any]) -> None:
    river = parts["river"]
    river[3], river[4] = river[4], river[3]


def swapped_gates(parts: dict[str, Any]) -> None:
    gates = parts["river"][3]["gates"]
    gates[0], gates[1] = gates[1], gates[0]


def code(name: str, digest: str | None = "ab" * 32) -> Edit:
    def edit(parts: dict[str, Any]) -> None:
        if digest is None:
            del parts["code"][name]
        else:
            parts["code"][name] = digest
    return edit


FEATURE = {"name": "age_of_account", "dtype": "int64", "unit": "months", "from": ["age_of_account"], "nulls": "refuse",
           "range": ["0.0", "600.0"], "categories": None, "proxy": None, "description": ""}
BOUND = {"metric": "accuracy", "at_least": "0.7", "at_most": None, "between": None, "judged_on": "lower", "because": "a test needs one",
         "over": []}

ROWS: list[tuple[str, Edit, str, str, str, str]] = [
    # (what is done, the edit, where, direction, class, somebody who must look)
    # --- gates and order
    ("a gate is added", lambda p: p["river"][0]["gates"].append({"name": "consent", "version": 1, "asks": "?", "articles": []}),
     "stages.data_preparation.gates.consent", "strengthens", "ROUTINE", "Technical SME"),
    ("a gate is removed", gate("data_preparation", "leakage"), "stages.data_preparation.gates.leakage", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("the fairness gate is removed", gate("model_evaluation", "fairness"), "stages.model_evaluation.gates.fairness", "weakens", "SIGNIFICANT",
     SECOND),
    ("a gate no longer blocks", gate("model_evaluation", "robustness", blocking=False), "stages.model_evaluation.gates.robustness.blocking",
     "weakens", "SIGNIFICANT", GOVERNANCE),
    ("the fairness gate no longer blocks", gate("model_evaluation", "fairness", blocking=False),
     "stages.model_evaluation.gates.fairness.blocking", "weakens", "SIGNIFICANT", SECOND),
    ("a failed gate only warns", gate("data_preparation", "contract", severity="WARN"), "stages.data_preparation.gates.contract.severity",
     "weakens", "SIGNIFICANT", GOVERNANCE),
    ("a gate is judged in another way", gate("data_preparation", "contract", version=2), "stages.data_preparation.gates.contract.version",
     "structural", "SIGNIFICANT", GOVERNANCE),
    ("a gate asks in other words", gate("data_preparation", "contract", asks="Does it?"), "stages.data_preparation.gates.contract.asks",
     "neutral", "ROUTINE", "code owner"),
    ("gates are reordered", swapped_gates, "stages.model_evaluation.gate_order", "structural", "SIGNIFICANT", GOVERNANCE),
    ("the first failure no longer halts", stage("model_evaluation", ordered_gates=False), "stages.model_evaluation.ordered_gates", "weakens",
     "SIGNIFICANT", GOVERNANCE),
    ("stages are reordered", swapped_stages, "order", "structural", "SIGNIFICANT", GOVERNANCE),
    ("a stage is removed", without_stage("integration_testing"), "stages.integration_testing", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("an edge is removed: another way to the registry", stage("model_registration", needs=["candidate_model"]),
     "stages.model_registration.needs.evaluation_report", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("a stage no longer reports", stage("model_evaluation", reports=False), "stages.model_evaluation.reports", "weakens", "SIGNIFICANT", GOVERNANCE),
    # --- bounds
    ("a lowest value is lowered", put("evaluation.performance.0.at_least", "0.7"), "evaluation.performance.bounds.roc_auc.accepts", "weakens",
     "SIGNIFICANT", GOVERNANCE),
    ("a lowest value is raised", put("evaluation.performance.0.at_least", "0.8"), "evaluation.performance.bounds.roc_auc.accepts",
     "strengthens", "ROUTINE", "Technical SME"),
    ("a highest value is raised", put("evaluation.performance.1.at_most", "0.25"), "evaluation.performance.bounds.brier_score.accepts",
     "weakens", "SIGNIFICANT", GOVERNANCE),
    ("a highest value is lowered", put("evaluation.performance.1.at_most", "0.1"), "evaluation.performance.bounds.brier_score.accepts",
     "strengthens", "ROUTINE", "Technical SME"),
    ("an interval is widened", put("evaluation.calibration.1.between", ["-0.06", "0.1"]),
     "evaluation.calibration.bounds.calibration_in_the_large.accepts", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("an interval is moved", put("evaluation.calibration.1.between", ["-0.02", "0.1"]),
     "evaluation.calibration.bounds.calibration_in_the_large.accepts", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("an interval is narrowed", put("evaluation.calibration.1.between", ["-0.05", "0.05"]),
     "evaluation.calibration.bounds.calibration_in_the_large.accepts", "strengthens", "ROUTINE", "Technical SME"),
    ("a fairness bound is loosened", put("evaluation.fairness.bounds.0.at_least", "0.7"),
     "evaluation.fairness.bounds[selection_rate_ratio over sex].accepts", "weakens", "SIGNIFICANT", SECOND),
    ("a bound is removed", drop("evaluation.performance.1"), "evaluation.performance.bounds.brier_score", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("a fairness bound is removed", drop("evaluation.fairness.bounds.1"),
     "evaluation.fairness.bounds[equal_opportunity_difference over sex]", "weakens", "SIGNIFICANT", SECOND),
    ("a bound is added", add("evaluation.performance", BOUND), "evaluation.performance.bounds.accuracy", "strengthens", "ROUTINE", "code owner"),
    ("a bound no longer covers an attribute", put("evaluation.fairness.bounds.0.over", ["sex", "age_band"]),
     "evaluation.fairness.bounds[selection_rate_ratio over sex*age_band]", "weakens", "SIGNIFICANT", SECOND),
    ("the point instead of the interval's end", put("evaluation.performance.0.judged_on", "point"),
     "evaluation.performance.bounds.roc_auc.judged_on", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("the interval's end instead of the point", put("evaluation.calibration.0.judged_on", "upper"),
     "evaluation.calibration.bounds.expected_calibration_error.judged_on", "strengthens", "ROUTINE", "Technical SME"),
    ("a bound's reason is reworded", put("evaluation.performance.0.because", "said otherwise now"),
     "evaluation.performance.bounds.roc_auc.because", "neutral", "ROUTINE", "code owner"),
    ("undecided becomes an exception", put("evaluation.undecided", "exception"), "evaluation.undecided", "weakens", "SIGNIFICANT", SECOND),
    ("another primary criterion", put("evaluation.fairness.primary", "equal_opportunity_difference"), "evaluation.fairness.primary",
     "structural", "SIGNIFICANT", SECOND),
    ("a disturbance gets smaller", put("evaluation.robustness.0.level", "0.01"),
     "evaluation.robustness.bounds.numeric_noise_decision_flip_rate.level", "weakens", "SIGNIFICANT", "AI System Assessor"),
    ("a disturbance gets larger", put("evaluation.robustness.0.level", "0.1"),
     "evaluation.robustness.bounds.numeric_noise_decision_flip_rate.level", "strengthens", "ROUTINE", "Technical SME"),
    ("the baseline is no longer compared", put("evaluation.drift.against", ["production"]), "evaluation.drift.against.baseline", "weakens",
     "SIGNIFICANT", GOVERNANCE),
    ("a drift bound is loosened", put("evaluation.drift.bounds.0.at_most", "0.5"), "evaluation.drift.bounds.psi.accepts", "weakens",
     "SIGNIFICANT", GOVERNANCE),
    ("another decision threshold", put("evaluation.decision_threshold", "0.6"), "evaluation.decision_threshold", "structural", "SIGNIFICANT", SECOND),
    # --- groups
    ("the minimum group is raised", put("evaluation.fairness.minimum_group.rows", 500), "evaluation.fairness.minimum_group.rows", "weakens",
     "SIGNIFICANT", GOVERNANCE),
    ("the minimum group is lowered", put("evaluation.fairness.minimum_group.rows", 20), "evaluation.fairness.minimum_group.rows", "strengthens",
     "ROUTINE", "Technical SME"),
    ("the data may hold smaller groups", put("data.minimum_cell.rows", 10), "data.minimum_cell.rows", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("groups are merged", put("data.protected.sex.groups", ["anybody", "male"]), "data.protected.sex.groups", "weakens", "SIGNIFICANT", SECOND),
    ("a group is left out", put("data.protected.sex.groups", ["female"]), "data.protected.sex.groups", "weakens", "SIGNIFICANT", SECOND),
    ("a group is added", put("data.protected.sex.groups", ["female", "male", "other"]), "data.protected.sex.groups", "strengthens", "ROUTINE",
     "code owner"),
    ("bands are cut elsewhere", put("data.protected.age_band.cuts", ["50.0"]), "data.protected.age_band.cuts", "weakens", "SIGNIFICANT", SECOND),
    ("bands are cut finer", put("data.protected.age_band.cuts", ["25.0", "45.0"]), "data.protected.age_band.cuts", "strengthens", "ROUTINE",
     "code owner"),
    ("an attribute is coded from another column", put("data.protected.age_band.from", "years"), "data.protected.age_band.from", "weakens",
     "SIGNIFICANT", SECOND),
    ("a protected attribute is removed", drop("data.protected.age_band"), "data.protected.age_band", "weakens", "SIGNIFICANT", SECOND),
    ("a protected attribute is added", put("data.protected.region", {"groups": ["north", "south"], "column": None}), "data.protected.region",
     "strengthens", "ROUTINE", "code owner"),
    ("an intersection is removed", put("data.intersections", []), "data.intersections[sex*age_band]", "weakens", "SIGNIFICANT", SECOND),
    ("a protected attribute becomes a feature", put("data.used_as_features", [{"attribute": "sex", "because": "it predicts so well"}]),
     "data.used_as_features.sex", "weakens", "SUBSTANTIAL", SECOND),
    ("a tolerance is widened", put("data.reference_population.tolerance", "0.2"), "data.reference_population.tolerance", "weakens",
     "SIGNIFICANT", GOVERNANCE),
    ("another target population", put("data.reference_population.shares.sex.female", "0.4"), "data.reference_population.shares.sex.female",
     "structural", "SUBSTANTIAL", "Legal & Regulatory Advisor"),
    # --- data
    ("the source is another", put("data.source.rows", 4000), "data.source.rows", "structural", "SIGNIFICANT", GOVERNANCE),
    ("the holdout is another", put("data.split.seed", 12), "data.split.seed", "structural", "SIGNIFICANT", GOVERNANCE),
    ("the holdout is smaller", put("data.split.holdout", "0.1"), "data.split.holdout", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("the golden cases are others", code("systems/small_lender/golden.json"), "code.[systems/small_lender/golden.json]", "structural",
     "SIGNIFICANT", GOVERNANCE),
    ("the data contract is another", code("systems/small_lender/expectations.json"), "code.[systems/small_lender/expectations.json]", "structural",
     "SIGNIFICANT", GOVERNANCE),
    ("the accepted prevalence is widened", put("data.target.prevalence", ["0.1", "0.9"]), "data.target.prevalence", "weakens", "SIGNIFICANT",
     GOVERNANCE),
    ("the accepted prevalence is not declared any more", put("data.target.prevalence", None), "data.target.prevalence", "weakens", "SIGNIFICANT",
     GOVERNANCE),
    ("another target", put("data.target.column", "defaulted"), "data.target.column", "structural", "SUBSTANTIAL", "Legal & Regulatory Advisor"),
    ("another legal basis", put("data.provenance.legal_basis", "consent"), "data.provenance.legal_basis", "structural", "SIGNIFICANT", "DPO"),
    # --- features and training
    ("a feature is added", add("features.registry", FEATURE), "features.registry.age_of_account", "structural", "SUBSTANTIAL", GOVERNANCE),
    ("a feature is removed", drop("features.registry.2"), "features.registry.late_payments", "structural", "SUBSTANTIAL", GOVERNANCE),
    ("features change places", lambda p: p["declaration"]["features"]["registry"].reverse(), "features.order", "structural", "SIGNIFICANT",
     "Technical SME"),
    ("a feature's range is widened", put("features.registry.0.range", ["0.0", "9.0"]), "features.registry.debt_to_income.range", "weakens",
     "SIGNIFICANT", GOVERNANCE),
    ("a missing value is allowed", put("features.registry.0.nulls", "allow"), "features.registry.debt_to_income.nulls", "weakens",
     "SIGNIFICANT", GOVERNANCE),
    ("a stand-in is let through", put("features.registry.0.proxy", {"reviewed": True, "note": "it is fine"}),
     "features.registry.debt_to_income.proxy", "weakens", "SIGNIFICANT", SECOND),
    ("stand-ins are looked at less", put("features.proxy_review_above", "0.9"), "features.proxy_review_above", "weakens", "SIGNIFICANT", SECOND),
    ("the architecture is another", put("training.estimator", "sklearn.linear_model.LogisticRegression"), "training.estimator", "structural",
     "SUBSTANTIAL", "Legal & Regulatory Advisor"),
    ("a hyperparameter is another", put("training.hyperparameters.max_iter", 80), "training.hyperparameters.max_iter", "structural",
     "SIGNIFICANT", GOVERNANCE),
    ("the seed is another", put("training.seed", 12), "training.seed", "weakens", "SIGNIFICANT", "AI System Assessor"),
    ("a mitigation is added", put("training.mitigation", {"kind": "reweighing", "over": "sex", "because": "an unfair past"}),
     "training.mitigation", "strengthens", "SIGNIFICANT", SECOND),
    # --- integration, approval, rollout, retention
    ("answers may take longer", put("integration.latency_p95_ms", "5000.0"), "integration.latency_p95_ms", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("parity on fewer rows", put("integration.parity_rows", 10), "integration.parity_rows", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("fewer approvers", drop("approval.requires.1"), "approval.requires.governance_lead", "weakens", "SIGNIFICANT", "Legal & Regulatory Advisor"),
    ("the approver's role is widened", put("approval.requires.1.role", "anybody"), "approval.requires.governance_lead", "weakens",
     "SIGNIFICANT", "Legal & Regulatory Advisor"),
    ("more approvers", put("approval.requires.0.people", 2), "approval.requires.technical_owner", "strengthens", "ROUTINE", "code owner"),
    ("longer validity", put("approval.valid_for", "7d"), "approval.valid_for", "weakens", "SIGNIFICANT", "Legal & Regulatory Advisor"),
    ("shorter validity, in another unit", put("approval.valid_for", "1d"), "approval.valid_for", "strengthens", "ROUTINE", "code owner"),
    ("a separation is dropped", put("approval.separation", ["not_launcher", "distinct_people"]), "approval.separation.not_author", "weakens",
     "SIGNIFICANT", "Legal & Regulatory Advisor"),
    ("shorter retention", put("retention.documentation_years", 9), "retention.documentation_years", "weakens", "SIGNIFICANT", "DPO"),
    ("longer retention", put("retention.operation_logs_months", 24), "retention.operation_logs_months", "strengthens", "ROUTINE", "code owner"),
    ("a wider canary", put("deployment.steps.1.canary.share", "0.9"), "deployment.steps[canary 1].share", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("a shorter canary", put("deployment.steps.1.canary.requests", 5), "deployment.steps[canary 1].requests", "weakens", "SIGNIFICANT",
     "Technical SME"),
    ("no canary", drop("deployment.steps.1"), "deployment.steps[canary 1]", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("an abort rule is removed", drop("deployment.abort_when.1"), "deployment.abort_when.unlogged_rate", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("an abort rule is loosened", put("deployment.abort_when.0.above", "0.5"), "deployment.abort_when.error_rate.tolerates", "weakens",
     "SIGNIFICANT", GOVERNANCE),
    ("an abort rule on fairness is loosened", put("deployment.abort_when.3.below", "0.1"),
     "deployment.abort_when[selection_rate_ratio over sex].tolerates", "weakens", "SIGNIFICANT", GOVERNANCE),
    ("another environment", put("deployment.environment", "abroad"), "deployment.environment", "structural", "SUBSTANTIAL",
     "Legal & Regulatory Advisor"),
    ("drift no longer starts a run", put("retraining.on_drift", None), "retraining.on_drift", "weakens", "SIGNIFICANT", "Technical SME"),
    # --- what the system is
    ("another purpose", put("intended_purpose", "Decide about loans without an officer."), "intended_purpose", "structural", "SUBSTANTIAL",
     "Legal & Regulatory Advisor"),
    ("another place in Annex III", put("risk.annex_iii", "none"), "risk.annex_iii", "structural", "SUBSTANTIAL", "Legal & Regulatory Advisor"),
    ("another title", put("title", "Loans"), "title", "neutral", "ROUTINE", "code owner"),
    ("evidence is kept elsewhere", put("residency", "us"), "residency", "structural", "SIGNIFICANT", "DPO"),
    # --- code
    ("a metric is computed otherwise", code("compliance_assets/metrics/fairness.py"), "code.[compliance_assets/metrics/fairness.py]", "structural",
     "SIGNIFICANT", "Technical SME"),
    ("a gate's code is another", code("compliance_assets/stages/s4_gates.py"), "code.[compliance_assets/stages/s4_gates.py]", "structural",
     "SIGNIFICANT", GOVERNANCE),
    ("the system's own code is another", code("systems/small_lender/features.py"), "code.[systems/small_lender/features.py]", "structural",
     "SIGNIFICANT", GOVERNANCE),
    ("code that judged is gone", code("compliance_assets/stages/s1_gates.py", None), "code.[compliance_assets/stages/s1_gates.py]", "structural",
     "SIGNIFICANT", GOVERNANCE),
    ("something that nobody knows yet", lambda p: p["declaration"].update(bypass=True), "bypass", "structural", "SIGNIFICANT", GOVERNANCE),
]


def changed(parts: dict[str, Any], edit: Edit) -> tuple[Change, ...]:
    after = copy.deepcopy(parts)
    edit(after)
    return changes(parts, after)


@pytest.mark.parametrize(("edit", "where", "direction", "class_", "somebody"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_row_of_change_control(parts: dict[str, Any], edit: Edit, where: str, direction: str, class_: str, somebody: str) -> None:
    found = {change.where: change for change in changed(parts, edit)}
    assert where.replace(".[", "[") in found, sorted(found)
    change = found[where.replace(".[", "[")]
    assert (change.direction, change.class_.value) == (direction, class_)
    assert somebody in change.review and change.law.startswith(("Art. ", "Annex "))
    assert change.before != change.after
    assert direction_of(found.values()) == direction or direction in ("strengthens", "structural", "neutral")


def test_the_same_definition_is_no_change(parts: dict[str, Any]) -> None:
    assert changes(parts, copy.deepcopy(parts)) == ()
    assert class_of(()) is ChangeClass.ROUTINE and direction_of(()) == "neutral" and review_of(()) == ()


def test_a_loosened_bound_beside_a_tightened_one_weakens(parts: dict[str, Any]) -> None:
    found = changed(parts, lambda p: (put("evaluation.performance.0.at_least", "0.9")(p), put("retention.documentation_years", 5)(p))[0])
    assert direction_of(found) == "weakens" and found[0].where == "retention.documentation_years"
    assert "DPO" in review_of(found) and "code owner" in review_of(found)


def test_lists_that_are_only_written_in_another_order_do_not_weaken(parts: dict[str, Any]) -> None:
    def shuffle(p: dict[str, Any]) -> None:
        p["declaration"]["evaluation"]["performance"].reverse()
        p["declaration"]["evaluation"]["fairness"]["bounds"][0]["over"].reverse()
        p["declaration"]["deployment"]["abort_when"].reverse()
        p["declaration"]["approval"]["requires"].reverse()
        p["declaration"]["data"]["protected"]["sex"]["groups"].reverse()
    found = changed(parts, shuffle)
    assert direction_of(found) in ("neutral", "structural"), found
    assert not any(change.direction == "weakens" for change in found)


def test_bounds_on_gaps_and_shift_are_known_by_their_columns(parts: dict[str, Any]) -> None:
    bound = {"metric": "completeness", "at_least": "0.99", "at_most": None, "between": None, "judged_on": "point", "because": "hardly a gap",
             "over": ["sex"], "columns": ["age", "monthly_income"]}
    shift = {"metric": "psi", "at_least": None, "at_most": "0.25", "between": None, "judged_on": "point", "because": "another population",
             "over": [], "columns": ["age"], "against": "production"}
    before = copy.deepcopy(parts)
    before["declaration"]["data"].update(completeness=[bound], shift=[shift])
    for edit, where in ((put("data.completeness.0.at_least", "0.5"), "data.completeness[completeness of age over sex].accepts"),
                        (put("data.completeness.0.columns", ["monthly_income"]), "data.completeness[completeness of age over sex]"),
                        (put("data.shift.0.at_most", "0.9"), "data.shift[psi of age against production].accepts"),
                        (put("data.shift", []), "data.shift[psi of age against production]")):
        after = copy.deepcopy(before)
        edit(after)
        found = {change.where: change for change in changes(before, after)}
        assert found[where].direction == "weakens" and GOVERNANCE in found[where].review, found


def test_numbers_are_compared_as_numbers_not_as_text(parts: dict[str, Any]) -> None:
    found = changed(parts, put("evaluation.performance.1.at_most", "0.1e0"))
    assert [change.direction for change in found] == ["strengthens"]
    found = changed(parts, put("integration.latency_p95_ms", "999.9999999999999999"))
    assert [change.direction for change in found] == ["strengthens"]


def test_a_second_bound_on_the_same_metric_hides_no_loosening(parts: dict[str, Any]) -> None:
    two = copy.deepcopy(parts)
    two["declaration"]["evaluation"]["robustness"].append({**two["declaration"]["evaluation"]["robustness"][0], "level": "0.1", "at_most": "0.2"})
    looser = copy.deepcopy(two)
    looser["declaration"]["evaluation"]["robustness"][0]["at_most"] = "0.5"
    assert direction_of(changes(two, looser)) == "weakens"
    assert direction_of(changes(two, parts)) == "weakens", "taking one of the two away weakens"


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for key, item in enumerate(value) for leaf in _leaves(item, (*path, key))] or [path]
    return [path]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_edit_of_any_value_goes_unsaid(parts: dict[str, Any], data: st.DataObject) -> None:
    leaf = data.draw(st.sampled_from(_leaves(parts)))
    value = data.draw(st.one_of(st.none(), st.booleans(), st.integers(0, 10**6), st.text("abc.0123456789", max_size=9),
                                st.lists(st.text("ab", max_size=2), max_size=2)))
    after = copy.deepcopy(parts)
    body: Any = after
    for step in leaf[:-1]:
        body = body[step]
    if body[leaf[-1]] == value and type(body[leaf[-1]]) is type(value):
        return
    body[leaf[-1]] = value
    try:
        found = changes(parts, after)
    except (KeyError, TypeError, ValueError, AttributeError):
        return  # not a definition any more: nothing was said to be harmless
    assert found
    assert all(change.review and change.law for change in found)


def test_a_declaration_edited_in_its_file_says_the_same_as_its_parts(tmp_path: Path) -> None:
    before = load_definition(write_small_lender(tmp_path / "a")).parts()
    after = load_definition(write_small_lender(tmp_path / "b", **{"evaluation.fairness.bounds.0.at_least": 0.6})).parts()
    found = changes(before, after)
    assert {change.direction for change in found} == {"weakens"} and len(found) == 3
    assert found[0].before == ">= 0.75" and found[0].after == ">= 0.6"


def test_every_part_of_what_may_be_excepted_weakens_when_it_grows() -> None:
    place = ("declaration", "approval", "exceptions")
    assert rule_for(place).judge(GONE, {}) == "weakens" and rule_for((*place, "covers", "FAIL")).judge(GONE, True) == "weakens"
    assert rule_for((*place, "longest")).judge("7d", "14d") == "weakens"
    assert rule_for((*place, "approved_by", "governance_lead")).judge(2, 1) == "weakens"


def test_watching_less_how_often_people_decide_otherwise_weakens() -> None:
    place = ("declaration", "deployment", "overrides")
    assert rule_for(place).judge({"decisions": 500}, GONE) == "weakens"
    assert rule_for((*place, "between")).judge(["0", "0.2"], ["0", "0.3"]) == "weakens"
    assert rule_for((*place, "between")).judge(["0.01", "0.2"], ["0", "0.2"]) == "weakens"
    assert rule_for((*place, "between")).judge(["0", "0.2"], ["0.01", "0.2"]) == "strengthens"
    assert rule_for((*place, "decisions")).judge(500, 5000) == "weakens"
