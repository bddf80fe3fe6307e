"""The charts of a small lender that went through stages 1 to 4: what they say, what they never say, and who could abuse them."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance_assets.governance.charts import (
    Chart,
    as_markdown_image,
    drawing,
    for_asset,
    group_bars,
    markdown_table,
    population,
    proxies,
    reading,
    reliability,
)
from compliance_assets.governance.charts.findings import name_words
from compliance_assets.policy.gates import Finding, GateReport, Verdict, not_run
from compliance_assets.policy.system import MinimumGroup

SVG = "{http://www.w3.org/2000/svg}"
ASSETS = ("dataset", "features", "candidate_model", "evaluation_report")
HOSTILE = '<script>alert("x")</script>'
Filed = dict[str, tuple[dict[str, Any], tuple[GateReport, ...]]]


@pytest.fixture(scope="module")
def filed(tmp_path_factory: pytest.TempPathFactory) -> Filed:
    """What the stages really file for the small lender: report JSON and gates by asset, with an incumbent to drift from."""
    from compliance_assets.evidence.artefacts import ArtefactStore
    from compliance_assets.policy.definition import load_definition
    from compliance_assets.stages import s1_data_preparation, s2_feature_engineering, s3_model_training, s4_model_evaluation
    from compliance_assets.trust.canonical import Digest
    from compliance_assets_tests.small_lender import write_small_lender

    root = tmp_path_factory.mktemp("charts")
    store = ArtefactStore(root / "store")
    work: Any = SimpleNamespace(
        definition=load_definition(write_small_lender(root)), artefacts=store, scratch=root, references={},
        tell=lambda *_, **__: None, now=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def read(digest: str) -> dict[str, Any]:
        return dict(json.loads(store.get_bytes(Digest(digest))))

    prepared = s1_data_preparation.produce(work)
    dataset: Any = prepared.value
    built = s2_feature_engineering.produce(work, dataset)
    features: Any = built.value
    store.put_bytes(features.manifest())
    trained = s3_model_training.produce(work, features=features)
    candidate: Any = trained.value
    digest = str(store.put_bytes(candidate.manifest()))
    work.references = {"production": digest, "baseline": digest}
    scored = s4_model_evaluation.produce(work, candidate_model=candidate, features=features)
    evaluation: Any = scored.value
    return {
        "dataset": (read(dataset.quality_report), tuple(s1_data_preparation.judge(work, prepared))),
        "features": (read(features.report), tuple(s2_feature_engineering.judge(work, built, dataset))),
        "candidate_model": (read(candidate.record), tuple(s3_model_training.judge(work, trained, features=features))),
        "evaluation_report": (read(evaluation.report), tuple(
            s4_model_evaluation.judge(work, scored, candidate_model=candidate, features=features))),
    }


def charts(filed: Filed, minimum: MinimumGroup | None = None) -> Iterator[Chart]:
    for asset in ASSETS:
        report, gates = filed[asset]
        yield from for_asset(asset, report, gates, minimum_group=minimum)


def renamed(filed: Filed, old: str, new: str) -> Filed:
    """The same reports with another name in every place where it stands."""
    def swap(body: Any) -> Any:
        if isinstance(body, dict):
            return {swap(key): swap(value) for key, value in body.items()}
        if isinstance(body, list):
            return [swap(value) for value in body]
        return body.replace(old, new) if isinstance(body, str) else body

    return {asset: (swap(report), tuple(GateReport.read(swap(gate.as_json())) for gate in gates))
            for asset, (report, gates) in filed.items()}


def words_of(svg: str) -> list[str]:
    return ["".join(one.itertext()) for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def luminance(colour: str) -> float:
    parts = [int(colour[place:place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# ---------------------------------------------------------------------------------------------------------- what is there


def test_each_asset_has_its_charts(filed: Filed) -> None:
    names = {asset: [chart.name for chart in for_asset(asset, *filed[asset])] for asset in ASSETS}
    assert names == {
        "dataset": ["population"], "features": ["feature_ranges", "proxies"], "candidate_model": ["training"],
        "evaluation_report": ["findings", "fairness_by_group", "reliability", "robustness", "robustness_curve", "drift"],
    }
    assert [chart.name for chart in for_asset("integration_report", {}, filed["evaluation_report"][1])] == ["findings"]


def test_an_asset_that_no_stage_makes_has_no_chart() -> None:
    with pytest.raises(KeyError):
        for_asset("horoscope", {})


def test_every_chart_is_small_well_formed_accessible_and_without_script(filed: Filed) -> None:
    for chart in charts(filed):
        assert len(chart.svg.encode()) <= drawing.LIMIT, chart.name
        root = ElementTree.fromstring(chart.svg)
        assert root.tag == f"{SVG}svg" and root.attrib["role"] == "img"
        title, description = root[0], root[1]
        assert (title.tag, description.tag) == (f"{SVG}title", f"{SVG}desc") and title.text and description.text
        assert root.attrib["aria-labelledby"] == f"{title.attrib['id']} {description.attrib['id']}"
        assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {"svg", "title", "desc", "rect", "path", "g", "text"}
        names = {name for one in root.iter() for name in one.attrib}
        assert not any(name.startswith("on") or "href" in name or name in ("style", "class") for name in names)


def test_everything_drawn_lies_on_the_sheet(filed: Filed) -> None:
    for chart in charts(filed):
        root = ElementTree.fromstring(chart.svg)
        for one in root.iter(f"{SVG}text"):
            assert 0 <= float(one.attrib["x"]) <= drawing.WIDTH and 0 <= float(one.attrib["y"]) <= float(root.attrib["height"])
        for one in root.iter(f"{SVG}path"):
            for x, y in re.findall(r"M(-?[\d.]+) (-?[\d.]+)", one.attrib["d"]):
                assert 0 <= float(x) <= drawing.WIDTH, (chart.name, one.attrib["d"])
                assert 0 <= float(y) <= float(root.attrib["height"]), (chart.name, one.attrib["d"])


def test_the_same_report_gives_the_same_bytes(filed: Filed) -> None:
    again = {asset: (json.loads(json.dumps(report)), tuple(GateReport.read(gate.as_json()) for gate in gates))
             for asset, (report, gates) in filed.items()}
    assert list(charts(filed)) == list(charts(again))


def test_ids_of_different_charts_differ(filed: Filed) -> None:
    ids = [one.attrib["id"] for chart in charts(filed) for one in ElementTree.fromstring(chart.svg).iter() if "id" in one.attrib]
    assert len(ids) == len(set(ids))


def test_text_has_contrast_on_paper_and_on_the_tint(filed: Filed) -> None:
    used = {fill for chart in charts(filed) for fill in re.findall(r'<(?:g|svg)[^>]* fill="(#\w+)"', chart.svg)}
    assert used <= set(drawing.TEXT_COLOURS)
    for colour in drawing.TEXT_COLOURS:
        for ground in (drawing.PAPER, drawing.TINT):
            assert (luminance(ground) + 0.05) / (luminance(colour) + 0.05) >= 4.5, (colour, ground)


def test_a_chart_is_one_line_of_markdown_that_holds_the_picture(filed: Filed) -> None:
    chart = next(charts(filed))
    line = as_markdown_image(chart.svg, "groups ](evil) <b>\nnew line")
    assert "\n" not in line and "<b>" not in line
    found = re.fullmatch(r"!\[groups \\\]\(evil\) &lt;b&gt; new line\]\(data:image/svg\+xml;base64,([\w+/=]+)\)", line)
    assert found and base64.b64decode(found[1]).decode() == chart.svg


def test_the_table_holds_the_numbers_of_the_picture(filed: Filed) -> None:
    report = filed["evaluation_report"][0]
    picture, table = " ".join(words_of(group_bars.svg(report))), group_bars.table(report)
    ratio = next(one for one in report["fairness"] if one["metric"] == "selection_rate_ratio" and one["over"] == "sex")
    for group in ratio["groups"]:
        said = reading.percent(float(group["value"]))
        assert said in picture and f"| {group['name']} | sex | {group['n']} |" in table and said in table
    for chart in charts(filed):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in chart.markdown_table.splitlines()}
        assert len(widths) == 1, chart.name


# ------------------------------------------------------------------------------------------------------------ what it says


def test_the_four_fifths_line_stands_at_80_percent_of_the_highest_group(filed: Filed) -> None:
    rates = group_bars.read_rates(filed["evaluation_report"][0], None)
    of_sex = [one for one in rates if one.over == "sex"]
    assert of_sex[0].line == pytest.approx(0.8 * max(one.rates[0].value or -1 for one in of_sex))
    assert not any(one.is_below for one in of_sex)


def test_a_group_below_four_fifths_is_marked_in_words_too(filed: Filed) -> None:
    report = copy.deepcopy(filed["evaluation_report"][0])
    for one in report["fairness"]:
        if one["metric"] == "selection_rate_ratio" and one["over"] == "sex":
            one["groups"][0] |= {"value": "0.4", "lower": "0.35", "upper": "0.45"}
    assert "below the line" in group_bars.table(report)
    assert group_bars.svg(report).count(drawing.AMBER) > group_bars.svg(filed["evaluation_report"][0]).count(drawing.AMBER)


def test_a_group_below_the_declared_minimum_is_striped_and_says_so(filed: Filed) -> None:
    report = filed["evaluation_report"][0]
    minimum = MinimumGroup(rows=10_000)
    assert sum("too few" in said for said in words_of(group_bars.svg(report, minimum))) >= 4
    assert "fewer rows than declared" in group_bars.table(report, minimum)
    assert "fewer rows than declared" not in group_bars.table(report, MinimumGroup(rows=1))
    assert "no minimum was given" in " ".join(words_of(group_bars.svg(report)))


def test_a_rate_that_was_not_measured_is_not_zero(filed: Filed) -> None:
    report = copy.deepcopy(filed["evaluation_report"][0])
    for one in report["fairness"]:
        if one["over"] == "sex" and one["metric"] == "equal_opportunity_difference":
            one["groups"] = [one["groups"][0] | {"value": None, "lower": None, "upper": None}]
        if one["over"] == "sex" and one["metric"] == "false_positive_rate_difference":
            del one["groups"]
    assert words_of(group_bars.svg(report)).count(reading.NOT_MEASURED) == 4
    female = next(line for line in group_bars.table(report).splitlines() if line.startswith("| female | sex"))
    assert female.count(reading.NOT_MEASURED) == 2 and "| 0.0 %" not in female


def test_refused_measurements_say_why(filed: Filed) -> None:
    report = {"rows": 3, "decision_threshold": "0.5", "compared_over": [], "refused": "3 of 3 scores are not finite numbers"}
    for svg in (group_bars.svg(report), reliability.svg(report)):
        assert "not measured: 3 of 3 scores are not finite numbers" in " ".join(words_of(svg))


@pytest.mark.parametrize("text", [None, "", "nan", "inf", "-inf", "many", True])
def test_what_is_no_number_is_not_measured(text: object) -> None:
    assert reading.measured(text) is None
    assert reading.shown(reading.measured(text)) == reading.percent(reading.measured(text)) == reading.NOT_MEASURED


def test_charts_without_gates_say_that_nothing_was_judged() -> None:
    for chart in for_asset("evaluation_report", {}, ()):
        assert reading.NOT_MEASURED in " ".join(words_of(chart.svg)), chart.name


def test_a_gate_that_did_not_run_is_neither_a_pass_nor_a_bar(filed: Filed) -> None:
    gates = tuple(not_run(gate.gate, gate.version, "performance") for gate in filed["evaluation_report"][1])
    found = {chart.name: chart for chart in for_asset("evaluation_report", filed["evaluation_report"][0], gates)}
    for name in ("findings", "drift", "robustness"):
        said = " ".join(words_of(found[name].svg))
        assert "halted by performance" in said and "not run" in said and "pass" not in said
    assert reading.NOT_MEASURED in found["drift"].markdown_table


def test_a_verdict_is_a_word_beside_its_colour() -> None:
    base = Finding("performance.roc_auc", Verdict.PASS, value="0.9", lower="0.85", upper="0.95", comparator=">=", bound="0.5")
    said = {verdict: words_of(for_asset("integration_report", {}, [
        GateReport("performance", 1, (replace(base, verdict=verdict, note="a reason"),))])[0].svg) for verdict in Verdict}
    assert all(reading.sign_of(replace(base, verdict=verdict, note="a reason"))[1] in words for verdict, words in said.items())
    assert len({tuple(words) for words in said.values()}) == len(Verdict)


def test_a_pass_whose_interval_reaches_past_its_bound_is_called_narrow() -> None:
    wide = Finding("fairness.sex.selection_rate_ratio", Verdict.PASS, value="0.9", lower="0.7", upper="1", comparator=">=",
                   bound="0.8")
    assert reading.is_narrow(wide) and not reading.is_narrow(replace(wide, lower="0.85"))
    assert reading.is_narrow(replace(wide, value="0.81", lower="0.805"))
    assert not reading.is_narrow(replace(wide, verdict=Verdict.FAIL))


def test_when_findings_do_not_fit_the_worst_stay_and_the_rest_is_counted() -> None:
    good = tuple(Finding(f"contract.column_{place}", Verdict.PASS, value="0.5", lower="0.4", upper="0.6", n=10, comparator="<=",
                         bound="0.9") for place in range(80))
    bad = Finding("contract.the_bad_one", Verdict.FAIL, value="0.95", comparator="<=", bound="0.9")
    chart = for_asset("integration_report", {}, [GateReport("contract", 1, (*good, bad))])[0]
    said = " ".join(words_of(chart.svg))
    assert len(chart.svg.encode()) <= drawing.LIMIT
    assert "The bad one" in said and re.search(r"\d+ more rows stand in the table", said)
    assert chart.markdown_table.count("contract.") == 81


def test_shares_stand_beside_the_reference_and_labels_beside_the_groups(filed: Filed) -> None:
    shares = {(one.attribute, one.group): one for one in population.read_shares(*filed["dataset"])}
    female = shares["sex", "female"]
    assert female.reference == pytest.approx(0.5) and female.share == pytest.approx(0.5, abs=0.05) and not female.is_outside
    assert female.favourable is not None and 0.6 < female.favourable < 0.9
    assert {group for attribute, group in shares if attribute == "part"} == {"train", "validation", "holdout"}


def test_a_declared_group_that_nobody_belongs_to_is_shown(filed: Filed) -> None:
    report, gates = copy.deepcopy(filed["dataset"][0]), filed["dataset"][1]
    gates = tuple(GateReport("representativeness", 1, (*gate.findings, Finding(
        "representativeness.sex.nobody", Verdict.FAIL, value="0", comparator="in", bound="[0.05, 0.15]")))
        if gate.gate == "representativeness" else gate for gate in gates)
    nobody = next(one for one in population.read_shares(report, gates) if one.group == "nobody")
    assert nobody.share == 0 and nobody.is_outside and nobody.favourable is None and nobody.rows is None
    assert "outside the band" in population.table(report, gates)


def test_without_the_gates_no_reference_and_no_labels_are_made_up(filed: Filed) -> None:
    female = next(one for one in population.read_shares(filed["dataset"][0], ()) if one.group == "female")
    assert female.share is not None and (female.reference, female.favourable) == (None, None)


def test_an_association_above_the_level_that_nobody_assessed_is_said(filed: Filed) -> None:
    report, gates = filed["features"]
    judged = tuple(GateReport("proxies", 1, tuple(
        replace(one, verdict=Verdict.FAIL, value="0.9", note="not assessed") if one.id == "proxies.late_payments.sex" else one
        for one in gate.findings)) if gate.gate == "proxies" else gate for gate in gates)
    assert "not assessed" in words_of(proxies.svg(report, judged))
    assert "not assessed" not in words_of(proxies.svg(report, gates))


def test_a_gap_in_the_loss_is_a_gap(filed: Filed) -> None:
    report = copy.deepcopy(filed["candidate_model"][0])
    report["convergence"] |= {"loss": {"training": ["0.7", "nan", "0.5"]}, "iterations": {"allowed": 3, "used": [3]}}
    chart = for_asset("candidate_model", report)[0]
    assert "0.700 to 0.500" in chart.markdown_table and "nan" not in chart.svg
    report["convergence"] |= {"loss": {"training": ["nan"]}, "iterations": {}}
    assert "no loss is finite" in " ".join(words_of(for_asset("candidate_model", report)[0].svg))


def test_every_trial_of_the_mitigation_stands_in_the_table(filed: Filed) -> None:
    trials = [{"kept": True, "validation_gap": "0.02"}, {"kept": False, "why": "too far apart"}]
    report = filed["candidate_model"][0] | {"trials": trials}
    table = for_asset("candidate_model", report)[0].markdown_table
    assert "| trial 1 | kept True, validation_gap 0.02 |" in table and "why too far apart" in table


# ---------------------------------------------------------------------------------------------------------- who could abuse it


@pytest.mark.parametrize("name", [HOSTILE, "a|b`c](javascript:x)", "x" * 500, "\u202eelamef", "nul\x00bell\x07", "\ud800",
                                  "<!--", "]]>", "&amp;"])
def test_a_hostile_name_stays_text(filed: Filed, name: str) -> None:
    for old in ("female", "monthly_income"):
        for chart in charts(renamed(filed, old, name)):
            root = ElementTree.fromstring(chart.svg)
            assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {"svg", "title", "desc", "rect", "path", "g", "text"}
            assert "<script" not in chart.svg and "<script" not in chart.markdown_table and "\u202e" not in chart.svg
            assert len(chart.svg.encode()) <= drawing.LIMIT
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in chart.markdown_table.splitlines()}) == 1


def test_a_hostile_name_is_still_told(filed: Filed) -> None:
    found = {chart.name: chart for chart in charts(renamed(filed, "female", "<b>x</b>"))}
    assert "<b>x</b>" in words_of(found["fairness_by_group"].svg)
    assert "| &lt;b&gt;x&lt;/b&gt; | sex |" in found["fairness_by_group"].markdown_table


@given(name=st.text(max_size=60), rate=st.floats(0, 1), many=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_any_name_gives_well_formed_xml_within_the_limit(name: str, rate: float, many: int) -> None:
    rates = {"value": repr(rate), "lower": repr(rate * 0.9), "upper": repr(min(1.0, rate * 1.1))}
    groups = [{"name": f"{name}{place}", **rates, "n": 7, "positives": 3, "negatives": 4} for place in range(many)]
    report = {"rows": 7, "fairness": [{"metric": "selection_rate_ratio", "over": name, "groups": groups}]}
    svg = group_bars.svg(report, MinimumGroup(rows=8))
    ElementTree.fromstring(svg)
    assert len(svg.encode()) <= drawing.LIMIT


@given(value=st.floats(allow_nan=False, allow_infinity=False), low=st.floats(-1e12, 1e12), wide=st.floats(0, 1e6))
@settings(max_examples=60, deadline=None)
def test_any_number_can_be_drawn_against_any_bound(value: float, low: float, wide: float) -> None:
    finding = Finding("drift.production.psi", Verdict.PASS, value=repr(value), lower=repr(value), upper=repr(value), n=1,
                      comparator="in", bound=f"[{low:g}, {low + wide:g}]")
    for chart in for_asset("evaluation_report", {}, [GateReport("drift", 1, (finding,))]):
        ElementTree.fromstring(chart.svg)
        assert not re.search(r"\b(nan|inf)\b", chart.svg)


@given(cell=st.text(max_size=40))
def test_a_table_cell_never_becomes_markup(cell: str) -> None:
    table = markdown_table(["a", "b"], [[cell, 1]])
    row = table.splitlines()[2]
    assert table.count("\n") == 3 and row.count("|") - row.count("\\|") == 3
    assert "<" not in row and "://" not in row and "![" not in row


@pytest.mark.parametrize(("id", "what", "over"), [
    ("robustness.sex.numeric_noise_mae_rise@0.05", "Numeric noise: error added", "sex · at 0.05"),
    ("robustness.membership_inference_auc@300", "Membership inference AUC", "at 300"),
    ("robustness.monotonicity_violation_rate@0.5-late_payments-falling", "Monotonicity violation rate", "at 0.5, late payments falling"),
    ("robustness.protected_flip_decision_flip_rate@1e-05-age_band-proxies", "Protected flip: decisions flipped", "at 1e-05, age band proxies"),
    ("fairness.sex*age_band.mae_ratio", "Mean absolute error ratio", "sex × age band"), ("performance.mae", "Mean absolute error", ""),
    ("performance.r2", "R²", "")])
def test_what_was_measured_is_said_in_words(id: str, what: str, over: str) -> None:
    assert name_words(Finding(id, Verdict.PASS, value="0.1"), id.split(".")[0]) == (what, over)


def test_a_predicted_number_has_no_reliability_curve_and_the_picture_says_so(filed: Filed) -> None:
    report = filed["evaluation_report"][0]
    assert "a predicted number" in reliability.svg({**report, "reliability_curve": []})
    assert "a predicted number" not in reliability.svg(report)
