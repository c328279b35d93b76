# SPDX-License-Identifier: Apache-2.0
"""DLPack for tensors on the CPU, by way of ctypes: numpy's own knows no BF16."""
import ctypes

import numpy as np


class _Device(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("number", ctypes.c_int32)]


class _DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device", _Device), ("ndim", ctypes.c_int32),
                ("dtype", _DataType), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64)]


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter)]

_CPU_DEVICES = (1, 3)  # ordinary and pinned memory
_CODES = {"INT8": (0, 8), "INT16": (0, 16), "INT32": (0, 32), "INT64": (0, 64), "UINT8": (1, 8),
          "UINT16": (1, 16), "UINT32": (1, 32), "UINT64": (1, 64), "FP16": (2, 16), "FP32": (2, 32),
          "FP64": (2, 64), "BF16": (4, 16), "BOOL": (6, 8)}
_NAMES = {code: name for name, code in _CODES.items()}

_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype, _is_valid.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.restype, _rename.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]

_alive = {}  # address of a _Managed -> what it needs, until its consumer deletes it
_USED = ctypes.create_string_buffer(b"used_dltensor")  # a capsule does not copy its name
_FRESH = ctypes.create_string_buffer(b"dltensor")


@_Deleter
def _delete(managed):
    _alive.pop(ctypes.addressof(managed.contents), None)


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _on_capsule_end(capsule):
    # A capsule nobody consumed keeps its first name.
    name = ctypes.cast(_FRESH, ctypes.c_char_p)
    valid = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
        ("PyCapsule_IsValid", ctypes.pythonapi))
    if valid(capsule, name):
        get = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
            ("PyCapsule_GetPointer", ctypes.pythonapi))
        _alive.pop(get(capsule, name), None)


def make(datatype, shape, data):
    """A capsule over `data` (an array of bytes), which it keeps alive."""
    managed = _Managed()
    dims = (ctypes.c_int64 * max(1, len(shape)))(*shape)
    code, bits = _CODES[datatype]
    managed.tensor = _Tensor(data.ctypes.data, _Device(1, 0), len(shape), _DataType(code, bits, 1),
                             ctypes.cast(dims, ctypes.POINTER(ctypes.c_int64)), None, 0)
    managed.deleter = _delete
    address = ctypes.addressof(managed)
    _alive[address] = (managed, dims, data)
    return _new(address, ctypes.cast(_FRESH, ctypes.c_char_p),
                ctypes.cast(_on_capsule_end, ctypes.c_void_p))


def read(tensor):
    """(datatype, shape, bytes) of an object with __dlpack__, or of a capsule; a copy."""
    if hasattr(tensor, "__dlpack_device__") and tensor.__dlpack_device__()[0] not in _CPU_DEVICES:
        if not hasattr(tensor, "cpu"):
            raise ValueError("tensors reach the server through CPU memory: bring it there first")
        tensor = tensor.cpu()
    capsule = tensor.__dlpack__() if hasattr(tensor, "__dlpack__") else tensor
    if not _is_valid(capsule, b"dltensor"):
        raise ValueError("not a DLPack capsule, or one that was used before")
    managed = _Managed.from_address(_pointer(capsule, b"dltensor"))
    source = managed.tensor
    name = _NAMES.get((source.dtype.code, source.dtype.bits))
    if source.device.kind not in _CPU_DEVICES or name is None or source.dtype.lanes != 1:
        raise ValueError("a DLPack tensor of a type or on a device that cannot be passed")
    shape = [source.shape[i] for i in range(source.ndim)]
    data = _gather(source, shape, source.dtype.bits // 8)
    _rename(capsule, ctypes.cast(_USED, ctypes.c_char_p))
    if managed.deleter:
        managed.deleter(ctypes.byref(managed))
    return name, shape, data


def _gather(source, shape, item):
    """The elements in row-major order, as bytes."""
    if 0 in shape:
        return np.empty([0], dtype=np.uint8)
    unit = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[item]
    strides = [source.strides[i] for i in range(source.ndim)] if source.strides else None
    if strides is None:
        strides = [int(np.prod(shape[i + 1:], dtype=np.int64)) for i in range(len(shape))]
    if min(strides, default=0) < 0:
        raise ValueError("a DLPack tensor with negative strides")
    extent = 1 + sum((dim - 1) * stride for dim, stride in zip(shape, strides))
    memory = (ctypes.c_ubyte * (extent * item)).from_address(source.data + source.byte_offset)
    flat = np.frombuffer(memory, dtype=unit)
    view = np.lib.stride_tricks.as_strided(flat, shape, [stride * item for stride in strides])
    return np.array(view, order="C").reshape(-1).view(np.uint8)
