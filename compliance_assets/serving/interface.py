"""What may be asked of a model: the data contract, turned into a typed interface that refuses everything outside it.

The columns are those that the declared features are computed from, with the type, range and categories that the data
contract names, so that a row which training would have refused is refused here too: never guessed, never filled in
(AI Act Art. 15(4)). A column that may be null must still be sent, as null. A column without a type, or without range and
categories, is no promise, and the interface is not built.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, create_model

from compliance_assets.errors import ServingError

if TYPE_CHECKING:
    from compliance_assets.policy.contract import ColumnContract
    from compliance_assets.policy.system import System

MOST_ROWS = 1000
MOST_BYTES = 4 * 1024 * 1024
MOST_ERRORS = 20
_WORD = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class Problem(Exception):  # RFC 9457 calls it so
    """A request that is refused; becomes an `application/problem+json` body (RFC 9457)."""

    def __init__(self, status: int, title: str, detail: str, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)[:MOST_ERRORS]

    def body(self) -> bytes:
        content = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail,
                   "errors": list(self.errors)}
        return json.dumps(content, allow_nan=False).encode()


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def needed_columns(system: System) -> tuple[str, ...]:
    """The raw columns that the declared features are computed from, each once, in order of first use."""
    return tuple(dict.fromkeys(column for feature in system.features.registry for column in feature.from_))


def row_model(system: System, columns: Sequence[ColumnContract]) -> type[BaseModel]:
    """The pydantic model of one row. `ServingError` if the contract leaves a needed column open."""
    by_name = {column.name: column for column in columns}
    fields: dict[str, Any] = {}
    for position, name in enumerate(needed_columns(system)):
        if name not in by_name:
            raise _open(name, "the contract does not speak of it")
        # The alias carries the column's own name: names such as `class` or `capital-gain` are no Python identifiers.
        fields[f"column_{position}"] = (_annotation(by_name[name]), Field(alias=name))
    return create_model("Row", __base__=_Strict, **fields)


def _annotation(column: ColumnContract) -> Any:
    if column.categories is not None:
        annotation: Any = Literal[tuple(column.categories)]
    elif column.type == "bool":
        annotation = bool
    elif column.type in ("int64", "float64"):
        if column.minimum is None or column.maximum is None:
            raise _open(column.name, "it has no range")
        kind: Any = int if column.type == "int64" else float
        annotation = Annotated[kind, _range(column, column.minimum, column.maximum)]
    else:
        raise _open(column.name, f"type {column.type or 'unknown'} without categories")
    return annotation | None if column.nullable else annotation


def _range(column: ColumnContract, lowest: float, highest: float) -> Any:
    low, high = (math.ceil(lowest), math.floor(highest)) if column.type == "int64" else (lowest, highest)
    strict_low = column.strict_minimum and low == lowest
    strict_high = column.strict_maximum and high == highest
    return Field(gt=low if strict_low else None, ge=None if strict_low else low, lt=high if strict_high else None,
                 le=None if strict_high else high)


def _open(column: str, why: str) -> ServingError:
    return ServingError(f"Column {column} cannot be asked for: {why}.", rule="typed interface", value=column,
                        remedy="Give it a type and a range or categories in the data contract (expectations.json).")


def request_model(row: type[BaseModel], attributes: Iterable[str] = ()) -> type[BaseModel]:
    """The body of POST /predict: rows, and per row the groups that are used for monitoring and for nothing else."""
    monitoring = create_model("Monitoring", __base__=_Strict, **{  # type: ignore[call-overload]  # fields by name
        f"attribute_{i}": (_WORD | None, Field(default=None, alias=name)) for i, name in enumerate(attributes)})
    fields: dict[str, Any] = {
        "rows": (list[row], Field(min_length=1, max_length=MOST_ROWS)),  # type: ignore[valid-type]  # made by row_model
        "monitoring": (list[monitoring] | None,
                       Field(default=None, description="protected groups by row: logged for monitoring, never shown to the model")),
        "request_id": (_WORD | None, Field(default=None)),
    }
    return create_model("PredictRequest", __base__=_Strict, **fields)


class Version(BaseModel):
    """The composite version: everything that an answer depends on."""

    system: str
    release: str
    model: str = Field(description="sha256 of the model file")
    definition: str = Field(description="digest of the definition it was judged under")
    environment: str


class PredictAnswer(BaseModel):
    inference_ids: list[str]
    scores: list[float] = Field(description="probability of a favourable outcome, each in [0, 1]; or the number that is predicted")
    decisions: list[Literal["favourable", "unfavourable"]]
    version: Version


class ProblemBody(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]]


def _refuse_constant(name: str) -> NoReturn:
    raise Problem(422, "Outside the contract", f"{name} is not a number that a model may be asked about.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Problem(422, "Outside the contract", "A key occurs twice in one object.")
    return found


def parse_json(body: bytes) -> Any:
    """JSON text as a value; a `Problem` for text that is not JSON, for NaN and infinities, and for keys given twice."""
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # not UTF-8 and integers of absurd length are ValueErrors too
        raise Problem(400, "Not JSON", f"The body does not parse as JSON ({type(error).__name__}).") from None


def validated(model: type[BaseModel], value: Any) -> Any:
    """`value` as an instance of `model`, or a `Problem` that names row, column and what is wrong, never the value sent."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [{"where": ".".join(str(part) for part in detail["loc"]), "problem": detail["msg"], "kind": detail["type"]}
              for detail in details]
    first = errors[0]
    raise Problem(422, "Outside the contract", f"{first['where'] or 'body'}: {first['problem']}"
                  + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""), errors)


def plain_row(row: BaseModel) -> dict[str, Any]:
    """A validated row by its columns' own names."""
    return row.model_dump(by_alias=True)


def components(*models: type[BaseModel]) -> dict[str, Any]:
    """JSON schemas of the models, as OpenAPI components."""
    found: dict[str, Any] = {}
    for model in models:
        schema = model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
        found.update(schema.pop("$defs", {}))
        found[model.__name__] = schema
    return found
