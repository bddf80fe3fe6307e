"""The other model servers of the comparison, each around the same estimator, answering for features that are given.

    python benchmarks/other_servers.py install FOLDER          # an environment for each, in FOLDER
    python benchmarks/other_servers.py litserve MODEL PORT     # what benchmarks/serving.py starts, with that environment's Python

They need other versions of common libraries than this project (MLServer holds an old FastAPI), so each lives in an environment of its own.
One worker each. Nothing is validated, nothing is written down.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = {"litserve": ["litserve>=0.2.19,<0.3"], "bentoml": ["bentoml>=1.4.39,<1.5"], "mlserver": ["mlserver>=1.7.1,<1.8", "mlserver-sklearn>=1.7.1,<1.8"],
            "kserve": ["kserve>=0.21,<0.22"]}
WORDS = {"litserve": "LitServe, features given", "bentoml": "BentoML, features given", "mlserver": "MLServer's scikit-learn runtime, features given",
         "kserve": "KServe's Python server, features given"}
PATHS = {"litserve": ("/predict", "/health"), "bentoml": ("/predict", "/readyz"), "mlserver": ("/v2/models/model/infer", "/v2/health/ready"),
         "kserve": ("/v1/models/model:predict", "/v2/health/ready")}
"""Where each is asked, and where it says that it is ready."""


def install(folder: str) -> None:
    """With the versions of scikit-learn, numpy and pandas that saved the model."""
    from importlib.metadata import version

    same = [f"{name}=={version(name)}" for name in ("scikit-learn", "pandas", "joblib")]
    for name, packages in PACKAGES.items():
        place = Path(folder) / name
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(place / "bin/python"), "-m", "pip", "install", "-q", *packages, *same], check=True)


def asked(name: str, columns: list[str], data: list[list[Any]]) -> bytes:
    """The request for these rows in the server's own form; what is missing as null, since NaN is no JSON."""
    data = [[None if isinstance(value, float) and math.isnan(value) else value for value in row] for row in data]
    if name == "mlserver":
        inputs = []
        for place, column in enumerate(columns):
            values = [row[place] for row in data]
            kind = "BYTES" if any(isinstance(value, str) for value in values) else "FP64"
            inputs.append({"name": column, "shape": [len(values), 1], "datatype": kind, "data": values,
                           "parameters": {"content_type": "str" if kind == "BYTES" else "np"}})
        return json.dumps({"parameters": {"content_type": "pd"}, "inputs": inputs, "outputs": [{"name": "predict_proba"}]}).encode()
    return json.dumps({"columns": columns, "data": data}).encode()


def _predictor(model: str) -> Any:
    import joblib
    import pandas as pd

    estimator = joblib.load(model)
    return lambda body: estimator.predict_proba(pd.DataFrame(body["data"], columns=body["columns"]))[:, 1].tolist()


def litserve(model: str, port: str) -> None:
    place = Path(model).parent / "litserve"
    place.mkdir(exist_ok=True)
    (place / "served.py").write_text(f'''
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import litserve as ls, other_servers

class Served(ls.LitAPI):
    def setup(self, device):
        self.scores = other_servers._predictor({model!r})

    def predict(self, body):
        return {{"scores": self.scores(body)}}

if __name__ == "__main__":
    ls.LitServer(Served(), accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port={port}, num_api_servers=1, generate_client_file=False, log_level="warning")
''')
    os.execv(sys.executable, [sys.executable, str(place / "served.py")])


def bentoml(model: str, port: str) -> None:
    place = Path(model).parent / "bento"
    place.mkdir(exist_ok=True)
    (place / "served.py").write_text(f'''
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import bentoml, other_servers

@bentoml.service(workers=1)
class Served:
    def __init__(self):
        self.scores = other_servers._predictor({model!r})

    @bentoml.api
    def predict(self, columns: list[str], data: list[list]) -> list[float]:
        return self.scores({{"columns": columns, "data": data}})
''')
    os.chdir(place)
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    program = str(Path(sys.executable).parent / "bentoml")
    os.execv(program, [program, "serve", "served:Served", "--host", "127.0.0.1", "--port", port])


def mlserver(model: str, port: str) -> None:
    place = Path(model).parent / "mlserver"
    place.mkdir(exist_ok=True)
    other = [int(port) + 1, int(port) + 2]
    (place / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "http_port": int(port), "grpc_port": other[0], "metrics_port": other[1],
                                                     "parallel_workers": 0, "debug": False}))
    (place / "model-settings.json").write_text(json.dumps({"name": "model", "implementation": "mlserver_sklearn.SKLearnModel",
                                                           "parameters": {"uri": model}}))
    program = str(Path(sys.executable).parent / "mlserver")
    os.execv(program, [program, "start", str(place)])


def kserve(model: str, port: str) -> None:
    from kserve import Model, ModelServer

    class Served(Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__("model")
            self.scores = _predictor(model)
            self.ready = True

        def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
            return {"predictions": self.scores(payload)}

    ModelServer(http_port=int(port), workers=1, enable_grpc=False).start([Served()])


if __name__ == "__main__":
    {"install": install, "litserve": litserve, "bentoml": bentoml, "mlserver": mlserver, "kserve": kserve}[sys.argv[1]](*sys.argv[2:])
