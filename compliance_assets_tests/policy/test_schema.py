"""Editors get a schema in which every key is explained, and in which the healthy declarations are valid."""

from __future__ import annotations

import pytest
import yaml

from compliance_assets.policy.schema import json_schema
from compliance_assets_tests.small_lender import SYSTEM

jsonschema = pytest.importorskip("jsonschema", reason="the schema is checked with jsonschema where it is installed")


@pytest.mark.parametrize("name", ["system.yaml", "organisation.yaml"])
def test_every_key_is_described(name):
    schema = json_schema()[name]
    undescribed = [
        (model, key)
        for model, body in {**schema["$defs"], name: schema}.items()
        for key, value in body.get("properties", {}).items()
        if not value.get("description")
    ]
    assert undescribed == []
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_healthy_declaration_is_valid_and_an_unknown_key_is_not():
    schema = json_schema()["system.yaml"]
    body = yaml.safe_load(SYSTEM)
    jsonschema.validate(body, schema, cls=jsonschema.Draft202012Validator)
    with pytest.raises(jsonschema.ValidationError, match="thresold"):
        jsonschema.validate({**body, "thresold": 1}, schema, cls=jsonschema.Draft202012Validator)


def test_keys_are_those_of_yaml():
    feature = json_schema()["system.yaml"]["$defs"]["Feature"]
    assert "from" in feature["properties"]
    assert "from_" not in feature["properties"]
