"""An organisation says who may decide: everyone told apart by id and key, machines by role, and no quorum that nobody can meet."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from compliance_assets.errors import UntrustedEvidence
from compliance_assets.policy.organisation import (
    Organisation,
    check_against,
    load_organisation,
    render_organisation,
)
from compliance_assets.policy.reading import read_declared
from compliance_assets.policy.system import System
from compliance_assets.trust.keys import SigningKey
from compliance_assets_tests.policy.declaring import problems_in
from compliance_assets_tests.small_lender import SYSTEM


def raw(seed):
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32).public_key().public_bytes_raw()


def ssh(seed):
    """A person's public key, as ssh-keygen writes it."""
    kind = b"ssh-ed25519"
    blob = len(kind).to_bytes(4) + kind + (32).to_bytes(4) + raw(seed)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def machine(seed):
    return f"ed25519:{base64.b64encode(raw(seed)).decode()}"


def body(**changes):
    """A healthy organisation of two people, one of them with two roles, and production."""
    healthy = {
        "profile": "organisation",
        "name": "Example Lender",
        "demonstration": False,
        "people": [
            {
                "id": "p-ada",
                "roles": ["technical_owner"],
                "git": ["ada@example.org"],
                "launchers": ["ada"],
                "allowed_signers": ssh(1),
            },
            {
                "id": "p-ben",
                "roles": ["governance_lead", "legal_advisor"],
                "git": ["ben@example.org"],
                "launchers": ["ben"],
                "allowed_signers": f'namespaces="compliance" {ssh(2)} ben\'s token',
            },
        ],
        "machine_keys": [
            {"role": role, "key": machine(10 + place), "valid_from": "2026-01-01T00:00:00Z"}
            for place, role in enumerate(("pipeline", "gate", "deployer", "log"))
        ],
        "environments": {
            "integration": {
                "production": False,
                "promotable": True,
                "approvals": "one_person",
                "serves": {"host": "127.0.0.1", "port": 8081, "admin_port": 8091, "server_ports": [8101, 8102]},
            },
            "production": {
                "production": True,
                "promotable": True,
                "approvals": "declared",
                "serves": {"host": "127.0.0.1", "port": 8080, "admin_port": 8090, "server_ports": [8100, 8103]},
            },
        },
        "anchors": {
            "demanded": ["witness", "git"],
            "fresh_for": "24h",
            "witnesses": [{"name": "witness.example/1", "key": machine(30), "address": "https://witness.example"}],
            "git": {"repository": "../heads", "remote": "origin", "signer": ssh(31)},
        },
        "definitions": {"approved_by": [{"role": "governance_lead", "people": 1}]},
    }
    for path, value in changes.items():
        *above, last = (int(part) if part.isdigit() else part for part in path.split("__"))
        at = healthy
        for part in above:
            at = at[part]
        at[last] = value
    return healthy


def problems(tmp_path, **changes):
    import json

    return problems_in(tmp_path / "organisation.yaml", json.dumps(body(**changes), indent=1), Organisation)


def test_a_healthy_organisation_is_read(tmp_path):
    assert problems(tmp_path) == ()
    organisation = load_organisation(tmp_path / "organisation.yaml")
    assert organisation.person("p-ben").roles == ("governance_lead", "legal_advisor")
    assert organisation.allowed_signers_text("p-ada") == f"p-ada {ssh(1)}\n"
    assert organisation.roles == {"technical_owner", "governance_lead", "legal_advisor"}


def test_one_authority_may_certify_several_people(tmp_path):
    line = f"cert-authority {ssh(1)}"
    assert problems(tmp_path, people__0__allowed_signers=line, people__1__allowed_signers=line) == ()


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"people__1__id": "p-ada"}, "people[1].id", "already that of p-ada"),
        ({"anchors": None}, "anchors", "demands at least one anchor of the ledger outside this host"),
        ({"anchors__demanded": []}, "anchors", "demands at least one anchor of the ledger outside this host"),
        ({"anchors__witnesses": []}, "anchors.demanded[0]", "no anchor of the kind witness is declared"),
        ({"anchors__witnesses__0__key": machine(10)}, "anchors.witnesses[0]", "not a witness of its own"),
        ({"anchors__witnesses__0__address": "witness.example"}, "anchors.witnesses[0].address", "must begin with https://"),
        ({"anchors__git__signer": "no key"}, "anchors.git.signer", "not an OpenSSH public key"),
        ({"people__1__id": "Ben Smith"}, "people[1].id", "pseudonymous id"),
        ({"people__1__roles": []}, "people[1].roles", "at least 1"),
        ({"people__1__git": ["ADA@example.org"]}, "people[1].git", "already that of p-ada"),
        ({"people__1__launchers": ["ada"]}, "people[1].launchers", "already that of p-ada"),
        ({"people__1__allowed_signers": ssh(1)}, "people[1].allowed_signers", "is the key of p-ada too"),
        ({"people__0__allowed_signers": f"cert-authority {ssh(2)}", "people__1__allowed_signers": ssh(2)}, "people[1].allowed_signers",
         "is the key of an authority"),
        ({"people__1__allowed_signers": "ssh-ed25519 AAAA"}, "people[1].allowed_signers", "not an OpenSSH public key"),
        ({"people__1__allowed_signers": ssh(2) + "\np-ada " + ssh(1)}, "people[1].allowed_signers", "one key on one line"),
        ({"people__1__allowed_signers": "p-ben " + ssh(2)}, "people[1].allowed_signers", "not an OpenSSH public key"),
        ({"people__1__allowed_signers": ssh(10)}, "machine_keys[0].key", "is the key of p-ben too"),
        ({"machine_keys__1__key": machine(10)}, "machine_keys[1].key", "is the key of the pipeline machine too"),
        ({"machine_keys__1__key": "ed25519:AAAA"}, "machine_keys[1].key", "ed25519:<base64"),
        ({"machine_keys__3__role": "gate"}, "machine_keys", "no key for the role log"),
        ({"machine_keys__3__role": "root"}, "machine_keys[3].role", "pipeline, gate, deployer or log"),
        ({"machine_keys__0__valid_until": "2025-01-01T00:00:00Z"}, "machine_keys[0].valid_until", "ends before it begins"),
        ({"machine_keys__0__valid_from": "yesterday"}, "machine_keys[0].valid_from", "a moment in UTC"),
        (
            {"environments__production__approvals": "one_person"},
            "environments.production.approvals",
            "only allowed outside production",
        ),
        (
            {"environments__production__serves__port": 8081},
            "environments.production.serves",
            "8081 is already taken by integration",
        ),
        (
            {"environments__production__serves__server_ports": [8100]},
            "environments.production.serves.server_ports[1]",
            "is missing",
        ),
        ({"environments__production__serves__port": 0}, "environments.production.serves.port", "at least 1"),
        ({"definitions__approved_by__0__role": "auditor"}, "definitions.approved_by[0].role", "nobody in organisation.yaml holds"),
        (
            {"definitions__approved_by__0__people": 2},
            "definitions.approved_by",
            "2 governance_lead cannot be met by 2 distinct people",
        ),
        ({"definitions__approved_by": []}, "definitions.approved_by", "at least 1"),
        ({"people__1__demo": True}, "demonstration", "exactly if a person is marked demo"),
        ({"demonstration": True}, "demonstration", "exactly if a person is marked demo"),
        ({"approvers": []}, "approvers", "unknown key 'approvers'"),
    ],
)
def test_each_way_that_trust_would_be_blurred_is_refused(tmp_path, changes, key, words):
    found = problems(tmp_path, **changes)
    assert len(found) == 1, found
    assert f": {key}: " in f": {found[0].split(': ', 1)[1]}", found
    assert words in found[0]


def test_one_person_has_no_production(tmp_path):
    found = problems(tmp_path, people=body()["people"][1:])
    assert any("a production environment needs at least two people with a key (got 1)" in problem for problem in found)


def test_somebody_without_a_key_is_nobody_to_a_quorum(tmp_path):
    people = body()["people"]
    del people[1]["allowed_signers"]
    found = problems(tmp_path, people=people)
    assert any("at least two people with a key" in problem for problem in found)
    assert any("1 governance_lead cannot be met by 1 distinct person" in problem for problem in found)


def test_the_development_profile_has_no_production_and_promotes_nothing(tmp_path):
    found = problems(tmp_path, profile="development")
    assert sum("no production environment" in problem for problem in found) == 1
    assert sum("may be promoted" in problem for problem in found) == 2


def test_one_person_may_develop(tmp_path):
    person = {**body()["people"][1], "roles": ["governance_lead", "technical_owner"]}
    environments = {"integration": {**body()["environments"]["integration"], "promotable": False}}
    assert problems(tmp_path, profile="development", people=[person], environments=environments) == ()


def test_who_is_not_listed_is_nobody():
    organisation = Organisation.model_validate(body())
    with pytest.raises(UntrustedEvidence, match="knows nobody called 'mallory'"):
        organisation.person("mallory")
    with pytest.raises(UntrustedEvidence, match="knows nobody"):
        organisation.allowed_signers_text("mallory")
    keyless = body()
    keyless["people"].append({"id": "p-cy", "roles": ["engineer"]})
    with pytest.raises(UntrustedEvidence, match="no SSH key to sign with"):
        Organisation.model_validate(keyless).allowed_signers_text("p-cy")


def test_a_machine_key_speaks_for_its_role_only():
    organisation = Organisation.model_validate(body())
    gate = SigningKey.from_seed(bytes([11]) * 32)
    assert organisation.machine_key("gate", gate.keyid).key == machine(11)
    with pytest.raises(UntrustedEvidence, match="is no pipeline key"):
        organisation.machine_key("pipeline", gate.keyid)


def test_a_retired_key_stays_listed_and_the_new_one_is_in_use():
    rotated = body(machine_keys__3__valid_until="2026-06-01T00:00:00Z")
    rotated["machine_keys"].append({"role": "log", "key": machine(20), "valid_from": "2026-05-01T00:00:00Z"})
    organisation = Organisation.model_validate(rotated)
    assert organisation.log_key().text == machine(20)
    assert organisation.machine_key("log", SigningKey.from_seed(bytes([13]) * 32).keyid).valid_until == "2026-06-01T00:00:00Z"


def test_the_digest_covers_values_not_spelling(tmp_path):
    organisation = Organisation.model_validate(body())
    (tmp_path / "organisation.yaml").write_text("# a comment\n" + render_organisation(organisation))
    assert load_organisation(tmp_path / "organisation.yaml").digest == organisation.digest
    assert Organisation.model_validate(body(name="Other")).digest != organisation.digest
    assert Organisation.model_validate(organisation.model_dump(mode="json")).digest == organisation.digest


@given(
    st.text(min_size=1, max_size=20)
    .filter(lambda text: text.strip() and text.isprintable() and not set(text) & set("${<"))
    .map(str.strip),
    st.booleans(),
)
def test_what_is_rendered_reads_back_the_same(tmp_path_factory, name, demo):
    organisation = Organisation.model_validate(body(name=name, people__0__demo=demo, demonstration=demo))
    text = render_organisation(organisation)
    path = tmp_path_factory.mktemp("o") / "organisation.yaml"
    path.write_text(text)
    assert load_organisation(path) == organisation
    assert render_organisation(load_organisation(path)) == text


# -------------------------------------------------------------------------------------------- a system in its organisation


def demands(tmp_path, organisation, old="", new=""):
    assert not old or SYSTEM.count(old) == 1
    (tmp_path / "system.yaml").write_text(SYSTEM.replace(old, new) if old else SYSTEM)
    system = read_declared(tmp_path / "system.yaml", System)
    return [str(problem) for problem in check_against(system, Organisation.model_validate(organisation))]


def test_a_system_whose_demands_can_be_met_has_no_problem(tmp_path):
    assert demands(tmp_path, body()) == []


def test_an_unknown_environment_is_told(tmp_path):
    (problem,) = demands(tmp_path, body(), "  environment: production", "  environment: prod")
    assert problem.startswith("deployment.environment: organisation.yaml has no environment 'prod'")


def test_a_role_that_nobody_holds_is_told(tmp_path):
    (problem,) = demands(tmp_path, body(), "{role: governance_lead, people: 1}", "{role: chief_risk_officer, people: 1}")
    assert problem.startswith("approval.requires[1].role: nobody in organisation.yaml holds the role 'chief_risk_officer'")


def test_one_person_fills_one_place_only(tmp_path):
    everything = body(people__1__roles=["governance_lead", "technical_owner"], people__0__roles=["engineer"])
    (problem,) = demands(tmp_path, everything)
    assert "1 technical_owner, 1 governance_lead cannot be met by 2 distinct people" in problem


def test_roles_are_shared_out_so_that_a_quorum_is_met_if_it_can_be(tmp_path):
    # Ada could take either place; Ben only one. Taking Ada for the first would leave Ben without.
    either = body(people__0__roles=["technical_owner", "governance_lead"], people__1__roles=["technical_owner", "governance_lead"])
    assert demands(tmp_path, either) == []
    either = body(
        people__0__roles=["technical_owner", "governance_lead"],
        people__1__roles=["technical_owner", "clerk"],
        definitions__approved_by__0__role="clerk",
    )
    assert demands(tmp_path, either) == []


def test_outside_production_one_person_may_be_enough_but_the_roles_must_exist(tmp_path):
    alone = body(people__1__roles=["governance_lead", "technical_owner"], people__0__roles=["engineer"])
    assert demands(tmp_path, alone, "  environment: production", "  environment: integration") == []
    alone = body(people__0__roles=["engineer"])
    (problem,) = demands(tmp_path, alone, "  environment: production", "  environment: integration")
    assert "holds the role 'technical_owner'" in problem
