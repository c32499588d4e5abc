#!/usr/bin/env bash
# Replaces every replica by a new one, one after the other, without losing a request: after a new
# image was built or pulled, or .env was changed. Needs room for one replica more.
set -euo pipefail

old=$(docker compose ps --all --quiet cloze)
count=$(wc -w <<<"$old")
if [ "$count" = 0 ]; then
    echo "no replica runs; start the stack with: docker compose up --detach" >&2
    exit 1
fi

# A new replica that does not become healthy is taken away again: the next attempt begins afresh.
give_up() {
    echo "the new replica $1; it is taken away, and the others run on. Its last words:" >&2
    docker logs --tail 20 "$new" >&2
    docker rm --force "$new" >/dev/null
    exit 1
}

for replica in $old; do
    before=$(docker compose ps --all --quiet cloze)
    # The others stay as they are.
    docker compose up --detach --no-deps --no-recreate --scale cloze=$((count + 1)) cloze
    new=$(docker compose ps --all --quiet cloze | grep --invert-match --fixed-strings "$before")
    state=
    for _ in $(seq "${ROLL_PATIENCE_S:-300}"); do
        state=$(docker inspect --format '{{.State.Health.Status}} {{.State.Status}} {{.RestartCount}}' "$new")
        case $state in
            "healthy running 0") break ;;
            unhealthy* | *" exited "* | *" restarting "* | *[1-9]) give_up "does not become healthy ($state)" ;;
        esac
        sleep 1
    done
    [ "$state" = "healthy running 0" ] || give_up "is not healthy after ${ROLL_PATIENCE_S:-300} s"
    docker stop "$replica" >/dev/null
    docker rm "$replica" >/dev/null
    echo "replaced ${replica:0:12}"
done
