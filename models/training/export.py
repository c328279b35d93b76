#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a checkpoint as a Hugging Face folder and has transformers score it (CPU).

Also prints samples and writes golden.json, the values that another implementation must reproduce.
"""

import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import model as m
from data import BOS, EOS, PAD, SPECIALS, Data

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] != 'system' %}"
    "{% if not loop.first %}{{ '\\n' }}{% endif %}"
    "{{ message['content'] | trim }}{% endif %}{% endfor %}"
)
PROMPTS = [
    "Once upon a time",
    "One day, a little girl named Lily",
    "Tom had a big red ball.",
    "The old dog was sad because",
    '"Can I have a cookie?" asked',
    "There was a small fish who",
    "In the deep dark forest",
    "Mia and her mom went to the park.",
    "A brave mouse wanted to",
    "It was raining.",
]
GOLDEN_PROMPT = "Once upon a time, there was a little girl named"


def hf_names(c):
    names = {"embed.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
    for i in range(c.layers):
        for part in ("input_layernorm", "post_attention_layernorm"):
            names[f"blocks.{i}.{part}.weight"] = f"model.layers.{i}.{part}.weight"
        for part in "qkvo":
            names[f"blocks.{i}.{part}_proj.weight"] = (
                f"model.layers.{i}.self_attn.{part}_proj.weight"
            )
        for part in ("gate", "up", "down"):
            names[f"blocks.{i}.{part}_proj.weight"] = f"model.layers.{i}.mlp.{part}_proj.weight"
    return names


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_folder(model, tokenizer, out):
    c = model.c
    write_json(
        out / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "bfloat16",
            "vocab_size": c.vocab,
            "hidden_size": c.hidden,
            "intermediate_size": c.inter,
            "num_hidden_layers": c.layers,
            "num_attention_heads": c.heads,
            "num_key_value_heads": c.kv_heads,
            "head_dim": c.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": c.context,
            "rms_norm_eps": c.eps,
            "rope_theta": c.theta,
            "rope_scaling": None,
            "attention_bias": False,
            "mlp_bias": False,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "use_cache": True,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "pad_token_id": PAD,
        },
    )
    write_json(
        out / "generation_config.json",
        {
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "pad_token_id": PAD,
            "do_sample": True,
            "temperature": 0.8,
            "top_p": 0.95,
            "repetition_penalty": 1.1,
            "max_new_tokens": 400,
        },
    )
    added = {
        str(i): {
            "content": s,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for i, s in enumerate(SPECIALS)
    }
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "added_tokens_decoder": added,
            "bos_token": SPECIALS[BOS],
            "eos_token": SPECIALS[EOS],
            "pad_token": SPECIALS[PAD],
            "model_max_length": c.context,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    write_json(
        out / "special_tokens_map.json",
        {"bos_token": SPECIALS[BOS], "eos_token": SPECIALS[EOS], "pad_token": SPECIALS[PAD]},
    )
    shutil.copyfile(tokenizer, out / "tokenizer.json")
    weights = dict(model.named_parameters())
    save_file(
        {
            hf: weights[own].detach().to(torch.bfloat16).contiguous()
            for own, hf in hf_names(c).items()
        },
        out / "model.safetensors",
        metadata={"format": "pt"},
    )


class Scored(torch.nn.Module):
    """Lets model.evaluate score the folder as transformers reads it."""

    def __init__(self, hf, context):
        super().__init__()
        self.hf, self.c = hf, m.Config(0, 1, 0, 1, 1, 0, context=context)

    def logits(self, tokens):
        return self.hf(tokens).logits


def golden(hf, tokenizer):
    ids = tokenizer(GOLDEN_PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        logits = hf(ids).logits[0, -1].float()
    top = logits.topk(5)
    out = hf.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        temperature=None,
        top_p=None,
        repetition_penalty=1.0,
        max_new_tokens=32,
        eos_token_id=[],
    )[0]
    margins = []
    with torch.no_grad():
        steps = hf(out[None]).logits[0].float()
    for position in range(ids.shape[1] - 1, len(out) - 1):
        best = steps[position].topk(2).values
        margins.append(round((best[0] - best[1]).item(), 4))
    return {
        "method": "transformers, bfloat16 weights widened to float32, float32 arithmetic on a CPU; "
        "greedy, end-of-text not stopping",
        "prompt": GOLDEN_PROMPT,
        "prompt_ids": ids[0].tolist(),
        "greedy_ids": out[ids.shape[1] :].tolist(),
        "greedy_text": tokenizer.decode(out[ids.shape[1] :]),
        "greedy_margins": margins,
        "last_position_top5": [
            {"id": int(i), "logit": round(v.item(), 5)} for v, i in zip(top.values, top.indices)
        ],
    }


def samples(hf, tokenizer, seed):
    out = []
    for i, prompt in enumerate(PROMPTS):
        torch.manual_seed(seed + i)
        ids = tokenizer(prompt, return_tensors="pt")
        ids.pop("token_type_ids", None)
        story = hf.generate(**ids)[0]
        out.append(
            {
                "seed": seed + i,
                "text": tokenizer.decode(story, skip_special_tokens=True),
                "tokens": len(story),
                "ended": bool(story[-1] == EOS),
            }
        )
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument(
        "--data", type=pathlib.Path, required=True, help="folder of prepare.py's output"
    )
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=2026)
    args = parser.parse_args()
    model = m.load(args.checkpoint)
    vocab = model.c.vocab
    args.out.mkdir(parents=True, exist_ok=True)
    write_folder(model, args.data / f"tokenizer_{vocab}.json", args.out)
    tokenizer = AutoTokenizer.from_pretrained(args.out)
    hf = AutoModelForCausalLM.from_pretrained(args.out, dtype=torch.float32).eval()
    write_json(args.out / "golden.json", golden(hf, tokenizer))
    scores = m.evaluate(
        Scored(hf, model.c.context), Data(args.data / f"tokens_{vocab}.npz"), "cpu", 8192
    )
    print(
        json.dumps(
            {k: round(v, 5) for k, v in scores.items()} | {"parameters": model.num_parameters()}
        )
    )
    for s in samples(hf, tokenizer, args.seed):
        print(
            f"\n--- seed {s['seed']}, {s['tokens']} tokens, {'ended' if s['ended'] else 'cut'}\n"
            f"{s['text']}"
        )


if __name__ == "__main__":
    main()
