#!/usr/bin/env bash
# Several processes of one run on this machine, joined through a port of it: for trying out what many hosts do.
#
#   launch/local_multiprocess.sh N COMMAND...      e.g. launch/local_multiprocess.sh 2 vlm-jax train --config ...
#
# Every process runs the same COMMAND. On CPU each has DEVICES_PER_PROCESS devices (default 1). Process I writes to
# LOG_DIR/I.log (default: this terminal, each line with its number). SIGTERM and Ctrl-C are passed on to all, so that
# they save and end; the exit code is the largest of theirs: 0 done, 3 preempted and saved.
set -euo pipefail

if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: ${0##*/} N COMMAND...   (see the head of this file)" >&2
  exit 2
fi
n=$1
shift

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
JAX_COORDINATOR_ADDRESS=127.0.0.1:$(free_port)
export JAX_COORDINATOR_ADDRESS JAX_NUM_PROCESSES=$n
if [[ ${JAX_PLATFORMS:-} == cpu ]]; then
  export JAX_NUM_CPU_DEVICES=${DEVICES_PER_PROCESS:-1}
fi

pids=()
for ((i = 0; i < n; i++)); do
  if [[ -n ${LOG_DIR:-} ]]; then
    mkdir -p "$LOG_DIR"
    JAX_PROCESS_ID=$i "$@" >>"$LOG_DIR/$i.log" 2>&1 &
  else
    JAX_PROCESS_ID=$i "$@" > >(sed -u "s/^/[$i] /") 2>&1 &
  fi
  pids+=($!)
done

trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' TERM INT

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

worst=0
for pid in "${pids[@]}"; do
  code=0
  await "$pid" || code=$?
  if ((code > worst)); then worst=$code; fi
done
exit "$worst"
