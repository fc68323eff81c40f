#!/usr/bin/env bash
# One training run on a Cloud TPU VM slice of any number of hosts, started again after a preemption until it is done.
#
#   ZONE=us-central1-a launch/tpu_vm.sh NAME --config configs/vlm.py:light --workdir gs://BUCKET/runs/light \
#     --config.data.path=/mnt/data
#
# NAME is a slice that exists; what follows goes to `vlm-jax train` on every host, where vlm-jax must be installed
# (docs/launch/tpu_vm.md). --workdir is a bucket or a disk that all hosts share. Ctrl-C here asks all hosts to save.
# Exit code: that of the run (0 done, 3 saved and stopped).
set -euo pipefail

if [[ $# -lt 2 || -z ${ZONE:-} ]]; then
  echo "usage: ZONE=... ${0##*/} NAME --config FILE:ARG --workdir DIR ...   (see the head of this file)" >&2
  exit 2
fi
name=$1
shift

on_all_hosts() {
  gcloud compute tpus tpu-vm ssh "$name" --zone="$ZONE" --worker=all --command="$1"
}

stopped=
trap 'stopped=1; on_all_hosts "kill -TERM \$(cat /tmp/vlm-jax.pid)" || true' TERM INT

# `wait` returns early, with 128 + the signal, where a trap ran: ask again while the child lives, and once more, for it may
# have ended in between. Of a child whose code was told, bash says it again or 127, "no such child".
# (Each launch file stands alone, and has this of its own: Slurm runs a copy, with nothing beside it.)
await() {
  local code=0 again=0
  wait "$1" || code=$?
  while kill -0 "$1" 2>/dev/null; do
    code=0
    wait "$1" || code=$?
  done
  wait "$1" 2>/dev/null || again=$?
  ((again == 127)) || code=$again
  return "$code"
}

# The process id of the run lies on each host, so that `stop` ends this run and no other.
run="${VLM_JAX:-vlm-jax} train $(printf '%q ' "$@") & echo \$! > /tmp/vlm-jax.pid; wait \$!"
while true; do
  code=0
  on_all_hosts "$run" &
  ssh=$!
  await "$ssh" || code=$?
  if [[ $code -ne 3 || -n $stopped ]]; then
    exit "$code"
  fi
  echo "tpu_vm.sh: preempted and saved: starting again" >&2
  sleep "${RETRY_SECONDS:-30}"
done
