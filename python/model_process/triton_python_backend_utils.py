# SPDX-License-Identifier: Apache-2.0
"""What a model.py uses (as pb_utils): tensors, requests, responses, calls of other models.

The names and behaviour are those that models of Triton's Python backend know. The module needs
numpy only; the process that runs the model connects it to the server (trireme_model_process.py).
"""
import asyncio
import json
import queue
import struct
import sys
import threading
import weakref

import numpy as np

import trireme_dlpack
import trireme_wire

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2
TRITONSERVER_MEMORY_GPU = 0
TRITONSERVER_MEMORY_CPU = 1

# Name on the wire, number in the configuration schema, numpy's type.
_TYPES = (
    ("BOOL", 1, np.bool_), ("UINT8", 2, np.uint8), ("UINT16", 3, np.uint16),
    ("UINT32", 4, np.uint32), ("UINT64", 5, np.uint64), ("INT8", 6, np.int8),
    ("INT16", 7, np.int16), ("INT32", 8, np.int32), ("INT64", 9, np.int64),
    ("FP16", 10, np.float16), ("FP32", 11, np.float32), ("FP64", 12, np.float64),
    ("BYTES", 13, np.object_))
TRITON_TO_NUMPY_TYPE = {number: kind for _, number, kind in _TYPES}
NUMPY_TO_TRITON_TYPE = {kind: number for _, number, kind in _TYPES}
NUMPY_TO_TRITON_TYPE[np.bytes_] = 13
TRITON_STRING_TO_NUMPY = {
    "TYPE_" + ("STRING" if name == "BYTES" else name): kind for name, _, kind in _TYPES}
_DTYPE_OF = {name: np.dtype(kind) for name, _, kind in _TYPES}
_NAME_OF = {np.dtype(kind): name for name, _, kind in _TYPES}

_connection = None  # set by the model process before the model is imported


class TritonModelException(Exception):
    """A use of this module that cannot work, or an error of the server."""


class TritonError:
    """An error to answer with."""
    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE = 0, 1, 2, 3, 4
    UNSUPPORTED, ALREADY_EXISTS, CANCELLED = 5, 6, 7

    def __init__(self, message, code=INTERNAL):
        if code not in range(8):
            raise TritonModelException(f"{code!r} is no code of TritonError")
        self._message = str(message)
        self._code = code

    def code(self):
        return self._code

    def message(self):
        return self._message

    def __str__(self):
        return self._message


# Types.

def triton_to_numpy_type(data_type):
    return TRITON_TO_NUMPY_TYPE[data_type]


def numpy_to_triton_type(data_type):
    return NUMPY_TO_TRITON_TYPE[np.dtype(data_type).type]


def triton_string_to_numpy(triton_type_string):
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def serialize_byte_tensor(input_tensor):
    """The bytes of a BYTES tensor, as an array of one object; of an empty tensor, an empty array."""
    if input_tensor.size == 0:
        return np.empty([0], dtype=np.object_)
    flat = b"".join(_strings_to_pieces(input_tensor))
    array = np.empty([1], dtype=np.object_)
    array[0] = flat
    return array


def deserialize_bytes_tensor(encoded_tensor):
    """The elements of the bytes of a BYTES tensor, as a flat array of bytes objects."""
    view = memoryview(encoded_tensor).cast("B")
    elements, at = [], 0
    while at < len(view):
        (length,) = struct.unpack_from("<I", view, at)
        elements.append(bytes(view[at + 4:at + 4 + length]))
        at += 4 + length
    array = np.empty([len(elements)], dtype=np.object_)
    array[:] = elements
    return array


def _strings_to_pieces(array):
    for element in array.ravel():
        if not isinstance(element, bytes):
            element = str(element).encode()
        yield struct.pack("<I", len(element))
        yield element


class Tensor:
    """A named tensor on the CPU."""

    def __init__(self, name, np_array):
        if not isinstance(np_array, np.ndarray):
            raise TritonModelException(
                f"tensor '{name}' needs a numpy array, not {type(np_array).__name__}")
        self._name = str(name)
        self._array = None
        if np_array.dtype.kind in "OSU":
            self._datatype = "BYTES"
            self._array = np_array
            self._data = b"".join(_strings_to_pieces(np_array))
        elif np_array.dtype.name == "bfloat16":
            self._datatype = "BF16"
            self._data = np.ascontiguousarray(np_array).view(np.uint16).reshape(-1)
        elif np_array.dtype.newbyteorder("=") in _NAME_OF:
            native = np_array.dtype.newbyteorder("=")
            self._datatype = _NAME_OF[native]
            self._array = np.asarray(np_array, dtype=native, order="C")
            self._data = self._array.reshape(-1)
        else:
            raise TritonModelException(
                f"tensor '{name}' has type {np_array.dtype}, which no datatype stands for")
        self._shape = tuple(np_array.shape)

    @classmethod
    def _of(cls, name, datatype, shape, data):
        tensor = cls.__new__(cls)
        tensor._name, tensor._datatype, tensor._shape = name, datatype, tuple(shape)
        tensor._data, tensor._array = data, None
        return tensor

    def name(self):
        return self._name

    def shape(self):
        return list(self._shape)

    def triton_dtype(self):
        return next((number for name, number, _ in _TYPES if name == self._datatype), 14)

    def is_cpu(self):
        return True

    def as_numpy(self):
        if self._array is None:
            if self._datatype == "BYTES":
                self._array = deserialize_bytes_tensor(self._data).reshape(self._shape)
            elif self._datatype == "BF16":
                raise TritonModelException(
                    f"tensor '{self._name}' is BF16, which numpy does not know; use to_dlpack()")
            else:
                self._array = np.frombuffer(self._data, dtype=_DTYPE_OF[self._datatype]).reshape(
                    self._shape)
        return self._array

    @staticmethod
    def from_dlpack(name, tensor):
        datatype, shape, data = trireme_dlpack.read(tensor)
        return Tensor._of(str(name), datatype, shape, data)

    def to_dlpack(self):
        return self.__dlpack__()

    def __dlpack__(self, *, stream=None, **_):
        if self._datatype == "BYTES":
            raise TritonModelException("DLPack has no strings")
        return trireme_dlpack.make(self._datatype, self._shape,
                                   np.frombuffer(self._data, dtype=np.uint8))

    def __dlpack_device__(self):
        return (1, 0)


def _decode_tensors(rows, blob):
    view = memoryview(blob).cast("B") if rows else None
    return [Tensor._of(name, datatype, shape, view[at:at + size])
            for name, datatype, shape, at, size in rows]


def _encode_tensors(tensors):
    """(rows of the message, pieces and size of its blob)"""
    rows, pieces, at = [], [], 0
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TritonModelException(f"expected a Tensor, not {type(tensor).__name__}")
        size = memoryview(tensor._data).nbytes
        rows.append([tensor._name, tensor._datatype, list(tensor._shape), at, size])
        pieces.append((at, tensor._data))
        at = trireme_wire.aligned(at + size)
    return rows, pieces, at


def _find(tensors, name):
    return next((tensor for tensor in tensors if tensor.name() == name), None)


def get_input_tensor_by_name(inference_request, name):
    return _find(inference_request.inputs(), name)


def get_output_tensor_by_name(inference_response, name):
    return _find(inference_response.output_tensors(), name)


def _find_config(model_config, kind, name):
    return next((entry for entry in model_config.get(kind, ()) if entry["name"] == name), None)


def get_input_config_by_name(model_config, name):
    return _find_config(model_config, "input", name)


def get_output_config_by_name(model_config, name):
    return _find_config(model_config, "output", name)


def using_decoupled_model_transaction_policy(model_config):
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def get_model_dir():
    return _connection.version_dir


# Requests and responses.

class PreferredMemory:
    """Where outputs should lie. Everything lies on the CPU here."""

    def __init__(self, preferred_memory_type=TRITONSERVER_MEMORY_CPU, preferred_device_id=0):
        self._type, self._device = preferred_memory_type, preferred_device_id


class InferenceTrace:
    """Request tracing does not exist, so there is never a context."""

    def get_context(self):
        return None


class InferenceResponse:
    def __init__(self, output_tensors=None, error=None, parameters=None):
        self._outputs = list(output_tensors or [])
        for tensor in self._outputs:
            if not isinstance(tensor, Tensor):
                raise TritonModelException(f"expected a Tensor, not {type(tensor).__name__}")
        if error is not None and not isinstance(error, TritonError):
            error = TritonError(str(error))
        self._error = error
        self._parameters = _check_parameters(parameters)

    def output_tensors(self):
        return self._outputs

    def has_error(self):
        return self._error is not None

    def error(self):
        return self._error

    def parameters(self):
        return json.dumps(self._parameters)


def _check_parameters(parameters):
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, dict):
        raise TritonModelException("parameters must be a dict")
    for key, value in parameters.items():
        if not isinstance(key, str) or not isinstance(value, (bool, int, float, str)):
            raise TritonModelException(
                f"parameter {key!r} must be a string, an integer, a number or a boolean")
    return dict(parameters)


class _Answer:
    """One request's way back: what has been sent, whether the client still wants more."""

    def __init__(self, number, wanted, decoupled):
        self.number = number
        self.wanted = wanted
        self.decoupled = decoupled
        self.cancelled = False
        self.closed = False
        self.count = 0
        self._lock = threading.Lock()

    def send(self, response, final):
        tensors = response.output_tensors() if response is not None else []
        rows, pieces, size = _encode_tensors([t for t in tensors if t.name() in self.wanted])
        with self._lock:
            if self.closed:
                raise TritonModelException(
                    "Unable to send response. Response sender has been closed.")
            if response is not None:
                if not self.decoupled and self.count > 0:
                    raise TritonModelException(
                        "Non-decoupled model cannot send more than one response")
                self.count += 1
            self.closed = final
            message = {"type": "response", "request": self.number, "final": final,
                       "empty": response is None, "outputs": rows}
            if response is not None:
                if response._parameters:
                    message["parameters"] = response._parameters
                if response.has_error():
                    message["error"] = response.error().message()
                    message["code"] = response.error().code()
            _connection.channel.send(message, pieces, size)

    def fail(self, text):
        try:
            self.send(InferenceResponse(error=TritonError(text)), True)
        except TritonModelException:
            pass  # it was closed meanwhile

    def __del__(self):
        # Nobody can answer any more; the client must not wait for ever. Sending takes locks, and
        # this may run anywhere, so another thread does it.
        if not self.closed and _connection is not None:
            _connection.later(_connection.abandon, self.number, self.count)


class InferenceResponseSender:
    def __init__(self, answer):
        self._answer = answer

    def send(self, response=None, flags=0):
        if flags not in (0, TRITONSERVER_RESPONSE_COMPLETE_FINAL):
            raise TritonModelException(
                f"unable to send response with flags {flags!r}: use 0 or "
                "TRITONSERVER_RESPONSE_COMPLETE_FINAL")
        if response is None and flags == 0:
            raise TritonModelException(
                "Inference response object must be provided when the response flags is set to 0.")
        if response is not None and not isinstance(response, InferenceResponse):
            raise TritonModelException(
                f"expected an InferenceResponse, not {type(response).__name__}")
        self._answer.send(response, bool(flags & TRITONSERVER_RESPONSE_COMPLETE_FINAL))

    def is_cancelled(self):
        return self._answer.cancelled


class InferenceRequest:
    """A request to this model, or one that this model makes of another."""

    def __init__(self, inputs=None, requested_output_names=None, model_name="", model_version=-1,
                 request_id="", correlation_id=0, flags=0, timeout=0, preferred_memory=None,
                 trace=None, parameters=None):
        self._inputs = list(inputs or [])
        for tensor in self._inputs:
            if not isinstance(tensor, Tensor):
                raise TritonModelException(f"expected a Tensor, not {type(tensor).__name__}")
        self._outputs = list(requested_output_names or [])
        self._model_name, self._model_version = model_name, int(model_version)
        self._id, self._correlation_id = str(request_id), correlation_id
        self._flags, self._timeout = int(flags), int(timeout)
        self._parameters = _check_parameters(parameters)
        self._trace = trace or InferenceTrace()
        self._answer = None  # of a request to this model

    @classmethod
    def _of(cls, row, blob, decoupled):
        request = cls.__new__(cls)
        request._inputs = _decode_tensors(row["inputs"], blob)
        request._outputs = row["outputs"]
        request._model_name, request._model_version = "", -1
        request._id, request._correlation_id = row["id"], row["correlation_id"]
        request._flags, request._timeout = row["flags"], row["timeout"]
        request._parameters = row["parameters"]
        request._trace = InferenceTrace()
        request._answer = _Answer(row["request"], row["outputs"], decoupled)
        return request

    def inputs(self):
        return self._inputs

    def request_id(self):
        return self._id

    def correlation_id(self):
        return self._correlation_id

    def flags(self):
        return self._flags

    def set_flags(self, flags):
        self._flags = int(flags)

    def timeout(self):
        return self._timeout

    def parameters(self):
        return json.dumps(self._parameters)

    def requested_output_names(self):
        return self._outputs

    def model_name(self):
        return self._model_name

    def model_version(self):
        return self._model_version

    def trace(self):
        return self._trace

    def is_cancelled(self):
        return self._answer is not None and self._answer.cancelled

    def get_response_sender(self):
        if self._answer is None:
            raise TritonModelException("this request was not given to the model by the server")
        return InferenceResponseSender(self._answer)

    def set_release_flags(self, flags):
        if flags == TRITONSERVER_REQUEST_RELEASE_RESCHEDULE:
            raise TritonModelException("rescheduling of requests does not exist here yet")
        if flags != TRITONSERVER_REQUEST_RELEASE_ALL:
            raise TritonModelException(f"{flags!r} is no release flag")

    # Calls of other models.

    def _call(self, decoupled):
        if not _connection.may_call:
            raise TritonModelException("BLS is supported only during the 'execute' function.")
        if not self._model_name:
            raise TritonModelException("the request names no model (model_name)")
        return _Call(self, decoupled)

    def exec(self, decoupled=False):
        call = self._call(decoupled)
        return ResponseIterator(call) if decoupled else call.wait_one()

    async def async_exec(self, decoupled=False):
        call = self._call(decoupled)
        return ResponseIterator(call) if decoupled else await call.wait_one_async()


class _Call:
    """A request to another model, with its responses as they come."""

    def __init__(self, request, decoupled):
        self._responses = queue.SimpleQueue()  # (InferenceResponse or None, final)
        self._waiter = None  # (loop, future) of an asynchronous wait
        self._lock = threading.Lock()
        rows, pieces, size = _encode_tensors(request._inputs)
        self.number = _connection.add_call(self)
        _connection.channel.send(
            {"type": "infer", "call": self.number, "decoupled": decoupled,
             "model_name": request._model_name, "model_version": request._model_version,
             "id": request._id, "correlation_id": request._correlation_id,
             "flags": request._flags, "timeout": request._timeout,
             "parameters": request._parameters, "inputs": rows, "outputs": request._outputs},
            pieces, size)

    def on_response(self, message, blob):
        """On the receiving thread."""
        response = None
        if not message["empty"]:
            error = message.get("error")
            response = InferenceResponse(
                _decode_tensors(message["outputs"], blob),
                None if error is None else TritonError(error, message["code"]),
                message["parameters"])
        self._responses.put((response, message["final"]))
        with self._lock:
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            loop, future = waiter
            try:
                loop.call_soon_threadsafe(lambda: future.done() or future.set_result(None))
            except RuntimeError:
                pass  # the loop was closed: nobody waits any more

    def cancel(self):
        _connection.channel.send({"type": "infer_cancel", "call": self.number})

    def next(self):
        return self._responses.get()

    async def next_async(self):
        while True:
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            with self._lock:
                self._waiter = (loop, future)
            try:
                return self._responses.get_nowait()
            except queue.Empty:
                await future

    def wait_one(self):
        return self.next()[0]

    async def wait_one_async(self):
        return (await self.next_async())[0]


class ResponseIterator:
    """The responses of a call, one after another; also with `async for`."""

    def __init__(self, call):
        self._call = call
        self._ended = False
        # When nobody listens any more, the other model may stop.
        weakref.finalize(self, _drop_call, call.number).atexit = False

    def __iter__(self):
        return self

    def __next__(self):
        if self._ended:
            raise StopIteration
        response, self._ended = self._call.next()
        return response if response is not None else InferenceResponse()

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self._ended:
            raise StopAsyncIteration
        response, self._ended = await self._call.next_async()
        return response if response is not None else InferenceResponse()

    def cancel(self):
        self._call.cancel()


def _drop_call(number):
    _connection.later(_connection.drop_call, number)


# Logging.

class Logger:
    INFO, WARNING, ERROR, VERBOSE = "info", "warning", "error", "debug"

    @staticmethod
    def log(message, level=INFO):
        _connection.channel.send({"type": "log", "level": level, "text": str(message)})

    @staticmethod
    def log_info(message):
        Logger.log(message, Logger.INFO)

    @staticmethod
    def log_warn(message):
        Logger.log(message, Logger.WARNING)

    @staticmethod
    def log_error(message):
        Logger.log(message, Logger.ERROR)

    @staticmethod
    def log_verbose(message):
        Logger.log(message, Logger.VERBOSE)


# Configuration.

class ModelConfig:
    """What auto_complete_config may read and complete."""

    def __init__(self, model_config):
        self._config = json.loads(model_config) if isinstance(model_config, str) else model_config

    def as_dict(self):
        return self._config

    def set_max_batch_size(self, max_batch_size):
        have = self._config.get("max_batch_size", 0)
        if have > max_batch_size:
            raise ValueError(
                f"configuration specified max_batch_size as {have}, but the model completes it as "
                f"{max_batch_size}")
        self._config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self):
        for choice in ("sequence_batching", "ensemble_scheduling"):
            if choice in self._config:
                raise ValueError(f"configuration has {choice}, so dynamic_batching cannot be set")
        self._config.setdefault("dynamic_batching", {})

    def set_model_transaction_policy(self, transaction_policy_dict):
        unknown = set(transaction_policy_dict) - {"decoupled"}
        if unknown:
            raise ValueError(f"model transaction policy property '{unknown.pop()}' is unknown")
        if "decoupled" in transaction_policy_dict:
            wanted = bool(transaction_policy_dict["decoupled"])
            given = self._config.get("model_transaction_policy")
            if given is not None and given.get("decoupled") and not wanted:
                raise ValueError(
                    "transaction policy is decoupled in the configuration and not in the model")
            self._config["model_transaction_policy"] = {"decoupled": wanted}

    def add_input(self, input):  # pylint: disable=redefined-builtin
        self._add("input", input, ("name", "data_type", "dims", "optional", "is_shape_tensor",
                                   "allow_ragged_batch"))

    def add_output(self, output):
        self._add("output", output, ("name", "data_type", "dims", "is_shape_tensor"))

    def _add(self, kind, entry, known):
        for key in entry:
            if key not in known:
                raise ValueError(f"{kind} '{entry.get('name', '')}' has unknown property '{key}'")
        for key in ("name", "data_type", "dims"):
            if key not in entry:
                raise ValueError(f"{kind} '{entry.get('name', '')}' is missing '{key}' property")
        have = _find_config(self._config, kind, entry["name"])
        if have is None:
            self._config.setdefault(kind, []).append(dict(entry))
            return
        for key, default in (("data_type", "TYPE_INVALID"), ("dims", [])):
            given = have.get(key, default)
            given = [int(dim) for dim in given] if key == "dims" else given
            if given != default and given != entry[key]:
                raise ValueError(
                    f"unable to load model: configuration of {kind} '{entry['name']}' has {key} "
                    f"{given}, but the model says {entry[key]}")
            have[key] = entry[key]
        for key in ("optional", "allow_ragged_batch", "is_shape_tensor"):
            if key in entry:
                have[key] = entry[key]


def _unavailable(what):
    def refuse(*_, **__):
        raise TritonModelException(f"{what} is not available in this server yet")
    return refuse


load_model = _unavailable("load_model")
unload_model = _unavailable("unload_model")


def is_model_ready(model_name, model_version=""):
    """Whether the server has a version of the model that answers."""
    reply = _connection.ask({"type": "is_model_ready", "model_name": model_name,
                             "model_version": str(model_version)})
    return reply["ready"]


class MetricFamily:
    COUNTER, GAUGE, HISTOGRAM = 0, 1, 2

    def __init__(self, *_, **__):
        raise TritonModelException("custom metrics are not available in this server yet")


# Some models import the same things under this name.
sys.modules.setdefault("c_python_backend_utils", sys.modules[__name__])
