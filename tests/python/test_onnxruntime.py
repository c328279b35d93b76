# SPDX-License-Identifier: Apache-2.0
"""Backend onnxruntime: small models, made here field by field, asked by the official client."""
import sys

import numpy as np
import pytest
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from conftest import Served, tensor

FLOAT, INT32, STRING = 1, 6, 8  # of TensorProto.DataType


# The wire format of protobuf, as far as an ONNX model needs it.

def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def value_info(name, kind, dims):
    shape = b"".join(field(1, field(1, d) if isinstance(d, int) else field(2, d)) for d in dims)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def node(op, inputs, outputs):
    return (b"".join(field(1, i) for i in inputs) + b"".join(field(2, o) for o in outputs)
            + field(4, op))


def model(nodes, inputs, outputs):
    graph = (b"".join(field(1, n) for n in nodes) + field(2, "graph")
             + b"".join(field(11, value_info(*i)) for i in inputs)
             + b"".join(field(12, value_info(*o)) for o in outputs))
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


def add_sub(kind, dims):
    return model([node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
                  node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"])],
                 [("INPUT0", kind, dims), ("INPUT1", kind, dims)],
                 [("OUTPUT0", kind, dims), ("OUTPUT1", kind, dims)])


RAGGED = model(
    [node("Identity", ["IN"], ["OUT"]), node("Identity", ["ENDS"], ["TOTALS"])],
    [("IN", FLOAT, ["n"]), ("ENDS", FLOAT, ["b"])], [("OUT", FLOAT, ["n"]), ("TOTALS", FLOAT, ["b"])])

MODELS = {
    "add_sub": (add_sub(INT32, ["batch", 16]), None),
    "fixed": (add_sub(FLOAT, [2, 3]), 'platform: "onnxruntime_onnx"'),
    "strings": (model([node("Identity", ["IN"], ["OUT"])], [("IN", STRING, ["n"])],
                      [("OUT", STRING, ["n"])]),
                'backend: "onnxruntime" ' + tensor("input", "IN", "TYPE_STRING", [-1])
                + tensor("output", "OUT", "TYPE_STRING", [-1])),
    "ragged": (RAGGED, 'backend: "onnxruntime" max_batch_size: 8 '
               'dynamic_batching { preferred_batch_size: [3] max_queue_delay_microseconds: 2000000 } '
               + tensor("input", "IN", "TYPE_FP32", [-1], "allow_ragged_batch: true")
               + tensor("output", "OUT", "TYPE_FP32", [-1])
               + tensor("output", "TOTALS", "TYPE_FP32", [])
               + 'batch_input { kind: BATCH_ACCUMULATED_ELEMENT_COUNT target_name: "ENDS" '
               'data_type: TYPE_FP32 source_input: "IN" } '
               'batch_output { target_name: "OUT" source_input: "IN" }'),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


def write(repository, name, data, config):
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "1" / "model.onnx").write_bytes(data)
    if config is not None:
        (repository / name / "config.pbtxt").write_text(config)


@pytest.fixture(scope="module")
def client(repository):
    for name, (data, config) in MODELS.items():
        write(repository, name, data, config)
    server = Served(str(repository), "--model-control-mode=explicit", "--load-model=*",
                    f"--backend-config=onnxruntime,interpreter={sys.executable}")
    server.wait_ready(120)
    with httpclient.InferenceServerClient(server.http, concurrency=8, network_timeout=300) as made:
        yield made
    assert server.stop() == 0


def inputs(arrays):
    made = []
    for name, array in arrays.items():
        datatype = {np.dtype(np.int32): "INT32", np.dtype(np.float32): "FP32"}.get(array.dtype, "BYTES")
        made.append(httpclient.InferInput(name, list(array.shape), datatype))
        made[-1].set_data_from_numpy(array)
    return made


def test_batches_of_a_completed_model(client):
    config = client.get_model_config("add_sub")
    assert config["max_batch_size"] == 4 and config["input"][0]["dims"] == [16]
    assert "dynamic_batching" in config
    waiting = []
    for i in range(12):
        a = np.full([1 + i % 2, 16], i, np.int32)
        waiting.append((a, client.async_infer("add_sub", inputs({"INPUT0": a, "INPUT1": a * 2}))))
    for a, request in waiting:
        result = request.get_result()
        assert np.array_equal(result.as_numpy("OUTPUT0"), a * 3)
        assert np.array_equal(result.as_numpy("OUTPUT1"), -a)
    only = client.infer("add_sub", inputs({"INPUT0": a, "INPUT1": a}),
                        outputs=[httpclient.InferRequestedOutput("OUTPUT1")])
    assert only.as_numpy("OUTPUT0") is None and not only.as_numpy("OUTPUT1").any()


def test_fixed_shapes_and_strings(client):
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = client.infer("fixed", inputs({"INPUT0": a, "INPUT1": a}))
    assert np.array_equal(result.as_numpy("OUTPUT0"), a + a)
    texts = np.array(["a", "Gr\u00fc\u00dfe"], dtype=object)
    result = client.infer("strings", inputs({"IN": texts}))
    assert [text.decode() for text in result.as_numpy("OUT")] == list(texts)


def test_ragged_batches_with_batch_inputs(client):
    arrays = [np.arange(n, dtype=np.float32).reshape(1, n) for n in (3, 1, 5)]
    waiting = [client.async_infer("ragged", inputs({"IN": array})) for array in arrays]
    results = [request.get_result() for request in waiting]
    for array, result in zip(arrays, results):
        assert np.array_equal(result.as_numpy("OUT"), array)
    # Joined in some order; the last of them ends where all elements end.
    ends = sorted(float(result.as_numpy("TOTALS")[0]) for result in results)
    assert ends[-1] == 9 and len(set(ends)) == 3
    stats = client.get_inference_statistics("ragged")["model_stats"][0]
    assert stats["execution_count"] == 1 and stats["inference_count"] == 3


@pytest.mark.parametrize("name, data, config, message", [
    ("not_onnx", b"nothing", None, "INVALID_PROTOBUF"),
    ("other_names", add_sub(INT32, ["b", 16]), 'backend: "onnxruntime" max_batch_size: 2 '
     + tensor("input", "X", "TYPE_INT32", [16]) + tensor("output", "OUTPUT0", "TYPE_INT32", [16]),
     "the model's inputs are"),
    ("other_parameter", add_sub(INT32, ["b", 16]), 'backend: "onnxruntime" parameters { key: "magic" '
     'value { string_value: "1" } }', "no parameter 'magic'"),
])
def test_models_that_do_not_load(repository, client, name, data, config, message):
    write(repository, name, data, config)
    with pytest.raises(InferenceServerException, match=message):
        client.load_model(name)
