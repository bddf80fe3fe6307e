"""The book of a consumer lender that does not exist: who applied, what was known then, and who repaid.

Nobody's data is in it. Every column follows from the structural equations below, so it is known what causes what, and a
fault can be put in on purpose. In order (an arrow reads "is one cause of"):

    sex, age            drawn alone: half and half; 18 to 79, most between 25 and 55
    prudence            drawn alone, for everybody from the same distribution; nobody ever sees it
    employment          <- age (the old retire, the young are temporary), sex (women are temporary a little more often)
    months_employed     <- age, employment
    income              <- age (rises until the late forties), employment, sex (`PAY_GAP`: 4 % less for women)
    housing             <- age, income
    loan, term, purpose <- income
    monthly_debt        <- income, prudence
    history, lines      <- age
    utilisation, missed <- prudence
    repaid              <- prudence, missed payments, debt and instalment against income, employment, history

So sex and age reach repayment only through employment, income and history: there is no arrow from sex to `repaid`. A model
that sees none of the two can therefore be fair without being blind to risk, and the declared gates pass. The knobs break
this on purpose:

    bias          0 is fair. Otherwise the lender's *records* are unfair to women: that share of them gets two more missed
                  payments on record (joint accounts that were booked on her alone), and a refused instalment plan is
                  entered as `repaid = false` for half of these
    drift         0 is the world as it was. 1 is a recession: incomes 25 % lower, debts 40 % higher, more missed payments
    dirt          the share of rows with one broken value: an impossible age, a negative income, an unknown employment,
                  or nothing where something must stand
    broken_group  a sex ("female", "male") whose repayments were mixed up between its people in one bad migration: what
                  is known about them no longer says anything about their label

The numbers are round and chosen, not estimated from any real book. Money is in whole cents. Every variable has its own
stream of a counter-based generator (numpy's Philox), so the same seed gives the same rows, and a longer book begins with
the shorter one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

PAY_GAP = 0.04
EMPLOYMENT = ("permanent", "temporary", "self_employed", "retired", "unemployed")
HOUSING = ("own", "rent", "family")
PURPOSES = ("car", "furniture", "education", "renovation", "refinancing")

# One number per variable: the stream it is drawn from. Never renumber; add at the end.
STREAMS = {name: place for place, name in enumerate((
    "sex", "age", "prudence", "employment", "tenure", "income", "housing", "loan", "term", "purpose", "debt", "history",
    "lines", "utilisation", "missed", "repaid", "bias", "bias_label", "dirt", "dirt_kind", "mixed_up"))}


def simulate(*, rows: int, seed: int, bias: float = 0.0, drift: float = 0.0, dirt: float = 0.0,
             broken_group: str = "") -> pl.DataFrame:
    """`rows` applications, newest last; see the module for what causes what and what the knobs do.

    `bias`, `drift` and `dirt` lie in [0, 1]; `broken_group` is empty, "female" or "male". ValueError otherwise.
    """
    import polars as pl

    for name, value in (("bias", bias), ("drift", drift), ("dirt", dirt)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; it must lie in [0, 1]")
    if broken_group not in ("", "female", "male"):
        raise ValueError(f"broken_group is {broken_group!r}; it must be empty, female or male")

    def stream(name: str) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[seed, STREAMS[name]]))

    female = stream("sex").random(rows) < 0.5
    age = _age(stream("age").random(rows))
    prudence = stream("prudence").standard_normal(rows)
    employment = _employment(stream("employment").random(rows), age, female)
    working = employment <= 2
    tenure = np.minimum(stream("tenure").exponential(72, rows), (age - 17) * 12)
    months_employed = np.where(working, tenure, 0).astype(np.int64)

    curve = 1 - ((age - 48) / 70.0) ** 2
    level = np.array([1.0, 0.86, 1.02, 0.80, 0.55])[employment]
    income = 2_650 * curve * level * np.where(female, 1 - PAY_GAP, 1.0) * np.exp(0.34 * stream("income").standard_normal(rows))
    income = np.maximum(income * (1 - 0.25 * drift), 450)

    own = 1 / (1 + np.exp(-((age - 42) / 9 + (income - 2_600) / 1_500)))
    roof = stream("housing").random(rows)
    housing = np.where(roof < own * 0.75, 0, np.where(roof > 1 - 0.30 * np.exp(-(age - 18) / 9), 2, 1))

    loan = income * np.exp(1.05 + 0.55 * stream("loan").standard_normal(rows))
    loan = np.clip(np.round(loan / 50) * 50, 500, 60_000)
    term = np.array([12, 24, 36, 48, 60])[np.searchsorted([0.12, 0.34, 0.64, 0.84], stream("term").random(rows))]
    purpose = np.searchsorted([0.30, 0.50, 0.60, 0.82], stream("purpose").random(rows))

    share_of_debt = 0.17 * np.exp(0.55 * stream("debt").standard_normal(rows) - 0.22 * prudence) * (1 + 0.40 * drift)
    debt = np.minimum(income * share_of_debt, income * 1.4)
    history = np.minimum((age - 18) * 12, stream("history").exponential(110, rows)).astype(np.int64)
    lines = np.minimum(stream("lines").poisson(1.6 + np.minimum(history, 240) / 120), 15)
    used = 100 / (1 + np.exp(-(-0.55 - 0.85 * prudence + 0.8 * stream("utilisation").standard_normal(rows))))
    missed = np.minimum(stream("missed").poisson(np.exp(-1.15 - 0.95 * prudence + 0.45 * drift)), 12)

    instalment = loan / term * 1.06
    sound = (
        2.55 + 0.55 * prudence - 0.62 * missed - 2.6 * (debt / income) - 2.4 * np.minimum(instalment / income, 1.5)
        - 0.016 * (used - 40) + np.array([0.20, -0.05, 0.0, 0.15, -0.75])[employment] + 0.0006 * np.minimum(history, 240)
    )
    repaid = stream("repaid").random(rows) < 1 / (1 + np.exp(-sound))

    if bias:
        wronged = female & (stream("bias").random(rows) < bias)
        missed = np.where(wronged, np.minimum(missed + 2, 12), missed)
        repaid &= ~(wronged & (stream("bias_label").random(rows) < 0.5))
    if broken_group:
        members = np.flatnonzero(female == (broken_group == "female"))
        repaid[members] = repaid[stream("mixed_up").permutation(members)]

    frame = pl.DataFrame({
        "application_id": np.arange(1, rows + 1, dtype=np.int64),
        "sex": _named(("male", "female"), female.astype(np.int64)),
        "age": age,
        "employment": _named(EMPLOYMENT, employment),
        "months_employed": months_employed,
        "monthly_income_cents": _cents(income),
        "monthly_debt_cents": _cents(debt),
        "housing": _named(HOUSING, housing),
        "loan_amount_cents": _cents(loan),
        "loan_term_months": term.astype(np.int64),
        "purpose": _named(PURPOSES, purpose),
        "credit_history_months": history,
        "open_credit_lines": lines.astype(np.int64),
        # Who has no line of credit uses none of it: unknown, not zero.
        "credit_utilisation_percent": pl.Series(np.round(used, 1)).set(pl.Series(lines == 0), None),
        "missed_payments_12m": missed.astype(np.int64),
        "repaid": repaid,
    })
    return _soiled(frame, stream("dirt").random(rows) < dirt, stream("dirt_kind").integers(0, 5, rows)) if dirt else frame


def _age(draw: Numbers) -> NDArray[np.int64]:
    """Whole years, 18 to 79: a piecewise linear quantile function, about one in eight below 25, one in seven from 60."""
    shares, years = (0.0, 0.13, 0.45, 0.70, 0.86, 1.0), (18.0, 25.0, 36.0, 47.0, 60.0, 80.0)
    return np.minimum(np.interp(draw, shares, years), 79).astype(np.int64)


def _employment(draw: Numbers, age: NDArray[np.int64], female: NDArray[np.bool_]) -> NDArray[np.int64]:
    """An index into `EMPLOYMENT`."""
    retired = np.clip((age - 58) / 9, 0, 0.95)
    temporary = 0.10 + 0.12 * np.exp(-(age - 18) / 6) + 0.02 * female
    unemployed, alone = np.full(len(age), 0.045), np.full(len(age), 0.09)
    place = np.full(len(age), 0, dtype=np.int64)
    edges = retired + np.cumsum((1 - retired) * np.stack([temporary, alone, unemployed]), axis=0)
    place[draw < edges[2]] = 4
    place[draw < edges[1]] = 2
    place[draw < edges[0]] = 1
    place[draw < retired] = 3
    return place


def _named(names: tuple[str, ...], index: NDArray[np.int64]) -> pl.Series:
    import polars as pl

    return pl.Series(names).gather(index)


def _cents(euros: Numbers) -> NDArray[np.int64]:
    return np.rint(euros * 100).astype(np.int64)


def _soiled(frame: pl.DataFrame, broken: NDArray[np.bool_], kind: NDArray[np.int64]) -> pl.DataFrame:
    """One value broken in each of these rows, in one of five ways."""
    import polars as pl

    def hit(which: int) -> pl.Series:
        return pl.Series(broken & (kind == which))

    return frame.with_columns(
        pl.when(hit(0)).then(pl.lit(212)).otherwise(pl.col("age")).cast(pl.Int64).alias("age"),
        pl.when(hit(1)).then(-pl.col("monthly_income_cents")).otherwise(pl.col("monthly_income_cents"))
        .alias("monthly_income_cents"),
        pl.when(hit(2)).then(pl.lit("freelance?")).otherwise(pl.col("employment")).alias("employment"),
        pl.when(hit(3)).then(None).otherwise(pl.col("loan_amount_cents")).alias("loan_amount_cents"),
        pl.when(hit(4)).then(None).otherwise(pl.col("sex")).alias("sex"),
    )
