#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The parts of check_and_time.sh, which sets programs, out, engines and failed.

fail() { failed=1; echo "FAILED $*"; }

# Runs a gtest program; prints what failed and the count.
run_tests() {
  local name=$1
  shift
  timeout 240 "$@" --gtest_brief=1 --gtest_output="json:$out/$name.json" >"$out/$name.log" 2>&1 ||
    fail "$name"
  grep -E "^\[  (FAILED|PASSED|SKIPPED)|Failure$" "$out/$name.log" | sort | uniq -c | head -40
}

check_tests() {
  run_tests gpu_test "$programs/gpu_test"
  run_tests goldens "$programs/cuda_golden_test"
}

# The demo model: bfloat16 on the GPU against the CPU, FP8 against bfloat16, and FP8 against the CPU's
# emulation of it.
check_quality() {
  if [ ! -f "$programs/text.txt" ]; then echo "quality: not measured, no text.txt"; return; fi
  local t=$programs/trireme d=$engines/demo
  {
    head -c 150000 "$programs/text.txt" >"$engines/calibrate.txt" &&
      tail -c 60000 "$programs/text.txt" >"$engines/held_out.txt" &&
      "$t" convert --model_dir models/demo --dtype bfloat16 --output_dir "$d/bf16_ck" &&
      "$t" quantize --model_dir models/demo --qformat fp8 --kv_cache_dtype fp8 --dtype bfloat16 \
        --calib_dataset "$engines/calibrate.txt" --calib_size 64 --output_dir "$d/fp8_ck" &&
      "$t" build --checkpoint_dir "$d/bf16_ck" --output_dir "$d/cpu" --device cpu &&
      "$t" build --checkpoint_dir "$d/bf16_ck" --output_dir "$d/gpu" --device cuda &&
      "$t" build --checkpoint_dir "$d/fp8_ck" --output_dir "$d/fp8" --device cuda &&
      "$t" build --checkpoint_dir "$d/fp8_ck" --output_dir "$d/fp8_cpu" --device cpu \
        --kv_cache_dtype bfloat16 &&
      "$t" eval compare --engine_dir "$d/gpu" --reference_engine_dir "$d/cpu" \
        --dataset "$engines/held_out.txt" --output_json "$out/quality_bf16_gpu_cpu.json" &&
      "$t" eval compare --engine_dir "$d/fp8" --reference_engine_dir "$d/gpu" \
        --dataset "$engines/held_out.txt" --output_json "$out/quality_fp8_bf16.json" &&
      "$t" eval compare --engine_dir "$d/fp8" --reference_engine_dir "$d/fp8_cpu" \
        --dataset "$engines/held_out.txt" --output_json "$out/quality_fp8_gpu_cpu.json"
  } >"$out/quality.log" 2>&1 || { fail "quality"; tail -3 "$out/quality.log"; return; }
  python3 bench/gpu/gather.py --quality "$out" || fail "quality"
}

# expect_error NAME TEXT COMMAND...: the command fails and says TEXT.
expect_error() {
  local name=$1 text=$2
  shift 2
  if timeout 60 "$@" >"$out/error_$name.log" 2>&1; then fail "error $name: the command succeeded"; fi
  grep -qiE "$text" "$out/error_$name.log" || { fail "error $name"; tail -2 "$out/error_$name.log"; }
}

# What a user can meet: a model larger than the GPU, no room for the cache, no GPU, a damaged engine.
check_errors() {
  build_bf16 || return
  local bench=("$programs/trireme" bench throughput --num_requests 4)
  expect_error no_cache_room "KV cache|out of memory|are free" "${bench[@]}" \
    --engine_dir "$engines/bf16" --kv_cache_free_gpu_mem_fraction 0.000001
  python3 - bench/gpu/configs/llama-3.1-8b.json "$engines/large.json" <<'PYTHON'
import json, sys
config = json.load(open(sys.argv[1]))
config["num_hidden_layers"] = 400
json.dump(config, open(sys.argv[2], "w"))
PYTHON
  "$programs/trireme" build --model_config "$engines/large.json" --output_dir "$engines/large" \
    --device cuda --gemm_plugin bfloat16 --log_level warning \
    --input_timing_cache "$engines/bf16/model.cache" >"$out/build_large.log" 2>&1 || fail "build large"
  expect_error too_large "bytes wanted on the GPU, [0-9]+ are free" "${bench[@]}" \
    --engine_dir "$engines/large"
  expect_error no_gpu "no GPU|CUDA_VISIBLE_DEVICES" env CUDA_VISIBLE_DEVICES= "${bench[@]}" \
    --engine_dir "$engines/bf16"
  mkdir -p "$engines/damaged"
  cp "$engines"/bf16/* "$engines/damaged/"
  printf 'damaged' | dd of="$engines/damaged/rank0.engine" bs=1 seek=4096 conv=notrunc 2>/dev/null
  expect_error damaged "checksum|damaged|rank0.engine" "${bench[@]}" --engine_dir "$engines/damaged"
}

# build_8b NAME FLAG...: an 8B engine of random weights, once.
build_8b() {
  local name=$1
  shift
  [ ! -f "$engines/$name/rank0.engine" ] || return 0
  timeout 120 "$programs/trireme" build --model_config bench/gpu/configs/llama-3.1-8b.json \
    --output_dir "$engines/$name" --device cuda --gemm_plugin bfloat16 --max_batch_size 2048 \
    --max_seq_len 8192 --max_num_tokens 8192 --log_level warning "$@" >"$out/build_$name.log" 2>&1 ||
    { fail "building $name"; tail -3 "$out/build_$name.log"; return 1; }
}

build_bf16() { build_8b bf16; }
build_fp8() { build_8b fp8 --weight_only_precision fp8 --kv_cache_dtype fp8; }

# bench LIMIT NAME ENGINE MODE FLAG...: leaves OUT/NAME_ENGINE.json, and the clocks beside it.
bench() {
  local limit=$1 name=$2_$3 engine=$3 mode=$4 watcher
  shift 4
  (while sleep 1; do
    nvidia-smi --query-gpu=clocks.sm,power.draw,temperature.gpu --format=csv,noheader,nounits
  done >"$out/$name.clocks") &
  watcher=$!
  timeout "$limit" "$programs/trireme" bench "$mode" --engine_dir "$engines/$engine" \
    --log_level info --output_json "$out/$name.json" "$@" >/dev/null 2>"$out/$name.log" ||
    { fail "$name"; tail -3 "$out/$name.log"; }
  kill "$watcher" 2>/dev/null
  wait "$watcher" 2>/dev/null
}

# offline LIMIT ENGINE IN OUT REQUESTS: all requests queued at once; at least three times as many as
# are resident, and a minute.
offline() {
  bench "$1" "offline_$3_$4" "$2" throughput --input_len "$3" --output_len "$4" --num_requests "$5" \
    --warm_up 8
}

time_kernels() {
  timeout 60 "$programs/gpu_bench" --filter=linear_layer --json="$out/linear_layer.jsonl" \
    >"$out/kernels.log" 2>&1 || fail "kernels"
  grep "/m1 " "$out/kernels.log"
}

time_latency() {
  local engine
  for engine in bf16 fp8; do
    build_$engine || continue
    bench 60 latency $engine latency --input_len 128 --output_len 512 --num_runs 5 --warm_up 1
    bench 60 prompt_2048 $engine latency --input_len 2048 --output_len 8 --num_runs 5 --warm_up 1
  done
}

time_short() {
  if build_fp8; then
    offline 120 fp8 128 128 14336
    offline 150 fp8 2048 128 2560
  fi
  if build_bf16; then offline 120 bf16 128 128 8704; fi
}

time_long() {
  build_fp8 || return
  offline 230 fp8 1000 1000 2816
  offline 270 fp8 128 2048 2560
}

time_profile() {
  build_fp8 || return
  bench 60 profile_512 fp8 latency --input_len 128 --output_len 16 --num_runs 1 --concurrency 512 \
    --profile "$out/profile_fp8_512.json"
  bench 60 decode_256 fp8 throughput --input_len 128 --output_len 512 --num_requests 256 --warm_up 8 \
    --max_batch_size 256
}
