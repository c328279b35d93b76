#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes what S3 needs beside the models of make_models.py: make_adapters.py MODELS DATA

A Qwen1 of two layers with a tiktoken vocabulary made of a real tokenizer's, LoRA adapters of llama3 with random
weights, a chat template for it, and articles with summaries. Needs Python 3 alone.
"""
import base64
import json
import os
import random
import struct
import sys

TOKENIZERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "tokenizers")
CHAT_TEMPLATE = ("{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}\n{% endfor %}"
                 "{% if add_generation_prompt %}<|assistant|>\n{% endif %}")


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)


def write_tensors(path, shapes, seed):
    """Random float32 tensors of about 0.1; norms of ones."""
    rng = random.Random(seed)
    header, parts, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, shape in shapes.items():
        count = 1
        for size in shape:
            count *= size
        norm = ".ln_" in name
        parts.append(struct.pack(f"<{count}f", *([1.0] * count if norm else [rng.gauss(0, 0.1) for _ in range(count)])))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + 4 * count]}
        offset += 4 * count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


def byte_of_char():
    own = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = [b for b in range(256) if b not in own]
    return {chr(b): b for b in own} | {chr(256 + i): b for i, b in enumerate(others)}


def write_tiktoken(path):
    """The byte-level tokens of a tokenizer.json with the bytes first, as ranks; returns how many."""
    with open(os.path.join(TOKENIZERS, "stories-bpe-4096", "tokenizer.json"), encoding="utf-8") as file:
        vocab = json.load(file)["model"]["vocab"]
    chars = byte_of_char()
    tokens = [bytes([b]) for b in range(256)]
    for token in sorted(vocab, key=vocab.get):
        if len(token) > 1 and all(c in chars for c in token):
            tokens.append(bytes(chars[c] for c in token))
    with open(path, "wb") as file:
        for rank, token in enumerate(tokens):
            file.write(base64.b64encode(token) + b" %d\n" % rank)
    return len(tokens)


def make_qwen1(folder):
    os.makedirs(folder, exist_ok=True)
    vocab = write_tiktoken(os.path.join(folder, "qwen.tiktoken")) + 208  # and the special tokens that no file lists
    hidden, inner, layers = 64, 96, 2
    write_json(os.path.join(folder, "tokenizer_config.json"), {"tokenizer_class": "QWenTokenizer", "model_max_length": 8192})
    write_json(os.path.join(folder, "config.json"), {
        "architectures": ["QWenLMHeadModel"], "model_type": "qwen", "vocab_size": vocab, "hidden_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": 4, "kv_channels": 16, "intermediate_size": 2 * inner,
        "layer_norm_epsilon": 1e-6, "rotary_emb_base": 10000, "rotary_pct": 1.0, "max_position_embeddings": 4096,
        "seq_length": 4096, "use_dynamic_ntk": True, "use_logn_attn": True, "no_bias": True, "torch_dtype": "bfloat16"})
    shapes = {"transformer.wte.weight": [vocab, hidden], "transformer.ln_f.weight": [hidden], "lm_head.weight": [vocab, hidden]}
    for layer in range(layers):
        shapes |= {f"transformer.h.{layer}.{name}": shape for name, shape in {
            "attn.c_attn.weight": [3 * hidden, hidden], "attn.c_attn.bias": [3 * hidden],
            "attn.c_proj.weight": [hidden, hidden], "mlp.w1.weight": [inner, hidden], "mlp.w2.weight": [inner, hidden],
            "mlp.c_proj.weight": [hidden, inner], "ln_1.weight": [hidden], "ln_2.weight": [hidden]}.items()}
    write_tensors(os.path.join(folder, "model.safetensors"), shapes, 1)


def make_adapter(folder, config, seed):
    os.makedirs(folder, exist_ok=True)
    rank, hidden = 4, config["hidden_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    outs = {"q_proj": config["num_attention_heads"] * head, "v_proj": config["num_key_value_heads"] * head}
    shapes = {}
    for layer in range(config["num_hidden_layers"]):
        for module, out in outs.items():
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            shapes |= {f"{name}.lora_A.weight": [rank, hidden], f"{name}.lora_B.weight": [out, rank]}
    write_tensors(os.path.join(folder, "adapter_model.safetensors"), shapes, seed)
    write_json(os.path.join(folder, "adapter_config.json"), {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 8, "target_modules": sorted(outs), "bias": "none"})


def main():
    models, data = sys.argv[1:3]
    make_qwen1(os.path.join(models, "qwen1"))
    llama3 = os.path.join(models, "llama3")
    with open(os.path.join(llama3, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    for seed, name in enumerate(("lora", "ck1", "ck2", "ck3")):
        make_adapter(os.path.join(models, name), config, seed)
    path = os.path.join(llama3, "tokenizer_config.json")
    with open(path, encoding="utf-8") as file:
        settings = json.load(file)
    write_json(path, {"chat_template": CHAT_TEMPLATE, **settings})
    os.makedirs(os.path.join(data, "cnn"), exist_ok=True)
    with open(os.path.join(data, "cnn", "articles.jsonl"), "w", encoding="utf-8") as file:
        for number in range(8):
            article = f"A small dog went to the sea {number} times. It liked the water, and the water liked the dog. " * 6
            file.write(json.dumps({"article": article, "highlights": "A dog went to the sea."}) + "\n")


if __name__ == "__main__":
    main()
