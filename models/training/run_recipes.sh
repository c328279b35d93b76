#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains recipes side by side on one GPU: run_recipes.sh DATA OUT BUDGET_S RECIPE[:SEED] ...
set -uo pipefail
data=$1 out=$2 budget=$3
shift 3
here=$(dirname "$0")
mkdir -p "$out"
export OMP_NUM_THREADS=1 TORCHINDUCTOR_COMPILE_THREADS=2 PYTHONUNBUFFERED=1
for item in "$@"; do
    seed=1
    [[ $item == *:* ]] && seed=${item#*:}
    python3 "$here/train.py" "${item%%:*}" --seed "$seed" \
        --data "$data" --out "$out" --budget-s "$budget" >"$out/${item/:/_}.log" 2>&1 &
done
wait
