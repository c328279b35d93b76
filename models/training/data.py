# SPDX-License-Identifier: Apache-2.0
"""Token arrays and batch makers of the demo model's training; one thread per object."""

import numpy as np
import torch

from model import IGNORE

EOS, BOS, PAD = 0, 1, 2
SPECIALS = ["<|endoftext|>", "<|startoftext|>", "<|pad|>"]


class Data:
    def __init__(self, path):
        arrays = np.load(path)
        self.arrays = {k: arrays[k] for k in arrays.files}
        self.valid_bytes = int(self.arrays["valid_bytes"])

    def documents(self, name):
        tokens, offsets = self.arrays[name], self.arrays[f"{name}_offsets"]
        return [tokens[a:b] for a, b in zip(offsets[:-1], offsets[1:])]


def pack(documents, length, rng, open_rows=16):
    """Packs whole documents, in random order, into rows of `length` tokens; the rest is PAD.

    Rows begin with a story's beginning, as prompts do. A document longer than a row is cut.
    """
    rows, done = [[] for _ in range(open_rows)], []
    free = [length] * open_rows
    for index in rng.permutation(len(documents)):
        document = documents[index][:length]
        fits = [i for i in range(open_rows) if free[i] >= len(document)]
        target = (
            min(fits, key=lambda i: free[i])
            if fits
            else min(range(open_rows), key=lambda i: free[i])
        )
        if not fits:
            done.append(rows[target])
            rows[target], free[target] = [], length
        rows[target].append(document)
        free[target] -= len(document)
    done += [r for r in rows if r]
    out = np.full((len(done), length), PAD, np.int64)
    for row, parts in zip(out, done):
        flat = np.concatenate(parts)
        row[: len(flat)] = flat
    return out[rng.permutation(len(out))]


class PackedRows:
    """Endless rows of packed whole documents, packed anew in every epoch."""

    def __init__(self, documents, length, rng):
        self.documents, self.length, self.rng = documents, length, rng
        self.rows, self.position, self.tokens = np.empty((0, length), np.int64), 0, 0

    def take(self, count):
        out = []
        while count:
            if self.position == len(self.rows):
                self.rows, self.position = pack(self.documents, self.length, self.rng), 0
            part = self.rows[self.position : self.position + count]
            self.position += len(part)
            count -= len(part)
            out.append(part)
        return np.concatenate(out) if out else np.empty((0, self.length), np.int64)


class StreamRows:
    """Windows at random places of one long token stream."""

    def __init__(self, stream, length, rng):
        self.stream, self.length, self.rng = stream, length, rng

    def take(self, count):
        starts = self.rng.integers(0, len(self.stream) - self.length, count)
        return self.stream[starts[:, None] + np.arange(self.length)].astype(np.int64)


def split(rows, device):
    """rows [B, T + 1] -> inputs [B, T], labels [B, T] with padding ignored."""
    rows = torch.from_numpy(rows)
    if torch.device(device).type == "cuda":
        rows = rows.pin_memory().to(device, non_blocking=True)
    labels = rows[:, 1:].masked_fill(rows[:, 1:] == PAD, IGNORE)
    return rows[:, :-1].contiguous(), labels.contiguous()
