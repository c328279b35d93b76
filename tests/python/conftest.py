# SPDX-License-Identifier: Apache-2.0
"""A server of this build with a repository of native test models, for the official clients."""
import os
import pathlib
import re
import subprocess
import time
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build" / "release" / "bin" / "trireme"


def tensor(kind, name, data_type, dims, more=""):
    return f'{kind} {{ name: "{name}" data_type: {data_type} dims: {dims} {more} }}\n'


def add_sub(data_type):
    return ('backend: "add_sub" max_batch_size: 8 dynamic_batching {}\n'
            + tensor("input", "INPUT0", data_type, [16]) + tensor("input", "INPUT1", data_type, [16])
            + tensor("output", "OUTPUT0", data_type, [16])
            + tensor("output", "OUTPUT1", data_type, [16]))


def identity(data_type, more=""):
    return ('backend: "identity" ' + more + tensor("input", "INPUT0", data_type, [-1])
            + tensor("output", "OUTPUT0", data_type, [-1]))


MODELS = {
    "simple": add_sub("TYPE_INT32"),
    "simple_string": add_sub("TYPE_STRING"),
    "repeat_int32": 'backend: "repeat" model_transaction_policy { decoupled: True }\n'
                    + tensor("input", "IN", "TYPE_INT32", [-1])
                    + tensor("input", "DELAY", "TYPE_UINT32", [-1])
                    + tensor("input", "WAIT", "TYPE_UINT32", [1])
                    + tensor("output", "OUT", "TYPE_INT32", [1])
                    + tensor("output", "IDX", "TYPE_UINT32", [1]),
    "slow": identity("TYPE_INT32", 'parameters { key: "execute_delay_ms" '
                     'value { string_value: "3000" } }\n'),
    "twice": 'platform: "ensemble" max_batch_size: 8\n'
             + tensor("input", "A", "TYPE_INT32", [16]) + tensor("output", "B", "TYPE_INT32", [16])
             + 'ensemble_scheduling { step { model_name: "simple" model_version: -1 '
               'input_map { key: "INPUT0" value: "A" } input_map { key: "INPUT1" value: "A" } '
               'output_map { key: "OUTPUT0" value: "B" } } }',
}
for name in ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
             "FP16", "FP32", "FP64", "STRING", "BF16"):
    MODELS[f"identity_{name.lower()}"] = identity(f"TYPE_{name}")


class Served:
    """A running server and its ports."""

    def __init__(self, repository, *flags):
        self.log = open(os.path.join(repository, "log.txt"), "w+b")
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--model-repository", repository, "--http-port=0", "--grpc-port=0",
             "--metrics-port=0", "--allow-client-shm=true", *flags],
            stderr=self.log, stdout=self.log)
        self.http = self._port("HTTPService")
        self.grpc = self._port("GRPCInferenceService")
        self.metrics = self._port("Metrics Service")

    def text(self):
        self.log.flush()
        with open(self.log.name, encoding="utf-8", errors="replace") as file:
            return file.read()

    def _port(self, service):
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            found = re.search(rf"Started {service} at \S+:(\d+)", self.text())
            if found:
                return f"localhost:{found.group(1)}"
            time.sleep(0.02)
        raise RuntimeError(f"no {service}:\n{self.text()}")

    def wait_for(self, text, seconds):
        end = time.monotonic() + seconds
        while text not in self.text():
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(f"the server does not say '{text}':\n{self.text()}")
            time.sleep(0.05)

    def wait_ready(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://{self.http}/v2/health/ready", timeout=5):
                    return
            except urllib.error.URLError:
                time.sleep(0.05)
        raise RuntimeError(f"the server is not ready:\n{self.text()}")

    def stop(self):
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    repository = tmp_path_factory.mktemp("repository")
    for model, config in MODELS.items():
        (repository / model / "1").mkdir(parents=True)
        (repository / model / "config.pbtxt").write_text(config)
    server = Served(str(repository), "--model-control-mode=explicit", "--load-model=*")
    deadline = time.monotonic() + 60
    while "successfully loaded 'twice'" not in server.text() and time.monotonic() < deadline:
        time.sleep(0.02)
    yield server
    assert server.stop() == 0
