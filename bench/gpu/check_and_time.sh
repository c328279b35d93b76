#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# On a GPU machine: tests first, then the speed of an 8B model, in one call. Needs only the programs,
# which may have been built elsewhere, and this checkout.
#   bench/gpu/check_and_time.sh PROGRAMS OUT [PART ...]
# PROGRAMS: folder with trireme, gpu_test, gpu_bench and cuda_golden_test. OUT: folder for the results;
# one JSON, OUT/gpu.json, gathers them. PART: tests goldens kernels latency throughput (default: all).
# "kernels" times the linear layers of one decode step only; gpu_bench without a filter times them all.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
programs=$1 out=$2
shift 2
parts=${*:-tests goldens kernels latency throughput}
mkdir -p "$out"
failed=0

wants() { [[ " $parts " == *" $1 "* ]]; }

# Runs a gtest program; prints what failed and the count.
run_tests() {
  local name=$1
  shift
  timeout 100 "$@" --gtest_brief=1 --gtest_output="json:$out/$name.json" >"$out/$name.log" 2>&1 || failed=1
  grep -E "^\[  (FAILED|PASSED|SKIPPED)|Failure$" "$out/$name.log" | sort | uniq -c | head -40
}

nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv,noheader |
  tee "$out/gpu.txt"
"$programs/trireme" --version | tail -1
if wants tests; then run_tests gpu_test "$programs/gpu_test"; fi
if wants goldens; then run_tests goldens "$programs/cuda_golden_test"; fi
if wants kernels && [ ! -x "$programs/gpu_bench" ]; then
  echo "kernels: not timed, $programs holds no gpu_bench"
elif wants kernels; then
  timeout 60 "$programs/gpu_bench" --filter=linear_layer --json="$out/linear_layer.jsonl" \
    >"$out/kernels.log" 2>&1 || failed=1
  grep "/m1 " "$out/kernels.log"
fi

engines=$(mktemp -d)
trap 'rm -rf "$engines"' EXIT

# bench ENGINE NAME MODE FLAG...: leaves OUT/NAME_ENGINE.json.
bench() {
  local engine=$1 name=$2_$1 mode=$3
  shift 3
  timeout 60 "$programs/trireme" bench "$mode" --engine_dir "$engines/$engine" --log_level info \
    --output_json "$out/$name.json" "$@" >/dev/null 2>"$out/$name.log" ||
    { failed=1; echo "$name failed:"; tail -3 "$out/$name.log"; }
}

# time_engine NAME FLAG...: builds an 8B engine of random weights and times it.
time_engine() {
  local engine=$1
  shift
  "$programs/trireme" build --model_config bench/gpu/configs/llama-3.1-8b.json \
    --output_dir "$engines/$engine" --device cuda --gemm_plugin bfloat16 --max_batch_size 512 \
    --max_seq_len 8192 --max_num_tokens 8192 --log_level warning "$@" >"$out/build_$engine.log" 2>&1 ||
    { failed=1; echo "building $engine failed:"; tail -3 "$out/build_$engine.log"; return; }
  if wants latency; then
    bench "$engine" latency latency --input_len 128 --output_len 512 --num_runs 3 --warm_up 1
    bench "$engine" prompt_2048 latency --input_len 2048 --output_len 8 --num_runs 3 --warm_up 1
  fi
  if wants throughput; then
    bench "$engine" throughput_128_128 throughput --input_len 128 --output_len 128 \
      --num_requests 1536 --warm_up 8
  fi
}

if wants latency || wants throughput; then
  time_engine bf16
  time_engine fp8 --weight_only_precision fp8
  time_engine fp8_kv8 --weight_only_precision fp8 --kv_cache_dtype fp8
fi

python3 - "$out" <<'PYTHON'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
result = {"gpu": (out / "gpu.txt").read_text().strip()}
for path in sorted(out.glob("*.json")):
    data = json.loads(path.read_text())
    if "testsuites" in data:
        result[path.stem] = {key: data[key] for key in ("tests", "failures", "disabled", "time")}
    elif path.stem != "gpu":
        result[path.stem] = data
(out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
for name, data in result.items():
    if isinstance(data, dict) and "benchmark" in data:
        keys = ("decode_tokens_per_s", "prefill_tokens_per_s", "weights_gb_per_s", "output_tokens_per_s")
        print(name, {key: round(data[key], 1) for key in keys if key in data},
              "ttft_ms", round(data["time_to_first_token_ms"]["p50"], 2))
    else:
        print(name, data)
PYTHON
exit $failed
