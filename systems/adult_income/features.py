"""What the income model sees of a person: the census answers, with gaps as a category of their own.

Not seen: sex and race (protected), native country (a proxy of race with 41 thin categories), the survey weight (it describes
the sample, not the person), and `education`, which says the same as `education_num` in words. Marital status and
relationship are seen with one change: "husband" and "wife" name a sex, so both become "spouse".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def build(census: pl.LazyFrame) -> pl.LazyFrame:
    """One row of features per person, in the order of the registry in `system.yaml`; each from its own row alone."""
    import polars as pl

    relationship = pl.col("relationship")
    return census.select(
        pl.col("age"),
        pl.col("education_num"),
        pl.col("hours_per_week"),
        pl.col("capital_gain"),
        pl.col("capital_loss"),
        pl.col("workclass").fill_null("unknown"),
        pl.col("occupation").fill_null("unknown"),
        pl.col("marital_status"),
        pl.when(relationship.is_in(["Husband", "Wife"])).then(pl.lit("Spouse")).otherwise(relationship).alias("relationship"),
    )


def build_without_household(census: pl.LazyFrame) -> pl.LazyFrame:
    """The same less marital status and relationship, the two strongest proxies of sex: see `system.mitigated.yaml`."""
    import polars as pl

    return census.select(
        pl.col("age"),
        pl.col("education_num"),
        pl.col("hours_per_week"),
        pl.col("capital_gain"),
        pl.col("capital_loss"),
        pl.col("workclass").fill_null("unknown"),
        pl.col("occupation").fill_null("unknown"),
    )
