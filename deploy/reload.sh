#!/usr/bin/env bash
# Has every replica read its set of bundles again, and says what came of it.
#
# The signal is sent from inside: after `docker kill`, whatever its signal, some versions of docker
# take a replica for stopped on purpose and do not start it again when it crashes.
set -euo pipefail

replicas=$(docker compose ps --quiet cloze)
if [ -z "$replicas" ]; then
    echo "no replica runs; start the stack with: docker compose up --detach" >&2
    exit 1
fi
began=$(date --utc +%Y-%m-%dT%H:%M:%S.%NZ)
status=0
for replica in $replicas; do
    echo "${replica:0:12}"
    if ! docker exec "$replica" python -c 'import os, signal; os.kill(1, signal.SIGHUP)'; then
        status=1
        continue
    fi
    for _ in $(seq 600); do
        log=$(docker logs --since "$began" "$replica" 2>&1)
        grep --quiet "bundles read again" <<<"$log" && break
        sleep 0.2
    done
    grep '"event": "bundle' <<<"$log" || { echo "no answer; see docker logs $replica" >&2; status=1; }
    grep '"event": "the keys' <<<"$log" || true
    if grep --quiet -e "bundle refused" -e "the keys could not be read" <<<"$log"; then status=1; fi
done
exit $status
