# SPDX-License-Identifier: Apache-2.0
"""Backend `onnxruntime`: model.onnx of a version folder, run by the published onnxruntime package.

Requests of a batch are joined along the first dimension and run at once. An input with
allow_ragged_batch is joined flat, whatever the shapes; batch_input tells the model where each
request's elements are, batch_output cuts an output by the shapes of an input.
"""
import json
import os

import numpy as np
import triton_python_backend_utils as pb_utils

_TYPES = {"tensor(bool)": "TYPE_BOOL", "tensor(uint8)": "TYPE_UINT8", "tensor(uint16)": "TYPE_UINT16",
          "tensor(uint32)": "TYPE_UINT32", "tensor(uint64)": "TYPE_UINT64", "tensor(int8)": "TYPE_INT8",
          "tensor(int16)": "TYPE_INT16", "tensor(int32)": "TYPE_INT32", "tensor(int64)": "TYPE_INT64",
          "tensor(float16)": "TYPE_FP16", "tensor(float)": "TYPE_FP32", "tensor(double)": "TYPE_FP64",
          "tensor(string)": "TYPE_STRING"}
_DEFAULT_MAX_BATCH_SIZE = 4  # of models whose first dimension is free, as in Triton


def _open(config):
    try:
        import onnxruntime  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        raise RuntimeError(
            "backend 'onnxruntime' needs the package of that name in the interpreter of Python "
            "models: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    parameters = {k: v["string_value"] for k, v in config.get("parameters", {}).items()}
    for key in ("intra_op_thread_count", "inter_op_thread_count"):
        if key in parameters:
            setattr(options, key.replace("_thread_count", "_num_threads"), int(parameters.pop(key)))
    for key in ("interpreter", "EXECUTION_ENV_PATH"):
        parameters.pop(key, None)
    if parameters:
        raise ValueError(f"backend 'onnxruntime' has no parameter '{next(iter(parameters))}'; there "
                         "are intra_op_thread_count and inter_op_thread_count")
    file = config.get("default_model_filename") or "model.onnx"
    return onnxruntime.InferenceSession(os.path.join(pb_utils.get_model_dir(), file), options,
                                        providers=["CPUExecutionProvider"])


def _dims(shape):
    return [dim if isinstance(dim, int) else -1 for dim in shape]


class TritonPythonModel:
    @classmethod
    def auto_complete_config(cls, config):
        given = config.as_dict()
        session = _open(given)
        tensors = session.get_inputs() + session.get_outputs()
        first_free = all(t.shape and not isinstance(t.shape[0], int) for t in tensors)
        batching = given.get("max_batch_size", 0) > 0
        if not given.get("input") and not given.get("output") and not batching and first_free:
            config.set_max_batch_size(_DEFAULT_MAX_BATCH_SIZE)
            batching = True
            if "sequence_batching" not in given:
                config.set_dynamic_batching()
        for kind, add, nodes in (("input", config.add_input, session.get_inputs()),
                                 ("output", config.add_output, session.get_outputs())):
            if given.get(kind):
                continue  # declared: what is there is what clients see
            for node in nodes:
                dims = _dims(node.shape)
                add({"name": node.name, "data_type": _TYPES[node.type],
                     "dims": dims[1:] if batching else dims})
        return config

    def initialize(self, args):
        self.config = json.loads(args["model_config"])
        self.session = _open(self.config)
        self.batching = self.config.get("max_batch_size", 0) > 0
        self.ragged = {i["name"] for i in self.config["input"] if i.get("allow_ragged_batch")}
        self.batch_inputs = self.config.get("batch_input", [])
        self.scatter = {name: out["source_input"][0] for out in self.config.get("batch_output", [])
                        for name in out["target_name"]}
        for each in self.batch_inputs + self.config.get("batch_output", []):
            sources = each["source_input"]
            if len(sources) != 1 or sources[0] not in {i["name"] for i in self.config["input"]}:
                raise ValueError("batch_input and batch_output need one source_input, which is one of "
                                 f"the inputs; not {sources}")
        for each in self.batch_inputs:
            if each["data_type"] not in ("TYPE_INT32", "TYPE_FP32"):
                raise ValueError(f"batch_input has data_type {each['data_type']}; TYPE_INT32 and "
                                 "TYPE_FP32 go")
        known = {node.name for node in self.session.get_inputs()}
        made = {name for each in self.batch_inputs for name in each["target_name"]}
        states = self.config.get("sequence_batching", {}).get("state", [])
        controls = self.config.get("sequence_batching", {}).get("control_input", [])
        declared = ({i["name"] for i in self.config["input"]} | made
                    | {s["input_name"] for s in states} | {c["name"] for c in controls})
        if declared != known:
            raise ValueError(f"the model's inputs are {sorted(known)}, but its configuration has "
                             f"{sorted(declared)}")
        offered = {node.name for node in self.session.get_outputs()}
        self.outputs = [o["name"] for o in self.config["output"]] + [s["output_name"] for s in states]
        missing = [name for name in self.outputs if name not in offered]
        if missing:
            raise ValueError(f"the model has no output {missing[0]}; it has {sorted(offered)}")

    def execute(self, requests):
        if not self.batching:
            return [pb_utils.InferenceResponse([pb_utils.Tensor(name, np.asarray(value))
                                                for name, value in self._run([request]).items()])
                    for request in requests]
        results = self._run(requests)
        responses, row = [], 0
        taken = dict.fromkeys(self.scatter, 0)  # elements of scattered outputs given out so far
        for request in requests:
            rows = request.inputs()[0].shape()[0]
            tensors = []
            for name, value in results.items():
                if name in self.scatter:
                    shape = pb_utils.get_input_tensor_by_name(request, self.scatter[name]).shape()
                    end = taken[name] + int(np.prod(shape))
                    value = value.reshape(-1)[taken[name]:end].reshape(shape)
                    taken[name] = end
                else:
                    value = value[row:row + rows]
                tensors.append(pb_utils.Tensor(name, np.asarray(value)))
            responses.append(pb_utils.InferenceResponse(tensors))
            row += rows
        return responses

    def _run(self, requests):
        feeds = {}
        for tensor in requests[0].inputs():
            name = tensor.name()
            parts = [pb_utils.get_input_tensor_by_name(r, name).as_numpy() for r in requests]
            if name in self.ragged:
                feeds[name] = np.concatenate([part.reshape(-1) for part in parts])
            else:
                feeds[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        for each in self.batch_inputs:
            value = self._batch_input(each, requests)
            feeds.update({name: value for name in each["target_name"]})
        for name, value in feeds.items():
            if value.dtype == object:
                texts = [item.decode() if isinstance(item, bytes) else item for item in value.ravel()]
                feeds[name] = np.array(texts, dtype=object).reshape(value.shape)
        return dict(zip(self.outputs, self.session.run(self.outputs, feeds)))

    def _batch_input(self, each, requests):
        source = each["source_input"][0]
        shapes = [pb_utils.get_input_tensor_by_name(r, source).shape() for r in requests]
        counts = [int(np.prod(shape)) for shape in shapes]
        kind = each["kind"]
        dtype = pb_utils.triton_string_to_numpy(each["data_type"])
        if kind == "BATCH_ELEMENT_COUNT":
            return np.array(counts, dtype)
        if kind == "BATCH_ACCUMULATED_ELEMENT_COUNT":
            return np.cumsum(counts).astype(dtype)
        if kind == "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO":
            return np.cumsum([0] + counts).astype(dtype)
        if kind == "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE":
            return np.zeros([max(counts)], dtype)
        rows = [shape[1:] for shape in shapes for _ in range(shape[0])]
        shaped = np.array(rows, dtype)
        return shaped.reshape(-1) if kind == "BATCH_ITEM_SHAPE_FLATTEN" else shaped
