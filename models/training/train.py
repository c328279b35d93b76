#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains one recipe and writes its best weights and its curve (a CUDA GPU, or --device cpu to try).

A recipe mixes two sources: packed whole TinyStories, and windows of the older books. `mix` gives
the share of TinyStories rows over the run's progress, linear between its points.
"""

import argparse
import dataclasses
import json
import pathlib
import time

import numpy as np
import torch

import model as m
from data import Data, PackedRows, StreamRows, split
from optimizer import Average, Optimizer

RISING = ((0.0, 0.03), (0.6, 0.05), (0.8, 0.3), (1.0, 0.5))
STUDENTS = {2048: (256, 12, 4, 2, 768), 4096: (256, 10, 4, 2, 768), 8192: (256, 9, 4, 2, 768)}
TEACHER = (512, 8, 8, 8, 1408)
FINAL = (256, 8, 4, 2, 1024)


def late_rise(start, end):
    """A mix that holds `start` for three fifths of the run and then rises to `end`."""
    return (0.0, start), (0.6, start), (1.0, end)


@dataclasses.dataclass
class Recipe:
    vocab: int = 2048
    # hidden, layers, heads, kv_heads, intermediate; empty: STUDENTS' shape for this vocabulary
    shape: tuple = ()
    dropout: float = 0.1
    optimizer: str = "muon"
    rate: float = 3e-3
    decay: float = 0.3
    tokens: float = 45e6
    mix: tuple = RISING
    rows: int = 32
    warmup: float = 0.03

    def config(self, context):
        hidden, layers, heads, kv_heads, inter = self.shape or STUDENTS[self.vocab]
        return m.Config(self.vocab, hidden, layers, heads, kv_heads, inter, self.dropout, context)


RECIPES = {
    "tiny_only": Recipe(dropout=0.2, tokens=14e6, mix=((0.0, 1.0),)),
    "pretrain_finetune": Recipe(mix=((0.0, 0.0), (0.85, 0.0), (0.85001, 1.0))),
    "rising": Recipe(),
    "rising_adamw": Recipe(optimizer="adamw", rate=2e-3),
    "rising_4k": Recipe(vocab=4096),
    "rising_8k": Recipe(vocab=8192),
    "rising_wide": Recipe(shape=(384, 5, 6, 2, 1024)),
    "more_tiny": Recipe(mix=((0.0, 0.1), (0.6, 0.1), (1.0, 1.0)), dropout=0.15),
    "teacher": Recipe(shape=TEACHER, dropout=0.2, rate=2e-3, decay=0.5),
    "teacher_dropout": Recipe(
        shape=TEACHER, dropout=0.3, rate=2e-3, decay=1.0, mix=((0.0, 0.1), (0.6, 0.1), (1.0, 1.0))
    ),
    # The second stage: teachers that differ in regularisation, and the student to distil into.
    "teacher_a": Recipe(
        8192, TEACHER, 0.20, rate=2e-3, decay=0.5, tokens=110e6, mix=late_rise(0.04, 0.35)
    ),
    "teacher_b": Recipe(
        8192, TEACHER, 0.25, rate=2e-3, decay=0.5, tokens=110e6, mix=late_rise(0.04, 0.40)
    ),
    "teacher_c": Recipe(
        8192, TEACHER, 0.30, rate=2e-3, decay=0.8, tokens=110e6, mix=late_rise(0.05, 0.50)
    ),
    "student": Recipe(8192, FINAL, 0.15, tokens=120e6, mix=late_rise(0.03, 0.30)),
    # The third stage: one more teacher, for the second round of distillation.
    "teacher_d": Recipe(
        8192, TEACHER, 0.25, rate=2e-3, decay=0.5, tokens=124e6, mix=late_rise(0.04, 0.20)
    ),
    "smoke8k": Recipe(8192, (64, 2, 4, 2, 128), tokens=3e4, rows=2),
    "smoke": Recipe(shape=(64, 2, 4, 2, 128), tokens=3e4, rows=2),
}


def share_at(mix, progress):
    return float(np.interp(progress, [p for p, _ in mix], [s for _, s in mix]))


def rate_at(recipe, progress):
    return min(1.0, progress / recipe.warmup, (1 - progress) / (1 - recipe.warmup))


def next_mark(progress):
    """The curve is denser where the TinyStories share is high."""
    step = 0.1 if progress < 0.8 else 0.04
    return min(1.0, progress + step)


class Run:
    def __init__(self, recipe, data, seed, device):
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        self.recipe, self.data, self.device, self.rng = recipe, data, device, rng
        context = min(1024, len(data.arrays["books"]) // 2)
        self.model = m.Llama(recipe.config(context)).to(device)
        self.optimizer = Optimizer(self.model, recipe.optimizer, recipe.rate, recipe.decay)
        self.average = Average(self.model)
        self.tiny = PackedRows(data.documents("tiny"), context + 1, rng)
        self.books = StreamRows(data.arrays["books"], context + 1, rng)
        self.steps = max(1, round(recipe.tokens / (recipe.rows * context)))
        self.step_tokens = recipe.rows * context
        self.curve, self.best, self.tiny_rows = [], None, 0
        if device == "cuda":
            # A compiler error then costs speed, not the run.
            torch._dynamo.config.suppress_errors = True
            self.model.compile()

    def batch(self, progress):
        rows = self.recipe.rows
        wanted = share_at(self.recipe.mix, progress) * rows
        tiny = int(wanted) + int(self.rng.random() < wanted % 1)
        self.tiny_rows += tiny
        return split(
            np.concatenate((self.tiny.take(tiny), self.books.take(rows - tiny))), self.device
        )

    def mark(self, step, progress, started):
        self.average.swap()
        scores = m.evaluate(self.model, self.data, self.device)
        if self.best is None or scores["bpb"] < self.best[0]:
            self.best = (
                scores["bpb"],
                {n: p.detach().to(torch.bfloat16).cpu() for n, p in self.model.named_parameters()},
            )
        self.average.swap()
        self.curve.append(
            {
                "step": step,
                "progress": round(progress, 4),
                "tokens": step * self.step_tokens,
                "tiny_rows": self.tiny_rows,
                "seconds": round(time.time() - started, 1),
                "train_loss": round(self.loss.item(), 4),
                "bpb": round(scores["bpb"], 5),
                "ppl_token": round(scores["ppl_token"], 4),
            }
        )

    def train(self, budget_s, name):
        """Trains for the recipe's tokens; if `budget_s` is short, the schedules hurry."""
        self.model.train()
        step, progress, mark, started = 0, 0.0, 0.1, time.time()
        while progress < 1:
            inputs, labels = self.batch(progress)
            with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
                self.loss = self.model.loss(inputs, labels)
            self.loss.backward()
            self.optimizer.step(rate_at(self.recipe, progress))
            self.average.update()
            step += 1
            if step == 3:
                self.loss.item()
                started = time.time()  # compilation is not training time
            progress = min(
                1.0, max(step / self.steps, (time.time() - started) / budget_s if step > 3 else 0)
            )
            if progress >= mark:
                self.mark(step, progress, started)
                print(name, json.dumps(self.curve[-1]), flush=True)
                mark = next_mark(progress)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument(
        "--data", type=pathlib.Path, required=True, help="folder of prepare.py's output"
    )
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--budget-s", type=float, default=1e9)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    recipe = RECIPES[args.recipe]
    run = Run(recipe, Data(args.data / f"tokens_{recipe.vocab}.npz"), args.seed, args.device)
    name = f"{args.recipe}_{args.seed}"
    run.train(args.budget_s, name)
    args.out.mkdir(parents=True, exist_ok=True)
    m.save(args.out / f"{name}.pt", run.model, run.best[1])
    record = {
        "name": name,
        "recipe": dataclasses.asdict(recipe),
        "seed": args.seed,
        "best_bpb": run.best[0],
        "parameters": run.model.num_parameters(),
        "steps_planned": run.steps,
        "curve": run.curve,
    }
    (args.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
