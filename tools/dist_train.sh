#!/usr/bin/env bash
# Trains on several GPUs of one or more machines (on CPU processes where there is no GPU):
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# On several machines call it on each, with the same MASTER_ADDR:
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 PORT=29500 tools/dist_train.sh CONFIG 8
# After TERM, USR1 or Ctrl-C the training saves a checkpoint and stops, with status 143, 138 or 130.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [arguments of tools/train.py]" >&2
    exit 2
fi
config=$1 gpus=$2
tools=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}" "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$gpus" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
    "$tools/train.py" "$config" --launcher pytorch "${@:3}" &
torchrun=$! asked='' again=yes
# torchrun dies of USR1, and after TERM ends its processes within 30 seconds, saved or not: they
# get the signals themselves; before they are there, torchrun gets TERM
pass_on() {
    asked=$1
    # shellcheck disable=SC2046  # several processes
    kill -s "$1" $(cat "/proc/$torchrun/task/$torchrun/children") || kill "$torchrun" || true
} 2>/dev/null
for signal in INT TERM USR1; do
    # shellcheck disable=SC2064  # its value now
    trap "again=yes; pass_on $signal" "$signal"
done
while [ -n "$again" ]; do  # a signal ends `wait`, too
    again=
    wait "$torchrun" && status=0 || status=$?
done
if [ -n "$asked" ] && [ "$status" -ne 0 ]; then status=$((128 + $(kill -l "$asked"))); fi
exit "$status"
