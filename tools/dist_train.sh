#!/usr/bin/env bash
# Trains on several GPUs of one or more machines (on CPU processes where there is no GPU):
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# On several machines call it on each, with the same MASTER_ADDR:
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 PORT=29500 tools/dist_train.sh CONFIG 8
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [arguments of tools/train.py]" >&2
    exit 2
fi
config=$1 gpus=$2
tools=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$gpus" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
    "$tools/train.py" "$config" --launcher pytorch "${@:3}"
