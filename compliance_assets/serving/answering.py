"""One request becomes answers: validated, turned into features, scored, decided, logged; and only then given.

Features come from the very function that training used. The model is called by one thread at a time. Protected groups that
a caller sends along go to the log, for monitoring, and never to the model.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from compliance_assets.errors import ComplianceError, ServingError
from compliance_assets.serving.inference_log import (
    ANSWERING,
    SHADOW,
    Answered,
    InferenceLog,
    new_decision_ids,
    now_text,
)
from compliance_assets.serving.interface import MOST_ROWS, Problem, parse_json, plain_row, validated
from compliance_assets.serving.loading import Loaded
from compliance_assets.serving.row_texts import RowTexts
from compliance_assets.serving.switch import StopSwitch

SHADOW_HOST = "answering-shadow"
"""The Host that the router, and nobody who comes through the router, gives to a mirrored request."""
LONGEST_REQUEST_ID = 100


class Tensor(BaseModel):
    """One column of an Open Inference (V2) request."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    shape: list[int] = Field(min_length=1, max_length=2)
    datatype: Literal["FP64", "FP32", "INT64", "INT32", "BOOL", "BYTES"]
    data: list[float | int | bool | str | None] = Field(min_length=1, max_length=MOST_ROWS)
    parameters: dict[str, Any] | None = None


class V2Request(BaseModel):
    """Open Inference protocol, V2: a column-wise request, one tensor for each column of the interface."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: str | None = Field(default=None, max_length=LONGEST_REQUEST_ID)
    inputs: list[Tensor] = Field(min_length=1, max_length=1000)
    outputs: list[dict[str, Any]] | None = None
    parameters: dict[str, Any] | None = None


@dataclass(frozen=True)
class Called:
    """What a request's headers say."""

    host: str
    request_id: str | None
    started: float = field(default_factory=time.monotonic)

    @property
    def role(self) -> str:
        return SHADOW if self.host == SHADOW_HOST else ANSWERING


class Answering:
    """A loaded model, its log and the stop switch."""

    def __init__(self, loaded: Loaded, log: InferenceLog, switch: StopSwitch) -> None:
        self.loaded = loaded
        self.log = log
        self.switch = switch
        self._one_at_a_time = threading.Lock()

    def predict(self, body: bytes, called: Called) -> dict[str, Any]:
        """POST /predict."""
        self._refuse_while_stopped()
        request = validated(self.loaded.request, parse_json(body))
        rows = [plain_row(row) for row in request.rows]
        groups: list[dict[str, str]] = [{} for _ in rows]
        if request.monitoring is not None:
            if len(request.monitoring) != len(rows):
                raise Problem(422, "Outside the contract", f"monitoring: {len(request.monitoring)} entries for {len(rows)} rows.")
            groups = [{name: group for name, group in entry.model_dump(by_alias=True).items() if group is not None}
                      for entry in request.monitoring]
        return self._answer(rows, groups, called, request.request_id)

    def infer(self, body: bytes, called: Called) -> dict[str, Any]:
        """POST /v2/models/{system}/infer."""
        self._refuse_while_stopped()
        request: V2Request = validated(V2Request, parse_json(body))
        rows = [plain_row(validated(self.loaded.row, row)) for row in _rows_of(request.inputs)]
        answer = self._answer(rows, [{} for _ in rows], called, request.id)
        shape = [len(rows)]
        outputs = [{"name": "score", "datatype": "FP64", "shape": shape, "data": answer["scores"]},
                   {"name": "decision", "datatype": "BYTES", "shape": shape, "data": answer["decisions"]},
                   {"name": "inference_id", "datatype": "BYTES", "shape": shape, "data": answer["inference_ids"]}]
        return {"model_name": self.loaded.spec.system, "model_version": self.loaded.spec.model,
                "id": request.id or answer["inference_ids"][0], "outputs": outputs, "parameters": answer["version"]}

    def _refuse_while_stopped(self) -> None:
        reason = self.switch.reason
        if reason is not None:
            raise Problem(503, "Stopped by people", f"No answers are given: {reason}.")

    def _answer(self, rows: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, str]], called: Called,
                body_id: str | None) -> dict[str, Any]:
        spec = self.loaded.spec
        columns = {name: [row[name] for row in rows] for name in self.loaded.columns}
        scores, features = self._scores(columns, len(rows))
        decided = ["favourable" if score >= self.loaded.threshold else "unfavourable" for score in scores]
        request_id = called.request_id or body_id or uuid.uuid4().hex
        if len(request_id) > LONGEST_REQUEST_ID:
            raise Problem(422, "Outside the contract", f"x-request-id: longer than {LONGEST_REQUEST_ID} characters.")
        moment, microseconds = now_text(), int((time.monotonic() - called.started) * 1e6)
        texts = RowTexts(columns)
        answered = Answered(
            time=moment, request_id=request_id, model=spec.model, release=spec.release, environment=spec.environment, server=spec.server,
            role=called.role, microseconds=microseconds, ids=new_decision_ids(len(rows)), inputs=texts.digests(),
            features=RowTexts(features).digests(), scores=[repr(score) for score in scores], decisions=decided, monitoring=groups,
            sent=texts.sent())
        try:
            self.log.append_answer(answered)
        except ServingError as error:
            raise Problem(503, "Not logged, so not answered", str(error)) from error
        return {"inference_ids": list(answered.ids), "scores": scores, "decisions": decided, "version": self.loaded.version}

    def _scores(self, columns: Mapping[str, Sequence[Any]], rows: int) -> tuple[list[float], dict[str, list[Any]]]:
        """Scores and, column by column, the features they rest on. What the feature code cannot compute is a refusal, never a guess."""
        from polars.exceptions import PolarsError

        from compliance_assets.features import features_of_columns

        loaded = self.loaded
        with self._one_at_a_time:
            try:
                frame = features_of_columns(loaded.definition, columns, loaded.schema, loaded.types)
            except (ComplianceError, PolarsError, ArithmeticError, ValueError, TypeError, KeyError) as error:
                said = (str(error).splitlines() or [""])[0]
                raise Problem(422, "Features cannot be computed", f"{type(error).__name__}: {said}") from error
            if frame.height != rows:
                raise Problem(422, "Features cannot be computed", f"{frame.height} rows of features for {rows} rows.")
            scores: list[float] = loaded.scores(frame).tolist()
        if not all(map(math.isfinite, scores)):
            raise Problem(503, "No answer", "The model gave something that is not a number.")
        return scores, {column.name: column.to_list() for column in frame.iter_columns()}


def _rows_of(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
    names = [tensor.name for tensor in tensors]
    lengths = {len(tensor.data) for tensor in tensors}
    if len(set(names)) != len(names) or len(lengths) != 1:
        raise Problem(422, "Outside the contract", "inputs: each column once, all of the same length.")
    for tensor in tensors:
        if math.prod(tensor.shape) != len(tensor.data) or tensor.shape[0] != len(tensor.data):
            raise Problem(422, "Outside the contract",
                          f"inputs.{tensor.name}: shape {tensor.shape} does not fit {len(tensor.data)} values.")
    return [dict(zip(names, values, strict=True)) for values in zip(*(tensor.data for tensor in tensors), strict=True)]
