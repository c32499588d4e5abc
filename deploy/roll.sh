#!/usr/bin/env bash
# Replaces every replica by a new one, one after the other, without losing a request: after a new
# image was built or pulled, or .env was changed. Needs room for one replica more.
set -euo pipefail

old=$(docker compose ps --quiet cloze)
count=$(wc -w <<<"$old")
if [ "$count" = 0 ]; then
    echo "no replica runs; start the stack with: docker compose up --detach" >&2
    exit 1
fi
for replica in $old; do
    # The others stay as they are; this returns once the new one is healthy.
    if ! docker compose up --detach --wait --no-deps --no-recreate --scale cloze=$((count + 1)) cloze; then
        echo "the new replica does not become healthy; the old ones run on. Its reason:" >&2
        docker compose logs --tail 20 cloze >&2
        exit 1
    fi
    docker stop "$replica" >/dev/null
    docker rm "$replica" >/dev/null
    echo "replaced ${replica:0:12}"
done
