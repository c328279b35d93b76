# SPDX-License-Identifier: Apache-2.0
# What every tutorial begins with. M, D, R and P come from `run`.
set -euo pipefail; H=localhost:8000/v2
up(){ for i in $(seq 300); do curl -sf $H/health/ready && return; sleep .2; done; return 1; }
down(){ kill -TERM $!; wait $!; }          # a drained server exits 0
# A command of a later feature: refused with an exit code, and with the words given.
refused(){ local words=$1; shift; if "$@" >refused.log 2>&1; then echo "not refused: $*"; return 1; fi; grep -e "$words" refused.log; }
