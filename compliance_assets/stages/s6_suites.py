"""The tests of stage 6, each asked of a server that runs: contract, parity, golden cases, the whole way, latency.

A suite asks and writes down; `s6_integration_testing` judges. Every item names its gate, what was asked and what came back,
without times, so that the same server gives the same items. A test that cannot be carried out is an item that failed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from compliance_assets.errors import ServingError
from compliance_assets.policy.contract import ColumnContract
from compliance_assets.serving.client import Answer, Client
from compliance_assets.serving.inference_log import Decision
from compliance_assets.serving.interface import MOST_BYTES, MOST_ROWS, needed_columns
from compliance_assets.serving.spec import ServerSpec

Row = Mapping[str, Any]
BATCH = 250
SAME_SCORE = 1e-12
LATENCY_REQUESTS = 100
WARMING = 5


class Item(BaseModel):
    """One test: the gate it belongs to, what it says, whether it held, what was seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate: str
    name: str
    passed: bool
    value: str
    expected: str
    detail: str = ""


@dataclass
class Asked:
    """Everything that the server answered with a decision: to be found again in its log."""

    rows: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Score and decision by inference id."""

    def note(self, answer: Mapping[str, Any]) -> None:
        for inference, score, decision in zip(answer["inference_ids"], answer["scores"], answer["decisions"], strict=True):
            self.rows[inference] = (score, decision)


def identity(client: Client, spec: ServerSpec, registry_digest: str, stored_digest: str) -> Iterator[Item]:
    """Registry, artefact store and server hold the same bytes; the version answered is the composite one."""
    yield _item("identity", "registry holds the staged bytes", registry_digest, spec.model)
    yield _item("identity", "artefact store holds the staged bytes", stored_digest, spec.model)
    ready = client.get("/v2/health/ready")
    yield _item("identity", "the server is ready with the staged bytes", _get(ready, "model"), spec.model)
    version = client.get("/version")
    for part, expected in (("system", spec.system), ("release", spec.release), ("model", spec.model),
                           ("definition", spec.definition)):
        yield _item("identity", f"the version names the {part}", _get(version, part), expected)


def contract(client: Client, spec: ServerSpec, columns: Sequence[ColumnContract], needed: Sequence[str], row: Row,
             asked: Asked, *, numbers: bool = False) -> Iterator[Item]:
    """The interface describes every column, takes what is inside it, and answers everything outside with a 4xx problem."""
    described = client.get("/openapi.json")
    schema = described.json() if described.status == 200 else {}
    try:
        properties = schema["components"]["schemas"]["Row"]["properties"]
    except (KeyError, TypeError):
        properties = {}
    by_name = {column.name: column for column in columns}
    yield _item("contract", "OpenAPI describes exactly the needed columns", ", ".join(sorted(properties)),
                ", ".join(sorted(needed)))
    for name in needed:
        yield _item("contract", f"OpenAPI bounds {name}", "yes" if _is_bounded(properties.get(name)) else "no", "yes")
    answer = client.post_json("/predict", {"rows": [row]})
    valid = answer.status == 200
    yield _item("contract", "a valid row is answered", str(answer.status), "200")
    if valid:
        asked.note(answer.json())
        yield from _answer_format(answer.json(), numbers=numbers)
        yield from _v2_agrees(client, spec, by_name, needed, row, answer.json(), asked)
    for name, body in _outside(by_name, needed, row):
        yield _refusal(name, client.post("/predict", body, {"content-type": "application/json"}))
    yield _refusal("another method", client.get("/predict"))
    yield _refusal("another path", client.post_json("/predict/other", {"rows": [row]}))
    yield _refusal("an empty V2 request", client.post_json(f"/v2/models/{spec.system}/infer", {"inputs": []}))
    for name in needed:
        for word, edge in _edges(by_name[name]):
            answer = client.post_json("/predict", {"rows": [{**row, name: edge}]})
            if answer.status == 200:
                asked.note(answer.json())
            yield _item("contract", f"{name} at its {word} is answered, or refused with a reason",
                        "answered" if answer.status == 200 else "refused" if _is_problem(answer) else f"status {answer.status}",
                        "answered, or refused", passed=answer.status == 200 or _is_problem(answer))


def _answer_format(answer: Mapping[str, Any], *, numbers: bool) -> Iterator[Item]:
    keys = sorted(answer)
    yield _item("contract", "an answer has exactly its fields", ", ".join(keys), "decisions, inference_ids, scores, version")
    score = answer["scores"][0]
    sound = isinstance(score, float) and (math.isfinite(score) if numbers else 0 <= score <= 1)
    yield _item("contract", "a score is a finite number" if numbers else "a score is a probability", "yes" if sound else repr(score), "yes")
    yield _item("contract", "a decision is one of two words", str(answer["decisions"][0] in ("favourable", "unfavourable")), "True")


def _v2_agrees(client: Client, spec: ServerSpec, columns: Mapping[str, ColumnContract], needed: Sequence[str], row: Row,
               first: Mapping[str, Any], asked: Asked) -> Iterator[Item]:
    kinds = {"int64": "INT64", "float64": "FP64", "bool": "BOOL", "str": "BYTES"}
    inputs = [{"name": name, "shape": [1], "datatype": kinds[columns[name].type or "str"], "data": [row[name]]} for name in needed]
    answer = client.post_json(f"/v2/models/{spec.system}/infer", {"inputs": inputs})
    if answer.status != 200:
        yield _item("contract", "the Open Inference V2 route agrees", f"status {answer.status}", "the same score")
        return
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    asked.note({"inference_ids": outputs["inference_id"], "scores": outputs["score"], "decisions": outputs["decision"]})
    yield _item("contract", "the Open Inference V2 route agrees", repr(outputs["score"][0]), repr(first["scores"][0]))


def _outside(columns: Mapping[str, ColumnContract], needed: Sequence[str], row: Row) -> Iterator[tuple[str, bytes]]:
    """Requests that leave the contract in one way each: what it is, and the body."""
    def body(changed: Mapping[str, Any]) -> bytes:
        return json.dumps({"rows": [changed]}).encode()

    for name in needed:
        column = columns[name]
        yield f"{name} missing", body({key: value for key, value in row.items() if key != name})
        if not column.nullable:
            yield f"{name} null", body({**row, name: None})
        yield f"{name} of the wrong type", body({**row, name: 1.5 if column.type == "str" else "seven"})
        yield f"{name} as a list", body({**row, name: [row[name]]})
        if column.categories is not None:
            unseen: Any = "never-seen" if column.type == "str" else 987_654
            yield f"{name} of an unseen category", body({**row, name: unseen})
        elif column.numeric:
            yield f"{name} not a number", body({**row, name: math.nan})
            yield f"{name} infinite", body({**row, name: math.inf})
            step = 1 if column.type == "int64" else 0.5
            for word, edge, sign in (("below", column.minimum, -1), ("above", column.maximum, 1)):
                if edge is not None:
                    beyond = (int(edge) if column.type == "int64" else edge) + sign * step
                    yield f"{name} {word} its range", body({**row, name: beyond})
    good = json.dumps(row)
    yield "a column too many", body({**row, "a_column_too_many": 1})
    yield "a key twice", f'{{"rows": [{good}], "rows": [{good}]}}'.encode()
    yield "another key in the body", json.dumps({"rows": [row], "threshold": 0.1}).encode()
    yield "no rows", b'{"rows": []}'
    yield "too many rows", json.dumps({"rows": [row] * (MOST_ROWS + 1)}).encode()
    yield "a body too large", b'{"rows": ["' + b"x" * MOST_BYTES + b'"]}'
    yield "bad JSON", b'{"rows": [' + good.encode()
    yield "not UTF-8", b'{"rows": "\xff\xfe"}'
    yield "nested too deeply", b"[" * 100_000
    yield "no body", b""
    yield "a number too long", b'{"rows": ' + b"9" * 10_000 + b"}"


def _edges(column: ColumnContract) -> Iterator[tuple[str, Any]]:
    if column.categories is None and column.numeric:
        for word, edge, strict in (("lowest", column.minimum, column.strict_minimum),
                                   ("highest", column.maximum, column.strict_maximum)):
            if edge is not None and not strict:
                yield word, int(edge) if column.type == "int64" else edge


def parity(client: Client, rows: Sequence[Row], scores: Sequence[float], asked: Asked) -> Iterator[Item]:
    """Scores of the registry's model in this process, and the server's, to the bit; in batches and one by one."""
    served: list[float] = []
    for start in range(0, len(rows), BATCH):
        answer = client.post_json("/predict", {"rows": list(rows[start:start + BATCH])})
        if answer.status != 200:
            yield _item("parity", "every declared row is answered", f"status {answer.status}: {answer.body[:300]!r}", "200")
            return
        asked.note(answer.json())
        served += answer.json()["scores"]
    same = sum(repr(ours) == repr(theirs) for ours, theirs in zip(scores, served, strict=True))
    yield _item("parity", "registry and server agree to the bit", f"{same} of {len(rows)}", f"{len(rows)} of {len(rows)}")
    alone = [client.post_json("/predict", {"rows": [row]}).json() for row in rows[:10]]
    for answer in alone:
        asked.note(answer)
    # Trees agree to the bit. A linear model's last bit depends on how many rows BLAS multiplies at once; nothing else may.
    same = sum(abs(answer["scores"][0] - score) <= SAME_SCORE for answer, score in zip(alone, scores, strict=False))
    yield _item("parity", "a row alone and in a batch gets the same score to 1e-12", f"{same} of {len(alone)}",
                f"{len(alone)} of {len(alone)}")


def golden(client: Client, cases: Any, attributes: Mapping[str, Sequence[str]], asked: Asked) -> Iterator[Item]:
    """Cases that people agreed on, each decided as agreed; every declared subgroup has at least one."""
    listed = cases["cases"] if isinstance(cases, dict) and isinstance(cases.get("cases"), list) else []
    seen: dict[tuple[str, str], list[bool]] = {(name, group): [] for name, groups in attributes.items() for group in groups}
    for case in listed:
        try:
            name, row, group, wanted = case["name"], case["input"], case["group"], case["expect"]["decision"]
        except (KeyError, TypeError):
            yield _item("golden", "a case has name, input, group and expected decision", json.dumps(case)[:200], "all four")
            continue
        expected = "favourable" if wanted is True else "unfavourable" if wanted is False else f"no decision: {wanted!r}"
        answer = client.post_json("/predict", {"rows": [row]})
        decided = answer.json()["decisions"][0] if answer.status == 200 else f"status {answer.status}"
        if answer.status == 200:
            asked.note(answer.json())
        for pair in ((attribute, str(value)) for attribute, value in group.items()):
            if pair in seen:
                seen[pair].append(decided == expected)
        yield _item("golden", str(name), decided, expected)
    for (attribute, group_name), held in seen.items():
        yield _item("golden", f"{attribute}={group_name}", f"{sum(held)} of {len(held)} as agreed",
                    f"{len(held)} of {len(held)} as agreed", passed=bool(held) and all(held),
                    detail="" if held else "no golden case of this subgroup")


def stop_switch(client: Client, token: str, row: Row, asked: Asked) -> Iterator[Item]:
    """People can stop all answers, only with the token, and let them go on again."""
    said = {"reason": "integration test", "by": "stage 6"}
    yield _item("end_to_end", "nobody stops it without the token",
                str(client.post_json("/stop", said, {"authorization": "Bearer wrong"}).status), "401")
    held = {"authorization": f"Bearer {token}"}
    yield _item("end_to_end", "the stop switch works", str(client.post_json("/stop", said, held).status), "200")
    answer = client.post_json("/predict", {"rows": [row]})
    reason = answer.json()["detail"] if answer.status == 503 else ""
    yield _item("end_to_end", "a stopped server answers 503 with the reason",
                f"{answer.status}, {'with' if said['reason'] in reason else 'without'} the reason", "503, with the reason")
    yield _item("end_to_end", "a stopped server is alive but not ready",
                f"{client.get('/v2/health/live').status}, {client.get('/v2/health/ready').status}", "200, 503")
    client.post_json("/resume", said, held)
    again = client.post_json("/predict", {"rows": [row]})
    if again.status == 200:
        asked.note(again.json())
    yield _item("end_to_end", "it answers again after resume", str(again.status), "200")


def logged(asked: Asked, log: Sequence[Decision], spec: ServerSpec) -> Iterator[Item]:
    """Every decision that was given is in the log, with the same score, version and role; and nothing else of this server."""
    found = {decision.id: decision for decision in log}
    total = len(asked.rows)
    present = [found[inference] for inference in asked.rows if inference in found]
    yield _item("end_to_end", "every answer is in the inference log", f"{len(present)} of {total}", f"{total} of {total}",
                passed=total > 0 and len(present) == total)
    agree = sum((d.score, d.decision) == (repr(asked.rows[d.id][0]), asked.rows[d.id][1]) for d in present)
    yield _item("end_to_end", "the log says what was answered", f"{agree} of {total}", f"{total} of {total}")
    served = (spec.model, spec.release, spec.environment, "answering")
    version = sum((d.model, d.release, d.environment, d.role) == served for d in present)
    yield _item("end_to_end", "the log names the version", f"{version} of {total}", f"{total} of {total}")
    yield _item("end_to_end", "nothing is in the log that was not answered", str(len(found.keys() - asked.rows.keys())), "0")


def latency(client: Client, rows: Sequence[Row], asked: Asked) -> tuple[tuple[float, ...], int]:
    """Milliseconds of single-row requests, one after another, sorted; and how many of them failed."""
    taken: list[float] = []
    failed = 0
    for place in range(LATENCY_REQUESTS + WARMING):
        body = {"rows": [rows[place % len(rows)]]}
        begun = time.perf_counter()
        try:
            answer = client.post_json("/predict", body)
        except ServingError:
            failed += 1
            continue
        elapsed = (time.perf_counter() - begun) * 1000
        if answer.status == 200:
            asked.note(answer.json())
        else:
            failed += 1
        if place >= WARMING:
            taken.append(elapsed)
    return tuple(sorted(taken)), failed


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that `share` of all do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def plain_rows(frame: Any, needed: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a polars frame as a caller would send them."""
    rows: list[dict[str, Any]] = frame.select(list(needed)).to_dicts()
    return rows


def _item(gate: str, name: str, value: str, expected: str, *, passed: bool | None = None, detail: str = "") -> Item:
    return Item(gate=gate, name=name, passed=value == expected if passed is None else passed, value=value, expected=expected,
                detail=detail)


def _refusal(name: str, answer: Answer) -> Item:
    said = f"status {answer.status}" + ("" if _is_problem(answer) else ", no problem body")
    return _item("contract", f"refused: {name}", said, "a 4xx with a problem body", passed=_is_problem(answer))


def _is_problem(answer: Answer) -> bool:
    if not 400 <= answer.status < 500 or not answer.headers.get("content-type", "").startswith("application/problem+json"):
        return False
    try:
        body = answer.json()
    except ServingError:
        return False
    return isinstance(body, dict) and body.get("status") == answer.status and bool(body.get("detail"))


def _is_bounded(described: Any) -> bool:
    """Whether an OpenAPI property says what a column may hold."""
    if not isinstance(described, dict):
        return False
    for kind in described.get("anyOf", [described]):
        if kind.get("type") in ("null", "boolean") or "enum" in kind or "const" in kind:
            continue
        low = "minimum" in kind or "exclusiveMinimum" in kind
        if not (low and ("maximum" in kind or "exclusiveMaximum" in kind)):
            return False
    return True


def _get(answer: Answer, key: str) -> str:
    body = answer.json() if answer.status == 200 else {}
    return str(body[key]) if isinstance(body, dict) and key in body else f"status {answer.status}"


__all__ = ["Asked", "Item", "contract", "golden", "identity", "latency", "logged", "needed_columns", "parity", "percentile",
           "plain_rows", "stop_switch"]
