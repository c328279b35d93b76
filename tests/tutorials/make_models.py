#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the small models and texts the tutorials run on: make_models.py FOLDER

Each model is a published architecture with two layers of random weights (tests/data/golden) and the
vocabulary of a real tokenizer (tests/data/tokenizers). Needs Python 3 alone.
"""
import json
import os
import random
import shutil
import struct
import sys

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
MODELS = {
    "qwen2": ("qwen2", "multilingual", 12000),
    "chatglm3": ("chatglm3", "bpe-spm", 32064),
    "gpt2": ("gpt2", "stories-bpe-4096", 4096),
    "gptj": ("gptj", "stories-bpe-4096", 4096),
    "llama3": ("llama-gqa", "multilingual", 12000),
}
OLD_VOCAB = 512
# The one file by which a folder is known to want ChatGLM's prompt format.
CHATGLM_CONFIG = {
    "tokenizer_class": "ChatGLMTokenizer",
    "chat_template": "{% for message in messages %}{% if loop.first %}[gMASK]sop{% endif %}"
                     "<|{{ message['role'] }}|>\n {{ message['content'] }}{% endfor %}"
                     "{% if add_generation_prompt %}<|assistant|>{% endif %}",
}


def bfloat16(rng, count):
    """Random numbers of about 0.1, as bytes."""
    return b"".join(struct.pack("<f", rng.gauss(0, 0.1))[2:] for _ in range(count))


def grow_vocabulary(source, target, vocab):
    rng = random.Random(1234)
    with open(source, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    metadata = header.pop("__metadata__", {"format": "pt"})
    tensors, offset, parts = {"__metadata__": metadata}, 0, []
    for name, tensor in sorted(header.items()):
        begin, end = tensor["data_offsets"]
        bytes_, shape = data[begin:end], list(tensor["shape"])
        if shape[0] == OLD_VOCAB:
            row = (end - begin) // OLD_VOCAB
            bytes_ += bfloat16(rng, (vocab - OLD_VOCAB) * row // 2)
            shape[0] = vocab
        tensors[name] = {"dtype": tensor["dtype"], "shape": shape,
                         "data_offsets": [offset, offset + len(bytes_)]}
        offset += len(bytes_)
        parts.append(bytes_)
    text = json.dumps(tensors).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


def make_model(folder, golden, tokenizer, vocab):
    os.makedirs(folder)
    source = os.path.join(DATA, "golden", golden)
    with open(os.path.join(source, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    for key in ("vocab_size", "padded_vocab_size"):
        if key in config:
            config[key] = vocab
    # Positions that are computed reach as far as the tutorials ask; learned ones stay.
    for key in ("max_position_embeddings", "seq_length", "n_positions"):
        if key in config and golden != "gpt2":
            config[key] = 4096
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    grow_vocabulary(os.path.join(source, "model.safetensors"),
                    os.path.join(folder, "model.safetensors"), vocab)
    for name in os.listdir(os.path.join(DATA, "tokenizers", tokenizer)):
        shutil.copy(os.path.join(DATA, "tokenizers", tokenizer, name), folder)
    if golden == "chatglm3":
        with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
            json.dump(CHATGLM_CONFIG, file)


def main():
    root = sys.argv[1]
    for name, (golden, tokenizer, vocab) in MODELS.items():
        make_model(os.path.join(root, "models", name), golden, tokenizer, vocab)
    os.makedirs(os.path.join(root, "data", "calib"))
    with open(os.path.join(root, "data", "calib", "texts.jsonl"), "w", encoding="utf-8") as file:
        for number in range(64):
            text = f"Story {number}. Once upon a time there was a small dog who liked the sea. " * 4
            file.write(json.dumps({"text": text}) + "\n")


if __name__ == "__main__":
    main()
