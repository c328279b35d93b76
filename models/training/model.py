# SPDX-License-Identifier: Apache-2.0
"""The demo model's Llama decoder in plain PyTorch: training, decoding, checkpoints, scores."""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn

IGNORE = -100


@dataclasses.dataclass
class Config:
    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inter: int
    dropout: float = 0.0
    context: int = 1024
    eps: float = 1e-5
    theta: float = 10000.0

    @property
    def head_dim(self):
        return self.hidden // self.heads


class RmsNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return (y * self.weight.float()).to(x.dtype)


def rotate(x, cos, sin):
    """Rotary embedding in the half-split layout of Hugging Face checkpoints; x [..., head_dim]."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.input_layernorm = RmsNorm(c.hidden, c.eps)
        self.post_attention_layernorm = RmsNorm(c.hidden, c.eps)
        self.q_proj = nn.Linear(c.hidden, c.heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.heads * c.head_dim, c.hidden, bias=False)
        self.gate_proj = nn.Linear(c.hidden, c.inter, bias=False)
        self.up_proj = nn.Linear(c.hidden, c.inter, bias=False)
        self.down_proj = nn.Linear(c.inter, c.hidden, bias=False)

    def project(self, x, cos, sin):
        """x [B, T, hidden] -> q [B, heads, T, head_dim], k and v [B, kv_heads, T, head_dim]."""
        batch, length, _ = x.shape
        x = self.input_layernorm(x)
        q, k, v = (
            p(x).view(batch, length, -1, self.c.head_dim).transpose(1, 2)
            for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def finish(self, x, attended):
        """Output projection and feed-forward part; attended [B, T, heads * head_dim]."""
        x = x + F.dropout(self.o_proj(attended), self.c.dropout, self.training)
        y = self.post_attention_layernorm(x)
        y = self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y))
        return x + F.dropout(y, self.c.dropout, self.training)

    def forward(self, x, cos, sin):
        q, k, v = self.project(x, cos, sin)
        group = self.c.heads // self.c.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.finish(x, y.transpose(1, 2).flatten(2))

    def decode(self, x, cos, sin, cache, position):
        """One token per row; cache [2, B, kv_heads, context, head_dim] is written at `position`."""
        q, k, v = self.project(x, cos, sin)
        cache[0, :, :, position], cache[1, :, :, position] = k[:, :, 0], v[:, :, 0]
        keys, values = cache[0, :, :, : position + 1], cache[1, :, :, : position + 1]
        q = q.view(x.shape[0], self.c.kv_heads, -1, self.c.head_dim)
        weights = (q @ keys.transpose(2, 3) / math.sqrt(self.c.head_dim)).float().softmax(-1)
        return self.finish(x, (weights.to(values.dtype) @ values).reshape(x.shape[0], 1, -1))


class Llama(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed = nn.Embedding(c.vocab, c.hidden)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = RmsNorm(c.hidden, c.eps)
        angles = torch.arange(c.context)[:, None] * c.theta ** -(
            torch.arange(0, c.head_dim, 2) / c.head_dim
        )
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                # Residual outputs start smaller so that depth does not grow the stream's variance.
                scale = (
                    1 / math.sqrt(2 * c.layers) if "o_proj" in name or "down_proj" in name else 1
                )
                nn.init.normal_(p, std=0.02 * scale)
        self.fast_blocks, self.fast_loss = None, None

    def compile(self):
        """Compiles one block and the head; all blocks share the compiled code."""
        self.fast_blocks = [torch.compile(b, dynamic=False) for b in self.blocks]
        self.fast_loss = torch.compile(hard_loss, dynamic=False)

    def hidden(self, tokens):
        x = F.dropout(self.embed(tokens), self.c.dropout, self.training)
        if torch.is_autocast_enabled(tokens.device.type):
            x = x.to(torch.get_autocast_dtype(tokens.device.type))
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        for block in self.fast_blocks if self.training and self.fast_blocks else self.blocks:
            x = block(x, cos, sin)
        return self.norm(x)

    def logits(self, tokens):
        return F.linear(self.hidden(tokens), self.embed.weight)

    def loss(self, tokens, labels):
        """Mean cross entropy over the positions whose label is not IGNORE."""
        function = self.fast_loss if self.training and self.fast_loss else hard_loss
        return function(self.hidden(tokens), self.embed.weight, labels)

    def decode(self, tokens, caches, position):
        """tokens [B] at `position` -> logits [B, vocab]."""
        x = self.embed(tokens)[:, None]
        cos, sin = self.cos[position], self.sin[position]
        for block, cache in zip(self.blocks, caches):
            x = block.decode(x, cos, sin, cache, position)
        return F.linear(self.norm(x)[:, 0], self.embed.weight)

    def num_parameters(self):
        return sum(p.numel() for p in self.parameters())


def hard_loss(hidden, head, labels):
    logits = F.linear(hidden, head.to(hidden.dtype)).float()
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)


def save(path, model, weights=None):
    state = {
        k: v.detach().to(torch.bfloat16).cpu()
        for k, v in (weights or dict(model.named_parameters())).items()
    }
    torch.save({"config": dataclasses.asdict(model.c), "weights": state}, path)


def load(path, device="cpu"):
    data = torch.load(path, map_location="cpu", weights_only=True)
    model = Llama(Config(**data["config"]))
    model.load_state_dict({k: v.float() for k, v in data["weights"].items()})
    return model.to(device)


@torch.no_grad()
def evaluate(model, data, device, batch_tokens=32768):
    """NLL over the validation documents; see bits_per_byte in the model card for the method.

    Every document starts with BOS, which is not scored; its text and EOS are. A document longer
    than the context is read in windows that overlap by half, and each token is scored once, with
    at least half a context before it.
    """
    model.eval()
    context, nll, count = model.c.context, 0.0, 0
    windows = []  # (tokens, first scored target)
    for document in data.documents("valid"):
        windows.append((document[: context + 1], 0))
        for start in range(context // 2, len(document) - 1 - context // 2, context // 2):
            windows.append((document[start : start + context + 1], context // 2))
    windows.sort(key=lambda w: len(w[0]))
    while windows:
        longest = len(windows[-1][0])
        batch = windows[-max(1, batch_tokens // longest) :]
        del windows[-len(batch) :]
        tokens = torch.zeros(len(batch), longest, dtype=torch.long)
        labels = torch.full((len(batch), longest - 1), IGNORE)
        for i, (document, first) in enumerate(batch):
            row = torch.from_numpy(document.astype("int64"))
            tokens[i, : len(row)] = row
            labels[i, first : len(row) - 1] = row[first + 1 :]
        logits = model.logits(tokens[:, :-1].to(device)).float()
        nll += F.cross_entropy(
            logits.flatten(0, 1), labels.flatten().to(device), ignore_index=IGNORE, reduction="sum"
        ).item()
        count += int((labels != IGNORE).sum())
    model.train()
    return {
        "nll": nll,
        "tokens": count,
        "bpb": nll / math.log(2) / data.valid_bytes,
        "ppl_token": math.exp(nll / count),
        "ppl_byte": math.exp(nll / data.valid_bytes),
    }
