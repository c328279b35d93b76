#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Teachers, then distillation, in one go on one GPU:
#   run_final.sh ROUND DATA OUT STUDENT RECIPES_S WRITE_S TOTAL_S RECIPE[:SEED] ...
# The recipes train for RECIPES_S; every teacher_*.pt then in OUT teaches STUDENT until TOTAL_S
# after the start. ROUND is distill.py's.
set -uo pipefail
round=$1 data=$2 out=$3 student=$4 recipes_s=$5 write_s=$6 total_s=$7
shift 7
start=$(date +%s)
here=$(dirname "$0")
"$here/run_recipes.sh" "$data" "$out" "$recipes_s" "$@"
OMP_NUM_THREADS=8 PYTHONUNBUFFERED=1 python3 "$here/distill.py" \
    --teachers "$out"/teacher_*.pt \
    --student "$student" --data "$data" --out "$out" --write-s "$write_s" \
    --until $((start + total_s)) --round "$round" \
    2>&1 | tee "$out/distill.log"
