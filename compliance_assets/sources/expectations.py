"""Does the data keep its contract? A Great Expectations suite, run on the prepared table, as a result that can be signed.

Great Expectations is the judge of single expectations (counting on Polars: `polars_engine`); this module keeps what it says,
less what has no place in evidence: raw values (they are personal data; so is a minimum, or an error that quotes a value), run
ids, clock times, tracebacks. Numbers are decimal strings. The same table and suite give the same result, byte for byte.
Nothing is sent anywhere and no progress bar is drawn.
"""

from __future__ import annotations

import json
import logging
import math
import re
import warnings
from typing import TYPE_CHECKING, Any

from compliance_assets.errors import StageError
from compliance_assets.heavy import heavy_import
from compliance_assets.trust.canonical import decimal_string

if TYPE_CHECKING:
    import polars as pl

RESULT_FORMAT = {"result_format": "BASIC", "exclude_unexpected_values": True}
UNWRITABLE = "the observed value cannot be written as JSON"
_SHOWS_ONE_ROW = ("expect_column_min_to_be_between", "expect_column_max_to_be_between", "expect_column_median_to_be_between")
"""Their observation is what one row holds: a raw value."""
_SPEAKS_OF_FORM = re.compile(
    rf"{UNWRITABLE}$|Error: The column \"|min_value (and|cannot)|Column values, min_value|Unrecognized numpy/python type|"
    r"No recognized numpy/python type|Metric MetricConfigurationID|list index out of range$")
_COUNTS = ("element_count", "missing_count", "unexpected_count")
_SHOWN = ("type", "kwargs", "meta", "severity")


def validate(frame: pl.DataFrame, suite: bytes) -> dict[str, Any]:
    """Run the suite (its JSON) on `frame`.

    Returns {"engine", "version", "success", "results": [{type, kwargs, meta, success, counts…, observed, error}]} in the
    order of the suite. An expectation that could not be computed has success false and an error. StageError if the suite
    cannot be read by Great Expectations.
    """
    body = _suite_body(suite)
    with warnings.catch_warnings(), heavy_import("great_expectations"):
        # The library's own imports use deprecated modules of the standard library; nothing of ours is hidden by this.
        warnings.simplefilter("ignore", DeprecationWarning)
        import great_expectations as gx
        from great_expectations.core import ExpectationSuite
        from great_expectations.exceptions import GreatExpectationsError

        from compliance_assets.sources.polars_engine import run

    gx.get_context(mode="ephemeral", project_config=_quiet())
    try:
        # Each expectation carries its place as its id, so that its result is known again in whatever order it comes.
        expectations = ExpectationSuite(name=body["name"], expectations=[
            {**item, "id": str(place)} for place, item in enumerate(body["expectations"])])
    except (GreatExpectationsError, ValueError, TypeError, KeyError) as error:
        raise StageError(f"Great Expectations cannot read the contract: {str(error).splitlines()[0]}", rule="contract suite",
                         value=str(body["name"]), remedy="Write it with Great Expectations 1.x (suite.to_json_dict()).") from error
    # An expectation that the library does not know, or whose arguments are wrong, is logged by it and left out: a contract
    # with a typing error would hold for any data. Here it is a refusal.
    understood = [expectation.expectation_type for expectation in expectations.expectations]
    left_out = [item["type"] for item in body["expectations"] if item["type"] not in understood]
    if len(understood) != len(body["expectations"]):
        raise StageError(
            f"Great Expectations understands {len(understood)} of the contract's {len(body['expectations'])} expectations"
            f"{'; not ' + ', '.join(left_out) if left_out else ''}.", rule="contract suite", value=", ".join(left_out),
            remedy="Correct the name or the arguments; write the suite with Great Expectations 1.x (suite.to_json_dict()).")
    with warnings.catch_warnings():
        # What a check says must not depend on which warnings the process happens to turn into errors.
        warnings.simplefilter("ignore")
        # Its log quotes exceptions with what they stumbled over: no value of anybody belongs in a log file either.
        logged = logging.getLogger("great_expectations")
        level = logged.level
        logged.setLevel(logging.CRITICAL)
        try:
            outcome = run(frame, expectations.expectation_configurations, RESULT_FORMAT)
        finally:
            logged.setLevel(level)
    plain = [plain_result(result) for result in outcome]
    results = [_result(item) for item in sorted(plain, key=lambda item: int(item["expectation_config"]["id"]))]
    return {"engine": "polars", "version": str(gx.__version__), "suite": str(body["name"]),
            "success": all(item["success"] for item in results), "results": results}


def _suite_body(suite: bytes) -> dict[str, Any]:
    try:
        body = json.loads(suite)
        return {"name": body["name"], "expectations": [{key: item[key] for key in _SHOWN if key in item}
                                                       for item in body["expectations"]]}
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(f"The contract is not a Great Expectations suite: {error}.", rule="contract suite", value="",
                         remedy="Write it with Great Expectations 1.x (suite.to_json_dict()).") from error


def plain_result(result: Any) -> dict[str, Any]:
    """One validation result as plain JSON values: `to_json_dict` leaves numpy truth values and numbers inside, and refuses to
    write some observations (durations); such an expectation was not answered."""
    try:
        written = result.to_json_dict()
    except TypeError:
        result.success, result.result = False, {}
        result.exception_info = {"raised_exception": True, "exception_message": UNWRITABLE, "exception_traceback": ""}
        written = result.to_json_dict()
    plain: dict[str, Any] = json.loads(json.dumps(written, default=lambda value: value.item()))
    return plain


def _quiet() -> Any:
    """A Great Expectations context that keeps nothing, sends nothing and draws nothing."""
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    return DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False), analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False))


def _result(item: dict[str, Any]) -> dict[str, Any]:
    config, result = item["expectation_config"], item["result"]
    shown: dict[str, Any] = {
        "type": config["type"],
        "kwargs": {key: _signable(value) for key, value in config["kwargs"].items() if key != "batch_id"},
        "meta": _signable(config["meta"] or {}),
        "success": item["success"],
    }
    shown |= {name: result[name] for name in _COUNTS if name in result}
    if isinstance(result.get("observed_value"), int | float | str) and config["type"] not in _SHOWS_ONE_ROW:
        shown["observed"] = _signable(result["observed_value"])
    error = _error(item["exception_info"])
    return shown | ({"error": error} if error else {})


def _error(info: dict[str, Any]) -> str:
    """The message of the first exception, without its traceback; empty if there was none.

    Messages of pandas and numpy quote what they stumbled over, which may be somebody's name: only messages that are known to
    speak of the table's form are kept.
    """
    if "raised_exception" in info:
        info = {"": info}
    messages = sorted(str(part["exception_message"]).splitlines()[0] if part["exception_message"] else ""
                      for part in info.values() if part["raised_exception"])
    if not messages:
        return ""
    told = [message for message in messages if _SPEAKS_OF_FORM.match(message)]
    return told[0][:300] if told else "Great Expectations could not compute this on values of that type"


def _signable(value: Any) -> Any:
    """JSON without floats: decimal strings, whole ones without a point."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return str(int(value)) if value == int(value) and abs(value) < 2**53 else decimal_string(value)
    if isinstance(value, dict):
        return {str(key): _signable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_signable(item) for item in value]
    return value
