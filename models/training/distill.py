#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Distils an ensemble of teachers into the student, which learns from their mean predictions.

The real stories are few, so a student that only sees them overfits; the teachers write many more,
and on those the targets carry what the ensemble learned. A part of each batch stays real:
TinyStories and books.
"""

import argparse
import dataclasses
import json
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F

import model as m
from data import BOS, EOS, PAD, Data, StreamRows, pack
from optimizer import Average, Optimizer


@dataclasses.dataclass
class Plan:
    rate: float = 1.5e-3
    decay: float = 0.1
    rows: int = 64
    real: float = 0.10  # share of rows that are TinyStories
    hard: float = 0.0  # weight of the true token on those; 0.5 overfitted within 40 M tokens
    books: float = 0.08  # share of rows that are books, hard targets only
    top: int = 64  # predictions kept per position
    packings: int = 4  # of the real stories
    batch_stories: int = 2048
    max_story: int = 600
    max_rows: int = 12000  # of stories; labelling more takes longer than it is worth
    keep_best: bool = True  # else the last weights


ROUNDS = {
    "first": Plan(rate=2e-3, real=0.15, hard=0.5, keep_best=False),
    "second": Plan(),
    "smoke": Plan(rows=8, batch_stories=8, max_story=70, packings=1, top=8),
}


def half_copy(path, device):
    """A teacher for inference: bfloat16 weights, float32 rotary tables."""
    teacher = m.load(path, device).eval()
    for p in teacher.parameters():
        p.requires_grad_(False)
        p.data = p.data.to(torch.bfloat16) if device == "cuda" else p.data
    return teacher


@torch.no_grad()
def write_stories(teacher, plan, device):
    """Samples stories from BOS, without tokens under 1 % of the likeliest one.

    Only stories that end within plan.max_story tokens are returned.
    """
    c, count = teacher.c, plan.batch_stories
    dtype = teacher.embed.weight.dtype
    caches = [
        torch.zeros(2, count, c.kv_heads, plan.max_story, c.head_dim, dtype=dtype, device=device)
        for _ in range(c.layers)
    ]
    tokens = torch.full((count, 1), BOS, device=device)
    stories = []
    for position in range(plan.max_story - 1):
        probs = teacher.decode(tokens[:, -1], caches, position).float().softmax(-1)
        probs = probs.masked_fill(probs < 0.01 * probs.amax(-1, keepdim=True), 0)
        tokens = torch.cat((tokens, torch.multinomial(probs, 1)), 1)
        if position % 32 == 31:
            # Finished rows leave the batch, which shrinks as the stories end.
            ended = (tokens == EOS).any(1)
            stories += [trim(row) for row in tokens[ended].cpu().numpy()]
            tokens, caches = tokens[~ended], [k[:, ~ended] for k in caches]
            if not len(tokens):
                break
    return stories


def trim(row):
    ends = np.flatnonzero(row == EOS)
    return row[: ends[0] + 1].astype(np.uint16)


@torch.no_grad()
def mean_probs(teachers, tokens):
    total = 0
    for teacher in teachers:
        hidden = teacher.hidden(tokens)
        total = total + F.linear(hidden.float(), teacher.embed.weight.float()).softmax(-1)
    return total / len(teachers)


class Ensemble(torch.nn.Module):
    """Scores the teachers' mean prediction with model.evaluate."""

    def __init__(self, teachers):
        super().__init__()
        self.teachers, self.c = teachers, teachers[0].c

    def train(self, mode=True):
        return self

    def logits(self, tokens):
        return mean_probs(self.teachers, tokens).clamp_min(1e-9).log()


def label(teachers, rows, plan, device):
    """rows int64 [N, T + 1] -> top ids int16, their probabilities float16, both [N, T, top]."""
    ids, probs = [], []
    for part in torch.from_numpy(rows).split(16):
        best = mean_probs(teachers, part[:, :-1].to(device)).topk(plan.top, -1, sorted=False)
        ids.append(best.indices.to(torch.int16))
        probs.append((best.values / best.values.sum(-1, keepdim=True)).to(torch.float16))
    return torch.cat(ids), torch.cat(probs)


class Source:
    """Labelled rows, drawn in random order without repeats within an epoch."""

    def __init__(self, teachers, rows, hard, plan, device, rng):
        self.rows = torch.from_numpy(rows).to(device)
        self.ids, self.probs = label(teachers, rows, plan, device)
        self.hard, self.rng, self.queue = hard, rng, np.empty(0, np.int64)

    def take(self, count):
        while len(self.queue) < count:
            self.queue = np.concatenate((self.queue, self.rng.permutation(len(self.rows))))
        index = torch.from_numpy(self.queue[:count]).to(self.rows.device)
        self.queue = self.queue[count:]
        return targets(self.rows[index], self.ids[index], self.probs[index], self.hard)


def targets(rows, ids, probs, hard):
    """-> inputs [B, T], ids and weights [B, T, top + 1].

    The last entry is the true token with weight `hard`, the others are the soft targets.
    """
    inputs, truth = rows[:, :-1], rows[:, 1:]
    weights = torch.cat(
        (probs.float() * (1 - hard), torch.full_like(truth[..., None], hard, dtype=torch.float)), -1
    )
    weights = weights * (truth != PAD)[..., None]
    return inputs, torch.cat((ids.long(), truth[..., None]), -1), weights


def soft_loss(hidden, head, ids, weights):
    logits = F.linear(hidden, head.to(hidden.dtype)).float()
    nll = torch.logsumexp(logits, -1) * weights.sum(-1) - (weights * logits.gather(-1, ids)).sum(-1)
    return nll.sum() / weights.sum()


class Distillation:
    def __init__(self, args, plan):
        self.plan, self.device, self.curve, self.best = plan, args.device, [], None
        torch.manual_seed(args.seed)
        self.rng = np.random.default_rng(args.seed)
        self.student = m.load(args.student, args.device)
        self.student.c.dropout = 0.0
        self.data = Data(args.data / f"tokens_{self.student.c.vocab}.npz")
        self.length = self.student.c.context + 1
        self.notes = {}
        self.prepare(args)

    def prepare(self, args):
        plan, device, rng = self.plan, self.device, self.rng
        teachers = [half_copy(path, device) for path in args.teachers]
        self.notes["teachers_bpb"] = [
            m.evaluate(Ensemble([t]), self.data, device, 16384)["bpb"] for t in teachers
        ]
        self.notes["ensemble_bpb"] = m.evaluate(Ensemble(teachers), self.data, device, 16384)["bpb"]
        print(json.dumps(self.notes), flush=True)
        started, stories = time.time(), []
        while not stories or time.time() - started < args.write_s:
            for teacher in teachers:
                stories += write_stories(teacher, plan, device)
        self.notes |= {
            "stories": len(stories),
            "story_tokens": sum(map(len, stories)),
            "write_s": round(time.time() - started, 1),
        }
        print(json.dumps(self.notes), flush=True)
        real = self.data.documents("tiny")
        packed = np.concatenate([pack(real, self.length, rng) for _ in range(plan.packings)])
        self.synthetic = Source(
            teachers, pack(stories, self.length, rng)[: plan.max_rows], 0.0, plan, device, rng
        )
        self.real = Source(teachers, packed, plan.hard, plan, device, rng)
        self.books = StreamRows(self.data.arrays["books"], self.length, rng)
        self.notes["label_s"] = round(time.time() - started - self.notes["write_s"], 1)
        print(json.dumps(self.notes), flush=True)

    def book_targets(self, count):
        rows = torch.from_numpy(self.books.take(count)).to(self.device)
        empty = torch.zeros(*rows[:, 1:].shape, self.plan.top, device=self.device)
        return targets(rows, empty, empty, 1.0)

    def batch(self):
        real, books = round(self.plan.real * self.plan.rows), round(
            self.plan.books * self.plan.rows
        )
        parts = (
            self.synthetic.take(self.plan.rows - real - books),
            self.real.take(real),
            self.book_targets(books),
        )
        return (torch.cat(p) for p in zip(*parts))

    def mark(self, step, started, loss):
        scores = m.evaluate(self.student, self.data, self.device)
        if self.best is None or scores["bpb"] < self.best[0]:
            self.best = (
                scores["bpb"],
                {
                    n: p.detach().to(torch.bfloat16).cpu()
                    for n, p in self.student.named_parameters()
                },
            )
        self.curve.append(
            {
                "step": step,
                "tokens": step * self.plan.rows * (self.length - 1),
                "seconds": round(time.time() - started, 1),
                "train_loss": round(loss.item(), 4),
                "bpb": round(scores["bpb"], 5),
                "ppl_token": round(scores["ppl_token"], 4),
            }
        )
        print("distill", json.dumps(self.curve[-1]), flush=True)

    def train(self, until):
        """Trains until the clock says `until`; the rate falls linearly to nothing at that time."""
        student, function, device = self.student, soft_loss, self.device
        if device == "cuda":
            torch._dynamo.config.suppress_errors = True
            student.compile()
            function = torch.compile(soft_loss, dynamic=False)
        optimizer, average = Optimizer(student, "muon", self.plan.rate, self.plan.decay), Average(
            student
        )
        student.train()
        step, progress, mark, started = 0, 0.0, 0.1, time.time()
        while progress < 1:
            inputs, ids, weights = self.batch()
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = function(student.hidden(inputs), student.embed.weight, ids, weights)
            loss.backward()
            optimizer.step(min(1.0, progress / 0.03 + 0.05, (1 - progress) / 0.9))
            average.update()
            step += 1
            if step % 8 == 0 or step < 4:
                loss.item()  # the clock must follow the GPU, not its queue
            started = time.time() if step == 3 else started
            progress = (
                min(1.0, (time.time() - started) / max(until - started, 1e-3)) if step > 3 else 0.0
            )
            if progress >= mark:
                mark = min(1.0, progress + 0.1)
                if progress == 1:
                    average.swap()
                self.mark(step, started, loss)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teachers", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument(
        "--student",
        type=pathlib.Path,
        required=True,
        help="checkpoint that the student starts from",
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write-s", type=float, default=45, help="time for writing stories")
    parser.add_argument(
        "--until", type=float, required=True, help="end of training, seconds since the epoch"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--round", choices=ROUNDS, default="second", help="smoke: to try the script on a CPU"
    )
    args = parser.parse_args()
    plan = ROUNDS[args.round]
    run = Distillation(args, plan)
    run.train(args.until)
    args.out.mkdir(parents=True, exist_ok=True)
    m.save(args.out / "distilled.pt", run.student, run.best[1] if plan.keep_best else None)
    record = {
        "name": "distilled",
        "plan": dataclasses.asdict(plan),
        "seed": args.seed,
        "best_bpb": run.best[0],
        "notes": run.notes,
        "parameters": run.student.num_parameters(),
        "curve": run.curve,
    }
    (args.out / "distilled.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
