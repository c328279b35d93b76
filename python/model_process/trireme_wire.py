# SPDX-License-Identifier: Apache-2.0
"""Frames and shared buffers between the server and a model process (docs/python_backend.md).

A Channel may be used by any thread to send and by one thread to receive.
"""
import collections
import ctypes
import fcntl
import json
import mmap
import os
import socket
import struct
import threading
import weakref

MAGIC = 0x31505254  # "TRP1"
HEADER = struct.Struct("<IIII")  # magic, bytes of JSON, bytes of the tail, number of descriptors
INLINE_BYTES = 64 * 1024  # tensors of a message that are larger together travel in shared memory
ALIGNMENT = 64
MIN_BUFFER_BYTES = 1 << 20
KEPT_BYTES = 256 << 20  # of free buffers; beyond, the largest are given back to the system
_ADD_SEALS, _SEAL_SEAL, _SEAL_SHRINK = 1033, 1, 2


class WireError(Exception):
    """The other side does not speak the protocol."""


def aligned(size):
    return (size + ALIGNMENT - 1) & -ALIGNMENT


class _Buffer:
    def __init__(self, number, size):
        self.number = number
        self.size = size
        fd = os.memfd_create("trireme", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            # The server maps what cannot be shortened under it.
            fcntl.fcntl(fd, _ADD_SEALS, _SEAL_SEAL | _SEAL_SHRINK)
            self.memory = mmap.mmap(fd, size)
        except BaseException:
            os.close(fd)
            raise
        self.fd = fd  # until it is announced


class Channel:
    def __init__(self, sock):
        self._socket = sock
        self._lock = threading.Lock()
        self._own = {}       # number -> _Buffer of this side
        self._free = []      # numbers of those nobody uses
        self._next = 1
        self._theirs = {}    # number -> mmap of a buffer of the other side
        self._released = collections.deque()  # numbers of theirs whose last view is gone

    # Sending.

    def send(self, message, pieces=(), size=0):
        """Sends `message`; `pieces` are (offset, bytes-like) within a blob of `size` bytes."""
        with self._lock:
            tail = b""
            if size > INLINE_BYTES:
                buffer = self._acquire(size)
                message["buffer"] = buffer.number
                for offset, data in pieces:
                    view = memoryview(data).cast("B") if memoryview(data).nbytes else b""
                    buffer.memory[offset:offset + len(view)] = view
            elif size:
                tail = bytearray(size)
                for offset, data in pieces:
                    view = memoryview(data).cast("B") if memoryview(data).nbytes else b""
                    tail[offset:offset + len(view)] = view
            self._send(message, tail)

    def flush_released(self):
        """Tells the other side which of its buffers are no longer used."""
        numbers = []
        while self._released:
            numbers.append(self._released.popleft())
        if numbers:
            self.send({"type": "release", "buffers": numbers})

    def _send(self, message, tail=b"", fd=-1):
        text = json.dumps(message, separators=(",", ":")).encode()
        head = HEADER.pack(MAGIC, len(text), len(tail), 0 if fd < 0 else 1)
        if fd >= 0:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))]
            sent = self._socket.sendmsg([head], rights)
            self._socket.sendall(head[sent:] + text)
        else:
            self._socket.sendall(head + text)
        if tail:
            self._socket.sendall(tail)

    def _acquire(self, size):
        fitting = [n for n in self._free if size <= self._own[n].size <= max(4 * size, 1 << 22)]
        if fitting:
            number = min(fitting, key=lambda n: self._own[n].size)
            self._free.remove(number)
            return self._own[number]
        buffer = _Buffer(self._next, max(MIN_BUFFER_BYTES, -(-size // 4096) * 4096))
        self._next += 1
        self._own[buffer.number] = buffer
        try:
            self._send({"type": "buffer", "number": buffer.number, "size": buffer.size},
                       fd=buffer.fd)
        finally:
            os.close(buffer.fd)
        return buffer

    def _give_back(self, numbers):
        with self._lock:
            self._free += [n for n in numbers if n in self._own and n not in self._free]
            dropped = []
            while sum(self._own[n].size for n in self._free) > KEPT_BYTES:
                number = max(self._free, key=lambda n: self._own[n].size)
                self._free.remove(number)
                self._own.pop(number).memory.close()
                dropped.append(number)
            if dropped:
                self._send({"type": "forget", "buffers": dropped})

    # Receiving.

    def receive(self):
        """The next message for the model and its blob (or None); None when the server is gone."""
        while True:
            frame = self._receive_frame()
            if frame is None:
                return None
            message, tail, fd = frame
            kind = message.get("type")
            if kind == "buffer":
                try:
                    self._theirs[message["number"]] = mmap.mmap(fd, message["size"])
                finally:
                    os.close(fd)
            elif kind == "release":
                self._give_back(message["buffers"])
            elif kind == "forget":
                for number in message["buffers"]:
                    self._theirs.pop(number, None)
            else:
                return message, self._blob(message, tail)

    def _blob(self, message, tail):
        number = message.get("buffer")
        if number is None:
            return tail
        memory = self._theirs[number]
        lease = (ctypes.c_ubyte * len(memory)).from_buffer(memory)
        # Every array of the message keeps the lease alive; a finalizer may run anywhere, so it only
        # takes a note.
        weakref.finalize(lease, self._released.append, number).atexit = False
        return lease

    def _receive_frame(self):
        head = bytearray()
        fd = -1
        while len(head) < HEADER.size:
            data, ancillary, _, _ = self._socket.recvmsg(HEADER.size - len(head),
                                                         socket.CMSG_SPACE(4))
            for level, kind, rights in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fd = struct.unpack("i", rights[:4])[0]
            if not data:
                return None
            head += data
        magic, text_size, tail_size, _ = HEADER.unpack(head)
        if magic != MAGIC:
            raise WireError("the server speaks another protocol")
        text = self._receive_exactly(text_size)
        tail = self._receive_exactly(tail_size)
        if text is None or tail is None:
            return None
        return json.loads(bytes(text)), tail, fd

    def _receive_exactly(self, size):
        data = bytearray(size)
        view = memoryview(data)
        at = 0
        while at < size:
            got = self._socket.recv_into(view[at:])
            if got == 0:
                return None
            at += got
        return data
