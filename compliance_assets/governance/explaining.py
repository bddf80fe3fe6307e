"""One decision about one person, rebuilt from stored bytes: is it the same, and which features moved it?

The log says what was answered; the deployment's record says which model, which code and which threshold answered. All are
fetched by digest and asked again, whatever was rolled out or retrained since, and what differs is said. The contributions put a
plain question to the model itself: what would the score be if one feature had its usual value? They describe this model's answer,
not its causes; they help with the explanation that a person may ask for (AI Act Art. 86(1)). The method is our own convention.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compliance_assets.errors import ArtefactCorrupt, Misused, OutOfTurn
from compliance_assets.evidence.archive import Archive, Record
from compliance_assets.pipeline import River
from compliance_assets.serving.inference_log import Decision, decisions_of_request, input_of
from compliance_assets.serving.row_texts import row_digest
from compliance_assets.serving.spec import restore_snapshot
from compliance_assets.stages.s2_feature_engineering import FeatureSet, read_features
from compliance_assets.trust.canonical import Digest, decimal_string

if TYPE_CHECKING:
    import polars as pl

    from compliance_assets.policy.definition import Definition


@dataclass(frozen=True)
class Comparison:
    """One thing that the log says of the decision, beside what came out when it was asked again."""

    what: str
    logged: str
    rebuilt: str

    @property
    def same(self) -> bool:
        return self.logged == self.rebuilt


@dataclass(frozen=True)
class Contribution:
    """A feature's value, its usual one in the training rows, and how far the score moves between the two (this one minus that one)."""

    feature: str
    value: str
    usual: str
    moves: str


@dataclass(frozen=True)
class Explanation:
    """What was decided, by what, whether it comes out the same now, and which features moved it, strongest first."""

    decision: Decision
    deployed: Record
    threshold: str
    row: Mapping[str, Any]
    comparisons: tuple[Comparison, ...]
    contributions: tuple[Contribution, ...]
    why_no_contributions: str

    def __bool__(self) -> bool:
        return bool(self.comparisons) and all(one.same for one in self.comparisons)

    def as_json(self) -> dict[str, Any]:
        """For machines; numbers as text."""
        logged = self.decision
        return {
            "inference_id": logged.id, "time": logged.time, "environment": logged.environment, "server": logged.server,
            "role": logged.role, "model": logged.model, "release": logged.release, "score": logged.score, "decision": logged.decision,
            "threshold": self.threshold,
            "definition": self.deployed.body.definition, "approval": self.deployed.body.approval, "ledger_index": self.deployed.index,
            "input": dict(self.row), "same": bool(self),
            "comparisons": [{"what": one.what, "logged": one.logged, "rebuilt": one.rebuilt, "same": one.same} for one in self.comparisons],
            "contributions": [one.__dict__ for one in self.contributions], "contributions_missing": self.why_no_contributions,
            "method": "one feature at a time set to its usual value in the training rows (median, or most frequent category)",
        }


def explain(river: River, inference: str) -> Explanation:
    """Rebuild one logged decision.

    Raises `Misused` for an id that no log holds, `OutOfTurn` where the input was deleted or no record lets its model answer there,
    `ArtefactCorrupt` where the model or the code is no longer stored.
    """
    log = river.home.path / "serving"
    request = decisions_of_request(log, inference)
    if not request:
        raise Misused(f"No inference log of this home holds {inference}.", rule="inference id", value=inference,
                      remedy="Use an inference_id as the answer gave it; logs are kept under serving/ in the home.")
    decision = next(one for one in request if one.id == inference)
    rows = [input_of(log, one) for one in request]
    lost = [one.id for one, row in zip(request, rows, strict=True) if row is None]
    row = rows[request.index(decision)]
    if row is None:
        raise OutOfTurn(f"The input of {inference} is no longer kept, so its decision cannot be rebuilt; that it was made stays on "
                        "record.", rule="inputs are kept", value=inference,
                        remedy=f"Ask whoever holds a copy of the inputs of {decision.time[:10]}.")
    # Answered together, computed together; where another row of the request is gone, this one is computed alone.
    together = [decision] if lost else request
    deployed = _deployed(river.archive, decision)
    body = deployed.body
    with tempfile.TemporaryDirectory() as place:
        definition = _definition(river.archive, body, Path(place))
        model = _model(river.archive, body)
        frame, scores = _asked(definition, model, [row] if lost else [one for one in rows if one is not None])
        at = together.index(decision)
        threshold = definition.system.evaluation.decision_threshold
        decided = "favourable" if scores[at] >= threshold else "unfavourable"
        comparisons = (
            Comparison("input", decision.input, row_digest(row)),
            Comparison("features", decision.features, row_digest(frame.row(at, named=True))),
            Comparison("score", decision.score, repr(scores[at])),
            Comparison("decision", decision.decision, decided))
        contributions, why = _contributions(river, body, model, frame[at])
    return Explanation(decision, deployed, decimal_string(threshold), row, comparisons, contributions, why)


def _deployed(archive: Archive, decision: Decision) -> Record:
    """The latest record under which this model was to answer there when it did."""
    found = [record for record in archive.deployments(decision.environment)
             if record.body.action == "intent" and (record.body.model, record.body.release) == (decision.model, decision.release)
             and record.body.at <= decision.time]
    if not found:
        raise OutOfTurn(f"No deployment record lets model {decision.model[:12]} answer in {decision.environment}.",
                        rule="answers are authorised", value=decision.model,
                        remedy="Requests of the integration tests are explained by their report; any other is a finding: report it.")
    return found[-1]


def _definition(archive: Archive, body: Any, place: Path) -> Definition:
    from compliance_assets.policy.definition import load_definition

    return load_definition(restore_snapshot(Digest.parse(body.evidence["snapshot"]), archive.artefacts, place))


def _model(archive: Archive, body: Any) -> Any:
    from compliance_assets.modelfile import load

    return load(archive.artefacts.get_bytes(Digest.parse(body.model)), tuple(body.evidence["trusted_types"]))


def _asked(definition: Definition, model: Any, rows: Sequence[Mapping[str, Any]]) -> tuple[pl.DataFrame, list[float]]:
    """The features of these rows and the scores that the model gives them, as the server computes both."""
    from compliance_assets.features import serving_features
    from compliance_assets.modelfile import favourable_scores

    frame = serving_features(definition, rows)
    return frame, [float(score) for score in favourable_scores(model, frame)]


def _contributions(river: River, body: Any, model: Any, seen: pl.DataFrame) -> tuple[tuple[Contribution, ...], str]:
    """How far each feature moves the score of one row (shape (1, features)) from its usual value; or why that is not known."""
    import polars as pl

    from compliance_assets.modelfile import favourable_scores

    candidate = river.archive.executions_of(Digest.parse(body.staged))[-1].body.inputs["candidate_model"]
    made_from = river.archive.executions_of(Digest.parse(candidate))[-1].body.inputs["features"]
    features = river.value("features", Digest.parse(made_from))
    assert isinstance(features, FeatureSet)
    try:
        usual = _usual(read_features(river.archive.artefacts, features, "train"))
    except ArtefactCorrupt as error:
        return (), f"the training rows are not in the store: {error.message}"
    names = [name for name in seen.columns if name in usual]
    changed = pl.concat([seen, *(seen.with_columns(pl.lit(usual[name], dtype=seen.schema[name]).alias(name)) for name in names)])
    score, *others = (float(one) for one in favourable_scores(model, changed))
    found = [(abs(score - other), Contribution(name, _text(seen[name][0]), _text(usual[name]), decimal_string(round(score - other, 6))))
             for name, other in zip(names, others, strict=True)]
    return tuple(one for _, one in sorted(found, key=lambda item: (-item[0], item[1].feature))), ""


def _usual(train: pl.DataFrame) -> dict[str, Any]:
    """Median of a number (a value that occurs), most frequent other value (the first by name among equals)."""
    import polars as pl

    found: dict[str, Any] = {}
    for name, dtype in train.schema.items():
        values = train[name].drop_nulls()
        if dtype.is_float():
            values = values.drop_nans()
        if not len(values):
            continue
        found[name] = values.quantile(0.5, "nearest") if dtype.is_numeric() else values.cast(pl.String).mode().sort()[0]
        if dtype.is_integer():
            found[name] = int(found[name])
    return found


def _text(value: Any) -> str:
    return "nothing" if value is None else decimal_string(value) if isinstance(value, float) else str(value)
