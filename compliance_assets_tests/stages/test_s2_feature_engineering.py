"""Stage 2: features as registered, the same for training and for one answer, and no proxy that nobody looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from compliance_assets.errors import StageError
from compliance_assets.features import compute, registered, registry_types, serving_features, serving_schema
from compliance_assets.policy.definition import load_definition
from compliance_assets.policy.river import rule_named
from compliance_assets.stages import s1_data_preparation as s1
from compliance_assets.stages import s2_feature_engineering as s2
from compliance_assets.stages.s2_gates import correlation_ratio, cramers_v
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.small_lender import FEATURES, write_small_lender
from compliance_assets_tests.stages.preparing import Prepared, computed, failed, prepared


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.mktemp("healthy"))


def engineered(healthy: Prepared, root: Path, **changes: Any) -> tuple[s2.FeatureSet, dict[str, list[str]]]:
    """Stage 2 on the healthy dataset under a changed declaration."""
    work = replace(healthy.work, definition=load_definition(write_small_lender(root, **changes)))
    draft, gates = computed(Prepared(work, healthy.draft, healthy.gates))
    assert isinstance(draft.value, s2.FeatureSet)
    return draft.value, failed(gates)


def test_healthy_features_pass_every_gate_of_the_rule_in_order(healthy: Prepared) -> None:
    draft, gates = computed(healthy)
    assert tuple(gates) == rule_named("feature_engineering").gate_names
    assert failed(gates) == {}
    assert all(healthy.work.artefacts.exists(Digest(digest)) for digest in draft.value.files().values())


def test_what_is_loaded_is_typed_aligned_and_holds_neither_label_nor_group(healthy: Prepared) -> None:
    draft, _ = computed(healthy)
    assert isinstance(draft.value, s2.FeatureSet)
    X, y, groups = s2.load_features(healthy.work.artefacts, draft.value, "holdout")
    raw = s1.read_part(healthy.work.artefacts, healthy.dataset, "holdout")
    assert X.columns == ["debt_to_income", "monthly_income", "late_payments", "employment"] == list(draft.value.names)
    assert X["employment"].dtype == pl.Enum(["permanent", "temporary", "none"])
    assert y.dtype == np.int8 and y.tolist() == raw["repaid"].cast(pl.Int8).to_list()
    assert groups.columns == ["application_id", "sex", "age_band"]
    assert groups["application_id"].equals(raw["application_id"]) and X["monthly_income"].equals(raw["monthly_income"])


@pytest.mark.parametrize(("old", "new", "gate", "finding"), [
    (".clip(0, 2)", ".clip(0, 2).cast(pl.Float32)", "schema", "schema.train.debt_to_income"),
    ('pl.col("employment"),', "", "schema", "schema.names"),
    ('pl.col("employment"),', 'pl.col("employment"), pl.lit(1).alias("stray"),', "registered", "registered.train"),
    (".clip(0, 2)", ".mul(90)", "ranges", "ranges.debt_to_income"),
    ('pl.col("employment"),', 'pl.lit("secret").alias("employment"),', "ranges", "ranges.employment"),
    (".clip(0, 2)", ".clip(0, 0.4).replace(0.4, None)", "nulls", "nulls.debt_to_income"),
    (".clip(0, 2)", ".clip(0, 0.4).replace(0.4, float('nan'))", "nulls", "nulls.debt_to_income"),
    (".clip(0, 2)", ".replace(0.0, 0.1).truediv(0.0)", "ranges", "ranges.debt_to_income"),
    ('pl.col("late_payments"),', 'pl.col("late_payments").sort(),', "parity", "parity.train"),
    ('pl.col("late_payments"),', '(pl.col("late_payments") - pl.col("late_payments").min()).sort(descending=True),', "parity",
     "parity.holdout"),
    (".clip(0, 2)", ".truediv(pl.col('monthly_debt').max())", "parity", "parity.train"),
])
def test_one_broken_line_of_feature_code_fails_its_gate(healthy: Prepared, tmp_path: Path, old: str, new: str, gate: str,
                                                        finding: str) -> None:
    _, gates = engineered(healthy, tmp_path, **{"features.py": FEATURES.replace(old, new, 1)})
    assert finding in gates[gate]


def test_a_protected_attribute_enters_only_with_a_declared_reason(healthy: Prepared, tmp_path: Path) -> None:
    code = FEATURES.replace('pl.col("employment"),', 'pl.col("employment"), pl.col("sex"),')
    feature = {"name": "sex", "dtype": "category", "unit": "kind", "categories": ["female", "male"], "from": ["sex"],
               "nulls": "refuse", "proxy": {"reviewed": True, "note": "it is the attribute itself"}}
    changes: dict[str, Any] = {"features.py": code, "features.registry.4": feature}
    _, gates = engineered(healthy, tmp_path / "silent", **changes)
    assert gates == {"prohibited": ["prohibited.sex"]}
    used = [{"attribute": "sex", "because": "the law of this small country demands it"}]
    _, gates = engineered(healthy, tmp_path / "declared", **changes, **{"data.used_as_features": used})
    assert gates == {}


def test_a_proxy_needs_a_review_above_the_declared_level(healthy: Prepared, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"features.proxy_review_above": 0.0}
    _, gates = engineered(healthy, tmp_path / "strict", **changes)
    assert "proxies.debt_to_income.sex" in gates["proxies"] and "proxies.late_payments.sex" not in gates["proxies"]
    assert engineered(healthy, tmp_path / "usual")[1] == {}


def test_a_changed_registry_does_not_pass_on_older_features(healthy: Prepared, tmp_path: Path) -> None:
    draft, _ = computed(healthy)
    changed = write_small_lender(tmp_path, **{"features.registry.1.range": [500, 1000], "features.registry.3.categories": [
        "permanent", "temporary", "none", "student"]})
    work = replace(healthy.work, definition=load_definition(changed))
    gates = {report.gate: report for report in s2.judge(work, draft, healthy.dataset)}
    assert failed(gates) == {"registered": ["registered.registry"], "ranges": ["ranges.monthly_income"]}


@pytest.mark.parametrize(("old", "new", "said"), [
    ('pl.col("monthly_income"),', 'pl.col("repaid").alias("monthly_income"),', "looks at a column that no feature declares"),
    ('pl.col("monthly_income"),', 'pl.col("age").alias("monthly_income"),', "looks at a column that no feature declares"),
    ("return frame.select(", "return frame.head(5).select(", "made 5 rows"),
    ("return frame.select(", "return frame.collect().select(", "returned a DataFrame"),
])
def test_feature_code_that_looks_elsewhere_or_loses_rows_is_an_error(healthy: Prepared, tmp_path: Path, old: str, new: str,
                                                                     said: str) -> None:
    with pytest.raises(StageError, match=said):
        engineered(healthy, tmp_path, **{"features.py": FEATURES.replace(old, new, 1)})


def test_one_row_is_computed_as_it_is_among_many_to_the_bit(healthy: Prepared, tmp_path: Path) -> None:
    """polars divides one value by a constant, and a column through the constant's reciprocal: the last bit would differ."""
    code = FEATURES.replace(".clip(0, 2)", ".clip(0, 2).truediv(12).truediv(100)")
    definition = load_definition(write_small_lender(tmp_path, **{"features.py": code}))
    raw = s1.read_part(healthy.work.artefacts, healthy.dataset, "train")
    batch = compute(definition, raw)
    for rows in (1, 2, 3, 7):
        for place in range(0, 90, rows):
            assert compute(definition, raw[place:place + rows]).equals(batch[place:place + rows])


def test_serving_takes_rows_as_the_contract_types_them(healthy: Prepared) -> None:
    definition = healthy.work.definition
    row = {"monthly_debt": 300, "monthly_income": 1500.0, "late_payments": 1, "employment": "none"}
    schema = serving_schema(definition)
    assert schema == {"monthly_debt": pl.Float64, "monthly_income": pl.Float64, "late_payments": pl.Int64, "employment": pl.String}
    frame = serving_features(definition, [row, row], schema=schema)
    assert frame.schema == dict(registry_types(definition.system.features.registry))
    assert frame["debt_to_income"].to_list() == [0.2, 0.2]
    with pytest.raises(StageError, match="Row 1 has no employment"):
        serving_features(definition, [row, {key: value for key, value in row.items() if key != "employment"}])
    with pytest.raises(StageError, match="late_payments is not Int64"):
        serving_features(definition, [{**row, "late_payments": "one"}])
    with pytest.raises(StageError, match="category 'pirate', which is not registered"):
        serving_features(definition, [{**row, "employment": "pirate"}])
    assert serving_features(definition, []).height == 0


def test_features_that_are_missing_or_of_another_type_are_refused() -> None:
    with pytest.raises(StageError, match="was not computed"):
        registered(pl.DataFrame({"a": [1]}), (("b", pl.Int64()),))
    with pytest.raises(StageError, match="is Int64, but Float64 is registered"):
        registered(pl.DataFrame({"a": [1]}), (("a", pl.Float64()),))


def test_association_is_one_for_the_same_thing_and_near_zero_for_chance() -> None:
    group = np.arange(4000) % 2
    chance = np.random.Generator(np.random.Philox(3)).integers(0, 2, 4000)
    assert cramers_v(group, group) == pytest.approx(1) and cramers_v(group, 1 - group) == pytest.approx(1)
    assert cramers_v(chance, group) < 0.05 and cramers_v(np.zeros(4000, dtype=np.int64), group) == 0
    assert correlation_ratio(group.astype(float), group) == pytest.approx(1)
    assert correlation_ratio(chance.astype(float), group) < 0.05
    assert correlation_ratio(np.full(4000, np.nan), group) == 0 == correlation_ratio(np.ones(4000), group)
    table = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], [30, 10, 20, 40], axis=0)
    assert cramers_v(table[:, 0], table[:, 1]) == pytest.approx((100 * (30 * 40 - 10 * 20) ** 2 / (40 * 60 * 50 * 50)) ** 0.5 / 10)
