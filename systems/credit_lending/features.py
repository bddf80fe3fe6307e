"""What the credit model sees of an application: ratios, counts and plain categories, computed the same everywhere.

Called by stage 2 for the whole data set and by the model server for one application; it must not know which. So each
feature follows from its own row alone: no mean over all rows, no order, no clock. Sex and age are not among the columns
that are visible here (`from` in the feature registry), and there is nothing to fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

# The lender's rate for the instalment, as a factor on the loan: simple, known to the officer, the same for everybody.
INSTALMENT_FACTOR = 1.06


def build(applications: pl.LazyFrame) -> pl.LazyFrame:
    """One row of features per application, in the order of the registry in `system.yaml`.

    Ratios are cut at the upper end of their documented range: a debt of thirty incomes tells no more than one of five.
    """
    import polars as pl

    income = pl.col("monthly_income_cents")
    instalment = pl.col("loan_amount_cents") / pl.col("loan_term_months") * INSTALMENT_FACTOR
    return applications.select(
        (pl.col("monthly_debt_cents") / income).clip(0, 5).alias("debt_to_income"),
        (instalment / income).clip(0, 5).alias("instalment_to_income"),
        (pl.col("loan_amount_cents") / income).clip(0, 60).alias("loan_to_income"),
        (income / 100).alias("monthly_income"),
        (pl.col("months_employed") / 12).alias("years_employed"),
        (pl.col("credit_history_months") / 12).alias("credit_history_years"),
        pl.col("open_credit_lines"),
        pl.col("credit_utilisation_percent"),
        pl.col("missed_payments_12m"),
        pl.col("loan_term_months"),
        pl.col("employment"),
        pl.col("housing"),
        pl.col("purpose"),
    )
