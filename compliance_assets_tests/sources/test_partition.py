"""Groups and parts: nobody disappears, and nobody changes sides because somebody else joined."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance_assets.errors import StageError
from compliance_assets.policy.system import Bands, Groups, Split
from compliance_assets.sources.partition import derived, favourable, group_names, part_of_each

SPLIT = Split(train=0.6, validation=0.2, holdout=0.2, by="id", seed=7)


def bands(*cuts: float) -> Bands:
    return Bands.model_validate({"from": "age", "cuts": cuts})


@given(st.lists(st.text(max_size=12), min_size=1, max_size=40), st.text(max_size=12))
def test_a_part_follows_from_the_value_alone(values: list[str], other: str) -> None:
    alone = [int(part_of_each(pl.Series([value]), SPLIT)[0]) for value in values]
    together = part_of_each(pl.Series([other, *values]), SPLIT)
    assert together[1:].tolist() == alone
    assert part_of_each(pl.Series(values[::-1]), SPLIT).tolist() == alone[::-1]


def test_the_declared_shares_come_out_and_the_seed_matters() -> None:
    parts = part_of_each(pl.Series(range(100_000)), SPLIT)
    assert np.bincount(parts) / 100_000 == pytest.approx([0.6, 0.2, 0.2], abs=0.005)
    other = part_of_each(pl.Series(range(100_000)), SPLIT.model_copy(update={"seed": 8}))
    assert (other == parts).mean() == pytest.approx(0.6**2 + 2 * 0.2**2, abs=0.01)  # as unrelated as two coins


def test_the_split_of_known_values_never_changes() -> None:
    """Held for good: another assignment would mix tested people into training without anybody noticing."""
    parts = part_of_each(pl.Series([f"person-{number}" for number in range(1000)]), SPLIT)
    assert hashlib.sha256(parts.tobytes()).hexdigest() == "5bbb14d81658835774f9e0e3983c4e82be7a7f6e58c866802b78e49abbe09a8f"


def test_numbers_text_gaps_and_trailing_zero_bytes_are_told_apart() -> None:
    assert part_of_each(pl.Series([5, 7]), SPLIT).tolist() == part_of_each(pl.Series(["5", "7"]), SPLIT).tolist()
    assert len(set(part_of_each(pl.Series([None, ""], dtype=pl.String), SPLIT).tolist())) == 1
    many = pl.Series([f"a{chr(0) * zeros}" for zeros in range(12)])
    assert len(set(part_of_each(many, SPLIT).tolist())) > 1


def test_bands_take_their_lower_cut_and_missing_ages_are_unknown() -> None:
    frame = pl.DataFrame({"age": [24.9, 25.0, 59.9, 60.0, None, float("nan")]})
    assert derived(frame, "age_band", bands(25, 60)).to_list() == [
        "below_25", "25_to_below_60", "25_to_below_60", "from_60", "unknown", "unknown"]


def test_groups_keep_declared_values_and_name_the_rest() -> None:
    frame = pl.DataFrame({"sex": ["f", "m", None, "x"], "code": [1, 2, None, 3], "flag": [True, False, None, True]})
    assert derived(frame, "sex", Groups(groups=("f", "m"))).to_list() == ["f", "m", "unknown", "undeclared"]
    assert derived(frame, "gender", Groups(groups=(1, 2), column="code")).to_list() == ["1", "2", "unknown", "undeclared"]
    flags = Groups(groups=(True, False), column="flag")
    assert derived(frame, "carer", flags).to_list() == ["true", "false", "unknown", "true"]
    assert group_names(flags) == ("true", "false")


def test_an_attribute_without_its_column_or_cut_from_text_is_refused() -> None:
    with pytest.raises(StageError, match="column sex, which is not in the data"):
        derived(pl.DataFrame({"age": [1]}), "sex", Groups(groups=("f", "m")))
    with pytest.raises(StageError, match="is cut from age, which is String"):
        derived(pl.DataFrame({"age": ["old"]}), "age_band", bands(25))


def test_the_favourable_label_is_read_in_the_targets_own_kind() -> None:
    assert favourable(pl.Series([True, None]), True).to_list() == [True, None]
    assert favourable(pl.Series([1, 2]), 2).to_list() == [False, True]
    assert favourable(pl.Series([">50K", "<=50K"]), ">50K").to_list() == [True, False]
    with pytest.raises(StageError, match="declared as 1"):
        favourable(pl.Series("repaid", [True]), 1)
