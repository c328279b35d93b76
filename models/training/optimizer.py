# SPDX-License-Identifier: Apache-2.0
"""Muon for the matrices of the blocks, AdamW for the rest, and a running average of the weights."""

import torch


def orthogonalize(g, steps=5):
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrices; g [N, rows, cols]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16() if g.is_cuda else g
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        y = x @ x.mT
        x = a * x + (b * y + c * y @ y) @ x
    return (x.mT if tall else x).float()


class Muon:
    """Momentum with orthogonalised updates, scaled like AdamW's so that both share a rate."""

    def __init__(self, parameters, momentum=0.95):
        self.momentum = momentum
        groups = {}
        for p in parameters:
            groups.setdefault(tuple(p.shape), []).append(p)
        self.groups = [(ps, [torch.zeros_like(p) for p in ps]) for ps in groups.values()]

    @torch.no_grad()
    def step(self, rate, decay):
        for parameters, buffers in self.groups:
            gradients = [p.grad for p in parameters]
            torch._foreach_lerp_(buffers, gradients, 1 - self.momentum)
            mixed = torch._foreach_lerp(gradients, buffers, self.momentum)
            updates = orthogonalize(torch.stack(mixed))
            scale = 0.2 * max(parameters[0].shape) ** 0.5
            torch._foreach_mul_(parameters, 1 - rate * decay)
            torch._foreach_add_(parameters, list(updates.unbind(0)), alpha=-rate * scale)


class Optimizer:
    def __init__(self, model, kind, rate, decay):
        self.rate, self.decay = rate, decay
        matrices = [
            p for n, p in model.named_parameters() if p.dim() == 2 and n.startswith("blocks")
        ]
        rest = [
            p for n, p in model.named_parameters() if not (p.dim() == 2 and n.startswith("blocks"))
        ]
        self.muon = Muon(matrices) if kind == "muon" else None
        groups = [
            {"params": [p for p in rest if p.dim() == 2], "weight_decay": 0.1},
            {"params": [p for p in rest if p.dim() == 1], "weight_decay": 0.0},
        ]
        if not self.muon:
            groups.append({"params": matrices, "weight_decay": decay})
        self.adam = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=matrices[0].is_cuda)
        self.parameters = list(model.parameters())

    def step(self, factor):
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.rate * factor
        self.adam.step()
        if self.muon:
            self.muon.step(self.rate * factor, self.decay)
        for p in self.parameters:
            p.grad = None


class Average:
    """Exponential moving average of the weights with a horizon that grows with the run."""

    def __init__(self, model, share=0.05):
        self.model, self.share, self.count = model, share, 0
        self.parameters = [p for p in model.parameters()]
        self.values = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self):
        self.count += 1
        weight = 1 / max(1.0, self.share * self.count)
        torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], weight)

    def named(self):
        return {n: v for (n, _), v in zip(self.model.named_parameters(), self.values)}

    @torch.no_grad()
    def swap(self):
        for p, v in zip(self.parameters, self.values):
            kept = p.detach().clone()
            p.copy_(v)
            v.copy_(kept)
