"""A limit that was declared cannot be widened or taken away without being called weaker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compliance_assets.policy.change import changes
from compliance_assets.policy.definition import load_definition
from compliance_assets_tests.small_lender import write_small_lender

WHY = "so that the test can see it"
DOUBLES = {"metric": "split_row_overlap", "judged_on": "point", "because": WHY}
CURRENT = {"metric": "outdated_share", "column": "applied_on", "as_of": "2026-11-01", "oldest": "400d", "at_most": 0.1,
           "judged_on": "upper", "because": WHY}
PAIRS: tuple[tuple[str, Any, Any, Any], ...] = (
    ("evaluation.holdout_uses", {"at_most": 5, "because": WHY}, {"at_most": 9, "because": WHY}, None),
    ("data.rows_change", {"against": "production", "at_most": 0.1, "because": WHY}, {"against": "production", "at_most": 0.2, "because": WHY},
     None),
    ("data.identical_rows", {**DOUBLES, "at_most": 3}, {**DOUBLES, "at_most": 4}, None),
    ("data.prohibited_columns", ["passport", "name"], ["passport"], []),
    ("features.attribute_auc_review_above", 0.6, 0.7, None),
    ("training.reproducibility_probe", True, False, False),
    ("features.target_auc_review_above", 0.8, 0.9, None),
    ("data.currentness", [CURRENT], [{**CURRENT, "at_most": 0.2}], []),
    ("data.conflicting_labels", {**DOUBLES, "metric": "conflicting_label_share", "at_most": 0.1},
     {**DOUBLES, "metric": "conflicting_label_share", "at_most": 0.2}, None),
    ("data.currentness", [CURRENT], [{**CURRENT, "oldest": "800d"}], []),
)


def declared(root: Path, path: str, value: Any) -> dict[str, Any]:
    return json.loads(json.dumps(load_definition(write_small_lender(root, **{path: value})).parts()))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("path", "strict", "loose", "none"), PAIRS, ids=[f"{place} {pair[0]}" for place, pair in enumerate(PAIRS)])
def test_a_wider_limit_and_no_limit_weaken_and_the_way_back_strengthens(tmp_path: Path, path: str, strict: Any, loose: Any, none: Any) -> None:
    held, wider, gone = (declared(tmp_path / name, path, value) for name, value in (("held", strict), ("wider", loose), ("gone", none)))
    for other in (wider, gone):
        assert {change.direction for change in changes(held, other)} == {"weakens"}
        assert {change.direction for change in changes(other, held)} == {"strengthens"}
