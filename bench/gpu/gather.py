#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Gathers what check_and_time.sh left in a folder into gpu.json and prints the table.

gather.py OUT            the table
gather.py --quality OUT  holds the quality of the demo model against its limits; fails beyond them
"""
import json
import pathlib
import statistics
import sys

# GPU against CPU, each way; FP8 against bfloat16.
MOST_PERPLEXITY_APART = 0.005
MOST_PERPLEXITY_OF_FP8 = 0.02
LEAST_AGREEMENT_OF_FP8 = 0.95


def load(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def clocks(path):
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append([float(word) for word in line.split(",")])
        except ValueError:
            continue
    rows = [row for row in rows if len(row) == 3 and row[1] > 200]  # at work
    if not rows:
        return {}
    mhz, watts, celsius = zip(*rows)
    return {
        "sm_mhz": {"median": statistics.median(mhz), "least": min(mhz), "most": max(mhz)},
        "watts": {"median": statistics.median(watts), "most": max(watts)},
        "celsius_most": max(celsius),
    }


def quality(out):
    ok = True
    limits = {
        "quality_bf16_gpu_cpu": (MOST_PERPLEXITY_APART, 0.0, True),
        "quality_fp8_bf16": (MOST_PERPLEXITY_OF_FP8, LEAST_AGREEMENT_OF_FP8, False),
        "quality_fp8_gpu_cpu": (MOST_PERPLEXITY_APART, LEAST_AGREEMENT_OF_FP8, True),
    }
    for name, (most, least_agreement, both_ways) in limits.items():
        data = load(out / f"{name}.json")
        ratio = data["perplexity"] / data["reference_perplexity"] - 1
        agreement = data["top1_agreement"]
        good = (abs(ratio) if both_ways else ratio) <= most and agreement >= least_agreement
        print(f"{name}: perplexity {100 * ratio:+.2f} %, same likeliest token {100 * agreement:.2f} %",
              "" if good else "BEYOND ITS LIMIT")
        ok = ok and good
    return ok


def main():
    if sys.argv[1] == "--quality":
        sys.exit(0 if quality(pathlib.Path(sys.argv[2])) else 1)
    out = pathlib.Path(sys.argv[1])
    result = {"gpu": (out / "gpu.txt").read_text().strip()}
    for path in sorted(out.glob("*.json")):
        data = load(path)
        if data is None or path.stem in ("gpu",) or path.stem.startswith("profile_fp8"):
            continue
        if "testsuites" in data:
            data = {key: data[key] for key in ("tests", "failures", "disabled", "time")}
        elif "benchmark" in data:
            data["clocks"] = clocks(path.with_suffix(".clocks"))
        result[path.stem] = data
    (out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, data in result.items():
        if not isinstance(data, dict) or "benchmark" not in data:
            continue
        keys = ("decode_tokens_per_s", "output_tokens_per_s", "seconds")
        line = {key: round(data[key], 1) for key in keys if key in data}
        line["ttft_ms"] = round(data["time_to_first_token_ms"]["p50"], 2)
        if "decode_steps" in data:
            steps = data["decode_steps"]
            line["idle_p99_us"] = round(1e3 * steps["device_idle_ms"]["p99"], 1)
            line["launches"] = steps["most_launches"]
        if data["clocks"]:
            line["mhz"] = data["clocks"]["sm_mhz"]["median"]
            line["watts"] = data["clocks"]["watts"]["median"]
        print(name, line)


if __name__ == "__main__":
    main()
