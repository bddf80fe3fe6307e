"""Reads a GraphQL request the one way it can be meant, and says whether it may be executed.

The guard does not forward what it received: it parses the request into query, variables and operation name, judges that,
and sends exactly that as one JSON object. So there is nothing that the guard and Dagster could read differently (a query in
the URL and another in the body, duplicate keys, batches, several operations, an odd content type). Mutations are refused
unless they stand in `OPERATOR_MUTATIONS`: what a new Dagster version adds is refused until somebody has looked at it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    parse,
)

from compliance_assets.web.request_rules import Refused
from compliance_assets.web.ui_users import Role

Transport = Literal["GET", "POST", "WebSocket"]

MOST_TOKENS = 20_000
"""The longest query of Dagster 1.13's own pages has about 3,000."""

OPERATOR_MUTATIONS = frozenset({
    # start, repeat and stop runs and backfills: whatever they run meets the dossier
    "launchRun", "launchPipelineExecution", "launchMultipleRuns", "launchRunReexecution", "launchPipelineReexecution",
    "terminateRun", "terminateRuns", "terminatePipelineExecution",
    "launchPartitionBackfill", "resumePartitionBackfill", "reexecutePartitionBackfill", "cancelPartitionBackfill",
    # sensors and schedules on, off, tried
    "startSensor", "stopSensor", "resetSensor", "sensorDryRun",
    "startSchedule", "stopRunningSchedule", "resetSchedule", "scheduleDryRun",
    # read the declarations again
    "reloadRepositoryLocation", "reloadWorkspace",
    # the pages' own housekeeping
    "setNuxSeen", "logTelemetry",
})
"""Every mutation that an operator may send. Not among them, and why: deleteRun, deletePipelineRun, wipeAssets (history is
kept), reportRunlessAssetEvents, reportAssetCheckEvaluations (events come from stages), setSensorCursor (makes a sensor skip),
shutdownRepositoryLocation, concurrency limits, dynamic partitions, app-managed components."""


@dataclass(frozen=True)
class Operation:
    """The single operation of a request: what kind it is, and the fields at its root."""

    kind: Literal["query", "mutation", "subscription"]
    fields: tuple[str, ...]


@dataclass(frozen=True)
class GraphqlRequest:
    """A request that was read without doubt; `body()` is the only form in which it is sent on."""

    query: str
    variables: Mapping[str, Any] | None
    operation_name: str | None
    operation: Operation

    def body(self) -> dict[str, Any]:
        return {"query": self.query, "variables": self.variables, "operationName": self.operation_name}


def _unreadable(what: str, value: object = "") -> NoReturn:
    raise Refused(f"This GraphQL request cannot be read without doubt: {what}.", status=403, rule="GraphQL is read one way",
                  value=f"{value!r:.80}" if value != "" else "",
                  remedy="Send one JSON object with query, variables and operationName, holding one operation.")


def _root_fields(selection: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode],
                 seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Names of the fields at the root, aliases undone, fragments opened; `@skip` and `@include` are not believed."""
    for node in selection.selections:
        if isinstance(node, FieldNode):
            yield node.name.value
        elif isinstance(node, InlineFragmentNode):
            yield from _root_fields(node.selection_set, fragments, seen)
        elif isinstance(node, FragmentSpreadNode):
            name = node.name.value
            if name not in fragments or name in seen:
                _unreadable("a fragment is missing or contains itself", name)
            yield from _root_fields(fragments[name].selection_set, fragments, seen | {name})
        else:
            _unreadable("an unknown kind of selection", type(node).__name__)


def read_operation(query: object) -> Operation:
    """The one operation in `query`. Refuses what does not parse, other definitions, and more or less than one operation."""
    if not isinstance(query, str):
        _unreadable("query is not text", type(query).__name__)
    try:
        document = parse(query, no_location=True, max_tokens=MOST_TOKENS)
        operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
        fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
        if len(operations) + len(fragments) != len(document.definitions):
            _unreadable("it defines something else than operations and differently named fragments")
        if len(operations) != 1:
            _unreadable("it holds more or less than one operation", len(operations))
        fields = tuple(_root_fields(operations[0].selection_set, fragments))
    except (GraphQLError, RecursionError) as error:
        _unreadable(f"it does not parse ({type(error).__name__})", query[:60])
    return Operation(operations[0].operation.value, fields)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _unreadable("a key occurs twice")
    return found


def _json(text: bytes | str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=lambda name: _unreadable("a number is not finite", name))
    except (ValueError, RecursionError) as error:
        _unreadable(f"it is not JSON ({type(error).__name__})")


def _request(body: Mapping[str, Any]) -> GraphqlRequest:
    variables = body.get("variables")
    name = body.get("operationName")
    if variables is not None and not isinstance(variables, dict):
        _unreadable("variables are not an object", type(variables).__name__)
    if name is not None and not isinstance(name, str):
        _unreadable("operationName is not text", type(name).__name__)
    if "query" not in body:
        _unreadable("there is no query")
    return GraphqlRequest(body["query"], variables, name or None, read_operation(body["query"]))


def read_body(content_type: str, body: bytes) -> GraphqlRequest:
    """A POST body: one JSON object, as `application/json` in UTF-8. Forms, multipart, text and batches are refused."""
    kind, *parameters = [part.strip().lower() for part in content_type.split(";")]
    if kind != "application/json" or parameters not in ([], ["charset=utf-8"], ['charset="utf-8"']):
        _unreadable("it is not application/json in UTF-8", content_type)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        _unreadable("it is not UTF-8")
    return read_object(_json(text))


def read_object(value: object) -> GraphqlRequest:
    """A request that was already JSON (a WebSocket payload). Unknown keys are refused, `extensions` are dropped."""
    if not isinstance(value, dict):
        _unreadable("it is not one object", type(value).__name__)
    # `operation_name` is how Dagster's WebSocket endpoint spells it; the guard only ever sends `operationName`.
    unknown = value.keys() - {"query", "variables", "operationName", "extensions"}
    if unknown:
        _unreadable("it has unknown keys", sorted(unknown))
    return _request(value)


def read_message(text: str) -> dict[str, Any]:
    """One WebSocket message as an object; what it means is for the caller."""
    value = _json(text)
    if not isinstance(value, dict):
        _unreadable("a message is not one object", type(value).__name__)
    return value


def read_parameters(pairs: list[tuple[str, str]]) -> GraphqlRequest:
    """A GET request's parameters, each at most once; variables are JSON text."""
    body: dict[str, Any] = _unique(list(pairs))
    if body.keys() - {"query", "variables", "operationName", "extensions"}:
        _unreadable("it has unknown parameters", sorted(body))
    if "variables" in body:
        body["variables"] = _json(body["variables"]) if body["variables"] else None
    return _request(body)


def permit(operation: Operation, transport: Transport, role: Role) -> None:
    """Let it pass, or raise `Refused`: queries by GET or POST, subscriptions by WebSocket, listed mutations by POST."""
    if operation.kind == "mutation":
        named = ", ".join(operation.fields)
        if transport != "POST":
            raise Refused(f"A mutation ({named}) came by {transport}.", status=403, rule="mutations come by POST only",
                          value=transport, remedy="Nothing was executed. Use Dagster's own pages or POST /graphql.")
        if role is not Role.OPERATOR:
            raise Refused(f"A reader may look, not change ({named}).", status=403, rule="readers change nothing",
                          value=named, remedy="Sign in as an operator.")
        forbidden = sorted(set(operation.fields) - OPERATOR_MUTATIONS - {"__typename"})
        if forbidden:
            raise Refused(f"{', '.join(forbidden)} is not among the mutations that operators need.", status=403,
                          rule="mutations are allowed by name", value=", ".join(forbidden),
                          remedy="Events come from stages and history is kept; see web/graphql_rules.py for the list.")
    elif (operation.kind == "subscription") != (transport == "WebSocket"):
        raise Refused(f"A {operation.kind} does not come by {transport}.", status=403, rule="GraphQL transport",
                      value=transport, remedy="Queries come by GET or POST, subscriptions by WebSocket.")
