"""Whatever is sent, the server neither breaks nor guesses: cases drawn from its own OpenAPI document, valid, nearly valid and absurd.

An answer is given exactly where the document says that the body is one; everything else is a 4xx with an RFC 9457 body.
BAD_INPUT_CASES says how many cases (150 unless told otherwise; 1,000 for a release).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance_assets.serving import launching
from compliance_assets.serving.client import Client
from compliance_assets_tests.serving.small_server import SmallLender

CASES = int(os.environ.get("BAD_INPUT_CASES", "150"))
ABSURD = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8), st.just([]), st.just({}),
                   st.sampled_from([1e308, -1e308, 2**63, -1, "NaN", "Infinity", "own\u0000", "\ud83d\ude00", "1", [[]], "rent "]))
RAW = [b"", b"{", b"null", b"[]", b'{"rows": NaN}', b"\xff\xfe", b'{"rows":' + b"[" * 5000, b'{"rows": [{"debt": Infinity}]}', b"\x00" * 50,
       b'{"rows": [], "rows": []}', b'{"rows": [{"debt": 1e999}]}']
seen: Counter[int] = Counter()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, dict[str, Any]]]:
    lender = SmallLender.make(tmp_path_factory.mktemp("bad"))
    from compliance_assets_tests.serving.small_server import COMMAND

    with launching.running_server(lender.spec(lender.train()), tmp_path_factory.mktemp("out"), command=COMMAND) as client:
        yield client, client.get("/openapi.json").json()


def drawn(draw: st.DrawFn, schema: dict[str, Any], document: dict[str, Any], wild: bool) -> Any:
    """A value for a schema; where `wild`, any part of it may be something else, left out or one too many."""
    if wild and draw(st.integers(0, 11)) == 0:
        return draw(ABSURD)
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return drawn(draw, draw(st.sampled_from(schema["anyOf"])), document, wild)
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if kind == "object":
        names = [name for name in schema.get("properties", {}) if name in schema.get("required", []) or draw(st.booleans())]
        found = {name: drawn(draw, schema["properties"][name], document, wild) for name in names}
        if wild and found and draw(st.integers(0, 5)) == 0:
            found.pop(draw(st.sampled_from(sorted(found))))
        if wild and draw(st.integers(0, 9)) == 0:
            found[draw(st.text(max_size=5))] = draw(ABSURD)
        return found
    if kind == "array":
        return [drawn(draw, schema["items"], document, wild) for _ in range(draw(st.integers(schema.get("minItems", 0), 3)))]
    low, high = schema.get("minimum"), schema.get("maximum")
    if kind in ("number", "integer"):
        if wild and low is not None and high is not None:
            low, high = low - 1, high + 1
        number = st.integers(low, high) if kind == "integer" else st.floats(low, high, allow_nan=False, allow_infinity=False)
        return draw(number)
    return None if kind == "null" else draw(st.booleans()) if kind == "boolean" else draw(
        st.text(min_size=schema.get("minLength", 0), max_size=min(12, schema.get("maxLength", 12))))


@st.composite
def bodies(draw: st.DrawFn, document: dict[str, Any], name: str) -> Any:
    return drawn(draw, {"$ref": f"#/components/schemas/{name}"}, document, wild=draw(st.booleans()))


def fits(body: Any, document: dict[str, Any]) -> bool:
    """Whether the document says that this is a request: by a validator that is not ours."""
    from jsonschema import Draft202012Validator

    whole = {"$ref": "#/components/schemas/PredictRequest", "components": document["components"]}
    return bool(Draft202012Validator(whole).is_valid(body))


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.data())
def test_an_answer_is_given_exactly_where_the_document_says_so(asked: tuple[Client, dict[str, Any]], data: st.DataObject) -> None:
    client, document = asked
    body = data.draw(bodies(document, "PredictRequest"))
    answer = client.post_json("/predict", body, {})
    seen[answer.status] += 1
    assert answer.status in (200, 400, 413, 422), (answer.status, body)
    if answer.status == 200:
        assert fits(body, document), body
        assert all(0 <= score <= 1 for score in answer.json()["scores"]) and len(answer.json()["scores"]) == len(body["rows"])
    else:
        assert answer.headers["content-type"] == "application/problem+json" and answer.json()["detail"]
        monitoring = body.get("monitoring") if isinstance(body, dict) else None
        assert not fits(body, document) or (monitoring is not None and len(monitoring) != len(body["rows"])), (answer.json(), body)


@settings(max_examples=max(20, CASES // 3), deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.data())
def test_the_open_inference_route_never_breaks(asked: tuple[Client, dict[str, Any]], data: st.DataObject) -> None:
    client, document = asked
    answer = client.post_json("/v2/models/small_lender/infer", data.draw(bodies(document, "V2Request")), {})
    assert answer.status in (200, 400, 413, 422)


@pytest.mark.parametrize("raw", RAW, ids=lambda raw: repr(raw[:20]))
@pytest.mark.parametrize("path", ["/predict", "/v2/models/small_lender/infer"])
def test_what_is_no_json_or_no_request_is_refused_in_words(asked: tuple[Client, dict[str, Any]], raw: bytes, path: str) -> None:
    answer = asked[0].post(path, raw, {"content-type": "application/json"})
    assert answer.status in (400, 422) and answer.json()["detail"]


def test_both_kinds_of_case_were_drawn() -> None:
    assert seen[200] >= CASES // 10 and seen[422] >= CASES // 10, seen
