#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the small torch.save files beside it, in both forms, with the standard library only.

Element i of every storage is i (bool: i % 2). Run from anywhere: python3 make_torch_files.py
"""
import collections
import io
import pathlib
import pickle
import struct
import sys
import types
import zipfile
import zlib

HERE = pathlib.Path(__file__).parent


def bfloat16(x):
    return struct.pack("<f", float(x))[2:]


# Storage type -> bytes of one element with the value x.
STORAGES = {
    "FloatStorage": lambda x: struct.pack("<f", x),
    "HalfStorage": lambda x: struct.pack("<e", x),
    "BFloat16Storage": bfloat16,
    "DoubleStorage": lambda x: struct.pack("<d", x),
    "CharStorage": lambda x: struct.pack("<b", x),
    "ByteStorage": lambda x: struct.pack("<B", x),
    "ShortStorage": lambda x: struct.pack("<h", x),
    "IntStorage": lambda x: struct.pack("<i", x),
    "LongStorage": lambda x: struct.pack("<q", x),
    "BoolStorage": lambda x: struct.pack("<B", x % 2),
}


def stand_in(module, name, kind=type):
    """An object that pickles as the global module.name."""
    if kind is type:
        thing = type(name, (), {})
    else:
        def thing(*args):
            raise NotImplementedError
        thing.__name__ = thing.__qualname__ = name
    thing.__module__ = module
    setattr(sys.modules.setdefault(module, types.ModuleType(module)), name, thing)
    return thing


TYPES = {name: stand_in("torch", name) for name in STORAGES}
REBUILD_V1 = stand_in("torch._utils", "_rebuild_tensor", None)
REBUILD_V2 = stand_in("torch._utils", "_rebuild_tensor_v2", None)
REBUILD_PARAMETER = stand_in("torch._utils", "_rebuild_parameter", None)
EVIL = stand_in("os", "evil_function", None)
EVIL.__module__ = "os"


class Storage:
    def __init__(self, kind, count, key):
        self.kind, self.count, self.key = kind, count, key

    def raw(self):
        return b"".join(STORAGES[self.kind](i) for i in range(self.count))


class Tensor:
    def __init__(self, storage, size, stride, offset=0, v1=False):
        self.args = (storage, offset, size, stride)
        self.v1 = v1

    def __reduce_ex__(self, protocol):
        if self.v1:
            return REBUILD_V1, self.args
        return REBUILD_V2, self.args + (False, collections.OrderedDict())


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce_ex__(self, protocol):
        return REBUILD_PARAMETER, (self.tensor, True, collections.OrderedDict())


class Call:
    def __reduce_ex__(self, protocol):
        return EVIL, ("echo",)


class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        if isinstance(thing, Storage):
            return ("storage", TYPES[thing.kind], thing.key, "cpu", thing.count) + self.tail
        return None


def dumps(thing, tail=(), protocol=2):
    out = io.BytesIO()
    pickler = Pickler(out, protocol)
    pickler.tail = tail
    pickler.dump(thing)
    return out.getvalue()


def write_zip(name, thing, storages, protocol=2):
    with zipfile.ZipFile(HERE / name, "w", zipfile.ZIP_STORED) as archive:
        def put(member, data):
            info = zipfile.ZipInfo("archive/" + member, (1980, 1, 1, 0, 0, 0))
            archive.writestr(info, data)
        put("data.pkl", dumps(thing, protocol=protocol))
        put("byteorder", b"little")
        for storage in storages:
            put("data/" + storage.key, storage.raw())
        put("version", b"3\n")


def write_zip64(name, members):
    """An archive whose every size and offset stands in a zip64 extra field."""
    body, central = b"", b""
    for member, data in members.items():
        path = ("archive/" + member).encode()
        extra = struct.pack("<HHQQQ", 1, 24, len(data), len(data), len(body))
        common = struct.pack("<HHHHIII", 0, 0, 0, 0, zlib.crc32(data), 0xFFFFFFFF, 0xFFFFFFFF)
        central += (b"PK\1\2" + struct.pack("<HH", 45, 45) + common
                    + struct.pack("<HHHHHII", len(path), len(extra), 0, 0, 0, 0, 0xFFFFFFFF)
                    + path + extra)
        body += (b"PK\3\4" + struct.pack("<H", 45) + common
                 + struct.pack("<HH", len(path), 0) + path + data)
    end64 = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, len(members), len(members),
                                    len(central), len(body))
    locator = b"PK\6\7" + struct.pack("<IQI", 0, len(body) + len(central), 1)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    (HERE / name).write_bytes(body + central + end64 + locator + end)


def write_legacy(name, thing, storages):
    system = dict(protocol_version=1001, little_endian=True,
                  type_sizes=dict(short=2, int=4, long=4))
    with open(HERE / name, "wb") as out:
        out.write(pickle.dumps(0x1950A86A20F9469CFC6C, 2))
        out.write(pickle.dumps(1001, 2))
        out.write(pickle.dumps(system, 2))
        out.write(dumps(thing, (None,)))
        out.write(pickle.dumps([storage.key for storage in storages], 2))
        for storage in storages:
            out.write(struct.pack("<q", storage.count) + storage.raw())


def state_dict(storages):
    """One [2, 3] tensor per storage type, then views of every awkward kind."""
    state = collections.OrderedDict()
    for storage in storages:
        state[storage.kind] = Tensor(storage, (2, 3), (3, 1))
    floats = storages[0]
    state["transposed"] = Tensor(floats, (3, 2), (1, 3))
    state["offset"] = Tensor(floats, (2, 2), (2, 1), offset=2)
    state["column"] = Tensor(floats, (2,), (3,), offset=1)
    state["scalar"] = Tensor(floats, (), (), offset=5)
    state["empty"] = Tensor(floats, (0, 4), (4, 1))
    state["unit"] = Tensor(floats, (1, 3), (77, 1))
    state["parameter"] = Parameter(Tensor(floats, (6,), (1,)))
    state["old"] = Tensor(floats, (6,), (1,), v1=True)
    state["number"] = 12345678901
    state["text"] = "skipped"
    state["fraction"] = 0.5
    state["list"] = [1, -2, None, True]
    state._metadata = collections.OrderedDict([("", dict(version=1))])
    return state


def main():
    storages = [Storage(kind, 6, str(i)) for i, kind in enumerate(STORAGES)]
    write_zip("all_types_zip.bin", state_dict(storages), storages)
    write_zip("all_types_zip_protocol4.bin", state_dict(storages), storages, protocol=4)
    write_zip64("all_types_zip64.bin", {"data.pkl": dumps(state_dict(storages)),
                                        **{"data/" + s.key: s.raw() for s in storages}})
    write_legacy("all_types_legacy.bin", state_dict(storages), storages)
    write_zip("calls_a_function.bin", {"x": Call()}, [])
    one = Storage("FloatStorage", 1, "0")
    write_zip("repeats.bin", {"x": Tensor(one, (1 << 40,), (0,))}, [one])
    write_zip("beyond.bin", {"x": Tensor(one, (2,), (1,))}, [one])
    write_zip("no_tensors.bin", {"model": {"x": Tensor(one, (1,), (1,))}, "step": 3}, [one])
    with zipfile.ZipFile(HERE / "compressed.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl", (1980, 1, 1, 0, 0, 0)),
                         dumps({"x": Tensor(one, (1,), (1,))}), zipfile.ZIP_DEFLATED)
    write_zip("far_beyond.bin", {"x": Tensor(one, (2, 2), (1 << 62, 1 << 62))}, [one])


if __name__ == "__main__":
    main()
