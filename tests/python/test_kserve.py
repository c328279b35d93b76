# SPDX-License-Identifier: Apache-2.0
"""The official Triton clients, unmodified, over HTTP and gRPC."""
import asyncio
import queue
import threading
import time

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

A = np.arange(16, dtype=np.int32).reshape(1, 16)
B = np.ones((1, 16), dtype=np.int32)


@pytest.fixture(params=["http", "grpc"])
def protocol(request, served):
    """(client module, connected client)"""
    if request.param == "http":
        with httpclient.InferenceServerClient(served.http, concurrency=8) as client:
            yield httpclient, client
    else:
        with grpcclient.InferenceServerClient(served.grpc) as client:
            yield grpcclient, client


def make_input(module, name, array):
    made = module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


def simple_inputs(module):
    return [make_input(module, "INPUT0", A), make_input(module, "INPUT1", B)]


def field(reply, name):
    """A member of a reply, which HTTP gives as a dict and gRPC as a message."""
    return reply[name] if isinstance(reply, dict) else getattr(reply, name)


def test_health_and_metadata(protocol):
    _, client = protocol
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("simple")
    assert "binary_tensor_data" in field(client.get_server_metadata(), "extensions")
    metadata = client.get_model_metadata("simple")
    assert list(field(field(metadata, "inputs")[0], "shape")) == [-1, 16]
    config = client.get_model_config("simple")
    assert field(field(config, "config") if not isinstance(config, dict) else config,
                 "max_batch_size") == 8
    with pytest.raises(InferenceServerException, match="unknown model: 'nobody'"):
        client.get_model_metadata("nobody")


def test_infer(protocol):
    module, client = protocol
    result = client.infer("simple", simple_inputs(module), request_id="7")
    assert np.array_equal(result.as_numpy("OUTPUT0"), A + B)
    assert np.array_equal(result.as_numpy("OUTPUT1"), A - B)
    assert field(result.get_response(), "id") == "7"
    only = client.infer("simple", simple_inputs(module),
                        outputs=[module.InferRequestedOutput("OUTPUT1")])
    assert only.as_numpy("OUTPUT0") is None
    with pytest.raises(InferenceServerException, match="expected 2 inputs but got 1"):
        client.infer("simple", simple_inputs(module)[:1])


@pytest.mark.parametrize("name", ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16",
                                  "int32", "int64", "fp16", "fp32", "fp64"])
def test_every_datatype(protocol, name):
    module, client = protocol
    dtype = np.dtype(name.replace("fp", "float"))
    array = np.array([0, 1, 100], dtype=dtype)
    result = client.infer(f"identity_{name}", [make_input(module, "INPUT0", array)])
    back = result.as_numpy("OUTPUT0")
    assert back.dtype == dtype and np.array_equal(back, array)


def test_strings_and_empty_tensors(protocol):
    module, client = protocol
    texts = np.array([b"", "Gr\u00fc\u00dfe".encode(), b"\x00\xff"], dtype=object)
    result = client.infer("identity_string", [make_input(module, "INPUT0", texts)])
    assert list(result.as_numpy("OUTPUT0")) == list(texts)
    empty = np.zeros([0], dtype=np.int32)
    result = client.infer("identity_int32", [make_input(module, "INPUT0", empty)])
    assert result.as_numpy("OUTPUT0").shape == (0,)
    numbers = np.array([[str(i).encode() for i in range(16)]], dtype=object)
    result = client.infer("simple_string", [make_input(module, "INPUT0", numbers),
                                            make_input(module, "INPUT1", numbers)])
    assert result.as_numpy("OUTPUT0")[0][15] == b"30"


def test_bfloat16(protocol):
    module, client = protocol
    array = np.array([1.5, -256.0, 0.0], dtype=ml_dtypes.bfloat16)
    made = module.InferInput("INPUT0", [3], "BF16")
    made.set_data_from_numpy(array)
    result = client.infer("identity_bf16", [made])
    assert np.array_equal(result.as_numpy("OUTPUT0"), array)


def test_json_tensors_and_compression(served):
    with httpclient.InferenceServerClient(served.http) as client:
        inputs = [httpclient.InferInput(n, [1, 16], "INT32") for n in ("INPUT0", "INPUT1")]
        inputs[0].set_data_from_numpy(A, binary_data=False)
        inputs[1].set_data_from_numpy(B, binary_data=True)
        outputs = [httpclient.InferRequestedOutput("OUTPUT0", binary_data=False),
                   httpclient.InferRequestedOutput("OUTPUT1", binary_data=True)]
        for encoding in (None, "gzip", "deflate"):
            result = client.infer("simple", inputs, outputs=outputs,
                                  request_compression_algorithm=encoding,
                                  response_compression_algorithm=encoding)
            assert np.array_equal(result.as_numpy("OUTPUT0"), A + B)
            assert np.array_equal(result.as_numpy("OUTPUT1"), A - B)


def test_classification(protocol):
    module, client = protocol
    array = np.array([0.5, 2.0, -1.0], dtype=np.float32)
    result = client.infer("identity_fp32", [make_input(module, "INPUT0", array)],
                          outputs=[module.InferRequestedOutput("OUTPUT0", class_count=2)])
    assert list(result.as_numpy("OUTPUT0")) == [b"2.000000:1", b"0.500000:0"]


def test_many_at_once(served):
    with httpclient.InferenceServerClient(served.http, concurrency=16) as client:
        asked = [client.async_infer("simple", simple_inputs(httpclient)) for _ in range(64)]
        for request in asked:
            assert np.array_equal(request.get_result().as_numpy("OUTPUT0"), A + B)
    results = queue.Queue()
    with grpcclient.InferenceServerClient(served.grpc) as client:
        for _ in range(64):
            client.async_infer("simple", simple_inputs(grpcclient),
                               lambda result, error: results.put((result, error)))
        for _ in range(64):
            result, error = results.get(timeout=60)
            assert error is None and np.array_equal(result.as_numpy("OUTPUT0"), A + B)


def test_asyncio(served):
    async def ask(module, aio, address):
        async with aio.InferenceServerClient(address) as client:
            assert await client.is_server_ready()
            results = await asyncio.gather(
                *(client.infer("simple", simple_inputs(module)) for _ in range(8)))
            return [result.as_numpy("OUTPUT0") for result in results]

    for module, aio, address in ((httpclient, httpaio, served.http),
                                 (grpcclient, grpcaio, served.grpc)):
        for output in asyncio.run(ask(module, aio, address)):
            assert np.array_equal(output, A + B)


def repeat_inputs(values, delay_ms=0):
    return [make_input(grpcclient, "IN", np.array(values, dtype=np.int32)),
            make_input(grpcclient, "DELAY", np.full(len(values), delay_ms, dtype=np.uint32)),
            make_input(grpcclient, "WAIT", np.zeros([1], dtype=np.uint32))]


def test_decoupled_stream(served):
    results = queue.Queue()
    with grpcclient.InferenceServerClient(served.grpc) as client:
        client.start_stream(lambda result, error: results.put((result, error)))
        client.async_stream_infer("repeat_int32", repeat_inputs([4, 2, 0]), request_id="a",
                                  enable_empty_final_response=True)
        values = []
        while True:
            result, error = results.get(timeout=60)
            assert error is None
            response = result.get_response()
            final = response.parameters["triton_final_response"].bool_param
            if final and not response.outputs:
                break
            values.append(int(result.as_numpy("OUT")[0]))
        assert values == [4, 2, 0]
        # An error is an answer to its request; the stream goes on.
        bad = repeat_inputs([1, 2])
        bad[1] = make_input(grpcclient, "DELAY", np.zeros([1], dtype=np.uint32))
        client.async_stream_infer("repeat_int32", bad, request_id="b")
        _, error = results.get(timeout=60)
        assert "shape to match" in str(error)
        # Models that answer once keep the order of their requests.
        for i in range(20):
            client.async_stream_infer("simple", simple_inputs(grpcclient), request_id=str(i))
        ids = [results.get(timeout=60)[0].get_response().id for _ in range(20)]
        assert ids == [str(i) for i in range(20)]
        client.stop_stream()
    with grpcclient.InferenceServerClient(served.grpc) as client:
        one = client.infer("repeat_int32", repeat_inputs([7]))
        assert one.as_numpy("OUT")[0] == 7
        with pytest.raises(InferenceServerException, match="decoupled transaction policy"):
            client.infer("repeat_int32", repeat_inputs([7, 8]))


def test_cancellation_and_deadlines(served):
    array = np.array([1], dtype=np.int32)
    with grpcclient.InferenceServerClient(served.grpc) as client:
        before = client.get_inference_statistics("slow").model_stats[0]
        done = threading.Event()
        call = client.async_infer("slow", [make_input(grpcclient, "INPUT0", array)],
                                  lambda result, error: done.set())
        call.cancel()
        assert done.wait(60)
        with pytest.raises(InferenceServerException, match="(?i)deadline"):
            client.infer("slow", [make_input(grpcclient, "INPUT0", array)], client_timeout=0.2)
        client.start_stream(lambda result, error: None)
        client.async_stream_infer("repeat_int32", repeat_inputs([1] * 1000, 1000))
        client.stop_stream(cancel_requests=True)
        # What nobody waits for any more ends: the next request does not wait behind it.
        end = time.monotonic() + 60
        while time.monotonic() < end:
            after = client.get_inference_statistics("slow").model_stats[0]
            if after.inference_stats.fail.count >= before.inference_stats.fail.count + 1:
                break
            time.sleep(0.05)
        assert after.inference_stats.success.count == before.inference_stats.success.count


def test_statistics_and_metrics(protocol, served):
    module, client = protocol
    client.infer("twice", [make_input(module, "A", A)])
    statistics = field(client.get_inference_statistics("twice"), "model_stats")[0]
    assert int(field(statistics, "inference_count")) >= 1
    with httpclient.InferenceServerClient(served.metrics) as metrics:
        text = metrics._get("metrics", headers=None, query_params=None).read().decode()
    assert 'nv_inference_request_success{model="twice",version="1"}' in text


def test_ensemble(protocol):
    module, client = protocol
    result = client.infer("twice", [make_input(module, "A", A)])
    assert np.array_equal(result.as_numpy("B"), 2 * A)


def test_model_control(protocol):
    _, client = protocol
    client.unload_model("identity_int8")
    end = time.monotonic() + 60
    while client.is_model_ready("identity_int8") and time.monotonic() < end:
        time.sleep(0.01)
    assert not client.is_model_ready("identity_int8")
    assert client.is_server_ready()
    client.load_model("identity_int8")
    assert client.is_model_ready("identity_int8")
    index = client.get_model_repository_index()
    models = index if isinstance(index, list) else index.models
    assert any(field(m, "name") == "simple" and field(m, "state") == "READY" for m in models)
    with pytest.raises(InferenceServerException, match="failed to load 'nobody'"):
        client.load_model("nobody")
    config = ('{"backend": "identity", "max_batch_size": 3, '
              '"input": [{"name": "I", "data_type": "TYPE_FP32", "dims": [1]}], '
              '"output": [{"name": "O", "data_type": "TYPE_FP32", "dims": [1]}]}')
    client.load_model("from_files", config=config, files={"file:1/empty": b"x"})
    assert client.is_model_ready("from_files")


def test_system_shared_memory(protocol):
    module, client = protocol
    byte_size = A.nbytes
    name = f"trireme_test_{module.__name__.rsplit('.', maxsplit=1)[-1]}"
    region = shm.create_shared_memory_region(name, "/" + name, 4 * byte_size)
    try:
        shm.set_shared_memory_region(region, [A, B])
        client.register_system_shared_memory(name, "/" + name, 4 * byte_size)
        with pytest.raises(InferenceServerException, match="already in manager"):
            client.register_system_shared_memory(name, "/" + name, 4 * byte_size)
        inputs = [module.InferInput(n, [1, 16], "INT32") for n in ("INPUT0", "INPUT1")]
        inputs[0].set_shared_memory(name, byte_size)
        inputs[1].set_shared_memory(name, byte_size, offset=byte_size)
        output = module.InferRequestedOutput("OUTPUT0")
        output.set_shared_memory(name, byte_size, offset=2 * byte_size)
        client.infer("simple", inputs, outputs=[output])
        got = shm.get_contents_as_numpy(region, np.int32, [1, 16], offset=2 * byte_size)
        assert np.array_equal(got, A + B)
        output.set_shared_memory(name, 4, offset=2 * byte_size)
        with pytest.raises(InferenceServerException, match="at least 64 bytes"):
            client.infer("simple", inputs, outputs=[output])
        inputs[0].set_shared_memory(name, byte_size, offset=4 * byte_size)
        with pytest.raises(InferenceServerException, match="Invalid offset"):
            client.infer("simple", inputs)
        status = client.get_system_shared_memory_status()
        assert name in str(status)
    finally:
        client.unregister_system_shared_memory(name)
        shm.destroy_shared_memory_region(region)


def test_log_settings(protocol):
    _, client = protocol
    client.update_log_settings({"log_verbose_level": 0, "log_info": True})
    assert "log_verbose_level" in str(client.get_log_settings())
