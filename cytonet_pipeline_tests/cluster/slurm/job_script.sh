#!/bin/bash -l
#SBATCH --job-name=cytonet-demo-v1-0a1b2c3d
#SBATCH --partition=dc-gpu
#SBATCH --account=jinm1
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=128
#SBATCH --gres=gpu:4
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --chdir=/p/store/job/attempt-1
#SBATCH --output=/p/store/job/attempt-1/log.txt
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --export=NIL
#SBATCH --constraint=largedata
#SBATCH --hint=nomultithread
#SBATCH --exclusive

place=/p/store/job/attempt-1
restart=${SLURM_RESTART_COUNT:-0}
note() {
    printf '{"event": "%s", "restart": %d, "time": %d, "nodes": "%s", "node_count": %d%s}\n' \
        "$1" "$restart" "$(date +%s)" "$SLURM_JOB_NODELIST" "$SLURM_JOB_NUM_NODES" "${2:-}" >> "$place/events.jsonl"
}
fail() { echo "$1" | tee "$place/fault.txt" >&2; note end ', "code": 1'; exit 1; }
reported() {
    grep -o "\"$1\": *[^,}]*" "$place/../../progress.json" 2> /dev/null | head -n 1 | tr -d ' "' | cut -d : -f 2
}
# With a full quota, files can be made but nothing can be written to them.
head -c 65536 /dev/zero > "$place/.room" || fail "$(hostname): cannot write to $place: no room, or no permission"
rm -f "$place/.room" "$place/fault.txt"
note start

# Tasks get the variables of this script, and as many cores as the job has.
export SLURM_EXPORT_ENV=ALL
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# Set up by the profile.
source /p/env/activate.sh
export HDF5_USE_FILE_LOCKING=FALSE
export PATH=/p/env/bin:$PATH
export OMP_NUM_THREADS=32

# Reported in the first minute rather than by the first import of every rank.
lacking=$(/p/env/bin/python -c 'import importlib.util as u; print(*[n for n in ["cytonet_pipeline", "torch", "dagster_pipes"] if u.find_spec(n) is None])' 2>&1) \
    || fail "$(hostname): /p/env/bin/python does not run: $(echo "$lacking" | tail -n 1)"
[ -z "$lacking" ] || fail "$(hostname): /p/env/bin/python lacks $lacking: correct setup or python in the cluster profile"

# Ranks meet on the first node; if its name does not resolve, at the address that Slurm has for it.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR="${first}i"
getent hosts "$MASTER_ADDR" > /dev/null \
    || MASTER_ADDR=$(scontrol show node "$first" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
export MASTER_PORT=$((15000 + (SLURM_JOB_ID * 7 + restart) % 5000))

# USR1: the walltime is nearly over. TERM: cancelled or preempted. Both are passed on and waited for.
asked='' passed=''
pass_on() { asked=$1; [ -z "${child:-}" ] || { passed=$1; kill -s "$1" "$child" 2> /dev/null; }; }
trap 'pass_on USR1' USR1
trap 'pass_on TERM' TERM
export TORCHELASTIC_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1
export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=290
srun --kill-on-bad-exit=1 --nodes=4 --ntasks-per-node=1 torchrun_jsc --nnodes=4 --nproc-per-node=4 --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID-$restart" --rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT" -m cytonet_pipeline.learning /p/store/encoders/demo/v1 --data /p/brains --threads 32 &
child=$!
# A signal that came before the child had a number.
[ "$asked" = "$passed" ] || pass_on "$asked"
# Short waits: bash runs the trap of a signal that arrives just before a wait only when that wait is over.
while kill -0 "$child" 2> /dev/null; do sleep 1 & wait $!; done
wait "$child"
code=$?
# The last state that the training process reported is more reliable than the launcher's exit code.
if [ -n "$asked" ] && [ "$(reported state)" = done ]; then code=0; fi
note end ", \"code\": $code, \"asked\": \"$asked\", \"step\": $(printf %d "$(reported step)")"

if [ "$asked" = USR1 ] && [ "$code" != 0 ] && [ "$(reported state)" != failed ]; then
    [ "$(cat "$place/.step" 2> /dev/null)" != "at $(reported step)" ] \
        || fail "no checkpoint or part was finished in a whole walltime: raise walltime or lower checkpoint_every"
    echo "at $(reported step)" > "$place/.step"
    note requeue
    scontrol requeue "$SLURM_JOB_ID" && exit 0
    exit 75
fi
exit "$code"
