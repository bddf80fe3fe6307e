"""What a system promises must make sense: metrics that exist, bounds that point the right way, attributes that are declared."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance_assets.errors import DeclarationError
from compliance_assets.metrics.catalogue import METRICS
from compliance_assets.policy.definition import load_definition
from compliance_assets.policy.reading import read_declared
from compliance_assets.policy.system import Bands, Bound, System
from compliance_assets_tests.policy.declaring import broken, line_of, problems_in, says
from compliance_assets_tests.small_lender import SYSTEM, write_small_lender

ROC = "{metric: roc_auc, at_least: 0.75, judged_on: lower, because: below this the officer does better alone}"
BRIER = "{metric: brier_score, at_most: 0.2, judged_on: upper, because: saying the average would score about as much}"


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        (ROC, ROC.replace("roc_auc", "roc_acu"), "evaluation.performance[0].metric", ("unknown metric 'roc_acu'", "roc_auc")),
        (
            ROC,
            ROC.replace("at_least: 0.75, ", ""),
            "evaluation.performance[0]",
            (
                "exactly one of at_least, at_most, between",
                "No bound is filled in for you; convention: No source gives a general limit",
                "Bamber 1975",
            ),
        ),
        (
            ROC,
            ROC.replace("at_least: 0.75", "at_least: 0.75, at_most: 0.9"),
            "evaluation.performance[0].at_most",
            ("exactly one of",),
        ),
        (ROC, ROC.replace("at_least", "at_most"), "evaluation.performance[0].at_most", ("better when higher", "at_least")),
        (ROC, ROC.replace("at_least: 0.75", "between: [0.7, 0.9]"), "evaluation.performance[0].between", ("better when higher",)),
        (BRIER, BRIER.replace("at_most", "at_least"), "evaluation.performance[1].at_least", ("better when lower", "at_most")),
        (ROC, ROC.replace("lower", "upper"), "evaluation.performance[0].judged_on", ("the favourable end",)),
        (BRIER, BRIER.replace("upper", "lower"), "evaluation.performance[1].judged_on", ("the favourable end",)),
        (
            "between: [-0.06, 0.06], judged_on: point",
            "between: [-0.06, 0.06], judged_on: lower",
            "evaluation.calibration[1].judged_on",
            ("one end of two",),
        ),
        ("between: [-0.06, 0.06]", "between: [0.06, -0.06]", "evaluation.calibration[1].between", ("[0.06, -0.06] is empty",)),
        (ROC, ROC.replace("roc_auc", "selection_rate_ratio"), "evaluation.performance[0].metric", ("is a fairness metric",)),
        ("  undecided: refuse", "  undecided: refuse\n  fairness: {}", "evaluation.fairness (again)", ("a second time",)),
        ("    primary: selection_rate_ratio", "    primary: roc_auc_difference", "evaluation.fairness.primary", ("has no bound",)),
        ("over: [sex, age_band, sex*age_band], ", "", "evaluation.fairness.bounds[0].over", ("over which attributes",)),
        (
            "over: [sex, age_band, sex*age_band]",
            "over: [sex, race]",
            "evaluation.fairness.bounds[0].over[1]",
            ("race is not declared under data.protected", "age_band, sex"),
        ),
        ("  intersections: [sex*age_band]", "  intersections: [sex*race]", "data.intersections[0]", ("race is not declared",)),
        (
            "      age_band: {below_45: 0.5, from_45: 0.5}",
            "      race: {a: 1}",
            "data.reference_population.shares.race",
            ("race is not declared",),
        ),
        (
            "sex: {female: 0.5, male: 0.5}",
            "sex: {women: 0.5, male: 0.5}",
            "data.reference_population.shares.sex.women",
            ("is not a group of sex", "female, male"),
        ),
        (
            "sex: {female: 0.5, male: 0.5}",
            "sex: {female: 0.5, male: 0.4}",
            "data.reference_population.shares.sex",
            ("add up to 0.9",),
        ),
        ("below: 0.4, over: sex", "below: 0.4, over: race", "deployment.abort_when[3].over", ("race is not declared",)),
        ("range: [0, 2]", "range: [2, 0]", "features.registry[0].range", ("[2, 0] is empty",)),
        ("range: [0, 2], ", "", "features.registry[0].range", ("needs its documented range",)),
        ("categories: [permanent, temporary, none], ", "", "features.registry[3].categories", ("list its categories",)),
        (
            "categories: [permanent, temporary, none]",
            "categories: [permanent, permanent]",
            "features.registry[3].categories",
            ("twice",),
        ),
        ("range: [0, 12]", "range: [0, 12], categories: [a]", "features.registry[2].categories", ("it has no categories",)),
        ("name: monthly_income, dtype", "name: late_payments, dtype", "features.registry", ("registered twice: late_payments",)),
        ("from: [late_payments]", "from: [late_payments, repaid]", "features.registry[2].from", ("computed from the target",)),
        ("target: {column: repaid", "target: {column: application_id", "data.target.column", ("the key cannot be the target",)),
        ("train: 0.6, validation: 0.2", "train: 0.7, validation: 0.2", "data.split", ("is 1.1, not 1",)),
        ("train: 0.6, validation: 0.2", "train: 0.8, validation: 0", "data.split", ("no part may be empty",)),
        (
            "perturbation: numeric_noise",
            "perturbation: relative_shift",
            "evaluation.robustness[0].perturbation",
            ("does not measure relative_shift",),
        ),
        ("    - shadow: {requests: 60}\n", "", "deployment.steps", ("shadow, canary",)),
        (
            "metric: error_rate, above: 0.01",
            "metric: error_rate, below: 0.01",
            "deployment.abort_when[0].below",
            ("wrong direction",),
        ),
        ("metric: error_rate, above: 0.01", "metric: error_rate", "deployment.abort_when[0]", ("exactly one of above, below",)),
        ("below: 0.4, over: sex", "below: 0.4", "deployment.abort_when[3]", ("needs over",)),
        (
            "metric: error_rate, above: 0.01",
            "metric: error_rate, above: 0.01, over: sex",
            "deployment.abort_when[0].over",
            ("does not take over",),
        ),
        ("max_iter: 40,", 'max_iter: "40",', "training.hyperparameters.max_iter", ("looks like a number", "without quotes")),
    ],
)
def test_a_promise_that_makes_no_sense_is_refused_at_its_line(tmp_path, old, new, key, words):
    problems = broken(tmp_path, old, new)
    # A list that lost an entry is told at the list's own line.
    line = (
        line_of("  steps:") if key == "deployment.steps" else line_of("  registry:") if key == "features.registry" else line_of(old)
    )
    line += new.count("\n") if "(again)" in key else 0
    assert len(problems) == 1, problems
    assert says(problems[0], line, key, *words), problems[0]


def test_all_unknown_attributes_are_told_at_once(tmp_path):
    text = SYSTEM.replace("sex: {groups: [female, male]}", "gender: {groups: [female, male]}")
    problems = problems_in(tmp_path / "system.yaml", text)
    assert len(problems) == 6
    assert all("sex is not declared under data.protected" in problem for problem in problems)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_an_undeclared_bound_names_the_convention_and_its_source_for_every_metric(name):
    with pytest.raises(ValueError, match="exactly one of at_least, at_most, between") as error:
        Bound.model_validate({"metric": name, "judged_on": "point", "because": "a reason long enough"})
    assert METRICS[name].convention.removesuffix(".") in str(error.value)
    assert METRICS[name].source in str(error.value)


def test_no_field_that_bounds_a_verdict_has_a_default():
    for model in (Bound, System):
        required = {name for name, field in model.model_fields.items() if field.is_required()}
        assert {"metric", "judged_on", "because"} <= required or model is System
    assert all(field.is_required() for field in System.model_fields.values())


@given(st.floats(-1e6, 1e6))
def test_a_bound_is_written_as_it_is_meant(value):
    bound = Bound(metric="roc_auc", at_least=value, judged_on="point", because="a reason long enough")
    assert float(bound.text) == value
    assert bound.holds_for(value)


def test_bands_of_large_numbers_keep_their_names_apart():
    assert Bands.model_validate({"from": "income", "cuts": [1234567, 1234568]}).groups == (
        "below_1234567",
        "1234567_to_below_1234568",
        "from_1234568",
    )


def test_the_declaration_is_canonical_json_without_floats(tmp_path):
    from compliance_assets.trust.canonical import canonical_json

    (tmp_path / "system.yaml").write_text(SYSTEM)
    declared = read_declared(tmp_path / "system.yaml", System).declaration()
    assert canonical_json(declared)
    assert declared["evaluation"]["decision_threshold"] == "0.5"
    assert declared["features"]["registry"][0]["from"] == ["monthly_debt", "monthly_income"]


@pytest.mark.parametrize(("changed", "said"), [
    ({"approved_by": [{"role": "governance_lead", "people": 1}, {"role": "governance_lead", "people": 1}]}, "one role is not four eyes"),
    ({"longest": "31d"}, "is not within 30 days"),
    ({"covers": ["ERROR"]}, "ERROR"),
    ({"covers": ["INCONCLUSIVE"]}, "an undecided verdict is refused"),
])
def test_an_exception_that_is_too_easy_is_no_declaration(changed: dict[str, object], said: str, tmp_path: Path) -> None:
    allowed = {"covers": ["FAIL"], "longest": "14d", "approved_by": [{"role": "technical_owner", "people": 1},
                                                                      {"role": "governance_lead", "people": 1}]}
    folder = write_small_lender(tmp_path, **{"approval.exceptions": {**allowed, **changed}})
    with pytest.raises(DeclarationError) as refusal:
        load_definition(folder)
    assert said in " ".join(map(str, refusal.value.problems))
