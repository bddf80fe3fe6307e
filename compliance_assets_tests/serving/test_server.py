"""A real model server, asked everything that a caller could: it answers what the contract allows and refuses the rest."""

from __future__ import annotations

import json
import math
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from compliance_assets.errors import Busy, ServingError
from compliance_assets.serving import launching, prepared
from compliance_assets.serving.annotations import read_annotations
from compliance_assets.serving.client import Answer, Client
from compliance_assets.serving.inference_log import Decision, read_inputs, read_log
from compliance_assets.serving.loading import load_served
from compliance_assets.serving.server import PORT_TAKEN, REFUSED, listen
from compliance_assets.serving.spec import ServerSpec, restore_snapshot
from compliance_assets.trust.canonical import Digest, sha256_bytes
from compliance_assets_tests.serving.small_server import COMMAND, ROW, TOKEN, SmallLender, ask, people, taken


@dataclass(frozen=True)
class Serving:
    lender: SmallLender
    spec: ServerSpec
    client: Client

    def ask(self, body: Any, headers: dict[str, str] | None = None) -> Answer:
        return self.client.post_json("/predict", body, headers)

    @property
    def log(self) -> list[Decision]:
        return list(read_log(self.spec.folder / "log"))


@pytest.fixture(scope="module")
def lender(tmp_path_factory: pytest.TempPathFactory) -> SmallLender:
    return SmallLender.make(tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def model(lender: SmallLender) -> Digest:
    return lender.train()


@pytest.fixture(scope="module")
def serving(lender: SmallLender, model: Digest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    spec = lender.spec(model)
    with launching.running_server(spec, tmp_path_factory.mktemp("out"), command=COMMAND) as client:
        yield Serving(lender, spec, client)


def is_problem(answer: Answer) -> bool:
    body = answer.json()
    return answer.headers["content-type"] == "application/problem+json" and body["status"] == answer.status and bool(body["detail"])


def test_a_valid_row_is_scored_decided_versioned_and_logged_before_it_is_answered(serving: Serving) -> None:
    answer = serving.ask({"rows": [ROW], "monitoring": [{"sex": "female"}], "request_id": "from-the-body"})
    assert answer.status == 200
    body = answer.json()
    assert 0 <= body["scores"][0] <= 1
    assert body["decisions"] == ["favourable" if body["scores"][0] >= 0.5 else "unfavourable"]
    assert body["version"] == {"system": "small_lender", "release": serving.spec.release, "model": serving.spec.model,
                               "definition": serving.spec.definition, "environment": "production"}
    (entry,) = [d for d in serving.log if d.id == body["inference_ids"][0]]
    assert entry.score == repr(body["scores"][0])
    assert (entry.role, entry.request_id, entry.monitoring) == ("answering", "from-the-body", {"sex": "female"})
    inputs = dict(read_inputs(serving.spec.folder / "log"))
    assert inputs[entry.id] == ROW
    assert "debt" not in entry.line().decode(), "the log of decisions holds no personal data"


def test_the_served_score_is_the_models_own_to_the_bit(serving: Serving) -> None:
    from compliance_assets.features import serving_features
    from compliance_assets.modelfile import favourable_scores, load

    rows = [taken(row) for row in people(300)]
    estimator = load(serving.lender.artefacts.get_bytes(Digest(serving.spec.model)), serving.spec.trusted_types)
    ours = favourable_scores(estimator, serving_features(serving.lender.definition, rows))
    theirs = serving.ask({"rows": rows}).json()["scores"]
    assert [repr(float(score)) for score in ours] == [repr(score) for score in theirs]


_GOOD = json.dumps(ROW)
REFUSED_BODIES: dict[str, tuple[int, Any]] = {
    "a missing column": (422, {"rows": [{k: v for k, v in ROW.items() if k != "debt"}]}),
    "a nullable column left out": (422, {"rows": [{k: v for k, v in ROW.items() if k != "guarantor"}]}),
    "null where it must not be": (422, {"rows": [{**ROW, "debt": None}]}),
    "text for a number": (422, {"rows": [{**ROW, "debt": "250"}]}),
    "a truth value for a number": (422, {"rows": [{**ROW, "years": True}]}),
    "a fraction for a whole number": (422, {"rows": [{**ROW, "years": 1.5}]}),
    "a number for a truth value": (422, {"rows": [{**ROW, "guarantor": 1}]}),
    "below the range": (422, {"rows": [{**ROW, "debt": -0.01}]}),
    "above the range": (422, {"rows": [{**ROW, "years": 61}]}),
    "an unseen category": (422, {"rows": [{**ROW, "housing": "castle"}]}),
    "a column too many": (422, {"rows": [{**ROW, "sex": "female"}]}),
    "NaN": (422, {"rows": [{**ROW, "debt": math.nan}]}),
    "infinity": (422, {"rows": [{**ROW, "debt": math.inf}]}),
    "infinity by overflow": (422, b'{"rows": [' + _GOOD.replace("250.5", "1e999").encode() + b"]}"),
    "an endless number": (400, b'{"rows": ' + b"9" * 10_000 + b"}"),
    "a key twice": (422, f'{{"rows": [{_GOOD}], "rows": [{_GOOD}]}}'.encode()),
    "no rows": (422, {"rows": []}),
    "too many rows": (422, {"rows": [ROW] * 1001}),
    "a threshold of the caller's own": (422, {"rows": [ROW], "threshold": 0.1}),
    "monitoring for another number of rows": (422, {"rows": [ROW], "monitoring": []}),
    "monitoring of an undeclared attribute": (422, {"rows": [ROW], "monitoring": [{"religion": "x"}]}),
    "not an object": (422, [ROW]),
    "bad JSON": (400, b'{"rows": [' + _GOOD.encode()),
    "not UTF-8": (400, b'{"rows": "\xff"}'),
    "nested too deeply": (400, b"[" * 100_000),
    "nothing": (400, b""),
    "too large": (413, b" " * (4 * 1024 * 1024 + 1)),
}


@pytest.mark.parametrize("what", REFUSED_BODIES)
def test_what_lies_outside_the_contract_is_refused_with_a_reason(serving: Serving, what: str) -> None:
    status, body = REFUSED_BODIES[what]
    before = len(serving.log)
    answer = serving.client.post("/predict", body if isinstance(body, bytes) else json.dumps(body).encode())
    assert answer.status == status
    assert is_problem(answer)
    assert len(serving.log) == before


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/predict", 405), ("POST", "/nothing", 404), ("POST", "/v2/models/other/infer", 404), ("GET", "/docs", 404)])
def test_other_paths_and_methods_are_problems_too(serving: Serving, method: str, path: str, status: int) -> None:
    answer = serving.client.call(method, path, b"")
    assert answer.status == status
    assert is_problem(answer)


def test_a_method_that_is_not_served_says_which_ones_are(serving: Serving) -> None:
    assert serving.client.call("TRACE", "/predict").headers["allow"] == "POST"
    assert serving.client.call("TRACE", "/version").headers["allow"] == "GET"


def test_openapi_describes_every_column_with_its_range_or_categories(serving: Serving) -> None:
    schema = serving.client.get("/openapi.json").json()["components"]["schemas"]
    row = schema["Row"]
    assert row["additionalProperties"] is False
    assert set(row["required"]) == set(ROW)
    assert (row["properties"]["debt"]["minimum"], row["properties"]["debt"]["maximum"]) == (0, 5000)
    assert row["properties"]["housing"]["enum"] == ["own", "rent"]
    assert schema["PredictRequest"]["properties"]["rows"]["maxItems"] == 1000


def _tensors(row: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = {"debt": "FP64", "income": "FP64", "years": "INT64", "housing": "BYTES", "guarantor": "BOOL"}
    return [{"name": name, "shape": [1], "datatype": kinds[name], "data": [value]} for name, value in row.items()]


def test_the_open_inference_route_gives_the_same_score_and_refuses_the_same(serving: Serving) -> None:
    path = "/v2/models/small_lender/infer"
    answer = serving.client.post_json(path, {"id": "v2", "inputs": _tensors(ROW)})
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert outputs["score"] == serving.ask({"rows": [ROW]}).json()["scores"]
    for bad in ([], _tensors({**ROW, "debt": -1}), _tensors(ROW)[1:], [*_tensors(ROW), _tensors(ROW)[0]],
                [{**tensor, "shape": [2]} for tensor in _tensors(ROW)]):
        refused = serving.client.post_json(path, {"inputs": bad})
        assert refused.status == 422
        assert is_problem(refused)


def test_people_stop_all_answers_with_the_token_and_only_with_it(serving: Serving) -> None:
    said = {"reason": "complaints about refusals", "by": "p-17"}
    assert serving.client.post_json("/stop", said).status == 401
    held = {"authorization": f"Bearer {TOKEN}"}
    assert serving.client.post_json("/stop", {"reason": ""}, held).status == 422
    assert serving.client.post_json("/stop", said, held).status == 200
    try:
        answer = serving.ask({"rows": [ROW]})
        assert answer.status == 503
        assert "complaints about refusals" in answer.json()["detail"]
        assert serving.client.get("/v2/health/ready").status == 503
        assert serving.client.get("/v2/health/live").status == 200
    finally:
        assert serving.client.post_json("/resume", said, held).status == 200
    assert serving.ask({"rows": [ROW]}).status == 200
    events = [json.loads(line)["event"] for line in (serving.spec.folder / "switch.jsonl").read_text().splitlines()]
    assert events[-2:] == ["stopped", "resumed"]


def test_a_person_overrides_an_answer_while_the_model_is_stopped_and_only_with_the_token(serving: Serving) -> None:
    answer = serving.ask({"rows": [ROW]}).json()
    other = "unfavourable" if answer["decisions"] == ["favourable"] else "favourable"
    said = {"inference_id": answer["inference_ids"][0], "decision": other, "by": "officer-7", "reason": "The branch mistyped the income."}
    allowed = {"authorization": f"Bearer {TOKEN}"}
    assert serving.client.post_json("/override", said, {}).status == 401
    assert serving.client.post_json("/override", {**said, "decision": "perhaps"}, allowed).status == 422
    assert serving.client.post_json("/override", {**said, "inference_id": "0"}, allowed).status == 422
    assert serving.client.post_json("/stop", {"reason": "a test", "by": "officer-7"}, allowed).status == 200
    try:
        done = serving.client.post_json("/override", said, allowed)
        assert done.status == 200 and done.json()["model_said"] == answer["decisions"][0]
    finally:
        serving.client.post_json("/resume", {"reason": "tested", "by": "officer-7"}, allowed)
    assert [note.inference for note in read_annotations(serving.spec.folder / "log")] == said["inference_id"].split()


def test_a_caller_cannot_pass_for_a_shadow_through_the_routers_name_alone_but_the_router_can(serving: Serving) -> None:
    """Directly at the loopback server the Host is what the caller says; the router overwrites it (see test_supervisor)."""
    serving.ask({"rows": [ROW]}, {"host": "answering-shadow", "x-request-id": "mirrored"})
    serving.ask({"rows": [ROW]}, {"x-request-id": "asked"})
    roles = {d.request_id: d.role for d in serving.log}
    assert (roles["mirrored"], roles["asked"]) == ("shadow", "answering")


def test_many_callers_at_once_each_get_their_own_answer(serving: Serving) -> None:
    rows = [taken(row) for row in people(40, seed=3)]
    alone = [serving.ask({"rows": [row]}).json()["scores"][0] for row in rows]
    found: dict[int, float] = {}

    def ask(place: int) -> None:
        with Client(serving.client.address) as client:
            found[place] = client.post_json("/predict", {"rows": [rows[place]]}).json()["scores"][0]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[place] for place in range(len(rows))] == alone


# ---------------------------------------------------------------------------------------------------------- not started


def start(spec: ServerSpec, folder: Path) -> subprocess.CompletedProcess[str]:
    path = spec.write(folder / "spec.json")
    return subprocess.run([*COMMAND, "--spec", str(path), "--parent", str(os.getpid())], capture_output=True, text=True, timeout=60,
                          check=False)


@pytest.mark.slow
def test_a_server_without_proof_ends_and_says_why(lender: SmallLender, tmp_path: Path) -> None:
    ended = start(lender.spec(lender.train(99, allowed=False)), tmp_path)
    assert ended.returncode == REFUSED
    assert "may not answer in production" in json.loads(ended.stderr.splitlines()[-1])["message"]


def test_a_servers_own_kind_of_model_is_asked_in_its_prepared_form(lender: SmallLender, model: Digest) -> None:
    loaded = load_served(lender.spec(model), ask)
    assert loaded.scores.__module__ == prepared.__name__ and dict(loaded.types)["guaranteed"] == pl.Boolean()


@pytest.mark.slow
def test_a_model_whose_bytes_were_changed_is_not_loaded(tmp_path: Path) -> None:
    own = SmallLender.make(tmp_path)
    spec = own.spec(own.train())
    path = own.artefacts.open_path(Digest(spec.model))
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    ended = start(spec, tmp_path)
    assert ended.returncode == REFUSED
    assert json.loads(ended.stderr.splitlines()[-1])["error"] == "ArtefactCorrupt"


@pytest.mark.slow
@pytest.mark.parametrize(("changed", "said"), [
    ({"feature_names": ("debt_to_income",)}, "other features"),
    ({"trusted_types": ()}, "does not name it"),
    ({"system": "other"}, "declares small_lender, not other"),
])
def test_a_spec_that_does_not_belong_to_its_evidence_is_refused(lender: SmallLender, model: Digest, tmp_path: Path,
                                                                changed: dict[str, Any], said: str) -> None:
    ended = start(lender.spec(model, **changed), tmp_path)
    assert ended.returncode == REFUSED
    assert said in json.loads(ended.stderr.splitlines()[-1])["message"]


@pytest.mark.slow
def test_a_taken_port_is_named(lender: SmallLender, model: Digest, tmp_path: Path) -> None:
    spec = lender.spec(model)
    with listen("127.0.0.1", spec.port):
        with pytest.raises(Busy, match=str(spec.port)):
            listen("127.0.0.1", spec.port)
        ended = start(spec, tmp_path)
        assert ended.returncode == PORT_TAKEN
        assert str(spec.port) in ended.stderr
        with pytest.raises(Busy, match=str(spec.port)), launching.running_server(spec, tmp_path, command=COMMAND):
            pass


def test_a_spec_that_does_not_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    for content in ("", "{}", '{"home": 1}'):
        path.write_text(content)
        with pytest.raises(ServingError, match="is not the spec of a server"):
            ServerSpec.read(path)


def test_a_spec_can_be_read_by_its_owner_only(lender: SmallLender, model: Digest, tmp_path: Path) -> None:
    spec = lender.spec(model)
    path = spec.write(tmp_path / "spec.json")
    assert path.stat().st_mode & 0o077 == 0
    assert ServerSpec.read(path) == spec


def test_a_snapshot_restores_the_definition_that_was_approved_not_the_one_that_stands_there_now(tmp_path: Path) -> None:
    own = SmallLender.make(tmp_path / "own")
    before = (own.definition.folder / "features.py").read_bytes()
    (own.definition.folder / "features.py").write_text("raise RuntimeError('changed since')")
    folder = restore_snapshot(own.snapshot, own.artefacts, tmp_path / "restored")
    assert (folder / "features.py").read_bytes() == before
    (folder / "features.py").write_text("tampered with")
    restore_snapshot(own.snapshot, own.artefacts, tmp_path / "restored")
    assert (folder / "features.py").read_bytes() == before


def test_a_snapshot_that_names_a_file_outside_itself_is_refused(lender: SmallLender, tmp_path: Path) -> None:
    from compliance_assets.errors import ArtefactCorrupt
    from compliance_assets.trust.canonical import canonical_json

    inside = lender.artefacts.put_bytes(b"x")
    forged = lender.artefacts.put_bytes(canonical_json({"folder": "systems/a", "files": {"../outside": inside}}))
    with pytest.raises(ArtefactCorrupt, match="outside itself"):
        restore_snapshot(forged, lender.artefacts, tmp_path / "in")
    assert not (tmp_path / "outside").exists()
    assert sha256_bytes(b"x") == inside
