# SPDX-License-Identifier: Apache-2.0
"""Times llama.cpp on the CPU, and this project beside it, in interleaved rounds; writes one JSON file.

    compare_llama_cpp.py --llama_dir DIR --model_dir DIR --output bench/results/cpu_llama_cpp.json
        [--shapes qwen2-0.5b,llama-3.2-1b] [--formats bf16,f16,q8_0,q4_0] [--threads 2] [--rounds 3]
        [--kernels_bench build/bench/bin/kernels_bench] [--ours 'COMMAND {shape} {format} ...'] [--resume]

DIR of llama.cpp is a source tree built natively into DIR/build (targets llama-bench,
llama-batched-bench, llama-quantize). Models are random weights, made once in --model_dir.

--ours is run by the shell once a round and format, with {shape}, {format}, {prompt} and {generate}
filled in; its last line of output is a JSON object with "prefill" and "decode" in tokens a second.
With --resume the rounds are added to those that --output holds, so that a measurement can be made of
short pieces. --kernels_bench measures the read bandwidth of all threads before each pair, so that every figure
stands beside the limit of its own minute.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import random_gguf  # noqa: E402

BATCHES = (1, 2, 4, 8, 16)
# Of the JSON object that --ours prints.
OURS = ("prefill", "decode", "decode_16", "share_of_bandwidth", "read_bandwidth_gb_per_s", "processor_hop_ns")


def run(command, **kwargs):
    result = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if result.returncode != 0:
        raise SystemExit(f"error: {command} ended with {result.returncode}:\n{result.stderr[-2000:]}")
    return result.stdout


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def commit():
    root = pathlib.Path(__file__).resolve().parent
    return run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"]).strip()


class Llama:
    def __init__(self, args):
        self.args = args
        self.binaries = pathlib.Path(args.llama_dir) / "build" / "bin"
        if args.llama_bin:
            self.binaries = pathlib.Path(args.llama_bin)
        for name in ("llama-bench", "llama-batched-bench", "llama-quantize"):
            if not (self.binaries / name).exists():
                raise SystemExit(f"error: {self.binaries / name} is missing; build llama.cpp first")

    def model(self, shape, fmt):
        """The path of a model, made when it is not there."""
        folder = pathlib.Path(self.args.model_dir)
        folder.mkdir(parents=True, exist_ok=True)
        base = folder / f"{shape}-bf16.gguf"
        if not base.exists():
            random_gguf.write_random_gguf(self.args.llama_dir, shape, base)
        path = folder / f"{shape}-{fmt}.gguf"
        if not path.exists():
            run([str(self.binaries / "llama-quantize"), str(base), str(path), fmt.upper()])
        return path

    def bench(self, shape, fmt):
        args = self.args
        command = [str(self.binaries / "llama-bench"), "-m", str(self.model(shape, fmt)),
                   "-t", str(args.threads), "-p", str(args.prompt), "-n", str(args.generate),
                   "-r", "1", "-o", "json"]
        rows = json.loads(run(command))
        found = {"prefill" if row["n_gen"] == 0 else "decode": row["avg_ts"] for row in rows}
        found["build"] = rows[0]["build_commit"]
        return found

    def batched(self, shape, fmt):
        """Decoded tokens a second of all sequences together, by number of sequences."""
        command = [str(self.binaries / "llama-batched-bench"), "-m", str(self.model(shape, fmt)),
                   "-t", str(self.args.threads), "-c", "4096", "-npp", "16", "-ntg", "32",
                   "-npl", ",".join(map(str, BATCHES)), "--output-format", "jsonl"]
        lines = [line for line in run(command).splitlines() if line.startswith("{")]
        return {row["pl"]: row["speed_tg"] for row in map(json.loads, lines)}


def read_bandwidth(args):
    if not args.kernels_bench:
        return None
    out = run([args.kernels_bench, "--benchmark_filter=^read_bandwidth", "--benchmark_format=json"])
    return json.loads(out)["benchmarks"][0]["GB/s"]


def ours(args, shape, fmt):
    if not args.ours:
        return None
    command = args.ours.format(shape=shape, format=fmt, prompt=args.prompt, generate=args.generate)
    return json.loads(run(command, shell=True).strip().splitlines()[-1])


def summary(samples):
    values = [s for s in samples if s is not None]
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def empty():
    """What has been measured of a shape and format."""
    return {"bandwidth": [], "batched": None, "build": "", "llama": {"prefill": [], "decode": []},
            "ours": {key: [] for key in OURS}}


def measure(args, llama, shape, fmt, record):
    record["bandwidth"].append(read_bandwidth(args))
    theirs = llama.bench(shape, fmt)
    record["build"] = theirs["build"]
    for phase in ("prefill", "decode"):
        record["llama"][phase].append(theirs[phase])
    mine = ours(args, shape, fmt)
    if mine:
        for phase in record["ours"]:
            record["ours"][phase].append(mine.get(phase))


def report(args, llama, records):
    results = []
    for (shape, fmt), record in records.items():
        entry = {"shape": shape, "format": fmt,
                 "file_bytes": llama.model(shape, fmt).stat().st_size,
                 "read_bandwidth_gb_per_s": summary(record["bandwidth"])}
        for who in ("llama", "ours"):
            for phase in ("prefill", "decode"):
                entry[f"{who}_{phase}_tokens_per_s"] = summary(record[who][phase])
        for extra in OURS[2:]:
            entry[f"ours_{extra}"] = summary(record["ours"][extra])
        entry["samples"] = {"llama": record["llama"], "ours": record["ours"], "bandwidth": record["bandwidth"]}
        if record["batched"]:
            entry["llama_batched_decode_tokens_per_s"] = record["batched"]
        results.append(entry)
    return {
        "what": f"CPU, {args.threads} threads, prefill of {args.prompt} tokens and decode of "
                f"{args.generate}, random weights, interleaved rounds (samples in their order)",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": cpu_name(), "cpus": os.cpu_count(),
        "commit": commit(), "llama_cpp": args.llama_version,
        "command": "compare_llama_cpp.py " + " ".join(sys.argv[1:]),
        "load_average": os.getloadavg()[0], "note": args.note, "results": results,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llama_dir", required=True)
    parser.add_argument("--llama_bin", help="folder of its programs (default: LLAMA_DIR/build/bin)")
    parser.add_argument("--llama_version", default="unknown", help="recorded as given")
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--shapes", default=",".join(random_gguf.SHAPES))
    parser.add_argument("--formats", default="bf16,f16,q8_0,q4_0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--batched", action="store_true", help="also decode of 1 to 16 sequences")
    parser.add_argument("--resume", action="store_true", help="add to the samples of --output")
    parser.add_argument("--kernels_bench")
    parser.add_argument("--ours")
    parser.add_argument("--note", default="")
    args = parser.parse_args()

    llama = Llama(args)
    records = {}
    if args.resume and pathlib.Path(args.output).exists():
        for entry in json.loads(pathlib.Path(args.output).read_text())["results"]:
            records[entry["shape"], entry["format"]] = {**empty(), **entry["samples"]}
    wanted = [(shape, fmt) for shape in args.shapes.split(",") for fmt in args.formats.split(",")]
    for key in wanted:
        records.setdefault(key, empty())
    for shape, fmt in wanted:
        llama.model(shape, fmt)
    for _ in range(args.rounds):
        for shape, fmt in wanted:
            measure(args, llama, shape, fmt, records[shape, fmt])
    if args.batched:
        for (shape, fmt), record in ((key, records[key]) for key in wanted):
            record["batched"] = llama.batched(shape, fmt)
    output = report(args, llama, records)
    pathlib.Path(args.output).write_text(json.dumps(output, indent=1) + "\n")
    for entry in output["results"]:
        for who in ("llama", "ours"):
            if entry[f"{who}_prefill_tokens_per_s"]:
                print(entry["shape"], entry["format"], who, "prefill",
                      round(entry[f"{who}_prefill_tokens_per_s"]["median"]), "decode",
                      round(entry[f"{who}_decode_tokens_per_s"]["median"], 1))


if __name__ == "__main__":
    main()
