# SPDX-License-Identifier: Apache-2.0
"""Times this project on one shape and format, for compare_llama_cpp.py --ours.

    ours.py --trireme build/release/bin/trireme --engines DIR SHAPE FORMAT PROMPT GENERATE

Engines hold random weights and are built once into --engines. FORMAT: bf16, f16, q8_0 (int8 per
channel) or q4_0 (int4 in groups of 128). The last line of output is a JSON object.
"""

import argparse
import json
import pathlib
import subprocess

BUILD_FLAGS = {
    "bf16": ["--gemm_plugin", "bfloat16"],
    "f16": ["--gemm_plugin", "float16"],
    "q8_0": ["--gemm_plugin", "bfloat16", "--weight_only_precision", "int8"],
    "q4_0": ["--gemm_plugin", "bfloat16", "--weight_only_precision", "int4", "--group_size", "128"],
}


def build(args):
    engine = pathlib.Path(args.engines) / f"{args.shape}-{args.format}"
    if not (engine / "config.json").exists():
        config = pathlib.Path(__file__).parent / "configs" / f"{args.shape}.json"
        subprocess.run([args.trireme, "build", "--model_config", str(config), "--output_dir", str(engine),
                        "--max_batch_size", "16", "--max_seq_len", "4096", "--max_num_tokens", "2048",
                        *BUILD_FLAGS[args.format]], check=True, capture_output=True)
    return engine


def bench(args, engine, *flags):
    result = subprocess.run([args.trireme, "bench", *flags, "--engine_dir", str(engine)],
                            check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trireme", required=True)
    parser.add_argument("--engines", required=True)
    parser.add_argument("--batched", action="store_true", help="also 16 sequences at once")
    parser.add_argument("shape")
    parser.add_argument("format", choices=BUILD_FLAGS)
    parser.add_argument("prompt")
    parser.add_argument("generate")
    args = parser.parse_args()
    engine = build(args)
    latency = bench(args, engine, "latency", "--input_len", args.prompt, "--output_len", args.generate,
                    "--num_runs", "3", "--warm_up", "1")
    out = {"prefill": latency["prefill_tokens_per_s"], "decode": latency["decode_tokens_per_s"],
           "share_of_bandwidth": latency["share_of_bandwidth"],
           "share_of_bandwidth_best": latency["share_of_bandwidth_best"],
           "read_bandwidth_gb_per_s": latency["read_bandwidth_gb_per_s"],
           "processor_hop_ns": latency["processor_hop_ns"]}
    if args.batched:
        many = bench(args, engine, "throughput", "--input_len", "16", "--output_len", "32",
                     "--num_requests", "16", "--warm_up", "1")
        out["decode_16"] = 16e3 / many["inter_token_latency_ms"]["mean"]
    print(json.dumps(out))


if __name__ == "__main__":
    main()
