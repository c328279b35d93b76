# SPDX-License-Identifier: Apache-2.0
"""Writes a GGUF file with random bfloat16 weights and no vocabulary, for timing llama.cpp.

    random_gguf.py --llama_dir DIR --shape qwen2-0.5b --output qwen2-0.5b-bf16.gguf

The numbers of a model do not change its speed; its shapes do. DIR is a llama.cpp source tree, whose
gguf-py (and numpy) is imported.
"""

import argparse
import pathlib
import sys

SHAPES = {
    "qwen2-0.5b": dict(
        arch="qwen2", layers=24, hidden=896, heads=14, kv_heads=2, head_dim=64,
        intermediate=4864, vocab=151936, rope_theta=1e6, eps=1e-6, qkv_bias=True,
    ),
    "llama-3.2-1b": dict(
        arch="llama", layers=16, hidden=2048, heads=32, kv_heads=8, head_dim=64,
        intermediate=8192, vocab=128256, rope_theta=5e5, eps=1e-5, qkv_bias=False,
    ),
}


def import_gguf(llama_dir):
    folder = pathlib.Path(llama_dir) / "gguf-py"
    if not (folder / "gguf").is_dir():
        raise SystemExit(f"error: {folder} holds no gguf package; give --llama_dir a llama.cpp tree")
    sys.path.insert(0, str(folder))
    import gguf

    return gguf


def write_header(writer, gguf, s):
    writer.add_context_length(32768)
    writer.add_embedding_length(s["hidden"])
    writer.add_block_count(s["layers"])
    writer.add_feed_forward_length(s["intermediate"])
    writer.add_head_count(s["heads"])
    writer.add_head_count_kv(s["kv_heads"])
    writer.add_key_length(s["head_dim"])
    writer.add_value_length(s["head_dim"])
    writer.add_rope_dimension_count(s["head_dim"])
    writer.add_rope_freq_base(s["rope_theta"])
    writer.add_layer_norm_rms_eps(s["eps"])
    writer.add_vocab_size(s["vocab"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("no_vocab")


def write_tensors(writer, gguf, numpy, s):
    random = numpy.random.default_rng(0)

    def matrix(name, rows, columns):
        """Normal values of deviation 1 / sqrt(columns), cut (not rounded) to bfloat16."""
        values = random.standard_normal((rows, columns), dtype=numpy.float32) / columns**0.5
        words = (values.view(numpy.uint32) >> 16).astype(numpy.uint16)
        writer.add_tensor(name, words.view(numpy.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)

    def vector(name, size, value):
        writer.add_tensor(name, numpy.full(size, value, dtype=numpy.float32))

    q_size = s["heads"] * s["head_dim"]
    kv_size = s["kv_heads"] * s["head_dim"]
    matrix("token_embd.weight", s["vocab"], s["hidden"])  # also the tied output layer
    vector("output_norm.weight", s["hidden"], 1.0)
    for i in range(s["layers"]):
        prefix = f"blk.{i}."
        vector(prefix + "attn_norm.weight", s["hidden"], 1.0)
        vector(prefix + "ffn_norm.weight", s["hidden"], 1.0)
        for name, rows in (("attn_q", q_size), ("attn_k", kv_size), ("attn_v", kv_size)):
            matrix(f"{prefix}{name}.weight", rows, s["hidden"])
            if s["qkv_bias"]:
                vector(f"{prefix}{name}.bias", rows, 0.0)
        matrix(prefix + "attn_output.weight", s["hidden"], q_size)
        matrix(prefix + "ffn_gate.weight", s["intermediate"], s["hidden"])
        matrix(prefix + "ffn_up.weight", s["intermediate"], s["hidden"])
        matrix(prefix + "ffn_down.weight", s["hidden"], s["intermediate"])


def write_random_gguf(llama_dir, shape, output):
    gguf = import_gguf(llama_dir)
    import numpy

    s = SHAPES[shape]
    writer = gguf.GGUFWriter(str(output), s["arch"], use_temp_file=False)
    write_header(writer, gguf, s)
    write_tensors(writer, gguf, numpy, s)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llama_dir", required=True)
    parser.add_argument("--shape", choices=sorted(SHAPES), required=True)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    write_random_gguf(args.llama_dir, args.shape, args.output)


if __name__ == "__main__":
    main()
