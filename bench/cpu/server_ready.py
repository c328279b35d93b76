# SPDX-License-Identifier: Apache-2.0
"""Times `trireme serve` on a built engine from its start to the first 200 of /v2/health/ready.

    server_ready.py --trireme build/release/bin/trireme --work DIR --shapes qwen2-0.5b,llama-3.2-1b
        [--runs 5] [--output bench/results/cpu_server_ready.json]

A Hugging Face folder of each shape with random bfloat16 weights and the demo model's tokenizer is
made once in --work, then converted and built, which is timed too. Weights come from the page cache.
"""

import argparse
import datetime
import http.client
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import time

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def tensors(config):
    """Names and shapes of a Llama or Qwen2 checkpoint with a tied output layer."""
    hidden, middle = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim", hidden // config["num_attention_heads"])
    q, kv = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    yield "model.norm.weight", (hidden,)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{layer}{name}.weight", (hidden,)
        for name, rows in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
            yield f"{layer}self_attn.{name}.weight", (rows, hidden)
            if config["model_type"] == "qwen2":
                yield f"{layer}self_attn.{name}.bias", (rows,)
        yield f"{layer}self_attn.o_proj.weight", (hidden, q)
        for name, shape in (("gate_proj", (middle, hidden)), ("up_proj", (middle, hidden)),
                            ("down_proj", (hidden, middle))):
            yield f"{layer}mlp.{name}.weight", shape


def write_model(config_file, folder):
    config = json.loads(config_file.read_text())
    header, end = {}, 0
    for name, shape in tensors(config):
        begin, end = end, end + 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True, exist_ok=True)
    random = numpy.random.default_rng(0)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors(config):
            values = random.standard_normal(int(numpy.prod(shape)), dtype=numpy.float32) * 0.02
            file.write((values.view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes())
    for name in TOKENIZER_FILES:
        shutil.copy(ROOT / "models" / "demo" / name, folder)
    (folder / "config.json").write_text(json.dumps(config))


def timed(command):
    begin = time.monotonic()
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"error: {command} ended with {result.returncode}:\n{result.stderr[-2000:]}")
    return time.monotonic() - begin


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def is_ready(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def seconds_to_ready(trireme, engine, limit_s=60):
    port = free_port()
    begin = time.monotonic()
    server = subprocess.Popen([str(trireme), "serve", str(engine), "--http_port", str(port), "--grpc_port", "0",
                               "--metrics_port", "0"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not is_ready(port):
            if server.poll() is not None:
                raise SystemExit(f"error: the server of {engine} ended with {server.returncode}")
            if time.monotonic() - begin > limit_s:
                raise SystemExit(f"error: the server of {engine} is not ready after {limit_s} s")
            time.sleep(0.002)
        return time.monotonic() - begin
    finally:
        server.terminate()
        server.wait()


def measure(args, shape):
    work = pathlib.Path(args.work)
    model, checkpoint, engine = (work / f"{shape}-{kind}" for kind in ("hf", "checkpoint", "engine"))
    entry = {"shape": shape, "dtype": "bfloat16"}
    if not (model / "config.json").exists():
        write_model(ROOT / "bench" / "cpu" / "configs" / f"{shape}.json", model)
    for folder in (checkpoint, engine):
        shutil.rmtree(folder, ignore_errors=True)
    entry["convert_s"] = timed([args.trireme, "convert", "--model_dir", model, "--output_dir", checkpoint,
                                "--dtype", "bfloat16"])
    entry["build_s"] = timed([args.trireme, "build", "--checkpoint_dir", checkpoint, "--output_dir", engine,
                              "--max_batch_size", "16", "--max_seq_len", "4096"])
    times = [seconds_to_ready(args.trireme, engine) for _ in range(args.runs)]
    entry["ready_s"] = {"median": statistics.median(times), "min": min(times), "max": max(times)}
    return entry


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trireme", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--shapes", default="qwen2-0.5b,llama-3.2-1b")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--note", default="")
    parser.add_argument("--output")
    args = parser.parse_args()
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    result = {"what": f"trireme serve on a built engine: start to the first 200 of /v2/health/ready, {args.runs} runs",
              "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
              "cpus": os.cpu_count(), "commit": commit.stdout.strip(), "note": args.note,
              "results": [measure(args, shape) for shape in args.shapes.split(",")]}
    text = json.dumps(result, indent=1) + "\n"
    print(text, end="")
    if args.output:
        pathlib.Path(args.output).write_text(text)


if __name__ == "__main__":
    main()
