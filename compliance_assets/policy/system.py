"""An AI system as its owner declares it in `system.yaml`: frozen, typed, unknown keys refused, no number with a default.

A number that decides anything stands here once, with its reason. What the law says and what is only convention is said in
the refusal of a missing bound (`policy.gates` and `metrics.catalogue`), never filled in silently: the AI Act prescribes no
numeric threshold, so an undeclared one is an error (Art. 9(8): prior defined metrics and probabilistic thresholds).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from datetime import date
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, field_validator, model_validator

from compliance_assets.metrics.catalogue import METRICS, MetricInfo, Task
from compliance_assets.policy.declared import (
    CRON,
    ESTIMATOR,
    PERIOD,
    Code,
    Declared,
    Name,
    Problem,
    Reason,
    Sha256,
    Share,
    Text,
    Where,
    plain,
    refuse,
    refuse_any,
)
from compliance_assets.trust.canonical import decimal_string


def _numbers_as_text(value: Any, where: Where = ()) -> Iterator[Problem]:
    """Texts that a canonical declaration could not tell from numbers, which it writes as decimal strings."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers_as_text(item, (*where, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _numbers_as_text(item, (*where, index))
    elif isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?(e[-+]\d+)?", value):
        yield Problem(where, f"the text {value!r} looks like a number", "Write the number without quotes.")


# ---------------------------------------------------------------------------------------------------------------- data


class CsvFile(Declared):
    path: Text = Field(description="file, beside system.yaml or below the root")
    sha256: Sha256 = Field(description="sha256 of the file's bytes")
    skip_lines: int = Field(0, ge=0, description="lines before the header or the first row")


class CsvSource(Declared):
    """One or more delimited files, read in this order."""

    kind: Literal["csv"] = Field(description="delimited text files")
    files: tuple[CsvFile, ...] = Field(min_length=1, description="the files, read in this order")
    separator: Annotated[str, StringConstraints(strip_whitespace=False, min_length=1, max_length=1)] = Field(
        ",", description="the letter between values; a blank stands for any run of blanks")
    columns: tuple[Text, ...] | None = Field(None, description="names, for files without a header line")
    null_values: tuple[str, ...] = Field((), description="texts that mean that nothing is known")
    strip: bool = Field(False, description="remove blanks around every value")


class ParquetSource(Declared):
    kind: Literal["parquet"] = Field(description="one parquet file")
    path: Text = Field(description="file, beside system.yaml or below the root")
    sha256: Sha256 = Field(description="sha256 of the file's bytes")


class SqlSource(Declared):
    """A query through a SQLAlchemy URL, ordered by the key; its result is pinned by logical digest."""

    kind: Literal["sql"] = Field(description="the result of a query")
    url: Text = Field(description="SQLAlchemy URL, without a password")
    query: Text = Field(description="the query; its result is ordered by the key")
    dataset_digest: Sha256 = Field(description="cds1 digest of the result, ordered by the key")


class OpenmlSource(Declared):
    kind: Literal["openml"] = Field(description="a data set of OpenML")
    id: int = Field(ge=1, description="the data set's number")
    sha256: Sha256 = Field(description="of the file that OpenML serves for this id")
    server: str = Field("https://www.openml.org", description="where the OpenML API answers")


class SimulatorSource(Declared):
    """A documented structural model of a world; the same bytes for the same seed."""

    kind: Literal["simulator"] = Field(description="a documented model of a world, no real people")
    build: Code
    rows: int = Field(ge=100, description="how many rows it makes")
    seed: int = Field(ge=0, description="the seed of its randomness")
    knobs: dict[str, int | float | str | bool] = Field(default_factory=dict, description="the model's parameters, by name")

    @field_validator("knobs")
    @classmethod
    def _told_apart(cls, knobs: dict[str, Any]) -> dict[str, Any]:
        refuse_any(_numbers_as_text(knobs))
        return knobs


Source = Annotated[CsvSource | ParquetSource | SqlSource | OpenmlSource | SimulatorSource, Field(discriminator="kind")]


class Target(Declared):
    """One of two outcomes (`favourable`), one of several classes (`classes` and `favourable_classes`), or a number (`favourable_from`)."""

    column: Text = Field(description="the column that is to be predicted")
    favourable: bool | int | str | None = Field(None, description="of two outcomes, the one that is good for the person concerned")
    classes: tuple[Text, ...] | None = Field(None, min_length=3, description="of several classes, all of them")
    favourable_classes: tuple[Text, ...] | None = Field(
        None, min_length=1, description="of several classes, those that are good for the person concerned")
    favourable_from: float | None = Field(None, description="of a number, the value from which on it is good for the person concerned")
    prevalence: tuple[Share, Share] | None = Field(None, description="share of favourable labels: lowest, highest")

    @property
    def task(self) -> Task:
        return "regression" if self.favourable_from is not None else "multiclass" if self.classes is not None else "binary"

    @model_validator(mode="after")
    def _one_task(self) -> Target:
        ways = [name for name in ("favourable", "classes", "favourable_from") if getattr(self, name) is not None]
        if len(ways) != 1:
            refuse(Problem((ways[1],) if ways else (), "the target needs exactly one of favourable, classes, favourable_from",
                           "Say what is good for the person concerned: an outcome, some of the classes, or a number from which on."))
        if (self.classes is None) != (self.favourable_classes is None):
            refuse(Problem(("favourable_classes",), "classes and favourable_classes go together", "Say which classes are good."))
        named, good = self.classes or (), self.favourable_classes or ()
        strange = sorted(set(good) - set(named))
        if strange or len(set(named)) != len(named) or (named and len(set(good)) == len(named)):
            refuse(Problem(("favourable_classes",) if strange or len(set(good)) == len(named) else ("classes",),
                           f"{', '.join(strange)} is not among the classes" if strange else
                           "every class is good: nothing is decided" if len(set(good)) == len(named) else "a class is listed twice"))
        return self


class Groups(Declared):
    """A protected attribute whose groups stand in a column as they are."""

    groups: tuple[str | int | bool, ...] = Field(min_length=2, description="the values that are groups")
    column: Text | None = Field(None, description="the column, where it is not named like the attribute")


class Bands(Declared):
    """A protected attribute cut from a number: cuts [25, 60] make the groups below_25, 25_to_below_60, from_60."""

    from_: Text = Field(alias="from", description="the numeric column")
    cuts: tuple[float, ...] = Field(min_length=1, description="where one group ends and the next begins, rising")

    @property
    def groups(self) -> tuple[str, ...]:
        cuts = [plain(cut) for cut in self.cuts]
        middle = [f"{low}_to_below_{high}" for low, high in pairwise(cuts)]
        return (f"below_{cuts[0]}", *middle, f"from_{cuts[-1]}")

    @field_validator("cuts")
    @classmethod
    def _rising(cls, cuts: tuple[float, ...]) -> tuple[float, ...]:
        if list(cuts) != sorted(set(cuts)):
            raise ValueError("cuts must rise")
        return cuts


def _attribute_kind(value: Any) -> str | None:
    """Which of the two shapes of an attribute is meant, so that only its mistakes are told."""
    if isinstance(value, dict):
        cut = "cuts" in value or ("from" in value and "groups" not in value)
        return "bands" if cut else "groups" if "groups" in value else None
    return "bands" if isinstance(value, Bands) else "groups" if isinstance(value, Groups) else None


Attribute = Annotated[
    Annotated[Groups, Tag("groups")] | Annotated[Bands, Tag("bands")],
    Discriminator(_attribute_kind, custom_error_type="shape",
                  custom_error_message="an attribute has either groups: [...], or from: and cuts: [...]"),
]


class UsedAsFeature(Declared):
    attribute: Name = Field(description="a protected attribute that the model sees")
    because: Reason


class Split(Declared):
    train: Share = Field(description="share of rows to learn from")
    validation: Share = Field(description="share of rows to choose by")
    holdout: Share = Field(description="share of rows to judge by, out of reach of training")
    by: Text = Field(description="the column whose equal values must stay in one part; not the key: intervals resample its values")
    seed: int = Field(ge=0, description="the seed of the assignment")

    @model_validator(mode="after")
    def _whole(self) -> Split:
        if abs(self.train + self.validation + self.holdout - 1) > 1e-9:
            raise ValueError(f"train + validation + holdout is {self.train + self.validation + self.holdout:.10g}, not 1")
        if min(self.train, self.validation, self.holdout) <= 0:
            raise ValueError("no part may be empty")
        return self


class ReferencePopulation(Declared):
    """Expected shares by attribute and group, and how far the data may be from them."""

    shares: dict[Name, dict[str, Share]] = Field(min_length=1, description="expected share of each group, by attribute")
    tolerance: Share = Field(description="largest accepted difference of a share")
    because: Reason


class MinimumGroup(Declared):
    """The smallest group that may be judged; positives and negatives count for TPR and FPR."""

    rows: int = Field(ge=1, description="fewest rows")
    positives: int = Field(0, ge=0, description="fewest favourable labels, for rates among them")
    negatives: int = Field(0, ge=0, description="fewest unfavourable labels, for rates among them")

    @property
    def text(self) -> str:
        parts = [f"{self.rows} rows"]
        parts += [f"{self.positives} positives"] if self.positives else []
        parts += [f"{self.negatives} negatives"] if self.negatives else []
        return ", ".join(parts)


class Provenance(Declared):
    """Where the data comes from and why it may be used (Art. 10(2)(b))."""

    collected_by: Text = Field(description="who collected it")
    method: Text = Field(description="how it was collected")
    period: Text = Field(description="when it was collected")
    original_purpose: Text = Field(description="what it was first collected for (Art. 10(2)(b))")
    legal_basis: Text = Field(description="why it may be processed")
    licence: Text = Field(description="under which licence or agreement it may be used")
    contains_personal_data: bool = Field(description="whether rows are about people who can be identified")


Uses = Annotated[
    Annotated[Literal["none"], Tag("none")] | Annotated[tuple[UsedAsFeature, ...], Tag("uses")],
    Discriminator(lambda value: "uses" if isinstance(value, list | tuple) else "none"),
]


class Data(Declared):
    source: Source = Field(description="where the raw data comes from, pinned by digest or seed")
    prepare: Code | None = Field(None, description="LazyFrame -> LazyFrame: cleaning, one documented step after another")
    key: Text = Field(description="the column that identifies a row")
    target: Target = Field(description="what is predicted")
    protected: dict[Name, Attribute] = Field(
        min_length=1, description="protected attributes by name: groups as they are, or bands of a number")
    used_as_features: Uses = Field(description="none, or a list of protected attributes with a reason each")
    split: Split = Field(description="train, validation and holdout")
    contract: Text = Field(description="a Great Expectations suite as JSON, beside this file")
    reference_population: ReferencePopulation = Field(description="whom the system is for")
    minimum_cell: MinimumGroup = Field(description="the smallest group, intersections included, that the data must hold")
    intersections: tuple[str, ...] = Field((), description="for example sex*age_band")
    completeness: tuple[Completeness, ...] = Field((), description="how complete columns must be, in all rows or in every group")
    shift: tuple[Shift, ...] = Field((), description="how far columns may be from the data of an approved model")
    prohibited_columns: tuple[Text, ...] = Field((), description="columns that the prepared data must not hold")
    identical_rows: IdenticalRows | None = Field(None, description="how many rows with the same features may stand in two parts")
    rows_change: RowsChange | None = Field(None, description="how far the number of rows may be from an approved model's data")
    conflicting_labels: ConflictingLabels | None = Field(None, description="how many who look the same may be labelled differently")
    currentness: tuple[Currentness, ...] = Field((), description="how old rows may be on a declared day")
    decided_at: Text | None = Field(None, description="the column with the day or moment of the decision, for features with known_at")
    provenance: Provenance = Field(description="where the data comes from and why it may be used")

    @property
    def together(self) -> str | None:
        """The column whose equal values are rows that belong together (one person's), where rows are not split one by one."""
        return None if self.split.by == self.key else self.split.by

    def column_of(self, attribute: str) -> str:
        """The raw column in which a protected attribute stands, or from which it is cut."""
        declared = self.protected[attribute]
        return declared.from_ if isinstance(declared, Bands) else declared.column or attribute


# ------------------------------------------------------------------------------------------------------------ features


class GivesAway(Declared):
    """An assessment of a feature from which the outcome can nearly be read off: why it is known before the outcome is."""

    reviewed: bool = Field(description="whether a person assessed it")
    note: Reason


class Proxy(Declared):
    """An assessment of a feature that may stand in for a protected attribute (Art. 10(2)(f))."""

    reviewed: bool = Field(description="whether a person assessed it")
    note: Reason


class Feature(Declared):
    name: Name = Field(description="the feature's name; the registry's order is the model's")
    dtype: Literal["float64", "float32", "int64", "int32", "bool", "category"] = Field(description="its type")
    unit: Text = Field(description="its unit")
    from_: tuple[Text, ...] = Field(alias="from", min_length=1, description="source columns it is computed from")
    nulls: Literal["refuse", "allow"] = Field(description="whether a missing value is refused")
    range: tuple[float, float] | None = Field(None, description="documented range [lowest, highest], for numbers")
    categories: tuple[str, ...] | None = Field(None, description="documented values, for a category")
    proxy: Proxy | None = Field(None, description="the assessment as a stand-in for a protected attribute")
    gives_away: GivesAway | None = Field(None, description="the assessment as something that nearly tells the outcome")
    known_at: Text | None = Field(None, description="the column with the day or moment from which its value was known")
    description: str = Field("", description="what it means")

    @model_validator(mode="after")
    def _bounded(self) -> Feature:
        if self.dtype == "category":
            if not self.categories:
                refuse(Problem(("categories",), f"feature {self.name} is a category: list its categories"))
            if self.range is not None:
                refuse(Problem(("range",), f"feature {self.name} is a category: it has no range"))
            if len(set(self.categories)) != len(self.categories):
                refuse(Problem(("categories",), f"feature {self.name} lists a category twice"))
        elif self.categories is not None:
            refuse(Problem(("categories",), f"feature {self.name} is {self.dtype}: it has no categories"))
        elif self.dtype != "bool" and self.range is None:
            refuse(Problem(("range",), f"feature {self.name} needs its documented range [lowest, highest]"))
        if self.range is not None and self.range[0] >= self.range[1]:
            refuse(Problem(("range",), f"feature {self.name}: the range [{plain(self.range[0])}, {plain(self.range[1])}] is empty",
                           "Write the lowest value first."))
        return self


class Features(Declared):
    build: Code
    registry: tuple[Feature, ...] = Field(min_length=1, description="every feature, in the model's order")
    proxy_review_above: Share = Field(description="association with a protected attribute that demands an assessment")
    proxy_because: Reason
    attribute_auc_review_above: Annotated[float, Field(ge=0.5, lt=1)] | None = Field(
        None, description="area under the curve of guessing a group from one feature that demands an assessment, too")
    target_auc_review_above: Annotated[float, Field(ge=0.5, lt=1)] | None = Field(
        None, description="area under the curve of guessing the outcome from one feature alone that demands an assessment")

    @field_validator("registry")
    @classmethod
    def _once(cls, registry: tuple[Feature, ...]) -> tuple[Feature, ...]:
        names = [feature.name for feature in registry]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"registered twice: {', '.join(twice)}")
        return registry


# ------------------------------------------------------------------------------------------------------------ training


class Reweighing(Declared):
    """Kamiran and Calders 2012: weights that make the attribute and the label (of two outcomes or several classes) independent."""

    kind: Literal["reweighing"] = Field(description="weights for the training rows")
    over: Name = Field(description="the protected attribute")
    because: Reason


class GridSearch(Declared):
    """The predictor that a grid of fairlearn's GridSearch holds best: a plain estimator, no attribute at prediction.

    Of two outcomes Agarwal et al. 2018; of a number Agarwal, Dudik, Wu 2019 (bounded_group_loss: the worst group's squared error).
    """

    kind: Literal["grid_search"] = Field(description="a search among reweighted models")
    over: Name = Field(description="the protected attribute")
    constraint: Literal["demographic_parity", "equalized_odds", "bounded_group_loss"] = Field(
        description="what the search equalises; bounded_group_loss for a number, the others for two outcomes")
    grid_size: int = Field(ge=2, le=200, description="how many models are tried")
    because: Reason


class CorrelationRemover(Declared):
    """fairlearn's CorrelationRemover folded into the model; refused where prediction would need the attribute."""

    kind: Literal["correlation_remover"] = Field(description="features made linearly independent of the attribute")
    over: Name = Field(description="the protected attribute")
    alpha: Share = Field(description="share of the correlation that is removed")
    because: Reason


Mitigation = Annotated[Reweighing | GridSearch | CorrelationRemover, Field(discriminator="kind")]


def choosable(task: str) -> tuple[str, ...]:
    """By which metrics a search may choose: training knows no decision threshold, and what is best at a value has no best."""
    def fits(info: MetricInfo) -> bool:
        known = {"binary": info.needs == ("y", "score"), "regression": info.needs == ("y", "predicted"),
                 "multiclass": "previous score" not in info.needs and "costs" not in info.needs}[task]
        return known and info.family == "performance" and task in info.task and info.direction != "target"

    return tuple(name for name, info in METRICS.items() if fits(info))


class Search(Declared):
    """Every combination of these values is tried and compared on the validation rows; every trial is recorded."""

    parameters: dict[Text, tuple[int | float | str | bool, ...]] = Field(min_length=1, description="values to try, by hyperparameter")
    choose_by: Name = Field(description="a performance metric of scores, classes or numbers, measured on the validation rows")
    because: Reason

    @model_validator(mode="after")
    def _worth_it(self) -> Search:
        fit = sorted({name for task in ("binary", "multiclass", "regression") for name in choosable(task)})
        if self.choose_by not in fit:
            refuse(Problem(("choose_by",), f"a search cannot choose by {self.choose_by}", f"Use one of {', '.join(fit)}."))
        trials = math.prod(len(values) for values in self.parameters.values())
        if not 2 <= trials <= 200 or any(len(set(values)) != len(values) for values in self.parameters.values()):
            refuse(Problem(("parameters",), f"a search of {trials} trials", "Write 2 to 200 combinations, no value twice."))
        refuse_any(_numbers_as_text(self.parameters, ("parameters",)))
        return self


class Resources(Declared):
    threads: int = Field(ge=1, description="processor threads; more may change the last bits of a result")
    gpu: int = Field(0, ge=0, description="graphics processors")
    pool: Text = Field(description="the pool of machines that it may use")


class Training(Declared):
    estimator: Annotated[str, Field(pattern=ESTIMATOR)] = Field(
        description="scikit-learn compatible class, or module:function that makes one")
    hyperparameters: dict[str, Any] = Field(description="every one that is not the library's own default")
    seed: int = Field(ge=0, description="the seed of every random choice in training")
    resources: Resources = Field(description="what training may use")
    mitigation: Mitigation | None = Field(None, description="what is done in training against unfairness")
    search: Search | None = Field(None, description="hyperparameters that are chosen by trying")
    reproducibility_probe: bool = Field(False, description="train twice and refuse a candidate that does not come out the same")
    rationale: Reason

    @model_validator(mode="after")
    def _one_choice(self) -> Training:
        if self.search is not None and self.mitigation is not None and self.mitigation.kind == "grid_search":
            refuse(Problem(("search",), "a search of hyperparameters and a grid search of models choose at once", "Declare one of them."))
        twice = sorted(set(self.search.parameters) & set(self.hyperparameters)) if self.search is not None else []
        if twice:
            refuse(Problem(("search", "parameters", twice[0]), f"{twice[0]} is fixed under hyperparameters and searched for",
                           "Take it out of one of them."))
        return self

    @field_validator("hyperparameters")
    @classmethod
    def _told_apart(cls, hyperparameters: dict[str, Any]) -> dict[str, Any]:
        refuse_any(_numbers_as_text(hyperparameters))
        return hyperparameters


# ---------------------------------------------------------------------------------------------------------- evaluation

JudgedOn = Literal["lower", "upper", "point"]


class Bound(Declared):
    """A metric, which way it is bounded, on which end of its interval it is judged, and why."""

    metric: Name = Field(description="a metric of the catalogue")
    at_least: float | None = Field(None, description="the lowest accepted value")
    at_most: float | None = Field(None, description="the highest accepted value")
    between: tuple[float, float] | None = Field(None, description="lowest and highest accepted value")
    judged_on: JudgedOn = Field(description="point, or the unfavourable end of the 95 % interval")
    because: Reason
    over: tuple[str, ...] = Field((), description="protected attributes, or intersections like sex*age_band")

    @model_validator(mode="after")
    def _directed(self) -> Bound:
        known = METRICS.get(self.metric)
        if known is None:
            refuse(Problem(("metric",), f"unknown metric {self.metric!r}", f"Known: {', '.join(sorted(METRICS))}."))
        given = [name for name in ("at_least", "at_most", "between") if getattr(self, name) is not None]
        if len(given) != 1:
            refuse(Problem(() if not given else (given[1],), f"{self.metric} needs exactly one of at_least, at_most, between",
                           f"No bound is filled in for you; convention: {known.convention.removesuffix('.')} ({known.source})."))
        way = given[0]
        if known.direction == "higher" and way != "at_least":
            refuse(Problem((way,), f"{self.metric} is better when higher: bound it with at_least, not {way}"))
        if known.direction == "lower" and way != "at_most":
            refuse(Problem((way,), f"{self.metric} is better when lower: bound it with at_most, not {way}"))
        unfavourable = {"at_least": "lower", "at_most": "upper", "between": "point"}[way]
        if self.judged_on not in ("point", unfavourable):
            ends = unfavourable if unfavourable == "point" else f"{unfavourable} or on point"
            refuse(Problem(("judged_on",), f"{self.metric} {way} is judged on {ends}; {self.judged_on} is "
                           + ("one end of two" if way == "between" else "the favourable end of the interval")))
        if self.between is not None and self.between[0] >= self.between[1]:
            refuse(Problem(("between",), f"{self.metric}: between [{plain(self.between[0])}, {plain(self.between[1])}] is empty",
                           "Write the lowest value first."))
        return self

    @property
    def comparator(self) -> str:
        return ">=" if self.at_least is not None else "<=" if self.at_most is not None else "in"

    @property
    def text(self) -> str:
        if self.between is not None:
            return f"[{plain(self.between[0])}, {plain(self.between[1])}]"
        edge = self.at_least if self.at_least is not None else self.at_most
        assert edge is not None
        return plain(edge)

    def holds_for(self, value: float) -> bool:
        """Whether `value` keeps the bound. No rounding: 0.7999999 is below 0.80."""
        if self.at_least is not None:
            return value >= self.at_least
        if self.at_most is not None:
            return value <= self.at_most
        assert self.between is not None
        return self.between[0] <= value <= self.between[1]


class Completeness(Bound):
    """How complete columns must be (G1.3): in all rows, or in the emptiest group of each attribute named under `over`."""

    columns: tuple[Text, ...] = Field(min_length=1, description="the columns that are looked at")

    @model_validator(mode="after")
    def _about_gaps(self) -> Completeness:
        if self.metric != "completeness":
            refuse(Problem(("metric",), f"data.completeness bounds completeness, not {self.metric}"))
        return self


class Shift(Bound):
    """How far columns may lie from the dataset of the model in production, or of the first one (G1.11)."""

    against: Literal["production", "baseline"] = Field(description="whose dataset it is compared with")
    columns: tuple[Text, ...] = Field(min_length=1, description="the columns that are compared")

    @model_validator(mode="after")
    def _about_columns(self) -> Shift:
        known = sorted(name for name, info in METRICS.items() if info.family == "drift" and info.needs == ("profile", "frame"))
        if self.metric not in known:
            refuse(Problem(("metric",), f"{self.metric} does not compare two datasets", f"Use one of {', '.join(known)}."))
        if self.over:
            refuse(Problem(("over",), "a shift is bounded over all rows", "Take over: away."))
        return self


class Currentness(Bound):
    """How many rows may be older than `oldest` on the day `as_of` (G1.6); a row without a date counts as older."""

    column: Text = Field(description="the column with each row's date")
    as_of: date = Field(description="the day on which ages are counted, like 2026-11-01")
    oldest: Annotated[str, Field(pattern=PERIOD)] = Field(description="the oldest that a row may be, like 730d")

    @model_validator(mode="after")
    def _about_age(self) -> Currentness:
        if self.metric != "outdated_share":
            refuse(Problem(("metric",), f"data.currentness bounds outdated_share, not {self.metric}"))
        return self


class ConflictingLabels(Bound):
    """How many rows may equal another one in every source column of the features and have the other label (G1.15)."""

    @model_validator(mode="after")
    def _about_labels(self) -> ConflictingLabels:
        if self.metric != "conflicting_label_share":
            refuse(Problem(("metric",), f"data.conflicting_labels bounds conflicting_label_share, not {self.metric}"))
        return self


class IdenticalRows(Bound):
    """How many distinct combinations of the features' source columns may stand in more than one part (G1.12)."""

    @model_validator(mode="after")
    def _about_parts(self) -> IdenticalRows:
        if self.metric != "split_row_overlap" or self.over:
            refuse(Problem(("metric",), "data.identical_rows bounds split_row_overlap over all rows"))
        return self


class RowsChange(Declared):
    """A dataset that is suddenly half or twice as large is another dataset (G1.7)."""

    against: Literal["production", "baseline"] = Field(description="whose dataset it is compared with")
    at_most: Annotated[float, Field(gt=0)] = Field(description="largest accepted change, as a share of the earlier number of rows")
    because: Reason


class Perturbed(Bound):
    """A bound on what a disturbance of the inputs, another seed or an input outside the contract does."""

    perturbation: Literal["numeric_noise", "relative_shift", "category_flip", "missing_values", "missing_feature", "missing_block",
                          "protected_flip", "retrain_seed", "out_of_range", "unseen_category", "wrong_type", "monotonicity",
                          "membership_inference", "adversarial"] = Field(description="the disturbance")
    level: Share | None = Field(None, description="its strength: standard deviations, relative size, or share of values or rows")
    seeds: Annotated[int, Field(ge=2, le=50)] | None = Field(None, description="for retrain_seed: how many other seeds are tried")
    attribute: Name | None = Field(None, description="for protected_flip: the protected attribute that is exchanged")
    with_proxies: bool = Field(False, description="for protected_flip: exchange the features assessed as its stand-ins, too")
    feature: Name | None = Field(None, description="for monotonicity: the feature that is raised, by level standard deviations or to the "
                                                   "next category")
    expected: Literal["rising", "falling", "constant"] | None = Field(
        None, description="for monotonicity: what the score may do when the feature is raised")
    mutable: tuple[Name, ...] | None = Field(None, min_length=1, description="for adversarial: the features that people can move")
    tolerance: Annotated[float, Field(ge=0)] | None = Field(None, description="for monotonicity: how far a score may go the other way")
    rows: Annotated[int, Field(ge=100)] | None = Field(
        None, description="for membership_inference: at most so many rows of the training part, and as many of the holdout, are asked")

    @model_validator(mode="after")
    def _agrees(self) -> Perturbed:
        if METRICS[self.metric].family == "robustness" and not self.metric.startswith(f"{self.perturbation}_"):
            refuse(Problem(("perturbation",), f"{self.metric} does not measure {self.perturbation}",
                           "Name the same disturbance twice."))
        wanted = {"retrain_seed": {"seeds"}, "protected_flip": {"level", "attribute"}, "out_of_range": set(), "unseen_category": set(),
                  "wrong_type": set(), "monotonicity": {"level", "feature", "expected", "tolerance"},
                  "membership_inference": {"rows"}, "adversarial": {"level", "mutable"}}.get(self.perturbation, {"level"})
        for name in ("level", "seeds", "attribute", "feature", "expected", "tolerance", "rows", "mutable"):
            given = getattr(self, name) is not None
            if given != (name in wanted):
                refuse(Problem((name,) if given else (), f"{self.perturbation} "
                               + (f"does not take {name}" if given else f"needs {name}, which has no default")))
        if self.with_proxies and self.perturbation != "protected_flip":
            refuse(Problem(("with_proxies",), f"{self.perturbation} does not take with_proxies"))
        if self.over and not wanted:
            refuse(Problem(("over",), f"{self.perturbation} asks the interface, which knows no groups", "Take over: away."))
        return self

    @property
    def strength(self) -> str:
        """As findings are named: the level, or how many seeds."""
        said = "" if self.level is None else f"{self.level:g}"
        said = f"{self.seeds}" if self.seeds is not None else f"{self.rows}" if self.rows is not None else said
        words = (said, self.attribute, "proxies" if self.with_proxies else "", self.feature, self.expected)
        return "-".join(part for part in words if part)


class Fairness(Declared):
    primary: Name = Field(description="the criterion that counts most; not all can hold at once")
    minimum_group: MinimumGroup = Field(description="the smallest group that may be judged")
    bounds: tuple[Bound, ...] = Field(min_length=1, description="what is bounded, over which attributes")

    @model_validator(mode="after")
    def _primary_is_bounded(self) -> Fairness:
        bounded = {bound.metric for bound in self.bounds}
        found = [Problem(("bounds", index, "over"), f"the fairness bound on {bound.metric} does not say over which attributes",
                         "Write over: [an attribute, or two joined by *].")
                 for index, bound in enumerate(self.bounds) if not bound.over]
        if self.primary not in bounded:
            found.append(Problem(("primary",), f"the primary metric {self.primary} has no bound",
                                 f"Bound it, or choose one of: {', '.join(sorted(bounded))}."))
        refuse_any(found)
        return self


class DriftedWhen(Declared):
    """When a single feature counts as drifted, for drifted_feature_share."""

    metric: Literal["psi", "jensen_shannon", "ks", "wasserstein"] = Field(description="the distance of one feature")
    above: Annotated[float, Field(gt=0)] = Field(description="the feature counts as drifted above it")
    because: Reason


class Importance(Declared):
    """How features are ranked, for top_features_changed and top_features_reordered."""

    top: int = Field(ge=1, le=50, description="how many of the most important features are compared")
    rows: int = Field(ge=100, description="at most so many holdout rows are scored again with a feature shuffled")
    because: Reason


class Drift(Declared):
    against: tuple[Literal["production", "baseline"], ...] = Field(
        min_length=1, description="what the candidate is compared with")
    bounds: tuple[Bound, ...] = Field(min_length=1, description="what is bounded")
    drifted_when: DriftedWhen | None = Field(None, description="when a feature counts as drifted, for drifted_feature_share")
    importance: Importance | None = Field(None, description="how features are ranked, for top_features_changed and …_reordered")

    @model_validator(mode="after")
    def _answerable(self) -> Drift:
        refuse_any(
            Problem(("bounds", index, "metric"), f"{bound.metric} needs {needed}, which has no default", f"Declare drift.{needed}.")
            for index, bound in enumerate(self.bounds)
            for needed, given, metrics in (("drifted_when", self.drifted_when, ("drifted_feature_share",)),
                                           ("importance", self.importance, ("top_features_changed", "top_features_reordered")))
            if bound.metric in metrics and given is None)
        return self


class TimeSlices(Declared):
    """The holdout cut by time (J.4): is it as right, and as fair, in every stretch of it? Bounds are held by the worst slice.

    Cuts [2025-01-01, 2025-07-01] make before_2025-01-01, 2025-01-01_to_before_2025-07-01 and from_2025-07-01. Rows without a date
    are a slice of their own, undated.
    """

    column: Text = Field(description="the column of the prepared data with each row's day or moment (UTC)")
    cuts: tuple[date, ...] = Field(min_length=1, description="the days on which one slice ends and the next begins, rising")
    minimum: MinimumGroup = Field(description="the smallest slice that may be judged")
    minimum_group: MinimumGroup | None = Field(None, description="the smallest group within a slice, where a bound compares groups")
    bounds: tuple[Bound, ...] = Field(min_length=1, description="what the worst slice must keep: performance, calibration or fairness")
    because: Reason

    @property
    def names(self) -> tuple[str, ...]:
        days = [cut.isoformat() for cut in self.cuts]
        return (f"before_{days[0]}", *(f"{low}_to_before_{high}" for low, high in pairwise(days)), f"from_{days[-1]}")

    @model_validator(mode="after")
    def _measurable(self) -> TimeSlices:
        found = [] if list(self.cuts) == sorted(set(self.cuts)) else [Problem(("cuts",), "cuts must rise")]
        for index, bound in enumerate(self.bounds):
            info = METRICS[bound.metric]
            compares = info.family == "fairness"
            if info.family not in ("performance", "fairness", "calibration") or "previous score" in info.needs or (
                    info.family == "calibration" and info.name.endswith(("_error_difference", "group_calibration_error"))):
                found.append(Problem(("bounds", index, "metric"), f"{bound.metric} is not measured in slices",
                                     "Use a metric of performance, of calibration, or a comparison of groups, of this model alone."))
            elif compares != bool(bound.over):
                found.append(Problem(("bounds", index, "over"), f"{bound.metric} " + (
                    "compares groups and does not say over which attributes" if compares else "is of all rows of a slice"),
                    "Write over: [an attribute, or two joined by *]." if compares else "Take over: away."))
            elif compares and self.minimum_group is None:
                found.append(Problem((), f"{bound.metric} compares groups within a slice: minimum_group has no default",
                                     "Declare time_slices.minimum_group."))
        refuse_any(found)
        return self


class HoldoutUses(Declared):
    """A holdout that many candidates were judged by has become something to choose by."""

    at_most: int = Field(ge=1, description="evaluations on the same holdout rows; what is answered from a record does not count")
    because: Reason


class Costs(Declared):
    """What a wrong decision costs, in one unit of the declarer's; for cost_per_row."""

    false_positive: Annotated[float, Field(ge=0)] = Field(description="of a favourable decision that should not have been")
    false_negative: Annotated[float, Field(ge=0)] = Field(description="of an unfavourable decision that should not have been")
    because: Reason

    @property
    def pair(self) -> tuple[float, float]:
        return self.false_positive, self.false_negative


_OF_ALL_ROWS = ("roc_auc_change", "accuracy_change", "brier_score_change", "mae_change", "prediction_flip_rate", "top_features_changed",
                "top_features_reordered")


def _may_stand(info: MetricInfo, family: str) -> bool:
    """Whether a metric may be bounded here. What compares two models may stand under drift too: against each of its references."""
    return info.family == family or (family == "drift" and "previous score" in info.needs)


class Evaluation(Declared):
    decision_threshold: float = Field(description="score from which the decision is favourable; a probability, or a number in the "
                                                  "target's unit")
    performance: tuple[Bound, ...] = Field(min_length=1, description="is it right often enough?")
    fairness: Fairness = Field(description="is it so for everyone?")
    robustness: tuple[Perturbed, ...] = Field(min_length=1, description="does it stay right under disturbance?")
    calibration: tuple[Bound, ...] = Field(min_length=1, description="does it know how sure it is?")
    drift: Drift = Field(description="how far is it from production and baseline?")
    undecided: Literal["refuse", "exception"] = Field(
        description="what follows INCONCLUSIVE and INSUFFICIENT_DATA: refuse, or an exception that people approve")
    costs: Costs | None = Field(None, description="what wrong decisions cost, for the metric cost_per_row")
    holdout_uses: HoldoutUses | None = Field(None, description="how often candidates may be judged by the same holdout")
    time_slices: TimeSlices | None = Field(None, description="stretches of time in each of which the holdout is judged by itself")

    @model_validator(mode="after")
    def _families(self) -> Evaluation:
        refuse_any(
            Problem((*where, "metric"), f"{bound.metric} is a {METRICS[bound.metric].family} metric, not one of {family}",
                    f"Known here: {', '.join(info.name for info in METRICS.values() if _may_stand(info, family))}.")
            for family, where, bound in self.placed_bounds() if not _may_stand(METRICS[bound.metric], family)
        )
        refuse_any(
            Problem((*where, "metric"), f"{bound.metric} needs costs, which have no default", "Declare evaluation.costs.")
            for _, where, bound in self.placed_bounds() if "costs" in METRICS[bound.metric].needs and self.costs is None)
        refuse_any(
            Problem((*where, "over"), f"{bound.metric} compares all rows of two models", "Take over: away.")
            for _, where, bound in self.placed_bounds() if bound.over and bound.metric in _OF_ALL_ROWS)
        refuse_any(
            Problem((*where, "over"), f"{bound.metric} compares groups and does not say over which attributes",
                    "Write over: [an attribute, or two joined by *].")
            for family, where, bound in self.placed_bounds()
            if family == "drift" and not bound.over and METRICS[bound.metric].family == "fairness")
        return self

    def placed_bounds(self) -> Iterator[tuple[str, Where, Bound]]:
        """Every bound with its family and its place below `evaluation`."""
        for family, where, bounds in (
            ("performance", ("performance",), self.performance), ("fairness", ("fairness", "bounds"), self.fairness.bounds),
            ("robustness", ("robustness",), self.robustness), ("calibration", ("calibration",), self.calibration),
            ("drift", ("drift", "bounds"), self.drift.bounds),
        ):
            for index, bound in enumerate(bounds):
                yield family, (*where, index), bound
        for index, bound in enumerate(self.time_slices.bounds if self.time_slices is not None else ()):
            yield METRICS[bound.metric].family, ("time_slices", "bounds", index), bound


# ---------------------------------------------------------------------------------------- integration, approval, rollout


class Integration(Declared):
    latency_p95_ms: Annotated[float, Field(gt=0)] = Field(
        description="longest accepted 95th percentile of the answer time, in milliseconds")
    latency_because: Reason
    golden: Text = Field(description="golden cases as JSON, beside this file: inputs, group, expected decision")
    parity_rows: int = Field(ge=10, description="rows on which registry and server must agree to the bit")


class RequiredApproval(Declared):
    role: Name = Field(description="a role of organisation.yaml")
    people: int = Field(ge=1, description="how many distinct people of that role")


def places(requires: Iterable[RequiredApproval]) -> dict[str, int]:
    """How many distinct people of each role are needed in all: requirements of the same role add up."""
    wanted: dict[str, int] = {}
    for need in requires:
        wanted[need.role] = (wanted[need.role] if need.role in wanted else 0) + need.people
    return wanted


Separation = Literal["not_launcher", "not_author", "distinct_people"]


Exceptable = Literal["INCONCLUSIVE", "INSUFFICIENT_DATA", "FAIL"]
LONGEST_EXCEPTION_DAYS = 30
"""No exception outlives it. The law names no number; this one is the project's."""


def seconds_of(period: str) -> int:
    """A period such as 48h or 30d in seconds; its form was checked when it was declared."""
    return int(period[:-1]) * (3600 if period.endswith("h") else 86400)


class ExceptionPolicy(Declared):
    """What may be excepted, by whom and for how long. Left out: nothing ever is. An ERROR cannot be listed."""

    covers: tuple[Exceptable, ...] = Field(min_length=1, description="the verdicts that an exception may cover")
    approved_by: tuple[RequiredApproval, ...] = Field(min_length=2, description="who must approve one: at least two roles (four eyes)")
    longest: Annotated[str, Field(pattern=PERIOD)] = Field(description="the longest that one may hold, like 14d; 30 days at most")

    @model_validator(mode="after")
    def _strict(self) -> ExceptionPolicy:
        if len(places(self.approved_by)) < 2:
            refuse_any([Problem(("approved_by",), "one role is not four eyes", "Name two roles: the governance lead's and another.")])
        if not 0 < seconds_of(self.longest) <= LONGEST_EXCEPTION_DAYS * 86400:
            refuse_any([Problem(("longest",), f"is not within {LONGEST_EXCEPTION_DAYS} days", "Mend the model instead.", self.longest)])
        return self


ReleaseClass = Literal["FIRST", "ROUTINE", "SIGNIFICANT", "SUBSTANTIAL"]
"""What a release is against the one in production: the first there, or by the class of what its definition changed."""


class ApprovalPolicy(Declared):
    requires: tuple[RequiredApproval, ...] = Field(min_length=1, description="who must approve")
    valid_for: Annotated[str, Field(pattern=PERIOD)] = Field(description="how long an approval holds, like 48h")
    separation: tuple[Separation, ...] = Field(description="who may not approve")
    exceptions: ExceptionPolicy | None = Field(None, description="whether a gate of the evaluation may be excepted, by whom, for how long")

    by_change: dict[ReleaseClass, tuple[RequiredApproval, ...]] | None = Field(
        None, description="who must approve besides, by what the definition changed since the release in production")

    @property
    def valid_seconds(self) -> int:
        return seconds_of(self.valid_for)

    def required(self, change: ReleaseClass) -> dict[str, int]:
        """How many distinct people of each role a release of this class needs: those of `requires`, and those of `by_change` besides."""
        wanted = places(self.requires)
        for role, people in places(self.by_change[change] if self.by_change is not None and change in self.by_change else ()).items():
            wanted[role] = max(people, wanted[role] if role in wanted else 0)
        return wanted


class Shadow(Declared):
    requests: int = Field(ge=1, description="live requests that it answers unheard")


class Canary(Declared):
    share: Annotated[float, Field(gt=0, lt=1)] = Field(description="share of requests that it answers")
    requests: int = Field(ge=1, description="requests before the step is judged")
    minimum_group: int = Field(ge=1, description="answers per group below which the step holds instead of judging")


class ShadowStep(Declared):
    shadow: Shadow = Field(description="answers are compared, never returned")


class CanaryStep(Declared):
    canary: Canary = Field(description="a bounded share of answers is returned")


class FullStep(Declared):
    full: dict[str, Any] = Field(max_length=0, description="every answer is the new model's; takes no keys")


def _step_kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((name for name in ("shadow", "canary", "full") if name in value), None)
    return "shadow" if isinstance(value, ShadowStep) else "canary" if isinstance(value, CanaryStep) else (
        "full" if isinstance(value, FullStep) else None)


Step = Annotated[
    Annotated[ShadowStep, Tag("shadow")] | Annotated[CanaryStep, Tag("canary")] | Annotated[FullStep, Tag("full")],
    Discriminator(_step_kind, custom_error_type="shape",
                  custom_error_message="a step is one of shadow: {...}, canary: {...}, full: {}"),
]


AbortMetric = Literal["error_rate", "latency_ratio_p95", "selection_rate_ratio", "decision_flip_rate", "unlogged_rate",
                      "score_shift"]


class AbortRule(Declared):
    metric: AbortMetric = Field(description="what is watched during rollout")
    above: float | None = Field(None, description="abort when it rises above this")
    below: float | None = Field(None, description="abort when it falls below this")
    over: Name | None = Field(None, description="the protected attribute, for selection_rate_ratio")

    @model_validator(mode="after")
    def _one_side(self) -> AbortRule:
        wanted, other = ("below", "above") if self.metric == "selection_rate_ratio" else ("above", "below")
        if (self.above is None) == (self.below is None):
            refuse(Problem((), f"the abort rule on {self.metric} needs exactly one of above, below", f"Here it is {wanted}."))
        if getattr(self, wanted) is None:
            refuse(Problem((other,), f"the abort rule on {self.metric} has the wrong direction: use {wanted}"))
        if self.metric == "selection_rate_ratio" and self.over is None:
            refuse(Problem((), "the abort rule on selection_rate_ratio needs over: an attribute"))
        if self.metric != "selection_rate_ratio" and self.over is not None:
            refuse(Problem(("over",), f"the abort rule on {self.metric} does not take over:"))
        return self


class Overrides(Declared):
    """How often people should decide otherwise than the model (Art. 14(4)(b), (d)); the monitor warns when they surely do not.

    Often: the model does not serve them. Never: nobody looks any more (automation bias).
    """

    between: tuple[Share, Share] = Field(description="lowest and highest expected share of decisions that people override")
    decisions: int = Field(ge=1, description="fewest decisions from which on the share says anything")
    because: Reason

    @model_validator(mode="after")
    def _rising(self) -> Overrides:
        if self.between[0] >= self.between[1]:
            refuse(Problem(("between",), f"overrides between [{plain(self.between[0])}, {plain(self.between[1])}] is empty",
                           "Write the lowest share first."))
        return self


class Deployment(Declared):
    environment: Name = Field(description="an environment of organisation.yaml")
    steps: tuple[Step, ...] = Field(min_length=1, description="shadow, canary (one or more, rising shares), full")
    abort_when: tuple[AbortRule, ...] = Field(
        min_length=1, description="what ends a rollout and brings the previous model back")
    wait_seconds: int = Field(ge=1, description="how long a step waits for its requests before it holds and tells a person")
    overrides: Overrides | None = Field(None, description="how often people are expected to decide otherwise than the model")

    @field_validator("steps")
    @classmethod
    def _ordered(cls, steps: tuple[Any, ...]) -> tuple[Any, ...]:
        order: dict[type[Declared], int] = {ShadowStep: 0, CanaryStep: 1, FullStep: 2}
        places = [order[type(step)] for step in steps]
        if places != sorted(places) or places[-1] != 2 or places.count(2) != 1 or 0 not in places or 1 not in places:
            raise ValueError("steps go shadow, canary (one or more, rising shares), full")
        shares = [step.canary.share for step in steps if isinstance(step, CanaryStep)]
        if shares != sorted(set(shares)):
            raise ValueError("canary shares must rise")
        return steps


class OnDrift(Declared):
    psi: Annotated[float, Field(gt=0)] = Field(description="population stability index from which drift counts")
    windows: tuple[int, int] = Field(description="[k, n]: in k of the last n windows")


class Retraining(Declared):
    schedule: Annotated[str, Field(pattern=CRON)] | None = Field(None, description="cron expression, five fields, UTC")
    on_new_data: bool = Field(description="whether a new raw snapshot starts a run")
    on_drift: OnDrift | None = Field(None, description="drift that starts a run")
    driven_by: Literal["pipeline", "runbook"] = Field(
        "pipeline", description="runbook: stages run by hand only, with a signed log; pipeline: by anything, by hand as a fallback")


class Retention(Declared):
    documentation_years: int = Field(ge=10, description="Art. 18(1): at least ten")
    operation_logs_months: int = Field(ge=6, description="Art. 19(1): at least six")


class Risk(Declared):
    annex_iii: Text = Field(description="point of Annex III, like 5(b), or none")
    basis: Text = Field(description="why it falls there")


class Aisdp(Declared):
    reference: Text = Field(description="the documentation package")
    module_2: Text = Field(description="its module 2, the development process")


def _not_this_task(mitigation: Reweighing | GridSearch | CorrelationRemover, task: Task) -> Iterator[Problem]:
    """What the field has no mitigation of this kind for, with the reason."""
    place: Where = ("training", "mitigation")
    if mitigation.kind == "reweighing" and task == "regression":
        yield Problem(place, "reweighing weighs each label within each group, and a number has no labels to weigh",
                      "Use grid_search with bounded_group_loss, or correlation_remover.")
    elif mitigation.kind == "grid_search" and task == "multiclass":
        yield Problem(place, "grid_search relabels and weighs rows of two outcomes (Agarwal et al. 2018); no reduction of several classes "
                      "is known here", "Use reweighing or correlation_remover.")
    elif mitigation.kind == "grid_search" and (mitigation.constraint == "bounded_group_loss") != (task == "regression"):
        said, way = ("two outcomes; this one predicts a number", "Use bounded_group_loss.") if task == "regression" else (
            "a predicted number; this one decides between two outcomes", "Use demographic_parity or equalized_odds.")
        yield Problem((*place, "constraint"), f"{mitigation.constraint} is about {said}", way)


class System(Declared):
    """One AI system, whole."""

    system: Name = Field(description="the system's name; its folder is called the same")
    title: Text = Field(description="what people call it")
    provider: Text = Field(description="who answers for it")
    intended_purpose: Reason
    risk: Risk = Field(description="its place in the AI Act")
    aisdp: Aisdp = Field(description="its documentation package")
    data: Data = Field(description="what it learns from")
    features: Features = Field(description="what it sees")
    training: Training = Field(description="how it learns")
    evaluation: Evaluation = Field(description="what it must prove")
    integration: Integration = Field(description="what its server must prove")
    approval: ApprovalPolicy = Field(description="who must agree")
    deployment: Deployment = Field(description="how it goes live, and when it comes back")
    retraining: Retraining = Field(description="when it learns again")
    retention: Retention = Field(description="how long evidence is kept")
    residency: Text = Field(description="where data and evidence are kept; recorded with every run")

    @model_validator(mode="after")
    def _joined(self) -> System:
        refuse_any((*self._other_task(), *self._unknown_features(), *self._unknown_attributes(), *self._unknown_groups(),
                    *self._leaks(), *self._undecided()))
        return self

    def _unknown_attributes(self) -> Iterator[Problem]:
        protected = sorted(self.data.protected)
        for where, named in self._attribute_uses():
            unknown = sorted(set(named.split("*")) - set(protected))
            if unknown:
                yield Problem(where, f"{', '.join(unknown)} is not declared under data.protected",
                              f"Declared: {', '.join(protected)}.")

    def _attribute_uses(self) -> Iterator[tuple[Where, str]]:
        for index, item in enumerate(self.data.intersections):
            yield ("data", "intersections", index), item
        for number, complete in enumerate(self.data.completeness):
            for index, item in enumerate(complete.over):
                yield ("data", "completeness", number, "over", index), item
        if self.data.conflicting_labels is not None:
            for index, item in enumerate(self.data.conflicting_labels.over):
                yield ("data", "conflicting_labels", "over", index), item
        for number, current in enumerate(self.data.currentness):
            for index, item in enumerate(current.over):
                yield ("data", "currentness", number, "over", index), item
        for name in self.data.reference_population.shares:
            yield ("data", "reference_population", "shares", name), name
        for _, place, bound in self.evaluation.placed_bounds():
            for index, item in enumerate(bound.over):
                yield ("evaluation", *place, "over", index), item
        for number, disturbed in enumerate(self.evaluation.robustness):
            if disturbed.attribute is not None:
                yield ("evaluation", "robustness", number, "attribute"), disturbed.attribute
        if self.training.mitigation is not None:
            yield ("training", "mitigation", "over"), self.training.mitigation.over
        for index, rule in enumerate(self.deployment.abort_when):
            if rule.over is not None:
                yield ("deployment", "abort_when", index, "over"), rule.over
        if self.data.used_as_features != "none":
            for index, use in enumerate(self.data.used_as_features):
                yield ("data", "used_as_features", index, "attribute"), use.attribute

    def _other_task(self) -> Iterator[Problem]:
        """What cannot be meant for what is predicted: two outcomes, several classes, or a number."""
        task, threshold = self.data.target.task, self.evaluation.decision_threshold
        decides = {"binary": "this one decides between two outcomes", "multiclass": "this one decides between several classes",
                   "regression": "this one predicts a number"}[task]
        for family, where, bound in self.evaluation.placed_bounds():
            info = METRICS[bound.metric]
            if task not in info.task:
                fit = (one.name for one in METRICS.values() if _may_stand(one, family) and task in one.task)
                yield Problem(("evaluation", *where, "metric"),
                              f"{bound.metric} measures a {' or '.join(sorted(info.task))} model; {decides}",
                              f"Known here: {', '.join(fit)}.")
            elif info.needs == ("y", "lower", "upper"):
                yield Problem(("evaluation", *where, "metric"), f"{bound.metric} needs prediction intervals, which no model here gives",
                              "Take the bound away.")
        if task != "regression" and not 0 < threshold < 1:
            yield Problem(("evaluation", "decision_threshold"), "a probability from which on it is decided lies between 0 and 1",
                          got=plain(threshold))
        search, mitigation = self.training.search, self.training.mitigation
        if search is not None and search.choose_by not in choosable(task):
            yield Problem(("training", "search", "choose_by"), f"a search cannot choose by {search.choose_by}; {decides}",
                          f"Use one of {', '.join(choosable(task))}.")
        if mitigation is not None:
            yield from _not_this_task(mitigation, task)

    def _unknown_features(self) -> Iterator[Problem]:
        registry = {feature.name: feature for feature in self.features.registry}
        for number, rule in enumerate(self.evaluation.robustness):
            for where, name in (("feature", rule.feature), *(("mutable", name) for name in rule.mutable or ())):
                if name is not None and name not in registry:
                    yield Problem(("evaluation", "robustness", number, where), f"{name} is not a registered feature",
                                  f"Registered: {', '.join(registry)}.")

    def _unknown_groups(self) -> Iterator[Problem]:
        """Expected shares name declared groups; where they name every group, they are the whole population."""
        for name, shares in self.data.reference_population.shares.items():
            if name not in self.data.protected:
                continue
            place: Where = ("data", "reference_population", "shares", name)
            groups = {str(group) for group in self.data.protected[name].groups}
            for unknown in sorted(set(shares) - groups):
                yield Problem((*place, unknown), f"{unknown} is not a group of {name}", f"Its groups: {', '.join(sorted(groups))}.")
            total = sum(shares.values())
            if set(shares) == groups and abs(total - 1) > 0.005:
                yield Problem(place, f"the expected shares of {name} add up to {total:.10g}, not 1")

    def _leaks(self) -> Iterator[Problem]:
        if self.data.target.column == self.data.key:
            yield Problem(("data", "target", "column"), "the key cannot be the target")
        for index, feature in enumerate(self.features.registry):
            if self.data.target.column in feature.from_:
                yield Problem(("features", "registry", index, "from"), f"feature {feature.name} is computed from the target",
                              "What is to be predicted is not known when the prediction is made.")
            if feature.known_at is not None and self.data.decided_at is None:
                yield Problem(("features", "registry", index, "known_at"), f"nothing says when the decision about {feature.name} is made",
                              "Declare data.decided_at.")

    def _undecided(self) -> Iterator[Problem]:
        allowed = self.approval.exceptions
        if allowed is not None and self.evaluation.undecided == "refuse" and {"INCONCLUSIVE", "INSUFFICIENT_DATA"} & set(allowed.covers):
            yield Problem(("approval", "exceptions", "covers"), "evaluation.undecided says that an undecided verdict is refused",
                          "Write evaluation.undecided: exception, or take INCONCLUSIVE and INSUFFICIENT_DATA away here.")

    def declaration(self) -> dict[str, Any]:
        """The resolved declaration as plain JSON values, numbers as decimal strings: what the definition digest covers."""
        return _canonical(self.model_dump(mode="json", by_alias=True))  # type: ignore[no-any-return]  # a dict stays a dict


def _canonical(value: Any) -> Any:
    """Floats become their shortest decimal string, so that the declaration can be signed."""
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return decimal_string(value)
    if isinstance(value, dict):
        return {str(key).encode("unicode_escape").decode("ascii"): _canonical(item) for key, item in value.items()}
    return [_canonical(item) for item in value]
