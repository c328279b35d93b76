# SPDX-License-Identifier: Apache-2.0
"""Sequences, warm-up and the response cache, seen through a Python model and the official client."""
import re
import sys
import urllib.request

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from conftest import Served, tensor

# OUT = the sum of the sequence so far, kept in the model by correlation id; SEEN: what it was told.
SUM = '''
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            def value(name):
                return pb_utils.get_input_tensor_by_name(request, name).as_numpy().ravel()[0]
            corrid, start, end, ready = (value(n) for n in ("CORRID", "START", "END", "READY"))
            if not ready:
                assert corrid == 0 and value("IN") == 0
                responses.append(pb_utils.InferenceResponse([]))
                continue
            if isinstance(corrid, bytes):
                corrid = corrid.decode()
            self.sums[corrid] = value("IN") + (0 if start else self.sums[corrid])
            seen = f"{corrid} {int(start)} {int(end)} {len(requests)} {requests.index(request)}"
            out = np.array([[self.sums[corrid]]], np.int32)
            responses.append(pb_utils.InferenceResponse([
                pb_utils.Tensor("OUT", out),
                pb_utils.Tensor("SEEN", np.array([[seen]], dtype=object))]))
            if end:
                del self.sums[corrid]
        return responses
'''

# The same with its sum in a state that the server keeps.
STATEFUL = '''
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            value = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            total = pb_utils.get_input_tensor_by_name(request, "SUM_IN").as_numpy() + value
            responses.append(pb_utils.InferenceResponse([
                pb_utils.Tensor("OUT", total), pb_utils.Tensor("SUM_OUT", total)]))
        return responses
'''

# Counts what it is asked.
COUNT = '''
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.count = 0

    def execute(self, requests):
        responses = []
        for request in requests:
            value = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            print("asked with", value.tolist(), flush=True)
            if (value == 13).any():
                raise ValueError("thirteen")
            self.count += 1
            responses.append(pb_utils.InferenceResponse([
                pb_utils.Tensor("OUT", np.full_like(value, self.count))]))
        return responses
'''

NUMBERS = tensor("input", "IN", "TYPE_INT32", [1]) + tensor("output", "OUT", "TYPE_INT32", [1])


def control(name, kind, more):
    return f'{{ name: "{name}" control [{{ kind: CONTROL_SEQUENCE_{kind} {more} }}] }}'


def sequence(strategy, corrid="TYPE_UINT64"):
    return ('backend: "python" max_batch_size: 4 ' + NUMBERS
            + tensor("output", "SEEN", "TYPE_STRING", [1])
            + "sequence_batching { max_sequence_idle_microseconds: 2000000 " + strategy
            + " control_input [ " + ", ".join([
                control("START", "START", "int32_false_true: [0, 1]"),
                control("END", "END", "bool_false_true: [false, true]"),
                control("READY", "READY", "fp32_false_true: [0, 1]"),
                control("CORRID", "CORRID", "data_type: " + corrid)]) + " ] }")


def warmup(name, data, batch=1):
    return (f'model_warmup {{ name: "{name}" batch_size: {batch} inputs {{ key: "IN" value {{ '
            f'data_type: TYPE_INT32 dims: [1] {data} }} }} }}')


MODELS = {
    "direct": (SUM, sequence("direct {}")),
    "oldest": (SUM, sequence("oldest { max_candidate_sequences: 3 "
                             "max_queue_delay_microseconds: 1000 }", "TYPE_STRING")),
    "stateful": (STATEFUL, 'backend: "python" ' + NUMBERS + 'sequence_batching { state [{ '
                 'input_name: "SUM_IN" output_name: "SUM_OUT" data_type: TYPE_INT32 dims: [1] '
                 'initial_state { data_type: TYPE_INT32 dims: [1] data_file: "hundred" '
                 'name: "start" } }] }'),
    "warm": (COUNT, 'backend: "python" max_batch_size: 4 instance_group { count: 2 } ' + NUMBERS
             + warmup("zeros", "zero_data: true", 2) + warmup("file", 'input_data_file: "seven"')),
    "cold": (COUNT, 'backend: "python" max_batch_size: 4 ' + NUMBERS
             + warmup("bad", 'input_data_file: "thirteen"')),
    "cached": (COUNT, 'backend: "python" response_cache { enable: true } ' + NUMBERS),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    repository = tmp_path_factory.mktemp("scheduling")
    for name, (source, config) in MODELS.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1" / "model.py").write_text(source)
        (repository / name / "config.pbtxt").write_text(config)
    for model, folder, file, value in (("stateful", "initial_state", "hundred", 100),
                                       ("warm", "warmup", "seven", 7),
                                       ("cold", "warmup", "thirteen", 13)):
        (repository / model / folder).mkdir()
        (repository / model / folder / file).write_bytes(np.int32(value).tobytes())
    server = Served(str(repository), "--model-control-mode=explicit", "--load-model=*",
                    "--exit-on-error=false", "--strict-readiness=false",
                    "--cache-config=local,size=1048576",
                    f"--backend-config=python,interpreter={sys.executable}",
                    "--disable-auto-complete-config")
    server.wait_for("load_failed model=cold", 60)
    server.wait_for("successfully loaded 'warm'", 60)
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def client(served):
    with httpclient.InferenceServerClient(served.http, concurrency=8, network_timeout=300) as made:
        yield made


def number(value, batched=True, module=httpclient):
    made = module.InferInput("IN", [1, 1] if batched else [1], "INT32")
    made.set_data_from_numpy(np.array([[value]] if batched else [value], np.int32))
    return [made]


def step(client, model, sequence_id, value, start=False, end=False, batched=True):
    result = client.infer(model, number(value, batched), sequence_id=sequence_id,
                          sequence_start=start, sequence_end=end)
    return int(result.as_numpy("OUT").ravel()[0]), result


@pytest.mark.parametrize("model", ["direct", "oldest"])
def test_sequences_do_not_mix(client, model):
    ids = [7, 8, 9]
    for sequence_id in ids:
        total, result = step(client, model, sequence_id, sequence_id, start=True)
        assert total == sequence_id
        seen = result.as_numpy("SEEN")[0, 0].decode().split()
        assert seen[:3] == [str(sequence_id), "1", "0"]
    for sequence_id in ids:
        assert step(client, model, sequence_id, 100)[0] == sequence_id + 100
    for sequence_id in ids:
        total, result = step(client, model, sequence_id, 1, end=True)
        assert total == sequence_id + 101
        assert result.as_numpy("SEEN")[0, 0].decode().split()[2] == "1"
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        step(client, model, ids[0], 1)


def test_a_direct_sequence_keeps_its_place(client):
    for sequence_id in (1, 2, 3):
        step(client, "direct", sequence_id, 0, start=True)
    for _ in range(2):
        seen = step(client, "direct", 3, 0)[1].as_numpy("SEEN")[0, 0].decode().split()
        assert seen[3:] == ["3", "2"], "two places below it are filled"
    for sequence_id in (1, 2, 3):
        step(client, "direct", sequence_id, 0, end=True)


def test_named_sequences_and_a_backlog(client):
    names = [f"sequence {i}" for i in range(6)]  # three of them wait for a place
    first = [client.async_infer("oldest", number(i), sequence_id=name, sequence_start=True)
             for i, name in enumerate(names)]
    last = [client.async_infer("oldest", number(10), sequence_id=name, sequence_end=True)
            for name in names]
    assert [int(r.get_result().as_numpy("OUT")[0, 0]) for r in first] == list(range(6))
    assert [int(r.get_result().as_numpy("OUT")[0, 0]) for r in last] == [i + 10 for i in range(6)]


def test_an_idle_sequence_ends(client):
    import time
    step(client, "direct", 77, 1, start=True)
    time.sleep(2.5)
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        step(client, "direct", 77, 1)


def test_what_a_sequence_request_must_be(client):
    with pytest.raises(InferenceServerException, match="non-zero or non-empty correlation ID"):
        client.infer("direct", number(1))
    two = httpclient.InferInput("IN", [2, 1], "INT32")
    two.set_data_from_numpy(np.zeros([2, 1], np.int32))
    with pytest.raises(InferenceServerException, match="must specify batch-size 1"):
        client.infer("direct", [two], sequence_id=5, sequence_start=True)
    with pytest.raises(InferenceServerException, match="wants a number as correlation id"):
        client.infer("direct", number(1), sequence_id="five", sequence_start=True)


def test_a_state_goes_from_request_to_request(client):
    assert step(client, "stateful", 1, 1, start=True, batched=False)[0] == 101
    assert step(client, "stateful", 1, 2, batched=False)[0] == 103
    total, result = step(client, "stateful", 1, 3, end=True, batched=False)
    assert total == 106
    assert [o["name"] for o in result.get_response()["outputs"]] == ["OUT"]
    assert step(client, "stateful", 1, 1, start=True, end=True, batched=False)[0] == 101


def test_sequence_over_grpc_stream(served):
    results = []
    with grpcclient.InferenceServerClient(served.grpc) as client:
        client.start_stream(lambda result, error: results.append((result, error)))
        for i in range(5):
            client.async_stream_infer("direct", number(i, module=grpcclient), sequence_id=21,
                                      sequence_start=i == 0, sequence_end=i == 4)
        client.stop_stream()
    assert [int(r.as_numpy("OUT")[0, 0]) for r, _ in results] == [0, 1, 3, 6, 10]


def test_warm_up(served, client):
    log = served.text()
    for instance in ("warm_0_0", "warm_0_1"):
        assert f'instance={instance} stream=stdout line="asked with [[0], [0]]"' in log
        assert f'instance={instance} stream=stdout line="asked with [[7]]"' in log
    assert client.get_inference_statistics("warm")["model_stats"][0]["inference_count"] == 0
    assert int(client.infer("warm", number(5)).as_numpy("OUT")[0, 0]) == 3
    assert not client.is_model_ready("cold")
    assert "model_warmup 'bad' of model 'cold'" in log and "ValueError: thirteen" in log


def cached(client, value, **more):
    return int(client.infer("cached", number(value, False), **more).as_numpy("OUT")[0])


def test_response_cache(served, client):
    first = cached(client, 1)
    assert cached(client, 1, request_id="other") == first
    assert cached(client, 2) == first + 1
    assert cached(client, 1) == first
    with pytest.raises(InferenceServerException, match="thirteen"):
        cached(client, 13)
    with pytest.raises(InferenceServerException, match="thirteen"):
        cached(client, 13)
    stats = client.get_inference_statistics("cached")["model_stats"][0]
    assert stats["inference_stats"]["cache_hit"]["count"] == 2
    assert stats["inference_stats"]["cache_miss"]["count"] == 4
    assert stats["inference_count"] == 2 and stats["inference_stats"]["success"]["count"] == 4
    with urllib.request.urlopen(f"http://{served.metrics}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    assert re.search(r'nv_cache_num_hits_per_model\{model="cached",version="1"\} 2\b', text)
