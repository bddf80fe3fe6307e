"""How fast are answers? This package's server, alone and behind its router with its log, beside `mlflow models serve` and others.

    python benchmarks/serving.py                      # founds a demo in a folder of its own; writes benchmarks/serving.md
    python benchmarks/serving.py --project FOLDER     # a demo that stands there already
    python benchmarks/serving.py --others FOLDER      # with the servers that `benchmarks/other_servers.py install FOLDER` installed
    python benchmarks/serving.py --seconds 3 --print

All answer for the same model file, one worker and one thread each, one after the other. Callers are threads of this process with a connection
each. This package's server takes raw rows: it validates them, computes the features, scores, decides, and answers when the decision is on the
disk; the others take features that were computed before the clock started. `bare` is this package's server with a log that keeps nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import other_servers

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
PAGE = HERE / "serving.md"
SYSTEM = "credit_lending"
SHAPES = ((1, 1), (1, 8), (100, 1), (100, 8))
"""Rows in a request, callers at once."""
SIDES = {
    "bare": "the server alone, nothing kept",
    "logged": "the server alone, every decision on disk",
    "routed": "router, server and log: what a caller of `compliance serve` gets",
    "mlflow": "`mlflow models serve`, features given",
}


def bare(spec_path: str, port: str) -> None:
    """The very server, on another port, with a log that keeps nothing. Runs in a process of its own."""
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[threads] = "1"
    import uvicorn

    from compliance_assets.heavy import settled
    from compliance_assets.serving.app import make_app
    from compliance_assets.serving.inference_log import InferenceLog
    from compliance_assets.serving.loading import load_served
    from compliance_assets.serving.spec import ServerSpec
    from compliance_assets.serving.switch import StopSwitch

    class Nothing(InferenceLog):
        def append_answer(self, answered: Any) -> None:
            """Keeps nothing."""

    spec = ServerSpec.read(Path(spec_path)).model_copy(update={"port": int(port)})
    with tempfile.TemporaryDirectory() as folder:
        app = make_app(load_served(spec), Nothing(Path(folder), "bare"), StopSwitch(spec.folder))
        settled()
        uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False, limit_concurrency=200)


def save_for_mlflow(spec_path: str, folder: str, features: str) -> None:
    """The same estimator as an MLflow model, and the features of the rows on stdin. Runs in a process of its own."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    from compliance_assets.evidence.artefacts import ArtefactStore
    from compliance_assets.evidence.home import Home
    from compliance_assets.features import serving_features
    from compliance_assets.modelfile import load
    from compliance_assets.policy.definition import load_definition
    from compliance_assets.serving.spec import ServerSpec
    from compliance_assets.trust.canonical import Digest

    spec = ServerSpec.read(Path(spec_path))
    artefacts = ArtefactStore(Home.open(Path(spec.home)).artefacts)
    estimator = load(artefacts.get_bytes(Digest.parse(spec.model)), spec.trusted_types)
    rows = json.loads(sys.stdin.read())
    frame = serving_features(load_definition(Path(spec.root) / "systems" / SYSTEM), rows).to_pandas()
    for column in frame.select_dtypes("category"):
        frame[column] = frame[column].astype(str)
    signature = infer_signature(frame, estimator.predict_proba(frame))
    mlflow.sklearn.save_model(estimator, folder, signature=signature, pyfunc_predict_fn="predict_proba", pip_requirements=["scikit-learn"],
                              serialization_format="skops", skops_trusted_types=list(spec.trusted_types))
    import joblib

    joblib.dump(estimator, f"{folder}.joblib")
    Path(features).write_text(json.dumps({"columns": list(frame.columns), "data": frame.to_numpy(object).tolist()}))


@contextlib.contextmanager
def running(command: Sequence[str], address: str, ready: str, **environment: str) -> Iterator[None]:
    """A server process until the block ends; what it says goes to a file that is shown if it dies."""
    with tempfile.NamedTemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True, env=os.environ | {"PYTHONPATH": str(TOP)} | environment)
        try:
            until = time.monotonic() + 120
            while not _answers(address, ready):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{command[:3]} did not come up:\n{Path(said.name).read_text()[-2000:]}")
                time.sleep(0.2)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _answers(address: str, path: str) -> bool:
    from compliance_assets.serving.client import Client, Unanswered

    try:
        with Client(address, seconds=2) as client:
            return client.get(path).status == 200
    except Unanswered:
        return False


def load(address: str, path: str, body: bytes, callers: int, seconds: float) -> dict[str, Any]:
    """Requests one after the other from each caller; seconds of each, in milliseconds, after a warming second."""
    from compliance_assets.serving.client import Client

    taken: list[float] = []
    refused: list[int] = []
    lock, begun = threading.Lock(), time.monotonic()

    def work(number: int) -> None:
        with Client(address) as client:
            mine: list[float] = []
            place = 0
            while (now := time.monotonic()) < begun + 1 + seconds:
                place += 1
                status = client.post(path, body, {"content-type": "application/json", "x-subject": f"{number}-{place}"}).status
                if status != 200:
                    refused.append(status)
                if now > begun + 1:
                    mine.append(1000 * (time.monotonic() - now))
            with lock:
                taken.extend(mine)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if refused:
        raise SystemExit(f"{address}{path} refused {len(refused)} requests, the first with {refused[0]}")
    taken.sort()
    return {"per_second": len(taken) / seconds, **{f"p{at}": taken[min(len(taken) - 1, len(taken) * at // 100)] for at in (50, 95, 99)}}


def measure(root: Path, seconds: float, rounds: int, others: Path | None = None) -> dict[tuple[str, int, int], dict[str, Any]]:
    """Every side in every shape, in turns, `rounds` times; the round with the most answers counts."""
    from compliance_assets.serving.launching import free_port

    spec_path = next((root / ".compliance/serving/production/specs").glob("*.json"))
    rows = _rows(root)
    sides = [*SIDES, *(name for name in other_servers.PACKAGES if others is not None and (others / name / "bin/python").exists())]
    found: dict[tuple[str, int, int], dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder, features = Path(scratch) / "model", Path(scratch) / "features.json"
        subprocess.run([sys.executable, str(HERE / "serving.py"), "--save", str(spec_path), str(folder), str(features)], input=json.dumps(rows), text=True,
                       check=True, env=os.environ | {"PYTHONPATH": str(TOP)}, stdout=subprocess.DEVNULL)
        given = json.loads(features.read_text())
        ports = json.loads(spec_path.read_text())["port"], free_port(), free_port()
        production = [sys.executable, "-m", "compliance_assets.cli", "serve", "production", "--root", str(root)]
        router = f"http://127.0.0.1:{_router_port(root)}"
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        for _ in range(rounds):
            for side in sides:
                path = "/invocations" if side == "mlflow" else other_servers.PATHS[side][0] if side in other_servers.PATHS else "/predict"
                if side in ("routed", "logged"):
                    command, ready, address = production, "/v2/health/ready", router if side == "routed" else f"http://127.0.0.1:{ports[0]}"
                elif side == "bare":
                    command, ready, address = [sys.executable, str(HERE / "serving.py"), "--bare", str(spec_path), str(ports[1])], "/v2/health/ready", \
                        f"http://127.0.0.1:{ports[1]}"
                elif others is not None and side in other_servers.PATHS:
                    port = free_port()
                    command = [str(others / side / "bin/python"), str(HERE / "other_servers.py"), side, f"{folder}.joblib", str(port)]
                    ready, address = other_servers.PATHS[side][1], f"http://127.0.0.1:{port}"
                else:
                    command = [str(Path(sys.executable).parent / "mlflow"), "models", "serve", "-m", str(folder), "-p", str(ports[2]), "-h", "127.0.0.1",
                               "--env-manager", "local"]
                    ready, address = "/ping", f"http://127.0.0.1:{ports[2]}"
                path_of = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
                with running(command, address, ready, **one_thread, **path_of):
                    for size, callers in SHAPES:
                        body = other_servers.asked(side, given["columns"], given["data"][:size]) if side in other_servers.PATHS else \
                            json.dumps({"dataframe_split": {"columns": given["columns"], "data": given["data"][:size]}} if side == "mlflow"
                                       else {"rows": rows[:size]}).encode()
                        again = load(address, path, body, callers, seconds)
                        print(f"{side:<7} {size:>3} rows {callers} callers: {again['per_second']:7.1f}/s  p50 {again['p50']:6.1f}  p95 {again['p95']:6.1f}  "
                              f"p99 {again['p99']:6.1f} ms", file=sys.stderr, flush=True)
                        place = (side, size, callers)
                        if place not in found or again["per_second"] > found[place]["per_second"]:
                            found[place] = again
    return found


def _rows(root: Path) -> list[dict[str, Any]]:
    """A hundred rows as callers would send them, from the system's golden cases."""
    rows = [case["input"] for case in json.loads((root / "systems" / SYSTEM / "golden.json").read_text())["cases"]]
    return [rows[place % len(rows)] for place in range(100)]


def _router_port(root: Path) -> int:
    from compliance_assets.policy.organisation import load_organisation

    return int(load_organisation(root / "organisation.yaml").environments["production"].serves.port)


def page(found: dict[tuple[str, int, int], dict[str, Any]], seconds: float, rounds: int) -> list[str]:
    sys.path.insert(0, str(HERE))
    from run import machine

    lines = ["# How fast answers come", "", "Made by `python benchmarks/serving.py`, whose beginning says what each side does; do not edit.", "",
             f"Machine: {machine()}. {seconds:g} s for each number after one to warm; the best of {rounds} rounds, all sides in turns. The callers run on the "
             "same cores.", "", "| what | rows | callers | answers/s | p50 ms | p95 ms | p99 ms |", "|---|---|---|---|---|---|---|"]
    for size, callers in SHAPES:
        for side, words in {**SIDES, **other_servers.WORDS}.items():
            one = found.get((side, size, callers))
            if one is None:
                continue  # not installed here
            lines.append(f"| {words} | {size} | {callers} | {one['per_second']:.1f} | {one['p50']:.1f} | {one['p95']:.1f} | {one['p99']:.1f} |")
    lines += ["", "| rows | callers | router and log: time of an answer, as a multiple of the bare server's (p50) | the same in answers/s | "
              "answers/s, as a multiple of `mlflow models serve` | of the quickest other |", "|---|---|---|---|---|---|"]
    for size, callers in SHAPES:
        routed, alone, other = (found[side, size, callers] for side in ("routed", "bare", "mlflow"))
        quickest = max(one["per_second"] for (side, *shape), one in found.items() if side not in ("bare", "logged", "routed") and shape == [size, callers])
        lines.append(f"| {size} | {callers} | {routed['p50'] / alone['p50']:.2f} | {alone['per_second'] / routed['per_second']:.2f} | "
                     f"**{routed['per_second'] / other['per_second']:.2f}** | {routed['per_second'] / quickest:.2f} |")
    return lines


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--project", type=Path, default=None, help="the folder of a finished `compliance demo`")
    asked.add_argument("--seconds", type=float, default=8.0)
    asked.add_argument("--rounds", type=int, default=2)
    asked.add_argument("--others", type=Path, default=None, help="the folder that other_servers.py installed into")
    asked.add_argument("--print", action="store_true", help="print the table only")
    options = asked.parse_args()
    sys.path.insert(0, str(TOP))
    with tempfile.TemporaryDirectory() as place:
        root = options.project
        if root is None:
            root = Path(place) / "demo"
            subprocess.run([sys.executable, "-m", "compliance_assets.cli", "demo", "--folder", str(root), "--port", "18480"], check=True, stdout=sys.stderr,
                           env=os.environ | {"PYTHONPATH": str(TOP)})
        text = "\n".join(page(measure(root.resolve(), options.seconds, options.rounds, options.others), options.seconds, options.rounds))
    print(text)
    if not options.print:
        PAGE.write_text(text + "\n")


if __name__ == "__main__":
    {"--bare": bare, "--save": save_for_mlflow}[sys.argv[1]](*sys.argv[2:]) if sys.argv[1:2] in (["--bare"], ["--save"]) else main()
