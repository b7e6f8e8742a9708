#!/bin/sh
# Wait until a job has ended, then print three lines: its state, its instance id, its message.
#   ./poll.sh JOB_ID
# Needs redis-cli. LAUNCHQ_REDIS_URL and LAUNCHQ_PREFIX are those of the workers.
set -eu
url=${LAUNCHQ_REDIS_URL:-redis://127.0.0.1:6379/0}
base="{${LAUNCHQ_PREFIX:-launchq}}"

ask() {
  redis-cli -u "$url" --raw "$@"
}

while :; do
  # Where the stream stands before the look: a change between the look and the wait is then not missed.
  last=$(ask XREVRANGE "$base:events" + - COUNT 1 | head -n 1)
  job=$(ask HMGET "$base:job:$1" state instanceId message)
  case $job in
    succeeded* | failed* | cancelled* | uncertain*)
      printf '%s\n' "$job"
      exit 0
      ;;
    queued* | submitting* | retrying*) ;;
    *)
      echo "no job has the id $1: it never existed, is no longer kept, or no worker has read its Celery message yet" >&2
      exit 2
      ;;
  esac
  # Until anything changes, but no longer than 5 s. No busy loop, and no load on Redis.
  ask XREAD BLOCK 5000 COUNT 1 STREAMS "$base:events" "${last:-0-0}" >/dev/null
done
