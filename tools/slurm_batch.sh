#!/usr/bin/env bash
# Trains on a Slurm cluster in a batch job that goes back to the queue until the training is complete:
#   GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 GRES=gpu:8 SBATCH_ARGS=--time=4:00:00 \
#       tools/slurm_batch.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]
# The variables are those of slurm_train.sh. SBATCH_ARGS go to sbatch behind the options below and
# override them, as --signal=B:USR1@300 does where saving takes longer than 2 minutes.
#
# Before its time limit, or when it is preempted, the training saves a checkpoint and stops, the job
# is requeued, and the training resumes. `scancel -b -s USR1 JOB` asks for the same. A job that
# fails or is cancelled is not requeued.
set -euo pipefail
if [ "${1:-}" != --in-job ]; then
    if [ $# -lt 3 ]; then
        echo "usage: $0 PARTITION JOB_NAME CONFIG [arguments of tools/train.py]" >&2
        exit 2
    fi
    gpus=${GPUS:-8} per_node=${GPUS_PER_NODE:-8}
    if [ "$per_node" -gt "$gpus" ]; then per_node=$gpus; fi
    tools=$(cd "$(dirname "$0")" && pwd)
    # shellcheck disable=SC2086  # SBATCH_ARGS are several arguments
    exec sbatch --partition="$1" --job-name="$2" \
        --ntasks="$gpus" --ntasks-per-node="$per_node" --gres="${GRES:-gpu:$per_node}" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" \
        --signal=B:USR1@120 --requeue --open-mode=append ${SBATCH_ARGS:-} \
        "$tools/slurm_batch.sh" --in-job "$tools" "$@"
fi

tools=$2  # $0 is Slurm's copy of this script
shift 2
# a --resume CHECKPOINT among the arguments is for the first start
bash "$tools/slurm_train.sh" "$1" "$2" "$3" --resume "${@:4}" ${SLURM_RESTART_COUNT:+--resume} &
step=$! asked='' again=yes
# both as USR1: after TERM srun ends the step, saved or not, within 30 seconds
trap 'asked=yes again=yes; kill -USR1 "$step" || true' USR1 TERM
while [ -n "$again" ]; do  # a signal ends `wait`, too
    again=
    wait "$step" && status=0 || status=$?
done

if [ "$status" -gt 128 ]; then  # ended by a signal, perhaps because another process has failed
    job=$(scontrol --oneliner show job "$SLURM_JOB_ID")
    # of a preemption only the step is told; a cancelled job is not RUNNING, but would be requeued
    if [[ $job =~ PreemptTime=[0-9] ]]; then asked=yes; fi
    if [[ -n $asked && $job == *JobState=RUNNING* ]]; then scontrol requeue "$SLURM_JOB_ID"; fi
fi
exit "$status"
