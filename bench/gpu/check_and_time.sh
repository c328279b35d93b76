#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# On a GPU machine: is it right, then how fast is an 8B model. Needs only the programs, which may have
# been built elsewhere, and this checkout. Two calls of less than nine minutes each make the whole table:
#   bench/gpu/check_and_time.sh PROGRAMS OUT check latency short
#   bench/gpu/check_and_time.sh PROGRAMS OUT long profile
# PROGRAMS: folder with trireme, gpu_test, gpu_bench and cuda_golden_test, and, for the part of quality,
# text.txt: some 200 KB of plain text of the kind that models/demo was trained on (short stories).
# OUT: folder for the results; OUT/gpu.json gathers them, with clocks and power during each run.
# Parts:
#   check    tests, golden models, FP8 quality of the demo model, errors that users meet
#   kernels  the linear layers of one decode step (gpu_bench without a filter times all kernels)
#   latency  batch 1: 128 in, 512 out, and the first token of 128 and 2,048
#   short    offline, 128 out: 128 in (FP8, BF16) and 2,048 in
#   long     offline: 1,000 in and out; 128 in, 2,048 out
#   profile  each launch of a step of 512 sequences; idle time between decode steps at batch 256
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
programs=$(realpath "$1") out=$2
shift 2
parts=${*:-check latency short}
mkdir -p "$out"
out=$(realpath "$out")
failed=0
engines=$(mktemp -d)
trap 'rm -rf "$engines"' EXIT
source bench/gpu/parts.sh

nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv,noheader |
  tee "$out/gpu.txt"
"$programs/trireme" --version | tail -2
for part in $parts; do
  begin=$SECONDS
  case $part in
    check) check_tests && check_quality && check_errors ;;
    kernels) time_kernels ;;
    latency) time_latency ;;
    short) time_short ;;
    long) time_long ;;
    profile) time_profile ;;
    *) echo "no part is called '$part'" >&2; exit 2 ;;
  esac
  echo "-- $part: $((SECONDS - begin)) s"
done
python3 bench/gpu/gather.py "$out"
exit $failed
