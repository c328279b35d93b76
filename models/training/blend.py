#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Averages two checkpoints of one lineage: share * first + (1 - share) * second (CPU)."""

import argparse
import pathlib

import torch

import model as m
from data import Data


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=pathlib.Path)
    parser.add_argument("second", type=pathlib.Path)
    parser.add_argument("--share", type=float, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument(
        "--data", type=pathlib.Path, help="folder of prepare.py's output; given: print the score"
    )
    args = parser.parse_args()
    first, second = m.load(args.first), m.load(args.second)
    with torch.no_grad():
        for p, q in zip(second.parameters(), first.parameters()):
            p.lerp_(q, args.share)
    m.save(args.out, second)
    if args.data:
        scores = m.evaluate(second, Data(args.data / f"tokens_{second.c.vocab}.npz"), "cpu", 8192)
        print(f"share {args.share}: {scores['bpb']:.5f} bits per byte")


if __name__ == "__main__":
    main()
